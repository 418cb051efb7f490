// SPDX-License-Identifier: Apache-2.0
// Where two subjects meet: signals and restarted waits, locks over fork and exec, vfork and signals, mremap of shared memory, pipes joined
// with pipes, timers that overrun, pidfds over exec, epolls in epolls, setns and fork, paths and renames. Passes on Linux first, then in the sandbox.
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>

#include "tests/syscalls/checks.h"

namespace {

const char* self() { return reinterpret_cast<const char*>(getauxval(AT_EXECFN)); }
const size_t kPage = 4096;

struct Pipe {
  int r, w;
  explicit Pipe(int flags = 0) {
    int p[2];
    EXPECT_EQ(pipe2(p, flags), 0);
    r = p[0];
    w = p[1];
  }
  ~Pipe() {
    close(r);
    close(w);
  }
  void put(const char* s) const { EXPECT_EQ(write(w, s, strlen(s)), static_cast<ssize_t>(strlen(s))); }
  std::string get() const {
    char b[100];
    ssize_t n = read(r, b, sizeof b);
    return n < 0 ? strerror(errno) : std::string(b, static_cast<size_t>(n));
  }
};

template <typename T>
T* shared() {
  void* p = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_NE(p, MAP_FAILED);
  return new (p) T();
}
// Until it is so; patience, then failure.
template <typename F>
void eventually(F f) {
  for (int i = 0; i < 30000; i++) {
    if (f()) return;
    usleep(1000);
  }
  ADD_FAILURE() << "never";
}
// Until the task sleeps in a call: by /proc where there is one, else some time that only makes the case weaker.
void until_asleep(pid_t tid) {
  std::string path = "/proc/" + std::to_string(tid) + "/stat";
  for (int i = 0; i < 30000; i++) {
    int fd = open(path.c_str(), O_RDONLY);
    if (fd < 0) {
      usleep(20000);
      return;
    }
    char b[300] = {};
    ssize_t n = read(fd, b, sizeof b - 1);
    close(fd);
    if (n <= 0) return;
    const char* after = strrchr(b, ')');
    if (after && after[2] == 'S') return;
    usleep(1000);
  }
}

std::atomic<int> g_handled;
void count(int) { g_handled++; }
void handle(int signo, int flags) {
  struct sigaction a = {};
  a.sa_handler = count;
  a.sa_flags = flags;
  EXPECT_EQ(sigaction(signo, &a, nullptr), 0);
}

// ---- Signals and waits ----

TEST(Restart, AFutexWaitGoesOnAfterAHandlerThatAllowsIt) {
  EXPECT_EQ(in_child([] {
    handle(SIGUSR1, SA_RESTART);
    auto* word = shared<std::atomic<int>>();
    pid_t me = getpid();
    std::thread helper([&] {
      until_asleep(me);
      EXPECT_EQ(syscall(SYS_tgkill, me, me, SIGUSR1), 0);
      eventually([] { return g_handled == 1; });
      *word = 1;
      for (int i = 0; i < 30000 && *word == 1; i++) {
        syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
        usleep(1000);
      }
    });
    long r = 0;
    while (*word == 0 && (r = syscall(SYS_futex, word, FUTEX_WAIT, 0, nullptr, nullptr, 0)) == 0 && *word == 0) {}
    if (r != 0) {
      EXPECT_EQ(errno, EAGAIN);  // restarted after the word had changed
    }
    *word = 2;
    helper.join();
  }), 0);
}

TEST(Restart, AWaitWithATimeEndsAtAnyHandler) {
  EXPECT_EQ(in_child([] {
    handle(SIGUSR1, SA_RESTART);
    pid_t me = getpid();
    auto* word = shared<std::atomic<int>>();
    auto interrupted = [&](auto wait) {
      g_handled = 0;
      std::atomic<bool> over = false;
      std::thread helper([&] {
        until_asleep(me);
        while (!over) {
          syscall(SYS_tgkill, me, me, SIGUSR1);
          usleep(5000);
        }
      });
      errno = 0;
      long r = wait();
      int e = errno;
      over = true;
      helper.join();
      EXPECT_EQ(r, -1);
      return e;
    };
    timespec long_time{1000, 0};
    EXPECT_EQ(interrupted([&] { return syscall(SYS_futex, word, FUTEX_WAIT, 0, &long_time, nullptr, 0); }), EINTR);
    EXPECT_EQ(interrupted([&] { return nanosleep(&long_time, nullptr); }), EINTR);
    EXPECT_EQ(interrupted([&] { return poll(nullptr, 0, 1000000); }), EINTR);
    int ep = epoll_create1(0);
    epoll_event e;
    EXPECT_EQ(interrupted([&] { return epoll_wait(ep, &e, 1, 1000000); }), EINTR);
    EXPECT_EQ(interrupted([&] { return select(0, nullptr, nullptr, nullptr, nullptr); }), EINTR);
  }), 0);
}

TEST(Restart, AReadGoesOnOrEndsAsTheHandlerSays) {
  for (int flags : {SA_RESTART, 0}) {
    EXPECT_EQ(in_child([&] {
      handle(SIGUSR1, flags);
      Pipe p;
      std::atomic<bool> over = false;
      pid_t me = getpid();
      std::thread helper([&] {
        until_asleep(me);
        while (flags ? g_handled == 0 : !over) {
          syscall(SYS_tgkill, me, me, SIGUSR1);
          usleep(5000);
        }
        if (flags) p.put("late");
      });
      std::string got = p.get();
      over = true;
      helper.join();
      EXPECT_EQ(got, flags ? "late" : strerror(EINTR));
    }), 0);
  }
}

TEST(Signals, APendingOneIsTakenBeforeTheMaskOfAWaitIsPutBack) {
  EXPECT_EQ(in_child([] {
    handle(SIGUSR1, 0);
    sigset_t block, none, old;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, nullptr);
    raise(SIGUSR1);
    timespec zero{0, 0};
    // Nothing is ready and there is no time: still the signal is let in and ends the wait.
    EXPECT_ERRNO(ppoll(nullptr, 0, &zero, &none), EINTR);
    EXPECT_EQ(g_handled, 1);
    EXPECT_EQ(sigprocmask(SIG_BLOCK, nullptr, &old), 0);
    EXPECT_EQ(sigismember(&old, SIGUSR1), 1);
    // What is ready wins; the signal stays.
    raise(SIGUSR1);
    Pipe p;
    p.put("x");
    pollfd f{p.r, POLLIN, 0};
    EXPECT_EQ(ppoll(&f, 1, &zero, &none), 1);
    sigset_t pending;
    sigpending(&pending);
    EXPECT_EQ(sigismember(&pending, SIGUSR1), 1);
    EXPECT_EQ(g_handled, 1);
  }), 0);
}

