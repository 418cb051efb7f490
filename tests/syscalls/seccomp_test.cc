// SPDX-License-Identifier: Apache-2.0
// seccomp(2): modes, every action, TSYNC, inheritance, supervisors. Passes on Linux first, then in the sandbox.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/checks.h"

namespace {

using Program = std::vector<sock_filter>;

// One action for one call, everything else is allowed.
Program on(long nr, uint32_t action) {
  return {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, action),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
}
long install(const Program& p, unsigned flags = 0) {
  sock_fprog f{static_cast<unsigned short>(p.size()), const_cast<sock_filter*>(p.data())};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &f);
}
void no_new_privs() { ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0); }

TEST(Seccomp, ErrnoReplacesTheCall) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_EQ(prctl(PR_GET_SECCOMP), 0);
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ERRNO | E2BIG)), 0);
    EXPECT_ERRNO(syscall(SYS_getppid), E2BIG);
    EXPECT_GT(getpid(), 0);
    EXPECT_EQ(prctl(PR_GET_SECCOMP), 2);
    EXPECT_EQ(install(on(SYS_getpgrp, SECCOMP_RET_ERRNO | 0)), 0);
    EXPECT_EQ(syscall(SYS_getpgrp), 0);
    EXPECT_EQ(install(on(SYS_getsid, SECCOMP_RET_ERRNO | 0xffff)), 0);
    EXPECT_ERRNO(syscall(SYS_getsid, 0), 4095);
  }), 0);
}

TEST(Seccomp, ArgumentsAreSeen) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    Program p{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
              BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup3, 0, 3),
              BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args) + 8),
              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 77, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    EXPECT_EQ(install(p), 0);
    EXPECT_ERRNO(syscall(SYS_dup3, -1, 77, 0), ENOTTY);
    EXPECT_ERRNO(syscall(SYS_dup3, -1, 78, 0), EBADF);
  }), 0);
}

TEST(Seccomp, TheMostDemandingFilterWins) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ERRNO | EPERM)), 0);
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ALLOW)), 0);
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_LOG)), 0);
    EXPECT_ERRNO(syscall(SYS_getppid), EPERM);
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ERRNO | ENOTDIR)), 0);  // the newest of equals
    EXPECT_ERRNO(syscall(SYS_getppid), ENOTDIR);
  }), 0);
}

TEST(Seccomp, Kills) {
  int s = in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_KILL_PROCESS)), 0);
    signal(SIGSYS, SIG_IGN);
    syscall(SYS_getppid);
  });
  EXPECT_TRUE(WIFSIGNALED(s));
  EXPECT_EQ(WTERMSIG(s), SIGSYS);
  s = in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_KILL_THREAD)), 0);
    syscall(SYS_getppid);
  });
  EXPECT_EQ(WTERMSIG(s), SIGSYS);
  s = in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, 0x12340000)), 0);  // unknown: as KILL_PROCESS
    syscall(SYS_getppid);
  });
  EXPECT_EQ(WTERMSIG(s), SIGSYS);
}

TEST(Seccomp, KillsOneThreadOnly) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_KILL_THREAD)), 0);
    std::atomic<bool> beyond{false};
    std::atomic<int> tid{0};
    std::thread t([&] {
      tid = static_cast<int>(syscall(SYS_gettid));
      syscall(SYS_getppid);
      beyond = true;
    });
    while (tid == 0) usleep(1000);
    for (int i = 0; i < 2000 && syscall(SYS_tgkill, getpid(), tid.load(), 0) == 0; i++) usleep(1000);
    EXPECT_EQ(errno, ESRCH);
    EXPECT_FALSE(beyond);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }), 0);
}

std::atomic<int> g_syscall{0}, g_errno{0}, g_code{0};
void on_sigsys(int, siginfo_t* info, void* context) {
  auto* c = static_cast<ucontext_t*>(context);
  g_syscall = info->si_syscall;
  g_errno = info->si_errno;
  g_code = info->si_code;
  EXPECT_EQ(info->si_arch, static_cast<unsigned>(AUDIT_ARCH_X86_64));
  EXPECT_EQ(info->si_call_addr, reinterpret_cast<void*>(c->uc_mcontext.gregs[REG_RIP]));
  EXPECT_EQ(c->uc_mcontext.gregs[REG_RAX], info->si_syscall);
  c->uc_mcontext.gregs[REG_RAX] = 4242;
}

