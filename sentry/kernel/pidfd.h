// SPDX-License-Identifier: Apache-2.0
// Descriptors of processes. Linux: kernel/pid.c, pidfs.
#pragma once

#include "sentry/kernel/task.h"

namespace sentry::kernel {

// A description for the process; flags: O_NONBLOCK.
Ref<vfs::File> make_pidfd(Ref<ThreadGroup> group, int flags, Ref<auth::Credentials> cred);
// The process of a pidfd. EBADF for other files.
Result<Ref<ThreadGroup>> process_of_pidfd(vfs::File& file);

}  // namespace sentry::kernel
