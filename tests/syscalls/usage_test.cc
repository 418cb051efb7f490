// SPDX-License-Identifier: Apache-2.0
// What a process has used: CPU time by whom it was used, memory. Passes on Linux first, then in the sandbox.
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace {

int64_t ns(const timeval& t) { return t.tv_sec * 1'000'000'000ll + t.tv_usec * 1000ll; }
int64_t clock_ns(clockid_t c) {
  timespec t{};
  EXPECT_EQ(clock_gettime(c, &t), 0);
  return t.tv_sec * 1'000'000'000ll + t.tv_nsec;
}
rusage usage(int who) {
  rusage u{};
  EXPECT_EQ(getrusage(who, &u), 0);
  return u;
}

void compute(int64_t for_ns) {
  volatile uint64_t x = 1;
  int64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + for_ns;
  while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end)
    for (int i = 0; i < 100000; i++) x = x * 3 + 1;
}
// Until the kernel says that it has worked so long for us.
void call(int64_t for_ns) {
  int64_t end = ns(usage(RUSAGE_SELF).ru_stime) + for_ns;
  int64_t patience = clock_ns(CLOCK_MONOTONIC) + 60'000'000'000;
  while (ns(usage(RUSAGE_SELF).ru_stime) < end && clock_ns(CLOCK_MONOTONIC) < patience)
    for (int i = 0; i < 200; i++) syscall(SYS_getppid);
}

TEST(CpuTime, ComputingIsUserTime) {
  rusage a = usage(RUSAGE_SELF);
  compute(200'000'000);
  rusage b = usage(RUSAGE_SELF);
  EXPECT_GE(ns(b.ru_utime) - ns(a.ru_utime), 120'000'000);
}

TEST(CpuTime, CallsAreSystemTime) {
  rusage a = usage(RUSAGE_SELF);
  call(50'000'000);
  rusage b = usage(RUSAGE_SELF);
  EXPECT_GE(ns(b.ru_stime) - ns(a.ru_stime), 50'000'000);
}

TEST(CpuTime, ProcessClockIsUserAndSystem) {
  call(20'000'000);
  compute(20'000'000);
  rusage u = usage(RUSAGE_SELF);
  int64_t clock = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  int64_t sum = ns(u.ru_utime) + ns(u.ru_stime);
  EXPECT_GE(clock, sum - 10'000'000);
  EXPECT_LE(clock, sum + 60'000'000);
}

TEST(CpuTime, ClocksNeverGoBack) {
  int64_t process = 0, thread = 0;
  for (int i = 0; i < 2000; i++) {
    int64_t p = clock_ns(CLOCK_PROCESS_CPUTIME_ID), t = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    EXPECT_GE(p, process);
    EXPECT_GE(t, thread);
    process = p;
    thread = t;
  }
}

TEST(CpuTime, SleepingCostsNothing) {
  int64_t a = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  usleep(300'000);
  EXPECT_LT(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - a, 100'000'000);
}

TEST(CpuTime, TimesCountsTicks) {
  tms a{}, b{};
  ASSERT_NE(times(&a), static_cast<clock_t>(-1));
  compute(150'000'000);
  call(50'000'000);
  ASSERT_NE(times(&b), static_cast<clock_t>(-1));
  EXPECT_GE(b.tms_utime - a.tms_utime, 8);
  EXPECT_GE(b.tms_stime - a.tms_stime, 4);
}

TEST(CpuTime, ThreadClockIsOfTheThread) {
  int64_t mine = clock_ns(CLOCK_THREAD_CPUTIME_ID), theirs = 0;
  std::thread t([&] {
    compute(150'000'000);
    theirs = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  });
  t.join();
  EXPECT_GE(theirs, 150'000'000);
  EXPECT_LT(clock_ns(CLOCK_THREAD_CPUTIME_ID) - mine, 100'000'000);
  EXPECT_GE(clock_ns(CLOCK_PROCESS_CPUTIME_ID), 150'000'000);  // the dead thread's too
}

TEST(CpuTime, DeadThreadsAreCounted) {
  rusage a = usage(RUSAGE_SELF);
  std::thread([] { call(50'000'000); }).join();
  rusage b = usage(RUSAGE_SELF);
  EXPECT_GE(ns(b.ru_stime) - ns(a.ru_stime), 45'000'000);
  rusage mine = usage(RUSAGE_THREAD);
  EXPECT_LE(ns(mine.ru_stime), ns(b.ru_stime));
}

TEST(CpuTime, ChildrenCountOnceWaitedFor) {
  rusage a = usage(RUSAGE_CHILDREN);
  pid_t pid = fork();
  if (pid == 0) {
    compute(100'000'000);
    call(50'000'000);
    _exit(0);
  }
  int status = 0;
  rusage child{};
  ASSERT_EQ(wait4(pid, &status, 0, &child), pid);
  rusage b = usage(RUSAGE_CHILDREN);
  EXPECT_GE(ns(child.ru_utime), 60'000'000);
  EXPECT_GE(ns(child.ru_stime), 45'000'000);
  EXPECT_GE(ns(b.ru_stime) - ns(a.ru_stime), 45'000'000);
  EXPECT_GE(ns(b.ru_utime) - ns(a.ru_utime), 60'000'000);
}

volatile sig_atomic_t g_ticks = 0;
TEST(CpuTime, VirtualTimerCountsUserTimeOnly) {
  signal(SIGVTALRM, [](int) { g_ticks = g_ticks + 1; });
  g_ticks = 0;
  itimerval v{{0, 20000}, {0, 20000}};
  ASSERT_EQ(setitimer(ITIMER_VIRTUAL, &v, nullptr), 0);
  usleep(200'000);
  EXPECT_LE(g_ticks, 2);
  compute(300'000'000);
  EXPECT_GE(g_ticks, 5);
  itimerval off{};
  setitimer(ITIMER_VIRTUAL, &off, nullptr);
}

TEST(CpuTime, ProfTimerCountsBoth) {
  signal(SIGPROF, [](int) { g_ticks = g_ticks + 1; });
  g_ticks = 0;
  itimerval v{{0, 20000}, {0, 20000}};
  ASSERT_EQ(setitimer(ITIMER_PROF, &v, nullptr), 0);
  compute(150'000'000);
  call(100'000'000);
  EXPECT_GE(g_ticks, 6);
  itimerval off{};
  setitimer(ITIMER_PROF, &off, nullptr);
}

// The signal goes to a thread that computes, not to one that sleeps: so profilers see where time is spent.
std::atomic<pid_t> g_computes{0};
std::atomic<int> g_found{0};
TEST(CpuTime, ProfTimerFindsWhoComputes) {
  struct sigaction a = {}, old;
  a.sa_handler = [](int) { g_found += gettid() == g_computes; };
  a.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGPROF, &a, &old), 0);
  std::thread computes([] {
    g_computes = gettid();
    itimerval t{{0, 10000}, {0, 10000}};
    EXPECT_EQ(setitimer(ITIMER_PROF, &t, nullptr), 0);
    timespec now, first;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &first);
    do {
      for (int i = 0; i < 1'000'000; i++) asm volatile("");
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while (g_found < 5 && now.tv_sec - first.tv_sec < 10);
    t = {};
    EXPECT_EQ(setitimer(ITIMER_PROF, &t, nullptr), 0);
  });
  computes.join();
  EXPECT_GE(g_found, 5);
  EXPECT_EQ(sigaction(SIGPROF, &old, nullptr), 0);
}

TEST(Resident, UntouchedMemoryIsNotResident) {
  long a = usage(RUSAGE_SELF).ru_maxrss;
  void* m = mmap(nullptr, 256 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(m, MAP_FAILED);
  EXPECT_LT(usage(RUSAGE_SELF).ru_maxrss - a, 64 << 10);
  munmap(m, 256 << 20);
}

TEST(Resident, TouchedMemoryIs) {
  long a = usage(RUSAGE_SELF).ru_maxrss;
  ASSERT_GT(a, 100);
  size_t size = 96 << 20;
  void* m = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(m, MAP_FAILED);
  memset(m, 1, size);
  long b = usage(RUSAGE_SELF).ru_maxrss;
  EXPECT_GE(b - a, 80 << 10);
  EXPECT_LE(b - a, 112 << 10);
  munmap(m, size);
  EXPECT_GE(usage(RUSAGE_SELF).ru_maxrss, b - 1024);  // a maximum
}

TEST(Resident, OfAChild) {
  pid_t pid = fork();
  if (pid == 0) {
    size_t size = 64 << 20;
    void* m = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(m, 1, size);
    compute(60'000'000);
    _exit(0);
  }
  rusage child{};
  int status = 0;
  ASSERT_EQ(wait4(pid, &status, 0, &child), pid);
  EXPECT_GE(child.ru_maxrss, 64 << 10);
  EXPECT_GE(usage(RUSAGE_CHILDREN).ru_maxrss, 64 << 10);
}

}  // namespace