// ---- vfork ----

// The child runs on the parent's stack: it does as little as it can.
// RLIMIT_SIGPENDING is the receiver's, and counts what waits for all processes of its user.
TEST(Signals, WhatWaitsIsCountedByUser) {
  constexpr rlim_t kLimit = 10;
  const int signo = SIGRTMIN + 1;
  struct Shared {
    std::atomic<int> ready{0}, end{0};
  }* s = shared<Shared>();
  auto receiver = [&](uid_t uid) {
    return child([&, uid] {
      ASSERT_EQ(setresuid(uid, uid, uid), 0);
      rlimit r{kLimit, kLimit};
      ASSERT_EQ(setrlimit(RLIMIT_SIGPENDING, &r), 0);
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, signo);
      ASSERT_EQ(sigprocmask(SIG_BLOCK, &set, nullptr), 0);
      s->ready++;
      eventually([&] { return s->end.load() != 0; });
      int taken = 0;
      timespec none{};
      siginfo_t info;
      while (sigtimedwait(&set, &info, &none) == signo) taken++;
      _exit(taken);
    });
  };
  pid_t a = receiver(23451), b = receiver(23451), c = receiver(23452);
  eventually([&] { return s->ready.load() == 3; });
  auto queue = [&](pid_t p) { return sigqueue(p, signo, sigval{}); };
  for (int i = 0; i < 7; i++) EXPECT_EQ(queue(a), 0);
  for (int i = 0; i < 3; i++) EXPECT_EQ(queue(b), 0);
  EXPECT_ERRNO(queue(a), EAGAIN);
  EXPECT_ERRNO(queue(b), EAGAIN);
  int fd = static_cast<int>(syscall(SYS_pidfd_open, a, 0));
  siginfo_t info = {};
  info.si_signo = signo;
  info.si_code = SI_QUEUE;
  EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, fd, signo, &info, 0), EAGAIN);
  close(fd);
  EXPECT_EQ(queue(c), 0) << "another user's";
  EXPECT_EQ(kill(a, signo), 0) << "never refused, only not counted";
  s->end = 1;
  EXPECT_EQ(WEXITSTATUS(status_of(a)), 7);
  EXPECT_EQ(WEXITSTATUS(status_of(b)), 3);
  EXPECT_EQ(WEXITSTATUS(status_of(c)), 1);
}

