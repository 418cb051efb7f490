// SPDX-License-Identifier: Apache-2.0
// Mutex: a short critical section between threads. It spins briefly, then sleeps in a futex. Nobody parks
// a fiber, copies user memory or makes a blocking host call while holding one. Guarded<T> is a value that can
// only be reached with its lock held.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/lock_order.h"
#include "base/thread_annotations.h"

namespace base {

class CAPABILITY("mutex") Mutex {
 public:
  explicit constexpr Mutex(LockRank rank) : rank_(rank) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() ACQUIRE() {
    lock_rank_enter(rank_, this);
    uint32_t free = 0;
    if (!word_.compare_exchange_strong(free, 1, std::memory_order_acquire)) lock_slow();
  }
  void unlock() RELEASE() {
    if (word_.exchange(0, std::memory_order_release) == 2) wake_one();
    lock_rank_leave(rank_, this);
  }
  LockRank rank() const { return rank_; }

 private:
  void lock_slow();
  void wake_one();
  std::atomic<uint32_t> word_{0};  // 0 free, 1 held, 2 held and awaited
  LockRank rank_;
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mu) ACQUIRE(mu) : mu_(mu) { mu_.lock(); }
  ~MutexLock() RELEASE() { mu_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

// Two locks of one rank, taken by address; they may be the same lock.
class SCOPED_CAPABILITY MutexLock2 {
 public:
  MutexLock2(Mutex& a, Mutex& b) ACQUIRE(a, b);
  ~MutexLock2() RELEASE();
  MutexLock2(const MutexLock2&) = delete;
  MutexLock2& operator=(const MutexLock2&) = delete;

 private:
  Mutex* first_;
  Mutex* second_;
};

// One value, one lock: reached only through with().
template <typename T>
class Guarded {
 public:
  template <typename... A>
  explicit Guarded(LockRank rank, A&&... a) : mu_(rank), value_(std::forward<A>(a)...) {}
  template <typename F>
  decltype(auto) with(F&& f) EXCLUDES(mu_) {
    MutexLock l(mu_);
    return std::forward<F>(f)(value_);
  }
  template <typename F>
  decltype(auto) with(F&& f) const EXCLUDES(mu_) {
    MutexLock l(mu_);
    return std::forward<F>(f)(value_);
  }

 private:
  mutable Mutex mu_;
  T value_ GUARDED_BY(mu_);
};

}  // namespace base
