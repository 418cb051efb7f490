// SPDX-License-Identifier: Apache-2.0
// The protocol of PI words: 0, or the owner's tid with FUTEX_WAITERS and FUTEX_OWNER_DIED. A PiState exists while somebody waits.
#include "sentry/kernel/futex_pi.h"

#include <linux/futex.h>

#include <algorithm>
#include <utility>

namespace sentry::kernel {

// One waiting task, on its fiber's stack.
struct PiWaiter {
  explicit PiWaiter(Task& t) : task(&t) {}
  Task* task;
  bool granted = false, owner_died = false;
};

// A lock that is waited for.
struct PiState {
  mm::FutexKey key;
  Task* owner;                     // null: it has died, and nobody is left who would be next
  std::list<PiWaiter*> waiters;
};

// In FUTEX_WAIT_REQUEUE_PI, before the requeue.
struct RequeueWaiter {
  mm::FutexKey from, to;
  PiWaiter pi;
  bool moved = false;  // waits for the lock, or has it
};

namespace {

uint32_t tid_of(Task& t) { return static_cast<uint32_t>(t.tid()); }

Result<mm::FutexKey> key_of(Task& t, uint64_t addr, bool private_flag) {
  if (addr % 4) return kEINVAL;
  return t.mm()->futex_key(addr, private_flag);
}

}  // namespace

PiTable::PiTable() = default;
PiTable::~PiTable() = default;

sched::SleepMutex& PiTable::turn_of(const mm::FutexKey& k) {
  uint64_t h = (k.a * 0x9e3779b97f4a7c15ull) ^ (k.b * 0xc2b2ae3d27d4eb4full) ^ (k.c * 0x165667b19e3779f9ull);
  return turns_[h >> 58];
}

bool PiTable::would_deadlock_locked(Task& owner, Task& waiter) {
  Task* at = &owner;
  for (int i = 0; i < 1024; i++) {  // Linux: max_lock_depth
    if (at == &waiter) return true;
    PiState* next = at->impl().pi_wait;
    if (!next || !next->owner) return false;
    at = next->owner;
  }
  return true;
}

void PiTable::forget_if_idle_locked(PiState& s) {
  if (!s.waiters.empty()) return;
  states_.erase(s.key);
  state_count_.fetch_sub(1);
}

void PiTable::grant_next_locked(PiState& s, bool owner_died) {
  PiWaiter* w = s.waiters.front();
  s.waiters.pop_front();
  s.owner = w->task;
  w->task->impl().pi_wait = nullptr;
  w->owner_died = owner_died;
  w->granted = true;
  w->task->fiber().wake();
  if (!owner_died) forget_if_idle_locked(s);  // else once the new owner has written itself into the word
}

// Preconditions: the key's turn is held. 1: for_whom has the lock now; 0: it is queued (not with try_only: EAGAIN).
Result<int> PiTable::acquire_or_queue(Task& t, Task& for_whom, const mm::FutexKey& key, uint64_t addr, PiWaiter& w, bool try_only) {
  const uint32_t me = tid_of(for_whom);
  for (int tries = 0;; tries++) {
    const uint32_t v = TRY(t.context().load32(addr));
    const uint32_t owner_tid = v & FUTEX_TID_MASK;
    if (owner_tid == me) return kEDEADLK;
    bool waited_for;
    {
      MutexLock l(mu_);
      waited_for = states_.contains(key);
    }
    if (owner_tid == 0 && !waited_for) {
      if (TRY(t.context().cmpxchg32(addr, v, me | (v & FUTEX_OWNER_DIED))) == v) return 1;
      continue;
    }
    if (try_only) return kEAGAIN;
    if (!(v & FUTEX_WAITERS) && TRY(t.context().cmpxchg32(addr, v, v | FUTEX_WAITERS)) != v) continue;
    RefOrNull<Task> owner = t.group().pid_namespace().find_task(static_cast<int>(owner_tid));
    MutexLock l(mu_);
    auto it = states_.find(key);
    if (it == states_.end()) {
      if (!owner || owner->impl().pi_gone) {
        // It dies just now, or the word is nobody's: look again, its last act may have changed it.
        if (tries < 3) continue;
        return kESRCH;
      }
      if (would_deadlock_locked(*owner, for_whom)) return kEDEADLK;
      it = states_.emplace(key, std::make_unique<PiState>(PiState{key, owner.get(), {}})).first;
      state_count_.fetch_add(1);
    } else if (it->second->owner && would_deadlock_locked(*it->second->owner, for_whom)) {
      return kEDEADLK;
    }
    it->second->waiters.push_back(&w);
    for_whom.impl().pi_wait = it->second.get();
    return 0;
  }
}

// The owner died: the word is this task's now, which says so.
Result<void> PiTable::take_over(Task& t, uint64_t addr) {
  for (;;) {
    const uint32_t v = TRY(t.context().load32(addr));
    const uint32_t next = tid_of(t) | FUTEX_WAITERS | FUTEX_OWNER_DIED;
    if (TRY(t.context().cmpxchg32(addr, v, next)) == v) return {};
  }
}

// The turn was let go. Waits until the lock is granted.
Result<long> PiTable::wait_turn(Task& t, PiWaiter& w, const mm::FutexKey& key, uint64_t addr, sched::Nanos deadline) {
  sched::WaitQueue nothing;
  auto granted = [&] {
    MutexLock l(mu_);
    return w.granted;
  };
  Result<void> r = sched::wait_for(nothing, granted, deadline);
  sched::SleepLock turn(turn_of(key));
  bool mine;
  {
    MutexLock l(mu_);
    mine = w.granted;
    if (!mine) {
      if (PiState* s = std::exchange(t.impl().pi_wait, nullptr)) {
        s->waiters.remove(&w);
        forget_if_idle_locked(*s);
      }
    }
  }
  if (!mine) return r.error() == kETIMEDOUT ? Result<long>(kETIMEDOUT) : Result<long>(kERESTARTNOINTR);
  if (!w.owner_died) return 0L;
  Result<void> taken = take_over(t, addr);
  {
    MutexLock l(mu_);
    if (auto it = states_.find(key); it != states_.end()) forget_if_idle_locked(*it->second);
  }
  if (!taken.ok()) return taken.error();
  return 0L;
}

Result<long> PiTable::lock(Task& t, uint64_t addr, bool private_flag, sched::Nanos deadline, bool try_only) {
  mm::FutexKey key = TRY(key_of(t, addr, private_flag));
  PiWaiter w(t);
  {
    sched::SleepLock turn(turn_of(key));
    if (TRY(acquire_or_queue(t, t, key, addr, w, try_only)) == 1) return 0L;
  }
  return wait_turn(t, w, key, addr, deadline);
}

Result<long> PiTable::unlock(Task& t, uint64_t addr, bool private_flag) {
  mm::FutexKey key = TRY(key_of(t, addr, private_flag));
  const uint32_t me = tid_of(t);
  sched::SleepLock turn(turn_of(key));
  for (;;) {
    const uint32_t v = TRY(t.context().load32(addr));
    if ((v & FUTEX_TID_MASK) != me) return kEPERM;
    uint32_t next = 0;
    {
      MutexLock l(mu_);
      auto it = states_.find(key);
      if (it != states_.end()) {
        if (it->second->owner != &t) return kEINVAL;
        if (!it->second->waiters.empty()) next = tid_of(*it->second->waiters.front()->task) | FUTEX_WAITERS;
      }
    }
    if (TRY(t.context().cmpxchg32(addr, v, next)) != v) continue;
    MutexLock l(mu_);
    auto it = states_.find(key);
    if (it == states_.end()) return 0L;
    if (it->second->waiters.empty()) forget_if_idle_locked(*it->second);
    else grant_next_locked(*it->second, false);
    return 0L;
  }
}

void PiTable::owner_exits(Task& t) {
  MutexLock l(mu_);
  t.impl().pi_gone = true;
  if (state_count_.load() == 0) return;
  for (auto it = states_.begin(); it != states_.end();) {
    PiState& s = *it->second;
    ++it;  // the grant may forget the state
    if (s.owner == &t && !s.waiters.empty()) grant_next_locked(s, true);
    else if (s.owner == &t) forget_if_idle_locked(s);
  }
}

// ---- Requeueing (condition variables) ----

Result<long> PiTable::wait_requeue(Task& t, uint64_t addr, bool private_flag, uint32_t expected, sched::Nanos deadline,
                                   uint64_t addr2) {
  mm::FutexKey from = TRY(key_of(t, addr, private_flag)), to = TRY(key_of(t, addr2, private_flag));
  if (from == to) return kEINVAL;
  RequeueWaiter w{from, to, PiWaiter(t)};
  {
    MutexLock l(mu_);
    requeue_.push_back(&w);
  }
  auto leave = [&]() -> bool {  // false: it was moved meanwhile
    MutexLock l(mu_);
    if (w.moved) return false;
    requeue_.remove(&w);
    return true;
  };
  Result<uint32_t> now = t.context().load32(addr);
  if ((!now.ok() || *now != expected) && leave()) return now.ok() ? Result<long>(kEAGAIN) : Result<long>(kEFAULT);
  sched::WaitQueue nothing;
  auto over = [&] {
    MutexLock l(mu_);
    return w.moved;
  };
  Result<void> r = sched::wait_for(nothing, over, deadline);
  if (!r.ok() && leave()) return r.error() == kETIMEDOUT ? Result<long>(kETIMEDOUT) : Result<long>(kERESTARTNOINTR);
  Result<long> locked = wait_turn(t, w.pi, to, addr2, deadline);
  if (!locked.ok()) leave();  // a requeue that failed has put it back
  // It cannot be made again: it waits at the other word now.
  if (!locked.ok() && locked.error() == kERESTARTNOINTR) return kEAGAIN;
  return locked;
}

Result<long> PiTable::requeue(Task& t, uint64_t addr, bool private_flag, int n_wake, int n_move, uint64_t addr2, uint32_t expected) {
  if (n_wake != 1) return kEINVAL;
  if (n_move < 0) return kEINVAL;
  mm::FutexKey from = TRY(key_of(t, addr, private_flag)), to = TRY(key_of(t, addr2, private_flag));
  if (from == to) return kEINVAL;
  if (TRY(t.context().load32(addr)) != expected) return kEAGAIN;
  sched::SleepLock turn(turn_of(to));
  long count = 0;
  while (count < int64_t{n_wake} + n_move) {
    RequeueWaiter* w = nullptr;
    RefOrNull<Task> who;
    RefOrNull<sched::Fiber> fiber;
    {
      MutexLock l(mu_);
      for (RequeueWaiter* x : requeue_)
        if (x->from == from) {
          w = x;
          break;
        }
      if (!w) break;
      if (!(w->to == to)) return kEINVAL;
      who = Ref<Task>(*w->pi.task);
      fiber = Ref<sched::Fiber>(who->fiber());
      requeue_.remove(w);  // it cannot leave while it waits for the lock's turn or is moved
      w->moved = true;
    }
    // From here to the end of the turn its stack stays: a waiter that is told of the move takes the turn before it leaves.
    Result<int> got = acquire_or_queue(t, *who, to, addr2, w->pi, false);
    {
      MutexLock l(mu_);
      if (!got.ok()) {
        w->moved = false;
        requeue_.push_front(w);
        if (count == 0) return got.error();
        break;
      }
      if (*got == 1) w->pi.granted = true;
    }
    fiber->wake();
    count++;
  }
  return count;
}

}  // namespace sentry::kernel
