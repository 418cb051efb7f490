// SPDX-License-Identifier: Apache-2.0
// Futexes that have an owner (PI). Linux: kernel/futex/pi.c, requeue.c. Priorities are the host's: what remains of inheritance is
// who owns a lock, who is next, and that nobody waits for himself.
//
// The word and what is known here of it change together under a SleepMutex of the key; who waits for whom is under the table's Mutex.
#pragma once

#include <map>

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

struct PiWaiter;
struct RequeueWaiter;

class PiTable {
 public:
  PiTable();
  ~PiTable();
  // deadline: absolute, on sched::now()'s clock.
  Result<long> lock(Task& t, uint64_t addr, bool private_flag, sched::Nanos deadline, bool try_only);
  Result<long> unlock(Task& t, uint64_t addr, bool private_flag);
  Result<long> wait_requeue(Task& t, uint64_t addr, bool private_flag, uint32_t expected, sched::Nanos deadline, uint64_t addr2);
  Result<long> requeue(Task& t, uint64_t addr, bool private_flag, int n_wake, int n_move, uint64_t addr2, uint32_t expected);
  // The task is about to go: what it owns goes to who waits for it.
  void owner_exits(Task& t);

 private:
  friend struct PiTurn;
  Result<long> wait_turn(Task& t, PiWaiter& w, const mm::FutexKey& key, uint64_t addr, sched::Nanos deadline);
  Result<void> take_over(Task& t, uint64_t addr);
  Result<int> acquire_or_queue(Task& t, Task& for_whom, const mm::FutexKey& key, uint64_t addr, PiWaiter& w, bool try_only);
  bool would_deadlock_locked(Task& owner, Task& waiter) REQUIRES(mu_);
  void grant_next_locked(PiState& s, bool owner_died) REQUIRES(mu_);
  void forget_if_idle_locked(PiState& s) REQUIRES(mu_);
  sched::SleepMutex& turn_of(const mm::FutexKey& key);

  struct KeyOrder {
    bool operator()(const mm::FutexKey& x, const mm::FutexKey& y) const {
      return std::tie(x.a, x.b, x.c, x.is_private) < std::tie(y.a, y.b, y.c, y.is_private);
    }
  };
  Mutex mu_{LockRank::kFutex};
  std::map<mm::FutexKey, std::unique_ptr<PiState>, KeyOrder> states_ GUARDED_BY(mu_);
  std::list<RequeueWaiter*> requeue_ GUARDED_BY(mu_);
  std::atomic<int> state_count_{0};
  std::array<sched::SleepMutex, 64> turns_;
};

}  // namespace sentry::kernel
