// SPDX-License-Identifier: Apache-2.0
// Linux: net/core/dev_ioctl.c, devinet_ioctl() of net/ipv4/devinet.c. man 7 netdevice.
#include "sentry/net/common/interfaces.h"

#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/sockios.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace sentry::net {
namespace {

sockaddr inet_address(uint32_t host_order) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(host_order);
  sockaddr a;
  static_assert(sizeof a == sizeof in);
  memcpy(&a, &in, sizeof a);
  return a;
}

// SIOCGIFCONF: one ifreq for each address, as far as they fit; without a buffer the size needed.
Result<long> list_addresses(platform::Context& c, uint64_t arg) {
  struct ifconf conf;
  TRY(c.copy_in(&conf, arg, sizeof conf));
  struct ifreq one{};
  memcpy(one.ifr_name, kLoopbackName, strlen(kLoopbackName) + 1);
  one.ifr_addr = inet_address(INADDR_LOOPBACK);
  auto buffer = reinterpret_cast<uint64_t>(conf.ifc_buf);
  if (buffer == 0) {
    conf.ifc_len = sizeof one;
  } else if (conf.ifc_len < static_cast<int>(sizeof one)) {
    conf.ifc_len = 0;
  } else {
    TRY(c.copy_out_now(buffer, &one, sizeof one));
    conf.ifc_len = sizeof one;
  }
  TRY(c.copy_out(arg, &conf, sizeof conf));
  return 0L;
}

Result<void> answer(uint32_t command, struct ifreq& r) {
  if (command == SIOCGIFNAME) {
    if (r.ifr_ifindex != kLoopbackIndex) return kENODEV;
    memset(r.ifr_name, 0, sizeof r.ifr_name);
    memcpy(r.ifr_name, kLoopbackName, strlen(kLoopbackName) + 1);
    return {};
  }
  r.ifr_name[IFNAMSIZ - 1] = 0;
  if (strcmp(r.ifr_name, kLoopbackName) != 0) return kENODEV;
  memset(&r.ifr_ifru, 0, sizeof r.ifr_ifru);
  switch (command) {
    case SIOCGIFINDEX: r.ifr_ifindex = kLoopbackIndex; return {};
    case SIOCGIFFLAGS: r.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING; return {};
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR: r.ifr_addr = inet_address(INADDR_LOOPBACK); return {};
    case SIOCGIFNETMASK: r.ifr_netmask = inet_address(0xff000000); return {};
    case SIOCGIFBRDADDR: r.ifr_broadaddr = inet_address(0); return {};
    case SIOCGIFMTU: r.ifr_mtu = kLoopbackMtu; return {};
    case SIOCGIFTXQLEN: r.ifr_qlen = 1000; return {};
    case SIOCGIFHWADDR: r.ifr_hwaddr.sa_family = ARPHRD_LOOPBACK; return {};
    case SIOCGIFMETRIC:
    case SIOCGIFMAP: return {};
    default: return kENOTTY;
  }
}

}  // namespace

Result<long> interface_ioctl(platform::Context& c, uint32_t command, uint64_t arg) {
  switch (command) {
    case SIOCGIFCONF: return list_addresses(c, arg);
    case SIOCSIFFLAGS: case SIOCSIFADDR: case SIOCSIFDSTADDR: case SIOCSIFBRDADDR: case SIOCSIFNETMASK: case SIOCSIFMETRIC:
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
