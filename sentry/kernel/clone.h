// SPDX-License-Identifier: Apache-2.0
// fork, vfork, clone: making tasks. Linux: kernel/fork.c.
#pragma once

#include "sentry/kernel/task.h"
#include "sentry/mm/user.h"

namespace sentry::kernel {

struct CloneArgs {
  uint64_t flags = 0;       // CLONE_*, without the exit signal
  int exit_signal = 0;      // 0: none
  uint64_t stack = 0;       // the child's stack pointer; 0: the parent's
  uint64_t tls = 0;
  mm::UserOut<int> parent_tid, child_tid, pidfd;
  std::vector<int> set_tid;  // the child's numbers, from its own PID namespace outwards; those not said are chosen
};

// Makes the child and lets it run; answers its number in the caller's namespace. With CLONE_VFORK parks until the child has
// exec'ed or ended. Preconditions: t is the current task.
Result<long> clone_task(Task& t, const CloneArgs& args);

// unshare(2): CLONE_FILES, CLONE_FS, CLONE_SYSVSEM, CLONE_NEW* and what is trivially true.
Result<void> unshare(Task& t, uint64_t flags);

}  // namespace sentry::kernel
