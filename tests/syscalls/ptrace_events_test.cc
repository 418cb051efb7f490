// SPDX-License-Identifier: Apache-2.0
// ptrace: events of a tracee's life, attaching, its signals. Passes on Linux first, then in the sandbox.
#include "tests/syscalls/ptrace.h"

namespace {

// ---- Events ----

TEST(PtraceEvents, Fork) {
  Tracee t([] {
    pid_t p = fork();
    if (p == 0) _exit(5);
    int s;
    waitpid(p, &s, 0);
    return WEXITSTATUS(s);
  });
  t.options(PTRACE_O_TRACEFORK);
  EXPECT_STOP(t.go_on(), SIGTRAP | PTRACE_EVENT_FORK << 8);
  EXPECT_EQ(info_of(t.pid).si_code, SIGTRAP | PTRACE_EVENT_FORK << 8);
  auto c = static_cast<pid_t>(message_of(t.pid));
  EXPECT_GT(c, 0);
  EXPECT_STOP(stop_of(c), SIGSTOP);
  EXPECT_EQ(trace(PTRACE_CONT, t.pid), 0);
  EXPECT_EQ(trace(PTRACE_CONT, c), 0);
  int s = stop_of(c);
  EXPECT_TRUE(WIFEXITED(s)) << std::hex << s;
  EXPECT_EQ(WEXITSTATUS(s), 5);
  EXPECT_STOP(stop_of(t.pid), SIGCHLD);
  t.ends_with(5);
}

TEST(PtraceEvents, VforkAndDone) {
  Tracee t([] {
    pid_t p = vfork();
    if (p == 0) _exit(6);
    int s;
    waitpid(p, &s, 0);
    return WEXITSTATUS(s);
  });
  t.options(PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE);
  EXPECT_STOP(t.go_on(), SIGTRAP | PTRACE_EVENT_VFORK << 8);
  auto c = static_cast<pid_t>(message_of(t.pid));
  EXPECT_STOP(stop_of(c), SIGSTOP);
  EXPECT_EQ(trace(PTRACE_DETACH, c), 0);
  int s = t.go_on();
  while (WIFSTOPPED(s) && s >> 8 == SIGCHLD) s = t.go_on(PTRACE_CONT, SIGCHLD);
  EXPECT_STOP(s, SIGTRAP | PTRACE_EVENT_VFORK_DONE << 8);
  EXPECT_EQ(static_cast<pid_t>(message_of(t.pid)), c);
  EXPECT_EQ(trace(PTRACE_CONT, t.pid), 0);
  for (;;) {
    s = stop_of(t.pid);
    if (!WIFSTOPPED(s)) break;
    EXPECT_EQ(trace(PTRACE_CONT, t.pid), 0);
  }
  EXPECT_EQ(WEXITSTATUS(s), 6);
  t.pid = -1;
}

TEST(PtraceEvents, CloneOfAThreadAndItsEnd) {
  Tracee t([] {
    std::thread x([] { sleep_ms(20); });
    x.join();
    return 4;
  });
  t.options(PTRACE_O_TRACECLONE);
  EXPECT_STOP(t.go_on(), SIGTRAP | PTRACE_EVENT_CLONE << 8);
  auto c = static_cast<pid_t>(message_of(t.pid));
  EXPECT_STOP(stop_of(c), SIGSTOP);
  EXPECT_NE(regs_of(c).rsp, regs_of(t.pid).rsp);
  EXPECT_EQ(trace(PTRACE_CONT, c), 0);
  EXPECT_EQ(trace(PTRACE_CONT, t.pid), 0);
  int s = stop_of(c);
  EXPECT_TRUE(WIFEXITED(s)) << std::hex << s;
  s = stop_of(t.pid);
  EXPECT_TRUE(WIFEXITED(s)) << std::hex << s;
  EXPECT_EQ(WEXITSTATUS(s), 4);
  t.pid = -1;
}

TEST(PtraceEvents, Exec) {
  std::string self(4096, '\0');
  self.resize(static_cast<size_t>(std::max<ssize_t>(0, readlink("/proc/self/exe", self.data(), self.size()))));
  if (self.empty()) self = "/guest";
  if (access(self.c_str(), X_OK) != 0) GTEST_SKIP() << "no program to run: " << self;
  auto run = [&] {
    execl(self.c_str(), self.c_str(), "--exit", "12", nullptr);
    return 1;
  };
  {
    Tracee t(run);
    EXPECT_STOP(t.go_on(), SIGTRAP);  // after the exec, as nothing else was asked for
    t.ends_with(12);
  }
  {
    Tracee t(run);
    t.options(PTRACE_O_TRACEEXEC);
    EXPECT_STOP(t.go_on(), SIGTRAP | PTRACE_EVENT_EXEC << 8);
    EXPECT_EQ(static_cast<pid_t>(message_of(t.pid)), t.pid);
    t.ends_with(12);
  }
}

TEST(PtraceEvents, Exit) {
  Tracee t([] { return 3; });
  t.options(PTRACE_O_TRACEEXIT);
  EXPECT_STOP(t.go_on(), SIGTRAP | PTRACE_EVENT_EXIT << 8);
  EXPECT_EQ(message_of(t.pid), 3u << 8);
  EXPECT_GT(regs_of(t.pid).rip, 0u);
  t.ends_with(3);
}

TEST(PtraceEvents, UnknownOptionsAreRefused) {
  Tracee t([] { return 0; });
  EXPECT_ERRNO(trace(PTRACE_SETOPTIONS, t.pid, 0, 1 << 12), EINVAL);
  t.ends_with(0);
}

// ---- Attaching ----

struct Sleeper {
  pid_t pid;
  Sleeper() {
    pid = fork();
    if (pid == 0) {
      for (;;) pause();
    }
    sleep_ms(10);
  }
  ~Sleeper() {
    kill(pid, SIGKILL);
    int s;
    while (waitpid(pid, &s, __WALL) == pid && WIFSTOPPED(s)) {}
  }
};

TEST(PtraceAttach, StopsDetachesGoesOn) {
  Sleeper p;
  EXPECT_EQ(trace(PTRACE_ATTACH, p.pid), 0) << strerror(errno);
  EXPECT_STOP(stop_of(p.pid), SIGSTOP);
  EXPECT_ERRNO(trace(PTRACE_ATTACH, p.pid), EPERM);
  if (std::string pid = status_line(p.pid, "TracerPid:"); pid != "no proc") {
    EXPECT_EQ(pid, std::to_string(getpid()));
    EXPECT_EQ(status_line(p.pid, "State:"), "t (tracing stop)");
  }
  EXPECT_EQ(static_cast<long>(regs_of(p.pid).orig_rax), SYS_pause);
  EXPECT_EQ(trace(PTRACE_DETACH, p.pid), 0);
  EXPECT_TRUE(status_line(p.pid, "TracerPid:") == "0" || access("/proc/self", F_OK) != 0);
  sleep_ms(10);
  int s;
  EXPECT_EQ(waitpid(p.pid, &s, WNOHANG | WUNTRACED), 0);
  EXPECT_ERRNO(trace(PTRACE_CONT, p.pid), ESRCH);
}

TEST(PtraceAttach, DetachWithASignal) {
  Sleeper p;
  EXPECT_EQ(trace(PTRACE_ATTACH, p.pid), 0);
  EXPECT_STOP(stop_of(p.pid), SIGSTOP);
  EXPECT_EQ(trace(PTRACE_DETACH, p.pid, 0, SIGTERM), 0);
  int s = stop_of(p.pid);
  EXPECT_TRUE(WIFSIGNALED(s)) << std::hex << s;
  EXPECT_EQ(WTERMSIG(s), SIGTERM);
}

TEST(PtraceAttach, SeizeAndInterrupt) {
  Sleeper p;
  EXPECT_ERRNO(trace(PTRACE_SEIZE, p.pid, 1, 0), EIO);
  EXPECT_EQ(trace(PTRACE_SEIZE, p.pid, 0, PTRACE_O_TRACESYSGOOD), 0) << strerror(errno);
  int s;
  EXPECT_EQ(waitpid(p.pid, &s, WNOHANG | __WALL), 0);
  EXPECT_EQ(trace(PTRACE_INTERRUPT, p.pid), 0);
  EXPECT_STOP(stop_of(p.pid), SIGTRAP | kEventStop << 8);
  EXPECT_EQ(trace(PTRACE_SYSCALL, p.pid), 0);
  EXPECT_STOP(stop_of(p.pid), SIGTRAP | 0x80);
  EXPECT_EQ(trace(PTRACE_DETACH, p.pid), 0);
  Sleeper q;
  EXPECT_EQ(trace(PTRACE_ATTACH, q.pid), 0);
  EXPECT_STOP(stop_of(q.pid), SIGSTOP);
  EXPECT_ERRNO(trace(PTRACE_INTERRUPT, q.pid), EIO);
  EXPECT_ERRNO(trace(PTRACE_LISTEN, q.pid), EIO);
}

TEST(PtraceAttach, GroupStopOfASeizedProcess) {
  Sleeper p;
  ASSERT_EQ(trace(PTRACE_SEIZE, p.pid, 0, 0), 0);
  EXPECT_EQ(kill(p.pid, SIGSTOP), 0);
  EXPECT_STOP(stop_of(p.pid), SIGSTOP);  // the signal
  EXPECT_EQ(trace(PTRACE_CONT, p.pid, 0, SIGSTOP), 0);
  EXPECT_STOP(stop_of(p.pid), SIGSTOP | kEventStop << 8);  // the stop
  EXPECT_EQ(trace(PTRACE_LISTEN, p.pid), 0);
  user_regs_struct r;
  EXPECT_ERRNO(trace(PTRACE_GETREGS, p.pid, 0, reinterpret_cast<unsigned long>(&r)), ESRCH);
  EXPECT_EQ(kill(p.pid, SIGCONT), 0);
  EXPECT_STOP(stop_of(p.pid), SIGTRAP | kEventStop << 8);
  EXPECT_EQ(trace(PTRACE_CONT, p.pid), 0);
  EXPECT_STOP(stop_of(p.pid), SIGCONT);
  EXPECT_EQ(trace(PTRACE_DETACH, p.pid), 0);
}

TEST(PtraceAttach, GroupStopOfAnAttachedProcess) {
  Sleeper p;
  ASSERT_EQ(trace(PTRACE_ATTACH, p.pid), 0);
  EXPECT_STOP(stop_of(p.pid), SIGSTOP);
  EXPECT_EQ(trace(PTRACE_CONT, p.pid, 0, SIGSTOP), 0);
  EXPECT_STOP(stop_of(p.pid), SIGSTOP);
  siginfo_t i;
  EXPECT_ERRNO(trace(PTRACE_GETSIGINFO, p.pid, 0, reinterpret_cast<unsigned long>(&i)), EINVAL);
  EXPECT_EQ(trace(PTRACE_CONT, p.pid), 0);  // it runs in spite of the stop
  sleep_ms(10);
  EXPECT_EQ(kill(p.pid, SIGUSR1), 0);
  EXPECT_STOP(stop_of(p.pid), SIGUSR1);
  EXPECT_EQ(trace(PTRACE_DETACH, p.pid), 0);
  EXPECT_EQ(kill(p.pid, SIGCONT), 0);
}

TEST(PtraceAttach, AStoppedProcess) {
  Sleeper p;
  kill(p.pid, SIGSTOP);
  int s;
  EXPECT_EQ(waitpid(p.pid, &s, WUNTRACED), p.pid);
  ASSERT_EQ(trace(PTRACE_ATTACH, p.pid), 0);
  EXPECT_STOP(stop_of(p.pid), SIGSTOP);
  EXPECT_GT(regs_of(p.pid).rip, 0u);
  EXPECT_EQ(trace(PTRACE_DETACH, p.pid), 0);
}

TEST(PtraceAttach, NotAChild) {
  // A grandchild: its end is told to the tracer and to its parent.
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  pid_t middle = child([&] {
    pid_t p = fork();
    if (p == 0) {
      for (;;) pause();
    }
    EXPECT_EQ(write(fds[1], &p, sizeof p), static_cast<ssize_t>(sizeof p));
    int s = -1;
    EXPECT_EQ(waitpid(p, &s, 0), p);
    EXPECT_TRUE(WIFSIGNALED(s));
  });
  pid_t p = 0;
  ASSERT_EQ(read(fds[0], &p, sizeof p), static_cast<ssize_t>(sizeof p));
  EXPECT_EQ(trace(PTRACE_ATTACH, p), 0) << strerror(errno);
  EXPECT_STOP(stop_of(p), SIGSTOP);
  EXPECT_EQ(trace(PTRACE_CONT, p), 0);
  EXPECT_EQ(kill(p, SIGTERM), 0);
  EXPECT_STOP(stop_of(p), SIGTERM);
  EXPECT_EQ(trace(PTRACE_CONT, p, 0, SIGTERM), 0);
  int s = stop_of(p);
  EXPECT_TRUE(WIFSIGNALED(s));
  EXPECT_EQ(status_of(middle), 0);
  EXPECT_ERRNO(waitpid(p, &s, __WALL), ECHILD);
  close(fds[0]);
  close(fds[1]);
}

// It is continued before its tracer says that it listens: the tracer hears of that all the same.
TEST(PtraceAttach, ListensForWhatHasCome) {
  pid_t p = child([] {
    raise(SIGSTOP);
    _exit(3);
  });
  int s;
  ASSERT_EQ(waitpid(p, &s, WUNTRACED), p);
  ASSERT_EQ(trace(PTRACE_SEIZE, p), 0);
  EXPECT_STOP(stop_of(p), SIGSTOP | kEventStop << 8);
  EXPECT_EQ(kill(p, SIGCONT), 0);
  EXPECT_EQ(trace(PTRACE_LISTEN, p), 0);
  int got = 0;
  for (int i = 0; i < 3000 && (got = waitpid(p, &s, __WALL | WNOHANG)) == 0; i++) sleep_ms(10);
  EXPECT_EQ(got, p) << "no word for 30 seconds";
  if (got == p) EXPECT_STOP(s, SIGTRAP | kEventStop << 8);
  else kill(p, SIGKILL);
  EXPECT_EQ(trace(PTRACE_CONT, p), got == p ? 0 : -1);
  for (s = stop_of(p); WIFSTOPPED(s); s = stop_of(p)) trace(PTRACE_CONT, p, 0, 0);
  EXPECT_EQ(s, 3 << 8);
}

TEST(PtraceAttach, EndOfTheTracer) {
  Sleeper p, q;
  EXPECT_EQ(in_child([&] {
    // Siblings: a plain user needs no more than the same ids.
    EXPECT_EQ(trace(PTRACE_ATTACH, p.pid), 0) << strerror(errno);
    EXPECT_STOP(stop_of(p.pid), SIGSTOP);
    EXPECT_EQ(trace(PTRACE_SEIZE, q.pid, 0, PTRACE_O_EXITKILL), 0);
  }), 0);
  int s = stop_of(q.pid);
  EXPECT_TRUE(WIFSIGNALED(s)) << std::hex << s;
  sleep_ms(20);
  EXPECT_EQ(kill(p.pid, 0), 0);
  EXPECT_EQ(trace(PTRACE_ATTACH, p.pid), 0);  // free again
  EXPECT_STOP(stop_of(p.pid), SIGSTOP);
}

TEST(PtraceAttach, RightsAreChecked) {
  if (geteuid() != 0) GTEST_SKIP();
  Sleeper p;
  EXPECT_EQ(in_child([&] {
    ASSERT_EQ(setresgid(1234, 1234, 1234), 0);
    ASSERT_EQ(setresuid(1234, 1234, 1234), 0);
    EXPECT_ERRNO(trace(PTRACE_ATTACH, p.pid), EPERM);
    EXPECT_ERRNO(trace(PTRACE_SEIZE, p.pid, 0, 0), EPERM);
  }), 0);
}

TEST(PtraceAttach, AThreadOfAnotherProcess) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  pid_t p = child([&] {
    std::thread x([&] {
      pid_t tid = static_cast<pid_t>(syscall(SYS_gettid));
      (void)!write(fds[1], &tid, sizeof tid);
      for (;;) pause();
    });
    x.join();
  });
  pid_t tid = 0;
  ASSERT_EQ(read(fds[0], &tid, sizeof tid), static_cast<ssize_t>(sizeof tid));
  EXPECT_NE(tid, p);
  EXPECT_EQ(trace(PTRACE_ATTACH, tid), 0) << strerror(errno);
  EXPECT_STOP(stop_of(tid), SIGSTOP);
  EXPECT_EQ(trace(PTRACE_CONT, tid), 0);
  kill(p, SIGKILL);
  int s = stop_of(tid);
  EXPECT_TRUE(WIFSIGNALED(s)) << std::hex << s;
  s = status_of(p);
  EXPECT_TRUE(WIFSIGNALED(s));
  close(fds[0]);
  close(fds[1]);
}