TEST(Seccomp, TrapLetsAHandlerAnswer) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    struct sigaction a{};
    a.sa_sigaction = on_sigsys;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &a, nullptr);
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_TRAP | 7)), 0);
    EXPECT_EQ(syscall(SYS_getppid), 4242);
    EXPECT_EQ(g_syscall, SYS_getppid);
    EXPECT_EQ(g_errno, 7);
    EXPECT_EQ(g_code, 1);
  }), 0);
  int s = in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_TRAP)), 0);
    syscall(SYS_getppid);
  });
  EXPECT_EQ(WTERMSIG(s), SIGSYS);
}

TEST(Seccomp, TraceWithoutATracer) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_TRACE)), 0);
    EXPECT_ERRNO(syscall(SYS_getppid), ENOSYS);
  }), 0);
}

TEST(Seccomp, LogAllows) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_LOG), SECCOMP_FILTER_FLAG_LOG), 0);
    EXPECT_GE(syscall(SYS_getppid), 0);
  }), 0);
}

TEST(Seccomp, IsInherited) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ERRNO | EPERM)), 0);
    EXPECT_EQ(in_child([] { EXPECT_ERRNO(syscall(SYS_getppid), EPERM); }), 0);
    std::thread([] { EXPECT_ERRNO(syscall(SYS_getppid), EPERM); }).join();
    EXPECT_EQ(in_child([] {
      char self[] = "/proc/self/exe";
      char alt[] = "/kernel_guest";
      char* argv[] = {self, const_cast<char*>("--exit"), const_cast<char*>("7"), nullptr};
      execv(self, argv);
      execv(alt, argv);
      _exit(7);
    }), 7 << 8);
  }), 0);
}

TEST(Seccomp, Strict) {
  int s = in_child([] {
    EXPECT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), 0);
    EXPECT_EQ(write(-1, "", 0), -1);
    syscall(SYS_exit, 3);
  });
  EXPECT_EQ(s, 3 << 8);
  s = in_child([] {
    EXPECT_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, nullptr), 0);
    syscall(SYS_getppid);
  });
  EXPECT_EQ(WTERMSIG(s), SIGKILL);
}

TEST(Seccomp, WhoMayInstall) {
  EXPECT_EQ(in_child([] {
    if (geteuid() == 0) {
      EXPECT_EQ(setresuid(1000, 1000, 1000), 0);
    }
    EXPECT_ERRNO(install(on(SYS_getppid, SECCOMP_RET_ALLOW)), EACCES);
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ALLOW)), 0);
  }), 0);
}

TEST(Seccomp, BadPrograms) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_ERRNO(install({}), EINVAL);
    EXPECT_ERRNO(install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)}), EINVAL);                 // no return
    EXPECT_ERRNO(install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), BPF_STMT(BPF_RET | BPF_K, 0)}), EINVAL);
    EXPECT_ERRNO(install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), BPF_STMT(BPF_RET | BPF_K, 0)}), EINVAL);
    EXPECT_ERRNO(install({BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), BPF_STMT(BPF_RET | BPF_K, 0)}), EINVAL);
    EXPECT_ERRNO(install({BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, 5), BPF_STMT(BPF_RET | BPF_K, 0)}), EINVAL);
    EXPECT_ERRNO(install(on(0, SECCOMP_RET_ALLOW), 1u << 20), EINVAL);
    EXPECT_ERRNO(install(on(0, SECCOMP_RET_ALLOW), SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER), EINVAL);
    EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, nullptr), EFAULT);
    sock_fprog far{1, reinterpret_cast<sock_filter*>(8)};
    EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &far), EFAULT);
    EXPECT_ERRNO(syscall(SYS_seccomp, 99, 0, nullptr), EINVAL);
    EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, nullptr), EINVAL);
    Program longest(4096, BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    int n = 0;
    while (n < 20 && install(longest) == 0) n++;
    EXPECT_GE(n, 3);  // Linux counts what the programs become inside
    EXPECT_LE(n, 7);
    EXPECT_EQ(errno, ENOMEM);
  }), 0);
}

