// SPDX-License-Identifier: Apache-2.0
// Stopping and continuing whole processes, and telling their parents. Linux: do_signal_stop(), do_notify_parent_cldstop().
#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

constexpr uint64_t kIgnore = 1;

bool all_stopped_locked(ThreadGroup::Impl& i) REQUIRES(i.mu) {
  for (const Ref<Task>& t : i.tasks)
    if (!t->impl().in_stop && !t->impl().stop_passed && !t->impl().exiting_now) return false;
  return !i.tasks.empty();
}

void count_stop_locked(ThreadGroup::Impl& i, bool* notify) REQUIRES(i.mu) {
  if (!i.stop_pending || i.stopped || !all_stopped_locked(i)) return;
  i.stopped = true;
  *notify = true;
}

}  // namespace

// A thread has ended while others may have stopped: perhaps the process is stopped now.
void thread_left_stop_locked(ThreadGroup::Impl& g, bool* notify) { count_stop_locked(g, notify); }

// signo: the stop signal this thread took; 0: another thread began it.
void stop_here(Task& t, int signo) {
  ThreadGroup& g = t.group();
  ThreadGroup::Impl& i = g.impl();
  if (RefOrNull<mm::AddressSpace> space = t.find_mm()) space->settle(t.context());
  bool notify = false;
  {
    MutexLock l(i.mu);
    if (must_exit_locked(i, t)) return;
    if (!i.stop_pending) {
      if (signo == 0) return;  // continued meanwhile
      i.stop_pending = true;
      i.stop_signal = signo;
      for (const Ref<Task>& other : i.tasks) {
        other->impl().stop_passed = false;
        if (other.get() != &t) wake_task_locked(i, *other);
      }
    } else if (signo != 0) {  // its tracer had let it go on: another stop
      i.stop_signal = signo;
      i.stopped = false;
      for (const Ref<Task>& other : i.tasks) {
        if (std::exchange(other->impl().stop_passed, false) && other.get() != &t) wake_task_locked(i, *other);
      }
    }
    t.impl().in_stop = true;
    count_stop_locked(i, &notify);
  }
  if (notify) notify_parent_of_stop(g, ChildEvent::stopped);
  bool passed = false;
  auto over = [&] {
    MutexLock l(i.mu);
    return !i.stop_pending || must_exit_locked(i, t) || traced(t);
  };
  for (;;) {
    if (traced(t)) {
      passed = trace_group_stop(t);
      if (passed) break;
    }
    {
      MutexLock l(i.mu);
      if (!i.stop_pending || must_exit_locked(i, t)) break;
    }
    IGNORE_ERROR(sched::wait_for(i.stop_queue, over, sched::kNever, sched::Interruptible::no), "no deadline");
  }
  MutexLock l(i.mu);
  t.impl().in_stop = false;
  t.impl().stop_passed = passed && i.stop_pending;
  recalculate_pending_locked(i, t);
}

SignalInfo child_signal_locked(ThreadGroup& child, int code, int status) {
  SignalInfo info = SignalInfo::kernel(SIGCHLD, code);
  ThreadGroup* parent = child.impl().parent;
  info.si.si_pid = parent ? number_in(child.impl().ids, parent->pid_namespace()) : 0;
  info.si.si_status = status;
  RefOrNull<Task> reader;
  if (parent) {
    MutexLock l(parent->impl().mu);
    reader = parent->impl().leader;
  }
  uint32_t uid;
  {
    MutexLock l(child.impl().mu);
    uid = child.impl().last_uid;
  }
  if (reader) {
    MutexLock l(reader->impl().mu);
    uid = auth::shown_uid(reader->impl().cred ? reader->impl().cred->user_ns.get() : nullptr, uid);
  }
  info.si.si_uid = uid;
  MutexLock l(child.impl().mu);
  info.si.si_utime = static_cast<clock_t>(child.impl().cpu_before / 10000000);  // USER_HZ
  return info;
}

void notify_parent_of_stop(ThreadGroup& g, ChildEvent e) {
  MutexLock l(task_set_lock);
  int signo = 0;
  {
    MutexLock m(g.impl().mu);
    signo = g.impl().stop_signal;
  }
  StopReport& r = g.impl().report;
  if (e == ChildEvent::stopped) r = StopReport{signo, false};
  else r = StopReport{0, true};
  ThreadGroup* parent = g.impl().parent;
  if (!parent || traced_by_locked(g, *parent)) return;  // it hears of each thread's stop instead
  SignalAction a = parent->handlers()->get(SIGCHLD);
  if (a.handler != kIgnore && !(a.flags & SA_NOCLDSTOP)) {
    bool stop = e == ChildEvent::stopped;
    send_to_group(*parent, child_signal_locked(g, stop ? CLD_STOPPED : CLD_CONTINUED, stop ? signo : SIGCONT), true);
  }
  parent->impl().child_events.wake_all();
}

// Linux: do_notify_parent().
bool notify_parent_of_exit_locked(ThreadGroup& g) {
  ThreadGroup* parent = g.impl().parent;
  if (!parent || g.impl().never_born) return false;
  int wait_status = 0;
  {
    MutexLock l(g.impl().mu);
    wait_status = g.impl().status.wait_status;
  }
  int signo = g.impl().exit_signal;
  RefOrNull<Task> leader;
  {
    MutexLock l(g.impl().mu);
    leader = g.impl().leader;
  }
  const bool was_traced = leader && leader->impl().trace.was_traced;
  if (was_traced) signo = SIGCHLD;
  bool wanted = true;
  RefOrNull<SignalHandlers> handlers;
  {
    MutexLock l(parent->impl().mu);
    handlers = parent->impl().handlers;
  }
  if (signo == SIGCHLD && handlers) {
    SignalAction a = handlers->get(SIGCHLD);
    if (a.handler == kIgnore) {
      wanted = was_traced;
      signo = 0;
    } else if (a.flags & SA_NOCLDWAIT) {
      wanted = was_traced;
    }
  }
  if (signo) {
    bool killed = (wait_status & 0x7f) != 0;
    SignalInfo info = child_signal_locked(g, killed ? CLD_KILLED : CLD_EXITED,
                                          killed ? wait_status & 0x7f : (wait_status >> 8) & 0xff);
    info.si.si_signo = signo;
    send_to_group(*parent, info, true);
  }
  parent->impl().child_events.wake_all();
  return wanted && !parent->impl().reap_children;
}

}  // namespace sentry::kernel
