// SPDX-License-Identifier: Apache-2.0
// ptrace: stops, looking into a tracee and changing it, steps and calls. Passes on Linux first, then in the sandbox.
#include "tests/syscalls/ptrace.h"

namespace {

TEST(Ptrace, TracemeStopsAndGoesOn) {
  Tracee t([] { return 7; });
  siginfo_t i = info_of(t.pid);
  EXPECT_EQ(i.si_signo, SIGSTOP);
  EXPECT_EQ(i.si_code, SI_TKILL);
  t.ends_with(7);
}

TEST(Ptrace, SecondTracemeIsRefused) {
  Tracee t([] { return trace(PTRACE_TRACEME, 0) == -1 && errno == EPERM ? 1 : 2; });
  t.ends_with(1);
}

TEST(Ptrace, RequestsNeedAStoppedTracee) {
  user_regs_struct r;
  EXPECT_ERRNO(trace(PTRACE_GETREGS, getpid(), 0, reinterpret_cast<unsigned long>(&r)), ESRCH);
  EXPECT_ERRNO(trace(PTRACE_CONT, 999999), ESRCH);
  EXPECT_ERRNO(trace(PTRACE_ATTACH, getpid()), EPERM);
  pid_t p = child([] { pause(); });
  EXPECT_ERRNO(trace(PTRACE_CONT, p), ESRCH);
  kill(p, SIGKILL);
  status_of(p);
  Tracee t([] {
    sleep_ms(200);
    return 0;
  });
  EXPECT_EQ(trace(PTRACE_CONT, t.pid), 0);
  EXPECT_ERRNO(trace(PTRACE_GETREGS, t.pid, 0, reinterpret_cast<unsigned long>(&r)), ESRCH);
  EXPECT_ERRNO(trace(PTRACE_CONT, t.pid), ESRCH);
}

TEST(Ptrace, SignalsStopFirst) {
  static volatile int seen;
  Tracee t([] {
    signal(SIGUSR1, [](int) { seen = seen + 1; });
    signal(SIGUSR2, [](int) { seen = seen + 10; });
    raise(SIGUSR1);  // passed on
    raise(SIGUSR1);  // kept
    raise(SIGUSR1);  // becomes SIGUSR2
    signal(SIGHUP, SIG_IGN);
    raise(SIGHUP);   // told although it is ignored
    return static_cast<int>(seen);
  });
  EXPECT_STOP(t.go_on(), SIGUSR1);
  EXPECT_STOP(t.go_on(PTRACE_CONT, SIGUSR1), SIGUSR1);
  EXPECT_STOP(t.go_on(PTRACE_CONT, 0), SIGUSR1);
  EXPECT_STOP(t.go_on(PTRACE_CONT, SIGUSR2), SIGHUP);
  t.ends_with(11);
}

TEST(Ptrace, TracersSignalNumberIsChecked) {
  Tracee t([] { return 0; });
  EXPECT_ERRNO(trace(PTRACE_CONT, t.pid, 0, 65), EIO);
  t.ends_with(0);
}

TEST(Ptrace, SiginfoCanBeChanged) {
  static volatile int value;
  Tracee t([] {
    struct sigaction a{};
    a.sa_sigaction = [](int, siginfo_t* i, void*) { value = i->si_value.sival_int; };
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, nullptr);
    sigqueue(getpid(), SIGUSR1, sigval{.sival_int = 3});
    return static_cast<int>(value);
  });
  EXPECT_STOP(t.go_on(), SIGUSR1);
  siginfo_t i = info_of(t.pid);
  EXPECT_EQ(i.si_code, SI_QUEUE);
  EXPECT_EQ(i.si_value.sival_int, 3);
  i.si_value.sival_int = 44;
  EXPECT_EQ(trace(PTRACE_SETSIGINFO, t.pid, 0, reinterpret_cast<unsigned long>(&i)), 0);
  EXPECT_EQ(trace(PTRACE_CONT, t.pid, 0, SIGUSR1), 0);
  int s = stop_of(t.pid);
  EXPECT_TRUE(WIFEXITED(s));
  EXPECT_EQ(WEXITSTATUS(s), 44);
  t.pid = -1;
}

