// SPDX-License-Identifier: Apache-2.0
// Wait queues and the sleeping lock.
#include "sentry/sched/wait.h"

namespace sentry::sched {

// ---- WaitQueue ----

void WaitEntry::detach() {
  if (queue_) queue_->remove(*this);
}

WaitQueue::~WaitQueue() {
  MutexLock l(mu_);
  CHECK(!head_);
}

void WaitQueue::link(WaitEntry& e, bool front) {
  e.prev_ = front ? nullptr : tail_;
  e.next_ = front ? head_ : nullptr;
  (e.prev_ ? e.prev_->next_ : head_) = &e;
  (e.next_ ? e.next_->prev_ : tail_) = &e;
}

void WaitQueue::unlink(WaitEntry& e) {
  (e.prev_ ? e.prev_->next_ : head_) = e.next_;
  (e.next_ ? e.next_->prev_ : tail_) = e.prev_;
  e.prev_ = e.next_ = nullptr;
}

void WaitQueue::add(WaitEntry& e) {
  CHECK(!e.queue_);
  MutexLock l(mu_);
  // Linux: add_wait_queue, add_wait_queue_exclusive. Exclusive ones stand behind all others, first come first served.
  link(e, !e.exclusive);
  e.queue_ = this;
}

void WaitQueue::remove(WaitEntry& e) {
  if (e.queue_ != this) return;
  MutexLock l(mu_);
  unlink(e);
  e.queue_ = nullptr;
}

void WaitQueue::wake_all(uint32_t events) { wake(events, INT32_MAX); }

int WaitQueue::wake(uint32_t events, int n) {
  int woken = 0;
  MutexLock l(mu_);
  WaitEntry* last = tail_;
  for (WaitEntry* e = head_; e;) {
    WaitEntry* next = e == last ? nullptr : e->next_;
    if (e->exclusive && woken >= n) break;
    if (e->mask_ & events) {
      if (e->cb_) e->cb_(*e, events);
      else e->fiber_->wake();
      if (e->exclusive) {
        woken++;
        // To the end: the next wake-up is for another, even if this one has not come to leave the queue.
        unlink(*e);
        link(*e, false);
      }
    }
    e = next;
  }
  return woken;
}

bool WaitQueue::empty() const {
  MutexLock l(mu_);
  return !head_;
}

// ---- SleepMutex ----
//
// unlock() hands the lock to the first waiter, and held_ stays true. held_ becomes false only when no waiter is seen;
// one that joins at that moment finds it false, or is found by the second look of unlock().

namespace {

struct Granted {
  Fiber* fiber;
  std::atomic<bool> yes{false};
};

}  // namespace

bool SleepMutex::try_lock() {
  bool free = false;
  return held_.compare_exchange_strong(free, true);
}

void SleepMutex::lock() NO_THREAD_SAFETY_ANALYSIS {  // ownership comes through held_ or a grant
  if (try_lock()) return;
  Granted granted{.fiber = current()};
  CHECK(granted.fiber);
  WaitEntry e(
      [](WaitEntry& self, uint32_t) {
        auto* g = static_cast<Granted*>(self.arg());
        // The waiter sees it, but cannot go before it has left the queue, whose lock we hold.
        g->yes.store(true, std::memory_order_release);
        g->fiber->wake();
      },
      &granted, ~0u);
  e.exclusive = true;
  queue_.add(e);
  if (try_lock()) return;
  while (!granted.yes.load(std::memory_order_acquire)) park();
  e.detach();
  // A wake-up that was meant for a wait around this lock must not be lost in the loop above.
  granted.fiber->wake();
}

void SleepMutex::unlock() NO_THREAD_SAFETY_ANALYSIS {  // see lock()
  DCHECK(held_.load());
  for (;;) {
    if (queue_.wake(~0u, 1) == 1) return;
    held_.store(false);
    if (queue_.empty() || !try_lock()) return;
  }
}

}  // namespace sentry::sched
