// SPDX-License-Identifier: Apache-2.0
// POSIX message queues. Passes on Linux first, then in the sandbox.
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <string>
#include <thread>

#include "tests/syscalls/checks.h"

namespace {

std::string fresh_name() {
  static int n = 0;
  return "/caisson-" + std::to_string(getpid()) + "-" + std::to_string(n++);
}

// A queue that goes with its object.
struct Queue {
  std::string name = fresh_name();
  mqd_t fd;
  explicit Queue(long messages = 4, long size = 64, int flags = O_RDWR, mode_t mode = 0600) {
    mq_attr a{};
    a.mq_maxmsg = messages;
    a.mq_msgsize = size;
    fd = mq_open(name.c_str(), flags | O_CREAT | O_EXCL, mode, &a);
    EXPECT_GE(fd, 0) << strerror(errno);
  }
  ~Queue() {
    mq_close(fd);
    mq_unlink(name.c_str());
  }
  int send(const std::string& text, unsigned priority = 0) const { return mq_send(fd, text.data(), text.size(), priority); }
  std::string receive(unsigned* priority = nullptr) const {
    char buf[8192];
    ssize_t n = mq_receive(fd, buf, sizeof buf, priority);
    return n < 0 ? std::string("error ") + strerror(errno) : std::string(buf, static_cast<size_t>(n));
  }
  mq_attr attr() const {
    mq_attr a{};
    EXPECT_EQ(mq_getattr(fd, &a), 0);
    return a;
  }
  void nonblock(bool on) const {
    mq_attr a{};
    a.mq_flags = on ? O_NONBLOCK : 0;
    EXPECT_EQ(mq_setattr(fd, &a, nullptr), 0);
  }
};

timespec in_ms(long ms) {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  t.tv_nsec += ms % 1000 * 1000000;
  t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  return t;
}
void sleep_ms(long ms) {
  timespec t{ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) != 0) {}
}

