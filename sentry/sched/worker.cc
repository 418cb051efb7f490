// SPDX-License-Identifier: Apache-2.0
// The loop of a worker: run what is runnable; else lead (poll, spin); else sleep: in its seat, in epoll, or as a follower.
#include <sched.h>

#include <algorithm>

#include "sentry/sched/impl.h"

namespace sentry::sched {
namespace {

constexpr unsigned kSlotStreak = 32;           // then the queue goes first once
constexpr unsigned kRoundsPerLook = 8;         // fibers between two looks at requests while busy
constexpr Nanos kBusyEvents = 50'000;          // at most so long between looks at epoll while busy
constexpr Nanos kSpinEvents = 5'000;           // and while spinning
constexpr unsigned kPollsPerClock = 16;
constexpr unsigned kPollsPerYield = 128;       // else a thread woken onto this CPU waits a whole slice

}  // namespace

// ---- Run queue ----

void Scheduler::Impl::push_locked(Fiber& f) {
  Fiber::Impl& impl = FiberAccess::impl(f);
  impl.next = nullptr;
  if (queue_tail_) FiberAccess::impl(*queue_tail_).next = &f;
  else queue_head_ = &f;
  queue_tail_ = &f;
  queue_size_.store(queue_size_.load(std::memory_order_relaxed) + 1);
}

void Scheduler::Impl::push(Fiber& f) {
  {
    MutexLock l(mu_);
    push_locked(f);
  }
  notify();
}

bool Scheduler::Impl::has_work(Worker& w) const {
  return w.slot.load(std::memory_order_relaxed) || queue_size_.load() > 0 ||
         stopping_.load();
}

Fiber* Scheduler::Impl::pick(Worker& w) {
  bool queued = queue_size_.load(std::memory_order_relaxed) > 0;
  if (w.slot.load(std::memory_order_relaxed) && (w.streak < kSlotStreak || !queued)) {
    w.streak++;
    if (Fiber* f = w.slot.exchange(nullptr)) return f;
  }
  w.streak = 0;
  if (!queued) return nullptr;
  MutexLock l(mu_);
  Fiber* f = queue_head_;
  if (!f) return nullptr;
  Fiber::Impl& impl = FiberAccess::impl(*f);
  queue_head_ = impl.next;
  if (!queue_head_) queue_tail_ = nullptr;
  impl.next = nullptr;
  queue_size_.store(queue_size_.load(std::memory_order_relaxed) - 1);
  return f;
}

// Why no wake-up is lost: we wrote queue_size_ before we read searching_ and sleeping_; a worker writes those before
// it reads queue_size_ for the last time and sleeps. All four are sequentially consistent. A follower joins idle_
// under mu_ after it saw the queue empty.
void Scheduler::Impl::notify() {
  Worker* w = this_worker();
  // We shall look ourselves, in a few microseconds: waking somebody costs more. If we do not, the monitor sees it.
  if (w && &w->scheduler == this && (threads_.load() == 1 || queue_size_.load() <= 1)) return;
  if (searching_.load() > 0) return;
  if (ring_sleeper()) return;
  if (idle_count_.load() > 0) activate_one(false);
}

bool Scheduler::Impl::ring_sleeper() {
  if (!sleeping_.load() || !sleeping_.exchange(false)) return false;
  uint64_t one = 1;
  CHECK(::write(event_.get(), &one, sizeof one) == sizeof one);  // never read, 2^64 - 2 rings are enough
  return true;
}

void Scheduler::Impl::activate_one(bool may_start) {
  Worker* woken = nullptr;
  Worker* started = nullptr;
  {
    MutexLock l(mu_);
    if (active_ >= options_.workers || stopping_.load()) return;
    if (idle_) {
      woken = idle_;
      idle_ = woken->next_idle;
      idle_count_.fetch_sub(1);
    } else if (may_start) {
      for (auto& old : workers_) {
        if (!old->exited) continue;
        started = old.get();
        started->exited = false;
        break;
      }
      if (!started && workers_.size() < kMaxWorkers) {
        workers_.push_back(std::make_unique<Worker>(*this));
        started = workers_.back().get();
      }
    }
    if (!woken && !started) return;
    active_++;
  }
  searching_.fetch_add(1);
  if (woken) {
    woken->searching = true;
    woken->bell.store(1, std::memory_order_release);
    futex_wake(woken->bell, 1);
  } else {
    start_worker(*started);
  }
}

void Scheduler::Impl::start_searching(Worker& w) {
  if (w.searching || threads_.load(std::memory_order_relaxed) == 1) return;
  w.searching = true;
  searching_.fetch_add(1);
}

void Scheduler::Impl::stop_searching(Worker& w, bool found) {
  if (!w.searching) return;
  w.searching = false;
  // Others relied on us to take the rest as well.
  if (searching_.fetch_sub(1) == 1 && found && queue_size_.load() > 0) notify();
}

// ---- Running ----

namespace {

// A fiber yields long before: what is more, the host has taken the worker from its processor.
constexpr uint64_t kLongestRun = 64'000'000;

uint64_t run_length(uint64_t began) { return std::min<uint64_t>(__builtin_ia32_rdtsc() - began, kLongestRun); }

void charge_fiber(FiberAccess::Impl& impl, uint64_t began) {
  impl.cycles.store(impl.cycles.load(std::memory_order_relaxed) + run_length(began), std::memory_order_relaxed);
  impl.running_since.store(0, std::memory_order_relaxed);
}

// A moment by both clocks.
struct Moment {
  Nanos time;
  uint64_t cycles;
};
Moment first_moment() {
  static const Moment first{now(), __builtin_ia32_rdtsc()};
  return first;
}

}  // namespace

Nanos Fiber::cpu_time() const {
  const Moment first = first_moment();
  const uint64_t cycles_since = __builtin_ia32_rdtsc() - first.cycles;
  const Nanos time_since = now() - first.time;
  if (cycles_since == 0 || time_since <= 0) return 0;
  uint64_t used = impl_->cycles.load(std::memory_order_relaxed);
  if (uint64_t began = impl_->running_since.load(std::memory_order_relaxed)) used += run_length(began);
  return static_cast<Nanos>(static_cast<double>(used) * static_cast<double>(time_since) / static_cast<double>(cycles_since));
}

void Scheduler::Impl::run_fiber(Worker& w, Fiber& f) {
  Fiber::Impl& impl = FiberAccess::impl(f);
  // After a yield, or at birth, it is not kParked, and a wake-up that came meanwhile is for its next park.
  if (impl.state.load(std::memory_order_relaxed) & kParked) impl.state.exchange(0, std::memory_order_acq_rel);
  w.running = &f;
  w.steps.store(w.steps.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  const uint64_t began = __builtin_ia32_rdtsc();
  impl.running_since.store(began, std::memory_order_relaxed);
  sanitizer_before(w.point, impl.point, false);
  sched_switch(&w.sp, impl.sp);
  sanitizer_after(w.point, impl.point);
  w.running = nullptr;
  charge_fiber(impl, began);
  switch (w.action) {
    case Action::park: {
      uint32_t running = 0;
      if (impl.state.compare_exchange_strong(running, kParked, std::memory_order_acq_rel)) return;
      // Woken on its way here: still running, as far as wakers know. It goes round once more.
      impl.state.exchange(0, std::memory_order_acq_rel);
      make_runnable(f);
      return;
    }
    case Action::yield:
      look_around(w);
      if (has_work(w)) push(f);
      else make_runnable(f);
      return;
    case Action::finish:
      impl.state.fetch_or(kFinished, std::memory_order_acq_rel);
      sanitizer_end_stack(impl.point);
      stacks_.give_back(impl.stack);
      f.unref();
      return;
  }
}

void Scheduler::Impl::work(Worker& w) {
  first_moment();
  set_this_worker(&w);
  sanitizer_adopt_thread(w.point);
  arm_monitor();
  while (!stopping_.load(std::memory_order_relaxed) && !w.leave) {
    if (w.stuck.load(std::memory_order_relaxed)) {
      unstick(w);
      continue;  // it may be the one to leave: then it takes no more fibers
    }
    if (Fiber* f = pick(w)) {
      stop_searching(w, true);
      run_fiber(w, *f);
      if (++w.rounds % kRoundsPerLook == 0) look_around(w);
    } else {
      idle(w);
    }
  }
  stop_searching(w, false);
  set_this_worker(nullptr);
  DCHECK(stopping_.load() || !w.slot.load());
  RefOrNull<Seat> seat;
  MutexLock l(mu_);
  if (w.stuck.load()) active_++;  // the monitor took it off a second time, on its way to sleep
  if (w.seat) {
    std::swap(seat, w.seat);
    threads_.fetch_sub(1);
  } else if (!w.leave) {
    return;  // everything stops
  }
  w.exited = true;  // from now on the next one may have this place, and a seat in it
}

bool Scheduler::Impl::try_lead() {
  return !leading_.load() && !leading_.exchange(true);
}

bool Scheduler::Impl::try_watch(Watching as) {
  Watching nobody = Watching::nobody;
  return watching_.load() == nobody && watching_.compare_exchange_strong(nobody, as);
}

// Nothing if another worker watches: it sees them itself.
void Scheduler::Impl::look_at_events(const Worker& w) {
  if (try_watch(w.seat ? Watching::a_glance : Watching::a_worker)) {
    Event events[kMaxEvents];
    dispatch(events, wait_for_events(events, false));
    stop_watching();
  }
}

// A quick look at everything that may have come while this worker is busy.
void Scheduler::Impl::look_around(Worker& w) {
  Poller* p = poller_.load(std::memory_order_acquire);
  if (p && try_lead()) {
    p->poll();
    stop_leading();
  }
  Nanos t = now();
  if (timers_.next.load(std::memory_order_relaxed) <= t) run_timers(t);
  if (t - w.looked_at_events >= kBusyEvents) {
    look_at_events(w);
    w.looked_at_events = t;
  }
}

bool Scheduler::Impl::lead(Worker& w, Poller& p) {
  // Another one may spin while we are at our seat, but nobody does any more once we have told stubs to knock.
  auto give_up = [&] {
    spinner_.store(false);
    return !p.prepare_sleep();
  };
  Nanos since = 0;
  for (unsigned n = 1;; n++) {
    w.steps.store(w.steps.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    p.poll();
    if (has_work(w)) return true;
    // The host wakes the worker in a seat on the processor of the stub that calls: to spin there would only keep it from calling.
    if (!options_.may_spin || w.seat || (n == 1 && !p.worth_spinning(0))) return give_up();
    if (n == 1) spinner_.store(true);
    if (n % kPollsPerClock == 0) {
      Nanos t = now();
      if (since == 0) since = t;
      if (timers_.next.load(std::memory_order_relaxed) <= t) run_timers(t);
      if (t - w.looked_at_events >= kSpinEvents) {
        look_at_events(w);
        w.looked_at_events = t;
      }
      if (has_work(w)) return true;
      if (!p.worth_spinning(t - since)) return give_up();
      if (n % kPollsPerYield == 0) sched_yield();
    }
    __builtin_ia32_pause();
  }
}

void Scheduler::Impl::idle(Worker& w) {
  start_searching(w);
  Poller* p = poller_.load(std::memory_order_acquire);
  const bool spun_for = w.seat && spinner_.load();  // somebody else looks for requests, and will tell stubs when he stops
  if (p && !spun_for && try_lead()) {
    bool found = lead(w, *p);
    stop_leading();
    if (found) return;
  }
  stop_searching(w, false);
  if (has_work(w)) return;
  // Whoever made a stub stop knocking while another one led, and that one gave up leading before it knew: one of the two sees it
  // here, for both have written before they read.
  if (!spun_for && nobody_looks()) return;
  if (w.seat) {
    if (!spun_for && p && options_.may_spin && p->spinner_wanted()) ring_sleeper();
    sleep_in_seat(w);
  } else if (try_watch(Watching::a_worker)) {
    sleep_in_epoll(w);
  } else {
    sleep_as_follower(w, true);
  }
}

// ---- Sleeping ----

void Scheduler::Impl::sleep_in_epoll(Worker& w) {
  sleeping_.store(true);
  if (has_work(w)) {
    sleeping_.store(false);
    stop_watching();
    return;
  }
  {
    MutexLock l(timers_.mu);
    set_wake_timer();
  }
  w.awake.store(false);
  Event events[kMaxEvents];
  long n = wait_for_events(events, true);
  sleeping_.store(false);
  w.awake.store(true);
  arm_monitor();
  dispatch(events, n);
  stop_watching();
  Nanos t = now();
  w.looked_at_events = t;
  if (timers_.next.load(std::memory_order_relaxed) <= t) run_timers(t);
}

void Scheduler::Impl::sleep_in_seat(Worker& w) {
  {
    MutexLock l(mu_);
    active_--;
  }
  w.awake.store(false);
  bool stay = !w.unseat.load() && !stopping_.load() && w.seat->sit() && !w.unseat.load();
  if (!stay && !has_work(w)) {
    w.leave = true;
    return;
  }
  w.awake.store(true);
  {
    MutexLock l(mu_);
    active_++;
  }
  arm_monitor();
}

void Scheduler::Impl::sleep_as_follower(Worker& w, bool counted) {
  bool surplus;
  {
    MutexLock l(mu_);
    if (stopping_.load()) return;
    // Somebody has to be in epoll, or on the way there. Whoever watches now either stays there or passes here later; but a worker with
    // a seat only glances. And nobody else may have been told of what is in the queue.
    if (queue_size_.load() > 0 || watching_.load() != Watching::a_worker) {
      if (!counted) active_++;
      return;
    }
    if (counted) active_--;
    w.bell.store(0, std::memory_order_relaxed);
    w.next_idle = idle_;
    idle_ = &w;
    idle_count_.fetch_add(1);
    w.awake.store(false);
    surplus = !w.main && threads_.load() > options_.workers;
  }
  Nanos until = surplus ? now() + options_.surplus_life : kNever;
  while (w.bell.load(std::memory_order_acquire) == 0) {
    futex_wait(w.bell, 0, surplus ? until - now() : -1);
    if (!surplus || now() < until) continue;
    MutexLock l(mu_);
    Worker** at = &idle_;
    while (*at && *at != &w) at = &(*at)->next_idle;
    if (!*at) continue;  // somebody is about to ring
    surplus = threads_.load() > options_.workers;
    if (!surplus) continue;
    *at = w.next_idle;
    idle_count_.fetch_sub(1);
    threads_.fetch_sub(1);
    w.leave = true;  // work() ends it
    return;
  }
  w.awake.store(true);
  arm_monitor();
}

}  // namespace sentry::sched
