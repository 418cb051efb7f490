// SPDX-License-Identifier: Apache-2.0
// ptrace(2); the work is in kernel/trace*.cc.
#include <sys/ptrace.h>

#include "sentry/kernel/trace.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

Result<long> sys_ptrace(Task& task, long request, int pid, uint64_t addr, uint64_t data) {
  if (request == PTRACE_TRACEME) return kernel::trace_me(task);
  RefOrNull<Task> target = task.group().pid_namespace().find_task(pid);
  if (!target) return kESRCH;
  switch (request) {
    case PTRACE_ATTACH: return kernel::trace_attach(task, *target, false, 0);
    case PTRACE_SEIZE:
      if (addr != 0) return kEIO;
      return kernel::trace_attach(task, *target, true, data);
    default: return kernel::trace_request(task, *target, request, addr, data);
  }
}

}  // namespace sentry::syscalls
