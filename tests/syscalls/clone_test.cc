// SPDX-License-Identifier: Apache-2.0
// clone(2) with the flags that fork(3), vfork(3) and posix_spawn(3) do not use together. Passes on Linux first, then in the sandbox.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>

#include "tests/syscalls/checks.h"

namespace {

std::atomic<int>& shared_counter() {
  void* m = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return *new (m) std::atomic<int>(0);
}

pid_t clone_like_fork(unsigned long flags) { return static_cast<pid_t>(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0)); }

// The parent waits for a child with memory of its own until that has ended.
TEST(Clone, VforkWithoutSharedMemory) {
  std::atomic<int>& seen = shared_counter();
  int own = 1;
  for (int i = 0; i < 20; i++) {
    seen = 0;
    pid_t p = clone_like_fork(CLONE_VFORK);
    if (p == 0) {
      own = 2;
      usleep(2000);
      seen = 7;
      _exit(3);
    }
    ASSERT_GT(p, 0);
    EXPECT_EQ(seen, 7) << "it did not wait";
    EXPECT_EQ(own, 1);
    EXPECT_EQ(status_of(p), 3 << 8);
  }
}

// … or has become another program.
TEST(Clone, VforkWithoutSharedMemoryUntilExec) {
  pid_t p = clone_like_fork(CLONE_VFORK);
  if (p == 0) {
    execl(reinterpret_cast<const char*>(getauxval(AT_EXECFN)), "x", "--gtest_filter=Clone.IsAProgram", nullptr);
    _exit(127);
  }
  ASSERT_GT(p, 0);
  EXPECT_EQ(status_of(p), 0);
}
TEST(Clone, IsAProgram) {}

int exits_with(void* arg) { _exit(*static_cast<int*>(arg)); }

// A child that shares memory and a stack of its own, and a parent that waits.
TEST(Clone, VforkOnAnotherStack) {
  alignas(16) static char stack[64 * 1024];
  int code = 9;
  pid_t p = clone(exits_with, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &code);
  ASSERT_GT(p, 0);
  EXPECT_EQ(status_of(p), 9 << 8);
}

// The numbers are there for parent and child before either goes on.
TEST(Clone, TellsItsNumberToBoth) {
  int parent = 0;
  std::atomic<int>& inside = shared_counter();
  static int child_word;
  pid_t p = static_cast<pid_t>(
      syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, &parent, &child_word, 0));
  if (p == 0) {
    inside = child_word;
    _exit(child_word == static_cast<int>(syscall(SYS_gettid)) ? 0 : 1);
  }
  ASSERT_GT(p, 0);
  EXPECT_EQ(parent, p);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(inside, p);
  EXPECT_EQ(child_word, 0) << "the child's word is its own";
}

TEST(Clone, RefusesWhatMakesNoSense) {
  EXPECT_ERRNO(clone_like_fork(CLONE_SIGHAND), EINVAL);
  EXPECT_ERRNO(clone_like_fork(CLONE_THREAD), EINVAL);
  EXPECT_ERRNO(clone_like_fork(CLONE_NEWNS | CLONE_FS), EINVAL);
}

// The old clone(2) takes any byte for the exit signal; what is none is sent to nobody.
TEST(Clone, ExitSignalsThatThereAreNot) {
  for (unsigned long signo : {65ul, 127ul, 200ul, 255ul}) {
    auto p = static_cast<pid_t>(syscall(SYS_clone, signo, 0, 0, 0, 0));
    if (p == 0) _exit(5);
    ASSERT_GT(p, 0);
    int s = 0;
    EXPECT_EQ(waitpid(p, &s, __WALL), p);
    EXPECT_EQ(s, 5 << 8);
  }
}

// Killed right after its call: the child lives on, as its maker had been told.
TEST(Clone, OutlivesItsParent) {
  std::atomic<int>& alive = shared_counter();
  for (int i = 0; i < 20; i++) {
    alive = 0;
    pid_t p = child([&] {
      if (clone_like_fork(0) == 0) {
        alive = 1;
        _exit(0);
      }
      kill(getpid(), SIGKILL);
    });
    EXPECT_EQ(status_of(p), SIGKILL);
    for (int k = 0; k < 5000 && alive == 0; k++) usleep(1000);
    ASSERT_EQ(alive, 1);
  }
}

