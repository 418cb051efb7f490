// SPDX-License-Identifier: Apache-2.0
// procfs of one PID namespace. Linux: man 5 proc.
#pragma once

#include "sentry/kernel/kernel.h"

namespace sentry::fs::proc {
Ref<vfs::FileSystem> create(kernel::Kernel& kernel, const Ref<kernel::Container>& container);
}
