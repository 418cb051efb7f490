// SPDX-License-Identifier: Apache-2.0
// Fibers on workers. A fiber is straight-line kernel code with its own small stack; it blocks by parking. Workers are
// host threads that run fibers, look for requests of stubs (Poller), and otherwise sleep in one epoll.
//
// Rules: nothing on a worker blocks in the host; no Mutex is held while a fiber parks; a fiber may resume on another
// worker, so nothing thread-local (errno included) lives across a park.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "sentry/base.h"

namespace sentry::sched {

using Nanos = int64_t;                       // CLOCK_MONOTONIC nanoseconds (of the sandbox's time namespace)
inline constexpr Nanos kNever = INT64_MAX;   // no deadline
Nanos now();                                 // CLOCK_MONOTONIC, through the vDSO

class Scheduler;

// Held by: its creator until it has finished; wait entries borrow it.
class Fiber : public RefCounted<Fiber> {
 public:
  // Waits that may be interrupted end with kERESTARTSYS while this is set. The kernel sets it when the task has a signal
  // to handle or must die (Linux: TIF_SIGPENDING) and calls interrupt().
  std::atomic<bool> interrupt_pending{false};

  // Makes it runnable if it is parked; else its next park returns at once. Any thread.
  void wake();
  // interrupt_pending = true, then wake().
  void interrupt();
  bool finished() const;
  // How long it has run on workers. Any thread; exact to the last switch.
  Nanos cpu_time() const;
  // For reports: what runs here.
  void* owner = nullptr;

 private:
  friend class Scheduler;
  friend struct FiberAccess;
  Fiber();
  ~Fiber();
  friend class RefCounted<Fiber>;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The fiber that runs on this thread; null outside fibers. Not inlined: the compiler must not keep the address
// of a thread-local across a park.
[[gnu::noinline]] Fiber* current();

enum class Parked : uint8_t { woken, timed_out };
// Parks until wake() or the deadline. Wake-ups may be spurious: callers loop on their condition.
// Preconditions: on a fiber, no Mutex held.
Parked park(Nanos deadline = kNever);
// Lets other runnable fibers and requests go first; for loops over application-sized data, every ~100 us.
void yield();

// ---- Timers ----

// One-shot. The callback runs on a worker outside any fiber: it may wake, queue and take Mutexes, never park.
class Timer {
 public:
  using Callback = void (*)(void* arg);
  Timer(Callback cb, void* arg) : cb_(cb), arg_(arg) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  void arm(Nanos deadline);  // replaces an earlier deadline
  // After it returns the callback is not running and will not run (unless called from the callback itself).
  void cancel();
  bool armed() const;

 private:
  friend class Scheduler;
  Callback cb_;
  void* arg_;
  Nanos deadline_ = kNever;
  int64_t heap_index_ = -1;
  bool running_ = false;
};

// ---- Host descriptors ----

// Calls back on a worker (outside any fiber) when fd becomes ready; edge-triggered. The fd must be non-blocking and
// outlive the watch. Regular files cannot be watched (EPERM).
class FdWatch {
 public:
  using Callback = void (*)(void* arg, uint32_t epoll_events);
  FdWatch(Callback cb, void* arg) : cb_(cb), arg_(arg) {}
  ~FdWatch() { stop(); }
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;
  Result<void> start(int fd, uint32_t epoll_events);  // EPOLLIN | EPOLLOUT …
  // After it returns the callback is not running and will not run.
  void stop();

 private:
  friend class Scheduler;
  Callback cb_;
  void* arg_;
  int fd_ = -1;
  uint64_t id_ = 0;
};

// ---- Work that may block in the host ----

// Runs fn on a thread of the I/O pool while this fiber is parked (not interruptible). Preconditions: as park().
void run_blocking_raw(void (*fn)(void*), void* arg);
template <typename F>
void run_blocking(F&& fn) {
  run_blocking_raw([](void* p) { (*static_cast<std::remove_reference_t<F>*>(p))(); }, &fn);
}

// ---- Requests of stubs ----

// The platform's part of a worker's loop.
class Poller {
 public:
  virtual ~Poller() = default;
  // Looks once at every attended stub; wakes the fibers that have something to do. Never blocks. Returns whether it
  // found anything.
  virtual bool poll() = 0;
  // Nobody will look for a while: tell stubs to knock from now on, then look once more. False: found something, stay awake.
  virtual bool prepare_sleep() = 0;
  // Whether some stub need not knock, so that somebody has to look. Any thread.
  virtual bool attends() const = 0;
  // Whether spinning for requests may pay off now (recent requests came fast, a CPU is spare).
  virtual bool worth_spinning(Nanos idle_for) = 0;
  // Whether another worker had better be awake and spin. By a worker that goes to sleep in its seat.
  virtual bool spinner_wanted() { return false; }
  // All but attends() are called by one worker at a time.
};

// Where a worker of its own sleeps, instead of in the epoll of all others: in a host call that only stubs can end, so that the host
// wakes it on the processor of the stub that calls, which is ten times cheaper than on another one.
class Seat : public RefCounted<Seat> {
 public:
  // Blocks until something comes, and handles it, as a callback does (outside any fiber). Returns on a signal too. False:
  // nothing will ever come again (and the next time at once).
  virtual bool sit() = 0;

 protected:
  virtual ~Seat() = default;
  friend class RefCounted<Seat>;
};

struct Options {
  unsigned workers = 1;      // host threads that run fibers
  unsigned io_threads = 4;   // at most; started when first needed
  bool may_spin = true;
  Nanos surplus_life = 10'000'000'000;  // of a thread that took a stuck one's place, asleep
};

// One per sentry. Created before the seccomp filter is installed or after: it only uses clone (threads), futex,
// epoll_*, eventfd2, timerfd_*, fcntl, read, write, mmap, munmap, mprotect, madvise, sched_yield, rt_sigprocmask, tgkill. SIGURG is
// its own: it ends a Seat's host call.
class Scheduler {
 public:
  static Result<std::unique_ptr<Scheduler>> create(const Options& options);
  ~Scheduler();
  // Before run(), or once while it runs; replaced or removed only after run().
  void set_poller(Poller* poller);

  // A new runnable fiber for fn(arg). ENOMEM when no stack can be had.
  Result<Ref<Fiber>> spawn(void (*fn)(void*), void* arg);
  // Runs worker 0 on the calling thread until stop().
  void run();
  void stop();
  // A worker that sleeps in `seat`, until stop_seat(); it may still be in sit() for a moment after that.
  Result<void> start_seat(Ref<Seat> seat);
  void stop_seat(Seat& seat);
  static Scheduler& get();  // the one of this process

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  Scheduler();
  std::unique_ptr<Impl> impl_;
};

template <typename F>
Result<Ref<Fiber>> spawn(F fn) {
  auto* heap = new F(std::move(fn));
  auto r = Scheduler::get().spawn(
      [](void* p) {
        std::unique_ptr<F> f(static_cast<F*>(p));
        (*f)();
      },
      heap);
  if (!r.ok()) delete heap;
  return r;
}

}  // namespace sentry::sched
