// SPDX-License-Identifier: Apache-2.0
// Linux: inet_bind, inet6_bind; do_ip_setsockopt, do_ipv6_setsockopt, do_tcp_setsockopt for what stays inside one machine.
#include "sentry/net/inet/common.h"

#include <netinet/tcp.h>

#include <algorithm>

#include "sentry/net/inet/inet.h"

namespace sentry::net::inet {

Result<void> LocalEnd::take(const Endpoint& local, Reuse reuse) {
  Binding b;
  auto* t = kernel::Task::find_current();
  state_.with([&](State& s) {
    b = s.binding;
    b.v6_only = s.v6_only;
  });
  b.local = local;
  b.dual = owner_.family == AF_INET6 && !b.v6_only;
  b.reuse_address = reuse.address;
  b.reuse_port = reuse.port;
  b.uid = t ? t->own_credentials().euid : 0;
  TRY(take_port(transport_, owner_, b));
  state_.with([&](State& s) {
    s.binding = b;
    s.in_table = true;
  });
  return {};
}

Result<void> LocalEnd::bind(const Address& a, Reuse reuse) {
  if (owner_.family == AF_INET6 && a.size >= sizeof(uint16_t) && a.family() != AF_INET6)
    return a.size < 24 ? kEINVAL : kEAFNOSUPPORT;
  Endpoint e = TRY(endpoint_of(a, owner_.family));
  if (owner_.family == AF_INET && a.family() == AF_UNSPEC && !e.is_any()) return kEAFNOSUPPORT;
  if (e.is_v4() && owner_.family == AF_INET6 && v6_only()) return kEINVAL;
  TRY(check_local(e, owner_));
  sched::SleepLock l(bind_lock_);
  if (has_port()) return kEINVAL;
  TRY(take(e, reuse));
  state_.with([&](State& s) { s.bound_address = !e.is_any(); });
  return {};
}

Result<void> LocalEnd::ensure_port(Reuse reuse) {
  sched::SleepLock l(bind_lock_);
  Endpoint e = endpoint();
  if (e.port != 0) return {};
  return take(e, reuse);
}

void LocalEnd::set_listening(bool on) {
  Binding b = state_.with([&](State& s) {
    s.binding.listening = on;
    return s.binding;
  });
  update_port(transport_, owner_, b);
}

void LocalEnd::connected_to(const Endpoint& peer) {
  Binding b = state_.with([&](State& s) {
    if (s.binding.local.is_any()) {
      uint16_t port = s.binding.local.port;
      s.binding.local = source_for(peer);
      s.binding.local.port = port;
    }
    s.binding.has_peer = transport_ == Transport::udp;
    s.binding.peer = peer;
    return s.binding;
  });
  update_port(transport_, owner_, b);
}

void LocalEnd::disconnected() {
  Binding b = state_.with([&](State& s) {
    s.binding.has_peer = false;
    if (!s.bound_address) {
      uint16_t port = s.binding.local.port;
      s.binding.local = Endpoint::any(owner_.family == AF_INET);
      s.binding.local.port = port;
    }
    return s.binding;
  });
  update_port(transport_, owner_, b);
}

void LocalEnd::leave() {
  bool was = state_.with([](State& s) { return std::exchange(s.in_table, false); });
  if (was) leave_port(transport_, owner_);
}

Result<void> LocalEnd::set_option(int level, int option, OptionBytes value) {
  if (level == IPPROTO_TCP && transport_ != Transport::tcp) return kENOPROTOOPT;
  if (level == IPPROTO_IPV6 && owner_.family != AF_INET6) return kENOPROTOOPT;
  if (level == IPPROTO_IPV6 && option == IPV6_V6ONLY) {
    int v = TRY(option_as<int>(value));
    if (has_port()) return kEINVAL;
    state_.with([&](State& s) { s.v6_only = v != 0; });
    return {};
  }
  if (level == IPPROTO_TCP && option == TCP_CONGESTION) {
    std::string name(reinterpret_cast<const char*>(value.data()), std::min<size_t>(value.size(), 15));
    if (std::string_view(name.c_str()) == "cubic" || std::string_view(name.c_str()) == "reno") return {};
    return kENOENT;
  }
  if (!KeptOptions::is_known(level, option)) return kENOPROTOOPT;
  int v;
  if (level == IPPROTO_IP && value.size() < sizeof(int)) {  // Linux takes single bytes there
    if (value.empty()) return kEINVAL;
    v = static_cast<int>(value[0]);
  } else {
    v = TRY(option_as<int>(value));
  }
  bool flag = (level == IPPROTO_TCP && (option == TCP_NODELAY || option == TCP_CORK || option == TCP_QUICKACK)) ||
              (level == IPPROTO_IP && (option == IP_PKTINFO || option == IP_RECVTTL || option == IP_RECVTOS)) ||
              (level == IPPROTO_IPV6 && (option == IPV6_RECVPKTINFO || option == IPV6_RECVHOPLIMIT || option == IPV6_RECVTCLASS));
  if (level == IPPROTO_TCP && (option == TCP_KEEPIDLE || option == TCP_KEEPINTVL) && (v < 1 || v > 32767)) return kEINVAL;
  const bool hops = (level == IPPROTO_IP && option == IP_TTL) || (level == IPPROTO_IPV6 && option == IPV6_UNICAST_HOPS);
  const bool traffic_class = level == IPPROTO_IPV6 && option == IPV6_TCLASS;
  if ((hops || traffic_class) && (v < -1 || v > 255)) return kEINVAL;
  if (level == IPPROTO_IP && hops && v == 0) return kEINVAL;
  if (v == -1 && (hops || traffic_class)) v = hops ? 64 : 0;  // the route's
  if (level == IPPROTO_IP && option == IP_TOS) v &= 255;
  if (level == IPPROTO_TCP && option == TCP_KEEPCNT && (v < 1 || v > 127)) return kEINVAL;
  kept_.set(level, option, flag ? v != 0 : v);
  return {};
}

Result<OptionValue> LocalEnd::get_option(int level, int option, size_t room) const {
  if (level == IPPROTO_TCP && transport_ != Transport::tcp) return kENOPROTOOPT;
  if (level == IPPROTO_IPV6 && owner_.family != AF_INET6) return kENOPROTOOPT;
  if (level == IPPROTO_IPV6 && option == IPV6_V6ONLY) return option_bytes(static_cast<int>(v6_only()));
  if (level == IPPROTO_TCP && option == TCP_CONGESTION) {
    OptionValue v(std::min<size_t>(room, 16));
    memcpy(v.data(), "cubic", std::min<size_t>(v.size(), 6));
    return v;
  }
  int v;
  if (!kept_.get(level, option, &v)) return kENOPROTOOPT;
  return option_bytes(v);
}

Result<Ref<Sock>> create(int family, int type, int protocol, const auth::Credentials& cred) {
  if (protocol < 0 || protocol >= IPPROTO_MAX) return kEINVAL;
  switch (type) {
    case SOCK_STREAM:
      if (protocol != 0 && protocol != IPPROTO_TCP) return kEPROTONOSUPPORT;
      return make_tcp(family);
    case SOCK_DGRAM:
      if (protocol != 0 && protocol != IPPROTO_UDP) return kEPROTONOSUPPORT;
      return make_udp(family);
    case SOCK_RAW:
      if (protocol == 0) return kEPROTONOSUPPORT;
      if (!cred.has_cap_in(kernel::current_net()->user_ns().get(), CAP_NET_RAW)) return kEPERM;
      return kEPROTONOSUPPORT;
    default: return kESOCKTNOSUPPORT;
  }
}

}  // namespace sentry::net::inet