TEST(Vfork, AStoppedChildHoldsItsParent) {
  auto* word = shared<std::atomic<int>>();
  pid_t parent = child([&] {
    pid_t p = vfork();
    if (p == 0) {
      *word = static_cast<int>(syscall(SYS_getpid));
      syscall(SYS_kill, word->load(), SIGSTOP);
      _exit(4);
    }
    EXPECT_EQ(status_of(p), 4 << 8);
    *word = -1;
  });
  eventually([&] { return *word > 0; });
  usleep(20000);
  EXPECT_GT(*word, 0);  // the parent has not gone on
  const pid_t stopped = *word;
  eventually([&] {
    kill(stopped, SIGCONT);  // again, should it not have stopped yet
    return *word == -1;
  });
  EXPECT_EQ(status_of(parent), 0);
  EXPECT_EQ(*word, -1);
}

TEST(Vfork, AKilledParentLeavesItsChildAlone) {
  auto* word = shared<std::atomic<int>>();
  pid_t parent = child([&] {
    pid_t p = vfork();
    if (p == 0) {
      *word = 1;
      while (*word == 1) syscall(SYS_sched_yield);
      *word = 3;
      _exit(0);
    }
  });
  eventually([&] { return *word == 1; });
  kill(parent, SIGKILL);
  EXPECT_EQ(status_of(parent), SIGKILL);
  *word = 2;
  eventually([&] { return *word == 3; });
}

// ---- Locks ----

short lock_seen_by_others(int fd, short type) {
  short out = -1;
  auto* result = shared<std::atomic<short>>();
  EXPECT_EQ(in_child([&] {
    struct flock l = {};
    l.l_type = type;
    l.l_whence = SEEK_SET;
    EXPECT_EQ(fcntl(fd, F_GETLK, &l), 0);
    *result = l.l_type;
  }), 0);
  out = *result;
  munmap(result, kPage);
  return out;
}
int set_lock(int fd, short type, int cmd = F_SETLK) {
  struct flock l = {};
  l.l_type = type;
  l.l_whence = SEEK_SET;
  return fcntl(fd, cmd, &l);
}
int temporary() {
  char name[] = "/tmp/corners.XXXXXX";
  int fd = mkstemp(name);
  EXPECT_GE(fd, 0);
  unlink(name);
  return fd;
}

TEST(Locks, OfAProcessGoWithAnyOfItsDescriptors) {
  int a = temporary(), b = dup(a);
  EXPECT_EQ(set_lock(a, F_WRLCK), 0);
  EXPECT_EQ(lock_seen_by_others(a, F_WRLCK), F_WRLCK);
  close(b);
  EXPECT_EQ(lock_seen_by_others(a, F_WRLCK), F_UNLCK);
  // Those of a description stay until its last descriptor has gone.
  b = dup(a);
  EXPECT_EQ(set_lock(a, F_WRLCK, F_OFD_SETLK), 0);
  close(b);
  EXPECT_EQ(lock_seen_by_others(a, F_WRLCK), F_WRLCK);
  close(a);
}

TEST(Locks, AreKeptOverExecAndNotInheritedByFork) {
  int fd = temporary();
  Pipe up, down;
  pid_t p = child([&] {
    EXPECT_EQ(set_lock(fd, F_WRLCK), 0);
    EXPECT_EQ(lock_seen_by_others(fd, F_WRLCK), F_WRLCK);  // a child is another owner
    dup2(down.r, 0);
    dup2(up.w, 1);
    setenv("CORNERS_ECHO", "1", 1);
    execl(self(), "x", "--gtest_filter=Locks.IsAProgram", nullptr);
    _exit(127);
  });
  close(up.w);
  up.w = -1;
  // It says something once it is the other program.
  EXPECT_FALSE(up.get().empty());
  EXPECT_EQ(set_lock(fd, F_WRLCK), -1);
  down.put("x");
  while (!up.get().empty()) {}
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(set_lock(fd, F_WRLCK), 0);
  close(fd);
}
TEST(Locks, IsAProgram) {
  if (!getenv("CORNERS_ECHO")) return;
  char c;
  EXPECT_EQ(write(1, "here", 4), 4);
  EXPECT_EQ(read(0, &c, 1), 1);
}

