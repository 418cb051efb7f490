// SPDX-License-Identifier: Apache-2.0
// futex(2): owners (PI), requeueing to them, waiting for several words, the calls of Linux 6.7. Passes on Linux first, then in the
// sandbox.
#include <errno.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/checks.h"

namespace {

constexpr int kLockPi2 = 13;
using Word = std::atomic<uint32_t>;

long futex(Word* w, int op, uint32_t val = 0, const void* timeout = nullptr, Word* w2 = nullptr, uint32_t val3 = 0) {
  return syscall(SYS_futex, w, op, val, timeout, w2, val3);
}
uint32_t tid() { return static_cast<uint32_t>(syscall(SYS_gettid)); }
timespec in_ms(clockid_t clock, int ms) {
  timespec t;
  clock_gettime(clock, &t);
  t.tv_nsec += ms * 1000000ll;
  t.tv_sec += t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  return t;
}
void pi_lock(Word& w) {
  uint32_t zero = 0;
  if (w.compare_exchange_strong(zero, tid())) return;
  ASSERT_EQ(futex(&w, FUTEX_LOCK_PI), 0) << strerror(errno);
}
void pi_unlock(Word& w) {
  uint32_t me = tid();
  if (w.compare_exchange_strong(me, 0)) return;
  ASSERT_EQ(futex(&w, FUTEX_UNLOCK_PI), 0) << strerror(errno);
}
// A word that processes share.
Word& shared_word() {
  void* m = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return *new (m) Word(0);
}
void until(const std::atomic<bool>& b) {
  while (!b) usleep(1000);
}

TEST(Pi, AFreeWordIsTaken) {
  Word w{0};
  EXPECT_EQ(futex(&w, FUTEX_LOCK_PI), 0);
  EXPECT_EQ(w, tid());
  EXPECT_ERRNO(futex(&w, FUTEX_LOCK_PI), EDEADLK);
  EXPECT_ERRNO(futex(&w, FUTEX_TRYLOCK_PI), EDEADLK);
  EXPECT_EQ(futex(&w, FUTEX_UNLOCK_PI), 0);
  EXPECT_EQ(w, 0u);
  EXPECT_ERRNO(futex(&w, FUTEX_UNLOCK_PI), EPERM);
}

TEST(Pi, AWaiterSetsTheBitAndGetsTheLock) {
  Word w{0};
  pi_lock(w);
  std::atomic<uint32_t> theirs{0};
  std::thread t([&] {
    theirs = tid();
    pi_lock(w);
    EXPECT_EQ(w & FUTEX_TID_MASK, tid());
    pi_unlock(w);
  });
  while (!(w & FUTEX_WAITERS)) usleep(1000);
  EXPECT_EQ(w & FUTEX_TID_MASK, tid());
  EXPECT_EQ(futex(&w, FUTEX_UNLOCK_PI), 0);
  t.join();
  EXPECT_EQ(w & FUTEX_TID_MASK, 0u);
}

TEST(Pi, TrylockOfATakenOne) {
  Word w{0};
  pi_lock(w);
  std::thread([&] { EXPECT_ERRNO(futex(&w, FUTEX_TRYLOCK_PI), EAGAIN); }).join();
  pi_unlock(w);
  std::thread([&] {
    EXPECT_EQ(futex(&w, FUTEX_TRYLOCK_PI), 0);
    pi_unlock(w);
  }).join();
}

TEST(Pi, TimeOuts) {
  Word w{0};
  pi_lock(w);
  std::thread([&] {
    timespec t = in_ms(CLOCK_REALTIME, 50);
    EXPECT_ERRNO(futex(&w, FUTEX_LOCK_PI, 0, &t), ETIMEDOUT);
    t = in_ms(CLOCK_MONOTONIC, 50);
    EXPECT_ERRNO(futex(&w, kLockPi2, 0, &t), ETIMEDOUT);
    t = in_ms(CLOCK_REALTIME, 50);
    EXPECT_ERRNO(futex(&w, kLockPi2 | FUTEX_CLOCK_REALTIME, 0, &t), ETIMEDOUT);
    t.tv_nsec = -1;
    EXPECT_ERRNO(futex(&w, FUTEX_LOCK_PI, 0, &t), EINVAL);
  }).join();
  EXPECT_EQ(futex(&w, FUTEX_UNLOCK_PI), 0);
  EXPECT_EQ(w, 0u);
}

TEST(Pi, NobodyOwnsThatTid) {
  Word w{0x3ffffff0};
  EXPECT_ERRNO(futex(&w, FUTEX_LOCK_PI), ESRCH);
}

TEST(Pi, TwoLocksInACircle) {
  Word a{0}, b{0};
  std::atomic<bool> has_b{false};
  pi_lock(a);
  std::thread t([&] {
    pi_lock(b);
    has_b = true;
    pi_lock(a);
    pi_unlock(a);
    pi_unlock(b);
  });
  until(has_b);
  while (!(a & FUTEX_WAITERS)) usleep(1000);
  usleep(20000);
  EXPECT_ERRNO(futex(&b, FUTEX_LOCK_PI), EDEADLK);
  pi_unlock(a);
  t.join();
}

TEST(Pi, ExclusionOfMany) {
  Word w{0};
  int counter = 0;
  std::vector<std::thread> all;
  for (int i = 0; i < 4; i++)
    all.emplace_back([&] {
      for (int k = 0; k < 300; k++) {
        pi_lock(w);
        int c = counter;
        if (k % 50 == 0) sched_yield();
        counter = c + 1;
        pi_unlock(w);
      }
    });
  for (auto& t : all) t.join();
  EXPECT_EQ(counter, 1200);
  EXPECT_EQ(w, 0u);
}

TEST(Pi, BetweenProcesses) {
  Word& w = shared_word();
  pi_lock(w);
  pid_t p = child([&] {
    pi_lock(w);
    pi_unlock(w);
  });
  while (!(w & FUTEX_WAITERS)) usleep(1000);
  pi_unlock(w);
  EXPECT_EQ(status_of(p), 0);
}

TEST(Pi, AnOwnerThatDiesLeavesTheLockMarked) {
  Word& w = shared_word();
  pid_t p = child([&] {
    pi_lock(w);
    while (!(w & FUTEX_WAITERS)) usleep(1000);
    usleep(30000);
    syscall(SYS_exit_group, 0);
  });
  while (w == 0) usleep(1000);
  EXPECT_EQ(futex(&w, FUTEX_LOCK_PI), 0) << strerror(errno);
  EXPECT_EQ(w & FUTEX_TID_MASK, tid());
  EXPECT_TRUE(w & FUTEX_OWNER_DIED);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(futex(&w, FUTEX_UNLOCK_PI), 0);
}

TEST(Pi, SoDoesOneThatIsKilled) {
  Word& w = shared_word();
  pid_t p = child([&] {
    pi_lock(w);
    for (;;) pause();
  });
  while (w == 0) usleep(1000);
  std::thread killer([&] {
    while (!(w & FUTEX_WAITERS)) usleep(1000);
    usleep(30000);
    kill(p, SIGKILL);
  });
  EXPECT_EQ(futex(&w, FUTEX_LOCK_PI), 0) << strerror(errno);
  EXPECT_TRUE(w & FUTEX_OWNER_DIED);
  killer.join();
  status_of(p);
  EXPECT_EQ(futex(&w, FUTEX_UNLOCK_PI), 0);
}

TEST(Pi, ASignalDoesNotEndTheWait) {
  Word w{0};
  signal(SIGUSR1, [](int) {});
  pi_lock(w);
  std::thread t([&] {
    EXPECT_EQ(futex(&w, FUTEX_LOCK_PI), 0);
    pi_unlock(w);
  });
  while (!(w & FUTEX_WAITERS)) usleep(1000);
  for (int i = 0; i < 3; i++) {
    pthread_kill(t.native_handle(), SIGUSR1);
    usleep(10000);
  }
  pi_unlock(w);
  t.join();
}

TEST(Pi, BadAddresses) {
  EXPECT_ERRNO(futex(reinterpret_cast<Word*>(8), FUTEX_LOCK_PI), EFAULT);
  EXPECT_ERRNO(futex(reinterpret_cast<Word*>(3), FUTEX_LOCK_PI), EINVAL);
  EXPECT_ERRNO(futex(reinterpret_cast<Word*>(8), FUTEX_UNLOCK_PI), EFAULT);
}

TEST(Pi, LibraryMutexes) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  ASSERT_EQ(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT), 0);
  ASSERT_EQ(pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST), 0);
  pthread_mutex_t m;
  ASSERT_EQ(pthread_mutex_init(&m, &a), 0);
  std::thread([&] { EXPECT_EQ(pthread_mutex_lock(&m), 0); }).join();
  EXPECT_EQ(pthread_mutex_lock(&m), EOWNERDEAD);
  EXPECT_EQ(pthread_mutex_consistent(&m), 0);
  EXPECT_EQ(pthread_mutex_unlock(&m), 0);
  int n = 0;
  std::vector<std::thread> all;
  for (int i = 0; i < 4; i++)
    all.emplace_back([&] {
      for (int k = 0; k < 200; k++) {
        EXPECT_EQ(pthread_mutex_lock(&m), 0);
        n++;
        EXPECT_EQ(pthread_mutex_unlock(&m), 0);
      }
    });
  for (auto& t : all) t.join();
  EXPECT_EQ(n, 800);
  pthread_mutex_destroy(&m);
}

