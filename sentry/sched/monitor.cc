// SPDX-License-Identifier: Apache-2.0
// The monitor: a thread that gives the place of a stuck worker to another one. Its timer runs only while workers are
// awake; setting it wakes nobody, so an idle sandbox and its first request pay nothing for it.
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/sys.h"
#include "sentry/sched/impl.h"

namespace sentry::sched {

void Scheduler::Impl::set_monitor_timer(Nanos in) {
  itimerspec t{};
  t.it_value.tv_nsec = in;  // below a second
  CHECK(timerfd_settime(monitor_timer_.get(), 0, &t, nullptr) == 0);
}

// Marks workers that made no step since the last look. Returns whether it should look again.
bool Scheduler::Impl::inspect_workers() {
  bool again = false, help = false;
  {
    MutexLock l(mu_);
    for (auto& p : workers_) {
      Worker& w = *p;
      if (w.exited || !w.awake.load() || w.stuck.load()) continue;
      again = true;
      uint64_t steps = w.steps.load(std::memory_order_relaxed);
      if (steps != w.seen_steps) {
        w.seen_steps = steps;
        continue;
      }
      w.stuck.store(true);
      active_--;
      if (Fiber* f = w.slot.exchange(nullptr)) push_locked(*f);
      help = true;
    }
    // A worker that leads looks into the queue itself.
    if (help) help = queue_size_.load() > 0 || (!sleeping_.load() && searching_.load() == 0) || nobody_looks();
  }
  if (help && !ring_sleeper()) activate_one(true);
  return again;
}

// On the worker's own thread, back from where it was stuck.
void Scheduler::Impl::unstick(Worker& w) {
  bool replaced;
  {
    MutexLock l(mu_);
    w.stuck.store(false);
    // Where stubs need not knock and nobody looks at them, it has to look once more before it sleeps: the others are asleep already, or
    // have seen that this one looks.
    replaced = active_ >= options_.workers && !w.seat && !nobody_looks();
    if (!replaced) active_++;
    if (replaced)
      if (Fiber* f = w.slot.exchange(nullptr)) push_locked(*f);
  }
  arm_monitor();
  if (!replaced) return;
  stop_searching(w, false);
  notify();
  sleep_as_follower(w, false);
}

void* Scheduler::Impl::monitor_main(void* self) {
  auto& s = *static_cast<Impl*>(self);
  for (;;) {
    uint64_t ticks;
    auto r = sys::read(s.monitor_timer_.get(), &ticks, sizeof ticks);
    CHECK(r.ok());
    if (s.stopping_.load()) return nullptr;
    if (s.inspect_workers()) {
      s.set_monitor_timer(kTick);
      continue;
    }
    s.monitor_armed_.store(false);
    // A worker that woke up before it could see that has set no timer: look once more.
    if (s.anyone_awake() && !s.monitor_armed_.exchange(true)) s.set_monitor_timer(kTick);
  }
}

bool Scheduler::Impl::anyone_awake() {
  MutexLock l(mu_);
  for (auto& w : workers_)
    if (!w->exited && w->awake.load() && !w->stuck.load()) return true;
  return false;
}

}  // namespace sentry::sched