TEST(Locks, TwoThatWaitForEachOther) {
  int fd = temporary();
  auto at = [&](off_t start, short type, int cmd) {
    struct flock l = {};
    l.l_type = type;
    l.l_whence = SEEK_SET;
    l.l_start = start;
    l.l_len = 1;
    return fcntl(fd, cmd, &l);
  };
  Pipe ready, go;
  auto* told = shared<std::atomic<int>>();
  pid_t p = child([&] {
    EXPECT_EQ(at(1, F_WRLCK, F_SETLK), 0);
    ready.put("x");
    EXPECT_EQ(go.get(), "x");
    if (at(0, F_WRLCK, F_SETLKW) != 0) {
      EXPECT_EQ(errno, EDEADLK);
      (*told)++;
    }
  });
  EXPECT_EQ(at(0, F_WRLCK, F_SETLK), 0);
  EXPECT_EQ(ready.get(), "x");
  go.put("x");
  // Whichever of the two comes second is told, and gives way.
  if (at(1, F_WRLCK, F_SETLKW) != 0) {
    EXPECT_EQ(errno, EDEADLK);
    (*told)++;
  }
  EXPECT_EQ(at(0, F_UNLCK, F_SETLK), 0);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(*told, 1);
  close(fd);
}

// ---- mremap ----

TEST(Mremap, AnOldSizeOfZeroMakesASecondMappingOfSharedMemoryOnly) {
  auto* a = static_cast<char*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(a, MAP_FAILED);
  a[0] = 'a';
  a[kPage] = 'b';
  auto* b = static_cast<char*>(mremap(a, 0, 2 * kPage, MREMAP_MAYMOVE));
  ASSERT_NE(b, MAP_FAILED) << strerror(errno);
  EXPECT_NE(a, b);
  EXPECT_EQ(b[0], 'a');
  b[kPage] = 'c';
  EXPECT_EQ(a[kPage], 'c');
  EXPECT_EQ(mremap(a, 0, kPage, 0), MAP_FAILED);
  munmap(a, 2 * kPage);
  EXPECT_EQ(b[0], 'a');
  munmap(b, 2 * kPage);
  auto* own = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_EQ(mremap(own, 0, kPage, MREMAP_MAYMOVE), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  munmap(own, kPage);
}

TEST(Mremap, PastTheEndOfTheFileIsSigbus) {
  int fd = temporary();
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(kPage)), 0);
  auto* a = static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  a = static_cast<char*>(mremap(a, kPage, 3 * kPage, MREMAP_MAYMOVE));
  ASSERT_NE(a, MAP_FAILED);
  a[0] = 1;
  EXPECT_EQ(in_child([&] { a[2 * kPage] = 1; }), SIGBUS);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(3 * kPage)), 0);
  EXPECT_EQ(in_child([&] { a[2 * kPage] = 7; }), 0);
  EXPECT_EQ(a[2 * kPage], 7);
  munmap(a, 3 * kPage);
  close(fd);
}

// ---- splice, tee, vmsplice ----

