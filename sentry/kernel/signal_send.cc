// SPDX-License-Identifier: Apache-2.0
// Sending signals: who gets one, what it undoes at once, whom it wakes. Linux: kernel/signal.c, __send_signal_locked(),
// prepare_signal(), complete_signal().
#include <algorithm>

#include "sentry/kernel/internal.h"
#include "sentry/kernel/posix_timers.h"

namespace sentry::kernel {
namespace {

constexpr SignalSet kStopSignals =
    signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU);
constexpr uint64_t kIgnore = 1;  // SIG_IGN
constexpr uint64_t kMaxQueued = 65536;  // a bound of ours, whatever RLIMIT_SIGPENDING says

bool is_kernel_only(int signo) { return signo == SIGKILL || signo == SIGSTOP; }

// Linux: sig_task_ignored().
bool is_ignored(const ThreadGroup::Impl& g, const SignalAction& action, int signo, bool force) {
  if (g.is_init && action.handler == 0 && !(force && is_kernel_only(signo))) return true;
  if (action.handler == kIgnore) return true;
  if (action.handler != 0) return false;
  DefaultAction d = default_action(signo);
  return d == DefaultAction::ignore || d == DefaultAction::resume;
}

bool wants_locked([[maybe_unused]] ThreadGroup::Impl& g, Task& t, int signo) REQUIRES(g.mu) {
  if (t.impl().exiting_now) return false;
  if (t.impl().blocked & signal_bit(signo)) return false;
  return signo == SIGKILL || !t.impl().in_stop;
}

// Stop signals and SIGCONT undo each other when they are sent, blocked or not.
void apply_side_effects_locked(ThreadGroup::Impl& i, int signo) REQUIRES(i.mu) {
  if (signal_bit(signo) & kStopSignals) {
    i.shared.remove(signal_bit(SIGCONT));
    for (const Ref<Task>& t : i.tasks) t->impl().pending.remove(signal_bit(SIGCONT));
  } else if (signo == SIGCONT) {
    i.shared.remove(kStopSignals);
    for (const Ref<Task>& t : i.tasks) {
      t->impl().pending.remove(kStopSignals);
      t->impl().stop_passed = false;
    }
    if (i.stop_pending) {
      i.tell_continued = i.stopped;
      i.stop_pending = i.stopped = false;
      i.stop_queue.wake_all();
      for (const Ref<Task>& t : i.tasks) {
        // One that was seized tells its tracer. Linux: ptrace_trap_notify().
        if (t->impl().trace.seized()) t->impl().trap_pending = true;
        wake_task_locked(i, *t);
      }
    }
  }
}

// Queues for one thread (task set) or the process, and wakes one that takes it. False: nobody will see it.
bool send(ThreadGroup& g, Task* task, const SignalInfo& info, bool force) {
  const int signo = info.si.si_signo;
  if (signo < 1 || signo > kSignals) return false;  // the exit signal of clone(2) may be any byte
  ThreadGroup::Impl& i = g.impl();
  RefOrNull<SignalHandlers> handlers;
  {
    MutexLock l(i.mu);
    handlers = i.handlers;
  }
  if (!handlers) return false;
  // A change of the action from here on is seen again at delivery.
  const SignalAction action = handlers->get(signo);
  MutexLock l(i.mu);
  if (signo == SIGKILL && !i.tasks.empty() && (!i.is_init || force)) {
    i.killed = true;  // also when it is about to end: a stop of its tracer's goes on
    for (const Ref<Task>& t : i.tasks)
      if (traced(*t)) wake_task_locked(i, *t);
  }
  if (i.tasks.empty() || i.exiting) return false;
  apply_side_effects_locked(i, signo);
  if (signo == SIGKILL) {
    if (i.is_init && !force) return false;
    begin_group_exit_locked(i, ExitStatus::signaled(SIGKILL, false));
    return true;
  }
  // An ignored signal that is blocked is kept: its action may change before it is unblocked.
  Task& looked_at = task ? *task : *i.tasks.front();
  bool blocked = looked_at.impl().blocked & signal_bit(signo);
  if (!blocked && !traced(looked_at) && is_ignored(i, action, signo, force)) return false;
  PendingSignals& queue = task ? task->impl().pending : i.shared;
  // Over the limit a real-time signal stays pending without being counted, as kill(2) on Linux.
  const uint64_t limit = std::min<uint64_t>(i.limits[RLIMIT_SIGPENDING].rlim_cur, kMaxQueued);
  const Ref<QueuedSignals>& counts = i.container->queued_signals();
  if ((queue.set() & signal_bit(signo)) && counts->of(i.last_uid) >= limit) return true;
  if (!queue.add(info, counts, i.last_uid)) return true;
  if (task) {
    if (wants_locked(i, *task, signo)) wake_task_locked(i, *task);
  } else {
    // The leader first, as Linux prefers the thread named by the process id; then whoever takes it.
    for (const Ref<Task>& t : i.tasks) {
      if (!wants_locked(i, *t, signo)) continue;
      wake_task_locked(i, *t);
      break;
    }
  }
  i.signal_queue.wake_all();
  return true;
}

// SI_USER and friends from a task of the same namespace are not forced on its init; what the kernel or the outside sends is.
bool comes_from_above(const SignalInfo& info) { return info.si.si_code > 0 || info.si.si_pid == 0; }

}  // namespace

