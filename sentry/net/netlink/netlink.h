// SPDX-License-Identifier: Apache-2.0
// AF_NETLINK sockets: NETLINK_ROUTE, for reading. man 7 netlink, man 7 rtnetlink.
#pragma once

#include "sentry/net/common/sock.h"

namespace sentry::net::netlink {

// EPROTONOSUPPORT for every protocol but NETLINK_ROUTE; ESOCKTNOSUPPORT.
Result<Ref<Sock>> create(int type, int protocol);

// A message from the kernel into the socket's queue; lost when that is full. Preconditions: an AF_NETLINK socket.
void deliver(Sock& sock, std::span<const std::byte> bytes);

}  // namespace sentry::net::netlink
