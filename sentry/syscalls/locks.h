// SPDX-License-Identifier: Apache-2.0
// The lock commands of fcntl(2).
#pragma once

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

Result<long> get_lock(Task& task, vfs::File& file, uint64_t flock_address, bool ofd);
Result<long> set_lock(Task& task, vfs::File& file, uint64_t flock_address, bool ofd, bool wait);

}  // namespace sentry::syscalls
