// SPDX-License-Identifier: Apache-2.0
// What the scheduler is made of. Only sentry/sched includes this.
//
// Life of a fiber, in Fiber::Impl::state: 0 while it runs or waits in a queue to run; kParked when it is parked and its
// registers are saved; kWoken joins either when somebody wakes it. Whoever turns kParked alone into kParked|kWoken makes it
// runnable: exactly one thread. A fiber that parks with kWoken set does not park.
//
// Locks: mu_, timers_.mu and watches_.mu are all of rank kScheduler and never nested; callbacks run without any of them.
#pragma once

#include <pthread.h>
#include <sys/epoll.h>

#include <atomic>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "sentry/sched/context.h"
#include "sentry/sched/io_pool.h"
#include "sentry/sched/sched.h"
#include "sentry/sched/stack.h"

namespace sentry::sched {

enum : uint32_t { kWoken = 1, kParked = 2, kFinished = 4 };

struct Fiber::Impl {
  Impl(Scheduler::Impl& s, Fiber& self) : scheduler(s), deadline(deadline_passed, &self) {}
  static void deadline_passed(void*);  // never called: run_timers() knows a fiber's deadline by it
  Scheduler::Impl& scheduler;
  std::atomic<uint32_t> state{0};
  Fiber* next = nullptr;   // in the run queue
  void* sp = nullptr;      // while it does not run
  SwitchPoint point;
  void (*fn)(void*) = nullptr;
  void* arg = nullptr;
  char* stack = nullptr;
  Timer deadline;          // of a park
  bool timed_out = false;  // under the timers' lock
  // Time stamp counter: what it has run, and since when it runs now (0: it does not). Written by its worker alone.
  std::atomic<uint64_t> cycles{0}, running_since{0};
};

struct FiberAccess {
  using Impl = Fiber::Impl;
  static Impl& impl(const Fiber& f) { return *f.impl_; }
};

// Why a fiber went back to its worker.
enum class Action : uint8_t { park, yield, finish };

// One host thread that runs fibers.
struct Worker {
  explicit Worker(Scheduler::Impl& s) : scheduler(s) {}
  Scheduler::Impl& scheduler;
  // Its own thread alone.
  Fiber* running = nullptr;
  void* sp = nullptr;  // of its loop, while a fiber runs
  SwitchPoint point;
  Action action = Action::park;
  bool searching = false;  // counted in Scheduler::Impl::searching_
  bool main = false;       // the thread of Scheduler::run()
  // Where it sleeps, if not in epoll or as a follower. Changed under Scheduler::Impl::mu_: from start_seat() until it has left.
  RefOrNull<Seat> seat;
  bool leave = false;      // ends its loop
  unsigned streak = 0;     // fibers taken from the slot in a row
  unsigned rounds = 0;
  Nanos looked_at_events = 0;
  // The fiber to run next: filled by this worker, taken by it, or by the monitor when it is stuck.
  alignas(64) std::atomic<Fiber*> slot{nullptr};
  // For the monitor.
  std::atomic<uint64_t> steps{0};
  std::atomic<bool> awake{true};
  std::atomic<bool> stuck{false};
  uint64_t seen_steps = ~uint64_t{0};  // the monitor's alone
  // Under Scheduler::Impl::mu_.
  Worker* next_idle = nullptr;
  bool exited = false;
  bool has_thread = false;
  pthread_t thread{};
  std::atomic<bool> unseat{false};  // leave the seat, and end
  // A sleeping follower waits for this to become 1.
  std::atomic<uint32_t> bell{0};
};

// The worker of this thread, or null. Opaque to the optimiser: a fiber may come back on another thread.
[[gnu::noinline]] Worker* this_worker();
void set_this_worker(Worker* w);

// The scheduler of this process, or null.
Scheduler::Impl* find_scheduler();

// A host thread with a small stack and all asynchronous signals blocked.
Result<pthread_t> start_thread(void* (*entry)(void*), void* arg);
// futex(2), private. timeout < 0: none.
void futex_wait(std::atomic<uint32_t>& word, uint32_t value, Nanos timeout);
void futex_wake(std::atomic<uint32_t>& word, int n);

struct Scheduler::Impl {
  explicit Impl(const Options& o);
  ~Impl();

