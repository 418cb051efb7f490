// SPDX-License-Identifier: Apache-2.0
// Interfaces, addresses and routes as the sandbox's programs see them: netlink, SIOCGIF*, /proc/net and /sys/class/net tell of these.
#pragma once

#include <string>
#include <vector>

#include "sentry/kernel/net_namespace.h"

namespace sentry::net {

// Addresses are bytes in network order: 4, 16, or none.
struct Interface {
  uint32_t index = 0, flags = 0, mtu = 0, tx_queue = 0;
  uint16_t type = 0;      // ARPHRD_*
  uint8_t operstate = 0;  // IF_OPER_*
  std::string name, address, broadcast;
};
struct InterfaceAddress {
  uint32_t index = 0, flags = 0;
  uint8_t prefix = 0, scope = 0;
  std::string address, local, broadcast, label;
  // The interface's own; `address` is the peer's on a point-to-point link.
  const std::string& own() const { return local.empty() ? address : local; }
};
struct Route {
  uint8_t family = 0, prefix = 0, tos = 0, protocol = 0, scope = 0, type = 0, preference = 0;
  uint32_t table = 0, flags = 0, metric = 0, interface = 0;
  std::string destination, gateway, source;
};

// Held by: the one in force, and who reads it. Not changed once it is in force.
class Network : public RefCounted<Network> {
 public:
  std::vector<Interface> interfaces;
  std::vector<InterfaceAddress> addresses;
  std::vector<Route> routes;

  const Interface* find(uint32_t index) const;
  const Interface* find(std::string_view name) const;
  // The route that a packet to this address takes, of the tables local and main; null: none. Linux: fib_lookup.
  const Route* route_to(std::string_view destination) const;

 private:
  friend class RefCounted<Network>;
  ~Network() = default;
};

// The one in force where the calling task is; at first a loopback alone, which is down in a new namespace.
Ref<Network> network();
void set_network(Ref<Network> n);  // of the sandbox
// Whether packets pass over the loopback of this namespace.
bool loopback_is_up(kernel::NetNamespace& ns);
// What `ip link set lo up` and `ip address add 127.0.0.1/8 dev lo` do in a namespace other than the sandbox's. ENODEV, EPERM, EEXIST.
Result<void> set_loopback(kernel::NetNamespace& ns, bool up);
Result<void> add_loopback_address(kernel::NetNamespace& ns, std::string_view address, uint8_t prefix);

// /proc/net/dev, route, if_inet6, ipv6_route. Counters are not told: they are the host's.
std::string dev_text();
std::string route_text();
std::string if_inet6_text();
std::string ipv6_route_text();

}  // namespace sentry::net
