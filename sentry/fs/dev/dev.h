// SPDX-License-Identifier: Apache-2.0
// The usual character devices (null, zero, full, random, urandom, tty, console, ptmx by fs/tty), by device number.
#pragma once

#include "sentry/vfs/file.h"

namespace sentry::fs::dev {

// Opens a character device of the sandbox; ENXIO for a number that has no driver.
Result<Ref<vfs::File>> open(uint64_t rdev, const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                            const Ref<auth::Credentials>& cred);
struct Node {
  const char* name;
  uint32_t mode;
  uint64_t rdev;
};
// What a container's /dev holds (OCI runtime spec, "Default Devices").
std::span<const Node> default_nodes();

}  // namespace sentry::fs::dev
