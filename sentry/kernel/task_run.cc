// SPDX-License-Identifier: Apache-2.0
// The body of a task's fiber: lets the application run, answers what it comes out with, and takes signals in between.
#include <linux/futex.h>

#include "sentry/kernel/answers.h"
#include "sentry/kernel/exec.h"
#include "sentry/kernel/futex.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

// A call that a tracer or a filter sees first; either may make another one of it.
Result<long> watched_call(Task& t, platform::Call* call) {
  Task::Impl& i = t.impl();
  int64_t result = 0;
  if (traced(t) && !trace_call_entry(t, call, &result)) return Result<long>(long{result});
  if (i.seccomp_mode.load(std::memory_order_relaxed) != 0)
    if (std::optional<Result<long>> instead = seccomp_check(t, call)) return *instead;
  return t.kernel().calls().handle(t, *call);
}

CallOutcome handle_call(Task& t, platform::Call call) {
  Task::Impl& i = t.impl();
  i.call_number.store(call.number, std::memory_order_relaxed);
  i.in_call.store(true, std::memory_order_relaxed);
  const bool watched = i.seccomp_mode.load(std::memory_order_relaxed) != 0 || traced(t);
  Result<long> r = __builtin_expect(watched, 0) ? watched_call(t, &call) : t.kernel().calls().handle(t, call);
  i.in_call.store(false, std::memory_order_relaxed);
  CallOutcome o;
  if (__builtin_expect(i.keep_registers, 0)) {
    i.keep_registers = false;
    if (traced(t)) trace_call_exit(t, o);
    return o;
  }
  o.number_valid = true;
  o.number = i.call_number.load(std::memory_order_relaxed);
  if (r.ok()) {
    o.has_result = true;
    o.result = r.value();
  } else if (int e = r.error().value(); e < kERESTARTSYS.value()) {
    o.has_result = true;
    o.result = -e;
  } else {
    o.restart = e;
    o.call = call;
  }
  if (__builtin_expect(traced(t), 0)) trace_call_exit(t, o);
  return o;
}

// The call again, as the application would make it at once: nothing of it has changed.
CallOutcome make_again(Task& t, const CallOutcome& o) {
  platform::Call call = o.call;
  if (o.restart == kERESTART_RESTARTBLOCK.value() && t.impl().restart.fn) call.number = 219;  // restart_syscall
  CallOutcome next = handle_call(t, call);
  if (next.restart) next.call = o.call;
  next.number = o.number;
  return next;
}

// Signals, stops, masks and restarts before the application goes on. False: the task ends.
bool settle(Task& t, CallOutcome& o) {
  Task::Impl& i = t.impl();
  for (;;) {
    if (i.host_futex) {  // not begun yet: as if the signal had come during it
      o = futex_outcome_when_interrupted(t);
    }
    // A call that came to an end has its mask back before signals are taken. Linux: restore_saved_sigmask_unless().
    if (i.restore_mask && o.restart == 0 && !(o.has_result && o.result == -EINTR)) {
      i.restore_mask = false;
      t.set_blocked(i.saved_mask);
    }
    Delivered d = deliver_signals(t, o);
    if (d == Delivered::exit) return false;
    if (i.restore_mask) {
      i.restore_mask = false;
      t.set_blocked(i.saved_mask);
    }
    if (o.restart) o = make_again(t, o);
    if (!o.restart && !t.signal_pending() && !i.restore_mask) return true;
  }
}

SignalInfo fault_signal(const platform::Fault& f) {
  SignalInfo info = SignalInfo::kernel(f.signo, f.code);
  info.si.si_addr = reinterpret_cast<void*>(f.address);
  return info;
}

void handle_fault(Task& t) {
  platform::Context& c = t.context();
  platform::Fault f = c.fault();
  switch (t.mm()->leave_trampoline(c, &f)) {
    case mm::AddressSpace::Left::no: break;
    case mm::AddressSpace::Left::retry: return;
    case mm::AddressSpace::Left::moved: f.address = f.ip = c.instruction_pointer(); break;
  }
  if ((f.signo == SIGSEGV || f.signo == SIGBUS) && t.mm()->handle_fault(c, f)) return;
  t.impl().last_fault = f;
  t.impl().fault_signal = f.signo;
  force_signal(t, fault_signal(f));
}

CallOutcome plain_result(Task& t, int64_t value) {
  CallOutcome o;
  o.number_valid = o.has_result = true;
  o.number = t.impl().call_number.load(std::memory_order_relaxed);
  o.result = value;
  return o;
}

// The host could not make this thread after all, and its parent's call has failed: as if it had never been.
void vanish(Task& t) {
  Task::Impl& i = t.impl();
  i.never_born = true;
  bool process;
  {
    MutexLock l(t.group().impl().mu);
    process = t.group().impl().leader.get() == &t;
    if (process) begin_group_exit_locked(t.group().impl(), ExitStatus::exited(0));
  }
  if (process) {
    MutexLock l(task_set_lock);
    t.group().impl().never_born = true;
  } else {
    t.exit_thread(0);
  }
}

