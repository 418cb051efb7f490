// SPDX-License-Identifier: Apache-2.0
// What network() holds, in the words of rtnetlink. Linux: net/core/rtnetlink.c, net/ipv4/devinet.c, fib_frontend.c.
#include "sentry/net/netlink/route.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "sentry/net/common/network.h"

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

// Datagrams of an answer. Receivers' buffers are a page at least, so none is longer (Linux: NLMSG_GOODSIZE).
using Answer = std::vector<Datagram>;
Datagram& room(Answer& a) {
  constexpr size_t kFull = 2600;  // a link's message is about 700 bytes
  if (a.empty() || a.back().size() > kFull) a.emplace_back();
  return a.back();
}

void put_link(Answer& out, const Request& r, const Interface& i, uint16_t flags) {
  Writer w(room(out), RTM_NEWLINK, flags, r.head, r.port);
  ifinfomsg m{};
  m.ifi_type = i.type;
  m.ifi_index = static_cast<int>(i.index);
  m.ifi_flags = i.flags;
  w.body(m);
  w.text(IFLA_IFNAME, i.name);
  w.number(IFLA_TXQLEN, i.tx_queue);
  w.byte(IFLA_OPERSTATE, i.operstate);
  w.byte(IFLA_LINKMODE, 0);
  w.number(IFLA_MTU, i.mtu);
  w.number(IFLA_GROUP, 0);
  w.number(IFLA_PROMISCUITY, 0);
  w.number(IFLA_NUM_TX_QUEUES, 1);
  w.number(IFLA_NUM_RX_QUEUES, 1);
  w.byte(IFLA_CARRIER, (i.flags & IFF_LOWER_UP) != 0);
  w.text(IFLA_QDISC, "noqueue");
  if (!i.address.empty()) w.attribute(IFLA_ADDRESS, i.address.data(), i.address.size());
  if (!i.broadcast.empty()) w.attribute(IFLA_BROADCAST, i.broadcast.data(), i.broadcast.size());
  rtnl_link_stats64 stats64{};
  w.attribute(IFLA_STATS64, &stats64, sizeof stats64);
  rtnl_link_stats stats{};
  w.attribute(IFLA_STATS, &stats, sizeof stats);
}

void put_address(Answer& out, const Request& r, const InterfaceAddress& a) {
  Writer w(room(out), RTM_NEWADDR, NLM_F_MULTI, r.head, r.port);
  const bool v4 = a.own().size() == 4;
  ifaddrmsg m{};
  m.ifa_family = v4 ? AF_INET : AF_INET6;
  m.ifa_prefixlen = a.prefix;
  m.ifa_flags = static_cast<uint8_t>(a.flags);
  m.ifa_scope = a.scope;
  m.ifa_index = a.index;
  w.body(m);
  w.attribute(IFA_ADDRESS, a.address.data(), a.address.size());
  if (!a.local.empty()) w.attribute(IFA_LOCAL, a.local.data(), a.local.size());
  if (!a.broadcast.empty()) w.attribute(IFA_BROADCAST, a.broadcast.data(), a.broadcast.size());
  if (!a.label.empty()) w.text(IFA_LABEL, a.label);
  w.number(IFA_FLAGS, a.flags);
  ifa_cacheinfo c{~0u, ~0u, 0, 0};
  w.attribute(IFA_CACHEINFO, &c, sizeof c);
}

void put_route(Answer& out, const Request& r, const Route& route, uint16_t flags) {
  Writer w(room(out), RTM_NEWROUTE, flags, r.head, r.port);
  rtmsg m{};
  m.rtm_family = route.family;
  m.rtm_dst_len = route.prefix;
  m.rtm_tos = route.tos;
  m.rtm_table = static_cast<uint8_t>(route.table < 256 ? route.table : RT_TABLE_COMPAT);
  m.rtm_protocol = route.protocol;
  m.rtm_scope = route.scope;
  m.rtm_type = route.type;
  m.rtm_flags = route.flags;
  w.body(m);
  auto bytes = [&](uint16_t type, const std::string& v) {
    if (!v.empty()) w.attribute(type, v.data(), v.size());
  };
  w.number(RTA_TABLE, route.table);
  bytes(RTA_DST, route.destination);
  bytes(RTA_PREFSRC, route.source);
  bytes(RTA_GATEWAY, route.gateway);
  if (route.metric || route.family == AF_INET6) w.number(RTA_PRIORITY, route.metric);
  if (route.interface) w.number(RTA_OIF, route.interface);
  if (route.family == AF_INET6) w.byte(RTA_PREF, route.preference);
}

