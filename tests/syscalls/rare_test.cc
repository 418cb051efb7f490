// SPDX-License-Identifier: Apache-2.0
// Rare calls and rare uses: I/O priorities, memory policies, extended attributes by directory, clock parameters, epolls in epolls.
// Passes on Linux first, then in the sandbox.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/ioprio.h>
#include <linux/mempolicy.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/syscalls/checks.h"

namespace {

int be(int level) { return IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT | level; }

TEST(IoPriority, IsKeptAndInherited) {
  EXPECT_EQ(in_child([] {
    EXPECT_EQ(syscall(SYS_ioprio_set, 1, 0, be(6)), 0);
    EXPECT_EQ(syscall(SYS_ioprio_get, 1, 0), be(6));
    EXPECT_EQ(syscall(SYS_ioprio_get, 1, getpid()), be(6));
    EXPECT_EQ(in_child([] { EXPECT_EQ(syscall(SYS_ioprio_get, 1, 0), be(6)); }), 0);
    EXPECT_EQ(syscall(SYS_ioprio_set, 1, 0, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT), 0);
    EXPECT_EQ(syscall(SYS_ioprio_get, 1, 0), IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT);
  }), 0);
}

TEST(IoPriority, Errors) {
  EXPECT_ERRNO(syscall(SYS_ioprio_set, 1, 0, 5 << IOPRIO_CLASS_SHIFT), EINVAL);
  EXPECT_ERRNO(syscall(SYS_ioprio_set, 1, 0, 3), EINVAL);  // no class, but a level
  EXPECT_ERRNO(syscall(SYS_ioprio_set, 9, 0, be(4)), EINVAL);
  EXPECT_ERRNO(syscall(SYS_ioprio_get, 9, 0), EINVAL);
  EXPECT_ERRNO(syscall(SYS_ioprio_get, 1, 0x7fffff00), ESRCH);
  EXPECT_ERRNO(syscall(SYS_ioprio_set, 1, 0x7fffff00, be(4)), ESRCH);
}

TEST(MemoryPolicy, OneNode) {
  int mode = 7;
  unsigned long mask[16] = {~0ul};
  EXPECT_EQ(syscall(SYS_get_mempolicy, &mode, mask, sizeof mask * 8, nullptr, 0), 0);
  EXPECT_EQ(mode, MPOL_DEFAULT);
  EXPECT_EQ(mask[0], 0u);
  EXPECT_EQ(syscall(SYS_get_mempolicy, nullptr, mask, sizeof mask * 8, nullptr, MPOL_F_MEMS_ALLOWED), 0);
  EXPECT_EQ(mask[0] & 1, 1u);
  int here = 0;
  EXPECT_EQ(syscall(SYS_get_mempolicy, &mode, nullptr, 0, &here, MPOL_F_NODE | MPOL_F_ADDR), 0);
  EXPECT_EQ(mode, 0);
  EXPECT_ERRNO(syscall(SYS_get_mempolicy, &mode, nullptr, 0, &here, 0), EINVAL);
  EXPECT_ERRNO(syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 64), EINVAL);
  EXPECT_ERRNO(syscall(SYS_get_mempolicy, &mode, nullptr, 0, 8, MPOL_F_ADDR), EFAULT);
}

TEST(MemoryPolicy, SetAndBind) {
  EXPECT_EQ(in_child([] {
    unsigned long node0 = 1, none = 0;
    EXPECT_EQ(syscall(SYS_set_mempolicy, MPOL_BIND, &node0, 64), 0);
    EXPECT_EQ(syscall(SYS_set_mempolicy, MPOL_PREFERRED, &node0, 64), 0);
    EXPECT_EQ(syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0), 0);
    EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_DEFAULT, &node0, 64), EINVAL);
    EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_BIND, &none, 64), EINVAL);
    EXPECT_ERRNO(syscall(SYS_set_mempolicy, 99, &node0, 64), EINVAL);
    EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_BIND, 8, 64), EFAULT);
    void* m = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_EQ(syscall(SYS_mbind, m, 8192, MPOL_BIND, &node0, 64, 0), 0);
    EXPECT_ERRNO(syscall(SYS_mbind, static_cast<char*>(m) + 1, 4096, MPOL_BIND, &node0, 64, 0), EINVAL);
    EXPECT_ERRNO(syscall(SYS_mbind, m, 8192, MPOL_BIND, &node0, 64, 128), EINVAL);
    munmap(m, 8192);
    EXPECT_ERRNO(syscall(SYS_mbind, m, 8192, MPOL_BIND, &node0, 64, 0), EFAULT);
  }), 0);
}

