// SPDX-License-Identifier: Apache-2.0
// prctl(2), arch_prctl(2).
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <string.h>

#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

void change(Task& task, auto&& f) {
  Ref<auth::Credentials> c = task.own_credentials().copy();
  f(*c);
  task.set_credentials(std::move(c));
}

bool valid_cap(uint64_t cap) { return cap <= static_cast<uint64_t>(auth::kLastCap); }

// Linux: cap_task_prctl(), PR_CAP_AMBIENT.
Result<long> ambient(Task& task, uint64_t op, uint64_t cap, uint64_t a4, uint64_t a5) {
  const auth::Credentials& c = task.own_credentials();
  if (op == PR_CAP_AMBIENT_CLEAR_ALL) {
    if (cap | a4 | a5) return kEINVAL;
    change(task, [](auth::Credentials& n) { n.cap_ambient = 0; });
    return 0L;
  }
  if (!valid_cap(cap) || (a4 | a5)) return kEINVAL;
  const uint64_t bit = 1ull << cap;
  switch (op) {
    case PR_CAP_AMBIENT_IS_SET:
      return long{(c.cap_ambient & bit) != 0};
    case PR_CAP_AMBIENT_RAISE:
      if (!(c.cap_permitted & bit) || !(c.cap_inheritable & bit) || (c.securebits & SECBIT_NO_CAP_AMBIENT_RAISE))
        return kEPERM;
      change(task, [&](auth::Credentials& n) { n.cap_ambient |= bit; });
      return 0L;
    case PR_CAP_AMBIENT_LOWER:
      change(task, [&](auth::Credentials& n) { n.cap_ambient &= ~bit; });
      return 0L;
    default:
      return kEINVAL;
  }
}

Result<long> set_securebits(Task& task, uint64_t bits) {
  const auth::Credentials& c = task.own_credentials();
  const uint32_t old = c.securebits, next = static_cast<uint32_t>(bits);
  if ((((old & SECURE_ALL_LOCKS) >> 1) & (old ^ next)) || (old & SECURE_ALL_LOCKS & ~next) ||
      (bits & ~static_cast<uint64_t>(SECURE_ALL_LOCKS | SECURE_ALL_BITS)) || !c.has_own_cap(CAP_SETPCAP))
    return kEPERM;
  change(task, [&](auth::Credentials& n) { n.securebits = next; });
  return 0L;
}

Result<long> set_keep_caps(Task& task, uint64_t on) {
  const uint32_t old = task.own_credentials().securebits;
  if (on > 1) return kEINVAL;
  if (old & SECBIT_KEEP_CAPS_LOCKED) return kEPERM;
  change(task, [&](auth::Credentials& n) {
    n.securebits = on ? old | SECBIT_KEEP_CAPS : old & ~static_cast<uint32_t>(SECBIT_KEEP_CAPS);
  });
  return 0L;
}

Result<long> out_int(Task& task, uint64_t addr, int v) {
  TRY(UserOut<int>(addr).copy_out(task.context(), v));
  return 0L;
}

}  // namespace

