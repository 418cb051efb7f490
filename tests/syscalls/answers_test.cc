// SPDX-License-Identifier: Apache-2.0
// Calls that a stub may answer by itself once their site is patched: ids, sched_yield, private futexes. Each is made often first, so
// that it is; then what it returns changes.
#include <grp.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/checks.h"

namespace {

constexpr int kHot = 1000;  // more than a site needs to be patched

// One site each.
__attribute__((noinline)) long ask(long nr, long a0 = 0) {
  long r;
  asm volatile("syscall\n\tcmp $-4095, %%rax" : "=a"(r) : "a"(nr), "D"(a0) : "rcx", "r11", "memory", "cc");
  return r;
}
__attribute__((noinline)) long futex(void* word, int op, unsigned value, const timespec* timeout = nullptr, unsigned bits = ~0u) {
  long r;
  register const timespec* r10 asm("r10") = timeout;
  register void* r8 asm("r8") = nullptr;
  register unsigned long r9 asm("r9") = bits;
  asm volatile("syscall\n\tcmp $-4095, %%rax"
               : "=a"(r) : "a"(SYS_futex), "D"(word), "S"(op), "d"(value), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory", "cc");
  return r;
}
constexpr int kWait = FUTEX_WAIT | FUTEX_PRIVATE_FLAG, kWake = FUTEX_WAKE | FUTEX_PRIVATE_FLAG,
              kWaitBits = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG;

constexpr long kIds[] = {SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid};
void heat() {
  unsigned word = 0;
  for (int i = 0; i < kHot; i++) {
    for (long nr : kIds) EXPECT_GE(ask(nr), 0);
    EXPECT_EQ(ask(SYS_sched_yield), 0);
    EXPECT_EQ(futex(&word, kWake, 1), 0);
    EXPECT_EQ(futex(&word, kWait, 1), -EAGAIN);
  }
}
class Answers : public testing::Test {
 protected:
  static void SetUpTestSuite() { heat(); }
};

// What a child tells its parent.
template <typename T>
struct Shared {
  Shared() : p(static_cast<T*>(mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~Shared() { munmap(p, sizeof(T)); }
  T* p;
};

TEST_F(Answers, ProcessesAndThreads) {
  const long me = ask(SYS_getpid);
  EXPECT_EQ(me, ask(SYS_gettid));
  EXPECT_EQ(in_child([&] {
    EXPECT_NE(ask(SYS_getpid), me);
    EXPECT_EQ(ask(SYS_getppid), me);
    const long pid = ask(SYS_getpid);
    std::thread([&] {
      EXPECT_EQ(ask(SYS_getpid), pid);
      EXPECT_EQ(ask(SYS_getppid), me);
      EXPECT_NE(ask(SYS_gettid), pid);
    }).join();
    EXPECT_EQ(ask(SYS_gettid), pid);
  }), 0);
}

TEST_F(Answers, AVforkChildHasItsOwn) {
  const long me = ask(SYS_getpid);
  volatile long pid = 0, ppid = 0, tid = 0;
  for (int i = 0; i < 20; i++) {
    pid_t p = vfork();
    if (p == 0) {
      pid = ask(SYS_getpid);
      ppid = ask(SYS_getppid);
      tid = ask(SYS_gettid);
      _exit(0);
    }
    EXPECT_EQ(status_of(p), 0);
    EXPECT_EQ(pid, p);
    EXPECT_EQ(tid, p);
    EXPECT_EQ(ppid, me);
    EXPECT_EQ(ask(SYS_getpid), me);
    EXPECT_EQ(ask(SYS_gettid), me);
  }
}

TEST_F(Answers, AnOrphanSeesItsNewParent) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  const long me = ask(SYS_getpid);
  Shared<std::atomic<int>> step;
  pid_t p = fork();
  if (p == 0) {
    const long middle = ask(SYS_getpid);
    if (fork() == 0) {
      if (ask(SYS_getppid) != middle) _exit(1);
      step.p->store(1);
      long now;
      while ((now = ask(SYS_getppid)) == middle) {}
      _exit(now == me ? 0 : 2);
    }
    while (step.p->load() == 0) ask(SYS_sched_yield);
    _exit(0);
  }
  EXPECT_EQ(status_of(p), 0);
  int s = -1;
  EXPECT_GT(waitpid(-1, &s, 0), 0);
  EXPECT_EQ(s, 0);
  EXPECT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

TEST_F(Answers, IdsThatChange) {
  if (geteuid() != 0) GTEST_SKIP() << "changes its ids";
  EXPECT_EQ(in_child([] {
    sem_t go, done;
    sem_init(&go, 0, 0);
    sem_init(&done, 0, 0);
    long other[4] = {};
    std::thread t([&] {
      sem_wait(&go);
      for (int i = 0; i < 4; i++) other[i] = ask(kIds[3 + i]);
      sem_post(&done);
    });
    // The bare calls change this thread's ids alone.
    EXPECT_EQ(syscall(SYS_setresgid, 11, 12, 13), 0);
    EXPECT_EQ(syscall(SYS_setresuid, 21, 22, 0), 0);
    EXPECT_EQ(ask(SYS_getuid), 21);
    EXPECT_EQ(ask(SYS_geteuid), 22);
    EXPECT_EQ(ask(SYS_getgid), 11);
    EXPECT_EQ(ask(SYS_getegid), 12);
    sem_post(&go);
    sem_wait(&done);
    for (long id : other) EXPECT_EQ(id, 0);
    t.join();
    EXPECT_EQ(syscall(SYS_setresuid, -1, 0, -1), 0);
    EXPECT_EQ(ask(SYS_geteuid), 0);
    EXPECT_EQ(in_child([] { EXPECT_EQ(ask(SYS_getuid), 21); }), 0);
  }), 0);
}

TEST_F(Answers, AUserNamespaceWithoutAMap) {
  EXPECT_EQ(in_child([] {
    const long before = ask(SYS_getuid);
    if (unshare(CLONE_NEWUSER) != 0) return;
    if (before == 65534) return;
    for (int i = 0; i < kHot; i++) EXPECT_EQ(ask(SYS_getuid), 65534);
    EXPECT_EQ(ask(SYS_getegid), 65534);
  }), 0);
}

// ---- Whoever has to see each call ----

std::vector<sock_filter> refuse(long nr, uint32_t a0) {
  return {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(nr), 0, 3),
          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, a0, 0, 1),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | E2BIG),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
}
long install(std::vector<sock_filter> p, unsigned flags = 0) {
  sock_fprog f{static_cast<unsigned short>(p.size()), p.data()};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &f);
}

TEST_F(Answers, AFilterDecides) {
  EXPECT_EQ(in_child([] {
    const long me = ask(SYS_getpid);
    ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(install(refuse(SYS_getpid, 7)), 0);
    for (int i = 0; i < kHot; i++) {
      EXPECT_EQ(ask(SYS_getpid, 8), me);
      EXPECT_EQ(ask(SYS_getpid, 7), -E2BIG);
      EXPECT_EQ(ask(SYS_gettid, 7), me);
    }
    ASSERT_EQ(install(refuse(SYS_futex, 0)), 0);
    unsigned word = 0;
    EXPECT_EQ(futex(nullptr, kWake, 1), -E2BIG);
    EXPECT_EQ(futex(&word, kWake, 1), 0);
    EXPECT_EQ(in_child([] { EXPECT_EQ(ask(SYS_getpid, 7), -E2BIG); }), 0);
  }), 0);
}

TEST_F(Answers, AFilterThatComesFromAnotherThread) {
  EXPECT_EQ(in_child([] {
    ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    std::atomic<int> step{0};
    std::thread t([&] {
      while (step != 1) ask(SYS_getppid, 7);
      EXPECT_EQ(ask(SYS_getppid, 7), -E2BIG);
    });
    EXPECT_EQ(install(refuse(SYS_getppid, 7), SECCOMP_FILTER_FLAG_TSYNC), 0);
    step = 1;
    t.join();
  }), 0);
}

TEST_F(Answers, StrictModeKills) {
  int s = in_child([] {
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    ask(SYS_getpid);
    syscall(SYS_exit, 0);
  });
  EXPECT_TRUE(WIFSIGNALED(s));
  EXPECT_EQ(WTERMSIG(s), SIGKILL);
}

TEST_F(Answers, ATracerSeesEachCall) {
  Shared<std::atomic<int>> step;
  pid_t p = child([&] {
    while (step.p->load() == 0) ask(SYS_getppid);
    for (;;) ask(SYS_getppid);
  });
  ASSERT_EQ(ptrace(PTRACE_SEIZE, p, 0, PTRACE_O_TRACESYSGOOD), 0);
  ASSERT_EQ(ptrace(PTRACE_INTERRUPT, p, 0, 0), 0);
  int s = 0;
  ASSERT_EQ(waitpid(p, &s, 0), p);
  step.p->store(1);
  for (int i = 0; i < 20; i++) {
    ASSERT_EQ(ptrace(PTRACE_SYSCALL, p, 0, 0), 0);
    ASSERT_EQ(waitpid(p, &s, 0), p);
    ASSERT_TRUE(WIFSTOPPED(s));
    EXPECT_EQ(WSTOPSIG(s), SIGTRAP | 0x80);
  }
  EXPECT_EQ(ptrace(PTRACE_DETACH, p, 0, 0), 0);
  EXPECT_EQ(kill(p, SIGKILL), 0);
  EXPECT_EQ(status_of(p), SIGKILL);
}

// ---- Registers and signals ----

TEST_F(Answers, NothingButTheResultChanges) {
  for (int i = 0; i < 2 * kHot; i++) {
    unsigned long rax = SYS_getpid, rbx = 1, rdx = 3, rsi = 4, rdi = 5, flags;
    register unsigned long r8 asm("r8") = 6;
    register unsigned long r9 asm("r9") = 7;
    register unsigned long r10 asm("r10") = 8;
    register unsigned long r12 asm("r12") = 9;
    asm volatile(
        "sub $256, %%rsp\n\t"
        "movq $77, 120(%%rsp)\n\t"  // below what is pushed next lies what only a red zone keeps
        "std; stc\n\t"
        "syscall\n\t"
        "pushfq; cld; popq %[flags]\n\t"
        "cmpq $77, 120(%%rsp); je 1f; mov $-1, %%rax; 1:\n\t"
        "add $256, %%rsp"
        : "+a"(rax), "+b"(rbx), "+d"(rdx), "+S"(rsi), "+D"(rdi), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r12), [flags] "=&r"(flags)
        :
        : "rcx", "r11", "memory", "cc");
    const unsigned long others = r8 << 24 | r9 << 16 | r10 << 8 | r12;
    ASSERT_EQ(static_cast<pid_t>(rax), getpid());
    ASSERT_EQ(flags & 0x401, 0x401u);  // direction and carry
    ASSERT_EQ(rbx, 1u);
    ASSERT_EQ(rdx, 3u);
    ASSERT_EQ(rsi, 4u);
    ASSERT_EQ(rdi, 5u);
    ASSERT_EQ(others, 0x06070809u);
  }
}