// The stub is gone: the host's OOM killer, or we, took it. As a SIGKILL to everything in it.
void lose_process(Task& t) {
  MutexLock l(t.group().impl().mu);
  t.group().impl().killed = true;
  begin_group_exit_locked(t.group().impl(), ExitStatus::signaled(SIGKILL, false));
}

void prepare(Task& t) {
  ThreadGroup& g = t.group();
  t.context().set_fiber(sched::current());
  {
    MutexLock l(g.impl().mu);
    recalculate_pending_locked(g.impl(), t);
  }
  publish_answers(t);
  if (t.impl().acquire_tty) {
    Result<Ref<vfs::File>> f = t.file(0);
    constexpr uint32_t kTiocsctty = 0x540e;
    if (f.ok()) IGNORE_ERROR((*f)->ioctl(t.context(), kTiocsctty, 0), "without a terminal it runs as well");
  }
}

}  // namespace

void run_task(Task& t) {
  prepare(t);
  Task::Impl& i = t.impl();
  sched::Fiber& fiber = t.fiber();
  CallOutcome o;
  for (;;) {
    if (__builtin_expect(fiber.interrupt_pending.load(std::memory_order_acquire) || o.restart || i.restore_mask, 0)) {
      if (int e = t.context().finish_birth()) o = plain_result(t, -e);
      if (!settle(t, o)) break;
    }
    platform::Context& c = t.context();
    if (o.has_result) c.set_result(o.result);
    const int64_t result = o.has_result ? o.result : 0;
    o = CallOutcome{};
    if (i.host_futex) {
      const bool waits = (i.host_futex->args[1] & FUTEX_CMD_MASK) != FUTEX_WAKE;
      begin_host_futex(t);
      i.in_call.store(waits, std::memory_order_relaxed);
    }
    const bool steps = i.trace.mode.load(std::memory_order_relaxed) & TraceState::kStep;
    if (__builtin_expect(steps, 0)) begin_step(t);
    platform::EventKind event = c.resume();
    if (__builtin_expect(steps, 0) && event != platform::EventKind::gone) end_step(t, event == platform::EventKind::syscall);
    if (__builtin_expect(c.memory_call_error() != 0 && event != platform::EventKind::gone, 0)) {
      o = plain_result(t, t.mm()->on_memory_call_failed(c, c.memory_call_error()));
      continue;
    }
    if (__builtin_expect(c.copy_failed() && event != platform::EventKind::gone, 0)) {
      Result<long> r = t.kernel().calls().not_delivered(t, c.call(), result);
      o = plain_result(t, r.ok() ? *r : -r.error().value());
      continue;
    }
    if (__builtin_expect(c.birth_error() != 0, 0)) {
      o = plain_result(t, -c.birth_error());
      continue;
    }
    switch (event) {
      case platform::EventKind::syscall: {
        const platform::Call call = c.call();
        // What a confined task says is no ground to patch what others run.
        if (__builtin_expect(c.trapped(), 0) && !is_confined(t))
          t.mm()->note_trap(c, patch_domain(t.container(), t.own_credentials()));
        o = handle_call(t, call);
        break;
      }
      case platform::EventKind::fault:
        handle_fault(t);
        break;
      case platform::EventKind::interrupt:
        i.in_call.store(false, std::memory_order_relaxed);
        t.mm()->leave_trampoline(c, nullptr);
        if (c.futex_interrupted()) o = futex_outcome_when_interrupted(t);
        break;
      case platform::EventKind::gone:
        lose_process(t);
        break;
      case platform::EventKind::never_born:
        vanish(t);
        break;
    }
  }
  exit_current(t);
}

// ---- Birth ----

enum { kNew = 0, kGo = 1, kNeverMind = 2 };

Result<void> spawn_task_fiber(Task& t) {
  Ref<Task> self(t);
  Ref<sched::Fiber> f = TRY(sched::spawn([self]() mutable {
    Task& task = *self;
    sched::current()->owner = &task;
    // A process that is killed before it was started ends as one that runs.
    while (task.impl().state.load(std::memory_order_acquire) == kNew && !must_exit(task)) (void)sched::park();
    if (task.impl().state.load(std::memory_order_acquire) != kNeverMind) run_task(task);
    sched::current()->owner = nullptr;
  }));
  MutexLock l(t.group().impl().mu);
  TaskAccess::fiber(t) = std::move(f);
  return {};
}

void start_task(Task& t) {
  t.impl().state.store(kGo, std::memory_order_release);
  t.fiber().wake();
}

void abort_task(Task& t) {
  t.impl().state.store(kNeverMind, std::memory_order_release);
  t.fiber().wake();
}

}  // namespace sentry::kernel
