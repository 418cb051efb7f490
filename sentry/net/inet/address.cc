// SPDX-License-Identifier: Apache-2.0
// Linux: net/ipv4/inet_connection_sock.c (inet_csk_get_port), inet_hashtables.c and udp.c (compute_score).
#include "sentry/net/inet/address.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <map>

#include "sentry/net/common/network.h"
#include "sentry/net/common/ports.h"

namespace sentry::net::inet {
namespace {

constexpr uint16_t kFirstEphemeral = 32768, kLastEphemeral = 60999;  // net.ipv4.ip_local_port_range

struct Entry {
  Sock* sock;
  Binding binding;
};
struct Ports {
  std::multimap<uint16_t, Entry> of[2];
  uint16_t next[2] = {kFirstEphemeral, kFirstEphemeral};
  size_t turn = 0;  // SO_REUSEPORT: who is next
};
struct PortsPart final : kernel::NetPart {
  explicit PortsPart(bool) {}
  Guarded<Ports> ports{LockRank::kFilePrivate};
};
Guarded<Ports>& ports(const Sock& of) { return of.net->part<PortsPart>(kernel::NetNamespace::kPorts).ports; }
size_t index(Transport t) { return static_cast<size_t>(t); }

// Whether a packet could be for both.
bool overlap(const Binding& a, const Binding& b) {
  auto takes = [](const Binding& x, const Binding& y) {
    if (!x.local.is_any()) return x.local.same_address(y.local);
    if (x.local.is_v4() == y.local.is_v4()) return true;
    return !x.local.is_v4() && !x.v6_only && y.local.is_v4();
  };
  return takes(a, b) || takes(b, a);
}

// there: who has the port; mine: who wants it, or wants to listen on it.
bool conflict(Transport t, const Binding& there, const Binding& mine) {
  if (!overlap(there, mine)) return false;
  if (there.reuse_port && mine.reuse_port && there.uid == mine.uid) return false;
  if (there.reuse_address && mine.reuse_address && (t == Transport::udp || !there.listening)) return false;
  return true;
}

bool is_free(const Ports& p, Transport t, const Sock& owner, const Binding& b) {
  auto [from, to] = p.of[index(t)].equal_range(b.local.port);
  return std::none_of(from, to, [&](const auto& e) { return e.second.sock != &owner && conflict(t, e.second.binding, b); });
}

constexpr int kKept[][3] = {
    // level, option, default
    {IPPROTO_IP, IP_TOS, 0}, {IPPROTO_IP, IP_TTL, 64}, {IPPROTO_IP, IP_MTU_DISCOVER, 1}, {IPPROTO_IP, IP_RECVERR, 0},
    {IPPROTO_IP, IP_PKTINFO, 0}, {IPPROTO_IP, IP_FREEBIND, 0}, {IPPROTO_IP, IP_RECVTTL, 0}, {IPPROTO_IP, IP_RECVTOS, 0},
    {IPPROTO_IP, IP_MULTICAST_TTL, 1}, {IPPROTO_IP, IP_MULTICAST_LOOP, 1}, {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0},
    {IPPROTO_IP, IP_MULTICAST_ALL, 1},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64}, {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1}, {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, 0}, {IPPROTO_IPV6, IPV6_RECVERR, 0}, {IPPROTO_IPV6, IPV6_TCLASS, 0},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, 1}, {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0}, {IPPROTO_IPV6, IPV6_RECVTCLASS, 0},
    {IPPROTO_TCP, TCP_NODELAY, 0}, {IPPROTO_TCP, TCP_CORK, 0}, {IPPROTO_TCP, TCP_KEEPIDLE, 7200},
    {IPPROTO_TCP, TCP_KEEPINTVL, 75}, {IPPROTO_TCP, TCP_KEEPCNT, 9}, {IPPROTO_TCP, TCP_SYNCNT, 6}, {IPPROTO_TCP, TCP_LINGER2, 60},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, 0}, {IPPROTO_TCP, TCP_WINDOW_CLAMP, 0}, {IPPROTO_TCP, TCP_QUICKACK, 1},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, 0}, {IPPROTO_TCP, TCP_MAXSEG, 65483}, {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0},
    {IPPROTO_TCP, TCP_FASTOPEN, 0}, {IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0}, {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 0},
};

}  // namespace

Endpoint Endpoint::v4(uint32_t host_order, uint16_t port) {
  Endpoint e;
  e.address.s6_addr[10] = e.address.s6_addr[11] = 0xff;
  uint32_t n = htonl(host_order);
  memcpy(&e.address.s6_addr[12], &n, sizeof n);
  e.port = port;
  return e;
}
Endpoint Endpoint::any(bool is_v4) { return is_v4 ? v4(0, 0) : Endpoint{}; }
bool Endpoint::is_v4() const { return IN6_IS_ADDR_V4MAPPED(&address); }
bool Endpoint::is_any() const {
  static constexpr unsigned char kZero[4] = {};
  return is_v4() ? memcmp(&address.s6_addr[12], kZero, 4) == 0 : IN6_IS_ADDR_UNSPECIFIED(&address);
}
bool Endpoint::is_loopback() const { return is_v4() ? address.s6_addr[12] == 127 : IN6_IS_ADDR_LOOPBACK(&address); }

Address Endpoint::to_address(int family) const {
  if (family == AF_INET) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    if (is_v4()) memcpy(&a.sin_addr, &address.s6_addr[12], 4);
    return Address::of(a);
  }
  sockaddr_in6 a{};
  a.sin6_family = AF_INET6;
  a.sin6_port = htons(port);
  a.sin6_addr = address;
  return Address::of(a);
}

