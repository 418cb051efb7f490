// SPDX-License-Identifier: Apache-2.0
// eventfd. Linux: fs/eventfd.c, man 2 eventfd.
#pragma once

#include "sentry/vfs/file.h"

namespace sentry::fs::eventfd {
// flags: O_NONBLOCK. semaphore: reads take 1 (EFD_SEMAPHORE).
Ref<vfs::File> create(uint64_t initial, int flags, bool semaphore, const Ref<auth::Credentials>& cred);
}