// ---- Requeueing ----

TEST(RequeuePi, WaitersGetTheLockOneByOne) {
  Word cond{0}, lock{0};
  std::atomic<int> have{0};
  std::vector<std::thread> all;
  for (int i = 0; i < 3; i++)
    all.emplace_back([&] {
      EXPECT_EQ(futex(&cond, FUTEX_WAIT_REQUEUE_PI | FUTEX_PRIVATE_FLAG, 0, nullptr, &lock), 0) << strerror(errno);
      EXPECT_EQ(lock & FUTEX_TID_MASK, tid());
      have++;
      usleep(5000);
      EXPECT_EQ(have % 10, 1);
      have--;
      EXPECT_EQ(futex(&lock, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG), 0);
    });
  usleep(100000);
  long moved = futex(&cond, FUTEX_CMP_REQUEUE_PI | FUTEX_PRIVATE_FLAG, 1, reinterpret_cast<void*>(10), &lock, 0);
  EXPECT_EQ(moved, 3);
  for (auto& t : all) t.join();
  EXPECT_EQ(lock & FUTEX_TID_MASK, 0u);
}

TEST(RequeuePi, ToAHeldLock) {
  Word cond{0}, lock{0};
  pi_lock(lock);
  std::thread t([&] {
    EXPECT_EQ(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 0, nullptr, &lock), 0) << strerror(errno);
    EXPECT_EQ(futex(&lock, FUTEX_UNLOCK_PI), 0);
  });
  usleep(100000);
  EXPECT_EQ(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, nullptr, &lock, 0), 1);
  usleep(20000);
  pi_unlock(lock);
  t.join();
}

