// SPDX-License-Identifier: Apache-2.0
// A timer whose expirations are read as a count.
#include "sentry/fs/timerfd/timerfd.h"

#include <sys/timerfd.h>

#include <algorithm>
#include <cstring>

#include "sentry/kernel/namespaces.h"

namespace sentry::fs::timerfd {
namespace {

using sched::Nanos;

constexpr Nanos kSecond = 1000000000;
constexpr int64_t kMaxSeconds = INT64_MAX / kSecond - 1;
constexpr Nanos kMaxInterval = INT64_MAX / 4;  // a deadline and one more interval still fit

bool valid(const timespec& t) { return t.tv_sec >= 0 && t.tv_nsec >= 0 && t.tv_nsec < kSecond; }
Nanos nanos(const timespec& t) {
  return (t.tv_sec > kMaxSeconds ? kMaxSeconds : t.tv_sec) * kSecond + t.tv_nsec;
}
timespec spec(Nanos n) { return {n / kSecond, n % kSecond}; }
Nanos clock_now(int clock) {
  timespec t;
  clock_gettime(clock, &t);
  return nanos(t);
}

class TimerFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::timerfd;
  TimerFile(int clock, const vfs::Path& path, int flags, Ref<auth::Credentials> cred)
      : File(kKind, path, path.inode().get_ref(), O_RDWR | flags, std::move(cred)), clock_(clock) {}
  ~TimerFile() override { timer_.cancel(); }

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override {
    if (dst.size() < 8) return kEINVAL;
    for (;;) {
      uint64_t n = take();
      if (n) {
        memcpy(dst.data(), &n, sizeof n);
        return sizeof n;
      }
      if (f.nonblock) return kEAGAIN;
      TRY(sched::wait_for(queue_, [&] { return ready(); }));
    }
  }
  uint32_t poll_events() override { return ready() ? EPOLLIN | EPOLLRDNORM : 0; }
  sched::WaitQueue* poll_queue() override { return &queue_; }

  itimerspec set(int flags, const itimerspec& value) {
    timer_.cancel();
    itimerspec old = get();
    kernel::Task* t = kernel::Task::find_current();
    const Nanos ahead = t ? kernel::clock_offset(*t, clock_) : 0;
    Nanos deadline = sched::kNever;
    {
      MutexLock l(mu_);
      ticks_ = 0;
      interval_ = std::min(nanos(value.it_interval), kMaxInterval);
      if (value.it_value.tv_sec || value.it_value.tv_nsec) {
        Nanos when = nanos(value.it_value);
        Nanos mono = sched::now();
        Nanos left = (flags & TFD_TIMER_ABSTIME) ? when - clock_now(clock_) - ahead : when;
        deadline = left <= 0 ? mono : (left > sched::kNever - mono ? sched::kNever - 1 : mono + left);
      }
      deadline_ = deadline;
    }
    if (deadline != sched::kNever) timer_.arm(deadline);
    return old;
  }
  itimerspec get() {
    MutexLock l(mu_);
    catch_up();
    itimerspec out{};
    out.it_interval = spec(interval_);
    if (deadline_ != sched::kNever) {
      Nanos left = deadline_ - sched::now();
      out.it_value = spec(left > 0 ? left : 1);
    }
    return out;
  }
  std::string fdinfo() override {
    itimerspec s = get();
    return base::format("clockid: {}\nticks: {}\nsettime flags: 00\nit_value: ({}, {})\nit_interval: ({}, {})\n",
                        int{clock_}, uint64_t{peek()}, s.it_value.tv_sec, s.it_value.tv_nsec, s.it_interval.tv_sec,
                        s.it_interval.tv_nsec);
  }

 private:
  static void expired(void* p) {
    auto* self = static_cast<TimerFile*>(p);
    Nanos next;
    {
      MutexLock l(self->mu_);
      self->catch_up();
      next = self->deadline_;
    }
    // A periodic timer that nobody reads only needs to fire once: the rest is arithmetic.
    if (next != sched::kNever && self->peek() == 0) self->timer_.arm(next);
    self->queue_.wake_all(EPOLLIN | EPOLLRDNORM);
  }
  // Counts expirations up to now.
  void catch_up() REQUIRES(mu_) {
    Nanos now = sched::now();
    if (deadline_ == sched::kNever || now < deadline_) return;
    if (interval_ == 0) {
      ticks_++;
      deadline_ = sched::kNever;
      return;
    }
    Nanos n = (now - deadline_) / interval_ + 1;
    ticks_ += static_cast<uint64_t>(n);
    deadline_ += n * interval_;
  }
  bool ready() { return peek() > 0; }
  uint64_t peek() {
    MutexLock l(mu_);
    catch_up();
    return ticks_;
  }
  uint64_t take() {
    Nanos next = sched::kNever;
    uint64_t n;
    {
      MutexLock l(mu_);
      catch_up();
      n = std::exchange(ticks_, 0);
      if (n && interval_) next = deadline_;
    }
    if (next != sched::kNever) timer_.arm(next);
    return n;
  }

  const int clock_;
  Mutex mu_{LockRank::kFilePrivate};
  uint64_t ticks_ GUARDED_BY(mu_) = 0;
  Nanos interval_ GUARDED_BY(mu_) = 0;
  Nanos deadline_ GUARDED_BY(mu_) = sched::kNever;
  sched::WaitQueue queue_;
  sched::Timer timer_{&TimerFile::expired, this};
};

}  // namespace

Result<Ref<vfs::File>> create(int clock, int flags, const Ref<auth::Credentials>& cred) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME: break;
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
      if (!cred->has_cap(CAP_WAKE_ALARM)) return kEPERM;
      clock = clock == CLOCK_REALTIME_ALARM ? CLOCK_REALTIME : CLOCK_BOOTTIME;
      break;
    default: return kEINVAL;
  }
  Ref<vfs::File> f = make_ref<TimerFile>(clock, vfs::make_anonymous_path("anon_inode:[timerfd]", 0600, *cred),
                                         flags & O_NONBLOCK, cred);
  return f;
}

Result<itimerspec> set(vfs::File& file, int flags, const itimerspec& value) {
  auto* t = file.as<TimerFile>();
  if (!t || (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) || !valid(value.it_value) ||
      !valid(value.it_interval))
    return kEINVAL;
  return t->set(flags, value);
}

Result<itimerspec> get(vfs::File& file) {
  auto* t = file.as<TimerFile>();
  if (!t) return kEINVAL;
  return t->get();
}

}  // namespace sentry::fs::timerfd