// "ip route get". The errno, or 0.
int one_route(Answer& out, const Request& r, const Network& n) {
  auto m = r.fixed<rtmsg>();
  auto to = r.attribute<rtmsg>(RTA_DST);
  if (to.size() != (m.rtm_family == AF_INET ? 4u : 16u) || (m.rtm_family != AF_INET && m.rtm_family != AF_INET6)) return EINVAL;
  std::string address(reinterpret_cast<const char*>(to.data()), to.size());
  const Route* found = n.route_to(address);
  if (!found) return ENETUNREACH;
  switch (found->type) {
    case RTN_UNREACHABLE: return EHOSTUNREACH;
    case RTN_PROHIBIT: return EACCES;
    case RTN_BLACKHOLE: return EINVAL;
  }
  Route one = *found;
  one.prefix = static_cast<uint8_t>(address.size() * 8);
  one.scope = RT_SCOPE_UNIVERSE;
  one.protocol = RTPROT_UNSPEC;
  one.metric = 0;
  one.table = RT_TABLE_MAIN;  // which one it was is told only to who asks for that
  one.flags |= RTM_F_CLONED;  // an answer, not an entry of a table
  if (one.source.empty()) {
    for (auto& a : n.addresses)
      if (a.index == one.interface && a.own().size() == address.size() && one.source.empty()) one.source = a.own();
  }
  one.destination = std::move(address);
  put_route(out, r, one, 0);
  return 0;
}

int one_link(Answer& out, const Request& r, const Network& n) {
  auto m = r.fixed<ifinfomsg>();
  auto name = r.attribute<ifinfomsg>(IFLA_IFNAME);
  if (m.ifi_index < 0) return EINVAL;
  const Interface* i = nullptr;
  if (m.ifi_index == 0) {
    if (name.empty()) return EINVAL;
    std::string_view text(reinterpret_cast<const char*>(name.data()), name.size());
    i = n.find(text.substr(0, text.find('\0')));
  } else {
    i = n.find(static_cast<uint32_t>(m.ifi_index));
  }
  if (!i) return ENODEV;
  put_link(out, r, *i, 0);
  return 0;
}

// A change of the loopback of a namespace that a program has made; the sandbox's own network is made outside, and for others than the
// loopback there is nothing that could be changed.
int change(const Request& r) {
  Ref<kernel::NetNamespace> ns = kernel::current_net();
  auto* t = kernel::Task::find_current();
  if (ns->is_first() || !t || !t->own_credentials().has_cap_in(ns->user_ns().get(), CAP_NET_ADMIN)) return EPERM;
  auto number = [](const Result<void>& done) { return done.ok() ? 0 : done.error().value(); };
  switch (r.head.nlmsg_type) {
    case RTM_NEWLINK: {
      auto m = r.fixed<ifinfomsg>();
      auto name = r.attribute<ifinfomsg>(IFLA_IFNAME);
      std::string_view text(reinterpret_cast<const char*>(name.data()), name.size());
      text = text.substr(0, text.find('\0'));
      if (m.ifi_index != 1 && !(m.ifi_index == 0 && text == "lo"))
        return m.ifi_index == 0 && (r.head.nlmsg_flags & NLM_F_CREATE) ? EOPNOTSUPP : ENODEV;
      const unsigned changed = m.ifi_change ? m.ifi_change : ~0u;  // Linux: rtnl_dev_get_flags(), for older programs
      return changed & IFF_UP ? number(set_loopback(*ns, m.ifi_flags & IFF_UP)) : 0;
    }
    case RTM_NEWADDR: {
      auto m = r.fixed<ifaddrmsg>();
      auto address = r.attribute<ifaddrmsg>(IFA_LOCAL);
      if (address.empty()) address = r.attribute<ifaddrmsg>(IFA_ADDRESS);
      if (m.ifa_index != 1) return ENODEV;
      if (address.size() != (m.ifa_family == AF_INET ? 4u : 16u)) return EINVAL;
      int e = number(add_loopback_address(*ns, {reinterpret_cast<const char*>(address.data()), address.size()}, m.ifa_prefixlen));
      return e == EEXIST && !(r.head.nlmsg_flags & NLM_F_EXCL) ? 0 : e;
    }
    default: return EOPNOTSUPP;
  }
}

// What is asked; 0 or an errno.
int answer(Answer& d, const Request& r) {
  int kind = (r.head.nlmsg_type - RTM_BASE) & 3;  // 0 new, 1 delete, 2 get, 3 set
  if (r.head.nlmsg_type > RTM_MAX) return EOPNOTSUPP;
  if (r.body.empty()) return 0;
  if (kind != 2) return change(r);
  int family = static_cast<uint8_t>(r.body[0]);
  auto n = network();
  switch (r.head.nlmsg_type) {
    case RTM_GETLINK:
      if (!r.is_dump()) return one_link(d, r, *n);
      if (family == AF_BRIDGE) return 0;
      for (auto& i : n->interfaces) put_link(d, r, i, NLM_F_MULTI);
      return 0;
    case RTM_GETADDR:
      if (!r.is_dump()) return EOPNOTSUPP;
      for (int f : {AF_INET, AF_INET6}) {
        if (family != AF_UNSPEC && family != f) continue;
        for (auto& a : n->addresses)
          if (a.own().size() == (f == AF_INET ? 4u : 16u)) put_address(d, r, a);
      }
      return 0;
    case RTM_GETROUTE:
      if (!r.is_dump()) return one_route(d, r, *n);
      for (auto& route : n->routes)
        if (family == AF_UNSPEC || family == route.family) put_route(d, r, route, NLM_F_MULTI);
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
    Answer d;
    int error = answer(d, r);
    bool is_get = ((r.head.nlmsg_type - RTM_BASE) & 3) == 2 && !r.body.empty();
    for (Datagram& one : d) out.push_back(std::move(one));
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
