// SPDX-License-Identifier: Apache-2.0
// Clocks and sleeping. The clocks are the host's, in the sandbox's time namespace; nobody may set them.
#include <sys/time.h>

#include "sentry/kernel/internal.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kUserHz = 100;

timespec to_timespec(int64_t ns) { return {ns / kSecond, ns % kSecond}; }
bool valid(const timespec& t) { return t.tv_sec >= 0 && t.tv_nsec >= 0 && t.tv_nsec < kSecond; }
// Saturates: a time that is never reached.
int64_t to_ns(const timespec& t) {
  if (t.tv_sec > INT64_MAX / kSecond / 4) return INT64_MAX / 4;
  return t.tv_sec * kSecond + t.tv_nsec;
}

bool is_host_clock(int clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI: return true;
    default: return false;
  }
}

// CPU clocks: of the caller, or (negative numbers) of the process or thread in it. Linux: include/linux/posix-timers.h.
Result<uint64_t> cpu_clock(Task& task, int clock) {
  if (clock == CLOCK_PROCESS_CPUTIME_ID) return kernel::cpu_times(task.group()).total_ns();
  if (clock == CLOCK_THREAD_CPUTIME_ID) return kernel::cpu_times(task).total_ns();
  if (clock >= 0) return kEINVAL;
  int id = ~(clock >> 3);
  bool thread = clock & 4;
  if ((clock & 3) == 3) return kEINVAL;  // a dynamic clock of a device
  RefOrNull<Task> t{Ref<Task>(task)};
  if (id != 0) t = task.group().pid_namespace().find_task(id);
  if (!t) return kEINVAL;
  if (thread) {
    if (&t->group() != &task.group()) return kEINVAL;
    return kernel::cpu_times(*t).total_ns();
  }
  return kernel::cpu_times(t->group()).total_ns();
}

enum RestartArgs { kClock, kRemaining };

Result<long> sleep_until(Task& task, sched::Nanos deadline, uint64_t remaining_addr, bool restartable);

Result<long> restart_sleep(Task& task, const kernel::RestartBlock& b) {
  return sleep_until(task, b.deadline, b.args[kRemaining], true);
}

Result<long> sleep_until(Task& task, sched::Nanos deadline, uint64_t remaining_addr, bool restartable) {
  sched::WaitQueue nothing;
  Result<void> r = sched::wait_for(nothing, [] { return false; }, deadline);
  if (!r.ok() && r.error() == kETIMEDOUT) return 0L;
  if (!restartable) return kERESTARTNOHAND;
  if (remaining_addr) {
    timespec left = to_timespec(std::max<int64_t>(deadline - sched::now(), 0));
    TRY(UserOut<timespec>(remaining_addr).copy_out(task.context(), left));
  }
  kernel::RestartBlock block;
  block.fn = restart_sleep;
  block.deadline = deadline;
  block.args[kRemaining] = remaining_addr;
  return task.restart_later(block);
}

int64_t host_time(int clock) {
  timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * kSecond + t.tv_nsec;
}

}  // namespace

Result<long> sys_clock_gettime(Task& task, int clock, UserOut<struct timespec> t) {
  timespec now{};
  if (is_host_clock(clock)) {
    clock_gettime(clock, &now);
    if (const int64_t ahead = kernel::clock_offset(task, clock)) now = to_timespec(now.tv_sec * kSecond + now.tv_nsec + ahead);
  } else {
    now = to_timespec(static_cast<int64_t>(TRY(cpu_clock(task, clock))));
  }
  TRY(t.copy_out(task.context(), now));
  return 0L;
}

Result<long> sys_clock_getres(Task& task, int clock, UserOut<struct timespec> t) {
  timespec res{0, 1};
  if (clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE) clock_getres(clock, &res);
  else if (!is_host_clock(clock)) TRY(cpu_clock(task, clock));
  if (!t.is_null()) TRY(t.copy_out(task.context(), res));
  return 0L;
}

Result<long> sys_clock_settime(Task& task, int clock, UserIn<struct timespec> t) {
  timespec v = TRY(t.copy_in(task.context()));
  if (clock != CLOCK_REALTIME || !valid(v)) return kEINVAL;
  return kEPERM;
}

Result<long> sys_settimeofday(Task& task, UserIn<struct timeval> tv, UserIn<struct timezone>) {
  if (!tv.is_null()) {
    timeval v = TRY(tv.copy_in(task.context()));
    if (v.tv_sec < 0 || v.tv_usec < 0 || v.tv_usec > 1000000) return kEINVAL;
  }
  return kEPERM;
}

Result<long> sys_gettimeofday(Task& task, UserOut<struct timeval> tv, UserOut<struct timezone> tz) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (!tv.is_null()) TRY(tv.copy_out(task.context(), timeval{now.tv_sec, now.tv_nsec / 1000}));
  if (!tz.is_null()) {
    struct Timezone { int minutes_west, dst; } zero{};
    TRY(tz.copy_bytes_out(task.context(), &zero, sizeof zero));
  }
  return 0L;
}

Result<long> sys_time(Task& task, UserOut<int64_t> t) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (!t.is_null()) TRY(t.copy_out(task.context(), int64_t{now.tv_sec}));
  return long{now.tv_sec};
}

Result<long> sys_times(Task& task, UserOut<struct tms> buf) {
  if (!buf.is_null()) {
    kernel::CpuTimes own = kernel::cpu_times(task.group()), children;
    {
      MutexLock l(kernel::task_set_lock);
      children = task.group().impl().children_cpu;
    }
    auto ticks = [](uint64_t ns) { return static_cast<clock_t>(ns / static_cast<uint64_t>(kSecond / kUserHz)); };
    struct tms t{};
    t.tms_utime = ticks(own.user_ns);
    t.tms_stime = ticks(own.system_ns);
    t.tms_cutime = ticks(children.user_ns);
    t.tms_cstime = ticks(children.system_ns);
    TRY(buf.copy_out(task.context(), t));
  }
  return long{sched::now() / (kSecond / kUserHz)};
}

Result<long> sys_nanosleep(Task& task, UserIn<struct timespec> req, UserOut<struct timespec> rem) {
  timespec t = TRY(req.copy_in(task.context()));
  if (!valid(t)) return kEINVAL;
  return sleep_until(task, sched::now() + to_ns(t), rem.unchecked_address(), true);
}

Result<long> sys_clock_nanosleep(Task& task, int clock, int flags, UserIn<struct timespec> req,
                                 UserOut<struct timespec> rem) {
  if (clock == CLOCK_PROCESS_CPUTIME_ID) return kEOPNOTSUPP;
  if (clock == CLOCK_THREAD_CPUTIME_ID || clock < 0) return kEINVAL;
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME && clock != CLOCK_TAI)
    return is_host_clock(clock) ? kEOPNOTSUPP : kEINVAL;
  timespec t = TRY(req.copy_in(task.context()));
  if (!valid(t)) return kEINVAL;
  if (!(flags & TIMER_ABSTIME)) return sleep_until(task, sched::now() + to_ns(t), rem.unchecked_address(), true);
  // Differs from Linux: a step of the clock does not move sleepers.
  int64_t deadline = to_ns(t) - kernel::clock_offset(task, clock);
  if (clock != CLOCK_MONOTONIC) deadline -= host_time(clock) - sched::now();
  return sleep_until(task, deadline, 0, false);
}

Result<long> sys_restart_syscall(Task& task) {
  kernel::RestartBlock block = task.impl().restart;
  if (!block.fn) return kEINTR;
  return block.fn(task, block);
}

}  // namespace sentry::syscalls
