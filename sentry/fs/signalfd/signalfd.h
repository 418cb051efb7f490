// SPDX-License-Identifier: Apache-2.0
// signalfd. Linux: fs/signalfd.c, man 2 signalfd.
#pragma once

#include "sentry/kernel/task.h"

namespace sentry::fs::signalfd {
Ref<vfs::File> create(kernel::Task& owner, kernel::SignalSet mask, int flags);
// Changes the mask of an existing one; EINVAL when the file is none.
Result<void> set_mask(vfs::File& file, kernel::SignalSet mask);
}