TEST(Splice, WhatCannotBe) {
  Pipe p, q;
  int f = temporary();
  EXPECT_EQ(ftruncate(f, 100), 0);
  p.put("some");
  loff_t at = 0;
  EXPECT_ERRNO(splice(f, nullptr, f, nullptr, 1, 0), EINVAL);
  EXPECT_ERRNO(splice(p.r, nullptr, p.w, nullptr, 1, 0), EINVAL);
  EXPECT_ERRNO(splice(p.w, nullptr, f, nullptr, 1, 0), EBADF);
  EXPECT_ERRNO(splice(p.r, &at, f, nullptr, 1, 0), ESPIPE);
  EXPECT_ERRNO(splice(p.r, nullptr, f, nullptr, 1, 0x80), EINVAL);
  EXPECT_ERRNO(splice(-1, nullptr, f, nullptr, 1, 0), EBADF);
  at = -1;
  EXPECT_ERRNO(splice(p.r, nullptr, f, &at, 1, 0), EINVAL);
  EXPECT_EQ(splice(p.r, nullptr, f, nullptr, 0, 0), 0);
  int flags = fcntl(f, F_GETFL);
  EXPECT_EQ(fcntl(f, F_SETFL, flags | O_APPEND), 0);
  EXPECT_ERRNO(splice(p.r, nullptr, f, nullptr, 1, 0), EINVAL);
  EXPECT_EQ(fcntl(f, F_SETFL, flags), 0);
  EXPECT_ERRNO(tee(p.r, f, 1, 0), EINVAL);
  EXPECT_ERRNO(tee(p.r, p.w, 1, 0), EINVAL);
  EXPECT_ERRNO(tee(p.r, q.w, 1, 0x80), EINVAL);
  iovec v{nullptr, 1};
  EXPECT_ERRNO(vmsplice(f, &v, 1, 0), EBADF);
  EXPECT_ERRNO(vmsplice(q.w, &v, 1, 0), EFAULT);
  EXPECT_ERRNO(vmsplice(q.w, &v, 1, 0x80), EINVAL);
  EXPECT_EQ(p.get(), "some");
  close(f);
}

TEST(Splice, EndsAndEmptiness) {
  Pipe p, q;
  EXPECT_ERRNO(tee(p.r, q.w, 10, SPLICE_F_NONBLOCK), EAGAIN);
  EXPECT_ERRNO(splice(p.r, nullptr, q.w, nullptr, 10, SPLICE_F_NONBLOCK), EAGAIN);
  p.put("twice");
  EXPECT_EQ(tee(p.r, q.w, 3, 0), 3);
  EXPECT_EQ(q.get(), "twi");
  EXPECT_EQ(splice(p.r, nullptr, q.w, nullptr, 100, 0), 5);
  EXPECT_EQ(q.get(), "twice");
  close(p.w);
  p.w = -1;
  EXPECT_EQ(splice(p.r, nullptr, q.w, nullptr, 10, 0), 0);
  EXPECT_EQ(tee(p.r, q.w, 10, 0), 0);
  // Nobody will read it.
  EXPECT_EQ(in_child([] {
    Pipe a, b;
    a.put("x");
    close(b.r);
    signal(SIGPIPE, SIG_IGN);
    EXPECT_ERRNO(splice(a.r, nullptr, b.w, nullptr, 1, 0), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    (void)splice(a.r, nullptr, b.w, nullptr, 1, 0);
  }), SIGPIPE);
}

// ---- Timers ----

TEST(Timers, WhatASignalMissesIsCounted) {
  EXPECT_EQ(in_child([] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    sigevent e = {};
    e.sigev_notify = SIGEV_SIGNAL;
    e.sigev_signo = SIGRTMIN;
    e.sigev_value.sival_int = 77;
    timer_t t;
    ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &e, &t), 0);
    itimerspec often = {{0, 1000000}, {0, 1000000}}, off = {}, left = {};
    ASSERT_EQ(timer_settime(t, 0, &often, nullptr), 0);
    usleep(50000);
    siginfo_t info = {};
    ASSERT_EQ(sigwaitinfo(&set, &info), SIGRTMIN);
    EXPECT_EQ(info.si_code, SI_TIMER);
    EXPECT_EQ(info.si_value.sival_int, 77);
    EXPECT_GE(info.si_overrun, 20);  // one signal stands for all of them
    EXPECT_EQ(timer_getoverrun(t), info.si_overrun);
    ASSERT_EQ(timer_settime(t, 0, &off, nullptr), 0);
    EXPECT_EQ(timer_gettime(t, &left), 0);
    EXPECT_EQ(left.it_value.tv_nsec, 0);
    EXPECT_EQ(left.it_interval.tv_nsec, 0);
    EXPECT_EQ(timer_delete(t), 0);
    EXPECT_ERRNO(timer_getoverrun(t), EINVAL);
    e.sigev_signo = 65;
    EXPECT_ERRNO(timer_create(CLOCK_MONOTONIC, &e, &t), EINVAL);
    e.sigev_signo = SIGRTMIN;
    EXPECT_ERRNO(timer_create(77, &e, &t), EINVAL);
    EXPECT_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, nullptr), EFAULT);
  }), 0);
}

