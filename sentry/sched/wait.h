// SPDX-License-Identifier: Apache-2.0
// Wait queues, waiting for a condition, and the sleeping lock that may be held across a park.
#pragma once

#include <cstdint>

#include "sentry/sched/sched.h"

namespace sentry::sched {

class WaitQueue;

// One interest in a queue. The default wakes a fiber; epoll and poll give a callback. Linux: struct wait_queue_entry.
class WaitEntry {
 public:
  // Runs with the queue's lock held: it may only wake fibers and set flags of its own (rank above kWaitQueue).
  using Callback = void (*)(WaitEntry& e, uint32_t events);

  explicit WaitEntry(Fiber* fiber = current(), uint32_t mask = ~0u) : fiber_(fiber), mask_(mask) {}
  WaitEntry(Callback cb, void* arg, uint32_t mask) : cb_(cb), arg_(arg), mask_(mask) {}
  ~WaitEntry() { detach(); }
  WaitEntry(const WaitEntry&) = delete;
  WaitEntry& operator=(const WaitEntry&) = delete;
  void detach();  // leaves its queue, if in one
  void* arg() const { return arg_; }
  bool exclusive = false;  // wake_one() passes over non-exclusive ones after waking them, stops at the first exclusive

 private:
  friend class WaitQueue;
  WaitQueue* queue_ = nullptr;
  WaitEntry* prev_ = nullptr;
  WaitEntry* next_ = nullptr;
  Fiber* fiber_ = nullptr;
  Callback cb_ = nullptr;
  void* arg_ = nullptr;
  uint32_t mask_;
};

// Linux: wait_queue_head_t. The queue outlives its entries or is empty when destroyed.
class WaitQueue {
 public:
  explicit WaitQueue(LockRank rank = LockRank::kWaitQueue) : mu_(rank) {}
  ~WaitQueue();
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;
  void add(WaitEntry& e) EXCLUDES(mu_);
  void remove(WaitEntry& e) EXCLUDES(mu_);
  // Wakes everyone whose mask meets events (EPOLL* bits; ~0 = all).
  void wake_all(uint32_t events = ~0u) EXCLUDES(mu_);
  // Wakes non-exclusive entries and at most n exclusive ones; returns how many of those. An exclusive entry then goes
  // to the end of the queue, so that the next call wakes another one.
  int wake(uint32_t events, int n) EXCLUDES(mu_);
  bool empty() const EXCLUDES(mu_);

 private:
  mutable Mutex mu_;
  void link(WaitEntry& e, bool front) REQUIRES(mu_);
  void unlink(WaitEntry& e) REQUIRES(mu_);
  WaitEntry* head_ GUARDED_BY(mu_) = nullptr;
  WaitEntry* tail_ GUARDED_BY(mu_) = nullptr;
};

enum class Interruptible : uint8_t { no, yes };

// Parks until cond() is true. cond is called without locks of ours held; it takes what it needs.
// Errors: kERESTARTSYS when a signal is pending (Interruptible::yes), kETIMEDOUT at the deadline.
template <typename Cond>
Result<void> wait_for(WaitQueue& q, Cond&& cond, Nanos deadline = kNever, Interruptible i = Interruptible::yes,
                      uint32_t mask = ~0u) {
  if (cond()) return {};
  WaitEntry e(current(), mask);
  q.add(e);
  for (;;) {
    if (cond()) return {};
    if (i == Interruptible::yes && current()->interrupt_pending.load(std::memory_order_acquire)) return kERESTARTSYS;
    if (park(deadline) == Parked::timed_out) {
      if (cond()) return {};
      return kETIMEDOUT;
    }
  }
}

// A lock that may be held while parking (Linux: struct mutex). Fibers only, FIFO.
class CAPABILITY("sleep mutex") SleepMutex {
 public:
  void lock() ACQUIRE();
  bool try_lock() TRY_ACQUIRE(true);
  void unlock() RELEASE();

 private:
  std::atomic<bool> held_{false};
  WaitQueue queue_;
};
class SCOPED_CAPABILITY SleepLock {
 public:
  explicit SleepLock(SleepMutex& m) ACQUIRE(m) : m_(m) { m_.lock(); }
  ~SleepLock() RELEASE() { m_.unlock(); }
  SleepLock(const SleepLock&) = delete;
  SleepLock& operator=(const SleepLock&) = delete;

 private:
  SleepMutex& m_;
};

}  // namespace sentry::sched
