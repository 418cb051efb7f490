// SPDX-License-Identifier: Apache-2.0
// Where contents go that are too large for the sentry's heap, or that applications map: unnamed host files.
#pragma once

#include <memory>

#include "sentry/base.h"

namespace sentry::fs::common {

// Two descriptions of one empty host file. `ro` was opened read-only: what a stub gets for a read-only mapping must not become
// writable by mprotect.
struct BackingFds {
  Fd rw, ro;
  bool in_memory = false;  // tmpfs or memfd: reads and writes never wait for a disk
};

// Held by: file systems, their contents.
class BackingSource {
 public:
  virtual ~BackingSource() = default;
  virtual Result<BackingFds> create() = 0;  // parks. ENOSPC, EMFILE
};

// memfds of the sentry's own. The read-only description comes from /proc/self/fd, so this works only outside the jail: for
// tests.
std::shared_ptr<BackingSource> memfd_backing();

}  // namespace sentry::fs::common
