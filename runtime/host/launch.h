// SPDX-License-Identifier: Apache-2.0
// Starting the three programs of a sandbox, each in its own jail: gofer, sentry, zygote. Everything here happens in
// children; the calling process changes nothing of its own. It must have one thread.
#pragma once

#include <cstdint>
#include <optional>
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

// How the host schedules a process; 0 is what it has anyway.
struct Scheduling {
  int policy = 0, nice = 0;  // SCHED_OTHER, SCHED_BATCH, SCHED_IDLE
  uint32_t io_priority = 0;  // as ioprio_set(2) takes it
};

// Ids of a user namespace: count ids from `inside` on are those from `outside` on.
struct IdMap {
  uint32_t inside = 0, outside = 0, count = 0;
};

struct GoferLaunch {
  Launch common;
  int socket;                    // to the sentry
  int log = -1;
  std::vector<Attach> attaches;  // [0] is the root file system
  std::string store;             // host directory of the upper files
  uint32_t io_priority = 0;      // it is who reads and writes for the container
  std::vector<IdMap> uids, gids; // of a user namespace of its own, if not empty: the container's ids are others on the host
};

// The user namespace of a sandbox: its ids 0 … count-1 are host ids first … first+count-1.
struct IdRange {
  uint32_t first_uid = 0, first_gid = 0, count = 1;
};

// What is added to the host's clocks.
struct ClockOffsets {
  int64_t monotonic_s = 0;
  uint32_t monotonic_ns = 0;
  int64_t boottime_s = 0;
  uint32_t boottime_ns = 0;
};

// The network namespace of a sentry. empty: a new one in which nothing is up, for a sentry that makes no sockets there.
enum class Net { empty, fresh, join, keep };

struct SentryLaunch {
  Launch common;
  int control;        // seqpacket socket, first record Boot
  IdRange ids;
  Net net = Net::empty;
  int network = -1;        // the one to join
  bool adjust = false;     // nobody else's: let its sysctls allow what the sandbox's own kernel then decides (see adjust_network)
  std::vector<std::pair<std::string, std::string>> sysctls;  // of that network, which only its own sockets obey
  std::optional<ClockOffsets> clocks;  // none: they start near 0
};

struct ZygoteLaunch {
  Launch common;
  int socket;         // to the sentry
  int sentry_pidfd;   // whose namespaces it shares
  int oom_score_adj = 500;
  Scheduling scheduling;
  bool own_network = false;  // not the sentry's: it gets an empty one
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

// In a rootless run: this process enters a user namespace in which it is root. With empty maps its own ids alone are mapped; others
// are for newuidmap and newgidmap to write, and must have the caller's own ids as 0.
base::ResultX<void> enter_own_user_namespace(const std::vector<IdMap>& uids, const std::vector<IdMap>& gids);
// Whether this process is in a user namespace that does not have all ids of the host: then it is no root of the host's, whatever it is called.
bool in_user_namespace();

}  // namespace runtime::host