TEST(Ptrace, KillEndsAStoppedTracee) {
  Tracee t([] { return 0; });
  EXPECT_EQ(kill(t.pid, SIGKILL), 0);
  int s = stop_of(t.pid);
  EXPECT_TRUE(WIFSIGNALED(s));
  EXPECT_EQ(WTERMSIG(s), SIGKILL);
  t.pid = -1;
  Tracee u([] { return 0; });
  EXPECT_EQ(trace(PTRACE_KILL, u.pid), 0);
  s = stop_of(u.pid);
  EXPECT_TRUE(WIFSIGNALED(s));
  u.pid = -1;
}

TEST(Ptrace, TracerHearsBySigchldAndWaitid) {
  Tracee t([] {
    raise(SIGUSR1);
    return 0;
  });
  static volatile int code, status;
  struct sigaction a{}, old{};
  a.sa_sigaction = [](int, siginfo_t* i, void*) {
    code = i->si_code;
    status = i->si_status;
  };
  a.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGCHLD, &a, &old);
  EXPECT_EQ(trace(PTRACE_CONT, t.pid), 0);
  siginfo_t i{};
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(t.pid), &i, WSTOPPED | WNOWAIT), 0);
  EXPECT_EQ(i.si_code, CLD_TRAPPED);
  EXPECT_EQ(i.si_status, SIGUSR1);
  EXPECT_EQ(i.si_pid, t.pid);
  EXPECT_STOP(stop_of(t.pid), SIGUSR1);
  int s;
  EXPECT_EQ(waitpid(t.pid, &s, WNOHANG), 0);  // told once
  EXPECT_EQ(code, CLD_TRAPPED);
  EXPECT_EQ(status, SIGUSR1);
  sigaction(SIGCHLD, &old, nullptr);
  t.ends_with(0);
}

// ---- Memory and registers ----

volatile long word = 0x1122334455667788;
extern "C" __attribute__((noinline)) long constant_five() {
  long v;
  asm volatile("mov $5, %0" : "=r"(v));
  return v;
}

