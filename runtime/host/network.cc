// SPDX-License-Identifier: Apache-2.0
// Three dumps of rtnetlink (man 7 rtnetlink).
#include "runtime/host/network.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <map>
#include <span>

#include "base/fd.h"
#include "base/sys.h"
#include "runtime/host/proc.h"
#include "runtime/host/spawn.h"

namespace runtime::host {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;
namespace wire = base::wire;

namespace {

constexpr size_t kMostInterfaces = 256, kMostAddresses = 512, kMostRoutes = 768;
constexpr size_t kMostBytes = 128 * 1024;  // of the description

// Attributes of a message, by type.
using Attributes = std::map<uint16_t, std::string>;
template <typename Head>
Attributes attributes_of(std::string_view body, Head& head) {
  Attributes out;
  if (body.size() < sizeof head) return out;
  memcpy(&head, body.data(), sizeof head);
  for (size_t at = NLMSG_ALIGN(sizeof head); body.size() >= at + sizeof(rtattr);) {
    rtattr a;
    memcpy(&a, body.data() + at, sizeof a);
    if (a.rta_len < sizeof a || a.rta_len > body.size() - at) break;
    out.emplace(static_cast<uint16_t>(a.rta_type & NLA_TYPE_MASK), body.substr(at + sizeof a, a.rta_len - sizeof a));
    at += RTA_ALIGN(a.rta_len);
  }
  return out;
}
uint32_t number(const Attributes& all, uint16_t type, uint32_t otherwise) {
  auto it = all.find(type);
  uint32_t v = otherwise;
  if (it != all.end() && it->second.size() >= sizeof v) memcpy(&v, it->second.data(), sizeof v);
  return v;
}
uint8_t byte(const Attributes& all, uint16_t type) {
  auto it = all.find(type);
  return it != all.end() && !it->second.empty() ? static_cast<uint8_t>(it->second[0]) : 0;
}
std::string bytes(const Attributes& all, uint16_t type) {
  auto it = all.find(type);
  return it == all.end() ? std::string() : it->second.substr(0, 32);
}
std::string text(const Attributes& all, uint16_t type) {
  std::string s = bytes(all, type);
  return s.c_str();
}

// Asks for a dump and calls f(body) for each message of that type.
template <typename F>
ResultX<void> dump(int socket, uint16_t get, uint16_t type, F&& f) {
  struct {
    nlmsghdr head;
    rtgenmsg any;
  } ask{};
  ask.head = {sizeof ask, get, NLM_F_REQUEST | NLM_F_DUMP, get, 0};
  TRY_MSG(sys::from_libc(::send(socket, &ask, sizeof ask, 0)), "ask for a list of the network");
  std::string buffer(64 * 1024, '\0');
  for (;;) {
    ssize_t n = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    size_t left = static_cast<size_t>(TRY_MSG(sys::from_libc(n), "list the network"));
    for (size_t at = 0; left - at >= sizeof(nlmsghdr);) {
      nlmsghdr h;
      memcpy(&h, buffer.data() + at, sizeof h);
      if (h.nlmsg_len < sizeof h || h.nlmsg_len > left - at) return {};
      if (h.nlmsg_type == NLMSG_DONE || h.nlmsg_type == NLMSG_ERROR) return {};
      if (h.nlmsg_type == type) f(std::string_view(buffer).substr(at + sizeof h, h.nlmsg_len - sizeof h));
      at += NLMSG_ALIGN(h.nlmsg_len);
      if (at >= left) break;
    }
    if (left == 0) return {};
  }
}

ResultX<wire::Network> look() {
  Fd s(static_cast<int>(TRY_MSG(sys::from_libc(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), "make a netlink socket")));
  const timeval limit{2, 0};
  TRY_MSG(sys::from_libc(::setsockopt(s.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit)), "set up a netlink socket");
  wire::Network n;
  n.given = true;
  TRY(dump(s.get(), RTM_GETLINK, RTM_NEWLINK, [&](std::string_view body) {
    ifinfomsg m{};
    auto a = attributes_of(body, m);
    if (n.interfaces.size() >= kMostInterfaces) return;
    wire::NetInterface i;
    i.index = static_cast<uint32_t>(m.ifi_index);
    i.flags = m.ifi_flags;
    i.mtu = number(a, IFLA_MTU, 0);
    i.tx_queue = number(a, IFLA_TXQLEN, 0);
    i.type = m.ifi_type;
    i.operstate = byte(a, IFLA_OPERSTATE);
    i.name = text(a, IFLA_IFNAME);
    i.address = bytes(a, IFLA_ADDRESS);
    i.broadcast = bytes(a, IFLA_BROADCAST);
    n.interfaces.push_back(std::move(i));
  }));
  TRY(dump(s.get(), RTM_GETADDR, RTM_NEWADDR, [&](std::string_view body) {
    ifaddrmsg m{};
    auto a = attributes_of(body, m);
    if ((m.ifa_family != AF_INET && m.ifa_family != AF_INET6) || n.addresses.size() >= kMostAddresses) return;
    wire::NetAddress x;
    x.index = m.ifa_index;
    x.flags = number(a, IFA_FLAGS, m.ifa_flags);
    x.prefix = m.ifa_prefixlen;
    x.scope = m.ifa_scope;
    x.address = bytes(a, IFA_ADDRESS);
    x.local = bytes(a, IFA_LOCAL);
    x.broadcast = bytes(a, IFA_BROADCAST);
    x.label = text(a, IFA_LABEL);
    if (x.address.empty()) x.address = x.local;
    n.addresses.push_back(std::move(x));
  }));
  TRY(dump(s.get(), RTM_GETROUTE, RTM_NEWROUTE, [&](std::string_view body) {
    rtmsg m{};
    auto a = attributes_of(body, m);
    if ((m.rtm_family != AF_INET && m.rtm_family != AF_INET6) || (m.rtm_flags & RTM_F_CLONED) || n.routes.size() >= kMostRoutes) return;
    wire::NetRoute r;
    r.family = m.rtm_family;
    r.prefix = m.rtm_dst_len;
    r.tos = m.rtm_tos;
    r.protocol = m.rtm_protocol;
    r.scope = m.rtm_scope;
    r.type = m.rtm_type;
    r.preference = byte(a, RTA_PREF);
    r.table = number(a, RTA_TABLE, m.rtm_table);
    r.flags = m.rtm_flags;
    r.metric = number(a, RTA_PRIORITY, 0);
    r.interface = number(a, RTA_OIF, 0);
    r.destination = bytes(a, RTA_DST);
    r.gateway = bytes(a, RTA_GATEWAY);
    r.source = bytes(a, RTA_PREFSRC);
    // Of several ways, the first.
    if (auto many = a.find(RTA_MULTIPATH); many != a.end() && many->second.size() >= sizeof(rtnexthop)) {
      rtnexthop hop{};
      auto of_hop = attributes_of(many->second, hop);
      r.interface = static_cast<uint32_t>(hop.rtnh_ifindex);
      r.gateway = bytes(of_hop, RTA_GATEWAY);
    }
    n.routes.push_back(std::move(r));
  }));
  // A record has a limit: routes are the least of it.
  while (!n.routes.empty() && wire::encode(n).size() > kMostBytes) n.routes.resize(n.routes.size() / 2);
  return n;
}

}  // namespace

ResultX<wire::Network> describe_network(int pidfd) {
  if (pidfd < 0) return look();
  Report report = TRY_MSG(Report::create(), "make a pipe");
  int p[2];
  TRY_MSG(sys::from_libc(::pipe2(p, O_CLOEXEC)), "make a pipe");
  Fd in(p[0]), out(p[1]);
  int child = TRY_MSG(clone_process({}), "start a process to look at the network");
  if (child == 0) {
    auto told = [&]() -> ResultX<void> {
      TRY_MSG(sys::raw(SYS_setns, pidfd, CLONE_NEWNET), "join the network namespace");
      auto record = wire::encode(TRY(look()));
      TRY_MSG(sys::write_all(out.get(), record.data(), record.size()), "tell of the network");
      return {};
    }();
    if (!told.ok()) report.fail(told.error());
    _exit(0);
  }
  out.reset();
  auto all = sys::read_all(in.get(), 2 * kMostBytes);
  auto said = report.await(5000);
  reap(child);
  if (!said.ok()) return base::wrap(said.error(), "look at the sandbox's network");
  std::string record = TRY_MSG(std::move(all), "hear of the network");
  return TRY_MSG(wire::decode<wire::Network>(std::as_bytes(std::span(record))), "read of the network");
}

}  // namespace runtime::host
