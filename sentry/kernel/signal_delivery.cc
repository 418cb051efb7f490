// SPDX-License-Identifier: Apache-2.0
// Taking signals on the way back to the application: default actions, frames for handlers, the fate of the interrupted call.
// Linux: get_signal(), handle_signal() of arch/x86/kernel/signal.c.
#include "sentry/kernel/internal.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

constexpr uint64_t kIgnore = 1;
constexpr uint64_t kRestorer = 0x04000000;  // SA_RESTORER
constexpr uint64_t kRedZone = 128;

enum class Next : uint8_t { none, again, signal, exit };

Next next_signal(Task& t, SignalInfo* info, bool* forced, CallOutcome& o) {
  ThreadGroup& g = t.group();
  ThreadGroup::Impl& i = g.impl();
  bool continued = false, stop = false, trap = false;
  {
    MutexLock l(i.mu);
    if (must_exit_locked(i, t)) return Next::exit;
    if (i.tell_continued) {
      i.tell_continued = false;
      continued = true;
    } else if (i.stop_pending && !t.impl().stop_passed) {
      stop = true;
    } else if (t.impl().trap_pending) {
      trap = true;
    } else {
      SignalSet takes = ~t.impl().blocked;
      bool taken = t.impl().pending.take(takes, info) || i.shared.take(takes, info);
      recalculate_pending_locked(i, t);
      if (!taken) return Next::none;
      SignalSet bit = signal_bit(info->si.si_signo);
      *forced = t.impl().forced_default & bit;
      t.impl().forced_default &= ~bit;
    }
  }
  if (continued) notify_parent_of_stop(g, ChildEvent::continued);
  if (stop) stop_here(t, 0);
  if (trap) trace_trap(t, o);
  if (continued || stop || trap) return Next::again;
  if (info->si.si_code == SI_TIMER) i.timers->dequeued(info);
  return Next::signal;
}

void end_group(Task& t, int signo) {
  MutexLock l(t.group().impl().mu);
  begin_group_exit_locked(t.group().impl(), ExitStatus::signaled(signo, false));
}

bool on_altstack(const Task::Impl& i, uint64_t sp) {
  if (i.altstack_flags & kAutoDisarm) return false;
  return sp > i.altstack_sp && sp - i.altstack_sp <= i.altstack_size;
}

// What the interrupted call answers or does again, now that a handler runs. Linux: handle_signal().
void settle_registers(arch::Registers& regs, CallOutcome& o, uint64_t action_flags) {
  if (o.restart == 0) {
    if (o.has_result) regs.rax = static_cast<uint64_t>(o.result);
  } else if (o.restart == kERESTARTNOINTR.value() ||
             (o.restart == kERESTARTSYS.value() && (action_flags & SA_RESTART))) {
    regs.rip -= 2;  // the `syscall` instruction
    regs.rax = o.number;
  } else {
    regs.rax = static_cast<uint64_t>(-static_cast<int64_t>(EINTR));
  }
  o = CallOutcome{};
}

Result<void> push_frame(Task& t, const SignalInfo& info, const SignalAction& action, const arch::Registers& regs) {
  Task::Impl& i = t.impl();
  if (!(action.flags & kRestorer)) return kEFAULT;
  platform::SignalFrame f{};
  f.handler = action.handler;
  f.restorer = action.restorer;
  f.flags = action.flags;
  memcpy(f.siginfo, &info.si, sizeof f.siginfo);
  f.mask = i.restore_mask ? i.saved_mask : i.blocked;
  f.altstack_sp = i.altstack_sp;
  f.altstack_size = i.altstack_size;
  f.altstack_flags = i.altstack_flags;
  uint64_t sp = regs.rsp;
  bool nested = on_altstack(i, sp), enters = false;
  if ((action.flags & SA_ONSTACK) && i.altstack_size != 0 && !nested) {
    sp = i.altstack_sp + i.altstack_size;
    enters = true;
  } else {
    sp -= kRedZone;
  }
  if ((nested || enters) && sp - i.altstack_sp < platform::Context::signal_frame_size()) return kEFAULT;
  f.stack_pointer = sp;
  if (i.fault_signal == info.si.si_signo) {
    f.with_fault = true;
    f.fault = i.last_fault;
    i.fault_signal = 0;
  }
  return t.context().push_signal_frame(f);
}

// A handler's frame, or SIGSEGV when its stack cannot take it.
void run_handler(Task& t, const SignalInfo& info, const SignalAction& action, CallOutcome& o) {
  Task::Impl& i = t.impl();
  platform::Context& c = t.context();
  arch::Registers regs = c.registers();
  if (o.number_valid) {
    settle_registers(regs, o, action.flags);
    c.set_registers(regs);
  }
  const int signo = info.si.si_signo;
  Result<void> pushed = push_frame(t, info, action, regs);
  if (!pushed.ok()) {
    force_signal(t, SignalInfo::kernel(SIGSEGV), signo == SIGSEGV);
    return;
  }
  i.restore_mask = false;
  if (i.altstack_flags & kAutoDisarm) {
    i.altstack_sp = i.altstack_size = 0;
    i.altstack_flags = SS_DISABLE;
  }
  SignalSet mask = i.blocked | action.mask;
  if (!(action.flags & SA_NODEFER)) mask |= signal_bit(signo);
  t.set_blocked(mask);
}

}  // namespace

Delivered deliver_signals(Task& t, CallOutcome& o) {
  Delivered result = Delivered::nothing;
  for (;;) {
    SignalInfo info;
    bool forced = false;
    Next n = next_signal(t, &info, &forced, o);
    if (n == Next::exit) return Delivered::exit;
    if (n == Next::none) return result;
    if (n == Next::again) continue;
    if (__builtin_expect(traced(t), 0) && !trace_signal(t, &info, o)) continue;
    const int signo = info.si.si_signo;
    Ref<SignalHandlers> handlers = t.group().handlers();
    SignalAction action = handlers->get(signo);
    if (forced) {
      action = SignalAction{};
      handlers->set(signo, action);
    }
    if (action.handler == kIgnore) continue;
    if (action.handler != 0) {
      if (action.flags & SA_RESETHAND) {
        SignalAction reset = action;
        reset.handler = 0;
        handlers->set(signo, reset);
      }
      run_handler(t, info, action, o);
      trace_handler(t);
      result = Delivered::handler;
      continue;
    }
    DefaultAction d = default_action(signo);
    if (d == DefaultAction::ignore || d == DefaultAction::resume) continue;
    if (t.group().impl().is_init && !forced && signo != SIGSTOP) continue;
    if (d == DefaultAction::stop) {
      if (signo != SIGSTOP && t.group().process_group()->is_orphaned()) continue;
      stop_here(t, signo);
      continue;
    }
    end_group(t, signo);
    return Delivered::exit;
  }
}

}  // namespace sentry::kernel
