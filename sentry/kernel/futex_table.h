// SPDX-License-Identifier: Apache-2.0
// The queues of futexes that processes share. Knows keys and fibers, no memory.
#pragma once

#include <array>

#include "sentry/mm/address_space.h"

namespace sentry::kernel {

struct FutexBucket;

// One waiting fiber; lives on its stack. Guarded by its bucket's lock.
struct FutexWaiter {
  FutexWaiter(const mm::FutexKey& k, uint32_t bits, sched::Fiber* f) : key(k), bitset(bits), fiber(f) {}
  mm::FutexKey key;
  uint32_t bitset;
  sched::Fiber* fiber;
  std::atomic<bool> woken{false};
  std::atomic<FutexBucket*> bucket{nullptr};
  FutexWaiter* prev = nullptr;
  FutexWaiter* next = nullptr;
};

struct FutexBucket {
  Mutex mu{LockRank::kFutex};
  FutexWaiter* head GUARDED_BY(mu) = nullptr;
  FutexWaiter* tail GUARDED_BY(mu) = nullptr;
};

class FutexTable {
 public:
  void enqueue(FutexWaiter& w);
  // True: it was woken before it could leave.
  bool dequeue(FutexWaiter& w);
  int wake(const mm::FutexKey& key, int n, uint32_t bitset);
  // Wakes n_wake of `from`, moves at most n_move others to `to`; how many both.
  int requeue(const mm::FutexKey& from, const mm::FutexKey& to, int n_wake, int n_move);

  // Words in private memory that are waited for here (futex_waitv), not on the host.
  int private_waiters() const { return private_waiters_.load(std::memory_order_seq_cst); }

 private:
  FutexBucket& bucket_of(const mm::FutexKey& key);
  void insert(FutexBucket& b, FutexWaiter& w) REQUIRES(b.mu);
  void remove(FutexBucket& b, FutexWaiter& w) REQUIRES(b.mu);
  std::atomic<int> private_waiters_{0};
  std::array<FutexBucket, 256> buckets_;
};

}  // namespace sentry::kernel
