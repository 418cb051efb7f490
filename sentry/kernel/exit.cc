// SPDX-License-Identifier: Apache-2.0
// The end of a thread, run by its own fiber. Linux: kernel/exit.c do_exit(). What it means for the family (children, parents,
// process groups, namespaces) is in family.cc.
#include "sentry/kernel/futex.h"
#include "sentry/kernel/futex_pi.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/ipc.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

// Marks the beginning of the end; true when no other thread of the process is left that has not begun it.
bool begin_exit(Task& t, bool* stop_complete) {
  ThreadGroup& g = t.group();
  MutexLock l(g.impl().mu);
  t.impl().exiting_now = true;
  bool last = true;
  SignalSet handed = g.impl().shared.set() & ~t.impl().blocked;
  for (const Ref<Task>& other : g.impl().tasks) {
    if (other.get() == &t || other->impl().exiting_now) continue;
    last = false;
    if (handed & ~other->impl().blocked) wake_task_locked(g.impl(), *other);  // perhaps it was meant for this thread
  }
  if (last && !g.impl().exiting) {
    g.impl().exiting = true;  // no more signals; the status stays the leader's
  }
  recalculate_pending_locked(g.impl(), t);
  thread_left_stop_locked(g.impl(), stop_complete);
  return last;
}

// What a zombie has left keeps nothing alive: its last reference goes under the task-set lock. Linux: exit_files(), exit_fs(),
// exit_task_namespaces(), seccomp_filter_release().
void drop_parts(Task& t) {
  RefOrNull<FdTable> files;
  RefOrNull<FsContext> fs;
  RefOrNull<SeccompFilter> seccomp;
  RefOrNull<IpcNamespace> ipc = t.container().ipc();
  RefOrNull<UtsNamespace> uts = t.container().uts();
  RefOrNull<NetNamespace> net;
  RefOrNull<CgroupNamespace> cgroup;
  RefOrNull<TimeNamespace> time, child_time;
  RefOrNull<PidNamespace> child_pids;
  MutexLock l(t.impl().mu);
  std::swap(files, t.impl().files);
  std::swap(fs, t.impl().fs);
  std::swap(seccomp, t.impl().seccomp);
  std::swap(ipc, t.impl().ipc);
  std::swap(uts, t.impl().uts);
  std::swap(net, t.impl().net);
  std::swap(cgroup, t.impl().cgroup);
  std::swap(time, t.impl().time);
  std::swap(child_time, t.impl().child_time);
  std::swap(child_pids, t.impl().child_pids);
}

// How much memory it had at its end, for its parent's ru_maxrss; a process that was short pays nothing for it.
void note_peak(Task& t) {
  constexpr uint64_t kLongLife = 20'000'000;  // ns of CPU time
  uint64_t used;
  {
    MutexLock l(t.group().impl().mu);
    used = t.group().impl().cpu_before;
  }
  if (used >= kLongLife) peak_resident(t.group());
}

void hang_up_terminal(ThreadGroup& g) {
  Ref<Session> s = g.session();
  {
    MutexLock l(task_set_lock);
    if (TaskAccess::leader(*s) != &g) return;
  }
  if (RefOrNull<TtyLink> tty = s->tty()) tty->session_leader_exited(*s);
}

}  // namespace

void Task::exit_group(ExitStatus status) {
  MutexLock l(group_->impl().mu);
  begin_group_exit_locked(group_->impl(), status);
}

void Task::exit_thread(int code) {
  ThreadGroup& g = *group_;
  MutexLock l(g.impl().mu);
  impl_->exit_code.store(ExitStatus::exited(code).wait_status);
  impl_->want_exit = true;
  recalculate_pending_locked(g.impl(), *this);
}

// This task no longer needs its vfork parent's patience. context_is_mine: false when the Context goes back to the parent,
// which may use it from now on.
void release_vfork(Task& t, bool* context_is_mine) {
  *context_is_mine = true;
  RefOrNull<VforkLink> link = std::move(t.impl().vfork);
  if (!link) return;
  if (link->lent) {
    MutexLock g(t.group().impl().mu);
    t.impl().lending = true;  // from here on no signal kicks it for this task
  }
  {
    MutexLock l(link->mu);
    link->released = true;
    if (link->lent) *context_is_mine = link->parent_gone;
  }
  link->queue.wake_all();
}

// A stub that nobody needs any more. Its Context is kept so long: it would tell its thread to leave.
struct Remains {
  RefOrNull<platform::Space> space;
  RefOrNull<platform::Context> context;
  void destroy() {
    if (space) space->retire();
  }
};

// Leaves the address space: the host thread ends, or the whole stub is what remains.
Remains leave_mm(Task& t, uint64_t clear_tid, bool context_is_mine) {
  RefOrNull<SharedMm> mm;
  RefOrNull<platform::Context> context;
  {
    MutexLock l(t.impl().mu);
    std::swap(mm, t.impl().mm);
  }
  {
    MutexLock l(t.group().impl().mu);
    std::swap(context, TaskAccess::context(t));
  }
  if (!mm) return {};
  if (context && context_is_mine) mm->space->context_gone(*context);
  if (mm->users.fetch_sub(1) == 1) {
    Ref<platform::Space> space(mm->space->space());
    return {std::move(space), std::move(context)};
  }
  if (context && context_is_mine) context->exit_thread(clear_tid);
  return {};
}

void drop_mm(Task& t, uint64_t clear_tid, bool context_is_mine) {
  leave_mm(t, clear_tid, context_is_mine).destroy();
}

void exit_current(Task& t) {
  ThreadGroup& g = t.group();
  Task::Impl& i = t.impl();
  bool stop_complete = false;
  if (__builtin_expect(traced(t), 0) && !i.never_born) trace_exit(t);
  const bool group_dead = begin_exit(t, &stop_complete);
  if (stop_complete) notify_parent_of_stop(g, ChildEvent::stopped);
  if (group_dead) {
    g.impl().timers->clear();
    if (g.impl().is_init) empty_namespace(g);
  }

  const bool lent_out = i.lending;  // it dies while its own vfork child runs on the Context
  uint64_t clear_tid = 0;
  if (!lent_out && !i.never_born && !t.context().space().gone()) {
    walk_robust_list(t);
    clear_tid = clear_child_tid(t);
  }
  if (group_dead && !lent_out) {
    cpu_leave(g, t.context().space());
    note_peak(t);
  }
  t.kernel().impl().pi->owner_exits(t);
  leave_undo(t);
  bool mine = true;
  release_vfork(t, &mine);
  if (lent_out) mine = false;
  Remains remains = leave_mm(t, clear_tid, mine);
  drop_parts(t);
  i.walk_mounts = nullptr;
  if (group_dead) hang_up_terminal(g);
  leave_family(t);
  // The parent may go on already: taking the stub down takes longer than all the rest, and nobody can tell.
  if (remains.space) sched::yield();
  remains.destroy();
  RefOrNull<sched::Fiber> fiber;
  {
    MutexLock l(g.impl().mu);
    std::swap(fiber, TaskAccess::fiber(t));
  }
}

}  // namespace sentry::kernel
