// SPDX-License-Identifier: Apache-2.0
// futex(2) and robust lists; the work is in kernel/futex.cc.
#include "sentry/kernel/futex.h"
#include "sentry/kernel/inspect.h"

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {
constexpr size_t kRobustHeadSize = 24;
}

Result<long> sys_futex(Task& task, uint64_t uaddr, int op, uint32_t val, uint64_t timeout_or_val2, uint64_t uaddr2,
                       uint32_t val3) {
  return kernel::futex_call(task, platform::Call{202, {uaddr, static_cast<uint64_t>(op), val, timeout_or_val2, uaddr2, val3}});
}

Result<long> sys_futex_waitv(Task& task, uint64_t waiters, unsigned n, unsigned flags, uint64_t timeout, int clock) {
  return kernel::futex_waitv(task, waiters, n, flags, timeout, clock);
}
Result<long> sys_futex_wake(Task& task, uint64_t uaddr, uint64_t mask, int n, unsigned flags) {
  return kernel::futex2_wake(task, uaddr, mask, n, flags);
}
Result<long> sys_futex_wait(Task& task, uint64_t uaddr, uint64_t value, uint64_t mask, unsigned flags, uint64_t timeout, int clock) {
  return kernel::futex2_wait(task, uaddr, value, mask, flags, timeout, clock);
}
Result<long> sys_futex_requeue(Task& task, uint64_t waiters, unsigned flags, int n_wake, int n_move) {
  return kernel::futex2_requeue(task, waiters, flags, n_wake, n_move);
}

Result<long> sys_set_robust_list(Task& task, uint64_t head, size_t len) {
  if (len != kRobustHeadSize) return kEINVAL;
  task.impl().robust_list = head;
  return 0L;
}

Result<long> sys_get_robust_list(Task& task, int pid, UserOut<uint64_t> head, UserOut<size_t> len) {
  RefOrNull<Task> t{Ref<Task>(task)};
  if (pid != 0) t = task.group().pid_namespace().find_task(pid);
  if (!t) return kESRCH;
  if (!kernel::may_inspect(&task, *t, false)) return kEPERM;
  TRY(len.copy_out(task.context(), kRobustHeadSize));
  TRY(head.copy_out(task.context(), t->impl().robust_list));
  return 0L;
}

}  // namespace sentry::syscalls
