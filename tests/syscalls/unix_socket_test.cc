// SPDX-License-Identifier: Apache-2.0
// AF_UNIX sockets as an application sees them (man 7 unix): making, streams, names, backlogs, datagrams. Passes on Linux first, then
// in the sandbox.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/syscalls/sockets.h"

namespace {

using namespace sockets;

// ---- Making ----

TEST(Socket, RefusesWhatThereIsNot) {
  EXPECT_ERRNO(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT);
  EXPECT_ERRNO(socket(AF_UNIX, SOCK_STREAM, 7), EPROTONOSUPPORT);
  EXPECT_ERRNO(socket(AF_UNIX, SOCK_STREAM | 0x100000, 0), EINVAL);
  EXPECT_ERRNO(socket(12345, SOCK_STREAM, 0), EAFNOSUPPORT);
  EXPECT_ERRNO(socket(AF_UNIX, 15, 0), EINVAL);
  int pair[2];
  EXPECT_ERRNO(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
  EXPECT_ERRNO(socketpair(AF_UNIX, SOCK_STREAM, 0, reinterpret_cast<int*>(1)), EFAULT);
}

TEST(Socket, FlagsAndType) {
  Fd s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  EXPECT_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(s, F_GETFL), O_RDWR | O_NONBLOCK);
  struct stat st;
  ASSERT_EQ(fstat(s, &st), 0);
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  if (access("/proc/self/fd", F_OK) == 0) {
    char link[64] = {};
    ASSERT_GT(readlink(("/proc/self/fd/" + std::to_string(s)).c_str(), link, sizeof link), 0);
    EXPECT_EQ(std::string(link), "socket:[" + std::to_string(st.st_ino) + "]");
  }
  EXPECT_EQ(lseek(s, 0, SEEK_SET), -1);
  EXPECT_EQ(errno, ESPIPE);
}

TEST(Socket, CallsOnWhatIsNoSocket) {
  Fd f = open("/", O_RDONLY);
  EXPECT_ERRNO(listen(f, 1), ENOTSOCK);
  EXPECT_ERRNO(send(f, "", 1, 0), ENOTSOCK);
  EXPECT_ERRNO(listen(-1, 1), EBADF);
}

// ---- Streams ----

TEST(Stream, BytesHaveNoBoundaries) {
  Pair p(SOCK_STREAM);
  EXPECT_EQ(write(p.a, "hello ", 6), 6);
  EXPECT_EQ(write(p.a, "world", 5), 5);
  int n = 0;
  EXPECT_EQ(ioctl(p.b, FIONREAD, &n), 0);
  EXPECT_EQ(n, 11);
  EXPECT_EQ(ioctl(p.a, SIOCOUTQ, &n), 0);
  EXPECT_GT(n, 0);
  char b[32];
  EXPECT_EQ(recv(p.b, b, 4, MSG_PEEK), 4);
  EXPECT_EQ(read(p.b, b, sizeof b), 11);
  EXPECT_EQ(std::string(b, 11), "hello world");
  EXPECT_ERRNO(recv(p.b, b, 1, MSG_DONTWAIT), EAGAIN);
  EXPECT_EQ(ioctl(p.a, SIOCOUTQ, &n), 0);
  EXPECT_EQ(n, 0);
}

// What a full pipe does not take stays in the socket.
TEST(Stream, SpliceIntoAPipeLosesNothing) {
  Pair s(SOCK_STREAM);
  int p[2];
  ASSERT_EQ(pipe2(p, O_NONBLOCK), 0);
  std::string sent, got;
  for (int i = 0; i < 60000; i++) sent += static_cast<char>(i * 7 + i / 251);
  ASSERT_EQ(write(s.a, sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
  const std::string before(40000, 'x');
  ASSERT_EQ(write(p[1], before.data(), before.size()), static_cast<ssize_t>(before.size()));
  size_t spliced = 0;
  char buf[50000];
  for (int round = 0; round < 100 && spliced < sent.size(); round++) {
    ssize_t n = splice(s.b, nullptr, p[1], nullptr, sent.size() - spliced, SPLICE_F_NONBLOCK);
    if (n > 0) spliced += static_cast<size_t>(n);
    else EXPECT_EQ(errno, EAGAIN);
    if (ssize_t r = read(p[0], buf, sizeof buf); r > 0) got.append(buf, static_cast<size_t>(r));
  }
  for (ssize_t r; (r = read(p[0], buf, sizeof buf)) > 0;) got.append(buf, static_cast<size_t>(r));
  EXPECT_EQ(spliced, sent.size());
  EXPECT_TRUE(got == before + sent);
  close(p[0]);
  close(p[1]);
}

TEST(Stream, VectorsGatherAndScatter) {
  Pair p(SOCK_STREAM);
  iovec out[3] = {{const_cast<char*>("ab"), 2}, {nullptr, 0}, {const_cast<char*>("cdef"), 4}};
  EXPECT_EQ(writev(p.a, out, 3), 6);
  char x[1], y[10];
  iovec in[2] = {{x, 1}, {y, 10}};
  EXPECT_EQ(readv(p.b, in, 2), 6);
  EXPECT_EQ(x[0], 'a');
  EXPECT_EQ(std::string(y, 5), "bcdef");
}

TEST(Stream, LargeTransferArrivesWhole) {
  Pair p(SOCK_STREAM);
  std::vector<char> out(3 << 20), in(3 << 20);
  for (size_t i = 0; i < out.size(); i++) out[i] = static_cast<char>(i * 7 + i / 4096);
  std::thread t([&] { EXPECT_EQ(send(p.a, out.data(), out.size(), 0), static_cast<ssize_t>(out.size())); });
  EXPECT_EQ(recv(p.b, in.data(), in.size(), MSG_WAITALL), static_cast<ssize_t>(in.size()));
  t.join();
  EXPECT_TRUE(in == out);
}

TEST(Stream, FullQueueStopsTheWriterAndPollTellsSo) {
  Pair p(SOCK_STREAM);
  fcntl(p.a, F_SETFL, O_NONBLOCK);
  std::vector<char> chunk(4096);
  size_t total = 0;
  ssize_t n;
  while ((n = write(p.a, chunk.data(), chunk.size())) > 0) total += static_cast<size_t>(n);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GT(total, 64u * 1024);
  EXPECT_LT(total, 1024u * 1024);
  EXPECT_EQ(events_of(p.a), 0);
  EXPECT_EQ(events_of(p.b), POLLIN | POLLOUT);
  std::vector<char> all(total);
  EXPECT_EQ(recv(p.b, all.data(), total, MSG_WAITALL), static_cast<ssize_t>(total));
  EXPECT_EQ(events_of(p.a), POLLOUT);
}

TEST(Stream, CloseGivesEofThenBrokenPipe) {
  ignore_sigpipe();
  Pair p(SOCK_STREAM);
  EXPECT_EQ(write(p.a, "x", 1), 1);
  p.a.reset();
  EXPECT_EQ(events_of(p.b), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
  char b[4];
  EXPECT_EQ(read(p.b, b, 4), 1);
  EXPECT_EQ(read(p.b, b, 4), 0);
  EXPECT_ERRNO(write(p.b, "y", 1), EPIPE);
}

TEST(Stream, CloseWithUnreadDataResets) {
  Pair p(SOCK_STREAM);
  EXPECT_EQ(write(p.a, "x", 1), 1);
  p.b.reset();
  EXPECT_TRUE(events_of(p.a) & POLLERR);
  char b[4];
  EXPECT_ERRNO(read(p.a, b, 4), ECONNRESET);
  EXPECT_EQ(read(p.a, b, 4), 0);
}

volatile sig_atomic_t pipes = 0;
TEST(Stream, SigpipeUnlessNosignal) {
  signal(SIGPIPE, [](int) { pipes = pipes + 1; });
  Pair p(SOCK_STREAM);
  p.b.reset();
  EXPECT_ERRNO(send(p.a, "x", 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_EQ(pipes, 0);
  EXPECT_ERRNO(send(p.a, "x", 1, 0), EPIPE);
  EXPECT_EQ(pipes, 1);
  ignore_sigpipe();
}

TEST(Stream, ShutdownHalves) {
  ignore_sigpipe();
  Pair p(SOCK_STREAM);
  EXPECT_ERRNO(shutdown(p.a, 3), EINVAL);
  EXPECT_EQ(write(p.a, "x", 1), 1);
  EXPECT_EQ(shutdown(p.a, SHUT_WR), 0);
  EXPECT_EQ(events_of(p.b), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_ERRNO(write(p.a, "y", 1), EPIPE);
  char b[2];
  EXPECT_EQ(read(p.b, b, 2), 1);
  EXPECT_EQ(read(p.b, b, 2), 0);
  EXPECT_EQ(write(p.b, "z", 1), 1);
  EXPECT_EQ(read(p.a, b, 2), 1);
  EXPECT_EQ(shutdown(p.a, SHUT_RD), 0);
  EXPECT_ERRNO(write(p.b, "z", 1), EPIPE);
  EXPECT_EQ(events_of(p.a), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
}

TEST(Stream, ErrorsOfUnconnected) {
  Fd s = socket(AF_UNIX, SOCK_STREAM, 0);
  char b[1];
  EXPECT_EQ(events_of(s), POLLOUT | POLLHUP);
  EXPECT_ERRNO(send(s, "x", 1, MSG_NOSIGNAL), ENOTCONN);
  EXPECT_ERRNO(recv(s, b, 1, 0), EINVAL);
  sockaddr_un un;
  socklen_t n = sizeof un;
  EXPECT_ERRNO(getpeername(s, reinterpret_cast<sockaddr*>(&un), &n), ENOTCONN);
  n = sizeof un;
  EXPECT_EQ(getsockname(s, reinterpret_cast<sockaddr*>(&un), &n), 0);
  EXPECT_EQ(n, sizeof(sa_family_t));
  EXPECT_ERRNO(listen(s, 1), EINVAL);
  EXPECT_ERRNO(accept(s, nullptr, nullptr), EINVAL);
  Pair p(SOCK_STREAM);
  Name a = abstract_name("nobody");
  EXPECT_ERRNO(sendto(p.a, "x", 1, 0, a.addr(), a.size), EISCONN);
  EXPECT_ERRNO(connect(p.a, a.addr(), a.size), ECONNREFUSED);
}

TEST(Stream, ReceiveTimeout) {
  Pair p(SOCK_STREAM);
  timeval tv{0, 20000};
  EXPECT_EQ(setsockopt(p.a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
  timeval back{};
  socklen_t n = sizeof back;
  EXPECT_EQ(getsockopt(p.a, SOL_SOCKET, SO_RCVTIMEO, &back, &n), 0);
  EXPECT_EQ(back.tv_sec, 0);
  EXPECT_NEAR(static_cast<double>(back.tv_usec), 20000, 4000);
  char b[1];
  EXPECT_ERRNO(read(p.a, b, 1), EAGAIN);
  tv.tv_usec = 1000000;
  EXPECT_ERRNO(setsockopt(p.a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), EDOM);
}

TEST(Stream, SignalInterruptsARead) {
  struct sigaction sa{};
  sa.sa_handler = [](int) {};
  sigaction(SIGUSR1, &sa, nullptr);
  Pair p(SOCK_STREAM);
  pthread_t self = pthread_self();
  std::thread t([&] {
    usleep(50000);
    pthread_kill(self, SIGUSR1);
  });
  char b[1];
  EXPECT_ERRNO(read(p.a, b, 1), EINTR);
  t.join();
}

// ---- Names ----

TEST(Name, PathLifeCycle) {
  Directory d;
  Name n = path_name(d / "s");
  mode_t old = umask(022);
  Fd l = socket(AF_UNIX, SOCK_STREAM, 0);
  Fd c = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_ERRNO(connect(c, n.addr(), n.size), ENOENT);
  ASSERT_EQ(bind(l, n.addr(), n.size), 0);
  struct stat st;
  ASSERT_EQ(stat(n.un.sun_path, &st), 0);
  EXPECT_EQ(st.st_mode, static_cast<mode_t>(S_IFSOCK | 0755));
  EXPECT_ERRNO(open(n.un.sun_path, O_RDWR), ENXIO);
  EXPECT_ERRNO(connect(c, n.addr(), n.size), ECONNREFUSED);  // not listening yet
  EXPECT_ERRNO(bind(l, n.addr(), n.size), EADDRINUSE);  // the name is looked at first
  Name second = path_name(d / "s2");
  EXPECT_ERRNO(bind(l, second.addr(), second.size), EINVAL);
  EXPECT_NE(access(second.un.sun_path, F_OK), 0);
  Fd other = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_ERRNO(bind(other, n.addr(), n.size), EADDRINUSE);
  ASSERT_EQ(listen(l, 5), 0);
  ASSERT_EQ(connect(c, n.addr(), n.size), 0);
  EXPECT_ERRNO(connect(c, n.addr(), n.size), EISCONN);
  EXPECT_EQ(events_of(l), POLLIN);
  sockaddr_un from;
  memset(&from, 0xff, sizeof from);
  socklen_t fn = sizeof from;
  Fd s = accept4(l, reinterpret_cast<sockaddr*>(&from), &fn, SOCK_CLOEXEC);
  ASSERT_GE(s, 0);
  EXPECT_EQ(fn, sizeof(sa_family_t));
  EXPECT_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
  sockaddr_un un{};
  socklen_t un_n = sizeof un;
  ASSERT_EQ(getpeername(c, reinterpret_cast<sockaddr*>(&un), &un_n), 0);
  EXPECT_EQ(un_n, n.size);
  EXPECT_STREQ(un.sun_path, n.un.sun_path);
  un_n = sizeof un;
  ASSERT_EQ(getsockname(s, reinterpret_cast<sockaddr*>(&un), &un_n), 0);
  EXPECT_STREQ(un.sun_path, n.un.sun_path);
  // Through a hard link and a symlink it is the same socket; another type is not.
  ASSERT_EQ(link(n.un.sun_path, (d / "hard").c_str()), 0);
  ASSERT_EQ(symlink("s", (d / "soft").c_str()), 0);
  for (const char* x : {"hard", "soft"}) {
    Name m = path_name(d / x);
    Fd e = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ(connect(e, m.addr(), m.size), 0) << x;
  }
  Fd g = socket(AF_UNIX, SOCK_DGRAM, 0);
  EXPECT_ERRNO(connect(g, n.addr(), n.size), EPROTOTYPE);
  // The name outlives the socket and refuses.
  l.reset();
  Fd e = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_ERRNO(connect(e, n.addr(), n.size), ECONNREFUSED);
  EXPECT_ERRNO(bind(e, n.addr(), n.size), EADDRINUSE);
  ASSERT_EQ(unlink(n.un.sun_path), 0);
  EXPECT_EQ(bind(e, n.addr(), n.size), 0);
  umask(old);
}

TEST(Name, PathErrors) {
  Directory d;
  Fd s = socket(AF_UNIX, SOCK_STREAM, 0);
  Name n = path_name(d / "missing/s");
  EXPECT_ERRNO(bind(s, n.addr(), n.size), ENOENT);
  Fd f = open((d / "file").c_str(), O_CREAT | O_RDWR, 0600);
  Name r = path_name(d / "file");
  EXPECT_ERRNO(connect(s, r.addr(), r.size), ECONNREFUSED);
  EXPECT_ERRNO(bind(s, r.addr(), r.size), EADDRINUSE);
  EXPECT_ERRNO(bind(s, r.addr(), 1), EINVAL);
  EXPECT_ERRNO(bind(s, r.addr(), 200), EINVAL);
  sockaddr_in in{};
  in.sin_family = AF_INET;
  EXPECT_ERRNO(bind(s, reinterpret_cast<sockaddr*>(&in), sizeof in), EINVAL);
  EXPECT_ERRNO(connect(s, reinterpret_cast<sockaddr*>(&in), sizeof in), EINVAL);
  EXPECT_ERRNO(connect(s, reinterpret_cast<sockaddr*>(8), 20), EFAULT);
}

TEST(Name, AbstractAndAutobind) {
  Name n = abstract_name("abs");
  Fd a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0), g = socket(AF_UNIX, SOCK_DGRAM, 0);
  ASSERT_EQ(bind(a, n.addr(), n.size), 0);
  EXPECT_ERRNO(bind(b, n.addr(), n.size), EADDRINUSE);
  EXPECT_EQ(bind(g, n.addr(), n.size), 0);  // each type has its own names
  sockaddr_un un{};
  socklen_t size = sizeof un;
  ASSERT_EQ(getsockname(a, reinterpret_cast<sockaddr*>(&un), &size), 0);
  EXPECT_EQ(size, n.size);
  EXPECT_EQ(memcmp(&un, &n.un, size), 0);
  a.reset();
  EXPECT_EQ(bind(b, n.addr(), n.size), 0);
  Fd c = socket(AF_UNIX, SOCK_DGRAM, 0);
  sa_family_t just = AF_UNIX;
  ASSERT_EQ(bind(c, reinterpret_cast<sockaddr*>(&just), sizeof just), 0);
  size = sizeof un;
  ASSERT_EQ(getsockname(c, reinterpret_cast<sockaddr*>(&un), &size), 0);
  EXPECT_EQ(size, sizeof just + 6);
  EXPECT_EQ(un.sun_path[0], 0);
  // A short buffer gets a part and the whole length.
  char part[5];
  size = sizeof part;
  ASSERT_EQ(getsockname(c, reinterpret_cast<sockaddr*>(part), &size), 0);
  EXPECT_EQ(size, sizeof just + 6);
}

// ---- Backlog ----

TEST(Backlog, FullMakesConnectWaitOrFail) {
  Name n = abstract_name("backlog");
  Fd l = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(l, n.addr(), n.size), 0);
  ASSERT_EQ(listen(l, 1), 0);
  std::vector<Fd> cs;
  int err = 0;
  for (int i = 0; i < 10; i++) {
    Fd c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(c, n.addr(), n.size) != 0) {
      err = errno;
      break;
    }
    cs.push_back(std::move(c));
  }
  EXPECT_EQ(err, EAGAIN);
  EXPECT_EQ(cs.size(), 2u);  // one more than the backlog
  std::thread t([&] {
    usleep(30000);
    close(accept(l, nullptr, nullptr));
  });
  Fd c = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(connect(c, n.addr(), n.size), 0);
  t.join();
  fcntl(l, F_SETFL, O_NONBLOCK);
  while (true) {
    Fd s = accept(l, nullptr, nullptr);
    if (s < 0) break;
  }
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Backlog, ClosingTheListenerResetsWhoWaits) {
  Name n = abstract_name("reset");
  Fd l = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(l, n.addr(), n.size), 0);
  ASSERT_EQ(listen(l, 5), 0);
  Fd c = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(connect(c, n.addr(), n.size), 0);
  l.reset();
  char b[1];
  EXPECT_ERRNO(read(c, b, 1), ECONNRESET);
  EXPECT_EQ(read(c, b, 1), 0);
}

TEST(Backlog, AcceptWaits) {
  Name n = abstract_name("accept");
  Fd l = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  ASSERT_EQ(bind(l, n.addr(), n.size), 0);
  ASSERT_EQ(listen(l, 5), 0);
  std::thread t([&] {
    usleep(20000);
    Fd c = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    EXPECT_EQ(connect(c, n.addr(), n.size), 0);
    EXPECT_EQ(send(c, "hi", 2, 0), 2);
  });
  Fd s = accept(l, nullptr, nullptr);
  ASSERT_GE(s, 0);
  char b[8];
  EXPECT_EQ(recv(s, b, 8, 0), 2);
  t.join();
}

// ---- Datagrams and seqpackets ----

TEST(Datagram, KeepsBoundariesAndTruncates) {
  Pair p(SOCK_DGRAM);
  EXPECT_EQ(send(p.a, "first", 5, 0), 5);
  EXPECT_EQ(send(p.a, "", 0, 0), 0);
  EXPECT_EQ(send(p.a, "third!", 6, 0), 6);
  auto r = receive(p.b, 3, MSG_PEEK | MSG_TRUNC);
  EXPECT_EQ(r->n, 5);
  EXPECT_TRUE(r->flags & MSG_TRUNC);
  int n;
  EXPECT_EQ(ioctl(p.b, FIONREAD, &n), 0);
  EXPECT_EQ(n, 5);
  r = receive(p.b, 3);
  EXPECT_EQ(r->n, 3);
  EXPECT_TRUE(r->flags & MSG_TRUNC);
  r = receive(p.b, 3);
  EXPECT_EQ(r->n, 0);
  r = receive(p.b, 10);
  EXPECT_EQ(r->data, "third!");
  EXPECT_FALSE(r->flags & MSG_TRUNC);
}

TEST(Datagram, AddressesAndErrors) {
  Name an = abstract_name("da"), bn = abstract_name("db");
  Fd a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0), c = socket(AF_UNIX, SOCK_DGRAM, 0);
  EXPECT_ERRNO(send(a, "x", 1, 0), ENOTCONN);
  EXPECT_ERRNO(sendto(a, "x", 1, 0, bn.addr(), bn.size), ECONNREFUSED);
  ASSERT_EQ(bind(a, an.addr(), an.size), 0);
  ASSERT_EQ(bind(b, bn.addr(), bn.size), 0);
  EXPECT_EQ(sendto(a, "x", 1, 0, bn.addr(), bn.size), 1);
  char buf[4];
  sockaddr_un from{};
  socklen_t n = sizeof from;
  EXPECT_EQ(recvfrom(b, buf, 4, 0, reinterpret_cast<sockaddr*>(&from), &n), 1);
  EXPECT_EQ(n, an.size);
  EXPECT_EQ(memcmp(&from, &an.un, n), 0);
  // b talks to a only: c may not send to it.
  ASSERT_EQ(connect(b, an.addr(), an.size), 0);
  EXPECT_ERRNO(sendto(c, "x", 1, 0, bn.addr(), bn.size), EPERM);
  EXPECT_ERRNO(connect(c, bn.addr(), bn.size), EPERM);
  EXPECT_EQ(sendto(c, "y", 1, 0, an.addr(), an.size), 1);
  n = sizeof from;
  EXPECT_EQ(recvfrom(a, buf, 4, 0, reinterpret_cast<sockaddr*>(&from), &n), 1);
  EXPECT_EQ(n, 0u);
  a.reset();
  EXPECT_ERRNO(send(b, "x", 1, 0), ECONNREFUSED);
  EXPECT_ERRNO(send(b, "x", 1, 0), ENOTCONN);
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  EXPECT_EQ(connect(c, &none, sizeof none), 0);
  EXPECT_ERRNO(listen(c, 1), EOPNOTSUPP);
  EXPECT_ERRNO(accept(c, nullptr, nullptr), EOPNOTSUPP);
}

TEST(Datagram, TooLongIsEmsgsize) {
  Pair p(SOCK_DGRAM);
  std::vector<char> big(300000);
  EXPECT_ERRNO(send(p.a, big.data(), big.size(), 0), EMSGSIZE);
  EXPECT_EQ(send(p.a, big.data(), 100000, 0), 100000);
  EXPECT_EQ(recv(p.b, big.data(), big.size(), 0), 100000);
}

TEST(Datagram, ReceiversQueueIsShortAndPollKnows) {
  Name n = abstract_name("dq");
  Fd r = socket(AF_UNIX, SOCK_DGRAM, 0), s = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  ASSERT_EQ(bind(r, n.addr(), n.size), 0);
  ASSERT_EQ(connect(s, n.addr(), n.size), 0);
  EXPECT_EQ(events_of(s), POLLOUT);
  int sent = 0;
  while (send(s, "x", 1, 0) == 1 && sent < 5000) sent++;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GE(sent, 10);
  EXPECT_EQ(events_of(s), 0);
  Fd e = epoll_create1(0);
  epoll_event ev{};
  ev.events = EPOLLOUT;
  ASSERT_EQ(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev), 0);
  EXPECT_EQ(epoll_wait(e, &ev, 1, 0), 0);
  std::thread t([&] {
    usleep(20000);
    char b[1];
    EXPECT_EQ(recv(r, b, 1, 0), 1);
  });
  EXPECT_EQ(epoll_wait(e, &ev, 1, 5000), 1);
  t.join();
  // A blocking sender goes on when there is room.
  while (send(s, "x", 1, 0) == 1) {}
  fcntl(s, F_SETFL, 0);
  std::thread u([&] {
    usleep(20000);
    char b[1];
    EXPECT_EQ(recv(r, b, 1, 0), 1);
  });
  EXPECT_EQ(send(s, "last", 4, 0), 4);
  u.join();
}

TEST(Datagram, Shutdown) {
  ignore_sigpipe();
  Pair p(SOCK_DGRAM);
  EXPECT_EQ(shutdown(p.b, SHUT_RD), 0);
  char b[1];
  EXPECT_EQ(recv(p.b, b, 1, 0), 0);
  EXPECT_ERRNO(recv(p.b, b, 1, MSG_DONTWAIT), EAGAIN);
  EXPECT_ERRNO(send(p.a, "x", 1, 0), EPIPE);
  EXPECT_EQ(send(p.b, "x", 1, 0), 1);
  EXPECT_EQ(shutdown(p.b, SHUT_WR), 0);
  EXPECT_ERRNO(send(p.b, "x", 1, 0), EPIPE);
}

TEST(Seqpacket, RecordsOnAConnection) {
  Pair p(SOCK_SEQPACKET);
  EXPECT_EQ(write(p.a, "one", 3), 3);
  EXPECT_EQ(send(p.a, "two", 3, 0), 3);
  auto r = receive(p.b, 10);
  EXPECT_EQ(r->data, "one");
  EXPECT_FALSE(r->flags & MSG_EOR);  // Linux does not report it for AF_UNIX
  r = receive(p.b, 2);
  EXPECT_EQ(r->data, "tw");
  EXPECT_TRUE(r->flags & MSG_TRUNC);
  p.a.reset();
  r = receive(p.b, 10);
  EXPECT_EQ(r->n, 0);
  EXPECT_EQ(events_of(p.b), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
  EXPECT_ERRNO(send(p.b, "x", 1, MSG_NOSIGNAL), EPIPE);
  Fd s = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  char b[1];
  EXPECT_ERRNO(recv(s, b, 1, 0), ENOTCONN);
  EXPECT_ERRNO(send(s, b, 1, 0), ENOTCONN);
}

TEST(Socketpair, RoomToWriteIsNoEdgeForAReader) {
  int p[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p), 0);
  Fd mine = p[0], other = p[1];
  char block[4096] = {};
  while (send(mine, block, sizeof block, 0) > 0) {}
  ASSERT_EQ(errno, EAGAIN);
  for (const uint32_t wanted : {uint32_t{EPOLLIN}, uint32_t{EPOLLIN | EPOLLOUT}}) {
    Fd e = epoll_create1(0);
    epoll_event ev{};
    ev.events = wanted | EPOLLET;
    ASSERT_EQ(epoll_ctl(e, EPOLL_CTL_ADD, mine, &ev), 0);
    ASSERT_EQ(send(other, "x", 1, 0), 1);
    ASSERT_EQ(epoll_wait(e, &ev, 1, 5000), 1);
    EXPECT_EQ(ev.events, static_cast<uint32_t>(EPOLLIN));
    while (recv(other, block, sizeof block, 0) > 0) {}  // what this one sent: now it may write
    if (wanted & EPOLLOUT) {
      ASSERT_EQ(epoll_wait(e, &ev, 1, 5000), 1);
      EXPECT_EQ(ev.events, wanted);
    } else {
      EXPECT_EQ(epoll_wait(e, &ev, 1, 20), 0);
    }
    while (send(mine, block, sizeof block, 0) > 0) {}
  }
}

}  // namespace