TEST(Madvise, OfTheOwnProcess) {
  int fd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  ASSERT_GE(fd, 0);
  char* m = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  iovec v{m, 8192};
  EXPECT_EQ(syscall(440, fd, &v, 1, MADV_COLD, 0), 8192);
  EXPECT_ERRNO(syscall(440, fd, &v, 1, MADV_COLD, 1), EINVAL);
  EXPECT_ERRNO(syscall(440, -1, &v, 1, MADV_COLD, 0), EBADF);
  EXPECT_ERRNO(syscall(440, 0, &v, 1, MADV_COLD, 0), EBADF);
  v.iov_base = m + 1;
  EXPECT_ERRNO(syscall(440, fd, &v, 1, MADV_COLD, 0), EINVAL);
  iovec two[2] = {{m, 8192}, {m, SIZE_MAX - 4095}};
  EXPECT_ERRNO(syscall(440, fd, two, 2, MADV_COLD, 0), EINVAL);
  close(fd);
}

struct XattrArgs {
  uint64_t value;
  uint32_t size, flags;
};

TEST(XattrAt, SetGetListRemove) {
  char dir[] = "/tmp/xattrat.XXXXXX";
  ASSERT_TRUE(mkdtemp(dir));
  int d = open(dir, O_RDONLY | O_DIRECTORY);
  close(openat(d, "f", O_CREAT | O_WRONLY, 0644));
  char text[] = "hello", got[16] = {};
  XattrArgs a{reinterpret_cast<uint64_t>(text), 5, 0};
  EXPECT_EQ(syscall(463, d, "f", 0, "user.x", &a, sizeof a), 0);
  a.flags = XATTR_CREATE;
  EXPECT_ERRNO(syscall(463, d, "f", 0, "user.x", &a, sizeof a), EEXIST);
  XattrArgs g{reinterpret_cast<uint64_t>(got), sizeof got, 0};
  EXPECT_EQ(syscall(464, d, "f", 0, "user.x", &g, sizeof g), 5);
  EXPECT_STREQ(got, "hello");
  int f = openat(d, "f", O_RDONLY);
  EXPECT_EQ(syscall(464, f, "", AT_EMPTY_PATH, "user.x", &g, sizeof g), 5);
  char list[64] = {};
  EXPECT_GE(syscall(465, d, "f", 0, list, sizeof list), 7);
  EXPECT_EQ(syscall(466, d, "f", 0, "user.x"), 0);
  EXPECT_ERRNO(syscall(466, d, "f", 0, "user.x"), ENODATA);
  EXPECT_ERRNO(syscall(464, d, "f", 0, "user.x", &g, 8), EINVAL);
  EXPECT_ERRNO(syscall(464, d, "f", 0x4000, "user.x", &g, sizeof g), EINVAL);
  g.flags = 1;
  EXPECT_ERRNO(syscall(464, d, "f", 0, "user.x", &g, sizeof g), EINVAL);
  close(f);
  close(d);
  unlink((std::string(dir) + "/f").c_str());
  rmdir(dir);
}

TEST(Clock, ParametersAreRead) {
  timex t{};
  int r = adjtimex(&t);
  EXPECT_TRUE(r >= 0 && r <= 5) << r;
  EXPECT_GE(t.tick, 9000);
  EXPECT_LE(t.tick, 11000);
  EXPECT_NEAR(static_cast<double>(t.time.tv_sec), static_cast<double>(time(nullptr)), 3);
  t = timex{};
  EXPECT_GE(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &t), 0);
  EXPECT_ERRNO(syscall(SYS_clock_adjtime, CLOCK_MONOTONIC, &t), EOPNOTSUPP);
  EXPECT_ERRNO(syscall(SYS_clock_adjtime, 99, &t), EINVAL);
  EXPECT_ERRNO(syscall(SYS_adjtimex, 8), EFAULT);
  EXPECT_EQ(in_child([] {
    if (geteuid() == 0) {
      EXPECT_EQ(setresuid(1000, 1000, 1000), 0);
    }
    timex x{};
    x.modes = ADJ_TICK;
    x.tick = 10000;
    EXPECT_ERRNO(adjtimex(&x), EPERM);
  }), 0);
}

TEST(Obsolete, Ustat) {
  struct stat st{};
  ASSERT_EQ(stat("/", &st), 0);
  char buf[64] = {};
  EXPECT_EQ(syscall(SYS_ustat, static_cast<unsigned>(st.st_dev), buf), 0);
  EXPECT_ERRNO(syscall(SYS_ustat, 0xfffff, buf), EINVAL);
}

