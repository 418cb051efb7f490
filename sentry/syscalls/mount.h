// SPDX-License-Identifier: Apache-2.0
// Who may mount what: for mount(2) and for the calls that do it in steps (fsopen.cc, mount_tree.cc).
#pragma once

#include <string>

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

// CAP_SYS_ADMIN in the user namespace that owns the caller's mounts.
bool may_mount(Task& task);
// EPERM: not a type, or not an instance of it, for this user namespace. Linux: mount_capable() and the file system's own check.
Result<void> may_make(Task& task, std::string_view type);
// EPERM: a mount of this type as a whole would show what is hidden from this namespace. Linux: mount_too_revealing().
Result<void> may_show(Task& task, std::string_view type, uint64_t flags);
// ENODEV: no such type; EINVAL: bad options. Parks.
Result<Ref<vfs::FileSystem>> make_file_system(Task& task, const std::string& type, const std::string& data);

// MOUNT_ATTR_* as MS_* flags of a mount; those of access times apart.
uint64_t mount_flags_of(uint64_t attributes);
// EINVAL: no such way to keep access times.
Result<uint64_t> atime_flags_of(uint64_t attributes);

}  // namespace sentry::syscalls
