// SPDX-License-Identifier: Apache-2.0
// What a network namespace with nothing but lo tells. Linux: net/core/rtnetlink.c, net/ipv4/devinet.c, fib_frontend.c.
#include "sentry/net/netlink/route.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "sentry/net/common/interfaces.h"

namespace sentry::net::netlink {
namespace {

constexpr size_t align(size_t n) { return (n + 3) & ~size_t{3}; }

// One message under construction at the end of a datagram.
class Writer {
 public:
  Writer(Datagram& d, uint16_t type, uint16_t flags, const nlmsghdr& request, uint32_t port) : d_(d), start_(d.size()) {
    nlmsghdr h{};
    h.nlmsg_type = type;
    h.nlmsg_flags = flags;
    h.nlmsg_seq = request.nlmsg_seq;
    h.nlmsg_pid = port;
    put(&h, sizeof h);
  }
  ~Writer() {
    auto n = static_cast<uint32_t>(d_.size() - start_);
    memcpy(d_.data() + start_, &n, sizeof n);
    d_.resize(align(d_.size()));
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  void put(const void* p, size_t n) {
    auto* b = static_cast<const std::byte*>(p);
    d_.insert(d_.end(), b, b + n);
  }
  template <typename T>
  void body(const T& v) {
    put(&v, sizeof v);
    d_.resize(align(d_.size()));
  }
  void attribute(uint16_t type, const void* p, size_t n) {
    rtattr a{static_cast<uint16_t>(sizeof(rtattr) + n), type};
    put(&a, sizeof a);
    put(p, n);
    d_.resize(align(d_.size()));
  }
  void number(uint16_t type, uint32_t v) { attribute(type, &v, sizeof v); }
  void byte(uint16_t type, uint8_t v) { attribute(type, &v, sizeof v); }
  void text(uint16_t type, std::string_view s) {
    std::string z(s);
    attribute(type, z.c_str(), z.size() + 1);
  }

 private:
  Datagram& d_;
  size_t start_;
};

struct Request {
  nlmsghdr head;
  std::span<const std::byte> body;
  uint32_t port;
  bool is_dump() const { return (head.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP; }
  // The fixed part; zeros for what is missing (old callers send one byte of rtgenmsg).
  template <typename T>
  T fixed() const {
    T v{};
    memcpy(&v, body.data(), std::min(sizeof v, body.size()));
    return v;
  }
  template <typename T>
  std::span<const std::byte> attribute(uint16_t type) const {
    if (body.size() < align(sizeof(T))) return {};
    auto rest = body.subspan(align(sizeof(T)));
    while (rest.size() >= sizeof(rtattr)) {
      rtattr a;
      memcpy(&a, rest.data(), sizeof a);
      if (a.rta_len < sizeof a || a.rta_len > rest.size()) return {};
      if ((a.rta_type & NLA_TYPE_MASK) == type) return rest.subspan(sizeof a, a.rta_len - sizeof a);
      rest = rest.subspan(std::min<size_t>(align(a.rta_len), rest.size()));
    }
    return {};
  }
};

void put_error(Datagram& d, const Request& r, int error) {
  Writer w(d, NLMSG_ERROR, error ? 0 : NLM_F_CAPPED, r.head, r.port);
  nlmsgerr e{};
  e.error = -error;
  e.msg = r.head;
  w.put(&e, sizeof e);
  if (error) w.put(r.body.data(), r.body.size());
}

void put_link(Datagram& d, const Request& r, uint16_t flags) {
  Writer w(d, RTM_NEWLINK, flags, r.head, r.port);
  ifinfomsg m{};
  m.ifi_type = ARPHRD_LOOPBACK;
  m.ifi_index = kLoopbackIndex;
  m.ifi_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP;
  w.body(m);
  w.text(IFLA_IFNAME, kLoopbackName);
  w.number(IFLA_TXQLEN, 1000);
  w.byte(IFLA_OPERSTATE, 0);  // IF_OPER_UNKNOWN, as lo's always is
  w.byte(IFLA_LINKMODE, 0);
  w.number(IFLA_MTU, kLoopbackMtu);
  w.number(IFLA_GROUP, 0);
  w.number(IFLA_PROMISCUITY, 0);
  w.number(IFLA_NUM_TX_QUEUES, 1);
  w.number(IFLA_NUM_RX_QUEUES, 1);
  w.byte(IFLA_CARRIER, 1);
  w.text(IFLA_QDISC, "noqueue");
  constexpr unsigned char kNoAddress[6] = {};
  w.attribute(IFLA_ADDRESS, kNoAddress, sizeof kNoAddress);
  w.attribute(IFLA_BROADCAST, kNoAddress, sizeof kNoAddress);
  rtnl_link_stats64 stats64{};
  w.attribute(IFLA_STATS64, &stats64, sizeof stats64);
  rtnl_link_stats stats{};
  w.attribute(IFLA_STATS, &stats, sizeof stats);
}

void put_address(Datagram& d, const Request& r, int family) {
  Writer w(d, RTM_NEWADDR, NLM_F_MULTI, r.head, r.port);
  ifaddrmsg m{};
  m.ifa_family = static_cast<uint8_t>(family);
  m.ifa_prefixlen = family == AF_INET ? 8 : 128;
  m.ifa_flags = IFA_F_PERMANENT;
  m.ifa_scope = RT_SCOPE_HOST;
  m.ifa_index = kLoopbackIndex;
  w.body(m);
  if (family == AF_INET) {
    uint32_t a = htonl(INADDR_LOOPBACK);
    w.attribute(IFA_ADDRESS, &a, sizeof a);
    w.attribute(IFA_LOCAL, &a, sizeof a);
    w.text(IFA_LABEL, kLoopbackName);
  } else {
    w.attribute(IFA_ADDRESS, &in6addr_loopback, sizeof in6addr_loopback);
  }
  w.number(IFA_FLAGS, IFA_F_PERMANENT);
  ifa_cacheinfo c{~0u, ~0u, 0, 0};
  w.attribute(IFA_CACHEINFO, &c, sizeof c);
}

struct Route {
  int family;
  uint8_t prefix, type, scope;
  in6_addr to;  // IPv4: the first four bytes
};
in6_addr v4(uint32_t host_order) {
  in6_addr a{};
  uint32_t n = htonl(host_order);
  memcpy(&a, &n, sizeof n);
  return a;
}

void put_route(Datagram& d, const Request& r, const Route& route, uint16_t flags) {
  Writer w(d, RTM_NEWROUTE, flags, r.head, r.port);
  rtmsg m{};
  m.rtm_family = static_cast<uint8_t>(route.family);
  m.rtm_dst_len = route.prefix;
  m.rtm_table = RT_TABLE_LOCAL;
  m.rtm_protocol = RTPROT_KERNEL;
  m.rtm_scope = route.scope;
  m.rtm_type = route.type;
  w.body(m);
  w.number(RTA_TABLE, RT_TABLE_LOCAL);
  w.attribute(RTA_DST, &route.to, route.family == AF_INET ? 4 : 16);
  if (route.family == AF_INET) {
    uint32_t source = htonl(INADDR_LOOPBACK);
    w.attribute(RTA_PREFSRC, &source, sizeof source);
  } else {
    w.number(RTA_PRIORITY, 0);
  }
  w.number(RTA_OIF, kLoopbackIndex);
}

void dump_routes(Datagram& d, const Request& r, int family) {
  if (family != AF_INET6) {
    put_route(d, r, {AF_INET, 8, RTN_LOCAL, RT_SCOPE_HOST, v4(0x7f000000)}, NLM_F_MULTI);
    put_route(d, r, {AF_INET, 32, RTN_LOCAL, RT_SCOPE_HOST, v4(INADDR_LOOPBACK)}, NLM_F_MULTI);
    put_route(d, r, {AF_INET, 32, RTN_BROADCAST, RT_SCOPE_LINK, v4(0x7fffffff)}, NLM_F_MULTI);
  }
  if (family != AF_INET) put_route(d, r, {AF_INET6, 128, RTN_LOCAL, RT_SCOPE_UNIVERSE, in6addr_loopback}, NLM_F_MULTI);
}

// "ip route get": only what is the sandbox itself can be reached. The errno, or 0.
int one_route(Datagram& d, const Request& r) {
  auto m = r.fixed<rtmsg>();
  auto to = r.attribute<rtmsg>(RTA_DST);
  if (m.rtm_family == AF_INET && to.size() == 4) {
    uint32_t a;
    memcpy(&a, to.data(), sizeof a);
    if (ntohl(a) >> 24 != 127) return ENETUNREACH;
    put_route(d, r, {AF_INET, 32, RTN_LOCAL, RT_SCOPE_UNIVERSE, v4(ntohl(a))}, 0);
    return 0;
  }
  if (m.rtm_family == AF_INET6 && to.size() == 16) {
    if (memcmp(to.data(), &in6addr_loopback, 16) != 0) return ENETUNREACH;
    put_route(d, r, {AF_INET6, 128, RTN_LOCAL, RT_SCOPE_UNIVERSE, in6addr_loopback}, 0);
    return 0;
  }
  return EINVAL;
}

int one_link(Datagram& d, const Request& r) {
  auto m = r.fixed<ifinfomsg>();
  auto name = r.attribute<ifinfomsg>(IFLA_IFNAME);
  if (m.ifi_index < 0) return EINVAL;
  if (m.ifi_index == 0) {
    if (name.empty()) return EINVAL;
    std::string_view text(reinterpret_cast<const char*>(name.data()), name.size());
    if (text.substr(0, text.find('\0')) != kLoopbackName) return ENODEV;
  } else if (m.ifi_index != kLoopbackIndex) {
    return ENODEV;
  }
  put_link(d, r, 0);
  return 0;
}

// What is asked; 0 or an errno. Changes are EPERM, also for root: a sandbox's network is made outside.
int answer(Datagram& d, const Request& r) {
  int kind = (r.head.nlmsg_type - RTM_BASE) & 3;  // 0 new, 1 delete, 2 get, 3 set
  if (r.head.nlmsg_type > RTM_MAX) return EOPNOTSUPP;
  if (r.body.empty()) return 0;
  if (kind != 2) return EPERM;
  int family = static_cast<uint8_t>(r.body[0]);
  switch (r.head.nlmsg_type) {
    case RTM_GETLINK:
      if (!r.is_dump()) return one_link(d, r);
      if (family != AF_BRIDGE) put_link(d, r, NLM_F_MULTI);
      return 0;
    case RTM_GETADDR:
      if (!r.is_dump()) return EOPNOTSUPP;
      if (family == AF_UNSPEC || family == AF_INET) put_address(d, r, AF_INET);
      if (family == AF_UNSPEC || family == AF_INET6) put_address(d, r, AF_INET6);
      return 0;
    case RTM_GETROUTE:
      if (!r.is_dump()) return one_route(d, r);
      dump_routes(d, r, family);
      return 0;
    case RTM_GETNEIGH:
    case RTM_GETRULE:
    case RTM_GETQDISC:
    case RTM_GETMULTICAST:
    case RTM_GETANYCAST:
    case RTM_GETNSID:
    case RTM_GETNEIGHTBL:
    case RTM_GETADDRLABEL:
    case RTM_GETNETCONF:
    case RTM_GETSTATS:
      return r.is_dump() ? 0 : EOPNOTSUPP;  // there are none
    default: return EOPNOTSUPP;
  }
}

}  // namespace

std::vector<Datagram> answer_requests(std::span<const std::byte> in, uint32_t port) {
  std::vector<Datagram> out;
  while (in.size() >= sizeof(nlmsghdr)) {
    Request r{};
    memcpy(&r.head, in.data(), sizeof r.head);
    if (r.head.nlmsg_len < sizeof r.head || r.head.nlmsg_len > in.size()) break;
    r.body = in.subspan(sizeof r.head, r.head.nlmsg_len - sizeof r.head);
    r.port = port;
    in = in.subspan(std::min<size_t>(align(r.head.nlmsg_len), in.size()));
    if (!(r.head.nlmsg_flags & NLM_F_REQUEST) || r.head.nlmsg_type < NLMSG_MIN_TYPE) {
      if (r.head.nlmsg_flags & NLM_F_ACK) put_error(out.emplace_back(), r, 0);
      continue;
    }
    Datagram d;
    int error = answer(d, r);
    bool is_get = ((r.head.nlmsg_type - RTM_BASE) & 3) == 2 && !r.body.empty();
    if (!d.empty()) out.push_back(std::move(d));
    if (error != 0) {
      put_error(out.emplace_back(), r, error);
    } else if (is_get && r.is_dump()) {
      Writer w(out.emplace_back(), NLMSG_DONE, NLM_F_MULTI, r.head, port);
      int zero = 0;
      w.put(&zero, sizeof zero);
    } else if (r.head.nlmsg_flags & NLM_F_ACK) {
      put_error(out.emplace_back(), r, 0);
    }
  }
  return out;
}

}  // namespace sentry::net::netlink
