// SPDX-License-Identifier: Apache-2.0
// Starting the three programs of a sandbox, each in its own jail: gofer, sentry, zygote. Everything here happens in
// children; the calling process changes nothing of its own. It must have one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/mount.h"
#include "runtime/host/proc.h"
#include "runtime/host/spawn.h"

namespace runtime::host {

// A program opened for execution, and where it was found.
struct Program {
  base::Fd fd;
  std::string path;
};
// Looks beside the running program, in ../libexec/caisson, and, first, in $CAISSON_LIBEXEC.
base::ResultX<Program> find_program(const char* name);

// What all three share.
struct Launch {
  const Program& program;
  const Cgroups& cgroups;
  int null_fd;    // /dev/null: becomes 0 and 1
  int stderr_fd;  // becomes 2; -1: the program gets none of the three
};

struct GoferLaunch {
  Launch common;
  int socket;                    // to the sentry
  int log = -1;
  std::vector<Attach> attaches;  // [0] is the root file system
  std::string store;             // host directory of the upper files
};

// The user namespace of a sandbox: its ids 0 … count-1 are host ids first … first+count-1.
struct IdRange {
  uint32_t first_uid = 0, first_gid = 0, count = 1;
};

struct SentryLaunch {
  Launch common;
  int control;        // seqpacket socket, first record Boot
  IdRange ids;
  int network = -1;   // network namespace to join, or -1: a new one
};

struct ZygoteLaunch {
  Launch common;
  int socket;         // to the sentry
  int sentry_pidfd;   // whose namespaces it shares
  int oom_score_adj = 500;
};

// A process that is being set up. settle() waits until it runs its program, or says why it does not; only after that
// is it known to be well.
struct Starting {
  int pid = 0;
  Report report;
  base::ResultX<void> settle(const char* what);
};

// The returned process is a child of the caller: it outlives the call in any case, and it is for the caller to kill.
base::ResultX<Starting> start_gofer(const GoferLaunch& l);
base::ResultX<Starting> start_sentry(const SentryLaunch& l);
// Becomes a child of the sentry (pid 1 of their pid namespace). The caller has nothing to reap.
base::ResultX<Starting> start_zygote(const ZygoteLaunch& l);

// In a rootless run: this process enters a user namespace in which it is root, with only its own ids mapped.
base::ResultX<void> enter_own_user_namespace();

}  // namespace runtime::host