TEST(Timers, AreNotInheritedAndGoWithExec) {
  EXPECT_EQ(in_child([] {
    sigevent e = {};
    e.sigev_notify = SIGEV_NONE;
    int id = -1;
    ASSERT_EQ(syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &id), 0);
    itimerspec x;
    EXPECT_EQ(syscall(SYS_timer_gettime, id, &x), 0);
    EXPECT_EQ(in_child([&] { EXPECT_ERRNO(syscall(SYS_timer_gettime, id, &x), EINVAL); }), 0);
  }), 0);
}

// ---- pidfds ----

int pidfd(pid_t p, unsigned flags = 0) { return static_cast<int>(syscall(SYS_pidfd_open, p, flags)); }

TEST(Pidfd, StaysWithTheProcessOverExecAndTellsItsEnd) {
  Pipe up, down;
  pid_t p = child([&] {
    dup2(down.r, 0);
    dup2(up.w, 1);
    setenv("CORNERS_ECHO", "1", 1);
    execl(self(), "x", "--gtest_filter=Locks.IsAProgram", nullptr);
    _exit(127);
  });
  int fd = pidfd(p);
  ASSERT_GE(fd, 0) << strerror(errno);
  close(up.w);
  up.w = -1;
  EXPECT_FALSE(up.get().empty());
  pollfd f{fd, POLLIN, 0};
  EXPECT_EQ(poll(&f, 1, 0), 0);
  EXPECT_EQ(syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0), 0);
  siginfo_t info = {};
  EXPECT_EQ(waitid(static_cast<idtype_t>(3) /* P_PIDFD */, static_cast<id_t>(fd), &info, WEXITED | WNOHANG), 0);
  EXPECT_EQ(info.si_pid, 0);
  down.put("x");
  EXPECT_EQ(poll(&f, 1, 30000), 1);
  EXPECT_EQ(syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0), 0);  // not reaped yet
  EXPECT_EQ(waitid(static_cast<idtype_t>(3), static_cast<id_t>(fd), &info, WEXITED), 0);
  EXPECT_EQ(info.si_pid, p);
  EXPECT_EQ(info.si_status, 0);
  EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0), ESRCH);
  EXPECT_ERRNO(waitid(static_cast<idtype_t>(3), static_cast<id_t>(fd), &info, WEXITED), ECHILD);
  char c;
  EXPECT_ERRNO(read(fd, &c, 1), EINVAL);
  close(fd);
}

TEST(Pidfd, OneThatDoesNotBlock) {
  Pipe go;
  pid_t p = child([&] { go.get(); });
  int fd = pidfd(p, O_NONBLOCK);
  ASSERT_GE(fd, 0) << strerror(errno);
  siginfo_t info = {};
  EXPECT_ERRNO(waitid(static_cast<idtype_t>(3), static_cast<id_t>(fd), &info, WEXITED), EAGAIN);
  go.put("x");
  pollfd f{fd, POLLIN, 0};
  EXPECT_EQ(poll(&f, 1, 30000), 1);
  EXPECT_EQ(waitid(static_cast<idtype_t>(3), static_cast<id_t>(fd), &info, WEXITED), 0);
  close(fd);
  EXPECT_ERRNO(pidfd(p, 1), EINVAL);
  EXPECT_ERRNO(pidfd(-1), EINVAL);
  EXPECT_ERRNO(pidfd(0), EINVAL);
}

// ---- epolls in epolls ----

TEST(EpollInEpoll, EdgesAreSeenFromOutside) {
  int event = eventfd(0, EFD_NONBLOCK), inner = epoll_create1(0), outer = epoll_create1(0);
  epoll_event e = {};
  e.events = EPOLLIN | EPOLLET;
  EXPECT_EQ(epoll_ctl(inner, EPOLL_CTL_ADD, event, &e), 0);
  e.events = EPOLLIN;
  EXPECT_EQ(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e), 0);
  epoll_event out;
  EXPECT_EQ(epoll_wait(outer, &out, 1, 0), 0);
  uint64_t one = 1;
  EXPECT_EQ(write(event, &one, 8), 8);
  EXPECT_EQ(epoll_wait(outer, &out, 1, 0), 1);
  EXPECT_EQ(epoll_wait(outer, &out, 1, 0), 1);  // a look from outside takes nothing
  EXPECT_EQ(epoll_wait(inner, &out, 1, 0), 1);
  EXPECT_EQ(epoll_wait(outer, &out, 1, 0), 0);  // the edge has been told
  EXPECT_EQ(epoll_wait(inner, &out, 1, 0), 0);
  EXPECT_EQ(write(event, &one, 8), 8);  // another edge, although it was readable
  EXPECT_EQ(epoll_wait(outer, &out, 1, 0), 1);
  pollfd f{outer, POLLIN, 0};
  EXPECT_EQ(poll(&f, 1, 0), 1);
  close(event);
  EXPECT_EQ(epoll_wait(outer, &out, 1, 0), 0);
  close(inner);
  close(outer);
}

