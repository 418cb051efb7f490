// SPDX-License-Identifier: Apache-2.0
// System V IPC; the work is in kernel/ipc_*.cc.
#include "sentry/kernel/ipc_msg.h"
#include "sentry/kernel/ipc_sem.h"
#include "sentry/kernel/ipc_shm.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/syscalls/timeout.h"

namespace sentry::syscalls {
namespace {
constexpr unsigned kMaxOps = 500;
}

Result<long> sys_shmget(Task& task, int key, uint64_t size, int flags) {
  return kernel::ipc_of(task)->shm().get(task, key, size, flags);
}
Result<long> sys_shmat(Task& task, int id, uint64_t addr, int flags) {
  return kernel::ipc_of(task)->shm().attach(task, id, addr, flags);
}
Result<long> sys_shmdt(Task& task, uint64_t addr) { return kernel::shm_detach(task, addr); }
Result<long> sys_shmctl(Task& task, int id, int command, uint64_t buf) {
  return kernel::ipc_of(task)->shm().control(task, id, command, buf);
}

Result<long> sys_semget(Task& task, int key, int count, int flags) {
  return kernel::ipc_of(task)->sem().get(task, key, count, flags);
}
Result<long> sys_semtimedop(Task& task, int id, UserIn<struct sembuf> ops, unsigned count, UserIn<struct timespec> timeout) {
  sched::Nanos deadline = sched::kNever;
  if (!timeout.is_null()) deadline = TRY(deadline_after(TRY(timeout.copy_in(task.context()))));
  if (count < 1 || id < 0) return kEINVAL;
  if (count > kMaxOps) return kE2BIG;
  return kernel::ipc_of(task)->sem().operate(task, id, TRY(ops.copy_in_array(task.context(), count)), deadline);
}
Result<long> sys_semop(Task& task, int id, UserIn<struct sembuf> ops, unsigned count) {
  return sys_semtimedop(task, id, ops, count, UserIn<struct timespec>());
}
Result<long> sys_semctl(Task& task, int id, int num, int command, uint64_t arg) {
  return kernel::ipc_of(task)->sem().control(task, id, num, command, arg);
}

Result<long> sys_msgget(Task& task, int key, int flags) { return kernel::ipc_of(task)->msg().get(task, key, flags); }
Result<long> sys_msgsnd(Task& task, int id, uint64_t buf, uint64_t size, int flags) {
  return kernel::ipc_of(task)->msg().send(task, id, buf, size, flags);
}
Result<long> sys_msgrcv(Task& task, int id, uint64_t buf, uint64_t size, int64_t type, int flags) {
  return kernel::ipc_of(task)->msg().receive(task, id, buf, size, type, flags);
}
Result<long> sys_msgctl(Task& task, int id, int command, uint64_t buf) {
  return kernel::ipc_of(task)->msg().control(task, id, command, buf);
}

}  // namespace sentry::syscalls
