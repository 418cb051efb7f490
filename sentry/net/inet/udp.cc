// SPDX-License-Identifier: Apache-2.0
// UDP over loopback. What finds no room is lost, as on a wire; what finds nobody is told to a connected sender.
// Linux: net/ipv4/udp.c.
#include <algorithm>
#include <deque>

#include "sentry/net/inet/control.h"

namespace sentry::net::inet {
namespace {

constexpr uint32_t kWakeIn = EPOLLIN | EPOLLRDNORM | EPOLLRDBAND;
constexpr size_t kMaxDatagram = 65507;

class UdpSock final : public Sock {
 public:
  explicit UdpSock(int family_) : Sock(family_, SOCK_DGRAM, IPPROTO_UDP), local_(Transport::udp, *this) {}

  Result<void> bind(const Address& a) override { return local_.bind(a, reuse()); }
  Result<void> connect(const Address& a, bool) override {
    if (a.size < sizeof(uint16_t)) return kEINVAL;
    if (a.family() == AF_UNSPEC) {
      {
        MutexLock l(mu_);
        connected_ = false;
      }
      local_.disconnected();
      return {};
    }
    Endpoint to = TRY(destination(a));
    TRY(local_.ensure_port(reuse()));
    local_.connected_to(to);
    MutexLock l(mu_);
    connected_ = true;
    remote_ = to;
    return {};
  }
  Result<void> shutdown(int how) override {
    if (how < SHUT_RD || how > SHUT_RDWR) return kEINVAL;
    bool connected;
    {
      MutexLock l(mu_);
      shutdown_ |= how + 1;
      connected = connected_;
    }
    queue().wake_all();
    return connected ? Result<void>() : kENOTCONN;
  }
  Result<Address> name() override { return local_.endpoint().to_address(family); }
  Result<Address> peer_name() override {
    MutexLock l(mu_);
    if (!connected_) return kENOTCONN;
    return remote_.to_address(family);
  }
  Result<size_t> send(SendRequest& r) override;
  Result<Received> receive(const ReceiveRequest& r) override;
  uint32_t poll_events() override {
    uint32_t e = has_error() ? EPOLLERR : 0u;
    if (budget_->has_room()) e |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
    MutexLock l(mu_);
    if (!packets_.empty()) e |= EPOLLIN | EPOLLRDNORM;
    if (shutdown_ & kShutRead) e |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
    if (shutdown_ == kShutBoth) e |= EPOLLHUP;
    return e;
  }
  Result<int> unread() override {
    MutexLock l(mu_);
    return packets_.empty() ? 0 : static_cast<int>(packets_.front().packet->size);
  }
  size_t max_message() const override { return kMaxDatagram; }
  void close() override {
    local_.leave();
    std::deque<Datagram> packets;
    MutexLock l(mu_);
    closed_ = true;
    packets.swap(packets_);
    held_ = 0;
  }
  Result<void> set_option(int level, int option, OptionBytes value) override {
    if (level == SOL_SOCKET) return Sock::set_option(level, option, value);
    return local_.set_option(level, option, value);
  }
  Result<OptionValue> get_option(int level, int option, size_t room) override {
    if (level == SOL_SOCKET) return Sock::get_option(level, option, room);
    return local_.get_option(level, option, room);
  }

 private:
  struct Datagram {
    std::unique_ptr<Packet> packet;
    Way way;
  };
  template <typename T, typename... A>
  friend Ref<T> base::make_ref(A&&...);
  ~UdpSock() override = default;
  LocalEnd::Reuse reuse() const { return {reuse_address_.load(), reuse_port_.load()}; }
  Result<Endpoint> destination(const Address& a) const {
    Endpoint to = TRY(endpoint_of(a, family));
    if (to.is_v4() && family == AF_INET6 && local_.v6_only()) return kENETUNREACH;
    return check_destination(to, *this);
  }
  // Lost when there is no room.
  void deliver(Datagram d) {
    {
      MutexLock l(mu_);
      if (closed_ || held_ + d.packet->charged > static_cast<size_t>(receive_buffer_.load())) return;
      held_ += d.packet->charged;
      packets_.push_back(std::move(d));
    }
    queue().wake_all(kWakeIn);
  }

  LocalEnd local_;
  mutable Mutex mu_{LockRank::kSocket};
  std::deque<Datagram> packets_ GUARDED_BY(mu_);
  size_t held_ GUARDED_BY(mu_) = 0;
  bool connected_ GUARDED_BY(mu_) = false;
  bool closed_ GUARDED_BY(mu_) = false;
  int shutdown_ GUARDED_BY(mu_) = 0;
  Endpoint remote_ GUARDED_BY(mu_);
};

Result<size_t> UdpSock::send(SendRequest& r) {
  if (r.flags & MSG_OOB) return kEOPNOTSUPP;
  if (r.data.size() > kMaxDatagram) return kEMSGSIZE;
  Endpoint to;
  bool down, connected;
  {
    MutexLock l(mu_);
    to = remote_;
    connected = connected_;
    down = shutdown_ & kShutWrite;
  }
  if (r.to) {
    to = TRY(destination(*r.to));
    if (to.port == 0) return kEINVAL;
  } else if (!connected) {
    return kEDESTADDRREQ;
  }
  TRY(take_error());
  if (down) return broken_pipe(r.flags);
  TRY(local_.ensure_port(reuse()));
  Way way{local_.endpoint(), to};
  const uint16_t port = way.from.port;
  if (way.from.is_any()) way.from = source_for(to);
  TRY(read_control(r.control.network, local_, family, way));
  way.from.port = port;
  auto found = find_port(Transport::udp, to, way.from, *this);
  if (!found) {
    if (connected && !r.to) {  // the port-unreachable message comes back to who is connected
      set_error(kECONNREFUSED);
      queue().wake_all();
    }
    return r.data.size();
  }
  auto p = Packet::create(r.data, budget_);
  auto& other = static_cast<UdpSock&>(*found);
  p->from = way.from.to_address(other.family);
  other.deliver({std::move(p), way});
  return r.data.size();
}

Result<Received> UdpSock::receive(const ReceiveRequest& r) {
  if (r.flags & MSG_OOB) return kEOPNOTSUPP;
  if (r.flags & MSG_ERRQUEUE) return kEAGAIN;
  sched::Nanos deadline = receive_deadline();
  for (;;) {
    std::unique_ptr<Packet> done;
    std::optional<Received> got;
    Way way;
    TRY(take_error());
    {
      MutexLock l(mu_);
      if (!packets_.empty()) {
        Packet& p = *packets_.front().packet;
        way = packets_.front().way;
        Received& out = got.emplace();
        out.size = std::min(r.data.size(), p.size);
        if (out.size) memcpy(r.data.data(), p.bytes.get(), out.size);
        out.full_size = p.size;
        if (out.size < p.size) out.flags |= MSG_TRUNC;
        out.from = p.from;
        if (!(r.flags & MSG_PEEK)) {
          held_ -= p.charged;
          done = std::move(packets_.front().packet);
          packets_.pop_front();
        }
      } else if (shutdown_ & kShutRead) {
        return Received{};
      }
    }
    if (got) {
      got->network = control_of(way, local_, family);
      return std::move(*got);
    }
    TRY(wait([&] {
      MutexLock l(mu_);
      return !packets_.empty() || (shutdown_ & kShutRead) || has_error();
    }, r.nonblock(), deadline, EPOLLIN | EPOLLHUP | EPOLLERR));
  }
}

}  // namespace

Ref<Sock> make_udp(int family) { return make_ref<UdpSock>(family); }

}  // namespace sentry::net::inet
