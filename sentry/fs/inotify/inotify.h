// SPDX-License-Identifier: Apache-2.0
// inotify(7): a descriptor that tells what happens to files. Linux: fs/notify/inotify/.
#pragma once

#include "sentry/kernel/task.h"
#include "sentry/vfs/notify.h"

namespace sentry::fs::inotify {

// Limits, per user. Linux: /proc/sys/fs/inotify/.
inline constexpr uint32_t kMaxInstances = 128;
inline constexpr uint32_t kMaxWatches = 65536;
inline constexpr uint32_t kMaxQueued = 16384;

// flags: O_NONBLOCK. EMFILE.
Result<Ref<vfs::File>> create(int flags, const Ref<auth::Credentials>& cred);
bool is_instance(vfs::File& file);
// The number of the watch. EINVAL: no instance; EEXIST: IN_MASK_CREATE; ENOSPC.
Result<int> add(vfs::File& instance, const vfs::Path& path, uint32_t mask);
Result<void> remove(vfs::File& instance, int wd);  // EINVAL

}  // namespace sentry::fs::inotify
