// SPDX-License-Identifier: Apache-2.0
// Signals: sending (kill family), actions, masks, waiting. Linux: kernel/signal.c.
#include <sched.h>

#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

using kernel::SignalInfo;
using kernel::SignalSet;
using kernel::ThreadGroup;

bool valid(int sig) { return sig >= 0 && sig <= kernel::kSignals; }

// Linux: check_kill_permission().
Result<void> may_signal(Task& task, ThreadGroup& g, int sig) {
  if (&g == &task.group()) return {};
  RefOrNull<Task> leader = g.leader();
  if (!leader) return kESRCH;
  const auth::Credentials& c = task.own_credentials();
  Ref<auth::Credentials> t = leader->credentials();
  if (c.euid == t->suid || c.euid == t->uid || c.uid == t->suid || c.uid == t->uid || c.has_cap_in(t->user_ns.get(), CAP_KILL)) return {};
  if (sig == SIGCONT && g.session() == task.group().session()) return {};
  return kEPERM;
}

// As the target sees the sender.
SignalInfo from_user(Task& task, ThreadGroup& target, int sig, int code) {
  uint32_t uid = task.own_credentials().uid;
  if (RefOrNull<Task> leader = target.leader()) uid = auth::shown_uid(leader->credentials()->user_ns.get(), uid);
  return SignalInfo::user(sig, code, task.group().pid_in(target.pid_namespace()), uid);
}
bool from_above(Task& task, ThreadGroup& target) { return &task.group().pid_namespace() != &target.pid_namespace(); }

Result<void> kill_one(Task& task, ThreadGroup& g, int sig) {
  TRY(may_signal(task, g, sig));
  if (sig) kernel::send_to_group(g, from_user(task, g, sig, SI_USER), from_above(task, g));
  return {};
}

// Everybody of the list who may be: EPERM if nobody may, ESRCH if there is nobody.
Result<long> kill_many(Task& task, const std::vector<Ref<ThreadGroup>>& list, int sig) {
  bool any = false, done = false;
  Errno error = kESRCH;
  for (const Ref<ThreadGroup>& g : list) {
    any = true;
    Result<void> r = kill_one(task, *g, sig);
    if (r.ok()) done = true;
    else error = r.error();
  }
  if (done) return 0L;
  return any ? error : kESRCH;
}

RefOrNull<ThreadGroup> process_of(Task& task, int pid) {
  RefOrNull<Task> t = task.group().pid_namespace().find_task(pid);
  if (!t) return nullptr;
  return t->group_ref();
}

Result<long> kill_thread(Task& task, int tgid, int tid, int sig) {
  if (!valid(sig)) return kEINVAL;
  RefOrNull<Task> t = task.group().pid_namespace().find_task(tid);
  if (!t || (tgid > 0 && t->group().pid_in(task.group().pid_namespace()) != tgid)) return kESRCH;
  TRY(may_signal(task, t->group(), sig));
  if (sig) kernel::send_to_task(*t, from_user(task, t->group(), sig, SI_TKILL), from_above(task, t->group()));
  return 0L;
}

// Information that an application made itself.
Result<SignalInfo> read_info(Task& task, UserIn<void> info, int sig) {
  SignalInfo i;
  TRY(info.copy_bytes_in(task.context(), &i.si, sizeof i.si));
  i.si.si_signo = sig;
  return i;
}
bool may_claim(const SignalInfo& i) { return i.si.si_code < 0 && i.si.si_code != SI_TKILL; }

// RLIMIT_SIGPENDING of the receiver bounds what is queued for its user. EAGAIN.
Result<void> check_room(ThreadGroup& g, const SignalInfo& i) {
  if (i.si.si_signo < 32 || i.si.si_code == SI_USER) return {};
  const uint64_t limit = g.get_rlimit(RLIMIT_SIGPENDING).rlim_cur;
  MutexLock l(g.impl().mu);
  if (g.container().queued_signals()->of(g.impl().last_uid) >= limit) return kEAGAIN;
  return {};
}

Result<SignalSet> read_set(Task& task, UserIn<uint64_t> set, size_t size) {
  if (size != sizeof(SignalSet)) return kEINVAL;
  SignalSet s = TRY(set.copy_in(task.context()));
  return s & ~kernel::kUnblockable;
}

Result<long> wait_for_signal(Task& task) {
  sched::WaitQueue nothing;
  IGNORE_ERROR(sched::wait_for(nothing, [] { return false; }), "only a signal ends it");
  if (!task.signal_pending()) return kEINTR;
  return kERESTARTNOHAND;
}

}  // namespace