TEST(Obsolete, Sysfs) {
  long n = syscall(SYS_sysfs, 3);
  if (n < 0 && errno == ENOSYS) GTEST_SKIP();
  EXPECT_GT(n, 3);
  long proc = syscall(SYS_sysfs, 1, "proc");
  ASSERT_GE(proc, 0);
  char name[64] = {};
  EXPECT_EQ(syscall(SYS_sysfs, 2, proc, name), 0);
  EXPECT_STREQ(name, "proc");
  EXPECT_ERRNO(syscall(SYS_sysfs, 1, "nonsense"), EINVAL);
  EXPECT_ERRNO(syscall(SYS_sysfs, 2, 1000, name), EINVAL);
  EXPECT_ERRNO(syscall(SYS_sysfs, 4), EINVAL);
}

TEST(Obsolete, HandlesNeedWhatTheyNeed) {
  uint64_t handle[20] = {};
  int mount = 0;
  EXPECT_ERRNO(syscall(SYS_name_to_handle_at, AT_FDCWD, "/", handle, &mount, 0x10000), EINVAL);
  EXPECT_ERRNO(syscall(SYS_name_to_handle_at, AT_FDCWD, "/no/such", handle, &mount, 0), ENOENT);
  EXPECT_EQ(in_child([&] {
    if (geteuid() == 0) {
      EXPECT_EQ(setresuid(1000, 1000, 1000), 0);
    }
    EXPECT_ERRNO(syscall(SYS_open_by_handle_at, AT_FDCWD, handle, 0), EINVAL);
    handle[0] = 8;
    EXPECT_ERRNO(syscall(SYS_open_by_handle_at, AT_FDCWD, handle, 0), EPERM);
    EXPECT_ERRNO(syscall(SYS_vhangup), EPERM);
  }), 0);
}

// ---- Epolls that watch epolls ----

// How many nest, each put into the one before (downwards), or before it is put into the next.
int nests(bool downwards) {
  std::vector<int> fds{epoll_create1(0)};
  int n = 0;
  for (; n < 100; n++) {
    fds.push_back(epoll_create1(0));
    const int outer = downwards ? fds[fds.size() - 2] : fds.back(), inner = downwards ? fds.back() : fds[fds.size() - 2];
    epoll_event ev{EPOLLIN, {}};
    if (epoll_ctl(outer, EPOLL_CTL_ADD, inner, &ev) == 0) continue;
    EXPECT_EQ(errno, ELOOP);
    break;
  }
  for (int fd : fds) close(fd);
  return n;
}

TEST(Epoll, NestsOnlySoDeep) {
  for (bool downwards : {false, true}) {
    EXPECT_GE(nests(downwards), 3);
    EXPECT_LE(nests(downwards), 6);
  }
}

TEST(Epoll, NoCircles) {
  int a = epoll_create1(0), b = epoll_create1(0), c = epoll_create1(0);
  epoll_event ev{EPOLLIN, {}};
  ASSERT_EQ(epoll_ctl(a, EPOLL_CTL_ADD, b, &ev), 0);
  ASSERT_EQ(epoll_ctl(b, EPOLL_CTL_ADD, c, &ev), 0);
  EXPECT_ERRNO(epoll_ctl(c, EPOLL_CTL_ADD, a, &ev), ELOOP);
  EXPECT_ERRNO(epoll_ctl(a, EPOLL_CTL_ADD, a, &ev), EINVAL);
  for (int fd : {a, b, c}) close(fd);
}

// Asking an epoll whether something is ready keeps no file open.
TEST(Epoll, ALookHoldsNothing) {
  int e = epoll_create1(0), p[2];
  ASSERT_EQ(pipe2(p, O_NONBLOCK), 0);
  epoll_event ev{EPOLLOUT, {}};
  ASSERT_EQ(epoll_ctl(e, EPOLL_CTL_ADD, p[1], &ev), 0);
  pollfd look{e, POLLIN, 0};
  EXPECT_EQ(poll(&look, 1, 0), 1);
  close(p[1]);
  char c;
  EXPECT_EQ(read(p[0], &c, 1), 0) << strerror(errno);
  EXPECT_EQ(poll(&look, 1, 0), 0);
  close(p[0]);
  close(e);
}

// A period longer than anybody's life: one expiration, and no other.
TEST(Cachestat, CountsWhatAFileHolds) {
  struct { uint64_t offset, length; } whole{0, 0}, part{4096, 8192}, beyond{1 << 20, 4096};
  struct { uint64_t cached, dirty, writeback, evicted, recently; } s;
  constexpr long kCachestat = 451;
  char name[] = "/tmp/cachestatXXXXXX";
  int fd = mkstemp(name);
  ASSERT_GE(fd, 0);
  unlink(name);
  std::string data(16384, 'x');
  ASSERT_EQ(write(fd, data.data(), data.size()), 16384);
  if (syscall(kCachestat, fd, &whole, &s, 0) == -1 && errno == ENOSYS) GTEST_SKIP() << "Linux 6.5 and later";
  EXPECT_EQ(s.cached, 4u);
  EXPECT_EQ(syscall(kCachestat, fd, &part, &s, 0), 0);
  EXPECT_EQ(s.cached, 2u);
  EXPECT_EQ(syscall(kCachestat, fd, &beyond, &s, 0), 0);
  EXPECT_EQ(s.cached, 0u);
  EXPECT_ERRNO(syscall(kCachestat, fd, &whole, &s, 1), EINVAL);
  EXPECT_ERRNO(syscall(kCachestat, fd, nullptr, &s, 0), EFAULT);
  EXPECT_ERRNO(syscall(kCachestat, 999, &whole, &s, 0), EBADF);
  close(fd);
}