Result<long> sys_prctl(Task& task, int option, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) {
  const auth::Credentials& c = task.own_credentials();
  Task::Impl& i = task.impl();
  switch (option) {
    case PR_SET_PDEATHSIG:
      if (a2 > static_cast<uint64_t>(kernel::kSignals)) return kEINVAL;
      i.pdeath_signal = static_cast<int>(a2);
      return 0L;
    case PR_GET_PDEATHSIG:
      return out_int(task, a2, i.pdeath_signal.load());
    case PR_GET_DUMPABLE:
      return long{kernel::is_dumpable(task)};
    case PR_SET_DUMPABLE:
      if (a2 > 1) return kEINVAL;
      kernel::set_dumpable(task, a2 == 1);
      return 0L;
    case PR_GET_KEEPCAPS:
      return long{(c.securebits & SECBIT_KEEP_CAPS) != 0};
    case PR_SET_KEEPCAPS:
      return set_keep_caps(task, a2);
    case PR_SET_NAME: {
      char name[16] = {};
      size_t n = TRY(task.context().copy_in_some(name, a2, sizeof name - 1));
      if (n < sizeof name - 1 && !memchr(name, 0, n)) return kEFAULT;  // no end before what cannot be read
      task.set_name(std::string_view(name, strnlen(name, n)));
      return 0L;
    }
    case PR_GET_NAME: {
      char name[16] = {};
      std::string s = task.name();
      memcpy(name, s.data(), std::min(s.size(), sizeof name - 1));
      TRY(UserOut<char>(a2).copy_bytes_out(task.context(), name, sizeof name));
      return 0L;
    }
    case PR_CAPBSET_READ:
      if (!valid_cap(a2)) return kEINVAL;
      return static_cast<long>(c.cap_bounding >> a2 & 1);
    case PR_CAPBSET_DROP:
      if (!c.has_own_cap(CAP_SETPCAP)) return kEPERM;
      if (!valid_cap(a2)) return kEINVAL;
      change(task, [&](auth::Credentials& n) { n.cap_bounding &= ~(1ull << a2); });
      return 0L;
    case PR_GET_SECUREBITS:
      return long{c.securebits};
    case PR_SET_SECUREBITS:
      return set_securebits(task, a2);
    case PR_CAP_AMBIENT:
      return ambient(task, a2, a3, a4, a5);
    case PR_GET_SECCOMP:
      return long{i.seccomp_mode.load()};
    case PR_SET_SECCOMP:
      if (a2 == SECCOMP_MODE_STRICT) return kernel::seccomp_set_strict(task);
      if (a2 == SECCOMP_MODE_FILTER) return kernel::seccomp_set_filter(task, 0, a3);
      return kEINVAL;
    case PR_GET_TSC:
      return out_int(task, a2, PR_TSC_ENABLE);
    case PR_GET_TIMERSLACK:
      return static_cast<long>(i.timer_slack_ns.load());
    case PR_SET_TIMERSLACK:
      i.timer_slack_ns = a2 ? a2 : 50000;
      return 0L;
    case PR_SET_CHILD_SUBREAPER: {
      MutexLock l(kernel::task_set_lock);
      task.group().impl().subreaper = a2 != 0;
      return 0L;
    }
    case PR_GET_CHILD_SUBREAPER: {
      bool on;
      {
        MutexLock l(kernel::task_set_lock);
        on = task.group().impl().subreaper;
      }
      return out_int(task, a2, on);
    }
    case PR_SET_NO_NEW_PRIVS:
      if (a2 != 1 || a3 || a4 || a5) return kEINVAL;
      change(task, [](auth::Credentials& n) { n.no_new_privs = true; });
      return 0L;
    case PR_GET_NO_NEW_PRIVS:
      if (a2 || a3 || a4 || a5) return kEINVAL;
      return long{c.no_new_privs};
    case PR_GET_THP_DISABLE:
      if (a2 || a3 || a4 || a5) return kEINVAL;
      return 0L;
    case PR_MCE_KILL_GET:
      if (a2 || a3 || a4 || a5) return kEINVAL;
      return long{PR_MCE_KILL_DEFAULT};
    case 0x59616d61:  // PR_SET_PTRACER: who else may trace it, which nothing keeps from tracing it (Yama's scope 0)
      if (a2 != 0 && a2 != ~0ul && !task.group().pid_namespace().find_task(static_cast<int>(a2))) return kEINVAL;
      return 0L;
    case PR_SET_MM:
      return c.has_cap(CAP_SYS_RESOURCE) ? kEINVAL : kEPERM;
    default:
      // Tracers' names, names of anonymous memory, speculation control: as a kernel built without them.
      return kEINVAL;
  }
}

// Differs from Linux: GS is the sandbox's own; ARCH_SET_GS answers EINVAL.
Result<long> sys_arch_prctl(Task& task, int code, uint64_t addr) {
  enum { kSetGs = 0x1001, kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004 };
  switch (code) {
    case kSetFs:
      if (addr >= platform::kAppLimit) return kEPERM;
      task.context().set_fs_base(addr);
      return 0L;
    case kGetFs:
      TRY(UserOut<uint64_t>(addr).copy_out(task.context(), task.context().fs_base()));
      return 0L;
    case kGetGs:
      TRY(UserOut<uint64_t>(addr).copy_out(task.context(), uint64_t{0}));
      return 0L;
    default:
      return kEINVAL;
  }
}

}  // namespace sentry::syscalls
