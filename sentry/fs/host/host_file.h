// SPDX-License-Identifier: Apache-2.0
// Host descriptors given to a container: stdio (pipes, files, sockets, /dev/null) and preserved descriptors. Terminals: fs/tty.
#pragma once

#include "sentry/vfs/file.h"

namespace sentry::fs::host {

// Reads and writes pass through; pipes, sockets and character devices are made non-blocking or polled so that a worker never
// blocks; regular files go by position. The container cannot reopen or map it for execution.
Result<Ref<vfs::File>> from_host_fd(Fd fd, const Ref<auth::Credentials>& cred);

}  // namespace sentry::fs::host