TEST(EpollInEpoll, OneShotIsArmedAgainByModAndStaysSilentBefore) {
  int event = eventfd(1, EFD_NONBLOCK), ep = epoll_create1(0);
  epoll_event e = {}, out;
  e.events = EPOLLIN | EPOLLONESHOT;
  EXPECT_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, event, &e), 0);
  EXPECT_EQ(epoll_wait(ep, &out, 1, 0), 1);
  EXPECT_EQ(epoll_wait(ep, &out, 1, 0), 0);
  uint64_t one = 1;
  EXPECT_EQ(write(event, &one, 8), 8);
  EXPECT_EQ(epoll_wait(ep, &out, 1, 0), 0);
  EXPECT_EQ(epoll_ctl(ep, EPOLL_CTL_MOD, event, &e), 0);
  EXPECT_EQ(epoll_wait(ep, &out, 1, 0), 1);
  e.events = EPOLLIN | EPOLLEXCLUSIVE;
  EXPECT_ERRNO(epoll_ctl(ep, EPOLL_CTL_MOD, event, &e), EINVAL);
  EXPECT_ERRNO(epoll_ctl(ep, EPOLL_CTL_ADD, event, &e), EEXIST);
  EXPECT_EQ(epoll_ctl(ep, EPOLL_CTL_DEL, event, nullptr), 0);
  e.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
  EXPECT_ERRNO(epoll_ctl(ep, EPOLL_CTL_ADD, event, &e), EINVAL);
  close(ep);
  close(event);
}

// The watch is of the description: it outlives the number that it was made by.
TEST(EpollInEpoll, AWatchLivesAsLongAsAnyDescriptor) {
  int event = eventfd(1, 0), other = dup(event), ep = epoll_create1(0);
  epoll_event e = {}, out;
  e.events = EPOLLIN;
  e.data.u32 = 5;
  EXPECT_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, event, &e), 0);
  EXPECT_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, other, &e), 0);  // another number is another watch
  close(event);
  epoll_event two[3];
  EXPECT_EQ(epoll_wait(ep, two, 3, 0), 2);
  EXPECT_ERRNO(epoll_ctl(ep, EPOLL_CTL_DEL, event, nullptr), EBADF);
  close(other);
  EXPECT_EQ(epoll_wait(ep, &out, 1, 0), 0);
  close(ep);
}

// ---- setns ----

TEST(Setns, APidNamespaceIsForChildren) {
  Pipe up, down;
  pid_t first = child([&] {
    ASSERT_EQ(unshare(CLONE_NEWPID), 0) << strerror(errno);
    pid_t init = fork();
    if (init == 0) {
      up.put("x");
      down.get();
      _exit(0);
    }
    EXPECT_EQ(status_of(init), 0);
    EXPECT_EQ(fork(), -1);  // the namespace has died with its init
    EXPECT_EQ(errno, ENOMEM);
  });
  close(up.w);
  up.w = -1;
  ASSERT_EQ(up.get(), "x");
  int fd = pidfd(first);
  EXPECT_EQ(in_child([&] {
    pid_t before = getpid();
    EXPECT_ERRNO(setns(fd, CLONE_FILES), EINVAL);
    EXPECT_ERRNO(setns(fd, 0), EINVAL);
    EXPECT_EQ(setns(fd, CLONE_NEWPID), 0) << strerror(errno);  // the one that `first` itself is in: ours
    EXPECT_EQ(getpid(), before);
    EXPECT_EQ(in_child([&] { EXPECT_GT(getpid(), 2); }), 0);
    int eventfd_file = eventfd(0, 0);
    EXPECT_ERRNO(setns(eventfd_file, 0), EINVAL);
    EXPECT_ERRNO(setns(-1, 0), EBADF);
  }), 0);
  down.put("x");
  EXPECT_EQ(status_of(first), 0);
  close(fd);
}