  // ---- fiber.cc ----
  Result<Ref<Fiber>> spawn(void (*fn)(void*), void* arg);
  void make_runnable(Fiber& f);
  static void fiber_main(void* fiber);
  static void leave_fiber(Worker& w, Fiber& f, Action action);

  // ---- worker.cc ----
  void run();
  void stop();
  void work(Worker& w);
  void run_fiber(Worker& w, Fiber& f);
  Fiber* pick(Worker& w);
  bool has_work(Worker& w) const;
  void push(Fiber& f) EXCLUDES(mu_);
  void push_locked(Fiber& f) REQUIRES(mu_);
  // Sees to it that somebody will look into the run queue.
  void notify();
  // Ends the sleep of the worker in epoll, if one is there.
  bool ring_sleeper();
  void look_around(Worker& w);
  void look_at_events(const Worker& w);
  void idle(Worker& w);
  // With leadership: looks and spins for requests. Whether there is something to do; else stubs will knock.
  bool lead(Worker& w, Poller& p);
  void sleep_in_epoll(Worker& w);
  void sleep_in_seat(Worker& w) EXCLUDES(mu_);
  // counted: it is one of active_. A thread that has become superfluous leaves.
  void sleep_as_follower(Worker& w, bool counted) EXCLUDES(mu_);
  // A follower wakes up, or a new thread starts, if fewer than options_.workers are active.
  void activate_one(bool may_start) EXCLUDES(mu_);
  void start_searching(Worker& w);
  void stop_searching(Worker& w, bool found);
  bool try_lead();
  void stop_leading() { leading_.store(false); }
  // Stubs were told not to knock, and no worker leads. Whoever sees this does not sleep.
  bool nobody_looks() const {
    const Poller* p = poller_.load(std::memory_order_acquire);
    return p && p->attends() && !leading_.load();
  }
  // a_glance: by a worker with a seat, who will not stay.
  enum class Watching : uint8_t { nobody, a_glance, a_worker };
  bool try_watch(Watching as);
  void stop_watching() { watching_.store(Watching::nobody); }
  static void* worker_main(void* worker);
  void start_worker(Worker& w) EXCLUDES(mu_);  // one of active_ and searching_ already
  Result<void> start_seat(Ref<Seat> seat) EXCLUDES(mu_);
  void stop_seat(Seat& seat) EXCLUDES(mu_);
  // Signals those that shall leave, again and again: a signal just before the host call is lost. Whether some have not left.
  bool call_off_seats() EXCLUDES(mu_);

  // ---- events.cc ----
  // Timers due; nothing if another worker is at it.
  void run_timers(Nanos now) EXCLUDES(timers_.mu);
  // With the right to watch: events of descriptors.
  using Event = epoll_event;
  static constexpr int kMaxEvents = 64;
  long wait_for_events(Event* events, bool wait);
  void dispatch(const Event* events, long n);
  // Sees to it that the worker in epoll, if there is one, wakes up for the first timer.
  void set_wake_timer() REQUIRES(timers_.mu);
  void arm(Timer& t, Nanos deadline) EXCLUDES(timers_.mu);
  void cancel(Timer& t) EXCLUDES(timers_.mu);
  bool armed(const Timer& t) EXCLUDES(timers_.mu);
  void arm_deadline(Fiber& f, Nanos deadline) EXCLUDES(timers_.mu);
  bool disarm_deadline(Fiber& f) EXCLUDES(timers_.mu);  // whether it had passed
  void heap_set(size_t i, Timer* t) REQUIRES(timers_.mu);
  void heap_up(size_t i) REQUIRES(timers_.mu);
  void heap_down(size_t i) REQUIRES(timers_.mu);
  void heap_insert(Timer& t, Nanos deadline) REQUIRES(timers_.mu);
  void heap_remove(Timer& t) REQUIRES(timers_.mu);
  Result<void> start(FdWatch& w, int fd, uint32_t events) EXCLUDES(watches_.mu);
  void stop(FdWatch& w) EXCLUDES(watches_.mu);

