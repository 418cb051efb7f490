// SPDX-License-Identifier: Apache-2.0
// Copies what is below a directory into a file system that will be mounted over it (the option tmpcopyup).
#pragma once

#include "sentry/vfs/walk.h"

namespace sentry::boot {

// Whether the file system's root has the permissions of the directory, or keeps its own.
enum class CopyMode : uint8_t { of_all, of_contents };
// Contents, owners, modes, symlinks and FIFOs; no device nodes, sockets or extended attributes. EFBIG: more than 100,000 names or 32
// levels. ENOSPC: `to` is too small. Parks.
Result<void> copy_up(const vfs::WalkContext& from, const vfs::Path& directory, const Ref<vfs::FileSystem>& to, CopyMode mode);

}  // namespace sentry::boot