TEST(RequeuePi, Errors) {
  Word cond{1}, lock{0};
  EXPECT_ERRNO(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 0, nullptr, &lock), EAGAIN);
  EXPECT_ERRNO(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 1, nullptr, &cond), EINVAL);
  timespec t = in_ms(CLOCK_MONOTONIC, 30);
  EXPECT_ERRNO(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 1, &t, &lock), ETIMEDOUT);
  EXPECT_ERRNO(futex(&cond, FUTEX_CMP_REQUEUE_PI, 2, nullptr, &lock, 1), EINVAL);
  EXPECT_ERRNO(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, nullptr, &lock, 7), EAGAIN);
  EXPECT_EQ(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, nullptr, &lock, 1), 0);
}

// ---- futex_waitv ----

struct Wanted {
  uint64_t val, uaddr;
  uint32_t flags, reserved;
};
Wanted want(Word& w, uint32_t v, uint32_t flags = 2 | FUTEX_PRIVATE_FLAG) {
  return {v, reinterpret_cast<uint64_t>(&w), flags, 0};
}
long waitv(const std::vector<Wanted>& v, const timespec* t = nullptr, int clock = CLOCK_MONOTONIC) {
  return syscall(449, v.data(), v.size(), 0, t, clock);
}

TEST(Waitv, AnyOfThemWakes) {
  for (uint32_t flags : {2u | FUTEX_PRIVATE_FLAG, 2u}) {
    Word w[4] = {0, 0, 0, 0};
    std::atomic<long> got{-2};
    std::thread t([&] { got = waitv({want(w[0], 0, flags), want(w[1], 0, flags), want(w[2], 0, flags), want(w[3], 0, flags)}); });
    usleep(60000);
    EXPECT_EQ(got, -2);
    EXPECT_EQ(futex(&w[2], flags & FUTEX_PRIVATE_FLAG ? FUTEX_WAKE | FUTEX_PRIVATE_FLAG : FUTEX_WAKE, 1), 1);
    t.join();
    EXPECT_EQ(got, 2);
  }
}

TEST(Waitv, SharedBetweenProcesses) {
  Word& a = shared_word();
  Word& b = shared_word();
  pid_t p = child([&] { EXPECT_EQ(waitv({want(a, 0, 2), want(b, 0, 2)}), 1); });
  usleep(60000);
  EXPECT_EQ(futex(&b, FUTEX_WAKE, 1), 1);
  EXPECT_EQ(status_of(p), 0);
}