  // ---- monitor.cc ----
  void arm_monitor() {
    if (!monitor_armed_.load() && !monitor_armed_.exchange(true)) set_monitor_timer(kTick);
  }
  void set_monitor_timer(Nanos in);
  bool inspect_workers() EXCLUDES(mu_);
  bool anyone_awake() EXCLUDES(mu_);
  void unstick(Worker& w) EXCLUDES(mu_);
  static void* monitor_main(void* self);

  static constexpr unsigned kMaxWorkers = 64;
  static constexpr Nanos kTick = 2'000'000;

  Options options_;
  Fd epoll_, event_, monitor_timer_, wake_timer_;
  std::atomic<Poller*> poller_{nullptr};
  std::atomic<bool> stopping_{false};
  bool has_monitor_ = false;
  pthread_t monitor_{};
  std::atomic<bool> monitor_armed_{false};
  StackPool stacks_;
  IoPool io_;

  // Leadership: the right to look for requests. Whoever gives it up while stubs are attended takes it again.
  alignas(64) std::atomic<bool> leading_{false};
  // A worker without a seat has led and spun, and will lead again before it sleeps: those with seats leave requests to it.
  std::atomic<bool> spinner_{false};
  std::atomic<Watching> watching_{Watching::nobody};  // who has the right to wait in epoll and to run descriptors' callbacks
  alignas(64) std::atomic<bool> sleeping_{false};  // a worker is, or is about to be, in epoll: ring
  std::atomic<int> searching_{0};      // workers awake without a fiber: they will look into the queue before they sleep
  std::atomic<unsigned> threads_{1};   // worker threads that exist
  std::atomic<unsigned> idle_count_{0};
  alignas(64) std::atomic<uint32_t> queue_size_{0};
  Timer seats_leave_{[](void* self) {
                       auto& s = *static_cast<Impl*>(self);
                       if (s.call_off_seats()) s.seats_leave_.arm(now() + kTick);
                     }, this};

  Mutex mu_{LockRank::kScheduler};
  Fiber* queue_head_ GUARDED_BY(mu_) = nullptr;
  Fiber* queue_tail_ GUARDED_BY(mu_) = nullptr;
  Worker* idle_ GUARDED_BY(mu_) = nullptr;  // sleeping followers
  unsigned active_ GUARDED_BY(mu_) = 1;     // workers neither stuck nor sleeping as followers
  std::vector<std::unique_ptr<Worker>> workers_ GUARDED_BY(mu_);

  struct Timers {
    Mutex mu{LockRank::kScheduler};
    std::atomic<bool> busy{false};            // some worker runs callbacks
    Nanos wake GUARDED_BY(mu) = kNever;       // when wake_timer_ will ring, at the latest
    std::vector<Timer*> heap GUARDED_BY(mu);  // binary, earliest first
    Timer* running GUARDED_BY(mu) = nullptr;  // whose callback runs now, on `runner`
    pthread_t runner GUARDED_BY(mu){};
    std::atomic<Nanos> next{kNever};
  } timers_;

  struct Watches {
    struct Slot {
      FdWatch* watch = nullptr;
      uint32_t generation = 0;
    };
    Mutex mu{LockRank::kScheduler};
    std::vector<Slot> slots GUARDED_BY(mu);
    std::vector<uint32_t> free GUARDED_BY(mu);
    FdWatch* running GUARDED_BY(mu) = nullptr;
    pthread_t runner GUARDED_BY(mu){};
  } watches_;
};

}  // namespace sentry::sched
