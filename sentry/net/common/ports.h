// SPDX-License-Identifier: Apache-2.0
// Who may take which port.
#pragma once

#include <atomic>
#include <cstdint>

#include "sentry/kernel/net_namespace.h"

namespace sentry::net {

// net.ipv4.ip_unprivileged_port_start of the sandbox.
extern std::atomic<int> first_unprivileged_port;
// EACCES: below that, without CAP_NET_BIND_SERVICE. Port 0 is nobody's.
Result<void> may_bind_port(uint16_t port, const kernel::NetNamespace& net);

}  // namespace sentry::net