struct Clone3Args {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

// A group for the child: a descriptor that is no directory of cgroup2 is refused, and so are arguments that are too short for it.
TEST(Clone, IntoACgroup) {
  constexpr uint64_t kIntoCgroup = 0x200000000ull;
  Clone3Args a = {};
  a.flags = kIntoCgroup;
  a.exit_signal = SIGCHLD;
  auto clone3 = [&](size_t size = sizeof(Clone3Args)) { return syscall(SYS_clone3, &a, size); };
  a.cgroup = 999;
  EXPECT_ERRNO(clone3(), EBADF);
  a.cgroup = 1ull << 31;
  EXPECT_ERRNO(clone3(), EINVAL);
  const int dir = open("/", O_RDONLY | O_DIRECTORY), path = open("/", O_PATH);
  ASSERT_GE(dir, 0);
  a.cgroup = static_cast<uint64_t>(dir);
  EXPECT_ERRNO(clone3(), EBADF);
  EXPECT_ERRNO(clone3(80), EINVAL);
  EXPECT_ERRNO(clone3(64), EINVAL);
  a.cgroup = static_cast<uint64_t>(path);
  EXPECT_ERRNO(clone3(), EBADF);
  // Without the flag the word means nothing.
  a.flags = 0;
  a.cgroup = ~0ull;
  long p = clone3();
  if (p == 0) _exit(4);
  ASSERT_GT(p, 0);
  EXPECT_EQ(status_of(static_cast<pid_t>(p)), 4 << 8);
  close(dir);
  close(path);
}

// What is not known, and what comes after the structure, has to be nothing.
TEST(Clone, ArgumentsOfOtherSizes) {
  struct {
    Clone3Args a;
    uint64_t more[4];
  } a = {};
  a.a.exit_signal = SIGCHLD;
  auto clone3 = [&](size_t size) { return syscall(SYS_clone3, &a, size); };
  EXPECT_ERRNO(clone3(0), EINVAL);
  EXPECT_ERRNO(clone3(56), EINVAL);
  EXPECT_ERRNO(clone3(63), EINVAL);
  EXPECT_ERRNO(clone3(4097), E2BIG);
  for (size_t size : {size_t{64}, size_t{80}, sizeof a.a, sizeof a}) {
    long p = clone3(size);
    if (p == 0) _exit(6);
    ASSERT_GT(p, 0) << size;
    EXPECT_EQ(status_of(static_cast<pid_t>(p)), 6 << 8);
  }
  a.more[3] = 1;
  EXPECT_ERRNO(clone3(sizeof a), E2BIG);
  EXPECT_ERRNO(syscall(SYS_clone3, nullptr, sizeof a.a), EFAULT);
  a.more[3] = 0;
  for (uint64_t unknown : {1ull << 34, 1ull << 63, 0x1ull, 0x7full, 0x00400000ull /* CLONE_DETACHED */}) {
    a.a.flags = unknown;
    EXPECT_ERRNO(clone3(sizeof a.a), EINVAL);
  }
  a.a.flags = 0;
  a.a.exit_signal = 65;
  EXPECT_ERRNO(clone3(sizeof a.a), EINVAL);
  a.a.exit_signal = 0x100 | SIGCHLD;
  EXPECT_ERRNO(clone3(sizeof a.a), EINVAL);
  a.a.exit_signal = SIGCHLD;
  a.a.stack_size = 4096;  // of no stack
  EXPECT_ERRNO(clone3(sizeof a.a), EINVAL);
  a.a.stack_size = 0;
  a.a.stack = reinterpret_cast<uint64_t>(&a);
  EXPECT_ERRNO(clone3(sizeof a.a), EINVAL);
  a.a.stack = 0;
  a.a.flags = CLONE_PARENT;
  EXPECT_ERRNO(clone3(sizeof a.a), EINVAL);  // its signal is the parent's
}

// clone3(2) with numbers for the child, its own namespace's first.
long clone_as(std::initializer_list<int> numbers, unsigned long flags = 0, long count = -1) {
  Clone3Args a = {};
  a.flags = flags;
  a.exit_signal = SIGCHLD;
  a.set_tid = reinterpret_cast<uint64_t>(numbers.begin());
  a.set_tid_size = count < 0 ? numbers.size() : static_cast<uint64_t>(count);
  return syscall(SYS_clone3, &a, sizeof a);
}

// In a PID namespace of its own, where all numbers are free.
TEST(Clone, ChosenNumbers) {
  EXPECT_EQ(in_child([] {
    ASSERT_EQ(unshare(CLONE_NEWPID), 0) << strerror(errno);
    EXPECT_ERRNO(clone_as({5}), EINVAL);  // no init yet
    long init = clone_as({1});
    ASSERT_GE(init, 0) << strerror(errno);
    if (init == 0) {
      EXPECT_EQ(getpid(), 1);
      long p = clone_as({77});
      if (p == 0) _exit(getpid() == 77 ? 0 : 1);
      EXPECT_EQ(p, 77);
      siginfo_t info = {};
      EXPECT_EQ(waitid(P_PID, 77, &info, WEXITED | WNOWAIT), 0);
      EXPECT_ERRNO(clone_as({77}), EEXIST);  // it is not reaped
      EXPECT_EQ(status_of(77), 0);
      p = clone_as({77});
      if (p == 0) _exit(0);
      EXPECT_EQ(p, 77);
      EXPECT_EQ(status_of(77), 0);
      EXPECT_ERRNO(clone_as({1}), EEXIST);
      p = fork();  // goes on from the last that was not asked for
      if (p == 0) _exit(0);
      EXPECT_EQ(p, 2);
      EXPECT_EQ(status_of(2), 0);
      EXPECT_ERRNO(clone_as({0}), EINVAL);
      EXPECT_ERRNO(clone_as({-1}), EINVAL);
      EXPECT_ERRNO(clone_as({1 << 30}), EINVAL);
      EXPECT_ERRNO(clone_as({5}, 0, 0), EINVAL);
      EXPECT_ERRNO(clone_as({5}, 0, 33), EINVAL);
      EXPECT_ERRNO(clone_as({5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}), EINVAL);
      // One namespace further in: numbers for both.
      p = clone_as({1, 300}, CLONE_NEWPID);
      if (p == 0) _exit(getpid() == 1 ? 0 : 1);
      EXPECT_EQ(p, 300);
      EXPECT_EQ(status_of(300), 0);
      EXPECT_ERRNO(clone_as({2, 301}, CLONE_NEWPID), EINVAL);
      EXPECT_EQ(in_child([] {
        ASSERT_EQ(setresuid(12345, 12345, 12345), 0);
        EXPECT_ERRNO(clone_as({400}), EPERM);
      }), 0);
      _exit(testing::Test::HasFailure() ? 1 : 0);
    }
    EXPECT_EQ(status_of(static_cast<pid_t>(init)), 0);
  }), 0);
}

}  // namespace
