// SPDX-License-Identifier: Apache-2.0
// Timers, host descriptors, and the wait for both. Callbacks are run by the leader alone, one at a time.
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "base/sys.h"
#include "sentry/sched/impl.h"

namespace sentry::sched {
namespace {

constexpr unsigned kMaxTimersPerRun = 256;  // a callback that arms itself in the past must not stop the rest

// Events come back with the id; 0 is the bell.
constexpr uint64_t id_of(uint32_t index, uint32_t generation) {
  return (uint64_t{generation} << 32) | (index + 1);
}

}  // namespace

// ---- Timers ----

void Scheduler::Impl::heap_set(size_t i, Timer* t) {
  timers_.heap[i] = t;
  t->heap_index_ = static_cast<int64_t>(i);
}

void Scheduler::Impl::heap_up(size_t i) {
  Timer* t = timers_.heap[i];
  while (i > 0) {
    size_t parent = (i - 1) / 2;
    if (timers_.heap[parent]->deadline_ <= t->deadline_) break;
    heap_set(i, timers_.heap[parent]);
    i = parent;
  }
  heap_set(i, t);
}

void Scheduler::Impl::heap_down(size_t i) {
  Timer* t = timers_.heap[i];
  size_t n = timers_.heap.size();
  for (;;) {
    size_t child = 2 * i + 1;
    if (child >= n) break;
    if (child + 1 < n && timers_.heap[child + 1]->deadline_ < timers_.heap[child]->deadline_) child++;
    if (t->deadline_ <= timers_.heap[child]->deadline_) break;
    heap_set(i, timers_.heap[child]);
    i = child;
  }
  heap_set(i, t);
}

void Scheduler::Impl::heap_insert(Timer& t, Nanos deadline) {
  t.deadline_ = deadline;
  timers_.heap.push_back(&t);
  heap_up(timers_.heap.size() - 1);
  timers_.next.store(timers_.heap[0]->deadline_);
}

void Scheduler::Impl::heap_remove(Timer& t) {
  auto i = static_cast<size_t>(t.heap_index_);
  Timer* last = timers_.heap.back();
  timers_.heap.pop_back();
  t.heap_index_ = -1;
  if (last != &t) {
    heap_set(i, last);
    heap_up(i);
    heap_down(static_cast<size_t>(last->heap_index_));
  }
  timers_.next.store(timers_.heap.empty() ? kNever : timers_.heap[0]->deadline_);
}

void Scheduler::Impl::arm(Timer& t, Nanos deadline) {
  MutexLock l(timers_.mu);
  if (t.heap_index_ >= 0) heap_remove(t);
  heap_insert(t, deadline);
  set_wake_timer();
}

// The worker in epoll need not wake up for a new deadline: a host timer is set forward. One that has become too early stays.
void Scheduler::Impl::set_wake_timer() {
  if (timers_.heap.empty() || !sleeping_.load()) return;
  Nanos deadline = timers_.heap[0]->deadline_, t = now();
  if (timers_.wake > t && timers_.wake <= deadline) return;  // one that has rung may have been seen already
  timers_.wake = deadline;
  Nanos in = std::max<Nanos>(deadline - t, 1);
  itimerspec spec{};
  spec.it_value.tv_sec = in / 1'000'000'000;
  spec.it_value.tv_nsec = in % 1'000'000'000;
  CHECK(timerfd_settime(wake_timer_.get(), 0, &spec, nullptr) == 0);
}

bool Scheduler::Impl::armed(const Timer& t) {
  MutexLock l(timers_.mu);
  return t.heap_index_ >= 0;
}

void Scheduler::Impl::cancel(Timer& t) {
  for (;;) {
    {
      MutexLock l(timers_.mu);
      if (t.heap_index_ >= 0) heap_remove(t);
      if (timers_.running != &t || pthread_equal(timers_.runner, pthread_self())) return;
    }
    sched_yield();
  }
}

// A fiber's deadline differs from other timers: it has no callback to wait for. Its late wake-up is just a spurious one.
void Scheduler::Impl::arm_deadline(Fiber& f, Nanos deadline) {
  Fiber::Impl& impl = FiberAccess::impl(f);
  MutexLock l(timers_.mu);
  impl.timed_out = false;
  heap_insert(impl.deadline, deadline);
  set_wake_timer();
}

bool Scheduler::Impl::disarm_deadline(Fiber& f) {
  Fiber::Impl& impl = FiberAccess::impl(f);
  MutexLock l(timers_.mu);
  if (impl.deadline.heap_index_ >= 0) heap_remove(impl.deadline);
  return impl.timed_out;
}

void Scheduler::Impl::run_timers(Nanos t) {
  if (timers_.busy.exchange(true, std::memory_order_acquire)) return;
  for (unsigned n = 0; n < kMaxTimersPerRun; n++) {
    Timer* due;
    RefOrNull<Fiber> fiber;
    {
      MutexLock l(timers_.mu);
      timers_.running = nullptr;
      if (timers_.heap.empty() || timers_.heap[0]->deadline_ > t) break;
      due = timers_.heap[0];
      heap_remove(*due);
      if (due->cb_ == Fiber::Impl::deadline_passed) {
        auto& f = *static_cast<Fiber*>(due->arg_);
        FiberAccess::impl(f).timed_out = true;
        fiber = Ref<Fiber>(f);  // it may end before it is woken below
      } else {
        timers_.running = due;
        timers_.runner = pthread_self();
      }
    }
    if (fiber) fiber->wake();
    else due->cb_(due->arg_);  // may destroy its timer
  }
  {
    MutexLock l(timers_.mu);
    timers_.running = nullptr;
  }
  timers_.busy.store(false, std::memory_order_release);
}

// ---- Descriptors ----

Result<void> Scheduler::Impl::start(FdWatch& w, int fd, uint32_t events) {
  if (w.id_ != 0) return kEBUSY;
  MutexLock l(watches_.mu);
  if (watches_.free.empty()) {
    watches_.free.push_back(static_cast<uint32_t>(watches_.slots.size()));
    watches_.slots.emplace_back();
  }
  uint32_t index = watches_.free.back();
  auto& slot = watches_.slots[index];
  uint64_t id = id_of(index, slot.generation);
  epoll_event e{};
  e.events = events | EPOLLET;
  e.data.u64 = id;
  TRY(sys::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e));
  watches_.free.pop_back();
  slot.watch = &w;
  w.fd_ = fd;
  w.id_ = id;
  return {};
}

