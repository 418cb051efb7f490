// SPDX-License-Identifier: Apache-2.0
// ptrace as a tracee's own fiber sees it: its stops, and what of them its tracer has changed when it goes on.
#include "sentry/kernel/trace.h"

#include "sentry/kernel/answers.h"
#include "sentry/kernel/tracer.h"

#include <linux/audit.h>
#include <sched.h>

#include <algorithm>

namespace sentry::kernel {
namespace {

constexpr uint64_t kFlagTrap = 1 << 8;
constexpr int kEntryMark = 0x80;  // PTRACE_O_TRACESYSGOOD
using Op = TraceState::Op;
using Mode = TraceState::Mode;

// Linux: do_notify_parent_cldstop() for a tracer.
void tell_tracer_locked(Task& t, int why, int status) REQUIRES(task_set_lock) {
  Task* tracer = t.impl().trace.tracer;
  ThreadGroup& g = tracer->group();
  RefOrNull<SignalHandlers> handlers;
  {
    MutexLock l(g.impl().mu);
    handlers = g.impl().handlers;
  }
  if (handlers) {
    const SignalAction a = handlers->get(SIGCHLD);
    if (a.handler != reinterpret_cast<uint64_t>(SIG_IGN) && !(a.flags & SA_NOCLDSTOP)) {
      SignalInfo info = SignalInfo::user(SIGCHLD, why, number_in(t.impl().ids, g.pid_namespace()), t.own_credentials().uid);
      info.si.si_status = status;
      send_to_group(g, info, true);
    }
  }
  g.impl().child_events.wake_all();
}

// What the registers are while the call that `o` tells of is in progress.
arch::Registers shown_registers(Task& t, const CallOutcome* o) {
  arch::Registers r = t.context().registers();
  if (!o) {  // inside a call
    if (t.impl().keep_registers) {  // of a new program
      r.orig_rax = t.impl().call_number.load(std::memory_order_relaxed);
      return r;
    }
    r.orig_rax = t.impl().call_number.load(std::memory_order_relaxed);
    r.rax = static_cast<uint64_t>(-static_cast<int64_t>(ENOSYS));
  } else if (o->number_valid) {
    r.orig_rax = o->number;
    r.rax = static_cast<uint64_t>(o->has_result ? o->result : -int64_t{o->restart});
  } else {
    r.orig_rax = ~0ull;
  }
  return r;
}

// The tracer has changed them.
void take_registers(Task& t, const arch::Registers& r, CallOutcome* o) {
  t.context().set_registers(r);
  if (!o) return;
  if (!o->number_valid || static_cast<int64_t>(r.orig_rax) < 0) {
    *o = CallOutcome{};  // no call to be made again
  } else if (!o->restart || r.rax != static_cast<uint64_t>(-int64_t{o->restart})) {
    o->restart = 0;
    o->has_result = true;
    o->result = static_cast<int64_t>(r.rax);
  }
}

// Runs what the tracer wants of this thread. False: nothing was wanted.
bool run_job(Task& t) {
  TraceState& s = t.impl().trace;
  TraceJob* job;
  {
    MutexLock l(task_set_lock);
    job = s.job;
    if (!job || job->state != TraceJob::State::waits) return false;
    job->state = TraceJob::State::runs;
  }
  job->fn(t, job->arg);
  {
    MutexLock l(task_set_lock);
    job->state = TraceJob::State::done;
    s.job = nullptr;
  }
  s.job_queue.wake_all();
  return true;
}

SignalInfo trap_info(Task& t, int code) {
  return SignalInfo::user(SIGTRAP, code, t.tid(), t.own_credentials().uid);
}

bool wants(const Task& t, uint32_t mode) { return t.impl().trace.mode.load(std::memory_order_relaxed) & mode; }

uint32_t options_of(Task& t) {
  MutexLock l(task_set_lock);
  return t.impl().trace.tracer ? t.impl().trace.options : 0;
}

// The call as the registers of an entry stop have it.
platform::Call call_of(const arch::Registers& r) { return {r.orig_rax, {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}}; }

// A stop at which the call can be changed. False: it is not to be made.
bool stop_at_call(Task& t, platform::Call* call, TraceStop stop, int64_t* instead, int* signal) {
  TraceState& s = t.impl().trace;
  {
    MutexLock l(task_set_lock);
    s.call = *call;
  }
  std::optional<int> r = trace_stop(t, stop, nullptr);
  *signal = r.value_or(0);
  // What the stub has copied in for the call does not count any more: the tracer may have written there.
  if (Result<platform::SavedThread> now = t.context().save_thread(); now.ok()) t.context().restore_thread(std::move(now).value());
  arch::Registers now;
  {
    MutexLock l(task_set_lock);
    now = s.registers;
  }
  if (!r) return true;
  if (static_cast<int64_t>(now.orig_rax) < 0) {
    *instead = static_cast<int64_t>(now.rax);
    t.impl().call_number.store(~0ull, std::memory_order_relaxed);
    return false;
  }
  *call = call_of(now);
  t.impl().call_number.store(call->number, std::memory_order_relaxed);
  return true;
}

}  // namespace

int tid_for_tracer(Task& t, Task& other) {
  MutexLock l(task_set_lock);
  Task* tracer = t.impl().trace.tracer;
  return tracer ? number_in(other.impl().ids, tracer->group().pid_namespace()) : 0;
}

std::optional<int> trace_stop(Task& t, TraceStop stop, CallOutcome* outcome) {
  TraceState& s = t.impl().trace;
  ThreadGroup::Impl& g = t.group().impl();
  if (RefOrNull<mm::AddressSpace> space = t.find_mm()) {
    space->settle(t.context());
    space->stop_patching(t.context());  // its tracer sees the program's own text
  }
  const arch::Registers before = shown_registers(t, outcome);
  auto ends = [&] {
    MutexLock l(g.mu);
    return stop.at_exit ? g.killed : must_exit_locked(g, t);
  };
  if (ends()) return std::nullopt;
  const int signal = stop.info && stop.op == Op::none && stop.why == CLD_TRAPPED ? stop.code & 0x7f : 0;
  {
    MutexLock l(task_set_lock);
    s.registers = before;
    s.left_info = stop.info;
    if (!s.tracer) return signal;  // gone meanwhile
    s.registers_changed = s.resumed = s.listening = s.reported = false;
    s.resume_signal = signal;  // if the tracer goes without a word
    s.code = stop.code;
    s.why = stop.why;
    s.op = stop.op;
    s.info = stop.info;
    if (stop.has_message) s.message = stop.message;
    s.stopped = true;
    tell_tracer_locked(t, stop.why, stop.code & 0x7f);
  }
  auto over = [&] {
    bool listening;
    {
      MutexLock l(task_set_lock);
      if (s.resumed || !s.tracer || (s.job && s.job->state == TraceJob::State::waits)) return true;
      listening = s.listening;
    }
    if (listening) {
      MutexLock l(g.mu);
      if (t.impl().trap_pending) return true;
    }
    return ends();
  };
  do {
    IGNORE_ERROR(sched::wait_for(s.queue, over, sched::kNever, sched::Interruptible::no), "no deadline");
  } while (run_job(t));
  bool changed;
  arch::Registers now;
  int answer;
  {
    MutexLock l(task_set_lock);
    s.stopped = s.listening = false;
    s.reported = true;
    if (s.job) s.job->state = TraceJob::State::cancelled;
    s.job = nullptr;
    s.left_info = std::exchange(s.info, std::nullopt);
    s.op = Op::none;
    changed = s.registers_changed;
    now = s.registers;
    answer = s.resume_signal;
  }
  s.job_queue.wake_all();
  if (!traced(t)) publish_answers(t);
  if (changed) take_registers(t, now, outcome);
  if (ends()) return std::nullopt;
  return answer;
}

// ---- Calls ----

bool trace_call_entry(Task& t, platform::Call* call, int64_t* instead) {
  if (!wants(t, Mode::kSyscalls | Mode::kEmulate)) return true;
  const bool emulate = wants(t, Mode::kEmulate);
  const int mark = options_of(t) & PTRACE_O_TRACESYSGOOD ? kEntryMark : 0;
  TraceStop stop;
  stop.code = SIGTRAP | mark;
  stop.info = trap_info(t, SIGTRAP | mark);
  stop.op = Op::entry;
  stop.has_message = true;
  stop.message = 1;  // PTRACE_EVENTMSG_SYSCALL_ENTRY
  int signal = 0;
  const bool make = stop_at_call(t, call, stop, instead, &signal);
  if (signal && signal != (stop.code & 0x7f)) send_to_task(t, SignalInfo::kernel(signal, SI_KERNEL), true);
  if (make && emulate) {
    MutexLock l(task_set_lock);
    *instead = static_cast<int64_t>(t.impl().trace.registers.rax);
    return false;
  }
  return make;
}

void trace_call_exit(Task& t, CallOutcome& o) {
  if (wants(t, Mode::kSyscalls)) {
    const int mark = options_of(t) & PTRACE_O_TRACESYSGOOD ? kEntryMark : 0;
    TraceStop stop;
    stop.code = SIGTRAP | mark;
    stop.info = trap_info(t, SIGTRAP | mark);
    stop.op = Op::exit;
    stop.has_message = true;
    stop.message = 2;  // PTRACE_EVENTMSG_SYSCALL_EXIT
    std::optional<int> signal = trace_stop(t, stop, &o);
    if (signal && *signal && *signal != SIGTRAP) send_to_task(t, SignalInfo::kernel(*signal, SI_KERNEL), true);
  } else if (wants(t, Mode::kStep)) {
    force_signal(t, SignalInfo::kernel(SIGTRAP, TRAP_BRKPT));
  }
}

bool trace_seccomp(Task& t, platform::Call* call, uint32_t data, int64_t* instead) {
  if (!(options_of(t) & PTRACE_O_TRACESECCOMP)) {
    *instead = -ENOSYS;
    return false;
  }
  {
    MutexLock l(task_set_lock);
    t.impl().trace.seccomp_data = data;
  }
  TraceStop stop;
  stop.code = SIGTRAP | PTRACE_EVENT_SECCOMP << 8;
  stop.info = trap_info(t, stop.code);
  stop.op = Op::seccomp;
  stop.has_message = true;
  stop.message = data;
  int signal = 0;
  return stop_at_call(t, call, stop, instead, &signal);
}

// ---- Signals ----

// Linux: ptrace_signal().
bool trace_signal(Task& t, SignalInfo* info, CallOutcome& o) {
  TraceState& s = t.impl().trace;
  const int was = info->si.si_signo;
  int tracer = 0;
  {
    MutexLock l(task_set_lock);
    if (!s.tracer) return true;
    tracer = number_in(s.tracer->impl().ids, t.group().pid_namespace());
  }
  TraceStop stop;
  stop.code = was;
  stop.info = *info;
  std::optional<int> answer = trace_stop(t, stop, &o);
  if (!answer || *answer == 0) return false;
  {
    MutexLock l(task_set_lock);
    if (s.left_info) *info = *s.left_info;  // PTRACE_SETSIGINFO
  }
  if (*answer != info->si.si_signo) *info = SignalInfo::user(*answer, SI_USER, tracer, 0);
  if (*answer != was) t.impl().fault_signal = 0;
  MutexLock l(t.group().impl().mu);
  if (t.impl().blocked & signal_bit(*answer)) {  // it waits until it is unblocked
    t.impl().pending.add(*info);
    recalculate_pending_locked(t.group().impl(), t);
    return false;
  }
  return true;
}

// Linux: do_jobctl_trap().
void trace_trap(Task& t, CallOutcome& o) {
  int signo = SIGTRAP;
  {
    MutexLock l(t.group().impl().mu);
    t.impl().trap_pending = false;
    if (t.group().impl().stop_pending) signo = t.group().impl().stop_signal;
    recalculate_pending_locked(t.group().impl(), t);
  }
  TraceStop stop;
  stop.code = signo | kEventStop << 8;
  stop.why = CLD_STOPPED;
  stop.info = SignalInfo::user(signo, stop.code, t.tid(), t.own_credentials().uid);
  stop.has_message = true;
  (void)trace_stop(t, stop, &o);
}

bool trace_group_stop(Task& t) {
  TraceStop stop;
  bool seized;
  {
    MutexLock l(task_set_lock);
    if (!t.impl().trace.tracer) return false;
    seized = t.impl().trace.seized();
  }
  {
    MutexLock l(t.group().impl().mu);
    if (!t.group().impl().stop_pending) return false;  // continued before it saw its tracer, who hears of that as well
    t.impl().trap_pending = false;
    stop.code = t.group().impl().stop_signal;
  }
  if (seized) {
    stop.info = SignalInfo::user(stop.code, stop.code | kEventStop << 8, t.tid(), t.own_credentials().uid);
    stop.code |= kEventStop << 8;
  }
  stop.why = CLD_STOPPED;
  CallOutcome none;
  const bool let_go = trace_stop(t, stop, &none).has_value();
  MutexLock l(task_set_lock);
  return let_go && t.impl().trace.tracer;
}

void trace_handler(Task& t) {
  if (!wants(t, Mode::kStep)) return;
  TraceStop stop;
  stop.code = SIGTRAP;
  stop.info = trap_info(t, SIGTRAP);
  CallOutcome none;
  (void)trace_stop(t, stop, &none);
}

// ---- Events ----

bool trace_event(Task& t, int event, uint64_t message) {
  if (!(options_of(t) & 1u << event)) return false;
  TraceStop stop;
  stop.code = SIGTRAP | event << 8;
  stop.info = trap_info(t, stop.code);
  stop.message = message;
  stop.has_message = true;
  stop.at_exit = event == PTRACE_EVENT_EXIT;
  (void)trace_stop(t, stop, nullptr);
  return true;
}

void trace_exec(Task& t, int old_tid) {
  if (trace_event(t, PTRACE_EVENT_EXEC, static_cast<uint64_t>(old_tid))) return;
  bool seized;
  {
    MutexLock l(task_set_lock);
    seized = t.impl().trace.seized() || !t.impl().trace.tracer;
  }
  if (!seized) send_to_task(t, SignalInfo::user(SIGTRAP, SI_USER, t.tid(), t.own_credentials().uid), true);
}

void trace_exit(Task& t) {
  int status = t.impl().exit_code.load();
  {
    MutexLock l(t.group().impl().mu);
    if (t.group().impl().status_is_group) status = t.group().impl().status.wait_status;
    if (t.group().impl().killed || t.impl().lending) return;
  }
  (void)trace_event(t, PTRACE_EVENT_EXIT, static_cast<uint64_t>(status));
}

int trace_clone(Task& t, Task& child, uint64_t flags, int exit_signal) {
  if (flags & CLONE_UNTRACED) return 0;
  TraceState& s = t.impl().trace;
  int event = flags & CLONE_VFORK ? PTRACE_EVENT_VFORK : exit_signal != SIGCHLD ? PTRACE_EVENT_CLONE : PTRACE_EVENT_FORK;
  bool seized;
  {
    MutexLock l(task_set_lock);
    if (!s.tracer) return 0;
    if (!(s.options & 1u << event)) event = 0;
    if (!event && !(flags & CLONE_PTRACE)) return 0;
    TraceState& c = child.impl().trace;
    c.tracer = s.tracer;
    seized = s.seized();
    c.options = s.options;
    c.mode = Mode::kTraced | (seized ? Mode::kSeized : 0u);
    s.tracer->group().impl().tracees.push_back(Ref<Task>(child));
  }
  ThreadGroup::Impl& g = child.group().impl();
  MutexLock l(g.mu);
  if (seized) child.impl().trap_pending = true;
  else child.impl().pending.add(SignalInfo::user(SIGSTOP, SI_USER, 0, 0));
  recalculate_pending_locked(g, child);
  return event;
}

// ---- Single step ----

void begin_step(Task& t) {
  arch::Registers r = t.context().registers();
  r.eflags |= kFlagTrap;
  t.context().set_registers(r);
}

void end_step(Task& t, bool in_call) {
  arch::Registers r = t.context().registers();
  r.eflags &= ~kFlagTrap;
  if (in_call) r.r11 &= ~kFlagTrap;
  t.context().set_registers(r);
}

// ---- Family ----

bool traced_by_locked(ThreadGroup& child, const ThreadGroup& group) {
  RefOrNull<Task> leader;
  {
    MutexLock l(child.impl().mu);
    leader = child.impl().leader;
  }
  if (!leader) return false;
  const Task* tracer = leader->impl().trace.tracer;
  return tracer && &tracer->group() == &group;
}

void trace_gone_locked(Task& t, bool leader_zombie, TraceRemains* keep) {
  TraceState& s = t.impl().trace;
  Task* tracer = s.tracer;
  if (!tracer) return;
  ThreadGroup& g = t.group();
  ThreadGroup& mine = tracer->group();
  const bool to_parent = leader_zombie && g.impl().parent == &mine;  // it hears of it as a parent
  keep->tasks.push_back(Ref<Task>(t));
  mine.impl().tracees.remove_if([&](const Ref<Task>& x) { return x.get() == &t; });
  s.tracer = nullptr;
  s.mode = 0;
  s.was_traced = to_parent;
  if (to_parent) return;
  int status = t.impl().exit_code.load();
  uint32_t uid;
  {
    MutexLock l(g.impl().mu);
    if (g.impl().status_is_group || leader_zombie) status = g.impl().status.wait_status;
    uid = g.impl().last_uid;
  }
  RefOrNull<ThreadGroup> group = Ref<ThreadGroup>(g);
  mine.impl().dead_tracees.push_back(DeadTracee{t.impl().ids, std::move(group), tracer, status, uid});
  const bool killed = (status & 0x7f) != 0;
  SignalInfo info = SignalInfo::user(SIGCHLD, killed ? CLD_KILLED : CLD_EXITED, number_in(t.impl().ids, mine.pid_namespace()), uid);
  info.si.si_status = killed ? status & 0x7f : (status >> 8) & 0xff;
  send_to_group(mine, info, true);
  mine.impl().child_events.wake_all();
}

// Linux: exit_ptrace().
void release_tracees_locked(Task& tracer, TraceRemains* keep) {
  ThreadGroup::Impl& g = tracer.group().impl();
  for (auto it = g.tracees.begin(); it != g.tracees.end();) {
    Ref<Task> t = *it;
    TraceState& s = t->impl().trace;
    if (s.tracer != &tracer) {
      ++it;
      continue;
    }
    it = g.tracees.erase(it);
    const bool kill = s.options & PTRACE_O_EXITKILL;
    s.tracer = nullptr;
    s.mode = 0;
    s.queue.wake_all();
    if (kill) send_to_group(t->group(), SignalInfo::kernel(SIGKILL, SI_KERNEL), true);
    keep->tasks.push_back(std::move(t));
  }
  for (auto it = g.dead_tracees.begin(); it != g.dead_tracees.end();) {
    auto next = std::next(it);
    if (it->tracer == &tracer) keep->dead.splice(keep->dead.end(), g.dead_tracees, it);
    it = next;
  }
}

bool tracer_is_capable(Task& t) {
  RefOrNull<Task> tracer;
  {
    MutexLock l(task_set_lock);
    if (Task* p = t.impl().trace.tracer) tracer = Ref<Task>(*p);
  }
  return !tracer || tracer->credentials()->has_cap(CAP_SYS_PTRACE);
}

int tracer_pid(Task& t, const PidNamespace& ns) {
  MutexLock l(task_set_lock);
  Task* tracer = t.impl().trace.tracer;
  return tracer ? number_in(tracer->impl().ids, ns) : 0;
}

}  // namespace sentry::kernel
