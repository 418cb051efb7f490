// SPDX-License-Identifier: Apache-2.0
// Timers of a process. Those that count CPU time look at the clock again when it could have come so far at the earliest.
// Differs from Linux: steps of CLOCK_REALTIME do not move armed absolute timers.
#include "sentry/kernel/posix_timers.h"

#include <sys/time.h>

#include <algorithm>

namespace sentry::kernel {
namespace {

constexpr int64_t kTick = 4'000'000;       // CPU timers are looked at no more often (Linux: a jiffy)
constexpr int64_t kLeastPeriod = 100'000;  // a periodic timer whose signal nobody takes fires no more often
constexpr int64_t kFar = INT64_MAX / 2;
constexpr size_t kMaxTimers = 4096;

// One of the threads that compute now and take the signal: what profiles a process wants to hear of those. Linux finds it by the tick,
// which interrupts somebody (run_posix_cpu_timers). Null: none does.
RefOrNull<Task> whoever_computes(ThreadGroup& g, int signo) {
  static constinit std::atomic<size_t> turn{0};
  std::vector<Ref<Task>> all = g.tasks();
  const size_t first = turn.fetch_add(1, std::memory_order_relaxed);
  MutexLock l(g.impl().mu);
  for (size_t i = 0; i < all.size(); i++) {
    const Ref<Task>& t = all[(first + i) % all.size()];
    const Task::Impl& impl = t->impl();
    if (!impl.in_call.load(std::memory_order_relaxed) && !impl.in_stop && !impl.exiting_now && !(impl.blocked & signal_bit(signo))) return t;
  }
  return nullptr;
}

bool counts_cpu(TimerClock c) { return c == TimerClock::process_user || c == TimerClock::process_cpu || c == TimerClock::thread_cpu; }

}  // namespace

int64_t realtime_offset_ns() {
  timespec r;
  clock_gettime(CLOCK_REALTIME, &r);
  return r.tv_sec * 1'000'000'000 + r.tv_nsec - sched::now();
}

int64_t read_timer_clock(TimerClock c, ThreadGroup& g, Task* thread) {
  switch (c) {
    case TimerClock::monotonic: return sched::now();
    case TimerClock::realtime: return sched::now() + realtime_offset_ns();
    case TimerClock::process_user: return static_cast<int64_t>(cpu_times(g).user_ns);
    case TimerClock::process_cpu: return static_cast<int64_t>(cpu_times(g).total_ns());
    case TimerClock::thread_cpu: return thread ? static_cast<int64_t>(cpu_times(*thread).total_ns()) : 0;
  }
  UNREACHABLE();
}

ProcessTimer::ProcessTimer(ThreadGroup& g, TimerClock clock, int id, int signo, int code, sigval_t value,
                           RefOrNull<Task> target, RefOrNull<Task> measured)
    : group_(g), clock_(clock), id_(id), signo_(signo), code_(code), value_(value), target_(std::move(target)),
      measured_(std::move(measured)), timer_(&ProcessTimer::on_timer, this) {}

TimerSetting ProcessTimer::get_locked(int64_t now) {
  if (next_ == 0) return TimerSetting{0, interval_};
  return TimerSetting{std::max<int64_t>(next_ - now, 1), interval_};
}

TimerSetting ProcessTimer::get() {
  int64_t now = read_timer_clock(clock_, group_, measured_.get());
  MutexLock l(mu_);
  // A periodic timer whose signal waits has run on all the same.
  if (next_ != 0 && interval_ != 0 && next_ <= now) missed_ += skip_locked(now) + 1;
  return get_locked(now);
}

TimerSetting ProcessTimer::set(const TimerSetting& s, bool absolute) {
  timer_.cancel();
  int64_t now = read_timer_clock(clock_, group_, measured_.get());
  MutexLock l(mu_);
  TimerSetting old = get_locked(now);
  interval_ = s.value_ns ? s.interval_ns : 0;
  next_ = s.value_ns == 0 ? 0 : absolute ? s.value_ns : std::min(now, kFar) + std::min(s.value_ns, kFar);
  queued_ = false;
  missed_ = overrun_ = 0;
  arm_locked(now);
  return old;
}

int ProcessTimer::overrun() {
  MutexLock l(mu_);
  return static_cast<int>(std::min<int64_t>(overrun_, INT32_MAX));
}

int64_t ProcessTimer::skip_locked(int64_t now) {
  int64_t periods = (now - next_) / interval_;
  next_ += (periods + 1) * interval_;
  return periods;
}

void ProcessTimer::arm_locked(int64_t now) {
  if (next_ == 0) return;
  int64_t left = std::max<int64_t>(next_ - now, 0);
  if (counts_cpu(clock_)) left = std::max(left, kTick);
  timer_.arm(sched::now() + std::min(left, kFar));
}

void ProcessTimer::on_timer(void* arg) { static_cast<ProcessTimer*>(arg)->expire(); }

void ProcessTimer::expire() {
  int64_t now = read_timer_clock(clock_, group_, measured_.get());
  SignalInfo info = SignalInfo::kernel(signo_ ? signo_ : SIGALRM, code_);
  {
    MutexLock l(mu_);
    if (next_ == 0) return;
    if (next_ > now) {
      arm_locked(now);
      return;
    }
    missed_ = 0;
    if (interval_ != 0) {
      missed_ = skip_locked(now);
      // A POSIX timer goes on when its signal has been taken (Linux: posixtimer_rearm).
      if (code_ != SI_TIMER || signo_ == 0) arm_locked(std::min(now, next_ - kLeastPeriod));
    } else {
      next_ = 0;
    }
    if (signo_ == 0) return;
    queued_ = true;
    if (code_ == SI_TIMER) {
      info.si.si_timerid = id_;
      info.si.si_overrun = static_cast<int>(std::min<int64_t>(missed_, INT32_MAX));
      info.si.si_value = value_;
    }
  }
  RefOrNull<Task> to = target_;
  if (!to && code_ != SI_TIMER && counts_cpu(clock_)) to = whoever_computes(group_, info.si.si_signo);
  bool seen = to ? send_to_task(*to, info, true) : send_to_group(group_, info, true);
  if (seen || code_ != SI_TIMER) return;
  // Ignored: it goes on by itself, not too fast.
  MutexLock l(mu_);
  queued_ = false;
  if (next_ != 0) arm_locked(std::min(now, next_ - kLeastPeriod));
}

void ProcessTimer::dequeued(SignalInfo* info) {
  int64_t now = read_timer_clock(clock_, group_, measured_.get());
  MutexLock l(mu_);
  if (!queued_) return;
  queued_ = false;
  if (next_ != 0 && interval_ != 0) {
    if (next_ <= now) missed_ += skip_locked(now) + 1;
    arm_locked(now);
  }
  overrun_ = missed_;
  missed_ = 0;
  info->si.si_overrun = static_cast<int>(std::min<int64_t>(overrun_, INT32_MAX));
}

TimerSetting PosixTimers::get_interval(int which) {
  RefOrNull<ProcessTimer> t;
  {
    MutexLock l(mu);
    t = intervals[static_cast<size_t>(which)];
  }
  return t ? t->get() : TimerSetting{};
}

TimerSetting PosixTimers::set_interval(int which, const TimerSetting& s) {
  static constexpr struct { TimerClock clock; int signo; } kKinds[] = {
      {TimerClock::monotonic, SIGALRM}, {TimerClock::process_user, SIGVTALRM}, {TimerClock::process_cpu, SIGPROF}};
  RefOrNull<ProcessTimer> t;
  {
    MutexLock l(mu);
    auto& slot = intervals[static_cast<size_t>(which)];
    if (!slot) {
      if (s.value_ns == 0) return {};
      slot = make_ref<ProcessTimer>(group, kKinds[which].clock, 0, kKinds[which].signo, SI_KERNEL, sigval_t{},
                                            nullptr, nullptr);
    }
    t = slot;
  }
  return t->set(s, false);
}

Result<int> PosixTimers::create(TimerClock clock, int signo, const sigval_t* value, RefOrNull<Task> target,
                                RefOrNull<Task> measured) {
  MutexLock l(mu);
  if (created.size() >= kMaxTimers) return kEAGAIN;
  while (created.contains(next_id)) next_id = next_id == INT32_MAX ? 0 : next_id + 1;
  const int id = next_id;
  next_id = next_id == INT32_MAX ? 0 : next_id + 1;
  sigval_t v{};
  if (value) v = *value;
  else v.sival_int = id;
  created.emplace(id, make_ref<ProcessTimer>(group, clock, id, signo, SI_TIMER, v, std::move(target), std::move(measured)));
  return id;
}

Result<Ref<ProcessTimer>> PosixTimers::find(int id) {
  MutexLock l(mu);
  auto it = created.find(id);
  if (it == created.end()) return kEINVAL;
  return it->second;
}

Result<void> PosixTimers::remove(int id) {
  RefOrNull<ProcessTimer> t;  // its end waits for its callback: outside the lock
  MutexLock l(mu);
  auto it = created.find(id);
  if (it == created.end()) return kEINVAL;
  t = it->second;
  created.erase(it);
  return {};
}

void PosixTimers::dequeued(SignalInfo* info) {
  RefOrNull<ProcessTimer> t;
  {
    MutexLock l(mu);
    auto it = created.find(info->si.si_timerid);
    if (it != created.end()) t = it->second;
  }
  if (t) t->dequeued(info);
}

void PosixTimers::clear_created() {
  std::map<int, Ref<ProcessTimer>> gone;
  MutexLock l(mu);
  gone.swap(created);
  next_id = 0;
}

void PosixTimers::clear() {
  clear_created();
  std::array<RefOrNull<ProcessTimer>, 3> gone;
  RefOrNull<ProcessTimer> soft, hard;
  MutexLock l(mu);
  gone.swap(intervals);
  std::swap(soft, cpu_soft);
  std::swap(hard, cpu_hard);
}

// RLIMIT_CPU: SIGXCPU every second from the soft limit on, SIGKILL at the hard one.
void PosixTimers::cpu_limit_changed(const rlimit64& limit) {
  constexpr uint64_t kSeconds = 1ull << 32;  // more is no limit
  auto make = [&](int signo) {
    return make_ref<ProcessTimer>(group, TimerClock::process_cpu, 0, signo, SI_KERNEL, sigval_t{}, nullptr,
                                          nullptr);
  };
  RefOrNull<ProcessTimer> soft, hard;
  if (limit.rlim_cur < kSeconds) {
    soft = make(SIGXCPU);
    soft->set({std::max<int64_t>(static_cast<int64_t>(limit.rlim_cur), 1) * 1'000'000'000, 1'000'000'000}, true);
  }
  if (limit.rlim_max < kSeconds) {
    hard = make(SIGKILL);
    hard->set({std::max<int64_t>(static_cast<int64_t>(limit.rlim_max), 1) * 1'000'000'000, 0}, true);
  }
  MutexLock l(mu);
  std::swap(soft, cpu_soft);
  std::swap(hard, cpu_hard);
}

}  // namespace sentry::kernel