void wake_task_locked(ThreadGroup::Impl&, Task& t) {
  if (RefOrNull<sched::Fiber>& f = TaskAccess::fiber(t)) f->interrupt();
  if (RefOrNull<platform::Context>& c = TaskAccess::context(t); c && !t.impl().lending && !t.impl().exiting_now) c->kick();
}

bool must_exit_locked(ThreadGroup::Impl& g, const Task& t) {
  return g.exiting || t.impl().want_exit || (g.exec_task && g.exec_task != &t);
}

bool must_exit(Task& t) {
  MutexLock l(t.group().impl().mu);
  return must_exit_locked(t.group().impl(), t);
}

void recalculate_pending_locked(ThreadGroup::Impl& i, Task& t) {
  RefOrNull<sched::Fiber>& f = TaskAccess::fiber(t);
  if (!f) return;
  bool pending = ((t.impl().pending.set() | i.shared.set()) & ~t.impl().blocked) != 0 || must_exit_locked(i, t) ||
                 (i.stop_pending && !t.impl().in_stop && !t.impl().stop_passed) || i.tell_continued || t.impl().trap_pending;
  if (t.impl().exiting_now) pending = false;
  f->interrupt_pending.store(pending, std::memory_order_release);
}

// SIGKILL, a fatal signal or exit_group: every thread finds its way to exit_current() by itself.
void begin_group_exit_locked(ThreadGroup::Impl& i, ExitStatus s) {
  if (i.exiting) return;
  i.exiting = i.status_is_group = true;
  i.status = s;
  i.stop_pending = i.stopped = false;
  i.stop_queue.wake_all();
  for (const Ref<Task>& t : i.tasks) wake_task_locked(i, *t);
}

bool send_to_group(ThreadGroup& g, const SignalInfo& info, bool force) { return send(g, nullptr, info, force); }
bool send_to_task(Task& t, const SignalInfo& info, bool force) { return send(t.group(), &t, info, force); }
void ThreadGroup::send_signal(const SignalInfo& info) { send(*this, nullptr, info, comes_from_above(info)); }
void Task::send_signal(const SignalInfo& info) { send(group(), this, info, comes_from_above(info)); }

// Linux: force_sig_info_to_task().
void force_signal(Task& t, const SignalInfo& info, bool to_default) {
  const int signo = info.si.si_signo;
  ThreadGroup& g = t.group();
  Ref<SignalHandlers> handlers = g.handlers();
  SignalAction action = handlers->get(signo);
  MutexLock h(g.impl().mu);
  const bool blocked = t.impl().blocked & signal_bit(signo);
  // By default it ends an init too (Linux: SIGNAL_UNKILLABLE goes).
  if (blocked || action.handler == 0 || action.handler == kIgnore || to_default) t.impl().forced_default |= signal_bit(signo);
  t.impl().blocked &= ~signal_bit(signo);
  t.impl().pending.add(info);
  recalculate_pending_locked(g.impl(), t);
}

// ---- What a task sees of its own signals ----

// blocked is written by the task's own fiber alone (under the lock, for those who look from outside).
SignalSet Task::blocked() const { return impl_->blocked; }

void Task::set_blocked(SignalSet s) {
  s &= ~kUnblockable;
  ThreadGroup& g = group();
  MutexLock l(g.impl().mu);
  SignalSet newly = s & ~impl_->blocked;
  impl_->blocked = s;
  // What this thread no longer takes, another may.
  if (SignalSet handed = g.impl().shared.set() & newly) {
    for (const Ref<Task>& t : g.impl().tasks)
      if (t.get() != this && (handed & ~t->impl().blocked) && !t->impl().exiting_now) wake_task_locked(g.impl(), *t);
  }
  recalculate_pending_locked(g.impl(), *this);
}

void Task::set_temporary_mask(SignalSet mask) {
  if (!impl_->restore_mask) impl_->saved_mask = impl_->blocked;
  impl_->restore_mask = true;
  set_blocked(mask);
}

bool Task::signal_pending() const { return fiber_ && fiber_->interrupt_pending.load(std::memory_order_acquire); }

SignalSet Task::pending_set() const {
  MutexLock l(group_->impl().mu);
  return impl_->pending.set() | group_->impl().shared.set();
}

bool Task::take_signal(SignalSet wanted, SignalInfo* out) {
  ThreadGroup& g = *group_;
  bool taken;
  {
    MutexLock l(g.impl().mu);
    taken = impl_->pending.take(wanted, out) || g.impl().shared.take(wanted, out);
    if (taken) recalculate_pending_locked(g.impl(), *this);
  }
  if (taken && out->si.si_code == SI_TIMER) g.impl().timers->dequeued(out);
  return taken;
}

sched::WaitQueue& Task::signal_queue() { return group_->impl().signal_queue; }
bool Task::exiting() const {
  MutexLock l(group_->impl().mu);
  return impl_->exiting_now || must_exit_locked(group_->impl(), *this);
}

}  // namespace sentry::kernel