std::atomic<int> handled{0};
std::atomic<long> told{0};
TEST_F(Answers, SignalsAtAnyMoment) {
  struct sigaction sa{};
  sa.sa_handler = [](int) {
    handled++;
    told = ask(SYS_gettid);
  };
  ASSERT_EQ(sigaction(SIGALRM, &sa, nullptr), 0);
  const long me = ask(SYS_gettid);
  itimerval every{{0, 200}, {0, 200}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &every, nullptr), 0);
  while (handled < 300)
    for (int i = 0; i < 1000; i++) ASSERT_EQ(ask(SYS_gettid), me);
  every = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &every, nullptr), 0);
  EXPECT_EQ(told, me);
  signal(SIGALRM, SIG_DFL);
}

// ---- Futexes ----

TEST_F(Answers, FutexErrors) {
  unsigned word = 0;
  EXPECT_EQ(futex(reinterpret_cast<char*>(&word) + 1, kWake, 1), -EINVAL);
  EXPECT_EQ(futex(reinterpret_cast<void*>(0x7fffffff0000), kWait, 0), -EFAULT);
  EXPECT_EQ(futex(nullptr, kWait, 0), -EFAULT);
  EXPECT_EQ(futex(&word, kWaitBits, 0, nullptr, 0), -EINVAL);
  EXPECT_EQ(futex(&word, kWaitBits, 1), -EAGAIN);
  timespec bad{0, -1};
  EXPECT_EQ(futex(&word, kWait, 0, &bad), -EINVAL);
  timespec soon{0, 1000};
  EXPECT_EQ(futex(&word, kWait, 0, &soon), -ETIMEDOUT);
}

