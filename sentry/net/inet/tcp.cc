// SPDX-License-Identifier: Apache-2.0
// TCP over loopback: connections of net/common with addresses and ports. Differs from Linux: a connection is there as soon as
// the listener has it; no TIME_WAIT keeps a port.
#include <netinet/tcp.h>

#include "sentry/net/common/stream.h"
#include "sentry/net/inet/common.h"

namespace sentry::net::inet {
namespace {

class TcpSock final : public StreamSock {
 public:
  explicit TcpSock(int family_) : StreamSock(family_, SOCK_STREAM, IPPROTO_TCP), local_(Transport::tcp, *this) {
    budget_->limit = kBuffer;
    receive_buffer_ = 131072;
  }

  Result<void> bind(const Address& a) override {
    if (state() != State::idle) return kEINVAL;
    return local_.bind(a, reuse());
  }
  Result<void> listen(int backlog) override {
    TRY(StreamSock::listen(backlog));
    local_.set_listening(true);
    return {};
  }
  Result<void> connect(const Address& a, bool nonblock) override;
  Result<void> shutdown(int how) override {
    TRY(StreamSock::shutdown(how));
    if (state() == State::idle) local_.set_listening(false);
    return {};
  }
  Result<Address> name() override { return local_.endpoint().to_address(family); }
  Result<Address> peer_name() override {
    if (state() != State::connected || was_reset()) return kENOTCONN;
    return remote_.with([&](const Endpoint& e) { return e.to_address(family); });
  }
  Result<void> set_option(int level, int option, OptionBytes value) override {
    if (level == SOL_SOCKET) return StreamSock::set_option(level, option, value);
    return local_.set_option(level, option, value);
  }
  Result<OptionValue> get_option(int level, int option, size_t room) override;
  void close() override {
    if (linger_seconds_.load() == 0) reset_on_close();
    StreamSock::close();
  }

 private:
  static constexpr int64_t kBuffer = 1 << 20;
  template <typename T, typename... A>
  friend Ref<T> base::make_ref(A&&...);
  ~TcpSock() override = default;
  LocalEnd::Reuse reuse() const { return {reuse_address_.load(), reuse_port_.load()}; }

  Result<void> may_listen() override {
    TRY(local_.ensure_port(reuse()));
    return inet::may_listen(*this);
  }
  Ref<StreamSock> make_accepted(StreamSock& client) override {
    auto& c = static_cast<TcpSock&>(client);
    auto s = make_ref<TcpSock>(family);
    s->inherit_options(*this);
    s->local_.adopt(c.remote_.with([](const Endpoint& e) { return e; }));
    Endpoint theirs = c.local_.endpoint();
    s->remote_.with([&](Endpoint& e) { e = theirs; });
    return s;
  }
  void unname() override { local_.leave(); }
  Result<void> connect_now(const Endpoint& to, bool nonblock);

  LocalEnd local_;
  Guarded<Endpoint> remote_{LockRank::kSocket};
  std::atomic<bool> in_progress_{false};  // a connect(2) was answered with EINPROGRESS and its end not yet told
};

Result<void> TcpSock::connect_now(const Endpoint& to, bool nonblock) {
  for (;;) {
    auto listener = find_port(Transport::tcp, to, {}, *this);
    if (!listener) return kECONNREFUSED;
    auto r = connect_to(static_cast<TcpSock&>(*listener), nonblock);
    if (r.ok() || r.error() != kESTALE) return r;
  }
}

Result<void> TcpSock::connect(const Address& a, bool nonblock) {
  if (a.size < sizeof(uint16_t)) return kEINVAL;
  if (a.family() == AF_UNSPEC) return state() == State::connected ? kEOPNOTSUPP : Result<void>();
  if (in_progress_.exchange(false)) {
    TRY(take_error());
    if (state() == State::connected) return {};  // Linux: the first call after the end of a connect that went on alone
  }
  if (state() == State::connected) return kEISCONN;
  if (state() == State::listening) return kEISCONN;
  Endpoint to = TRY(endpoint_of(a, family));
  if (to.is_v4() && family == AF_INET6 && local_.v6_only()) return kENETUNREACH;
  to = TRY(check_destination(to, *this));
  TRY(local_.ensure_port({false, false}));
  local_.connected_to(to);
  remote_.with([&](Endpoint& e) { e = to; });
  auto r = connect_now(to, nonblock);
  if (!r.ok()) local_.disconnected();
  if (!nonblock) {
    if (!r.ok() && r.error() == kEAGAIN) return kETIMEDOUT;
    return r;
  }
  if (!r.ok() && r.error() != kECONNREFUSED && r.error() != kEAGAIN) return r;
  if (!r.ok()) set_error(r.error() == kEAGAIN ? kETIMEDOUT : kECONNREFUSED);
  in_progress_ = true;
  queue().wake_all();
  return kEINPROGRESS;
}

Result<OptionValue> TcpSock::get_option(int level, int option, size_t room) {
  if (level == SOL_SOCKET) return StreamSock::get_option(level, option, room);
  if (level == IPPROTO_TCP && option == TCP_INFO) {
    tcp_info info{};
    switch (state()) {
      case State::idle: info.tcpi_state = TCP_CLOSE; break;
      case State::listening: info.tcpi_state = TCP_LISTEN; break;
      case State::connected: info.tcpi_state = was_reset() ? TCP_CLOSE : shutdown_bits() & kShutRead ? TCP_CLOSE_WAIT : TCP_ESTABLISHED;
    }
    info.tcpi_snd_mss = info.tcpi_rcv_mss = 65483;
    info.tcpi_pmtu = 65535;
    info.tcpi_snd_cwnd = 10;
    return option_bytes(info);
  }
  return local_.get_option(level, option, room);
}

}  // namespace

Ref<Sock> make_tcp(int family) { return make_ref<TcpSock>(family); }

}  // namespace sentry::net::inet
