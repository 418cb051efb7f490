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

// A host terminal as a terminal of the container: the line is the host's, termios and job control are ours. It has the next number
// in `devpts` (which create_devpts made) and is opened by it, until nobody has it open and no session is controlled by it.
struct HostTerminal {
  std::string name;
  Ref<kernel::TtyLink> terminal;
};
Result<HostTerminal> add_host_terminal(vfs::FileSystem& devpts, Fd fd, const auth::Credentials& owner);
// It has this size now: SIGWINCH to its foreground.
void set_host_size(kernel::TtyLink& host_terminal, uint16_t rows, uint16_t cols);

}  // namespace sentry::fs::tty
