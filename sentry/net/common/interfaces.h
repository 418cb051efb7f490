// SPDX-License-Identifier: Apache-2.0
// The network interfaces of a sandbox without a network: loopback alone.
#pragma once

#include "sentry/kernel/task.h"

namespace sentry::net {

inline constexpr int kLoopbackIndex = 1;
inline constexpr int kLoopbackMtu = 65536;
inline constexpr const char* kLoopbackName = "lo";

// SIOCGIF* of any socket; what changes an interface is EPERM. ENODEV: no such interface; ENOTTY: no such command.
Result<long> interface_ioctl(platform::Context& c, uint32_t command, uint64_t arg);

}  // namespace sentry::net
