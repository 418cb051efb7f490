// SPDX-License-Identifier: Apache-2.0
// Interval timers and POSIX timers; the work is in kernel/posix_timers.cc.
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/posix_timers.h"

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

using kernel::TimerClock;
using kernel::TimerSetting;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kFar = INT64_MAX / 4;

struct KernelSigevent {  // struct sigevent of the ABI: 64 bytes
  sigval_t value;
  int signo, notify;
  int tid;
  int padding[11];
};
static_assert(sizeof(KernelSigevent) == 64);

int64_t to_ns(int64_t s, int64_t ns) { return s > kFar / kSecond ? kFar : s * kSecond + ns; }
timespec to_timespec(int64_t ns) { return {ns / kSecond, ns % kSecond}; }
// Rounded up: a timer that is armed never reads as zero.
timeval to_timeval(int64_t ns) {
  int64_t us = (ns + 999) / 1000;
  return {us / 1000000, us % 1000000};
}

itimerspec to_itimerspec(const TimerSetting& s) { return {to_timespec(s.interval_ns), to_timespec(s.value_ns)}; }
itimerval to_itimerval(const TimerSetting& s) { return {to_timeval(s.interval_ns), to_timeval(s.value_ns)}; }

Result<TimerClock> clock_of(int clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_TAI: return TimerClock::realtime;
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME: return TimerClock::monotonic;
    case CLOCK_PROCESS_CPUTIME_ID: return TimerClock::process_cpu;
    case CLOCK_THREAD_CPUTIME_ID: return TimerClock::thread_cpu;
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM: return kEPERM;  // CAP_WAKE_ALARM has no meaning here
    default: return kEINVAL;
  }
}

}  // namespace

Result<long> sys_getitimer(Task& task, int which, UserOut<struct itimerval> value) {
  if (which < 0 || which > 2) return kEINVAL;
  TRY(value.copy_out(task.context(), to_itimerval(task.group().impl().timers->get_interval(which))));
  return 0L;
}

Result<long> sys_setitimer(Task& task, int which, UserIn<struct itimerval> value, UserOut<struct itimerval> old) {
  itimerval v{};
  if (!value.is_null()) v = TRY(value.copy_in(task.context()));  // null disarms, as Linux still allows
  auto bad = [](const timeval& t) { return t.tv_sec < 0 || t.tv_usec < 0 || t.tv_usec >= 1000000; };
  if (bad(v.it_value) || bad(v.it_interval)) return kEINVAL;
  if (which < 0 || which > 2) return kEINVAL;
  TimerSetting s{to_ns(v.it_value.tv_sec, v.it_value.tv_usec * 1000), to_ns(v.it_interval.tv_sec, v.it_interval.tv_usec * 1000)};
  TimerSetting before = task.group().impl().timers->set_interval(which, s);
  if (!old.is_null()) TRY(old.copy_out(task.context(), to_itimerval(before)));
  return 0L;
}

Result<long> sys_alarm(Task& task, unsigned seconds) {
  TimerSetting before = task.group().impl().timers->set_interval(ITIMER_REAL, {seconds * kSecond, 0});
  // Linux: alarm_setitimer() rounds to the nearest second, and never an armed one to zero.
  int64_t left = (before.value_ns + kSecond / 2) / kSecond;
  if (left == 0 && before.value_ns != 0) left = 1;
  return long{left};
}

Result<long> sys_timer_create(Task& task, int clock, UserIn<void> event, UserOut<int> id) {
  TimerClock c = TRY(clock_of(clock));
  int signo = SIGALRM, notify = SIGEV_SIGNAL;
  sigval_t value{};
  const bool given = !event.is_null();
  RefOrNull<Task> target, measured;
  if (given) {
    KernelSigevent e = TRY(event.copy_in<KernelSigevent>(task.context()));
    signo = e.signo;
    notify = e.notify;
    value = e.value;
    switch (notify) {
      case SIGEV_NONE:
        signo = 0;
        break;
      case SIGEV_THREAD_ID:
        target = task.group().pid_namespace().find_task(e.tid);
        if (!target || &target->group() != &task.group()) return kEINVAL;
        [[fallthrough]];
      case SIGEV_SIGNAL:
      case SIGEV_THREAD:
        if (signo <= 0 || signo > kernel::kSignals) return kEINVAL;
        break;
      default:
        return kEINVAL;
    }
  }
  if (c == TimerClock::thread_cpu) measured = Ref<Task>(task);
  kernel::PosixTimers& timers = *task.group().impl().timers;
  int number = TRY(timers.create(c, signo, given ? &value : nullptr, std::move(target), std::move(measured)));
  Result<void> copied = id.copy_out_now(task.context(), number);
  if (!copied.ok()) {
    TRY(timers.remove(number));
    return copied.error();
  }
  return 0L;
}

Result<long> sys_timer_settime(Task& task, int id, int flags, UserIn<struct itimerspec> value,
                               UserOut<struct itimerspec> old) {
  if (value.is_null()) return kEINVAL;
  itimerspec v = TRY(value.copy_in(task.context()));
  auto bad = [](const timespec& t) { return t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= kSecond; };
  if (bad(v.it_value) || bad(v.it_interval)) return kEINVAL;
  Ref<kernel::ProcessTimer> t = TRY(task.group().impl().timers->find(id));
  TimerSetting s{to_ns(v.it_value.tv_sec, v.it_value.tv_nsec), to_ns(v.it_interval.tv_sec, v.it_interval.tv_nsec)};
  if ((flags & TIMER_ABSTIME) && s.value_ns != 0 && t->clock() == TimerClock::monotonic)
    s.value_ns = std::max<int64_t>(1, s.value_ns - kernel::clock_offset(task, CLOCK_MONOTONIC));
  TimerSetting before = t->set(s, flags & TIMER_ABSTIME);
  if (!old.is_null()) TRY(old.copy_out(task.context(), to_itimerspec(before)));
  return 0L;
}

Result<long> sys_timer_gettime(Task& task, int id, UserOut<struct itimerspec> value) {
  Ref<kernel::ProcessTimer> t = TRY(task.group().impl().timers->find(id));
  TRY(value.copy_out(task.context(), to_itimerspec(t->get())));
  return 0L;
}

Result<long> sys_timer_getoverrun(Task& task, int id) {
  Ref<kernel::ProcessTimer> t = TRY(task.group().impl().timers->find(id));
  return long{t->overrun()};
}

Result<long> sys_timer_delete(Task& task, int id) {
  TRY(task.group().impl().timers->remove(id));
  return 0L;
}

}  // namespace sentry::syscalls