TEST(Waitv, Errors) {
  Word a{0}, b{1};
  EXPECT_ERRNO(waitv({want(a, 0), want(b, 0)}), EAGAIN);
  timespec t = in_ms(CLOCK_MONOTONIC, 30);
  EXPECT_ERRNO(waitv({want(a, 0), want(b, 1)}, &t), ETIMEDOUT);
  t = in_ms(CLOCK_REALTIME, 30);
  EXPECT_ERRNO(waitv({want(a, 0)}, &t, CLOCK_REALTIME), ETIMEDOUT);
  EXPECT_ERRNO(waitv({want(a, 0)}, &t, CLOCK_BOOTTIME), EINVAL);
  EXPECT_ERRNO(waitv({want(a, 0, 0x1000)}), EINVAL);
  EXPECT_ERRNO(waitv({want(a, 0, 0)}), EINVAL);
  Wanted bad = want(a, 0);
  bad.reserved = 1;
  EXPECT_ERRNO(waitv({bad}), EINVAL);
  EXPECT_ERRNO(waitv({}), EINVAL);
  EXPECT_ERRNO(waitv(std::vector<Wanted>(129, want(a, 0))), EINVAL);
  EXPECT_ERRNO(syscall(449, nullptr, 1, 0, nullptr, 0), EINVAL);
  EXPECT_ERRNO(syscall(449, 8, 1, 0, nullptr, 0), EFAULT);
}

// ---- futex_wake, futex_wait, futex_requeue ----

long wake2(Word& w, uint64_t mask, int n, unsigned flags) { return syscall(454, &w, mask, n, flags); }
long wait2(Word& w, uint64_t v, uint64_t mask, unsigned flags, const timespec* t = nullptr, int clock = CLOCK_MONOTONIC) {
  return syscall(455, &w, v, mask, flags, t, clock);
}

TEST(Futex2, WaitAndWake) {
  for (unsigned flags : {2u | FUTEX_PRIVATE_FLAG, 2u}) {
    Word w{0};
    std::atomic<long> got{-2};
    std::thread t([&] { got = wait2(w, 0, ~0u, flags); });
    usleep(60000);
    EXPECT_EQ(wake2(w, ~0u, 0, flags), 0);
    usleep(20000);
    EXPECT_EQ(got, -2);
    EXPECT_EQ(wake2(w, ~0u, 1, flags), 1);
    t.join();
    EXPECT_EQ(got, 0);
  }
}

TEST(Futex2, Errors) {
  Word w{0};
  EXPECT_ERRNO(wait2(w, 1, ~0u, 2), EAGAIN);
  EXPECT_ERRNO(wait2(w, 0, 0, 2), EINVAL);
  EXPECT_ERRNO(wait2(w, 0, ~0u, 0), EINVAL);
  EXPECT_ERRNO(wait2(w, 0, ~0u, 2 | 0x100), EINVAL);
  EXPECT_ERRNO(wait2(w, 1ull << 32, ~0u, 2), EINVAL);
  EXPECT_ERRNO(wake2(w, 0, 1, 2), EINVAL);
  EXPECT_ERRNO(wake2(w, ~0u, 1, 1), EINVAL);
  timespec t = in_ms(CLOCK_MONOTONIC, 30);
  EXPECT_ERRNO(wait2(w, 0, ~0u, 2, &t), ETIMEDOUT);
  t = in_ms(CLOCK_REALTIME, 30);
  EXPECT_ERRNO(wait2(w, 0, ~0u, 2 | FUTEX_PRIVATE_FLAG, &t, CLOCK_REALTIME), ETIMEDOUT);
  EXPECT_ERRNO(wait2(w, 0, ~0u, 2, &t, CLOCK_BOOTTIME), EINVAL);
}

TEST(Futex2, Requeue) {
  Word& a = shared_word();
  Word& b = shared_word();
  std::atomic<int> woken{0};
  std::vector<std::thread> all;
  for (int i = 0; i < 3; i++)
    all.emplace_back([&] {
      EXPECT_EQ(wait2(a, 0, ~0u, 2), 0);
      woken++;
    });
  usleep(80000);
  Wanted pair[2] = {want(a, 0, 2), want(b, 0, 2)};
  EXPECT_EQ(syscall(456, pair, 0, 1, 10), 3);
  usleep(50000);
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(wake2(b, ~0u, 10, 2), 2);
  for (auto& t : all) t.join();
  pair[0].val = 5;
  EXPECT_ERRNO(syscall(456, pair, 0, 1, 1), EAGAIN);
  EXPECT_ERRNO(syscall(456, pair, 1, 1, 1), EINVAL);
}

}  // namespace
