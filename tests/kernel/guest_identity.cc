// SPDX-License-Identifier: Apache-2.0
// Ids, limits, names, scheduling.
#include "tests/kernel/guest.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int in_child(int (*f)()) {
  pid_t pid = fork();
  if (pid == 0) _exit(f());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

CASE(root_becomes_a_user) {
  if (getuid() != 0) return;
  EXPECT_EQ(in_child([] {
    gid_t groups[] = {5, 7};
    if (setgroups(2, groups) || getgroups(0, nullptr) != 2) return 1;
    if (setresgid(100, 100, 100) || setresuid(1000, 1000, 1000)) return 2;
    uid_t r, e, s;
    if (getresuid(&r, &e, &s) || r != 1000 || e != 1000 || s != 1000) return 3;
    if (setuid(0) != -1 || errno != EPERM) return 4;
    if (setgroups(0, nullptr) != -1 || errno != EPERM) return 5;
    if (kill(1, 0) != -1 || errno != EPERM) return 6;
    struct { unsigned version; int pid; } h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct { unsigned effective, permitted, inheritable; } d[2] = {};
    if (syscall(SYS_capget, &h, d) || d[0].effective || d[0].permitted) return 7;
    return 0;
  }), 0);
}

CASE(saved_id_lets_return) {
  if (getuid() != 0) return;
  EXPECT_EQ(in_child([] {
    if (setresuid(0, 1000, 0) || geteuid() != 1000) return 1;
    if (seteuid(0) || geteuid() != 0) return 2;
    if (setreuid(1000, 1000) || seteuid(0) != -1) return 3;
    return 0;
  }), 0);
}

CASE(limits) {
  struct rlimit l;
  EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &l), 0);
  EXPECT(l.rlim_cur > 0);
  struct rlimit small = {16, l.rlim_max};
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &small), 0);
  EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &l), 0);
  EXPECT_EQ(l.rlim_cur, 16);
  int last = 0;
  for (int i = 0; i < 40 && last >= 0; i++) last = dup(0);
  EXPECT(last == -1 && errno == EMFILE);
  struct rlimit bad = {10, 5};
  EXPECT_EQ(setrlimit(RLIMIT_CPU, &bad), -1);
  EXPECT_EQ(errno, EINVAL);
}

CASE(cpu_limit_kills) {
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit l = {1, 2};
    setrlimit(RLIMIT_CPU, &l);
    for (;;) asm volatile("");
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGXCPU);
}

CASE(usage_counts_cpu_time) {
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  clock_t c0 = clock();
  while (clock() - c0 < CLOCKS_PER_SEC / 20) {}
  getrusage(RUSAGE_SELF, &after);
  auto us = [](const struct rusage& r) {
    return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 + r.ru_utime.tv_usec + r.ru_stime.tv_usec;
  };
  EXPECT(us(after) - us(before) >= 30000);
  pid_t pid = fork();
  if (pid == 0) {
    clock_t c = clock();
    while (clock() - c < CLOCKS_PER_SEC / 20) {}
    _exit(0);
  }
  waitpid(pid, nullptr, 0);
  getrusage(RUSAGE_CHILDREN, &after);
  EXPECT(us(after) >= 30000);
  struct tms t;
  EXPECT(times(&t) != -1);
  EXPECT(t.tms_cutime + t.tms_cstime >= 3);
}

CASE(names_and_system) {
  struct utsname u;
  EXPECT_EQ(uname(&u), 0);
  EXPECT(strcmp(u.sysname, "Linux") == 0 && strcmp(u.machine, "x86_64") == 0);
  EXPECT_EQ(prctl(PR_SET_NAME, "a-very-long-thread-name"), 0);
  char name[16];
  EXPECT_EQ(prctl(PR_GET_NAME, name), 0);
  EXPECT(strcmp(name, "a-very-long-thr") == 0);
  struct sysinfo s;
  EXPECT_EQ(sysinfo(&s), 0);
  EXPECT(s.totalram > 0);
  char random[300];
  EXPECT_EQ(syscall(SYS_getrandom, random, sizeof random, 0), sizeof random);
  EXPECT_EQ(syscall(SYS_getrandom, reinterpret_cast<void*>(8), 16, 0), -1);
  EXPECT_EQ(errno, EFAULT);
}

CASE(scheduling_calls) {
  cpu_set_t set;
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  EXPECT(CPU_COUNT(&set) > 0);
  EXPECT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
  CPU_ZERO(&set);
  EXPECT_EQ(sched_setaffinity(0, sizeof set, &set), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(sched_yield(), 0);
  EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
  EXPECT_EQ(setpriority(PRIO_PROCESS, 0, 5), 0);
  errno = 0;
  EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 5);
  EXPECT(sched_getcpu() >= 0);
}

CASE(clocks) {
  timespec a, b;
  EXPECT_EQ(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &a), 0);
  EXPECT_EQ(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b), 0);
  EXPECT(b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec));
  EXPECT_EQ(clock_gettime(CLOCK_MONOTONIC, &a), 0);  // by the vDSO: the same clock
  EXPECT(a.tv_sec - b.tv_sec < 2);
  EXPECT_EQ(syscall(SYS_clock_gettime, 99, &a), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a), 0);
  EXPECT_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a), 0);
  EXPECT_EQ(clock_getres(CLOCK_REALTIME, &a), 0);
  timeval tv;
  EXPECT_EQ(syscall(SYS_gettimeofday, &tv, nullptr), 0);
  EXPECT_EQ(syscall(SYS_clock_gettime, CLOCK_REALTIME, reinterpret_cast<void*>(16)), -1);
  EXPECT_EQ(errno, EFAULT);
}

CASE(prctl_bits) {
  EXPECT_EQ(prctl(PR_SET_PDEATHSIG, SIGTERM), 0);
  int sig = 0;
  EXPECT_EQ(prctl(PR_GET_PDEATHSIG, &sig), 0);
  EXPECT_EQ(sig, SIGTERM);
  EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
  EXPECT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  EXPECT_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  EXPECT_EQ(prctl(12345, 0, 0, 0, 0), -1);
  EXPECT_EQ(errno, EINVAL);
}

CASE(parent_death_signal) {
  int fds[2];
  EXPECT_EQ(pipe(fds), 0);
  pid_t middle = fork();
  if (middle == 0) {
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      char c = 'r';
      write(fds[1], &c, 1);
      for (;;) pause();
    }
    usleep(10000);
    _exit(0);
  }
  waitpid(middle, nullptr, 0);
  close(fds[1]);
  char c;
  EXPECT_EQ(read(fds[0], &c, 1), 1);
  EXPECT_EQ(read(fds[0], &c, 1), 0);  // the grandchild has gone, its end of the pipe with it
}
