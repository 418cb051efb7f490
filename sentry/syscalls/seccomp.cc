// SPDX-License-Identifier: Apache-2.0
// seccomp(2); the work is in kernel/seccomp.cc.
#include "sentry/kernel/seccomp.h"

#include <linux/seccomp.h>

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

bool known_action(uint32_t action) {
  switch (action) {
    case SECCOMP_RET_KILL_PROCESS:
    case SECCOMP_RET_KILL_THREAD:
    case SECCOMP_RET_TRAP:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_USER_NOTIF:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW: return true;
    default: return false;
  }
}

}  // namespace

Result<long> sys_seccomp(Task& task, unsigned operation, unsigned flags, uint64_t args) {
  switch (operation) {
    case SECCOMP_SET_MODE_STRICT:
      if (flags != 0 || args != 0) return kEINVAL;
      return kernel::seccomp_set_strict(task);
    case SECCOMP_SET_MODE_FILTER:
      return kernel::seccomp_set_filter(task, flags, args);
    case SECCOMP_GET_ACTION_AVAIL: {
      if (flags != 0) return kEINVAL;
      if (!known_action(TRY(UserIn<uint32_t>(args).copy_in(task.context())))) return kEOPNOTSUPP;
      return 0L;
    }
    case SECCOMP_GET_NOTIF_SIZES: {
      if (flags != 0) return kEINVAL;
      const seccomp_notif_sizes s{sizeof(seccomp_notif), sizeof(seccomp_notif_resp), sizeof(seccomp_data)};
      TRY(UserOut<seccomp_notif_sizes>(args).copy_out(task.context(), s));
      return 0L;
    }
    default:
      return kEINVAL;
  }
}

}  // namespace sentry::syscalls
