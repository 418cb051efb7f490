// SPDX-License-Identifier: Apache-2.0
// Resource limits and usage. Linux: kernel/sys.c.
#include "sentry/kernel/internal.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

constexpr uint64_t kMaxOpenFiles = 1024 * 1024;  // fs.nr_open

Result<void> set_limit(Task& task, kernel::ThreadGroup& g, unsigned resource, const rlimit64& v) {
  if (v.rlim_cur > v.rlim_max) return kEINVAL;
  if (resource == RLIMIT_NOFILE && v.rlim_max > kMaxOpenFiles) return kEPERM;
  rlimit64 old = g.get_rlimit(static_cast<int>(resource));
  if (v.rlim_max > old.rlim_max && !task.own_credentials().has_cap(CAP_SYS_RESOURCE)) return kEPERM;
  g.set_rlimit(static_cast<int>(resource), v);
  return {};
}

// Linux: check_prlimit_permission().
bool may_limit(Task& task, Task& target) {
  if (&task.group() == &target.group()) return true;
  const auth::Credentials& c = task.own_credentials();
  Ref<auth::Credentials> t = target.credentials();
  if (c.has_cap_in(t->user_ns.get(), CAP_SYS_RESOURCE)) return true;
  return c.uid == t->euid && c.uid == t->suid && c.uid == t->uid && c.gid == t->egid && c.gid == t->sgid && c.gid == t->gid;
}

}  // namespace

Result<long> sys_getrlimit(Task& task, unsigned resource, UserOut<struct rlimit64> limit) {
  if (resource >= RLIM_NLIMITS) return kEINVAL;
  TRY(limit.copy_out(task.context(), task.group().get_rlimit(static_cast<int>(resource))));
  return 0L;
}

Result<long> sys_setrlimit(Task& task, unsigned resource, UserIn<struct rlimit64> limit) {
  rlimit64 v = TRY(limit.copy_in(task.context()));
  if (resource >= RLIM_NLIMITS) return kEINVAL;
  TRY(set_limit(task, task.group(), resource, v));
  return 0L;
}

Result<long> sys_prlimit64(Task& task, int pid, unsigned resource, UserIn<struct rlimit64> value,
                           UserOut<struct rlimit64> old) {
  rlimit64 v{};
  if (!value.is_null()) v = TRY(value.copy_in(task.context()));
  if (resource >= RLIM_NLIMITS) return kEINVAL;
  RefOrNull<Task> t{Ref<Task>(task)};
  if (pid != 0) t = task.group().pid_namespace().find_task(pid);
  if (!t) return kESRCH;
  if (!may_limit(task, *t)) return kEPERM;
  rlimit64 before = t->group().get_rlimit(static_cast<int>(resource));
  if (!value.is_null()) TRY(set_limit(task, t->group(), resource, v));
  if (!old.is_null()) TRY(old.copy_out(task.context(), before));
  return 0L;
}

Result<long> sys_getrusage(Task& task, int who, UserOut<struct rusage> usage) {
  kernel::CpuTimes cpu;
  struct rusage u{};
  switch (who) {
    case RUSAGE_SELF:
      cpu = kernel::cpu_times(task.group());
      u.ru_maxrss = static_cast<long>(kernel::peak_resident(task.group()) / 1024);
      break;
    case RUSAGE_THREAD:
      cpu = kernel::cpu_times(task);
      u.ru_maxrss = static_cast<long>(kernel::peak_resident(task.group()) / 1024);
      break;
    case RUSAGE_CHILDREN: {
      MutexLock l(kernel::task_set_lock);
      cpu = task.group().impl().children_cpu;
      u.ru_maxrss = static_cast<long>(task.group().impl().children_peak / 1024);
      break;
    }
    default:
      return kEINVAL;
  }
  u.ru_utime = {static_cast<time_t>(cpu.user_ns / 1000000000), static_cast<suseconds_t>(cpu.user_ns % 1000000000 / 1000)};
  u.ru_stime = {static_cast<time_t>(cpu.system_ns / 1000000000),
                static_cast<suseconds_t>(cpu.system_ns % 1000000000 / 1000)};
  TRY(usage.copy_out(task.context(), u));
  return 0L;
}

}  // namespace sentry::syscalls
