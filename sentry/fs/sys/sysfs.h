// SPDX-License-Identifier: Apache-2.0
// sysfs as far as programs read it (cpu topology, no devices), and the cgroup2 of a container.
#pragma once

#include <span>
#include <string>

#include "sentry/kernel/kernel.h"

namespace sentry::fs::sys {
// A network interface; addresses are bytes. The rooms that know are beside this one.
struct NetDevice {
  uint32_t index = 1, flags = 9, mtu = 65536, tx_queue = 1000;
  uint16_t type = 772;
  uint8_t operstate = 0;
  std::string name = "lo", address = std::string(6, '\0'), broadcast = std::string(6, '\0');
};
Ref<vfs::FileSystem> create(kernel::Kernel& kernel, const Ref<kernel::Container>& container, std::span<const NetDevice> devices);
// cgroup2 with the container's own limits, read-only.
Ref<vfs::FileSystem> create_cgroup(kernel::Kernel& kernel, const Ref<kernel::Container>& container);
}
