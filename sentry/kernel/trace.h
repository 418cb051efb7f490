// SPDX-License-Identifier: Apache-2.0
// ptrace(2) from both sides: what a tracee's own fiber does at its stops, and what a tracer may ask. Linux: kernel/ptrace.c.
//
// A stopped tracee's fiber sleeps in trace_stop() and keeps a copy of its registers for its tracer; what needs its own thread
// (vector registers, writes to pages that it may only read) it does itself, as a job that the tracer hands to it.
#pragma once

#include <sys/ptrace.h>

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

// Events that Linux has and <sys/ptrace.h> may not.
inline constexpr int kEventStop = 128;  // PTRACE_EVENT_STOP

// What a stop is, for the tracer's wait(2) and questions.
struct TraceStop {
  int code = 0;         // of wait(2): status >> 8
  int why = CLD_TRAPPED;
  uint64_t message = 0;  // PTRACE_GETEVENTMSG; kept from before when has_message is false
  bool has_message = false;
  std::optional<SignalInfo> info;  // PTRACE_GETSIGINFO; none: a group stop
  TraceState::Op op = TraceState::Op::none;
  bool at_exit = false;  // the thread ends already: only SIGKILL cuts it short
};

// Own fiber: stops until the tracer lets it go on, and answers the signal that it sends along. Nothing: nobody traces, or the
// task must end. outcome: of the call in progress, null inside a call. The tracer may change all of it. Parks.
std::optional<int> trace_stop(Task& t, TraceStop stop, CallOutcome* outcome);

// ---- Own fiber; t.traced() was asked before ----
// The entry of a call, which may become another one. False: it is not to be made (*instead is its result).
bool trace_call_entry(Task& t, platform::Call* call, int64_t* instead);
void trace_call_exit(Task& t, CallOutcome& o);
// SECCOMP_RET_TRACE. False: not to be made; as above.
bool trace_seccomp(Task& t, platform::Call* call, uint32_t data, int64_t* instead);
// A signal that was taken off the queue. False: the tracer keeps it.
bool trace_signal(Task& t, SignalInfo* info, CallOutcome& o);
// PTRACE_INTERRUPT and its like.
void trace_trap(Task& t, CallOutcome& o);
// A group stop; true: the tracer let it go on.
bool trace_group_stop(Task& t);
// The first instruction of a handler, when single-stepping.
void trace_handler(Task& t);
// PTRACE_EVENT_*: stops if it was asked for. Answers whether it was.
bool trace_event(Task& t, int event, uint64_t message);
void trace_exec(Task& t, int old_tid);
void trace_exit(Task& t);
// A new task takes over its maker's tracer. Which event it is to the tracer, 0: none. Before it is started.
int trace_clone(Task& t, Task& child, uint64_t flags, int exit_signal);
int tid_for_tracer(Task& t, Task& other);

// Before the application goes on, and when it has come out: PTRACE_SINGLESTEP.
void begin_step(Task& t);
void end_step(Task& t, bool in_call);

// ---- Family (task_set_lock) ----
// What goes after the lock.
struct TraceRemains {
  std::vector<Ref<Task>> tasks;
  std::list<DeadTracee> dead;
};
// A thread has ended: its tracer hears of it. leader_zombie: it stands for its whole process.
void trace_gone_locked(Task& t, bool leader_zombie, TraceRemains* keep) REQUIRES(task_set_lock);
// A tracer has ended.
void release_tracees_locked(Task& tracer, TraceRemains* keep) REQUIRES(task_set_lock);
// Whether the parent's wait(2) sees this child by ptrace's rules.
bool traced_by_locked(ThreadGroup& child, const ThreadGroup& group) REQUIRES(task_set_lock);
// The task that traces t, with what it may do: for execve's privileges.
bool tracer_is_capable(Task& t);

// ---- The tracer's side: the current task's requests ----
Result<long> trace_me(Task& t);
Result<long> trace_attach(Task& tracer, Task& target, bool seize, uint64_t options);
// All others. addr and data as ptrace(2) has them.
Result<long> trace_request(Task& tracer, Task& target, long request, uint64_t addr, uint64_t data);
// Linux: ptrace_may_access() with PTRACE_MODE_ATTACH_REALCREDS.
bool may_trace(Task& tracer, Task& target);

}  // namespace sentry::kernel
