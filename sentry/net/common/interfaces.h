// SPDX-License-Identifier: Apache-2.0
// ioctl(2) about network interfaces, of any socket. Answers come from network().
#pragma once

#include "sentry/kernel/task.h"

namespace sentry::net {

// SIOCGIF* of any socket; what changes an interface is EPERM. ENODEV: no such interface; ENOTTY: no such command.
Result<long> interface_ioctl(platform::Context& c, uint32_t command, uint64_t arg);

}  // namespace sentry::net