Result<long> sys_kill(Task& task, int pid, int sig) {
  if (!valid(sig)) return kEINVAL;
  kernel::PidNamespace& ns = task.group().pid_namespace();
  if (pid > 0) {
    RefOrNull<ThreadGroup> g = process_of(task, pid);
    if (!g) return kESRCH;
    TRY(kill_one(task, *g, sig));
    return 0L;
  }
  if (pid == INT32_MIN) return kESRCH;
  if (pid == -1) {
    std::vector<Ref<ThreadGroup>> list;
    for (const Ref<ThreadGroup>& g : ns.groups())
      if (g.get() != &task.group() && g->pid_in(ns) > 1) list.push_back(g);
    return kill_many(task, list, sig);
  }
  RefOrNull<kernel::ProcessGroup> pg = task.group().process_group();
  if (pid != 0) pg = ns.find_process_group(-pid);
  if (!pg) return kESRCH;
  return kill_many(task, kernel::members_of(*pg), sig);
}

Result<long> sys_tkill(Task& task, int tid, int sig) {
  if (tid <= 0) return kEINVAL;
  return kill_thread(task, 0, tid, sig);
}

Result<long> sys_tgkill(Task& task, int tgid, int tid, int sig) {
  if (tgid <= 0 || tid <= 0) return kEINVAL;
  return kill_thread(task, tgid, tid, sig);
}

Result<long> sys_rt_sigqueueinfo(Task& task, int pid, int sig, UserIn<void> info) {
  SignalInfo i = TRY(read_info(task, info, sig));
  RefOrNull<ThreadGroup> g = process_of(task, pid);
  if (!may_claim(i) && g.get() != &task.group()) return kEPERM;
  if (!valid(sig)) return kEINVAL;
  if (!g) return kESRCH;
  TRY(may_signal(task, *g, sig));
  if (sig == 0) return 0L;
  TRY(check_room(*g, i));
  kernel::send_to_group(*g, i, from_above(task, *g));
  return 0L;
}

Result<long> sys_rt_tgsigqueueinfo(Task& task, int tgid, int tid, int sig, UserIn<void> info) {
  SignalInfo i = TRY(read_info(task, info, sig));
  if (tgid <= 0 || tid <= 0) return kEINVAL;
  RefOrNull<Task> t = task.group().pid_namespace().find_task(tid);
  if (!may_claim(i) && (!t || &t->group() != &task.group())) return kEPERM;
  if (!valid(sig)) return kEINVAL;
  if (!t || t->group().pid_in(task.group().pid_namespace()) != tgid) return kESRCH;
  TRY(may_signal(task, t->group(), sig));
  if (sig == 0) return 0L;
  TRY(check_room(t->group(), i));
  kernel::send_to_task(*t, i, from_above(task, t->group()));
  return 0L;
}

Result<long> sys_pidfd_send_signal(Task& task, int pidfd, int sig, UserIn<void> info, unsigned flags) {
  if (flags != 0) return kEINVAL;
  Ref<vfs::File> f = TRY(task.file(pidfd));
  RefOrNull<ThreadGroup> g = fs::proc::process_of(*f);
  if (!g) g = TRY(kernel::process_of_pidfd(*f));
  if (g->pid_in(task.group().pid_namespace()) == 0) return kEINVAL;  // of another namespace
  if (!valid(sig)) return kEINVAL;
  {
    MutexLock l(kernel::task_set_lock);
    if (g->impl().reaped) return kESRCH;
  }
  SignalInfo i = from_user(task, *g, sig, SI_USER);
  if (!info.is_null()) {
    TRY(info.copy_bytes_in(task.context(), &i.si, sizeof i.si));
    if (i.si.si_signo != sig) return kEINVAL;
    if (g.get() != &task.group() && !may_claim(i)) return kEPERM;
  }
  TRY(may_signal(task, *g, sig));
  if (sig == 0) return 0L;
  TRY(check_room(*g, i));
  kernel::send_to_group(*g, i, from_above(task, *g));
  return 0L;
}

Result<long> sys_rt_sigaction(Task& task, int sig, UserIn<kernel::SignalAction> act, UserOut<kernel::SignalAction> old,
                              size_t setsize) {
  if (setsize != sizeof(SignalSet)) return kEINVAL;
  if (sig < 1 || sig > kernel::kSignals) return kEINVAL;
  Ref<kernel::SignalHandlers> handlers = task.group().handlers();
  kernel::SignalAction before = handlers->get(sig);
  if (!act.is_null()) {
    kernel::SignalAction a = TRY(act.copy_in(task.context()));
    if (kernel::signal_bit(sig) & kernel::kUnblockable) return kEINVAL;
    constexpr uint64_t kKnown = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER |
                                static_cast<uint32_t>(SA_RESETHAND) | 0x04000000 /* SA_RESTORER */;
    a.flags &= kKnown;
    a.mask &= ~kernel::kUnblockable;
    handlers->set(sig, a);
    // POSIX: an action that ignores the signal discards a pending one.
    kernel::DefaultAction d = kernel::default_action(sig);
    if (a.handler == 1 || (a.handler == 0 && (d == kernel::DefaultAction::ignore || d == kernel::DefaultAction::resume))) {
      ThreadGroup& g = task.group();
      MutexLock l(g.impl().mu);
      g.impl().shared.remove(kernel::signal_bit(sig));
      for (const Ref<Task>& t : g.impl().tasks) t->impl().pending.remove(kernel::signal_bit(sig));
      kernel::recalculate_pending_locked(g.impl(), task);
    }
  }
  if (!old.is_null()) TRY(old.copy_out(task.context(), before));
  return 0L;
}

