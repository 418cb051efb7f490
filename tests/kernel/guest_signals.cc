// SPDX-License-Identifier: Apache-2.0
// Signals and timers.
#include "tests/kernel/guest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdint.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t g_count, g_last;
static siginfo_t g_info;
static void count(int s) {
  g_count = g_count + 1;
  g_last = s;
}
static void info(int s, siginfo_t* si, void*) {
  count(s);
  g_info = *si;
}
static void install(int sig, void (*h)(int), int flags = 0) {
  struct sigaction sa{};
  sa.sa_handler = h;
  sa.sa_flags = flags;
  EXPECT_EQ(sigaction(sig, &sa, nullptr), 0);
}
static void install_info(int sig, int flags = 0) {
  struct sigaction sa{};
  sa.sa_sigaction = info;
  sa.sa_flags = SA_SIGINFO | flags;
  EXPECT_EQ(sigaction(sig, &sa, nullptr), 0);
}
static double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

CASE(handler_runs_and_returns) {
  install_info(SIGUSR1);
  EXPECT_EQ(raise(SIGUSR1), 0);
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(g_info.si_code, SI_TKILL);
  EXPECT_EQ(kill(getpid(), SIGUSR1), 0);
  EXPECT_EQ(g_count, 2);
  EXPECT_EQ(g_info.si_code, SI_USER);
  EXPECT_EQ(g_info.si_pid, getpid());
  EXPECT_EQ(g_info.si_uid, getuid());
}

CASE(blocked_signals_wait) {
  install(SIGUSR1, count);
  sigset_t s, old, pending;
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  sigprocmask(SIG_BLOCK, &s, &old);
  raise(SIGUSR1);
  raise(SIGUSR1);
  EXPECT_EQ(g_count, 0);
  sigpending(&pending);
  EXPECT(sigismember(&pending, SIGUSR1));
  sigprocmask(SIG_SETMASK, &old, nullptr);
  EXPECT_EQ(g_count, 1);  // standard signals are not queued
}

CASE(realtime_signals_are_queued_in_order) {
  struct sigaction sa{};
  static int values[8];
  sa.sa_sigaction = [](int, siginfo_t* si, void*) {
    values[g_count] = si->si_value.sival_int;
    g_count = g_count + 1;
  };
  sa.sa_flags = SA_SIGINFO;
  sigaction(SIGRTMIN, &sa, nullptr);
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, SIGRTMIN);
  sigprocmask(SIG_BLOCK, &s, nullptr);
  for (int i = 0; i < 5; i++) EXPECT_EQ(sigqueue(getpid(), SIGRTMIN, sigval{.sival_int = i * 10}), 0);
  sigprocmask(SIG_UNBLOCK, &s, nullptr);
  EXPECT_EQ(g_count, 5);
  for (int i = 0; i < 5; i++) EXPECT_EQ(values[i], i * 10);
}

CASE(reset_and_nodefer) {
  install(SIGUSR1, count, static_cast<int>(SA_RESETHAND));
  raise(SIGUSR1);
  struct sigaction sa;
  sigaction(SIGUSR1, nullptr, &sa);
  EXPECT(sa.sa_handler == SIG_DFL);
  static int depth;
  depth = 0;
  install(SIGUSR2, [](int) {
    if (++depth < 3) raise(SIGUSR2);
  }, SA_NODEFER);
  raise(SIGUSR2);
  EXPECT_EQ(depth, 3);
}

static sigjmp_buf g_jump;
CASE(fault_information) {
  static siginfo_t si;
  struct sigaction sa{};
  sa.sa_sigaction = [](int, siginfo_t* i, void*) {
    si = *i;
    siglongjmp(g_jump, 1);
  };
  sa.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &sa, nullptr);
  sigaction(SIGFPE, &sa, nullptr);
  sigaction(SIGILL, &sa, nullptr);
  if (sigsetjmp(g_jump, 1) == 0) {
    volatile uintptr_t nowhere = 0x123;
    *reinterpret_cast<volatile int*>(nowhere) = 1;
    EXPECT(false);
  }
  EXPECT_EQ(si.si_signo, SIGSEGV);
  EXPECT_EQ(si.si_code, SEGV_MAPERR);
  EXPECT_EQ(reinterpret_cast<long>(si.si_addr), 0x123);
  char* ro = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (sigsetjmp(g_jump, 1) == 0) {
    *static_cast<volatile char*>(ro + 5) = 1;
    EXPECT(false);
  }
  EXPECT_EQ(si.si_code, SEGV_ACCERR);
  EXPECT(si.si_addr == ro + 5);
  if (sigsetjmp(g_jump, 1) == 0) {
    volatile int zero = 0, one = 1;
    one = one / zero;
    EXPECT(false);
  }
  EXPECT_EQ(si.si_signo, SIGFPE);
  EXPECT_EQ(si.si_code, FPE_INTDIV);
  if (sigsetjmp(g_jump, 1) == 0) {
    asm volatile("ud2");
    EXPECT(false);
  }
  EXPECT_EQ(si.si_signo, SIGILL);
}