void Scheduler::Impl::stop(FdWatch& w) {
  {
    MutexLock l(watches_.mu);
    if (w.id_ != 0) {
      IGNORE_ERROR(sys::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, w.fd_, nullptr), "closed early: the host forgot it itself");
      auto index = static_cast<uint32_t>(w.id_) - 1;
      watches_.slots[index].watch = nullptr;
      watches_.slots[index].generation++;  // events of now are not for the next user of the slot
      watches_.free.push_back(index);
      w.id_ = 0;
      w.fd_ = -1;
    }
    if (watches_.running != &w || pthread_equal(watches_.runner, pthread_self())) return;
  }
  for (;;) {
    sched_yield();
    MutexLock l(watches_.mu);
    if (watches_.running != &w) return;
  }
}

long Scheduler::Impl::wait_for_events(Event* events, bool wait) {
  auto r = sys::raw(SYS_epoll_pwait, epoll_.get(), reinterpret_cast<long>(events), kMaxEvents, wait ? -1 : 0, 0, 0);
  if (r.ok()) return *r;
  CHECK(r.error() == kEINTR);
  return 0;
}

void Scheduler::Impl::dispatch(const Event* events, long n) {
  for (long i = 0; i < n; i++) {
    uint64_t id = events[i].data.u64;
    if (id == 0) continue;
    FdWatch* watch = nullptr;
    {
      MutexLock l(watches_.mu);
      auto index = static_cast<uint32_t>(id) - 1;
      const auto& slot = watches_.slots[index];
      if (id_of(index, slot.generation) == id) watch = slot.watch;
      watches_.running = watch;
      watches_.runner = pthread_self();
    }
    if (watch) watch->cb_(watch->arg_, events[i].events);  // may destroy its watch
    MutexLock l(watches_.mu);
    watches_.running = nullptr;
  }
}

// ---- The public faces ----

void Timer::arm(Nanos deadline) { Scheduler::get().impl().arm(*this, deadline); }

void Timer::cancel() {
  if (Scheduler::Impl* s = find_scheduler()) s->cancel(*this);
}

bool Timer::armed() const {
  Scheduler::Impl* s = find_scheduler();
  return s && s->armed(*this);
}

Result<void> FdWatch::start(int fd, uint32_t epoll_events) {
  return Scheduler::get().impl().start(*this, fd, epoll_events);
}

void FdWatch::stop() {
  if (Scheduler::Impl* s = find_scheduler()) s->stop(*this);
}

}  // namespace sentry::sched