TEST(ProcessMrelease, OnlyOfTheDying) {
  int self = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  EXPECT_ERRNO(syscall(448, self, 1), EINVAL);
  EXPECT_ERRNO(syscall(448, self, 0), EINVAL);
  EXPECT_ERRNO(syscall(448, 999, 0), EBADF);
  pid_t p = child([] {});
  int fd = static_cast<int>(syscall(SYS_pidfd_open, p, 0));
  siginfo_t info;
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(p), &info, WEXITED | WNOWAIT), 0);
  EXPECT_ERRNO(syscall(448, fd, 0), ESRCH);
  EXPECT_EQ(status_of(p), 0);
  close(fd);
  close(self);
}

// A stop does not lengthen the wait of poll(2). How soon a process runs is nobody's promise, so one try of many is enough; one that
// waited anew for the whole time could never be that quick.
TEST(Poll, GoesOnWithWhatWasLeftAfterAStop) {
  constexpr int kWait = 400;
  auto now = [] {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
  };
  long best = 1000000;
  for (int tries = 0; tries < 20 && best >= kWait; tries++) {
    pid_t p = child([] { EXPECT_EQ(poll(nullptr, 0, kWait), 0); });
    usleep(50000);
    ASSERT_EQ(kill(p, SIGSTOP), 0);
    int s;
    ASSERT_EQ(waitpid(p, &s, WUNTRACED), p);
    if (WIFEXITED(s)) continue;
    usleep(kWait * 1000);
    long from = now();
    ASSERT_EQ(kill(p, SIGCONT), 0);
    EXPECT_EQ(status_of(p), 0);
    best = std::min(best, now() - from);
  }
  EXPECT_LT(best, kWait);
}

TEST(Timerfd, TheLongestPeriod) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  ASSERT_GE(fd, 0);
  itimerspec t{{INT64_MAX, 0}, {0, 1000}};
  ASSERT_EQ(timerfd_settime(fd, 0, &t, nullptr), 0);
  uint64_t n = 0;
  pollfd look{fd, POLLIN, 0};
  EXPECT_EQ(poll(&look, 1, 5000), 1);
  EXPECT_EQ(read(fd, &n, sizeof n), 8);
  EXPECT_EQ(n, 1u);
  EXPECT_EQ(poll(&look, 1, 20), 0);
  close(fd);
}

// A program that has no name: copied into a memfd, sealed, and executed by descriptor, as runc does with itself.
TEST(Exec, IsAProgram) { EXPECT_EQ(geteuid(), getuid()); }
int program_in_memfd(unsigned flags) {
  int self = open(reinterpret_cast<const char*>(getauxval(AT_EXECFN)), O_RDONLY);
  EXPECT_GE(self, 0);
  int fd = memfd_create("program", flags);
  EXPECT_GE(fd, 0);
  struct stat st = {};
  EXPECT_EQ(fstat(self, &st), 0);
  for (off_t at = 0; at < st.st_size;)
    if (sendfile(fd, self, &at, static_cast<size_t>(st.st_size - at)) <= 0) break;
  close(self);
  return fd;
}
TEST(Exec, OfAMemfd) {
  int fd = program_in_memfd(MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
  const char* args[] = {"x", "--gtest_filter=Exec.IsAProgram", nullptr};
  for (int with : {0, 1}) {
    if (with == 1) {
      EXPECT_EQ(fchmod(fd, 06755), 0) << strerror(errno);  // bits that do not count there
    }
    pid_t p = child([&] {
      EXPECT_EQ(setresuid(12345, 12345, 12345), 0);
      syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH);
      EXPECT_EQ(errno, 0);
    });
    EXPECT_EQ(status_of(p), 0);
  }
  EXPECT_EQ(fchmod(fd, 0644), 0);
  EXPECT_ERRNO(syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH), EACCES);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_ERRNO(syscall(SYS_execveat, ends[0], "", args, environ, AT_EMPTY_PATH), EACCES);
  close(ends[0]);
  close(ends[1]);
  close(fd);
}

}  // namespace
