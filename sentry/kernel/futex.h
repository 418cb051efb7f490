// SPDX-License-Identifier: Apache-2.0
// Futexes. One domain per key: words in private memory are waited for on the host, by the application's own threads; words in
// memory that processes share are queued here. Linux: kernel/futex/.
#pragma once

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

// futex(2). Results as the system call.
Result<long> futex_call(Task& t, const platform::Call& call);
Result<long> futex_waitv(Task& t, uint64_t waiters, unsigned n, unsigned flags, uint64_t timeout_addr, int clock);
Result<long> futex2_wake(Task& t, uint64_t addr, uint64_t mask, int n, uint32_t flags);
Result<long> futex2_wait(Task& t, uint64_t addr, uint64_t value, uint64_t mask, uint32_t flags, uint64_t timeout_addr, int clock);
Result<long> futex2_requeue(Task& t, uint64_t waiters, unsigned flags, int n_wake, int n_move);
// Goes on with a shared wait after a stop (restart_syscall).
Result<long> futex_restart(Task& t, const RestartBlock& block);

// The task loop: makes the host call that futex_call() left, or tells what it comes to when a signal was first.
void begin_host_futex(Task& t);
CallOutcome futex_outcome_when_interrupted(Task& t);

// Wakes at most n waiters of the word at addr (exit's and robust lists' wakes). Parks.
void futex_wake(Task& t, uint64_t addr, int n);

// exit and exec: marks the robust futexes this thread holds as ownerless and wakes a waiter of each.
void walk_robust_list(Task& t);
// exit and exec: clears the word of set_tid_address(2) if anybody else can see it. What the host thread itself must
// clear and wake as its last act, or 0.
uint64_t clear_child_tid(Task& t);

}  // namespace sentry::kernel
