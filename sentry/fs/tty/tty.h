// SPDX-License-Identifier: Apache-2.0
// Terminals: devpts with its line discipline, /dev/ptmx, /dev/tty, and host terminals given to a container.
#pragma once

#include "sentry/kernel/kernel.h"

namespace sentry::fs::tty {

struct DevptsOptions {
  uint32_t mode = 0600, ptmx_mode = 0666, gid = 0;
};
Result<Ref<vfs::FileSystem>> create_devpts(const DevptsOptions& options);

// Opens /dev/ptmx (5:2), /dev/tty (5:0) or a tty by number; ENXIO. `where` tells which devpts instance is meant.
Result<Ref<vfs::File>> open_device(uint64_t rdev, const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                                   const Ref<auth::Credentials>& cred);

// A host terminal as a file of the container: termios and window size are passed through, job control is ours.
// session: becomes its controlling terminal when make_controlling is called (TIOCSCTTY).
Result<Ref<vfs::File>> from_host_terminal(Fd fd, const Ref<auth::Credentials>& cred);
// The host terminal behind `file` has this size now: SIGWINCH to its foreground. ENOTTY: no terminal.
Result<void> set_host_size(vfs::File& file, uint16_t rows, uint16_t cols);

}  // namespace sentry::fs::tty