CASE(alternate_stack) {
  static char stack[64 * 1024];
  static char* where;
  stack_t ss{};
  ss.ss_sp = stack;
  ss.ss_size = sizeof stack;
  EXPECT_EQ(sigaltstack(&ss, nullptr), 0);
  install(SIGUSR1, [](int) {
    char local;
    where = &local;
    stack_t now;
    sigaltstack(nullptr, &now);
    g_last = now.ss_flags;
  }, SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT(where >= stack && where < stack + sizeof stack);
  EXPECT_EQ(g_last, SS_ONSTACK);
  stack_t off{};
  off.ss_flags = SS_DISABLE;
  EXPECT_EQ(sigaltstack(&off, &ss), 0);
  EXPECT_EQ(ss.ss_flags, 0);
}

CASE(stack_overflow_on_the_alternate_stack) {
  pid_t pid = fork();
  if (pid == 0) {
    static char stack[64 * 1024];
    stack_t ss{};
    ss.ss_sp = stack;
    ss.ss_size = sizeof stack;
    sigaltstack(&ss, nullptr);
    install(SIGSEGV, [](int) { _exit(44); }, SA_ONSTACK);
    struct Deep {
      static int go(int n) {
        volatile char block[4096];
        block[0] = static_cast<char>(n);
        return n == 1 << 30 ? 0 : go(n + 1) + block[0];
      }
    };
    _exit(Deep::go(0) & 1);
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 44);
}

CASE(registers_survive_a_handler) {
  install(SIGALRM, [](int) {
    double x = 1;
    for (int i = 0; i < 50; i++) x = x * 1.5;
    g_count = g_count + (x > 0);
  });
  itimerval it{{0, 1000}, {0, 1000}};
  EXPECT_EQ(setitimer(ITIMER_REAL, &it, nullptr), 0);
  double d = 1;
  unsigned long n = 0;
  double end = now() + 0.1;
  while (g_count < 20 && now() < end + 2) {
    for (int i = 0; i < 1000; i++) {
      d = d * 1.0000001;
      n = n * 6364136223846793005ul + 1442695040888963407ul;
    }
    double check = d;
    asm volatile("" : "+x"(check));
    EXPECT(check == d);
  }
  EXPECT(g_count >= 20);
  it = itimerval{};
  setitimer(ITIMER_REAL, &it, nullptr);
  EXPECT(n != 0);
}

CASE(interrupted_read_restarts_or_not) {
  int fds[2];
  EXPECT_EQ(pipe(fds), 0);
  pid_t parent = getpid();
  install(SIGUSR1, count);
  pid_t pid = fork();
  if (pid == 0) {
    usleep(5000);
    kill(parent, SIGUSR1);
    usleep(5000);
    kill(parent, SIGUSR2);
    usleep(5000);
    write(fds[1], "x", 1);
    _exit(0);
  }
  char c = 0;
  EXPECT_EQ(read(fds[0], &c, 1), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(g_count, 1);
  install(SIGUSR2, count, SA_RESTART);
  EXPECT_EQ(read(fds[0], &c, 1), 1);
  EXPECT_EQ(c, 'x');
  EXPECT_EQ(g_count, 2);
  waitpid(pid, nullptr, 0);
}

CASE(nanosleep_tells_what_is_left) {
  install(SIGALRM, count);
  itimerval it{{0, 0}, {0, 10000}};
  setitimer(ITIMER_REAL, &it, nullptr);
  timespec want{100, 0}, left{};
  EXPECT_EQ(nanosleep(&want, &left), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT(left.tv_sec > 10 && left.tv_sec < 100);
  double start = now();
  want = {0, 5000000};
  EXPECT_EQ(nanosleep(&want, nullptr), 0);
  EXPECT(now() - start >= 0.005);
}

CASE(sleep_goes_on_after_a_stop) {
  pid_t pid = fork();
  if (pid == 0) {
    double start = now();
    timespec want{0, 60000000};
    int r = nanosleep(&want, nullptr);
    double took = now() - start;
    _exit(r == 0 && took >= 0.06 ? 0 : 1);
  }
  usleep(10000);
  kill(pid, SIGSTOP);
  int status;
  waitpid(pid, &status, WUNTRACED);
  kill(pid, SIGCONT);
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

CASE(sigsuspend_and_pause) {
  install(SIGUSR1, count);
  sigset_t s, none;
  sigemptyset(&none);
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  sigprocmask(SIG_BLOCK, &s, nullptr);
  raise(SIGUSR1);
  EXPECT_EQ(sigsuspend(&none), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(g_count, 1);
  sigset_t after;
  sigprocmask(SIG_BLOCK, nullptr, &after);
  EXPECT(sigismember(&after, SIGUSR1));
}

CASE(sigtimedwait_takes_signals) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  sigprocmask(SIG_BLOCK, &s, nullptr);
  timespec t{0, 5000000};
  siginfo_t si;
  EXPECT_EQ(sigtimedwait(&s, &si, &t), -1);
  EXPECT_EQ(errno, EAGAIN);
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    usleep(3000);
    kill(parent, SIGUSR1);
    _exit(0);
  }
  EXPECT_EQ(sigwaitinfo(&s, &si), SIGUSR1);
  EXPECT_EQ(si.si_pid, pid);
  waitpid(pid, nullptr, 0);
}

CASE(sigchld_tells_about_the_child) {
  install_info(SIGCHLD);
  pid_t pid = fork();
  if (pid == 0) _exit(17);
  while (g_count == 0) usleep(1000);
  EXPECT_EQ(g_info.si_pid, pid);
  EXPECT_EQ(g_info.si_code, CLD_EXITED);
  EXPECT_EQ(g_info.si_status, 17);
  waitpid(pid, nullptr, 0);
}

CASE(posix_timers) {
  install_info(SIGRTMIN);
  sigevent ev{};
  ev.sigev_notify = SIGEV_SIGNAL;
  ev.sigev_signo = SIGRTMIN;
  ev.sigev_value.sival_int = 77;
  timer_t t;
  EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &ev, &t), 0);
  itimerspec its{{0, 2000000}, {0, 2000000}};
  EXPECT_EQ(timer_settime(t, 0, &its, nullptr), 0);
  while (g_count < 5) usleep(1000);
  EXPECT(g_count >= 5);
  EXPECT_EQ(g_info.si_value.sival_int, 77);
  EXPECT_EQ(g_info.si_code, SI_TIMER);
  EXPECT_EQ(timer_delete(t), 0);
  EXPECT_EQ(timer_delete(t), -1);
  EXPECT_EQ(errno, EINVAL);
}

CASE(alarm_rounds) {
  EXPECT_EQ(alarm(100), 0);
  EXPECT_EQ(alarm(0), 100);
  itimerval it;
  EXPECT_EQ(getitimer(ITIMER_REAL, &it), 0);
  EXPECT_EQ(it.it_value.tv_sec + it.it_value.tv_usec, 0);
}

CASE(profiling_timer_counts_cpu_time) {
  install(SIGPROF, count);
  itimerval it{{0, 10000}, {0, 10000}};
  EXPECT_EQ(setitimer(ITIMER_PROF, &it, nullptr), 0);
  while (g_count < 3) {}
}

CASE(actions_that_are_refused) {
  struct sigaction sa{};
  sa.sa_handler = count;
  EXPECT_EQ(sigaction(SIGKILL, &sa, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(kill(getpid(), 65), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(kill(999999, 0), -1);
  EXPECT_EQ(errno, ESRCH);
  EXPECT_EQ(syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, nullptr, 4), -1);
  EXPECT_EQ(errno, EINVAL);
  sigset_t* bad = reinterpret_cast<sigset_t*>(8);
  EXPECT_EQ(syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, nullptr, 8), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, bad, 8), -1);
  EXPECT_EQ(errno, EFAULT);
}
