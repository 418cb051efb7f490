// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/futex_table.h"

namespace sentry::kernel {

FutexBucket& FutexTable::bucket_of(const mm::FutexKey& k) {
  uint64_t h = (k.a * 0x9e3779b97f4a7c15ull) ^ (k.b * 0xc2b2ae3d27d4eb4full) ^ (k.c * 0x165667b19e3779f9ull);
  return buckets_[h >> 56];
}

void FutexTable::insert(FutexBucket& b, FutexWaiter& w) {
  w.next = nullptr;
  w.prev = b.tail;
  (b.tail ? b.tail->next : b.head) = &w;
  b.tail = &w;
  if (w.key.is_private) private_waiters_.fetch_add(1);
  w.bucket.store(&b, std::memory_order_release);
}

void FutexTable::remove(FutexBucket& b, FutexWaiter& w) {
  (w.prev ? w.prev->next : b.head) = w.next;
  (w.next ? w.next->prev : b.tail) = w.prev;
  if (w.key.is_private) private_waiters_.fetch_sub(1);
  w.bucket.store(nullptr, std::memory_order_release);
}

void FutexTable::enqueue(FutexWaiter& w) {
  FutexBucket& b = bucket_of(w.key);
  MutexLock l(b.mu);
  insert(b, w);
}

bool FutexTable::dequeue(FutexWaiter& w) {
  for (;;) {
    FutexBucket* b = w.bucket.load(std::memory_order_acquire);
    if (!b) {
      // Woken (its waker may still be writing), or between two queues.
      if (w.woken.load(std::memory_order_acquire)) return true;
      continue;
    }
    MutexLock l(b->mu);
    if (w.bucket.load(std::memory_order_relaxed) != b) continue;  // moved meanwhile
    remove(*b, w);
    return false;
  }
}

int FutexTable::wake(const mm::FutexKey& key, int n, uint32_t bitset) {
  FutexBucket& b = bucket_of(key);
  int count = 0;
  MutexLock l(b.mu);
  for (FutexWaiter* w = b.head; w && count < n;) {
    FutexWaiter* next = w->next;
    if (w->key == key && (w->bitset & bitset)) {
      // Once woken is set the waiter's stack may go: its fiber is kept apart.
      Ref<sched::Fiber> fiber(*w->fiber);
      remove(b, *w);
      w->woken.store(true, std::memory_order_release);
      fiber->wake();
      count++;
    }
    w = next;
  }
  return count;
}

int FutexTable::requeue(const mm::FutexKey& from, const mm::FutexKey& to, int n_wake, int n_move) {
  int count = wake(from, n_wake, ~0u);
  FutexBucket& a = bucket_of(from);
  FutexBucket& b = bucket_of(to);
  if (from == to) return count;
  MutexLock2 l(a.mu, b.mu);
  for (FutexWaiter* w = a.head; w && n_move > 0;) {
    FutexWaiter* next = w->next;
    if (w->key == from) {
      remove(a, *w);
      w->key = to;
      insert(b, *w);
      count++;
      n_move--;
    }
    w = next;
  }
  return count;
}

}  // namespace sentry::kernel
