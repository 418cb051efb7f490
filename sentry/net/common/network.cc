// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/common/network.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstring>

namespace sentry::net {
namespace {

std::string bytes(std::initializer_list<int> v) {
  std::string s;
  for (int b : v) s += static_cast<char>(b);
  return s;
}

// A loopback that nobody has switched on, without an address.
Ref<Network> loopback_down() {
  auto n = make_ref<Network>();
  n->interfaces.push_back({.index = 1, .flags = IFF_LOOPBACK, .mtu = 65536, .tx_queue = 1000, .type = ARPHRD_LOOPBACK,
                           .operstate = 2 /* IF_OPER_DOWN */, .name = "lo", .address = std::string(6, '\0'),
                           .broadcast = std::string(6, '\0')});
  return n;
}

Ref<Network> loopback_alone() {
  auto n = make_ref<Network>();
  const std::string one = bytes({127, 0, 0, 1}), six = std::string(15, '\0') + '\1';
  n->interfaces.push_back({.index = 1, .flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP, .mtu = 65536, .tx_queue = 1000,
                           .type = ARPHRD_LOOPBACK, .operstate = 0 /* IF_OPER_UNKNOWN, as lo's always is */, .name = "lo",
                           .address = std::string(6, '\0'), .broadcast = std::string(6, '\0')});
  n->addresses.push_back({.index = 1, .flags = IFA_F_PERMANENT, .prefix = 8, .scope = RT_SCOPE_HOST, .address = one, .local = one,
                          .broadcast = {}, .label = "lo"});
  n->addresses.push_back({.index = 1, .flags = IFA_F_PERMANENT, .prefix = 128, .scope = RT_SCOPE_HOST, .address = six, .local = {},
                          .broadcast = {}, .label = {}});
  auto local = [&](uint8_t family, uint8_t prefix, uint8_t type, uint8_t scope, std::string to, const std::string& source) {
    Route r;
    r.family = family;
    r.prefix = prefix;
    r.protocol = RTPROT_KERNEL;
    r.scope = scope;
    r.type = type;
    r.table = RT_TABLE_LOCAL;
    r.interface = 1;
    r.destination = std::move(to);
    r.source = source;
    n->routes.push_back(std::move(r));
  };
  local(AF_INET, 8, RTN_LOCAL, RT_SCOPE_HOST, bytes({127, 0, 0, 0}), one);
  local(AF_INET, 32, RTN_LOCAL, RT_SCOPE_HOST, one, one);
  local(AF_INET, 32, RTN_BROADCAST, RT_SCOPE_LINK, bytes({127, 255, 255, 255}), one);
  local(AF_INET6, 128, RTN_LOCAL, RT_SCOPE_UNIVERSE, six, {});
  return n;
}

struct NetworkPart final : kernel::NetPart {
  explicit NetworkPart(bool first) : up(first), network(LockRank::kFilePrivate, first ? loopback_alone() : loopback_down()) {}
  std::atomic<bool> up;
  Guarded<Ref<Network>> network;
};

NetworkPart& part_of(kernel::NetNamespace& ns) { return ns.part<NetworkPart>(kernel::NetNamespace::kNetwork); }
void put_in_force(kernel::NetNamespace& ns, Ref<Network> n) {
  part_of(ns).network.with([&](Ref<Network>& now) { std::swap(now, n); });  // the old one goes outside the lock
}

bool within(std::string_view address, const Route& r) {
  if (r.family != (address.size() == 4 ? AF_INET : AF_INET6)) return false;
  if (r.prefix > address.size() * 8 || (r.prefix > 0 && r.destination.size() != address.size())) return false;
  size_t whole = r.prefix / 8, rest = r.prefix % 8;
  if (whole && memcmp(address.data(), r.destination.data(), whole) != 0) return false;
  if (rest == 0) return true;
  const auto mask = static_cast<uint8_t>(0xff << (8 - rest));
  return ((static_cast<uint8_t>(address[whole]) ^ static_cast<uint8_t>(r.destination[whole])) & mask) == 0;
}

std::string hex(std::string_view v) {
  std::string s;
  char b[4];
  for (char c : v) {
    snprintf(b, sizeof b, "%02x", static_cast<uint8_t>(c));
    s += b;
  }
  return s;
}
// IPv4 as a word of memory.
uint32_t word(std::string_view v) {
  uint32_t w = 0;
  if (v.size() == 4) memcpy(&w, v.data(), 4);
  return w;
}

}  // namespace

const Interface* Network::find(uint32_t index) const {
  for (auto& i : interfaces)
    if (i.index == index) return &i;
  return nullptr;
}
const Interface* Network::find(std::string_view name) const {
  for (auto& i : interfaces)
    if (i.name == name) return &i;
  return nullptr;
}

const Route* Network::route_to(std::string_view to) const {
  const Route* best = nullptr;
  for (auto& r : routes) {
    if ((r.table != RT_TABLE_LOCAL && r.table != RT_TABLE_MAIN) || !within(to, r)) continue;
    if (!best) {
      best = &r;
    } else if (r.table != best->table) {
      if (r.table == RT_TABLE_LOCAL) best = &r;
    } else if (r.prefix > best->prefix || (r.prefix == best->prefix && r.metric < best->metric)) {
      best = &r;
    }
  }
  return best;
}

Ref<Network> network() {
  Ref<kernel::NetNamespace> ns = kernel::current_net();
  return part_of(*ns).network.with([](const Ref<Network>& n) { return n; });
}

void set_network(Ref<Network> n) { put_in_force(kernel::NetNamespace::first(), std::move(n)); }

bool loopback_is_up(kernel::NetNamespace& ns) { return part_of(ns).up.load(std::memory_order_relaxed); }

Result<void> set_loopback(kernel::NetNamespace& ns, bool up) {
  if (ns.is_first()) return kEPERM;
  if (part_of(ns).up.exchange(up) != up) put_in_force(ns, up ? loopback_alone() : loopback_down());
  return {};
}

Result<void> add_loopback_address(kernel::NetNamespace& ns, std::string_view address, uint8_t prefix) {
  const std::string one = bytes({127, 0, 0, 1}), six = std::string(15, '\0') + '\1';
  if (ns.is_first() || (address != one && address != six)) return kEPERM;
  Ref<Network> now = part_of(ns).network.with([](const Ref<Network>& n) { return n; });
  for (auto& a : now->addresses)
    if (a.own() == address) return kEEXIST;
  auto next = make_ref<Network>();
  next->interfaces = now->interfaces;
  next->addresses = now->addresses;
  next->routes = now->routes;
  InterfaceAddress a{.index = 1, .flags = IFA_F_PERMANENT, .prefix = prefix, .scope = RT_SCOPE_HOST, .address = std::string(address),
                     .local = {}, .broadcast = {}, .label = {}};
  if (address == one) a.local = one, a.label = "lo";
  next->addresses.push_back(std::move(a));
  put_in_force(ns, std::move(next));
  return {};
}

std::string dev_text() {
  std::string out =
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
      "compressed\n";
  for (auto& i : network()->interfaces) {
    char name[40];
    snprintf(name, sizeof name, "%6.20s:", i.name.c_str());
    out += name;
    out += "       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";
  }
  return out;
}

std::string route_text() {
  std::string out;
  char line[200];
  snprintf(line, sizeof line, "%-127s\n", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT");
  out += line;
  auto n = network();
  for (auto& r : n->routes) {
    if (r.family != AF_INET || r.table != RT_TABLE_MAIN || (r.type != RTN_UNICAST && r.type != RTN_UNREACHABLE)) continue;
    auto* i = n->find(r.interface);
    const uint32_t mask = r.prefix ? htonl(~0u << (32 - r.prefix)) : 0;
    unsigned flags = 1 /* RTF_UP */ | (r.gateway.empty() ? 0 : 2) | (r.prefix == 32 ? 4 : 0);
    if (r.type == RTN_UNREACHABLE) flags |= 0x200;
    char text[180];
    snprintf(text, sizeof text, "%.20s\t%08X\t%08X\t%04X\t%d\t%u\t%u\t%08X\t%d\t%u\t%u", i ? i->name.c_str() : "*", word(r.destination),
             word(r.gateway), flags, 0, 0u, r.metric, mask, 0, 0u, 0u);
    snprintf(line, sizeof line, "%-127s\n", text);
    out += line;
  }
  return out;
}

std::string if_inet6_text() {
  std::string out;
  auto n = network();
  for (auto& a : n->addresses) {
    if (a.own().size() != 16) continue;
    auto* i = n->find(a.index);
    unsigned scope = a.scope == RT_SCOPE_HOST ? 0x10 : a.scope == RT_SCOPE_LINK ? 0x20 : 0;
    char rest[80];
    snprintf(rest, sizeof rest, " %02x %02x %02x %02x %8.20s\n", a.index, a.prefix, scope, a.flags & 0xff, i ? i->name.c_str() : "");
    out += hex(a.own()) + rest;
  }
  return out;
}

std::string ipv6_route_text() {
  std::string out;
  auto n = network();
  const std::string none(16, '\0');
  for (auto& r : n->routes) {
    if (r.family != AF_INET6) continue;
    auto* i = n->find(r.interface);
    unsigned flags = 1u | (r.gateway.empty() ? 0 : 2) | (r.prefix == 128 ? 4 : 0) | (r.type == RTN_LOCAL ? 0x80200000u : 0);
    char part[120];
    out += hex(r.destination.empty() ? none : r.destination);
    snprintf(part, sizeof part, " %02x ", r.prefix);
    out += part + hex(none) + " 00 " + hex(r.gateway.empty() ? none : r.gateway);
    snprintf(part, sizeof part, " %08x %08x %08x %08x %8.20s\n", r.metric, 1u, 0u, flags, i ? i->name.c_str() : "");
    out += part;
  }
  return out;
}

}  // namespace sentry::net
