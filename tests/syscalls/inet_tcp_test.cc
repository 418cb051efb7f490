// SPDX-License-Identifier: Apache-2.0
// TCP as the kernel does it, in a namespace with a loopback and an interface that answers nobody.
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/wait.h>

#include <atomic>

#include "tests/syscalls/inet.h"

namespace {

using namespace inet;

constexpr const char* kNobody = "10.77.0.99";  // no packet comes back

class Tcp : public testing::Test {
 protected:
  void SetUp() override { ignore_sigpipe(); }
};

// ---- Names ----

TEST_F(Tcp, BindErrors) {
  Fd s = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(bind_to(s, name("192.0.2.1", 0)), EADDRNOTAVAIL);
  Place n = name("127.0.0.1", 0);
  EXPECT_ERRNO(bind(s, n.addr(), 4), EINVAL);
  n.v4().sin_family = 77;
  EXPECT_ERRNO(bind_to(s, n), EAFNOSUPPORT);
  EXPECT_ERRNO(bind(s, nullptr, 16), EFAULT);
  EXPECT_ERRNO(bind(s, n.addr(), 1000), EINVAL);
  n = name("127.0.0.1", 0);
  ASSERT_EQ(bind_to(s, n), 0);
  EXPECT_ERRNO(bind_to(s, n), EINVAL);
  Fd other = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(bind_to(other, name_of(s)), EADDRINUSE);
  Fd six = socket(AF_INET6, SOCK_STREAM, 0);
  EXPECT_ERRNO(bind_to(six, name("127.0.0.1", 0)), EINVAL);  // too short for its family
}

TEST_F(Tcp, SocketErrors) {
  EXPECT_ERRNO(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  EXPECT_ERRNO(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
  EXPECT_ERRNO(socket(AF_INET, SOCK_STREAM, 70000), EINVAL);
  EXPECT_ERRNO(socket(AF_INET, SOCK_STREAM | 0x100000, 0), EINVAL);
  int v[2];
  EXPECT_ERRNO(socketpair(AF_INET, SOCK_STREAM, 0, v), EOPNOTSUPP);
  Fd s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
  ASSERT_GE(s, 0);
  EXPECT_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(fcntl(s, F_GETFL) & O_NONBLOCK);
  EXPECT_EQ(get(s, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(get(s, SOL_SOCKET, SO_DOMAIN), AF_INET6);
  EXPECT_EQ(get(s, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
}

TEST_F(Tcp, LowPortsNeedTheCapability) {
  pid_t p = fork();
  if (p == 0) {
    Fd s = socket(AF_INET, SOCK_STREAM, 0);
    if (setgid(1000) || setuid(1000)) _exit(2);
    int r = bind_to(s, name("127.0.0.1", 81));
    _exit(r == -1 && errno == EACCES ? 0 : 3);
  }
  int status = -1;
  ASSERT_EQ(waitpid(p, &status, 0), p);
  EXPECT_EQ(status, 0);
  Fd s = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_EQ(bind_to(s, name("127.0.0.1", 81)), 0) << strerror(errno);
}

TEST_F(Tcp, NamesOfBothEnds) {
  for (const char* a : {"127.0.0.1", "127.3.4.5", "10.77.0.1", "::1"}) {
    Connection x(a);
    Place c = name_of(x.c), s = name_of(x.s), pc = peer_of(x.c), ps = peer_of(x.s);
    EXPECT_EQ(c.size, ps.size);
    EXPECT_EQ(memcmp(&c.s, &ps.s, c.size), 0) << a;
    EXPECT_EQ(memcmp(&s.s, &pc.s, s.size), 0) << a;
  }
  Fd s = socket(AF_INET, SOCK_STREAM, 0);
  Place n;
  EXPECT_ERRNO(getpeername(s, n.addr(), &n.size), ENOTCONN);
  n.size = 4;  // cut, with the true length told
  ASSERT_EQ(getsockname(s, n.addr(), &n.size), 0);
  EXPECT_EQ(n.size, sizeof(sockaddr_in));
  ASSERT_EQ(listen(s, 1), 0);
  EXPECT_NE(name_of(s).port(), 0);
}

TEST_F(Tcp, AcceptTellsTheNameAndTakesFlags) {
  Listener l;
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect_to(c, l.at), 0);
  Place n;
  Fd s = accept4(l.fd, n.addr(), &n.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  ASSERT_GE(s, 0);
  EXPECT_EQ(n.port(), name_of(c).port());
  EXPECT_TRUE(fcntl(s, F_GETFL) & O_NONBLOCK);
  EXPECT_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
  char b[4];
  EXPECT_ERRNO(read(s, b, 4), EAGAIN);
  EXPECT_ERRNO(accept4(l.fd, nullptr, nullptr, 0x10000000), EINVAL);
  EXPECT_ERRNO(accept(c, nullptr, nullptr), EINVAL);
  set_nonblocking(l.fd);
  EXPECT_ERRNO(accept(l.fd, nullptr, nullptr), EAGAIN);
  EXPECT_EQ(get(l.fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
  EXPECT_EQ(get(c, SOL_SOCKET, SO_ACCEPTCONN), 0);
}

// ---- Connecting ----

TEST_F(Tcp, Refused) {
  Place gone;
  {
    Listener l;
    gone = l.at;
  }
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(connect_to(c, gone), ECONNREFUSED);
  Fd d = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int r = connect_to(d, gone);
  EXPECT_TRUE(r == -1 && errno == EINPROGRESS) << strerror(errno);
  EXPECT_EQ(wait_for(d, POLLOUT), POLLOUT | POLLERR | POLLHUP);
  EXPECT_EQ(get(d, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
  EXPECT_EQ(get(d, SOL_SOCKET, SO_ERROR), 0);
}

TEST_F(Tcp, ConnectErrors) {
  Listener l;
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  Place n = l.at;
  EXPECT_ERRNO(connect(c, n.addr(), 1), EINVAL);
  n.v4().sin_family = 77;
  EXPECT_ERRNO(connect_to(c, n), EAFNOSUPPORT);
  EXPECT_ERRNO(connect(c, nullptr, 16), EFAULT);
  EXPECT_ERRNO(connect_to(c, name("198.51.100.1", 80)), ENETUNREACH);
  ASSERT_EQ(connect_to(c, l.at), 0);
  EXPECT_ERRNO(connect_to(c, l.at), EISCONN);
  EXPECT_ERRNO(connect_to(l.fd, l.at), EISCONN);
}

TEST_F(Tcp, InProgress) {
  Fd c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  EXPECT_ERRNO(connect_to(c, name(kNobody, 80)), EINPROGRESS);
  EXPECT_ERRNO(connect_to(c, name(kNobody, 80)), EALREADY);
  EXPECT_EQ(wait_for(c, POLLIN | POLLOUT, 30), 0);
  EXPECT_EQ(get(c, SOL_SOCKET, SO_ERROR), 0);
  Place n;
  EXPECT_ERRNO(getpeername(c, n.addr(), &n.size), ENOTCONN);
  char b[1];
  EXPECT_ERRNO(recv(c, b, 1, 0), EAGAIN);
  EXPECT_ERRNO(send(c, b, 1, 0), EAGAIN);
}

TEST_F(Tcp, NonblockingConnectSucceeds) {
  Listener l;
  Fd c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  EXPECT_ERRNO(connect_to(c, l.at), EINPROGRESS);
  EXPECT_EQ(wait_for(c, POLLOUT), POLLOUT);
  EXPECT_EQ(get(c, SOL_SOCKET, SO_ERROR), 0);
  EXPECT_EQ(connect_to(c, l.at), 0);
  EXPECT_ERRNO(connect_to(c, l.at), EISCONN);
}

TEST_F(Tcp, ConnectTimesOut) {
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(set(c, SOL_SOCKET, SO_SNDTIMEO, timeval{0, 100000}), 0);
  double t = now();
  EXPECT_ERRNO(connect_to(c, name(kNobody, 80)), EINPROGRESS);
  EXPECT_GE(now() - t, 0.09);
  EXPECT_LT(now() - t, 3);
  EXPECT_ERRNO(connect_to(c, name(kNobody, 80)), EALREADY);
}

TEST_F(Tcp, ConnectIsInterrupted) {
  struct sigaction a{};
  a.sa_handler = [](int) {};
  sigaction(SIGALRM, &a, nullptr);
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  itimerval t{{0, 20000}, {0, 50000}};
  setitimer(ITIMER_REAL, &t, nullptr);
  EXPECT_ERRNO(connect_to(c, name(kNobody, 80)), EINTR);
  t = {};
  setitimer(ITIMER_REAL, &t, nullptr);
  set_nonblocking(c);
  EXPECT_ERRNO(connect_to(c, name(kNobody, 80)), EALREADY);
}

TEST_F(Tcp, UserTimeoutEndsAConnect) {
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(set(c, IPPROTO_TCP, TCP_USER_TIMEOUT, 300u), 0);
  EXPECT_ERRNO(connect_to(c, name(kNobody, 80)), ETIMEDOUT);
}

TEST_F(Tcp, ConnectToNobodyDissolves) {
  Connection x;
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  ASSERT_EQ(connect(x.c, &none, sizeof none), 0) << strerror(errno);
  Place n;
  EXPECT_ERRNO(getpeername(x.c, n.addr(), &n.size), ENOTCONN);
  char b[1];
  EXPECT_ERRNO(recv(x.s, b, 1, 0), ECONNRESET);
  Listener l;
  EXPECT_EQ(connect_to(x.c, l.at), 0) << "it may connect again";
}

// ---- Ends ----

TEST_F(Tcp, HalfClose) {
  Connection x;
  char b[8];
  EXPECT_EQ(events_of(x.s), POLLOUT);
  ASSERT_EQ(shutdown(x.c, SHUT_WR), 0);
  EXPECT_EQ(wait_for(x.s, POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
  EXPECT_EQ(recv(x.s, b, 8, 0), 0);
  EXPECT_ERRNO(send(x.c, "x", 1, 0), EPIPE);
  EXPECT_EQ(send(x.s, "back", 4, 0), 4);
  EXPECT_EQ(recv(x.c, b, 8, 0), 4);
  ASSERT_EQ(shutdown(x.s, SHUT_WR), 0);
  EXPECT_EQ(recv(x.c, b, 8, 0), 0);
  EXPECT_TRUE(wait_for(x.c, POLLIN) & POLLHUP);
  EXPECT_ERRNO(shutdown(x.c, 7), EINVAL);
  Fd u = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(shutdown(u, SHUT_WR), ENOTCONN);
  EXPECT_EQ(events_of(u), POLLOUT | POLLHUP);
}

TEST_F(Tcp, ShutdownWakesAReader) {
  Connection x;
  Thread t([&] {
    nap(50);
    shutdown(x.c, SHUT_RD);
  });
  char b[1];
  EXPECT_EQ(recv(x.c, b, 1, 0), 0);
}

TEST_F(Tcp, ShutdownWakesAccept) {
  Listener l;
  Thread t([&] {
    nap(50);
    shutdown(l.fd, SHUT_RD);
  });
  EXPECT_ERRNO(accept(l.fd, nullptr, nullptr), EINVAL);
}

TEST_F(Tcp, LingerOfNothingResets) {
  Connection x;
  ASSERT_EQ(set(x.c, SOL_SOCKET, SO_LINGER, linger{1, 0}), 0);
  linger l{};
  socklen_t n = sizeof l;
  ASSERT_EQ(getsockopt(x.c, SOL_SOCKET, SO_LINGER, &l, &n), 0);
  EXPECT_EQ(l.l_onoff, 1);
  x.c.reset();
  char b[1];
  EXPECT_TRUE(wait_for(x.s, POLLIN) & POLLERR);
  EXPECT_ERRNO(recv(x.s, b, 1, 0), ECONNRESET);
  EXPECT_ERRNO(send(x.s, "x", 1, 0), EPIPE);
  EXPECT_EQ(recv(x.s, b, 1, 0), 0);
}

TEST_F(Tcp, UnreadBytesReset) {
  Connection x;
  ASSERT_EQ(send(x.c, "unread", 6, 0), 6);
  EXPECT_EQ(wait_for(x.s, POLLIN), POLLIN);
  x.s.reset();
  char b[4];
  EXPECT_TRUE(wait_for(x.c, POLLIN) & POLLERR);
  EXPECT_EQ(get(x.c, SOL_SOCKET, SO_ERROR), ECONNRESET);
  EXPECT_EQ(recv(x.c, b, 4, 0), 0);
}

TEST_F(Tcp, SigpipeUnlessToldNot) {
  for (bool quiet : {false, true}) {
    pid_t p = fork();
    if (p == 0) {
      signal(SIGPIPE, SIG_DFL);
      Connection x;
      shutdown(x.c, SHUT_WR);
      ssize_t r = send(x.c, "x", 1, quiet ? MSG_NOSIGNAL : 0);
      _exit(r == -1 && errno == EPIPE ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(p, &status, 0), p);
    if (quiet) EXPECT_EQ(status, 0);
    else EXPECT_EQ(WTERMSIG(status), SIGPIPE);
  }
}

TEST_F(Tcp, ACopyKeepsTheConnection) {
  Connection x;
  Fd copy = dup(x.c);
  x.c.reset();
  EXPECT_EQ(send(copy, "x", 1, 0), 1);
  char b[1];
  EXPECT_EQ(recv(x.s, b, 1, 0), 1);
  copy.reset();
  EXPECT_EQ(recv(x.s, b, 1, 0), 0);
}

// ---- Data ----

TEST_F(Tcp, FlagsOfReceiving) {
  Connection x;
  char b[16] = {};
  EXPECT_ERRNO(recv(x.s, b, 4, MSG_DONTWAIT), EAGAIN);
  ASSERT_EQ(send(x.c, "abcdef", 6, 0), 6);
  EXPECT_EQ(wait_for(x.s, POLLIN), POLLIN);
  int n = 0;
  ASSERT_EQ(ioctl(x.s, FIONREAD, &n), 0);
  EXPECT_EQ(n, 6);
  EXPECT_EQ(recv(x.s, b, 3, MSG_PEEK), 3);
  EXPECT_EQ(memcmp(b, "abc", 3), 0);
  EXPECT_EQ(recv(x.s, nullptr, 2, MSG_TRUNC), 2) << "bytes of a stream are thrown away";
  EXPECT_EQ(recv(x.s, b, 16, 0), 4);
  EXPECT_EQ(memcmp(b, "cdef", 4), 0);
  {
    Thread t([&] {
      for (const char* part : {"12", "34", "5678"}) {
        nap(20);
        send(x.c, part, strlen(part), 0);
      }
    });
    EXPECT_EQ(recv(x.s, b, 8, MSG_WAITALL), 8);
  }
  EXPECT_EQ(memcmp(b, "12345678", 8), 0);
  ASSERT_EQ(send(x.c, "end", 3, 0), 3);
  x.c.reset();
  EXPECT_EQ(recv(x.s, b, 8, MSG_WAITALL), 3) << "the end is an answer too";
  EXPECT_ERRNO(recv(x.s, b, 8, MSG_OOB), EINVAL);
}

TEST_F(Tcp, LowWaterMark) {
  Connection x;
  ASSERT_EQ(set(x.s, SOL_SOCKET, SO_RCVLOWAT, 6), 0);
  EXPECT_EQ(get(x.s, SOL_SOCKET, SO_RCVLOWAT), 6);
  ASSERT_EQ(send(x.c, "abc", 3, 0), 3);
  EXPECT_EQ(wait_for(x.s, POLLIN, 30), 0);
  Thread t([&] {
    nap(30);
    send(x.c, "def", 3, 0);
  });
  char b[16];
  EXPECT_EQ(wait_for(x.s, POLLIN), POLLIN);
  EXPECT_EQ(recv(x.s, b, 16, 0), 6);
}

TEST_F(Tcp, UrgentByte) {
  Connection x;
  ASSERT_EQ(send(x.c, "ab", 2, 0), 2);
  ASSERT_EQ(send(x.c, "!", 1, MSG_OOB), 1);
  EXPECT_TRUE(wait_for(x.s, POLLPRI) & POLLPRI);
  char b[8];
  EXPECT_EQ(recv(x.s, b, 8, MSG_OOB), 1);
  EXPECT_EQ(b[0], '!');
  int at = -1;
  ASSERT_EQ(ioctl(x.s, SIOCATMARK, &at), 0);
  EXPECT_EQ(at, 0);
  EXPECT_EQ(recv(x.s, b, 8, 0), 2);
  ASSERT_EQ(ioctl(x.s, SIOCATMARK, &at), 0);
  EXPECT_EQ(at, 1);
}

TEST_F(Tcp, TimesOut) {
  Connection x;
  ASSERT_EQ(set(x.s, SOL_SOCKET, SO_RCVTIMEO, timeval{0, 60000}), 0);
  char b[8];
  double t = now();
  EXPECT_ERRNO(recv(x.s, b, 8, 0), EAGAIN);
  EXPECT_GE(now() - t, 0.05);
  ASSERT_EQ(send(x.c, "ab", 2, 0), 2);
  EXPECT_EQ(recv(x.s, b, 8, MSG_WAITALL), 2) << "what came before the time was over";
  Listener l;
  ASSERT_EQ(set(l.fd, SOL_SOCKET, SO_RCVTIMEO, timeval{0, 30000}), 0);
  EXPECT_ERRNO(accept(l.fd, nullptr, nullptr), EAGAIN);
  ASSERT_EQ(set(x.c, SOL_SOCKET, SO_SNDTIMEO, timeval{0, 60000}), 0);
  std::string big(16 << 20, 'x');
  ssize_t n = send(x.c, big.data(), big.size(), 0);
  EXPECT_GT(n, 0);
  EXPECT_LT(n, static_cast<ssize_t>(big.size()));
  for (int i = 0; i < 50 && n > 0; i++) n = send(x.c, big.data(), big.size(), 0);  // buffers may still grow
  EXPECT_EQ(n, -1);
  EXPECT_EQ(errno, EAGAIN);
  timeval tv{};
  socklen_t size = sizeof tv;
  ASSERT_EQ(getsockopt(x.c, SOL_SOCKET, SO_SNDTIMEO, &tv, &size), 0);
  EXPECT_EQ(tv.tv_usec, 60000);
}

TEST_F(Tcp, ASignalInterruptsAReader) {
  static std::atomic<int> count;
  count = 0;
  for (int flags : {0, SA_RESTART}) {
    struct sigaction a{};
    a.sa_handler = [](int) { count++; };
    a.sa_flags = flags;
    sigaction(SIGALRM, &a, nullptr);
    Connection x;
    itimerval once{{0, 0}, {0, 40000}};
    setitimer(ITIMER_REAL, &once, nullptr);
    char b[1];
    if (!flags) {
      EXPECT_ERRNO(recv(x.s, b, 1, 0), EINTR);
      continue;
    }
    Thread t([&] {
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, nullptr);
      nap(150);
      send(x.c, "x", 1, 0);
    });
    EXPECT_EQ(recv(x.s, b, 1, 0), 1);
  }
  EXPECT_EQ(count, 2);
}

TEST_F(Tcp, BigTransferKeepsEveryByte) {
  Connection x;
  constexpr size_t kSize = 24 << 20;
  std::vector<uint32_t> out(kSize / 4);
  for (size_t i = 0; i < out.size(); i++) out[i] = static_cast<uint32_t>(i * 2654435761u);
  Thread t([&] {
    size_t done = 0;
    while (done < kSize) {  // of all lengths
      size_t n = std::min<size_t>(kSize - done, 1 + done % 300000);
      if (!send_all(x.c, reinterpret_cast<char*>(out.data()) + done, n)) break;
      done += n;
    }
    shutdown(x.c, SHUT_WR);
  });
  std::vector<uint32_t> in(kSize / 4);
  size_t got = 0;
  for (;;) {
    ssize_t n = recv(x.s, reinterpret_cast<char*>(in.data()) + got, std::min<size_t>(kSize - got + 1, 1 + got % 200000), 0);
    if (n <= 0) break;
    got += static_cast<size_t>(n);
    if (got == kSize) break;
  }
  EXPECT_EQ(got, kSize);
  EXPECT_TRUE(in == out);
}

TEST_F(Tcp, VectorsAndMessages) {
  Connection x;
  char a[] = "abc", b[] = "defgh";
  iovec v[2] = {{a, 3}, {b, 5}};
  EXPECT_EQ(writev(x.c, v, 2), 8);
  char p[4], q[8];
  iovec w[2] = {{p, 4}, {q, 8}};
  EXPECT_EQ(wait_for(x.s, POLLIN), POLLIN);
  EXPECT_EQ(readv(x.s, w, 2), 8);
  EXPECT_EQ(memcmp(p, "abcd", 4), 0);
  EXPECT_EQ(memcmp(q, "efgh", 4), 0);
  msghdr m{};
  m.msg_iov = v;
  m.msg_iovlen = 2;
  EXPECT_EQ(sendmsg(x.c, &m, 0), 8);
  Place from;
  EXPECT_EQ(wait_for(x.s, POLLIN), POLLIN);
  m.msg_iov = w;
  m.msg_name = &from.s;
  m.msg_namelen = sizeof from.s;
  EXPECT_EQ(recvmsg(x.s, &m, 0), 8);
  EXPECT_EQ(m.msg_namelen, 0u) << "a stream tells no name";
  EXPECT_EQ(send(x.c, nullptr, 0, 0), 0);
  EXPECT_ERRNO(send(x.c, nullptr, 5, 0), EFAULT);
  EXPECT_ERRNO(lseek(x.c, 0, SEEK_SET), ESPIPE);
}

TEST_F(Tcp, SendfileAndSplice) {
  Connection x;
  char path[] = "/tmp/inet_testXXXXXX";
  Fd file = mkstemp(path);
  unlink(path);
  std::string data(300000, 'q');
  for (size_t i = 0; i < data.size(); i++) data[i] = static_cast<char>(i * 7);
  ASSERT_EQ(write(file, data.data(), data.size()), static_cast<ssize_t>(data.size()));
  Thread t([&] {
    off_t at = 0;
    while (at < static_cast<off_t>(data.size()))
      if (sendfile(x.c, file, &at, data.size()) <= 0) break;
    shutdown(x.c, SHUT_WR);
  });
  int p[2];
  ASSERT_EQ(pipe(p), 0);
  std::string got;
  for (;;) {
    ssize_t n = splice(x.s, nullptr, p[1], nullptr, 65536, 0);
    if (n <= 0) break;
    std::string piece(static_cast<size_t>(n), 0);
    ASSERT_EQ(read(p[0], piece.data(), piece.size()), n);
    got += piece;
  }
  EXPECT_TRUE(got == data);
  close(p[0]);
  close(p[1]);
}

TEST_F(Tcp, FastOpen) {
  Listener l;
  ASSERT_EQ(set(l.fd, IPPROTO_TCP, TCP_FASTOPEN, 5), 0);
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  ssize_t n = sendto(c, "hello", 5, MSG_FASTOPEN, l.at.addr(), l.at.size);
  ASSERT_EQ(n, 5) << strerror(errno);
  Fd s = accept(l.fd, nullptr, nullptr);
  char b[8];
  EXPECT_EQ(recv(s, b, 8, 0), 5);
}

TEST_F(Tcp, PassedToAnotherProcess) {
  Connection x;
  Pair unix_pair(SOCK_STREAM);
  pid_t p = fork();
  if (p == 0) {
    auto r = receive(unix_pair.b, 1);
    _exit(r->fds.size() == 1 && send(r->fds[0], "by child", 8, 0) == 8 ? 0 : 1);
  }
  EXPECT_EQ(send_fds(unix_pair.a, "x", 1, {x.c}), 1);
  x.c.reset();
  char b[16];
  EXPECT_EQ(recv(x.s, b, 16, 0), 8);
  int status = -1;
  waitpid(p, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(recv(x.s, b, 16, 0), 0) << "all copies are closed";
}

// ---- Waiting for many ----

TEST_F(Tcp, PollWakes) {
  Connection x;
  Thread t([&] {
    nap(40);
    send(x.c, "x", 1, 0);
  });
  double start = now();
  EXPECT_EQ(wait_for(x.s, POLLIN), POLLIN);
  EXPECT_GE(now() - start, 0.03);
  fd_set in, out;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_SET(x.s, &in);
  FD_SET(x.c, &out);
  timeval tv{1, 0};
  EXPECT_EQ(select(std::max<int>(x.s, x.c) + 1, &in, &out, nullptr, &tv), 2);
}

TEST_F(Tcp, EdgesOfEpoll) {
  Connection x;
  Fd e = epoll_create1(0);
  epoll_event ev{};
  ev.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  ASSERT_EQ(epoll_ctl(e, EPOLL_CTL_ADD, x.s, &ev), 0);
  EXPECT_EQ(epoll_wait(e, &ev, 1, 20), 0);
  ASSERT_EQ(send(x.c, "ab", 2, 0), 2);
  ASSERT_EQ(epoll_wait(e, &ev, 1, 2000), 1);
  EXPECT_EQ(ev.events, static_cast<uint32_t>(EPOLLIN));
  EXPECT_EQ(epoll_wait(e, &ev, 1, 20), 0) << "no edge";
  char b[1];
  EXPECT_EQ(recv(x.s, b, 1, 0), 1);
  EXPECT_EQ(epoll_wait(e, &ev, 1, 20), 0) << "reading is no edge";
  ASSERT_EQ(send(x.c, "c", 1, 0), 1);
  EXPECT_EQ(epoll_wait(e, &ev, 1, 2000), 1);
  shutdown(x.c, SHUT_WR);
  ASSERT_EQ(epoll_wait(e, &ev, 1, 2000), 1);
  EXPECT_EQ(ev.events, static_cast<uint32_t>(EPOLLIN | EPOLLRDHUP));
}

TEST_F(Tcp, EdgeOfRoomToWrite) {
  Connection x;
  set_nonblocking(x.c);
  std::string chunk(65536, 'x');
  size_t sent = 0;
  for (ssize_t n; (n = send(x.c, chunk.data(), chunk.size(), 0)) > 0;) sent += static_cast<size_t>(n);
  EXPECT_EQ(errno, EAGAIN);
  int left = 0;
  ASSERT_EQ(ioctl(x.c, SIOCOUTQ, &left), 0);
  EXPECT_GT(left, 0);
  Fd e = epoll_create1(0);
  epoll_event ev{};
  ev.events = EPOLLOUT | EPOLLET;
  ASSERT_EQ(epoll_ctl(e, EPOLL_CTL_ADD, x.c, &ev), 0);
  EXPECT_EQ(epoll_wait(e, &ev, 1, 20), 0);
  Thread t([&] {
    std::string b(1 << 20, 0);
    for (size_t got = 0; got < sent;) {
      ssize_t n = recv(x.s, b.data(), b.size(), 0);
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
  });
  ASSERT_EQ(epoll_wait(e, &ev, 1, 5000), 1);
  EXPECT_EQ(ev.events, static_cast<uint32_t>(EPOLLOUT));
}

TEST_F(Tcp, AHundredConnectionsThroughOneEpoll) {
  Listener l("127.0.0.1", SOCK_NONBLOCK, 128);
  constexpr int kClients = 100, kRounds = 5;
  std::atomic<bool> stop{false};
  Thread server([&] {
    Fd e = epoll_create1(0);
    epoll_event ev{};
    ev.events = EPOLLIN;
    ev.data.fd = l.fd;
    epoll_ctl(e, EPOLL_CTL_ADD, l.fd, &ev);
    int open = 0, seen = 0;
    while (!stop && (seen < kClients || open > 0)) {
      epoll_event list[16];
      int n = epoll_wait(e, list, 16, 100);
      for (int i = 0; i < n; i++) {
        int fd = list[i].data.fd;
        if (fd == l.fd) {
          for (int c; (c = accept4(l.fd, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
            ev.events = EPOLLIN;
            ev.data.fd = c;
            epoll_ctl(e, EPOLL_CTL_ADD, c, &ev);
            open++;
            seen++;
          }
          continue;
        }
        char b[512];
        ssize_t k = recv(fd, b, sizeof b, 0);
        if (k > 0) {
          send(fd, b, static_cast<size_t>(k), 0);
        } else if (k == 0 || errno != EAGAIN) {
          close(fd);
          open--;
        }
      }
    }
  });
  std::vector<Fd> clients;
  for (int i = 0; i < kClients; i++) {
    clients.emplace_back(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(connect_to(clients.back(), l.at), 0) << i << strerror(errno);
  }
  for (int r = 0; r < kRounds; r++) {
    for (int i = 0; i < kClients; i++) ASSERT_EQ(send(clients[static_cast<size_t>(i)], &i, sizeof i, 0), static_cast<ssize_t>(sizeof i));
    for (int i = 0; i < kClients; i++) {
      int v = -1;
      ASSERT_EQ(recv(clients[static_cast<size_t>(i)], &v, sizeof v, MSG_WAITALL), static_cast<ssize_t>(sizeof v));
      EXPECT_EQ(v, i);
    }
  }
  clients.clear();
  server.join();
}

TEST_F(Tcp, ManyAccepters) {
  Listener l;
  std::atomic<int> got{0};
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 4; i++)
    threads.push_back(std::make_unique<Thread>([&] {
      Fd s = accept(l.fd, nullptr, nullptr);
      if (s >= 0) got++;
    }));
  nap(30);
  std::vector<Fd> clients;
  for (int i = 0; i < 4; i++) {
    clients.emplace_back(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(connect_to(clients.back(), l.at), 0);
  }
  threads.clear();
  EXPECT_EQ(got, 4);
}

// ---- Options ----

TEST_F(Tcp, OptionsReadBack) {
  Fd s = socket(AF_INET, SOCK_STREAM, 0);
  const int list[][3] = {{SOL_SOCKET, SO_KEEPALIVE, 1}, {SOL_SOCKET, SO_REUSEADDR, 1}, {SOL_SOCKET, SO_REUSEPORT, 1},
                         {SOL_SOCKET, SO_OOBINLINE, 1}, {SOL_SOCKET, SO_PRIORITY, 3}, {IPPROTO_TCP, TCP_NODELAY, 1},
                         {IPPROTO_TCP, TCP_CORK, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 33}, {IPPROTO_TCP, TCP_KEEPINTVL, 7},
                         {IPPROTO_TCP, TCP_KEEPCNT, 4}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 4000}, {IPPROTO_TCP, TCP_SYNCNT, 3},
                         {IPPROTO_TCP, TCP_LINGER2, 20}, {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384}, {IPPROTO_IP, IP_TTL, 44},
                         {IPPROTO_IP, IP_TOS, 0x10}, {IPPROTO_IP, IP_FREEBIND, 1}, {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1}};
  for (auto& o : list) {
    EXPECT_EQ(set(s, o[0], o[1], o[2]), 0) << o[0] << " " << o[1] << ": " << strerror(errno);
    EXPECT_EQ(get(s, o[0], o[1]), o[2]) << o[0] << " " << o[1];
  }
  ASSERT_EQ(set(s, SOL_SOCKET, SO_SNDBUF, 30000), 0);
  EXPECT_EQ(get(s, SOL_SOCKET, SO_SNDBUF), 60000);
  ASSERT_EQ(set(s, SOL_SOCKET, SO_RCVBUF, 30000), 0);
  EXPECT_EQ(get(s, SOL_SOCKET, SO_RCVBUF), 60000);
  EXPECT_EQ(get(s, IPPROTO_TCP, TCP_DEFER_ACCEPT), 0);
  EXPECT_ERRNO(set(s, IPPROTO_TCP, TCP_KEEPCNT, 1000), EINVAL);
  EXPECT_ERRNO(set(s, IPPROTO_TCP, 9999, 1), ENOPROTOOPT);
  EXPECT_ERRNO(set(s, 9999, 1, 1), ENOPROTOOPT);
  EXPECT_ERRNO(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, list, 1), EINVAL);
  EXPECT_ERRNO(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, nullptr, 4), EFAULT);
  EXPECT_ERRNO(set(s, SOL_SOCKET, SO_TYPE, 1), ENOPROTOOPT);
  char name_of_control[16] = {};
  socklen_t n = sizeof name_of_control;
  ASSERT_EQ(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name_of_control, &n), 0);
  EXPECT_GT(strlen(name_of_control), 2u);
  EXPECT_ERRNO(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "nosuch", 6), ENOENT);
  char one = 9;
  n = 1;  // cut to the room there is
  ASSERT_EQ(getsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, &one, &n), 0);
  EXPECT_EQ(one, 4);
  EXPECT_EQ(n, 1u);
}

TEST_F(Tcp, Information) {
  Connection x;
  tcp_info i{};
  socklen_t n = sizeof i;
  ASSERT_EQ(getsockopt(x.c, IPPROTO_TCP, TCP_INFO, &i, &n), 0);
  EXPECT_EQ(i.tcpi_state, TCP_ESTABLISHED);
  EXPECT_GT(i.tcpi_snd_mss, 500u);
  Listener l;
  n = sizeof i;
  ASSERT_EQ(getsockopt(l.fd, IPPROTO_TCP, TCP_INFO, &i, &n), 0);
  EXPECT_EQ(i.tcpi_state, TCP_LISTEN);
}

TEST_F(Tcp, DeferredAccept) {
  Listener l("127.0.0.1", SOCK_NONBLOCK);
  ASSERT_EQ(set(l.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5), 0);
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect_to(c, l.at), 0);
  EXPECT_EQ(wait_for(l.fd, POLLIN, 50), 0);
  ASSERT_EQ(send(c, "x", 1, 0), 1);
  EXPECT_EQ(wait_for(l.fd, POLLIN), POLLIN);
}

TEST_F(Tcp, ReusePortSharesAListener) {
  Fd a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0);
  for (int s : {static_cast<int>(a), static_cast<int>(b)}) ASSERT_EQ(set(s, SOL_SOCKET, SO_REUSEPORT, 1), 0);
  ASSERT_EQ(bind_to(a, name("127.0.0.1", 0)), 0);
  ASSERT_EQ(bind_to(b, name_of(a)), 0);
  EXPECT_EQ(listen(a, 5), 0);
  EXPECT_EQ(listen(b, 5), 0);
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(bind_to(c, name_of(a)), EADDRINUSE);
}

TEST_F(Tcp, BoundToADevice) {
  Fd s = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0) << strerror(errno);
  char b[16] = {};
  socklen_t n = sizeof b;
  ASSERT_EQ(getsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, b, &n), 0);
  EXPECT_STREQ(b, "lo");
  Fd t = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(setsockopt(t, SOL_SOCKET, SO_BINDTODEVICE, "nosuch0", 8), ENODEV);
  Listener l("10.77.0.1");
  Listener m;
  EXPECT_EQ(connect_to(s, m.at), 0);
}

// ---- Version 6 ----

TEST_F(Tcp, Version6) {
  Connection x("::1");
  EXPECT_EQ(send(x.c, "six", 3, 0), 3);
  char b[4];
  EXPECT_EQ(recv(x.s, b, 4, 0), 3);
  EXPECT_EQ(get(x.c, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 64);
  EXPECT_EQ(set(x.c, IPPROTO_IPV6, IPV6_TCLASS, 0x20), 0);
  EXPECT_EQ(get(x.c, IPPROTO_IPV6, IPV6_TCLASS), 0x20);
  Fd four = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(set(four, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT);
}

TEST_F(Tcp, BothVersionsOnOneListener) {
  Listener l("::");
  for (const char* a : {"127.0.0.1", "::1", "::ffff:127.0.0.1"}) {
    Fd c = socket(strchr(a, ':') ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(connect_to(c, name(a, l.at.port())), 0) << a << strerror(errno);
    Place n;
    Fd s = accept(l.fd, n.addr(), &n.size);
    ASSERT_GE(s, 0);
    EXPECT_EQ(n.size, sizeof(sockaddr_in6));
    EXPECT_EQ(IN6_IS_ADDR_V4MAPPED(&n.v6().sin6_addr) != 0, strcmp(a, "::1") != 0) << a;
  }
}

TEST_F(Tcp, OnlyVersion6) {
  Fd six = socket(AF_INET6, SOCK_STREAM, 0), four = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(set(six, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
  ASSERT_EQ(bind_to(six, name("::", 0)), 0);
  EXPECT_ERRNO(set(six, IPPROTO_IPV6, IPV6_V6ONLY, 0), EINVAL);
  ASSERT_EQ(bind_to(four, name("0.0.0.0", name_of(six).port())), 0) << "the port of version 4 is free";
  ASSERT_EQ(listen(six, 4), 0);
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(connect_to(c, name("127.0.0.1", name_of(six).port())), ECONNREFUSED);
  Fd mapped = socket(AF_INET6, SOCK_STREAM, 0);
  ASSERT_EQ(set(mapped, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
  EXPECT_ERRNO(connect_to(mapped, name("::ffff:127.0.0.1", 1)), ENETUNREACH);
}

}  // namespace
