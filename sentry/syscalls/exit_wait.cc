// SPDX-License-Identifier: Apache-2.0
// exit(2), exit_group(2), wait4(2), waitid(2).
#include <sys/wait.h>

#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/wait_child.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

using kernel::WaitQuery;
using kernel::WaitResult;

struct rusage usage_of(const WaitResult& r) {
  const kernel::CpuTimes& cpu = r.cpu;
  struct rusage u{};
  u.ru_utime = {static_cast<time_t>(cpu.user_ns / 1000000000), static_cast<suseconds_t>(cpu.user_ns % 1000000000 / 1000)};
  u.ru_stime = {static_cast<time_t>(cpu.system_ns / 1000000000),
                static_cast<suseconds_t>(cpu.system_ns % 1000000000 / 1000)};
  u.ru_maxrss = static_cast<long>(r.peak_resident / 1024);
  return u;
}

}  // namespace

Result<long> sys_exit(Task& task, int code) {
  task.exit_thread(code);
  task.impl().keep_registers = true;
  return 0L;
}

Result<long> sys_exit_group(Task& task, int code) {
  task.exit_group(kernel::ExitStatus::exited(code));
  task.impl().keep_registers = true;
  return 0L;
}

Result<long> sys_wait4(Task& task, int pid, UserOut<int> status, int options, UserOut<struct rusage> usage) {
  if (options & ~(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL)) return kEINVAL;
  if (pid == INT32_MIN) return kESRCH;
  WaitQuery q;
  q.options = options | WEXITED;
  if (pid > 0) {
    q.which = WaitQuery::Which::pid;
    q.pid = pid;
  } else if (pid != -1) {
    q.which = WaitQuery::Which::group;
    if (pid == 0) q.group = task.group().process_group();
    else q.group = task.group().pid_namespace().find_process_group(-pid);
  }
  WaitResult r = TRY(kernel::wait_for_child(task, q));
  if (r.pid == 0) return 0L;
  if (!status.is_null()) TRY(status.copy_out(task.context(), r.wait_status));
  if (!usage.is_null()) TRY(usage.copy_out(task.context(), usage_of(r)));
  return long{r.pid};
}

Result<long> sys_waitid(Task& task, int type, int id, UserOut<void> info, int options, UserOut<struct rusage> usage) {
  if (options & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL)) return kEINVAL;
  if (!(options & (WEXITED | WSTOPPED | WCONTINUED))) return kEINVAL;
  WaitQuery q;
  q.options = options;
  switch (type) {
    case P_ALL:
      break;
    case P_PID:
      if (id <= 0) return kEINVAL;
      q.which = WaitQuery::Which::pid;
      q.pid = id;
      break;
    case P_PGID:
      if (id < 0) return kEINVAL;
      q.which = WaitQuery::Which::group;
      if (id == 0) q.group = task.group().process_group();
      else q.group = task.group().pid_namespace().find_process_group(id);
      break;
    case P_PIDFD: {
      if (id < 0) return kEINVAL;
      Ref<vfs::File> f = TRY(task.file(id));
      q.which = WaitQuery::Which::pid;
      q.process = TRY(kernel::process_of_pidfd(*f));
      if ((f->flags() & O_NONBLOCK) && !(options & WNOHANG)) {
        q.options |= WNOHANG;
        WaitResult now = TRY(kernel::wait_for_child(task, q));
        if (now.pid == 0) return kEAGAIN;
        q.options &= ~WNOHANG;
        if (!info.is_null()) {
          kernel::SignalInfo si = kernel::SignalInfo::user(SIGCHLD, now.code, now.pid, auth::shown_uid(task.own_credentials().user_ns.get(), now.uid));
          si.si.si_status = kernel::siginfo_status(now);
          TRY(info.copy_out(task.context(), si.si));
        }
        return 0L;
      }
      break;
    }
    default:
      return kEINVAL;
  }
  WaitResult r = TRY(kernel::wait_for_child(task, q));
  if (!info.is_null()) {
    // Nothing to report: all zero. Linux writes the first fields only; what lies behind them is zero here.
    kernel::SignalInfo si;
    if (r.pid != 0) {
      si = kernel::SignalInfo::user(SIGCHLD, r.code, r.pid, auth::shown_uid(task.own_credentials().user_ns.get(), r.uid));
      si.si.si_status = kernel::siginfo_status(r);
    }
    TRY(info.copy_out(task.context(), si.si));
  }
  if (!usage.is_null() && r.pid != 0) TRY(usage.copy_out(task.context(), usage_of(r)));
  return 0L;
}

}  // namespace sentry::syscalls
