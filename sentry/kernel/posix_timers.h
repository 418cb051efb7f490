// SPDX-License-Identifier: Apache-2.0
// Interval timers, alarm(2), timer_create(2) and RLIMIT_CPU of one process. Linux: kernel/time/{itimer,posix-timers}.c.
#pragma once

#include <time.h>

#include <map>

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

// What a POSIX timer or interval timer counts.
enum class TimerClock : uint8_t { monotonic, realtime, process_user, process_cpu, thread_cpu };
struct TimerSetting {
  int64_t value_ns = 0;     // 0: disarmed
  int64_t interval_ns = 0;  // 0: once
};

// CLOCK_REALTIME - CLOCK_MONOTONIC now, in ns.
int64_t realtime_offset_ns();
// Reads a clock for the timers of g (thread: for TimerClock::thread_cpu).
int64_t read_timer_clock(TimerClock c, ThreadGroup& g, Task* thread);

// One timer. Held by: its process, and who uses it just now.
class ProcessTimer : public RefCounted<ProcessTimer> {
 public:
  // signo 0: nobody is told (SIGEV_NONE). thread: SIGEV_THREAD_ID, or the thread whose CPU time counts.
  ProcessTimer(ThreadGroup& g, TimerClock clock, int id, int signo, int code, sigval_t value, RefOrNull<Task> target,
               RefOrNull<Task> measured);
  TimerSetting get();
  TimerClock clock() const { return clock_; }
  // absolute: value_ns is a reading of the clock. Returns what was set before.
  TimerSetting set(const TimerSetting& s, bool absolute);
  int overrun();
  // Its signal was taken: counts what it missed, goes on.
  void dequeued(SignalInfo* info);

 private:
  friend class RefCounted<ProcessTimer>;
  ~ProcessTimer() { timer_.cancel(); }
  static void on_timer(void* arg);
  void expire();
  TimerSetting get_locked(int64_t now) REQUIRES(mu_);
  void arm_locked(int64_t now) REQUIRES(mu_);
  // Moves next_ past now; how many periods went by beyond the first.
  int64_t skip_locked(int64_t now) REQUIRES(mu_);

  ThreadGroup& group_;
  const TimerClock clock_;
  const int id_;
  const int signo_, code_;
  const sigval_t value_;
  const RefOrNull<Task> target_, measured_;
  Mutex mu_{LockRank::kTimer};
  int64_t next_ GUARDED_BY(mu_) = 0;  // on its clock; 0: disarmed
  int64_t interval_ GUARDED_BY(mu_) = 0;
  bool queued_ GUARDED_BY(mu_) = false;  // its signal waits to be taken
  int64_t missed_ GUARDED_BY(mu_) = 0, overrun_ GUARDED_BY(mu_) = 0;
  sched::Timer timer_;
};

struct PosixTimers {
  explicit PosixTimers(ThreadGroup& g) : group(g) {}
  // which: ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
  TimerSetting get_interval(int which);
  TimerSetting set_interval(int which, const TimerSetting& s);
  // value null: the timer's number. signo 0: SIGEV_NONE.
  Result<int> create(TimerClock clock, int signo, const sigval_t* value, RefOrNull<Task> target, RefOrNull<Task> measured);
  Result<Ref<ProcessTimer>> find(int id);
  Result<void> remove(int id);
  void dequeued(SignalInfo* info);
  void clear_created();  // exec
  void clear();          // the last thread ends
  void cpu_limit_changed(const rlimit64& limit);

  ThreadGroup& group;
  Mutex mu{LockRank::kTimer};
  std::array<RefOrNull<ProcessTimer>, 3> intervals GUARDED_BY(mu);
  RefOrNull<ProcessTimer> cpu_soft GUARDED_BY(mu), cpu_hard GUARDED_BY(mu);
  std::map<int, Ref<ProcessTimer>> created GUARDED_BY(mu);
  int next_id GUARDED_BY(mu) = 0;
};

}  // namespace sentry::kernel