TEST(Sendfile, NeedsAPositionUnlessItGoesIntoAPipe) {
  Pipe from(O_NONBLOCK), to(O_NONBLOCK);
  int a[2], b[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
  from.put("ab");
  ASSERT_EQ(write(a[0], "cd", 2), 2);
  EXPECT_ERRNO(sendfile(b[0], from.r, nullptr, 2), EINVAL);
  EXPECT_ERRNO(sendfile(to.w, from.r, nullptr, 2), EINVAL);
  EXPECT_ERRNO(sendfile(b[0], a[1], nullptr, 2), EINVAL);
  off_t at = 0;
  EXPECT_ERRNO(sendfile(to.w, from.r, &at, 2), ESPIPE);
  EXPECT_EQ(sendfile(to.w, a[1], nullptr, 2), 2);
  EXPECT_EQ(to.get(), "cd");
  EXPECT_EQ(from.get(), "ab") << "nothing was taken";
  for (int fd : {a[0], a[1], b[0], b[1]}) close(fd);
}

// ---- Seals and writers ----

// Once F_ADD_SEALS has answered nothing changes any more, whoever was about to write.
TEST(Seals, NobodyWritesAfterTheSealIsThere) {
  for (int round = 0; round < 4; round++) {
    int fd = static_cast<int>(syscall(SYS_memfd_create, "sealed", MFD_ALLOW_SEALING));
    ASSERT_GE(fd, 0) << strerror(errno);
    std::atomic<int> began{0};
    auto writer = [&] {
      for (uint64_t n = 1;; n++) {
        if (pwrite(fd, &n, sizeof n, 0) < 0) {
          EXPECT_EQ(errno, EPERM);
          return;
        }
        if (n == 3) began++;
      }
    };
    std::thread a(writer), b(writer);
    eventually([&] { return began == 2; });
    EXPECT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0) << strerror(errno);
    uint64_t before = 0, after = 0;
    EXPECT_EQ(pread(fd, &before, sizeof before, 0), 8);
    a.join();
    b.join();
    EXPECT_EQ(pread(fd, &after, sizeof after, 0), 8);
    EXPECT_EQ(before, after);
    EXPECT_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EPERM);
    close(fd);
  }
}

// ---- Names that move while a path is walked ----

// A directory is moved out of the place that openat2(2) must not leave while it is walked: ".." finds its way, or says "again", or that it
// would lead out. It never does.
TEST(Openat2, DotsDoNotLeadOutOfWhatIsMoved) {
  char top[] = "/tmp/corners.XXXXXX";
  ASSERT_NE(mkdtemp(top), nullptr);
  const std::string base = top;
  for (const char* d : {"/t", "/t/root", "/t/root/a", "/t/root/a/b"}) ASSERT_EQ(mkdir((base + d).c_str(), 0755), 0);
  std::ofstream(base + "/file") << "outside";
  std::ofstream(base + "/t/root/file") << "inside";
  std::atomic<bool> end{false};
  std::thread mover([&] {
    const std::string in = base + "/t/root/a/b", out = base + "/t/x";
    while (!end) {
      EXPECT_EQ(rename(in.c_str(), out.c_str()), 0);
      EXPECT_EQ(rename(out.c_str(), in.c_str()), 0);
    }
  });
  int root = open((base + "/t/root").c_str(), O_PATH | O_DIRECTORY);
  for (uint64_t resolve : {0x08 /* RESOLVE_BENEATH */, 0x10 /* RESOLVE_IN_ROOT */}) {
    const uint64_t how[3] = {O_RDONLY, 0, resolve};
    for (int i = 0; i < 200; i++) {
      int fd = static_cast<int>(syscall(SYS_openat2, root, "a/b/../../file", how, sizeof how));
      if (fd < 0) {
        EXPECT_TRUE(errno == EAGAIN || errno == EXDEV || errno == ENOENT) << strerror(errno);
        continue;
      }
      char b[16] = {};
      EXPECT_TRUE(read(fd, b, sizeof b) == 6 && strcmp(b, "inside") == 0) << b;
      close(fd);
    }
  }
  end = true;
  mover.join();
  for (const char* f : {"/file", "/t/root/file"}) unlink((base + f).c_str());
  for (const char* d : {"/t/root/a/b", "/t/root/a", "/t/root", "/t", ""}) EXPECT_EQ(rmdir((base + d).c_str()), 0);
  close(root);
}

}  // namespace
