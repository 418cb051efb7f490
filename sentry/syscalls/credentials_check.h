// SPDX-License-Identifier: Apache-2.0
// Who may do what to another task.
#pragma once

#include "sentry/kernel/task.h"

namespace sentry::syscalls {

using kernel::FdTable;
using PidNamespaceRef = Ref<kernel::PidNamespace>;

// Linux: __ptrace_may_access() with real credentials: the target's ids are all the caller's and it is dumpable, or CAP_SYS_PTRACE.
inline bool may_inspect(kernel::Task& caller, kernel::Task& target) {
  if (&caller.group() == &target.group()) return true;
  const auth::Credentials& c = caller.own_credentials();
  if (c.has_cap(CAP_SYS_PTRACE)) return true;
  Ref<auth::Credentials> t = target.credentials();
  if (c.uid != t->uid || c.uid != t->euid || c.uid != t->suid || c.gid != t->gid || c.gid != t->egid || c.gid != t->sgid)
    return false;
  return t->dumpable && (t->cap_permitted & ~c.cap_permitted) == 0;
}

}  // namespace sentry::syscalls