TEST(PtraceSignals, MasksAndQueues) {
  Tracee t([] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    raise(SIGUSR1);
    asm volatile("int3");
    sigset_t now;
    sigprocmask(SIG_BLOCK, nullptr, &now);
    return sigismember(&now, SIGUSR2) ? 1 : 2;
  });
  EXPECT_STOP(t.go_on(), SIGTRAP);
  unsigned long mask = 0;
  EXPECT_EQ(trace(0x420a, t.pid, 8, reinterpret_cast<unsigned long>(&mask)), 0) << strerror(errno);
  EXPECT_EQ(mask, 1ul << (SIGUSR1 - 1));
  struct {
    uint64_t off;
    uint32_t flags;
    int32_t nr;
  } args{0, 0, 4};
  siginfo_t infos[4];
  EXPECT_EQ(trace(0x4209, t.pid, reinterpret_cast<unsigned long>(&args), reinterpret_cast<unsigned long>(infos)), 1);
  EXPECT_EQ(infos[0].si_signo, SIGUSR1);
  mask |= 1ul << (SIGUSR2 - 1);
  EXPECT_EQ(trace(0x420b, t.pid, 8, reinterpret_cast<unsigned long>(&mask)), 0);
  EXPECT_ERRNO(trace(0x420b, t.pid, 4, reinterpret_cast<unsigned long>(&mask)), EINVAL);
  t.ends_with(1);
}

TEST(PtraceSignals, FaultsStop) {
  Tracee t([] {
    volatile uintptr_t bad = 16;
    *reinterpret_cast<volatile int*>(bad) = 1;
    return 0;
  });
  EXPECT_STOP(t.go_on(), SIGSEGV);
  siginfo_t i = info_of(t.pid);
  EXPECT_EQ(i.si_addr, reinterpret_cast<void*>(16));
  EXPECT_EQ(trace(PTRACE_CONT, t.pid, 0, SIGSEGV), 0);
  int s = stop_of(t.pid);
  EXPECT_TRUE(WIFSIGNALED(s));
  EXPECT_EQ(WTERMSIG(s), SIGSEGV);
  t.pid = -1;
}

}  // namespace
