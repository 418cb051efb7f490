// SPDX-License-Identifier: Apache-2.0
// Threads and futexes.
#include "tests/kernel/guest.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

static long futex(void* addr, int op, unsigned val, const timespec* t = nullptr, void* addr2 = nullptr, unsigned val3 = 0) {
  return syscall(SYS_futex, addr, op, val, t, addr2, val3);
}
template <typename T>
static T* shared() {
  void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT(p != MAP_FAILED);
  return static_cast<T*>(p);
}

CASE(threads_start_and_join) {
  for (int round = 0; round < 5; round++) {
    pthread_t t[8];
    static std::atomic<long> sum;
    sum = 0;
    for (long i = 0; i < 8; i++)
      EXPECT_EQ(pthread_create(&t[i], nullptr, [](void* p) -> void* {
        sum += reinterpret_cast<long>(p);
        return p;
      }, reinterpret_cast<void*>(i)), 0);
    for (long i = 0; i < 8; i++) {
      void* r;
      EXPECT_EQ(pthread_join(t[i], &r), 0);
      EXPECT_EQ(reinterpret_cast<long>(r), i);
    }
    EXPECT_EQ(sum.load(), 28);
  }
}

CASE(mutex_and_condition) {
  static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  static int turn, rounds;
  pthread_t t[2];
  for (long i = 0; i < 2; i++)
    pthread_create(&t[i], nullptr, [](void* p) -> void* {
      for (int n = 0; n < 300; n++) {
        pthread_mutex_lock(&m);
        while (turn != reinterpret_cast<long>(p)) pthread_cond_wait(&c, &m);
        turn = 1 - turn;
        rounds++;
        pthread_cond_broadcast(&c);
        pthread_mutex_unlock(&m);
      }
      return nullptr;
    }, reinterpret_cast<void*>(i));
  for (pthread_t x : t) pthread_join(x, nullptr);
  EXPECT_EQ(rounds, 600);
}