TEST(Mqueue, OpenCreateExclUnlink) {
  std::string name = fresh_name();
  EXPECT_ERRNO(mq_open(name.c_str(), O_RDWR), ENOENT);
  mqd_t q = mq_open(name.c_str(), O_RDWR | O_CREAT, 0600, nullptr);
  ASSERT_GE(q, 0) << strerror(errno);
  EXPECT_ERRNO(mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600, nullptr), EEXIST);
  mqd_t again = mq_open(name.c_str(), O_RDONLY);
  EXPECT_GE(again, 0);
  EXPECT_EQ(fcntl(q, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(mq_unlink(name.c_str()), 0);
  EXPECT_ERRNO(mq_unlink(name.c_str()), ENOENT);
  EXPECT_ERRNO(mq_open(name.c_str(), O_RDWR), ENOENT);
  // The queue itself lives as long as somebody has it open.
  EXPECT_EQ(mq_send(q, "x", 1, 0), 0);
  char buf[8192];
  EXPECT_EQ(mq_receive(again, buf, sizeof buf, nullptr), 1);
  EXPECT_EQ(mq_close(q), 0);
  EXPECT_EQ(mq_close(again), 0);
  EXPECT_ERRNO(mq_close(q), EBADF);
}

TEST(Mqueue, Names) {
  auto raw_open = [](const char* name) { return syscall(SYS_mq_open, name, O_RDWR | O_CREAT, 0600, nullptr); };
  EXPECT_ERRNO(raw_open(""), ENOENT);
  EXPECT_ERRNO(raw_open("/a"), EACCES);
  EXPECT_ERRNO(raw_open("a/b"), EACCES);
  EXPECT_ERRNO(raw_open("."), EACCES);
  EXPECT_ERRNO(raw_open(".."), EACCES);
  EXPECT_ERRNO(raw_open(std::string(256, 'n').c_str()), ENAMETOOLONG);
  EXPECT_ERRNO(raw_open(nullptr), EFAULT);
  std::string longest(255, 'n');
  long q = raw_open(longest.c_str());
  EXPECT_GE(q, 0);
  close(static_cast<int>(q));
  EXPECT_EQ(syscall(SYS_mq_unlink, longest.c_str()), 0);
  EXPECT_ERRNO(syscall(SYS_mq_unlink, "a/b"), EACCES);
  EXPECT_ERRNO(syscall(SYS_mq_unlink, nullptr), EFAULT);
}

TEST(Mqueue, AttributesAreKept) {
  Queue q(3, 100);
  mq_attr a = q.attr();
  EXPECT_EQ(a.mq_maxmsg, 3);
  EXPECT_EQ(a.mq_msgsize, 100);
  EXPECT_EQ(a.mq_curmsgs, 0);
  EXPECT_EQ(a.mq_flags, 0);
  EXPECT_EQ(q.send("1"), 0);
  EXPECT_EQ(q.send("2"), 0);
  EXPECT_EQ(q.attr().mq_curmsgs, 2);
  mq_attr next{}, old{};
  next.mq_flags = O_NONBLOCK;
  next.mq_maxmsg = 9;
  next.mq_msgsize = 9;
  EXPECT_EQ(mq_setattr(q.fd, &next, &old), 0);
  EXPECT_EQ(old.mq_flags, 0);
  EXPECT_EQ(q.attr().mq_flags, O_NONBLOCK);
  EXPECT_EQ(q.attr().mq_maxmsg, 3);
  EXPECT_EQ(fcntl(q.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  next.mq_flags = O_NONBLOCK | O_APPEND;
  EXPECT_ERRNO(mq_setattr(q.fd, &next, nullptr), EINVAL);
  EXPECT_ERRNO(mq_getattr(-1, &a), EBADF);
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  EXPECT_ERRNO(mq_getattr(fds[0], &a), EBADF);
  EXPECT_ERRNO(mq_send(fds[1], "", 0, 0), EBADF);
  close(fds[0]);
  close(fds[1]);
}

TEST(Mqueue, DefaultAttributes) {
  std::string name = fresh_name();
  mqd_t q = mq_open(name.c_str(), O_RDWR | O_CREAT | O_NONBLOCK, 0600, nullptr);
  ASSERT_GE(q, 0);
  mq_attr a{};
  EXPECT_EQ(mq_getattr(q, &a), 0);
  EXPECT_EQ(a.mq_maxmsg, 10);
  EXPECT_EQ(a.mq_msgsize, 8192);
  EXPECT_EQ(a.mq_flags, O_NONBLOCK);
  mq_close(q);
  mq_unlink(name.c_str());
}

TEST(Mqueue, BadAttributesAreEinval) {
  auto open_with = [](long messages, long size) {
    mq_attr a{};
    a.mq_maxmsg = messages;
    a.mq_msgsize = size;
    return mq_open("/caisson-bad", O_RDWR | O_CREAT, 0600, &a);
  };
  EXPECT_ERRNO(open_with(0, 64), EINVAL);
  EXPECT_ERRNO(open_with(4, 0), EINVAL);
  EXPECT_ERRNO(open_with(-1, 64), EINVAL);
  EXPECT_ERRNO(open_with(65537, 1), EINVAL);
  EXPECT_ERRNO(open_with(1, (16 << 20) + 1), EINVAL);
  EXPECT_ERRNO(mq_open("/caisson-bad", O_RDONLY), ENOENT);
  EXPECT_ERRNO(syscall(SYS_mq_open, "caisson-bad", O_RDWR | O_CREAT, 0600, 8), EFAULT);
}

TEST(Mqueue, HighestPriorityFirstThenOldest) {
  Queue q(6);
  EXPECT_EQ(q.send("low 1", 1), 0);
  EXPECT_EQ(q.send("high 1", 9), 0);
  EXPECT_EQ(q.send("low 2", 1), 0);
  EXPECT_EQ(q.send("high 2", 9), 0);
  EXPECT_EQ(q.send("most", 32767), 0);
  unsigned p = 0;
  EXPECT_EQ(q.receive(&p), "most");
  EXPECT_EQ(p, 32767u);
  EXPECT_EQ(q.receive(&p), "high 1");
  EXPECT_EQ(p, 9u);
  EXPECT_EQ(q.receive(), "high 2");
  EXPECT_EQ(q.receive(), "low 1");
  EXPECT_EQ(q.receive(&p), "low 2");
  EXPECT_EQ(p, 1u);
  EXPECT_ERRNO(mq_send(q.fd, "x", 1, 32768), EINVAL);
}

TEST(Mqueue, Lengths) {
  Queue q(4, 8);
  EXPECT_EQ(q.send(""), 0);
  EXPECT_EQ(q.receive(), "");
  EXPECT_EQ(q.send("12345678"), 0);
  EXPECT_ERRNO(mq_send(q.fd, "123456789", 9, 0), EMSGSIZE);
  char buf[8];
  EXPECT_ERRNO(mq_receive(q.fd, buf, 7, nullptr), EMSGSIZE);
  EXPECT_EQ(mq_receive(q.fd, buf, 8, nullptr), 8);
  EXPECT_ERRNO(syscall(SYS_mq_timedsend, q.fd, nullptr, 4, 0, nullptr), EFAULT);
  EXPECT_EQ(q.attr().mq_curmsgs, 0);
}

TEST(Mqueue, AccessModes) {
  Queue q;
  mqd_t r = mq_open(q.name.c_str(), O_RDONLY), w = mq_open(q.name.c_str(), O_WRONLY);
  char buf[64];
  EXPECT_ERRNO(mq_send(r, "x", 1, 0), EBADF);
  EXPECT_ERRNO(mq_receive(w, buf, sizeof buf, nullptr), EBADF);
  EXPECT_EQ(mq_send(w, "x", 1, 0), 0);
  EXPECT_EQ(mq_receive(r, buf, sizeof buf, nullptr), 1);
  mq_close(r);
  mq_close(w);
  EXPECT_ERRNO(mq_open(q.name.c_str(), O_ACCMODE), EINVAL);
}

TEST(Mqueue, NonblockingIsEagain) {
  Queue q(2, 8);
  q.nonblock(true);
  EXPECT_EQ(q.receive(), std::string("error ") + strerror(EAGAIN));
  EXPECT_EQ(q.send("1"), 0);
  EXPECT_EQ(q.send("2"), 0);
  EXPECT_ERRNO(mq_send(q.fd, "3", 1, 0), EAGAIN);
}

TEST(Mqueue, Timeouts) {
  Queue q(1, 8);
  char buf[8];
  timespec past{1, 0}, soon = in_ms(60);
  EXPECT_ERRNO(mq_timedreceive(q.fd, buf, 8, nullptr, &past), ETIMEDOUT);
  timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  EXPECT_ERRNO(mq_timedreceive(q.fd, buf, 8, nullptr, &soon), ETIMEDOUT);
  clock_gettime(CLOCK_MONOTONIC, &after);
  EXPECT_GE((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000, 50);
  EXPECT_EQ(q.send("full"), 0);
  EXPECT_ERRNO(mq_timedsend(q.fd, "x", 1, 0, &past), ETIMEDOUT);
  soon = in_ms(20);
  EXPECT_ERRNO(mq_timedsend(q.fd, "x", 1, 0, &soon), ETIMEDOUT);
  // A time-out that is not needed is still looked at.
  timespec bad{0, 1000000000};
  EXPECT_ERRNO(mq_timedreceive(q.fd, buf, 8, nullptr, &bad), EINVAL);
  timespec negative{-1, 0};
  EXPECT_ERRNO(mq_timedreceive(q.fd, buf, 8, nullptr, &negative), EINVAL);
  EXPECT_EQ(mq_timedreceive(q.fd, buf, 8, nullptr, &past), 4);
}

TEST(Mqueue, SendWakesReceiver) {
  Queue q;
  std::string got;
  std::thread t([&] { got = q.receive(); });
  sleep_ms(30);
  EXPECT_EQ(q.send("wake"), 0);
  t.join();
  EXPECT_EQ(got, "wake");
  EXPECT_EQ(q.attr().mq_curmsgs, 0);
}

TEST(Mqueue, ReceiveWakesSender) {
  Queue q(1, 8);
  EXPECT_EQ(q.send("one", 1), 0);
  std::thread t([&] { EXPECT_EQ(q.send("two", 5), 0); });
  sleep_ms(30);
  EXPECT_EQ(q.receive(), "one");
  t.join();
  EXPECT_EQ(q.receive(), "two");
}

TEST(Mqueue, OtherProcess) {
  Queue q;
  pid_t p = child([&] {
    EXPECT_EQ(q.receive(), "to the child");
    EXPECT_EQ(q.send("from the child"), 0);
  });
  EXPECT_EQ(q.send("to the child"), 0);
  EXPECT_EQ(status_of(p), 0);
  EXPECT_EQ(q.receive(), "from the child");
}

std::atomic<int> alarms;
void on_alarm(int) { alarms++; }

TEST(Mqueue, SignalInterrupts) {
  Queue q;
  struct sigaction a{};
  a.sa_handler = on_alarm;
  sigaction(SIGALRM, &a, nullptr);
  alarms = 0;
  itimerval timer{{0, 0}, {0, 30000}};
  setitimer(ITIMER_REAL, &timer, nullptr);
  char buf[64];
  EXPECT_ERRNO(mq_receive(q.fd, buf, sizeof buf, nullptr), EINTR);
  EXPECT_EQ(alarms, 1);
  // With SA_RESTART it goes on.
  a.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &a, nullptr);
  setitimer(ITIMER_REAL, &timer, nullptr);
  timespec t = in_ms(120);
  EXPECT_ERRNO(mq_timedreceive(q.fd, buf, sizeof buf, nullptr, &t), ETIMEDOUT);
  EXPECT_EQ(alarms, 2);
}

TEST(Mqueue, Poll) {
  Queue q(1, 8);
  pollfd p{q.fd, POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLOUT);
  EXPECT_EQ(q.send("x"), 0);
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN);
  p.events = POLLOUT;
  std::thread t([&] {
    sleep_ms(20);
    q.receive();
  });
  EXPECT_EQ(poll(&p, 1, 2000), 1);
  EXPECT_EQ(p.revents, POLLOUT);
  t.join();
}

// ---- Notification ----

siginfo_t note;
std::atomic<int> notes;
void on_note(int, siginfo_t* i, void*) {
  note = *i;
  notes++;
}

struct Notified {
  Notified() {
    struct sigaction a{};
    a.sa_sigaction = on_note;
    a.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGUSR1, &a, nullptr);
    notes = 0;
    memset(&note, 0, sizeof note);
  }
  static int ask(mqd_t q, int notify = SIGEV_SIGNAL, int signo = SIGUSR1) {
    sigevent e{};
    e.sigev_notify = notify;
    e.sigev_signo = signo;
    e.sigev_value.sival_int = 77;
    return mq_notify(q, &e);
  }
};

TEST(MqueueNotify, SignalOnceWhenTheQueueWasEmpty) {
  Queue q;
  Notified n;
  EXPECT_EQ(n.ask(q.fd), 0);
  pid_t p = child([&] { EXPECT_EQ(q.send("x"), 0); });
  EXPECT_EQ(status_of(p), 0);
  for (int i = 0; i < 100 && notes == 0; i++) sleep_ms(5);
  EXPECT_EQ(notes, 1);
  EXPECT_EQ(note.si_code, SI_MESGQ);
  EXPECT_EQ(note.si_pid, p);
  EXPECT_EQ(note.si_uid, getuid());
  EXPECT_EQ(note.si_value.sival_int, 77);
  // The registration is gone.
  q.receive();
  EXPECT_EQ(q.send("y"), 0);
  EXPECT_EQ(notes, 1);
  // Nothing is told while there was something in it.
  EXPECT_EQ(n.ask(q.fd), 0);
  EXPECT_EQ(q.send("z"), 0);
  EXPECT_EQ(notes, 1);
  q.receive();
  q.receive();
  EXPECT_EQ(q.send("w"), 0);
  EXPECT_EQ(notes, 2);
}

TEST(MqueueNotify, AWaitingReceiverGoesFirst) {
  Queue q;
  Notified n;
  EXPECT_EQ(n.ask(q.fd), 0);
  std::thread t([&] { EXPECT_EQ(q.receive(), "x"); });
  sleep_ms(30);
  EXPECT_EQ(q.send("x"), 0);
  t.join();
  EXPECT_EQ(notes, 0);
  EXPECT_EQ(q.send("y"), 0);
  EXPECT_EQ(notes, 1);
}

TEST(MqueueNotify, OneProcessAtATime) {
  Queue q;
  Notified n;
  EXPECT_EQ(n.ask(q.fd), 0);
  EXPECT_ERRNO(n.ask(q.fd), EBUSY);
  EXPECT_EQ(in_child([&] {
    EXPECT_ERRNO(Notified::ask(q.fd), EBUSY);
    EXPECT_EQ(mq_notify(q.fd, nullptr), 0);  // not its own: nothing changes
    EXPECT_ERRNO(Notified::ask(q.fd), EBUSY);
  }), 0);
  EXPECT_EQ(mq_notify(q.fd, nullptr), 0);
  EXPECT_EQ(n.ask(q.fd), 0);
  // Any descriptor of the queue that this process closes takes the registration along.
  mqd_t other = mq_open(q.name.c_str(), O_RDONLY);
  mq_close(other);
  EXPECT_EQ(n.ask(q.fd), 0);
}

TEST(MqueueNotify, EndOfTheProcessUnregisters) {
  Queue q;
  EXPECT_EQ(in_child([&] { EXPECT_EQ(Notified::ask(q.fd), 0); }), 0);
  EXPECT_EQ(Notified::ask(q.fd), 0);
}

TEST(MqueueNotify, None) {
  Queue q;
  Notified n;
  EXPECT_EQ(n.ask(q.fd, SIGEV_NONE), 0);
  EXPECT_ERRNO(n.ask(q.fd), EBUSY);
  EXPECT_EQ(q.send("x"), 0);
  EXPECT_EQ(notes, 0);
  EXPECT_EQ(n.ask(q.fd), 0);
}

TEST(MqueueNotify, BadArguments) {
  Queue q;
  EXPECT_ERRNO(Notified::ask(q.fd, 17), EINVAL);
  EXPECT_ERRNO(Notified::ask(q.fd, SIGEV_SIGNAL, 65), EINVAL);
  EXPECT_ERRNO(Notified::ask(-1), EBADF);
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  EXPECT_ERRNO(Notified::ask(fds[0]), EBADF);
  EXPECT_ERRNO(syscall(SYS_mq_notify, q.fd, 8), EFAULT);
  sigevent e{};
  e.sigev_notify = SIGEV_THREAD;
  char cookie[32] = {};
  e.sigev_value.sival_ptr = cookie;
  e.sigev_signo = -1;
  EXPECT_ERRNO(syscall(SYS_mq_notify, q.fd, &e), EBADF);
  e.sigev_signo = fds[0];
  EXPECT_ERRNO(syscall(SYS_mq_notify, q.fd, &e), ENOTSOCK);
  int s = socket(AF_UNIX, SOCK_DGRAM, 0);
  e.sigev_signo = s;
  EXPECT_ERRNO(syscall(SYS_mq_notify, q.fd, &e), EINVAL);
  close(s);
  close(fds[0]);
  close(fds[1]);
}

std::atomic<int> thread_notes;
void on_thread(sigval v) { thread_notes += v.sival_int; }

TEST(MqueueNotify, Thread) {
  Queue q;
  sigevent e{};
  e.sigev_notify = SIGEV_THREAD;
  e.sigev_notify_function = on_thread;
  e.sigev_value.sival_int = 5;
  thread_notes = 0;
  ASSERT_EQ(mq_notify(q.fd, &e), 0) << strerror(errno);
  EXPECT_EQ(q.send("x"), 0);
  for (int i = 0; i < 200 && thread_notes == 0; i++) sleep_ms(5);
  EXPECT_EQ(thread_notes, 5);
  q.receive();
  ASSERT_EQ(mq_notify(q.fd, &e), 0);
  EXPECT_EQ(mq_notify(q.fd, nullptr), 0);  // the helper thread hears that it is over
  EXPECT_EQ(q.send("y"), 0);
  sleep_ms(30);
  EXPECT_EQ(thread_notes, 5);
}

// ---- Rights and limits ----

TEST(MqueueRights, Mode) {
  if (geteuid() != 0) GTEST_SKIP();
  mode_t old = umask(022);
  Queue q(2, 8, O_RDWR, 0666);
  umask(old);
  struct stat st{};
  EXPECT_EQ(fstat(q.fd, &st), 0);
  EXPECT_EQ(st.st_mode, S_IFREG | 0644u);
  EXPECT_EQ(st.st_size, 80);
  EXPECT_EQ(in_child([&] {
    ASSERT_EQ(setresgid(1234, 1234, 1234), 0);
    ASSERT_EQ(setresuid(1234, 1234, 1234), 0);
    EXPECT_ERRNO(mq_open(q.name.c_str(), O_RDWR), EACCES);
    EXPECT_ERRNO(mq_open(q.name.c_str(), O_WRONLY | O_CREAT, 0600, nullptr), EACCES);
    EXPECT_GE(mq_open(q.name.c_str(), O_RDONLY), 0);
    EXPECT_ERRNO(mq_unlink(q.name.c_str()), EACCES);
  }), 0);
  EXPECT_EQ(fchmod(q.fd, 0600), 0);
  EXPECT_EQ(fstat(q.fd, &st), 0);
  EXPECT_EQ(st.st_mode, S_IFREG | 0600u);
}

TEST(MqueueRights, PlainUsersHaveSmallLimits) {
  if (geteuid() != 0) GTEST_SKIP();
  EXPECT_EQ(in_child([&] {
    ASSERT_EQ(setresuid(1235, 1235, 1235), 0);
    auto open_with = [](long messages, long size) {
      mq_attr a{};
      a.mq_maxmsg = messages;
      a.mq_msgsize = size;
      return mq_open("/caisson-limits", O_RDWR | O_CREAT, 0600, &a);
    };
    EXPECT_ERRNO(open_with(11, 64), EINVAL);
    EXPECT_ERRNO(open_with(10, 8193), EINVAL);
    mqd_t q = open_with(10, 8192);
    EXPECT_GE(q, 0) << strerror(errno);
    mq_close(q);
    EXPECT_EQ(mq_unlink("/caisson-limits"), 0);
  }), 0);
}

TEST(MqueueRights, RlimitCountsBytes) {
  EXPECT_EQ(in_child([&] {
    EXPECT_TRUE(geteuid() != 0 || setresuid(1236, 1236, 1236) == 0);
    rlimit r{40000, 40000};
    ASSERT_EQ(setrlimit(RLIMIT_MSGQUEUE, &r), 0);
    mq_attr a{};
    a.mq_maxmsg = 10;
    a.mq_msgsize = 8192;
    EXPECT_ERRNO(mq_open("/caisson-bytes", O_RDWR | O_CREAT, 0600, &a), EMFILE);
    a.mq_msgsize = 2048;
    mqd_t first = mq_open("/caisson-bytes", O_RDWR | O_CREAT, 0600, &a);
    EXPECT_GE(first, 0) << strerror(errno);
    EXPECT_ERRNO(mq_open("/caisson-bytes-2", O_RDWR | O_CREAT, 0600, &a), EMFILE);
    // They come back with the queue, not with its name.
    EXPECT_EQ(mq_unlink("/caisson-bytes"), 0);
    EXPECT_ERRNO(mq_open("/caisson-bytes-2", O_RDWR | O_CREAT, 0600, &a), EMFILE);
    mq_close(first);
    mqd_t second = mq_open("/caisson-bytes-2", O_RDWR | O_CREAT, 0600, &a);
    EXPECT_GE(second, 0) << strerror(errno);
    EXPECT_EQ(mq_unlink("/caisson-bytes-2"), 0);
  }), 0);
}

TEST(MqueueRights, DescriptorTextAndSeek) {
  Queue q;
  q.send("12345");
  char buf[200] = {};
  ssize_t n = pread(q.fd, buf, sizeof buf - 1, 0);
  EXPECT_GT(n, 0);
  EXPECT_STREQ(buf, "QSIZE:5          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n");
  EXPECT_ERRNO(write(q.fd, "x", 1), EINVAL);
}

TEST(MqueueNamespace, HasQueuesOfItsOwn) {
  if (geteuid() != 0) GTEST_SKIP();
  Queue q;
  EXPECT_EQ(in_child([&] {
    if (unshare(CLONE_NEWIPC) != 0) return;  // without CAP_SYS_ADMIN
    EXPECT_ERRNO(mq_open(q.name.c_str(), O_RDWR), ENOENT);
    mqd_t own = mq_open(q.name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600, nullptr);
    EXPECT_GE(own, 0);
    EXPECT_EQ(mq_send(own, "x", 1, 0), 0);
    // What was open still works.
    EXPECT_EQ(q.send("from another namespace"), 0);
  }), 0);
  EXPECT_EQ(q.receive(), "from another namespace");
}

TEST(MqueueNamespace, IsAFileSystem) {
  if (geteuid() != 0) GTEST_SKIP();
  Queue q;
  EXPECT_EQ(in_child([&] {
    if (unshare(CLONE_NEWNS) != 0) return;
    mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    std::string dir = "/tmp/mq" + std::to_string(getpid());
    mkdir(dir.c_str(), 0700);
    if (mount("mqueue", dir.c_str(), "mqueue", 0, nullptr) != 0) {
      EXPECT_EQ(errno, ENODEV);  // a sandbox without file systems
      rmdir(dir.c_str());
      return;
    }
    struct stat st{};
    EXPECT_EQ(stat((dir + q.name).c_str(), &st), 0);
    EXPECT_EQ(stat(dir.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode, S_IFDIR | 01777u);
    // A file made here is a queue.
    int fd = open((dir + "/made").c_str(), O_RDWR | O_CREAT, 0600);
    EXPECT_GE(fd, 0) << strerror(errno);
    EXPECT_EQ(mq_send(fd, "x", 1, 0), 0);
    mqd_t same = mq_open("/made", O_RDONLY);
    char buf[8192];
    EXPECT_EQ(mq_receive(same, buf, sizeof buf, nullptr), 1);
    EXPECT_EQ(unlink((dir + "/made").c_str()), 0);
    EXPECT_ERRNO(mq_open("/made", O_RDONLY), ENOENT);
    EXPECT_ERRNO(mkdir((dir + "/d").c_str(), 0700), EPERM);
    EXPECT_ERRNO(umount(dir.c_str()), EBUSY);
    close(fd);
    EXPECT_EQ(umount(dir.c_str()), 0) << strerror(errno);
    rmdir(dir.c_str());
  }), 0);
}

}  // namespace
