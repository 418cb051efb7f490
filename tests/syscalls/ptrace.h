// SPDX-License-Identifier: Apache-2.0
// What the tests of ptrace share: a tracee, and what its tracer asks.
#pragma once

#include <elf.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <time.h>

#include <string>
#include <thread>


#include "tests/syscalls/checks.h"

inline constexpr int kEventStop = 128;

inline long trace(int request, pid_t pid, unsigned long addr = 0, unsigned long data = 0) {
  return syscall(SYS_ptrace, request, pid, addr, data);
}
inline void sleep_ms(long ms) {
  timespec t{ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) != 0) {}
}
inline int stop_of(pid_t p, int options = 0) {
  int s = -1;
  EXPECT_EQ(waitpid(p, &s, options | __WALL), p) << strerror(errno);
  return s;
}
#define EXPECT_STOP(status, code)                                        \
  do {                                                                   \
    int s_ = (status);                                                   \
    EXPECT_TRUE(WIFSTOPPED(s_)) << std::hex << s_;                       \
    EXPECT_EQ(s_ >> 8, (code)) << std::hex << s_;                        \
  } while (0)
inline user_regs_struct regs_of(pid_t p) {
  user_regs_struct r{};
  EXPECT_EQ(trace(PTRACE_GETREGS, p, 0, reinterpret_cast<unsigned long>(&r)), 0) << strerror(errno);
  return r;
}
inline siginfo_t info_of(pid_t p) {
  siginfo_t i{};
  EXPECT_EQ(trace(PTRACE_GETSIGINFO, p, 0, reinterpret_cast<unsigned long>(&i)), 0) << strerror(errno);
  return i;
}
inline unsigned long message_of(pid_t p) {
  unsigned long m = 0;
  EXPECT_EQ(trace(PTRACE_GETEVENTMSG, p, 0, reinterpret_cast<unsigned long>(&m)), 0);
  return m;
}
inline std::string status_line(pid_t p, const char* name) {
  std::string path = "/proc/" + std::to_string(p) + "/status", text;
  FILE* f = fopen(path.c_str(), "r");
  if (!f) return "no proc";
  char line[256];
  while (fgets(line, sizeof line, f))
    if (!strncmp(line, name, strlen(name))) text = line + strlen(name) + 1;
  fclose(f);
  return text.substr(0, text.find('\n'));
}

// A child that asks to be traced, stops, runs f and exits with its result.
template <typename F>
struct Tracee {
  pid_t pid;
  explicit Tracee(F f) {
    pid = fork();
    if (pid == 0) {
      if (trace(PTRACE_TRACEME, 0) != 0) _exit(99);
      raise(SIGSTOP);
      _exit(f());
    }
    EXPECT_STOP(stop_of(pid), SIGSTOP);
  }
  ~Tracee() {
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    int s;
    while (waitpid(pid, &s, __WALL) == pid && !WIFEXITED(s) && !WIFSIGNALED(s)) {}
  }
  int go_on(int request = PTRACE_CONT, int signal = 0) {
    EXPECT_EQ(trace(request, pid, 0, static_cast<unsigned long>(signal)), 0) << strerror(errno);
    return stop_of(pid);
  }
  void ends_with(int code) {
    EXPECT_EQ(trace(PTRACE_CONT, pid), 0) << strerror(errno);
    int s = stop_of(pid);
    EXPECT_TRUE(WIFEXITED(s)) << std::hex << s;
    EXPECT_EQ(WEXITSTATUS(s), code);
    pid = -1;
  }
  void options(unsigned long o) { EXPECT_EQ(trace(PTRACE_SETOPTIONS, pid, 0, o), 0); }
};
