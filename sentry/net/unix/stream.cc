// SPDX-License-Identifier: Apache-2.0
// AF_UNIX streams and seqpackets: connections with names.
#include "sentry/net/common/stream.h"

#include "sentry/net/unix/datagram.h"
#include "sentry/net/unix/name.h"
#include "sentry/net/unix/unix.h"

namespace sentry::net::local {
namespace {

class LocalStream final : public StreamSock {
 public:
  LocalStream(int type_) : StreamSock(AF_UNIX, type_, 0), name_(*this) {}

  Result<void> bind(const Address& a) override { return name_.bind(a); }
  Result<void> connect(const Address& a, bool nonblock) override {
    TRY(check_address(a));
    if (passes_credentials()) TRY(name_.bind_automatically());
    for (;;) {
      Ref<Sock> other = TRY(find(a, type));
      auto r = connect_to(static_cast<LocalStream&>(*other), nonblock);
      if (r.ok() || r.error() != kESTALE) return r;
    }
  }
  Result<Address> name() override { return name_.address(); }
  Result<Address> peer_name() override {
    auto p = peer();
    if (!p) return kENOTCONN;
    return static_cast<LocalStream&>(*p).name_.address();
  }
  using StreamSock::join;

 private:
  template <typename T, typename... A>
  friend Ref<T> base::make_ref(A&&...);
  ~LocalStream() override = default;
  Result<void> may_listen() override {
    if (!name_.is_bound()) return kEINVAL;
    return {};
  }
  Ref<StreamSock> make_accepted(StreamSock&) override {
    auto s = make_ref<LocalStream>(type);
    s->name_.copy_from(name_);
    s->pass_cred_ = pass_cred_.load();
    return s;
  }
  Address address_for_receiver() override { return name_.for_receiver(); }
  void unname() override { name_.leave(); }

  Name name_;
};

Result<int> check_type(int type, int protocol) {
  if (protocol != 0 && protocol != AF_UNIX) return kEPROTONOSUPPORT;
  switch (type) {
    case SOCK_STREAM:
    case SOCK_SEQPACKET:
    case SOCK_DGRAM: return type;
    case SOCK_RAW: return static_cast<int>(SOCK_DGRAM);  // Linux: unix_create takes it for a datagram socket
    default: return kESOCKTNOSUPPORT;
  }
}

}  // namespace

Result<Ref<Sock>> create(int type, int protocol) {
  type = TRY(check_type(type, protocol));
  if (type == SOCK_DGRAM) return make_datagram();
  return Ref<Sock>(make_ref<LocalStream>(type));
}

Result<Pair> create_pair(int type, int protocol) {
  type = TRY(check_type(type, protocol));
  if (type == SOCK_DGRAM) {
    auto [a, b] = make_datagram_pair();
    return Pair{std::move(a), std::move(b)};
  }
  auto a = make_ref<LocalStream>(type), b = make_ref<LocalStream>(type);
  LocalStream::join(*a, *b);
  return Pair{std::move(a), std::move(b)};
}

}  // namespace sentry::net::local