TEST(Seccomp, WhatThereIs) {
  for (uint32_t a : {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
                     SECCOMP_RET_USER_NOTIF, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW})
    EXPECT_EQ(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &a), 0);
  uint32_t no = 0x12345678;
  EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &no), EOPNOTSUPP);
  EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, &no), EINVAL);
  EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, nullptr), EFAULT);
  seccomp_notif_sizes s{};
  EXPECT_EQ(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &s), 0);
  EXPECT_EQ(s.seccomp_notif, 80);
  EXPECT_EQ(s.seccomp_notif_resp, 24);
  EXPECT_EQ(s.seccomp_data, 64);
}

TEST(Seccomp, Tsync) {
  EXPECT_EQ(in_child([] {
    std::atomic<int> go{0};
    std::atomic<long> r{0};
    std::thread t([&] {
      while (go == 0) usleep(1000);
      r = syscall(SYS_getppid) == -1 ? errno : 0;
    });
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV), SECCOMP_FILTER_FLAG_TSYNC), 0);
    go = 1;
    t.join();
    EXPECT_EQ(r, EXDEV);
  }), 0);
  EXPECT_EQ(in_child([] {
    no_new_privs();
    std::atomic<int> tid{0}, done{0};
    std::thread t([&] {
      EXPECT_EQ(install(on(SYS_getpgrp, SECCOMP_RET_ERRNO | EXDEV)), 0);
      tid = static_cast<int>(syscall(SYS_gettid));
      while (done == 0) usleep(1000);
    });
    while (tid == 0) usleep(1000);
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ALLOW), SECCOMP_FILTER_FLAG_TSYNC), tid);
    EXPECT_ERRNO(install(on(SYS_getppid, SECCOMP_RET_ALLOW), SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH), ESRCH);
    done = 1;
    t.join();
  }), 0);
}

// Nobody escapes by being born at that moment.
TEST(Seccomp, TsyncReachesThreadsThatAreBeingMade) {
  for (int round = 0; round < 5; round++) {
    ASSERT_EQ(in_child([] {
      no_new_privs();
      std::atomic<int> made{0}, go{0}, escaped{0};
      std::thread maker([&] {
        std::vector<std::thread> all;
        for (int i = 0; i < 40; i++) {
          all.emplace_back([&] {
            made++;
            while (go == 0) usleep(5000);
            if (syscall(SYS_getppid) != -1) escaped++;
          });
        }
        for (auto& t : all) t.join();
      });
      while (made < 5) usleep(100);
      EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV), SECCOMP_FILTER_FLAG_TSYNC), 0);
      while (made < 40) usleep(1000);
      go = 1;
      maker.join();
      EXPECT_EQ(escaped, 0);
    }), 0);
  }
}

// ---- Supervisors ----

struct Supervised {
  int fd = -1;
  std::thread t;
  std::atomic<long> result{-100};
  std::atomic<int> error{0};
  // A thread that makes getppid() (or mkdir) and is asked about it.
  explicit Supervised(long nr = SYS_getppid) {
    std::atomic<int> ready{-2};
    t = std::thread([this, nr, &ready] {
      ready = static_cast<int>(install(on(nr, SECCOMP_RET_USER_NOTIF), SECCOMP_FILTER_FLAG_NEW_LISTENER));
      usleep(1000);
      errno = 0;
      long r = syscall(nr, 1, 2, 3, 4, 5, 6);
      error = errno;
      result = r;
    });
    while (ready == -2) usleep(1000);
    fd = ready;
    EXPECT_GE(fd, 0);
  }
  seccomp_notif receive() {
    seccomp_notif n{};
    EXPECT_EQ(ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &n), 0) << strerror(errno);
    return n;
  }
  int answer(uint64_t id, int64_t val, int32_t err, uint32_t flags = 0) {
    seccomp_notif_resp r{id, val, err, flags};
    return ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r);
  }
};

