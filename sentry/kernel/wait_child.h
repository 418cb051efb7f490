// SPDX-License-Identifier: Apache-2.0
// Waiting for children. Linux: kernel/exit.c, wait_consider_task() and below.
#pragma once

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

struct WaitQuery {
  enum class Which : uint8_t { any, pid, group } which = Which::any;
  int pid = 0;                       // in the caller's namespace
  RefOrNull<ThreadGroup> process;    // instead of pid (P_PIDFD)
  RefOrNull<ProcessGroup> group;     // null: nobody matches
  int options = 0;                   // WEXITED WSTOPPED WCONTINUED WNOHANG WNOWAIT __WALL __WCLONE __WNOTHREAD
};
struct WaitResult {
  int pid = 0;                       // 0: WNOHANG and nothing yet
  uint32_t uid = 0;
  int code = 0;                      // CLD_*
  int wait_status = 0;               // as wait4 gives it
  CpuTimes cpu;
  uint64_t peak_resident = 0;
};
// ECHILD, kERESTARTSYS. Parks.
Result<WaitResult> wait_for_child(Task& t, const WaitQuery& q);
// The status member of siginfo: exit code or signal.
int siginfo_status(const WaitResult& r);

}  // namespace sentry::kernel
