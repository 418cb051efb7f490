// SPDX-License-Identifier: Apache-2.0
// sysfs as far as programs read it (cpu topology, no devices), and the cgroup2 of a container.
#pragma once

#include "sentry/kernel/kernel.h"

namespace sentry::fs::sys {
Ref<vfs::FileSystem> create(kernel::Kernel& kernel, const Ref<kernel::Container>& container);
// cgroup2 with the container's own limits, read-only.
Ref<vfs::FileSystem> create_cgroup(kernel::Kernel& kernel, const Ref<kernel::Container>& container);
}