TEST_F(Answers, ThreadsWakeEachOther) {
  constexpr unsigned kTurns = 3000;
  std::atomic<unsigned> word{0};
  auto run = [&](unsigned mine) {
    for (unsigned i = 0; i < kTurns; i++) {
      unsigned v;
      while ((v = word) % 2 != mine) futex(&word, i % 2 ? kWait : kWaitBits, v);
      word++;
      futex(&word, kWake, 1);
    }
  };
  std::thread t(run, 1);
  run(0);
  t.join();
  EXPECT_EQ(word, 2 * kTurns);
}

TEST_F(Answers, ASignalEndsAWait) {
  for (const bool restart : {false, true}) {
    struct sigaction sa{};
    sa.sa_handler = [](int) { handled++; };
    sa.sa_flags = restart ? SA_RESTART : 0;
    ASSERT_EQ(sigaction(SIGUSR2, &sa, nullptr), 0);
    handled = 0;
    std::atomic<unsigned> word{0};
    std::atomic<bool> over{false};
    std::atomic<long> result{1};
    std::thread t([&] {
      result = futex(&word, kWait, 0);
      over = true;
    });
    // Until one has come while it waited.
    for (int i = 0; !over && (!restart || handled < 5); i++) {
      pthread_kill(t.native_handle(), SIGUSR2);
      timespec d{0, 2'000'000};
      nanosleep(&d, nullptr);
    }
    if (restart) {
      EXPECT_FALSE(over);
      word = 1;
      while (!over) futex(&word, kWake, 1), sched_yield();
    }
    t.join();
    EXPECT_EQ(result, restart ? 0 : -EINTR);
    EXPECT_GT(handled, 0);
  }
  signal(SIGUSR2, SIG_DFL);
}

struct Waitv {
  uint64_t value, addr;
  uint32_t flags, reserved;
};
TEST_F(Answers, AWakeReachesWhoeverWaitsForSeveral) {
  std::atomic<unsigned> words[2] = {};
  for (int i = 0; i < 200; i++) {
    const unsigned v0 = words[0], v1 = words[1];
    std::atomic<long> result{-1000};
    std::thread t([&] {
      Waitv w[2] = {{v0, reinterpret_cast<uint64_t>(&words[0]), 2 | FUTEX_PRIVATE_FLAG, 0},
                    {v1, reinterpret_cast<uint64_t>(&words[1]), 2 | FUTEX_PRIVATE_FLAG, 0}};
      const long r = syscall(449, w, 2, 0, nullptr, 0);
      result = r < 0 ? -errno : r;
    });
    if (i % 3) sched_yield();
    words[1]++;
    futex(&words[1], kWake, 1);  // one is enough: it sleeps, or will see the new value
    t.join();
    EXPECT_TRUE(result == 1 || result == -EAGAIN) << result;
  }
}

}  // namespace