Result<long> sys_rt_sigprocmask(Task& task, int how, UserIn<uint64_t> set, UserOut<uint64_t> old, size_t setsize) {
  if (setsize != sizeof(SignalSet)) return kEINVAL;
  const SignalSet before = task.blocked();
  if (!set.is_null()) {
    SignalSet s = TRY(read_set(task, set, setsize));
    switch (how) {
      case SIG_BLOCK: s |= before; break;
      case SIG_UNBLOCK: s = before & ~s; break;
      case SIG_SETMASK: break;
      default: return kEINVAL;
    }
    if (s != before) task.set_blocked(s);
  }
  if (!old.is_null()) TRY(old.copy_out(task.context(), before));
  return 0L;
}

Result<long> sys_rt_sigpending(Task& task, UserOut<uint64_t> set, size_t setsize) {
  if (setsize > sizeof(SignalSet)) return kEINVAL;
  SignalSet s = task.pending_set() & task.blocked();
  TRY(set.copy_bytes_out(task.context(), &s, setsize));
  return 0L;
}

Result<long> sys_rt_sigsuspend(Task& task, UserIn<uint64_t> set, size_t setsize) {
  task.set_temporary_mask(TRY(read_set(task, set, setsize)));
  return wait_for_signal(task);
}

Result<long> sys_pause(Task& task) { return wait_for_signal(task); }

Result<long> sys_rt_sigtimedwait(Task& task, UserIn<uint64_t> set, UserOut<void> info, UserIn<struct timespec> timeout,
                                 size_t setsize) {
  SignalSet wanted = TRY(read_set(task, set, setsize));
  sched::Nanos deadline = sched::kNever;
  if (!timeout.is_null()) {
    timespec t = TRY(timeout.copy_in(task.context()));
    if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= 1000000000) return kEINVAL;
    if (t.tv_sec < 1000000000) deadline = sched::now() + t.tv_sec * 1000000000 + t.tv_nsec;
  }
  SignalInfo taken;
  auto arrived = [&] { return task.take_signal(wanted, &taken); };
  Result<void> r = sched::wait_for(task.signal_queue(), arrived, deadline);
  if (!r.ok()) return r.error() == kETIMEDOUT ? kEAGAIN : kEINTR;
  if (!info.is_null()) TRY(info.copy_out(task.context(), taken.si));
  return long{taken.si.si_signo};
}

// Linux: do_sigaltstack().
Result<long> sys_sigaltstack(Task& task, UserIn<stack_t> stack, UserOut<stack_t> old) {
  Task::Impl& i = task.impl();
  uint64_t sp = task.context().stack_pointer();
  bool on_it = !(i.altstack_flags & kernel::kAutoDisarm) && sp > i.altstack_sp && sp - i.altstack_sp <= i.altstack_size;
  stack_t before{};
  before.ss_sp = reinterpret_cast<void*>(i.altstack_sp);
  before.ss_size = i.altstack_size;
  before.ss_flags = static_cast<int>((i.altstack_size == 0 ? SS_DISABLE : on_it ? SS_ONSTACK : 0) |
                                     (i.altstack_flags & kernel::kAutoDisarm));
  if (!stack.is_null()) {
    stack_t s = TRY(stack.copy_in(task.context()));
    if (on_it) return kEPERM;
    uint32_t mode = static_cast<uint32_t>(s.ss_flags) & ~kernel::kAutoDisarm;
    if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return kEINVAL;
    if (mode == SS_DISABLE) {
      s.ss_sp = nullptr;
      s.ss_size = 0;
    } else if (s.ss_size < 2048) {  // the kernel's MINSIGSTKSZ
      return kENOMEM;
    }
    i.altstack_sp = reinterpret_cast<uint64_t>(s.ss_sp);
    i.altstack_size = s.ss_size;
    i.altstack_flags = static_cast<uint32_t>(s.ss_flags);
  }
  if (!old.is_null()) TRY(old.copy_out(task.context(), before));
  return 0L;
}

Result<long> sys_rt_sigreturn(Task& task) {
  Task::Impl& i = task.impl();
  i.keep_registers = true;
  Result<platform::SignalReturn> r = task.context().pop_signal_frame();
  if (!r.ok()) {
    kernel::force_signal(task, SignalInfo::kernel(SIGSEGV));
    return 0L;
  }
  task.set_blocked(r->mask);
  // Linux: restore_altstack(), which does not complain.
  uint32_t mode = r->altstack_flags & ~kernel::kAutoDisarm;
  if (mode == SS_DISABLE) {
    i.altstack_sp = i.altstack_size = 0;
    i.altstack_flags = r->altstack_flags;
  } else if ((mode == 0 || mode == SS_ONSTACK) && r->altstack_size >= 2048) {
    i.altstack_sp = r->altstack_sp;
    i.altstack_size = r->altstack_size;
    i.altstack_flags = r->altstack_flags;
  }
  return 0L;
}

}  // namespace sentry::syscalls
