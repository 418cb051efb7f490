// SPDX-License-Identifier: Apache-2.0
// The slow paths of Mutex and the debug-only check of the lock order.
#include "base/mutex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "base/check.h"

namespace base {
namespace {
constexpr int kSpins = 200;  // about a microsecond: sections are short, a sleep costs 6 us and more
void futex(std::atomic<uint32_t>* w, int op, uint32_t v) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(w), op, v, nullptr, nullptr, 0);
}
}  // namespace

void Mutex::lock_slow() {
  for (int i = 0; i < kSpins; i++) {
    __builtin_ia32_pause();
    uint32_t free = 0;
    if (word_.load(std::memory_order_relaxed) == 0 &&
        word_.compare_exchange_strong(free, 1, std::memory_order_acquire))
      return;
  }
  while (word_.exchange(2, std::memory_order_acquire) != 0) futex(&word_, FUTEX_WAIT_PRIVATE, 2);
}

void Mutex::wake_one() { futex(&word_, FUTEX_WAKE_PRIVATE, 1); }

MutexLock2::MutexLock2(Mutex& a, Mutex& b) NO_THREAD_SAFETY_ANALYSIS  // chosen by address at run time
    : first_(&a < &b ? &a : &b), second_(&a == &b ? nullptr : (&a < &b ? &b : &a)) {
  first_->lock();
  if (second_) second_->lock();
}

MutexLock2::~MutexLock2() NO_THREAD_SAFETY_ANALYSIS {  // mirrors the constructor
  if (second_) second_->unlock();
  first_->unlock();
}

#ifdef CAISSON_DEBUG
namespace {
struct Held {
  LockRank rank;
  const void* lock;
};
struct HeldStack {
  Held held[16];
  int n = 0;
};
// A fiber never parks with a lock held, so a thread-local is right here.
[[gnu::noinline]] HeldStack& stack() {
  static thread_local HeldStack s;
  return s;
}
[[noreturn]] void complain(const char* what, LockRank rank, LockRank holding) {
  fprintf(stderr, "lock order: %s (rank %d) while holding rank %d; see docs/LOCKING.md\n", what,
          static_cast<int>(rank), static_cast<int>(holding));
  check_failed("lock order", __FILE__, __LINE__);
}
}  // namespace

void lock_rank_enter(LockRank rank, const void* lock) {
  HeldStack& s = stack();
  CHECK(s.n < 16);
  if (s.n > 0) {
    const Held& top = s.held[s.n - 1];
    bool pair = top.rank == rank && (top.lock < lock || rank == LockRank::kEpollWait);  // MutexLock2; see lock_order.h
    if (top.rank >= rank && !pair) complain("taking a lock", rank, top.rank);
  }
  s.held[s.n++] = {rank, lock};
}

void lock_rank_leave(LockRank, const void* lock) {
  HeldStack& s = stack();
  for (int i = s.n - 1; i >= 0; i--) {
    if (s.held[i].lock != lock) continue;
    for (int j = i; j + 1 < s.n; j++) s.held[j] = s.held[j + 1];
    s.n--;
    return;
  }
  CHECK(false && "unlocking a lock that is not held");
}

void assert_no_locks_held(const char* doing) {
  HeldStack& s = stack();
  if (s.n > 0) complain(doing, LockRank::kLog, s.held[s.n - 1].rank);
}
#endif

}  // namespace base