TEST(SeccompNotify, ASupervisorAnswers) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    Supervised s;
    pollfd p{s.fd, POLLIN, 0};
    EXPECT_EQ(poll(&p, 1, 5000), 1);
    EXPECT_EQ(p.revents, POLLIN);
    seccomp_notif n = s.receive();
    EXPECT_EQ(n.data.nr, SYS_getppid);
    EXPECT_EQ(n.data.args[0], 1u);
    EXPECT_EQ(n.data.args[5], 6u);
    EXPECT_EQ(n.data.arch, static_cast<unsigned>(AUDIT_ARCH_X86_64));
    EXPECT_NE(n.pid, 0u);
    EXPECT_EQ(ioctl(s.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id), 0);
    uint64_t other = n.id + 1;
    EXPECT_ERRNO(ioctl(s.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &other), ENOENT);
    EXPECT_ERRNO(s.answer(n.id + 1, 0, 0), ENOENT);
    EXPECT_EQ(s.answer(n.id, 777, 0), 0);
    s.t.join();
    EXPECT_EQ(s.result, 777);
    EXPECT_ERRNO(s.answer(n.id, 777, 0), ENOENT);
  }), 0);
}

TEST(SeccompNotify, ErrorsAndContinue) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    Supervised s;
    seccomp_notif n = s.receive();
    EXPECT_ERRNO(s.answer(n.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE), EINVAL);
    EXPECT_ERRNO(s.answer(n.id, 0, 0, 8), EINVAL);
    EXPECT_EQ(s.answer(n.id, 0, -EXDEV), 0);
    s.t.join();
    EXPECT_EQ(s.result, -1);
    EXPECT_EQ(s.error, EXDEV);
  }), 0);
  EXPECT_EQ(in_child([] {
    no_new_privs();
    Supervised s;
    seccomp_notif n = s.receive();
    EXPECT_EQ(s.answer(n.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE), 0);
    s.t.join();
    EXPECT_EQ(s.result, getppid());
  }), 0);
}

TEST(SeccompNotify, NobodyListensAnyMore) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    Supervised s;
    pollfd p{s.fd, POLLIN, 0};
    EXPECT_EQ(poll(&p, 1, 5000), 1);
    close(s.fd);
    s.t.join();
    EXPECT_EQ(s.result, -1);
    EXPECT_EQ(s.error, ENOSYS);
  }), 0);
}

TEST(SeccompNotify, GivesDescriptors) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    Supervised s;
    seccomp_notif n = s.receive();
    int p[2];
    EXPECT_EQ(pipe(p), 0);
    seccomp_notif_addfd a{n.id, SECCOMP_ADDFD_FLAG_SETFD, static_cast<uint32_t>(p[1]), 55, O_CLOEXEC};
    EXPECT_EQ(ioctl(s.fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), 55);
    EXPECT_EQ(fcntl(55, F_GETFD), FD_CLOEXEC);
    a = {n.id, 2 /* SEND */, static_cast<uint32_t>(p[1]), 0, 0};
    int fd = ioctl(s.fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a);
    EXPECT_GT(fd, 2);
    s.t.join();
    EXPECT_EQ(s.result, fd);
    EXPECT_EQ(write(fd, "x", 1), 1);
  }), 0);
}

TEST(SeccompNotify, OneListenerForAChain) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_GE(install(on(SYS_getppid, SECCOMP_RET_USER_NOTIF), SECCOMP_FILTER_FLAG_NEW_LISTENER), 0);
    EXPECT_ERRNO(install(on(SYS_getppid, SECCOMP_RET_USER_NOTIF), SECCOMP_FILTER_FLAG_NEW_LISTENER), EBUSY);
  }), 0);
  EXPECT_EQ(in_child([] {
    no_new_privs();
    EXPECT_EQ(install(on(SYS_getppid, SECCOMP_RET_USER_NOTIF)), 0);
    EXPECT_ERRNO(syscall(SYS_getppid), ENOSYS);  // nobody to ask
  }), 0);
}

// As many as there can be: what the chain says to a call that nobody has made before is found without running out of stack.
TEST(Seccomp, AChainAsLongAsItGets) {
  EXPECT_EQ(in_child([] {
    no_new_privs();
    const Program allow{BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    ASSERT_EQ(install(on(SYS_getpgrp, SECCOMP_RET_ERRNO | E2BIG)), 0);
    int n = 0;
    while (install(allow) == 0) ASSERT_LT(n++, 10000);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_GT(n, 3000);  // Linux counts the instructions of its own form
    EXPECT_GE(syscall(SYS_getpriority, 0, 0), 0);
    EXPECT_ERRNO(syscall(SYS_getpgrp), E2BIG);
  }), 0);
}

}  // namespace