Result<Endpoint> endpoint_of(const Address& a, int family) {
  if (family == AF_INET) {
    if (a.size < sizeof(sockaddr_in)) return kEINVAL;
    auto in = a.as<sockaddr_in>();
    if (in.sin_family != AF_INET && in.sin_family != AF_UNSPEC) return kEAFNOSUPPORT;
    return Endpoint::v4(ntohl(in.sin_addr.s_addr), ntohs(in.sin_port));
  }
  if (a.size >= sizeof(sockaddr_in) && a.family() == AF_INET) {  // sendto and connect of an IPv6 socket take it
    auto in = a.as<sockaddr_in>();
    return Endpoint::v4(ntohl(in.sin_addr.s_addr), ntohs(in.sin_port));
  }
  if (a.size < 24) return kEINVAL;  // SIN6_LEN_RFC2133
  auto in = a.as<sockaddr_in6>();
  if (in.sin6_family != AF_INET6) return kEAFNOSUPPORT;
  Endpoint e;
  e.address = in.sin6_addr;
  e.port = ntohs(in.sin6_port);
  return e;
}

Result<void> check_local(const Endpoint& e, const Sock& owner) {
  if (!e.is_any() && !e.is_loopback()) return kEADDRNOTAVAIL;
  return may_bind_port(e.port, *owner.net);
}

Result<Endpoint> check_destination(const Endpoint& to, const Sock& owner) {
  Endpoint e = to;
  if (e.is_any()) {
    e = source_for(to);
    e.port = to.port;
  }
  if (!e.is_loopback() || !loopback_is_up(*owner.net)) return kENETUNREACH;
  return e;
}

Endpoint source_for(const Endpoint& to) {
  if (to.is_v4()) return Endpoint::v4(INADDR_LOOPBACK, 0);
  Endpoint e;
  e.address = in6addr_loopback;
  return e;
}

Result<void> take_port(Transport t, Sock& owner, Binding& b) {
  return ports(owner).with([&](Ports& p) -> Result<void> {
    auto& table = p.of[index(t)];
    if (b.local.port != 0) {
      if (!is_free(p, t, owner, b)) return kEADDRINUSE;
    } else {
      Binding probe = b;
      probe.reuse_address = probe.reuse_port = false;  // the system's choice is nobody else's
      int tries = kLastEphemeral - kFirstEphemeral + 1;
      for (;; tries--) {
        if (tries == 0) return kEADDRINUSE;
        uint16_t& next = p.next[index(t)];
        probe.local.port = next;
        next = next == kLastEphemeral ? kFirstEphemeral : static_cast<uint16_t>(next + 1);
        if (is_free(p, t, owner, probe)) break;
      }
      b.local.port = probe.local.port;
    }
    table.emplace(b.local.port, Entry{&owner, b});
    return {};
  });
}

void update_port(Transport t, Sock& owner, const Binding& b) {
  ports(owner).with([&](Ports& p) {
    auto [from, to] = p.of[index(t)].equal_range(b.local.port);
    for (auto it = from; it != to; ++it)
      if (it->second.sock == &owner) it->second.binding = b;
  });
}

void leave_port(Transport t, Sock& owner) {
  ports(owner).with([&](Ports& p) { std::erase_if(p.of[index(t)], [&](const auto& e) { return e.second.sock == &owner; }); });
}

Result<void> may_listen(const Sock& owner) {
  return ports(owner).with([&](Ports& p) -> Result<void> {
    for (const auto& [port, e] : p.of[index(Transport::tcp)]) {
      if (e.sock != &owner) continue;
      if (!is_free(p, Transport::tcp, owner, e.binding)) return kEADDRINUSE;
    }
    return {};
  });
}

RefOrNull<Sock> find_port(Transport t, const Endpoint& to, const Endpoint& from, const Sock& asker) {
  return ports(asker).with([&](Ports& p) {
    // Whoever is connected to the sender comes first, then its very address, then the wildcard of its version, then ::.
    int best = 0;
    std::vector<Sock*> found;
    auto [first, last] = p.of[index(t)].equal_range(to.port);
    for (auto it = first; it != last; ++it) {
      const Binding& b = it->second.binding;
      if (t == Transport::tcp && !b.listening) continue;
      int score;
      if (b.local.is_any()) {
        if (b.local.is_v4() == to.is_v4()) score = 2;
        else if (b.dual && to.is_v4()) score = 1;
        else continue;
      } else if (b.local.same_address(to)) {
        score = 3;
      } else {
        continue;
      }
      if (b.has_peer) {
        if (!(b.peer == from)) continue;
        score += 4;
      }
      if (score > best) found.clear();
      if (score >= best) found.push_back(it->second.sock);
      best = std::max(best, score);
    }
    if (found.empty()) return RefOrNull<Sock>();
    return RefOrNull<Sock>::upgrade(found[p.turn++ % found.size()]);
  });
}

bool KeptOptions::is_known(int level, int option) {
  return std::any_of(std::begin(kKept), std::end(kKept), [&](auto& k) { return k[0] == level && k[1] == option; });
}

bool KeptOptions::set(int level, int option, int value) {
  if (!is_known(level, option)) return false;
  values_.with([&](auto& list) {
    for (auto& [key, v] : list)
      if (key == std::pair{level, option}) {
        v = value;
        return;
      }
    list.push_back({{level, option}, value});
  });
  return true;
}

bool KeptOptions::get(int level, int option, int* value) const {
  for (auto& k : kKept)
    if (k[0] == level && k[1] == option) {
      *value = k[2];
      values_.with([&](auto& list) {
        for (auto& [key, v] : list)
          if (key == std::pair{level, option}) *value = v;
      });
      return true;
    }
  return false;
}

}  // namespace sentry::net::inet
