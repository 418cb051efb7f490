// SPDX-License-Identifier: Apache-2.0
// pipe(2) and pipe2(2).
#include "sentry/fs/pipe/pipe.h"

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

Result<long> sys_pipe2(Task& task, UserOut<void> fds, int flags) {
  if (flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) return kEINVAL;  // Linux: O_NOTIFICATION_PIPE needs watch queues
  auto ends = TRY(fs::pipe::create(flags, task.credentials()));
  auto table = task.files();
  uint64_t limit = task.rlimit(RLIMIT_NOFILE);
  auto r = TRY(kernel::FdReservation::reserve(table, limit));
  auto w = TRY(kernel::FdReservation::reserve(table, limit));
  int pair[2] = {r.number(), w.number()};
  TRY(task.context().copy_out_now(fds.unchecked_address(), pair, sizeof pair));
  r.commit(ends.read, flags & O_CLOEXEC);
  w.commit(ends.write, flags & O_CLOEXEC);
  return 0L;
}

Result<long> sys_pipe(Task& task, UserOut<void> fds) { return sys_pipe2(task, fds, 0); }

}  // namespace sentry::syscalls