CASE(timed_waits_end) {
  int word = 5;
  timespec t{0, 3000000};
  EXPECT_EQ(futex(&word, FUTEX_WAIT_PRIVATE, 5, &t), -1);
  EXPECT_EQ(errno, ETIMEDOUT);
  EXPECT_EQ(futex(&word, FUTEX_WAIT_PRIVATE, 6, &t), -1);
  EXPECT_EQ(errno, EAGAIN);
  int* s = shared<int>();
  *s = 5;
  EXPECT_EQ(futex(s, FUTEX_WAIT, 5, &t), -1);
  EXPECT_EQ(errno, ETIMEDOUT);
  EXPECT_EQ(futex(s, FUTEX_WAIT, 6, &t), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(futex(reinterpret_cast<char*>(s) + 1, FUTEX_WAIT, 6, &t), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(futex(reinterpret_cast<void*>(0x1000), FUTEX_WAIT, 6, &t), -1);
  EXPECT_EQ(errno, EFAULT);
}

CASE(shared_futex_between_processes) {
  struct Shared { int a, b; };
  Shared* s = shared<Shared>();
  pid_t pid = fork();
  if (pid == 0) {
    for (int i = 1; i <= 200; i++) {
      while (__atomic_load_n(&s->a, __ATOMIC_ACQUIRE) != i) futex(&s->a, FUTEX_WAIT, static_cast<unsigned>(i - 1));
      __atomic_store_n(&s->b, i, __ATOMIC_RELEASE);
      futex(&s->b, FUTEX_WAKE, 1);
    }
    _exit(0);
  }
  for (int i = 1; i <= 200; i++) {
    __atomic_store_n(&s->a, i, __ATOMIC_RELEASE);
    futex(&s->a, FUTEX_WAKE, 1);
    while (__atomic_load_n(&s->b, __ATOMIC_ACQUIRE) != i) futex(&s->b, FUTEX_WAIT, static_cast<unsigned>(i - 1));
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

CASE(wake_wakes_waiters) {
  static int word;
  static std::atomic<int> awake;
  pthread_t t[3];
  for (pthread_t& x : t)
    pthread_create(&x, nullptr, [](void*) -> void* {
      while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == 0) futex(&word, FUTEX_WAIT_PRIVATE, 0);
      awake++;
      return nullptr;
    }, nullptr);
  usleep(5000);
  __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
  EXPECT(futex(&word, FUTEX_WAKE_PRIVATE, 100) <= 3);
  for (pthread_t x : t) pthread_join(x, nullptr);
  EXPECT_EQ(awake.load(), 3);
}

CASE(requeue_and_wake_op) {
  static int first, second;
  static std::atomic<int> awake;
  pthread_t t[4];
  for (pthread_t& x : t)
    pthread_create(&x, nullptr, [](void*) -> void* {
      while (__atomic_load_n(&first, __ATOMIC_ACQUIRE) == 0) futex(&first, FUTEX_WAIT_PRIVATE, 0);
      awake++;
      return nullptr;
    }, nullptr);
  usleep(5000);
  EXPECT_EQ(futex(&first, FUTEX_CMP_REQUEUE_PRIVATE, 1, reinterpret_cast<timespec*>(100L), &second, 1), -1);
  EXPECT_EQ(errno, EAGAIN);
  __atomic_store_n(&first, 1, __ATOMIC_RELEASE);
  EXPECT(futex(&first, FUTEX_CMP_REQUEUE_PRIVATE, 1, reinterpret_cast<timespec*>(100L), &second, 1) >= 0);
  second = 10;
  EXPECT(futex(&first, FUTEX_WAKE_OP_PRIVATE, 1, reinterpret_cast<timespec*>(100L), &second,
               FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 10)) >= 0);
  EXPECT_EQ(second, 15);
  for (pthread_t x : t) pthread_join(x, nullptr);
  EXPECT_EQ(awake.load(), 4);
}

CASE(shared_requeue_moves_waiters) {
  struct Shared { int a, b, awake; };
  Shared* s = shared<Shared>();
  pid_t p[3];
  for (pid_t& pid : p)
    if ((pid = fork()) == 0) {
      while (__atomic_load_n(&s->a, __ATOMIC_ACQUIRE) == 0) futex(&s->a, FUTEX_WAIT, 0);
      __atomic_fetch_add(&s->awake, 1, __ATOMIC_SEQ_CST);
      _exit(0);
    }
  usleep(20000);
  __atomic_store_n(&s->a, 1, __ATOMIC_RELEASE);
  EXPECT_EQ(futex(&s->a, FUTEX_REQUEUE, 1, reinterpret_cast<timespec*>(100L), &s->b), 3);
  usleep(5000);
  EXPECT_EQ(__atomic_load_n(&s->awake, __ATOMIC_SEQ_CST), 1);
  EXPECT_EQ(futex(&s->b, FUTEX_WAKE, 100), 2);
  for (pid_t pid : p) waitpid(pid, nullptr, 0);
  EXPECT_EQ(s->awake, 3);
}

CASE(robust_mutex_of_a_killed_process) {
  pthread_mutex_t* m = shared<pthread_mutex_t>();
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(m, &a);
  auto* locked = shared<volatile int>();
  pid_t pid = fork();
  if (pid == 0) {
    pthread_mutex_lock(m);
    *locked = 1;
    for (;;) pause();
  }
  while (!*locked) usleep(100);
  kill(pid, SIGKILL);
  EXPECT_EQ(pthread_mutex_lock(m), EOWNERDEAD);
  EXPECT_EQ(pthread_mutex_consistent(m), 0);
  pthread_mutex_unlock(m);
  waitpid(pid, nullptr, 0);
}

CASE(robust_mutex_of_a_thread) {
  static pthread_mutex_t m;
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&m, &a);
  pthread_t t;
  static volatile int locked;
  pthread_create(&t, nullptr, [](void*) -> void* {
    pthread_mutex_lock(&m);
    locked = 1;
    usleep(5000);
    return nullptr;
  }, nullptr);
  while (!locked) usleep(100);
  EXPECT_EQ(pthread_mutex_lock(&m), EOWNERDEAD);
  pthread_join(t, nullptr);
}

CASE(process_shared_semaphore) {
  sem_t* s = shared<sem_t>();
  sem_init(s, 1, 0);
  pid_t pid = fork();
  if (pid == 0) {
    usleep(3000);
    sem_post(s);
    _exit(0);
  }
  EXPECT_EQ(sem_wait(s), 0);
  waitpid(pid, nullptr, 0);
}

CASE(signal_reaches_a_thread_in_a_futex) {
  static std::atomic<int> got;
  struct sigaction sa{};
  sa.sa_handler = [](int) { got = static_cast<int>(syscall(SYS_gettid)); };
  sigaction(SIGUSR1, &sa, nullptr);
  static int word;
  static std::atomic<int> tid, result;
  pthread_t t;
  pthread_create(&t, nullptr, [](void*) -> void* {
    tid = static_cast<int>(syscall(SYS_gettid));
    long r = futex(&word, FUTEX_WAIT_PRIVATE, 0);
    result = r == -1 ? errno : 1000;
    return nullptr;
  }, nullptr);
  while (tid == 0) usleep(500);
  usleep(3000);
  EXPECT_EQ(syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1), 0);
  pthread_join(t, nullptr);
  EXPECT_EQ(got.load(), tid.load());
  EXPECT_EQ(result.load(), EINTR);
}

