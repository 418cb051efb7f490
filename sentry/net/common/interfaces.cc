// SPDX-License-Identifier: Apache-2.0
// Linux: net/core/dev_ioctl.c, devinet_ioctl() of net/ipv4/devinet.c. man 7 netdevice.
#include "sentry/net/common/interfaces.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "sentry/net/common/network.h"

namespace sentry::net {
namespace {

sockaddr inet_address(std::string_view network_order) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  if (network_order.size() == 4) memcpy(&in.sin_addr, network_order.data(), 4);
  sockaddr a;
  static_assert(sizeof a == sizeof in);
  memcpy(&a, &in, sizeof a);
  return a;
}

void put_name(ifreq& r, const std::string& name) {
  memset(r.ifr_name, 0, sizeof r.ifr_name);
  memcpy(r.ifr_name, name.data(), std::min<size_t>(name.size(), IFNAMSIZ - 1));
}

// SIOCGIFCONF: one ifreq for each IPv4 address, as far as they fit; without a buffer the size needed.
Result<long> list_addresses(platform::Context& c, uint64_t arg) {
  struct ifconf conf;
  TRY(c.copy_in(&conf, arg, sizeof conf));
  auto n = network();
  std::vector<ifreq> all;
  for (auto& a : n->addresses) {
    auto* i = n->find(a.index);
    if (a.own().size() != 4 || !i) continue;
    ifreq one{};
    put_name(one, a.label.empty() ? i->name : a.label);
    one.ifr_addr = inet_address(a.own());
    all.push_back(one);
  }
  auto buffer = reinterpret_cast<uint64_t>(conf.ifc_buf);
  size_t bytes = all.size() * sizeof(ifreq);
  if (buffer != 0) {
    size_t room = conf.ifc_len > 0 ? static_cast<size_t>(conf.ifc_len) / sizeof(ifreq) : 0;
    bytes = std::min(room, all.size()) * sizeof(ifreq);
    if (bytes) TRY(c.copy_out_now(buffer, all.data(), bytes));
  }
  conf.ifc_len = static_cast<int>(bytes);
  TRY(c.copy_out(arg, &conf, sizeof conf));
  return 0L;
}

// The address that goes by this name: an interface's first, or that of a label ("eth0:1").
const InterfaceAddress* address_of(const Network& n, const Interface& i, std::string_view name) {
  const InterfaceAddress* first = nullptr;
  for (auto& a : n.addresses) {
    if (a.index != i.index || a.own().size() != 4) continue;
    if (a.label == name) return &a;
    if (!first) first = &a;
  }
  return first;
}

Result<void> answer(uint32_t command, struct ifreq& r) {
  auto n = network();
  if (command == SIOCGIFNAME) {
    auto* i = n->find(static_cast<uint32_t>(r.ifr_ifindex));
    if (!i) return kENODEV;
    put_name(r, i->name);
    return {};
  }
  r.ifr_name[IFNAMSIZ - 1] = 0;
  std::string_view name(r.ifr_name);
  auto* i = n->find(name.substr(0, name.find(':')));
  if (!i) return kENODEV;
  const InterfaceAddress* a = nullptr;
  switch (command) {
    case SIOCGIFADDR: case SIOCGIFDSTADDR: case SIOCGIFNETMASK: case SIOCGIFBRDADDR:
      a = address_of(*n, *i, name);
      if (!a) return kEADDRNOTAVAIL;
  }
  memset(&r.ifr_ifru, 0, sizeof r.ifr_ifru);
  switch (command) {
    case SIOCGIFINDEX: r.ifr_ifindex = static_cast<int>(i->index); return {};
    case SIOCGIFFLAGS: r.ifr_flags = static_cast<short>(i->flags & 0xffff); return {};
    case SIOCGIFADDR: r.ifr_addr = inet_address(a->own()); return {};
    case SIOCGIFDSTADDR: r.ifr_addr = inet_address(a->address); return {};
    case SIOCGIFNETMASK: {
      const uint32_t mask = a->prefix ? htonl(~0u << (32 - std::min<unsigned>(a->prefix, 32))) : 0;
      r.ifr_netmask = inet_address({reinterpret_cast<const char*>(&mask), 4});
      return {};
    }
    case SIOCGIFBRDADDR: r.ifr_broadaddr = inet_address(a->broadcast); return {};
    case SIOCGIFMTU: r.ifr_mtu = static_cast<int>(i->mtu); return {};
    case SIOCGIFTXQLEN: r.ifr_qlen = static_cast<int>(i->tx_queue); return {};
    case SIOCGIFHWADDR:
      r.ifr_hwaddr.sa_family = i->type;
      memcpy(r.ifr_hwaddr.sa_data, i->address.data(), std::min(i->address.size(), sizeof r.ifr_hwaddr.sa_data));
      return {};
    case SIOCGIFMETRIC:
    case SIOCGIFMAP: return {};
    default: return kENOTTY;
  }
}

}  // namespace

Result<long> interface_ioctl(platform::Context& c, uint32_t command, uint64_t arg) {
  switch (command) {
    case SIOCGIFCONF: return list_addresses(c, arg);
    case SIOCSIFFLAGS: {
      struct ifreq r;
      TRY(c.copy_in(&r, arg, sizeof r));
      Ref<kernel::NetNamespace> ns = kernel::current_net();
      if (!kernel::Task::current().own_credentials().has_cap_in(ns->user_ns().get(), CAP_NET_ADMIN)) return kEPERM;
      if (std::string_view(r.ifr_name, strnlen(r.ifr_name, IFNAMSIZ)) != "lo") return ns->is_first() ? kEPERM : kENODEV;
      TRY(set_loopback(*ns, r.ifr_flags & IFF_UP));
      return 0L;
    }
    case SIOCSIFADDR: case SIOCSIFDSTADDR: case SIOCSIFBRDADDR: case SIOCSIFNETMASK: case SIOCSIFMETRIC:
    case SIOCSIFMTU: case SIOCSIFHWADDR: case SIOCSIFNAME: case SIOCSIFTXQLEN: case SIOCSIFMAP: case SIOCADDMULTI:
    case SIOCDELMULTI: case SIOCADDRT: case SIOCDELRT: case SIOCSARP: case SIOCDARP: return kEPERM;
    case SIOCGIFNAME: case SIOCGIFINDEX: case SIOCGIFFLAGS: case SIOCGIFADDR: case SIOCGIFDSTADDR: case SIOCGIFNETMASK:
    case SIOCGIFBRDADDR: case SIOCGIFMTU: case SIOCGIFTXQLEN: case SIOCGIFHWADDR: case SIOCGIFMETRIC: case SIOCGIFMAP: {
      struct ifreq r;
      TRY(c.copy_in(&r, arg, sizeof r));
      TRY(answer(command, r));
      TRY(c.copy_out(arg, &r, sizeof r));
      return 0L;
    }
    case SIOCETHTOOL: return kEOPNOTSUPP;
    default: return kENOTTY;
  }
}

}  // namespace sentry::net
