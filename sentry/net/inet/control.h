// SPDX-License-Identifier: Apache-2.0
// What goes beside a datagram: its way as the sender asks for it and as the receiver is told of it. man 7 ip; RFC 3542.
#pragma once

#include "sentry/net/inet/common.h"

namespace sentry::net::inet {

// Linux: struct iphdr, struct ipv6hdr.
struct Way {
  Endpoint from, to;
  int hops = 64, traffic_class = 0;
};

// The control messages of sendmsg(2) over what the socket's options say. way.to is the destination; way.from is changed when they name a
// source. EINVAL.
Result<void> read_control(std::span<const std::byte> control, const LocalEnd& local, int family, Way& way);
// Those of recvmsg(2) that the socket asked for.
std::vector<std::byte> control_of(const Way& way, const LocalEnd& local, int family);

}  // namespace sentry::net::inet