CASE(restarted_futex_wait) {
  struct sigaction sa{};
  sa.sa_handler = [](int) {};
  sa.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &sa, nullptr);
  static int word;
  static std::atomic<int> tid, result{-1};
  pthread_t t;
  pthread_create(&t, nullptr, [](void*) -> void* {
    tid = static_cast<int>(syscall(SYS_gettid));
    result = static_cast<int>(futex(&word, FUTEX_WAIT_PRIVATE, 0));
    return nullptr;
  }, nullptr);
  while (tid == 0) usleep(500);
  for (int i = 0; i < 5; i++) {
    usleep(2000);
    syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1);
  }
  usleep(2000);
  EXPECT_EQ(result.load(), -1);
  __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
  futex(&word, FUTEX_WAKE_PRIVATE, 1);
  pthread_join(t, nullptr);
  EXPECT(result.load() == 0 || result.load() == -1);
}

CASE(exit_group_ends_all_threads) {
  pid_t pid = fork();
  if (pid == 0) {
    pthread_t t;
    static int word;
    pthread_create(&t, nullptr, [](void*) -> void* { futex(&word, FUTEX_WAIT_PRIVATE, 0); return nullptr; }, nullptr);
    pthread_create(&t, nullptr, [](void*) -> void* { for (;;) {} }, nullptr);
    pthread_create(&t, nullptr, [](void*) -> void* { for (;;) pause(); }, nullptr);
    usleep(2000);
    _exit(12);
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 12);
}

CASE(leader_may_end_first) {
  pid_t pid = fork();
  if (pid == 0) {
    pthread_t t;
    pthread_create(&t, nullptr, [](void*) -> void* {
      usleep(5000);
      _exit(getpid() != static_cast<int>(syscall(SYS_gettid)) ? 21 : 22);
    }, nullptr);
    pthread_exit(nullptr);
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 21);
}

CASE(fork_from_a_thread) {
  static int status;
  pthread_t t;
  pthread_create(&t, nullptr, [](void*) -> void* {
    pid_t pid = fork();
    if (pid == 0) _exit(static_cast<int>(syscall(SYS_gettid)) == getpid() ? 33 : 34);
    waitpid(pid, &status, 0);
    return nullptr;
  }, nullptr);
  pthread_join(t, nullptr);
  EXPECT_EQ(WEXITSTATUS(status), 33);
}

CASE(signals_and_stops_of_many_threads) {
  pid_t pid = fork();
  if (pid == 0) {
    pthread_t t;
    for (int i = 0; i < 4; i++)
      pthread_create(&t, nullptr, [](void*) -> void* { for (;;) usleep(500); }, nullptr);
    for (;;) usleep(1000);
  }
  for (int i = 0; i < 5; i++) {
    usleep(3000);
    kill(pid, SIGSTOP);
    int status;
    EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
    EXPECT(WIFSTOPPED(status));
    kill(pid, SIGCONT);
    EXPECT_EQ(waitpid(pid, &status, WCONTINUED), pid);
  }
  kill(pid, SIGKILL);
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

CASE(barrier_between_threads) {
  long have = syscall(SYS_membarrier, 0, 0, 0);
  EXPECT(have > 0);
  EXPECT_EQ(syscall(SYS_membarrier, 1 << 4, 0, 0), 0);  // REGISTER_PRIVATE_EXPEDITED
  EXPECT_EQ(syscall(SYS_membarrier, 1 << 3, 0, 0), 0);
}