TEST(PtraceMemory, PeekAndPoke) {
  Tracee t([] { return word == 0x42 ? 1 : 2; });
  long v = 0;
  EXPECT_EQ(trace(PTRACE_PEEKDATA, t.pid, reinterpret_cast<unsigned long>(&word), reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_EQ(v, 0x1122334455667788);
  EXPECT_EQ(trace(PTRACE_POKEDATA, t.pid, reinterpret_cast<unsigned long>(&word), 0x42), 0);
  EXPECT_EQ(trace(PTRACE_PEEKTEXT, t.pid, reinterpret_cast<unsigned long>(&word), reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_EQ(v, 0x42);
  EXPECT_EQ(word, 0x1122334455667788);  // the tracer's own
  EXPECT_ERRNO(trace(PTRACE_PEEKDATA, t.pid, 8, reinterpret_cast<unsigned long>(&v)), EIO);
  EXPECT_ERRNO(trace(PTRACE_POKEDATA, t.pid, 8, 1), EIO);
  t.ends_with(1);
}

TEST(PtraceMemory, BreakpointInText) {
  auto at = reinterpret_cast<unsigned long>(&constant_five);
  Tracee t([] { return static_cast<int>(constant_five()); });
  unsigned long text = 0;
  ASSERT_EQ(trace(PTRACE_PEEKTEXT, t.pid, at, reinterpret_cast<unsigned long>(&text)), 0);
  ASSERT_EQ(trace(PTRACE_POKETEXT, t.pid, at, (text & ~0xfful) | 0xcc), 0) << strerror(errno);
  EXPECT_STOP(t.go_on(), SIGTRAP);
  EXPECT_EQ(info_of(t.pid).si_code, SI_KERNEL);
  user_regs_struct r = regs_of(t.pid);
  EXPECT_EQ(r.rip, at + 1);
  EXPECT_EQ(trace(PTRACE_POKETEXT, t.pid, at, text), 0);
  r.rip = at;
  EXPECT_EQ(trace(PTRACE_SETREGS, t.pid, 0, reinterpret_cast<unsigned long>(&r)), 0);
  t.ends_with(5);
  EXPECT_EQ(constant_five(), 5);
}

TEST(PtraceMemory, ProcMemWritesText) {
  Tracee t([] { return static_cast<int>(constant_five()); });
  int fd = open(("/proc/" + std::to_string(t.pid) + "/mem").c_str(), O_RDWR);
  if (fd < 0) GTEST_SKIP() << "no proc";
  auto at = static_cast<off_t>(reinterpret_cast<unsigned long>(&constant_five));
  unsigned char old = 0, trap = 0xcc;
  EXPECT_EQ(pread(fd, &old, 1, at), 1);
  EXPECT_EQ(pwrite(fd, &trap, 1, at), 1) << strerror(errno);
  EXPECT_STOP(t.go_on(), SIGTRAP);
  EXPECT_EQ(pwrite(fd, &old, 1, at), 1);
  user_regs_struct r = regs_of(t.pid);
  r.rip--;
  EXPECT_EQ(trace(PTRACE_SETREGS, t.pid, 0, reinterpret_cast<unsigned long>(&r)), 0);
  close(fd);
  t.ends_with(5);
}

TEST(PtraceMemory, PeekUser) {
  Tracee t([] { return 0; });
  user_regs_struct r = regs_of(t.pid);
  unsigned long v = 0;
  EXPECT_EQ(trace(PTRACE_PEEKUSER, t.pid, offsetof(struct user, regs.rip), reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_EQ(v, r.rip);
  EXPECT_EQ(trace(PTRACE_PEEKUSER, t.pid, offsetof(struct user, regs.fs_base), reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_EQ(v, r.fs_base);
  EXPECT_EQ(trace(PTRACE_PEEKUSER, t.pid, offsetof(struct user, u_debugreg[7]), reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_ERRNO(trace(PTRACE_PEEKUSER, t.pid, 3, reinterpret_cast<unsigned long>(&v)), EIO);
  EXPECT_ERRNO(trace(PTRACE_PEEKUSER, t.pid, 4096, reinterpret_cast<unsigned long>(&v)), EIO);
  EXPECT_EQ(r.cs, 0x33u);
  EXPECT_EQ(r.ss, 0x2bu);
  EXPECT_EQ(trace(PTRACE_POKEUSER, t.pid, offsetof(struct user, regs.r15), 0x1515), 0);
  EXPECT_EQ(regs_of(t.pid).r15, 0x1515u);
  t.ends_with(0);
}

TEST(PtraceMemory, RegisterSets) {
  Tracee t([] { return 0; });
  user_regs_struct r{}, plain = regs_of(t.pid);
  iovec v{&r, sizeof r};
  EXPECT_EQ(trace(PTRACE_GETREGSET, t.pid, NT_PRSTATUS, reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_EQ(v.iov_len, sizeof r);
  EXPECT_EQ(memcmp(&r, &plain, sizeof r), 0);
  v = {&r, 16};
  EXPECT_EQ(trace(PTRACE_GETREGSET, t.pid, NT_PRSTATUS, reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_EQ(v.iov_len, 16u);
  v = {&r, 15};
  EXPECT_ERRNO(trace(PTRACE_GETREGSET, t.pid, NT_PRSTATUS, reinterpret_cast<unsigned long>(&v)), EINVAL);
  v = {&r, sizeof r};
  EXPECT_ERRNO(trace(PTRACE_GETREGSET, t.pid, 0x9999, reinterpret_cast<unsigned long>(&v)), EINVAL);
  v = {&r, sizeof r};
  r.r14 = 77;
  EXPECT_EQ(trace(PTRACE_SETREGSET, t.pid, NT_PRSTATUS, reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_EQ(regs_of(t.pid).r14, 77u);
  static unsigned char area[16384];
  v = {area, sizeof area};
  EXPECT_EQ(trace(PTRACE_GETREGSET, t.pid, NT_X86_XSTATE, reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_GE(v.iov_len, 576u);
  unsigned long features = 0;
  memcpy(&features, area + 464, 8);
  EXPECT_EQ(features & 3, 3u);
  EXPECT_EQ(trace(PTRACE_SETREGSET, t.pid, NT_X86_XSTATE, reinterpret_cast<unsigned long>(&v)), 0) << strerror(errno);
  user_fpregs_struct fp{};
  EXPECT_EQ(trace(PTRACE_GETFPREGS, t.pid, 0, reinterpret_cast<unsigned long>(&fp)), 0);
  EXPECT_EQ(memcmp(&fp, area, 416), 0);
  v = {&fp, sizeof fp};
  EXPECT_EQ(trace(PTRACE_GETREGSET, t.pid, NT_FPREGSET, reinterpret_cast<unsigned long>(&v)), 0);
  EXPECT_EQ(v.iov_len, sizeof fp);
  t.ends_with(0);
}

TEST(PtraceMemory, VectorRegisters) {
  Tracee t([] {
    unsigned long out;
    asm volatile(
        "movq %1, %%xmm5\n\t"
        "int3\n\t"
        "movq %%xmm5, %0"
        : "=r"(out)
        : "r"(0x1234567890abcdeful)
        : "xmm5");
    return out == 0x55 ? 3 : 4;
  });
  EXPECT_STOP(t.go_on(), SIGTRAP);
  user_fpregs_struct fp{};
  EXPECT_EQ(trace(PTRACE_GETFPREGS, t.pid, 0, reinterpret_cast<unsigned long>(&fp)), 0);
  unsigned long low = 0;
  memcpy(&low, &fp.xmm_space[5 * 4], 8);
  EXPECT_EQ(low, 0x1234567890abcdeful);
  low = 0x55;
  memcpy(&fp.xmm_space[5 * 4], &low, 8);
  EXPECT_EQ(trace(PTRACE_SETFPREGS, t.pid, 0, reinterpret_cast<unsigned long>(&fp)), 0);
  t.ends_with(3);
}

TEST(PtraceMemory, CallInTheTracee) {
  Tracee t([] {
    asm volatile("int3");
    return 9;
  });
  EXPECT_STOP(t.go_on(), SIGTRAP);
  const user_regs_struct before = regs_of(t.pid);
  user_regs_struct r = before;
  r.rsp = ((r.rsp - 1024) & ~0xful) - 8;
  EXPECT_EQ(trace(PTRACE_POKEDATA, t.pid, r.rsp, 0), 0);  // returns to address 0
  r.rip = reinterpret_cast<unsigned long>(&constant_five);
  r.orig_rax = ~0ul;
  EXPECT_EQ(trace(PTRACE_SETREGS, t.pid, 0, reinterpret_cast<unsigned long>(&r)), 0);
  EXPECT_STOP(t.go_on(), SIGSEGV);
  EXPECT_EQ(regs_of(t.pid).rip, 0u);
  EXPECT_EQ(regs_of(t.pid).rax, 5u);
  EXPECT_EQ(trace(PTRACE_SETREGS, t.pid, 0, reinterpret_cast<unsigned long>(&before)), 0);
  t.ends_with(9);
}

TEST(PtraceMemory, ProcessVm) {
  static char text[] = "tracee's words";
  Tracee t([] { return strcmp(text, "tracer's words"); });
  char buf[32] = {};
  iovec mine{buf, sizeof text}, theirs{text, sizeof text};
  EXPECT_EQ(process_vm_readv(t.pid, &mine, 1, &theirs, 1, 0), static_cast<ssize_t>(sizeof text));
  EXPECT_STREQ(buf, "tracee's words");
  strcpy(buf, "tracer's words");
  EXPECT_EQ(process_vm_writev(t.pid, &mine, 1, &theirs, 1, 0), static_cast<ssize_t>(sizeof text));
  t.ends_with(0);
}

// ---- Single step ----

TEST(PtraceStep, CountsInstructions) {
  static char start[1], end[1];
  (void)start;
  (void)end;
  Tracee t([] {
    asm volatile(
        "int3\n\t"
        "nop\n\t"
        "nop\n\t"
        "nop\n\t"
        "int3");
    return 0;
  });
  EXPECT_STOP(t.go_on(), SIGTRAP);
  unsigned long rip = regs_of(t.pid).rip;
  for (int i = 0; i < 3; i++) {
    EXPECT_STOP(t.go_on(PTRACE_SINGLESTEP), SIGTRAP);
    EXPECT_EQ(info_of(t.pid).si_code, TRAP_TRACE);
    EXPECT_EQ(regs_of(t.pid).rip, ++rip);
    EXPECT_EQ(regs_of(t.pid).eflags & 0x100, 0u);
  }
  EXPECT_STOP(t.go_on(PTRACE_SINGLESTEP), SIGTRAP);
  EXPECT_EQ(regs_of(t.pid).rip, rip + 1);
  EXPECT_EQ(info_of(t.pid).si_code, SI_KERNEL);
  t.ends_with(0);
}

TEST(PtraceStep, OverACall) {
  Tracee t([] {
    long r;
    asm volatile(
        "int3\n\t"
        "syscall\n\t"
        "nop"
        : "=a"(r)
        : "a"(SYS_getppid)
        : "rcx", "r11", "memory");
    return r == getppid() ? 0 : 1;
  });
  EXPECT_STOP(t.go_on(), SIGTRAP);
  unsigned long rip = regs_of(t.pid).rip;
  EXPECT_STOP(t.go_on(PTRACE_SINGLESTEP), SIGTRAP);
  EXPECT_EQ(regs_of(t.pid).rip, rip + 2);
  EXPECT_EQ(regs_of(t.pid).rax, static_cast<unsigned long>(getpid()));
  EXPECT_STOP(t.go_on(PTRACE_SINGLESTEP), SIGTRAP);
  EXPECT_EQ(regs_of(t.pid).rip, rip + 3);
  t.ends_with(0);
}

TEST(PtraceStep, IntoAHandler) {
  static volatile int ran;
  Tracee t([] {
    signal(SIGUSR1, [](int) { ran = 1; });
    raise(SIGUSR1);
    return static_cast<int>(ran);
  });
  EXPECT_STOP(t.go_on(), SIGUSR1);
  EXPECT_STOP(t.go_on(PTRACE_SINGLESTEP, SIGUSR1), SIGTRAP);
  EXPECT_EQ(regs_of(t.pid).rdi, static_cast<unsigned long>(SIGUSR1));
  t.ends_with(1);
}

TEST(PtraceStep, ThousandSteps) {
  Tracee t([] {
    volatile int sum = 0;
    for (int i = 0; i < 100000; i++) sum = sum + i;
    return 0;
  });
  for (int i = 0; i < 1000; i++) {
    int s = t.go_on(PTRACE_SINGLESTEP);
    ASSERT_TRUE(WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP) << i << " " << std::hex << s;
  }
  t.ends_with(0);
}

// ---- Calls ----

struct CallInfo {
  uint8_t op, pad[3];
  uint32_t arch;
  uint64_t ip, sp, w[8];
};
CallInfo call_info(pid_t p, long* size = nullptr) {
  CallInfo i{};
  long n = trace(0x420e, p, sizeof i, reinterpret_cast<unsigned long>(&i));
  EXPECT_GT(n, 0) << strerror(errno);
  if (size) *size = n;
  return i;
}

TEST(PtraceCalls, EntryAndExit) {
  Tracee t([] {
    syscall(SYS_getpgid, 12345678, 2, 3, 4, 5, 6);
    return 0;
  });
  t.options(PTRACE_O_TRACESYSGOOD);
  EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
  while (regs_of(t.pid).orig_rax != SYS_getpgid) {  // the rest of raise()
    EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
  }
  user_regs_struct r = regs_of(t.pid);
  EXPECT_EQ(static_cast<long>(r.rax), -ENOSYS);
  EXPECT_EQ(r.rdi, 12345678u);
  EXPECT_EQ(r.r9, 6u);
  long size = 0;
  CallInfo i = call_info(t.pid, &size);
  EXPECT_EQ(i.op, 1);  // ENTRY
  EXPECT_EQ(size, 80);
  EXPECT_EQ(i.arch, static_cast<uint32_t>(AUDIT_ARCH_X86_64));
  EXPECT_EQ(i.w[0], static_cast<uint64_t>(SYS_getpgid));
  EXPECT_EQ(i.w[6], 6u);
  EXPECT_EQ(i.ip, r.rip);
  EXPECT_EQ(info_of(t.pid).si_code, SIGTRAP | 0x80);
  EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
  i = call_info(t.pid, &size);
  EXPECT_EQ(i.op, 2);  // EXIT
  EXPECT_EQ(size, 33);
  EXPECT_EQ(static_cast<long>(i.w[0]), -ESRCH);
  EXPECT_EQ(i.w[1] & 0xff, 1u);
  EXPECT_EQ(static_cast<long>(regs_of(t.pid).rax), -ESRCH);
  t.ends_with(0);
}

TEST(PtraceCalls, CanBecomeAnother) {
  Tracee t([] {
    long first = syscall(SYS_getppid);   // becomes getpid
    long second = syscall(SYS_getppid);  // not made
    long third = syscall(SYS_getppid);   // its result changed
    return (first == getpid()) + 2 * (second == -1 && errno == EIO) + 4 * (third == 4711);
  });
  t.options(PTRACE_O_TRACESYSGOOD);
  auto next_entry = [&] {
    do EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
    while (regs_of(t.pid).orig_rax != SYS_getppid);
  };
  auto poke = [&](size_t at, long v) { EXPECT_EQ(trace(PTRACE_POKEUSER, t.pid, at, static_cast<unsigned long>(v)), 0); };
  next_entry();
  poke(offsetof(struct user, regs.orig_rax), SYS_getpid);
  EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
  EXPECT_EQ(regs_of(t.pid).rax, static_cast<unsigned long>(t.pid));
  next_entry();
  poke(offsetof(struct user, regs.orig_rax), -1);
  poke(offsetof(struct user, regs.rax), -EIO);
  EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
  EXPECT_EQ(static_cast<long>(regs_of(t.pid).rax), -EIO);
  next_entry();
  EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
  poke(offsetof(struct user, regs.rax), 4711);
  t.ends_with(7);
}

TEST(PtraceCalls, ArgumentsInMemoryCanBeChanged) {
  static char path[] = "/nonexistent-a";
  Tracee t([] {
    mkdir("/tmp", 0777);
    return access(path, F_OK) == 0 ? 1 : 2;
  });
  t.options(PTRACE_O_TRACESYSGOOD);
  do EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
  while (regs_of(t.pid).orig_rax != SYS_access && regs_of(t.pid).orig_rax != SYS_faccessat);
  unsigned long v = 0;
  memcpy(&v, "/tmp\0\0\0", 8);
  EXPECT_EQ(trace(PTRACE_POKEDATA, t.pid, reinterpret_cast<unsigned long>(path), v), 0);
  t.ends_with(1);
}

TEST(PtraceCalls, Sysemu) {
  Tracee t([] { return syscall(SYS_getppid) == 99 ? 1 : 2; });
  EXPECT_EQ(trace(31 /* PTRACE_SYSEMU */, t.pid), 0);
  for (;;) {
    int s = stop_of(t.pid);
    ASSERT_TRUE(WIFSTOPPED(s));
    EXPECT_STOP(s, SIGTRAP);
    if (regs_of(t.pid).orig_rax == SYS_getppid) break;
    // What raise() still does is made by hand: nothing.
    EXPECT_EQ(trace(PTRACE_POKEUSER, t.pid, offsetof(struct user, regs.rax), 0), 0);
    EXPECT_EQ(trace(31, t.pid), 0);
  }
  EXPECT_EQ(trace(PTRACE_POKEUSER, t.pid, offsetof(struct user, regs.rax), 99), 0);
  t.ends_with(1);
}

TEST(PtraceCalls, InterruptedCallShowsItsRestart) {
  Tracee t([] {
    signal(SIGUSR1, SIG_IGN);
    int fds[2];
    if (pipe(fds) != 0) return 3;
    char c;
    pid_t p = fork();
    if (p == 0) {
      sleep_ms(100);
      kill(getppid(), SIGUSR1);
      sleep_ms(50);
      _exit(static_cast<int>(write(fds[1], "x", 1)) - 1);
    }
    return read(fds[0], &c, 1) == 1 ? 1 : 2;
  });
  t.options(PTRACE_O_TRACESYSGOOD);
  int s;
  do s = t.go_on(PTRACE_SYSCALL);
  while (WIFSTOPPED(s) && regs_of(t.pid).orig_rax != SYS_read);
  s = t.go_on(PTRACE_SYSCALL);
  EXPECT_STOP(s, SIGTRAP | 0x80);
  EXPECT_EQ(static_cast<long>(regs_of(t.pid).rax), -512);
  EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGUSR1);
  EXPECT_EQ(static_cast<long>(regs_of(t.pid).rax), -512);
  EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);  // made again
  EXPECT_EQ(regs_of(t.pid).orig_rax, static_cast<unsigned long>(SYS_read));
  EXPECT_EQ(static_cast<long>(regs_of(t.pid).rax), -ENOSYS);
  EXPECT_STOP(t.go_on(PTRACE_SYSCALL), SIGTRAP | 0x80);
  EXPECT_EQ(regs_of(t.pid).rax, 1u);
  EXPECT_EQ(trace(PTRACE_CONT, t.pid), 0);
  for (;;) {
    s = stop_of(t.pid);
    if (!WIFSTOPPED(s)) break;
    EXPECT_EQ(trace(PTRACE_CONT, t.pid), 0);  // SIGCHLD
  }
  EXPECT_EQ(WEXITSTATUS(s), 1);
  t.pid = -1;
}

TEST(PtraceCalls, SeccompAsks) {
  Tracee t([] {
    sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 0x123),
                       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    sock_fprog p{4, f};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p);
    return syscall(SYS_getppid) == getpid() ? 1 : 2;
  });
  t.options(PTRACE_O_TRACESECCOMP);
  EXPECT_STOP(t.go_on(), SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
  EXPECT_EQ(message_of(t.pid), 0x123u);
  EXPECT_EQ(regs_of(t.pid).orig_rax, static_cast<unsigned long>(SYS_getppid));
  CallInfo i = call_info(t.pid);
  EXPECT_EQ(i.op, 3);
  EXPECT_EQ(i.w[7] & 0xffffffff, 0x123u);
  EXPECT_EQ(trace(PTRACE_POKEUSER, t.pid, offsetof(struct user, regs.orig_rax), SYS_getpid), 0);
  t.ends_with(1);
}

}  // namespace
