// SPDX-License-Identifier: Apache-2.0
// Mount namespaces of our own processes: an empty read-only root for the sentry, and the gofer's tree of exactly the
// directories that it serves.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace runtime::host {

// One tree that the gofer serves, mounted at "/<its index>".
struct Attach {
  std::string source;       // host path: a directory, or (not for 0) a file
  bool read_only = false;
  bool recursive = true;    // mounts below source come along
  bool no_exec = false;
  bool slave = false;       // what the host mounts and unmounts below source later is seen here
  // Take away pseudo file systems (proc, sysfs, cgroup, devices) that came along: for a root that is the host's own.
  bool drop_pseudo = false;
};

// All of these act on the calling process, which must be alone in a new mount namespace.

// Root becomes an empty tmpfs; nothing of the host is reachable.
base::ResultX<void> enter_empty_root();
// Root becomes a tmpfs with 0/, 1/, … (the attaches), store/ (a bind of that host directory) and shm/ (a tmpfs).
// owner: host ids that store and shm belong to.
struct Owner {
  uint32_t uid = 0, gid = 0;
};
base::ResultX<void> enter_gofer_root(const std::vector<Attach>& attaches, const std::string& store, Owner owner);

}  // namespace runtime::host
