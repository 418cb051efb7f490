// SPDX-License-Identifier: Apache-2.0
// What travels beside the bytes of an AF_UNIX socket: descriptors and credentials; options of the socket level; calls for many
// messages. Passes on Linux first, then in the sandbox.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/syscalls/sockets.h"

namespace {

using namespace sockets;

// ---- Ancillary data ----

TEST(Rights, DescriptorsArriveAndWork) {
  Pair p(SOCK_STREAM);
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  Fd r = pipe_fds[0], w = pipe_fds[1];
  ASSERT_EQ(send_fds(p.a, "fd", 2, {r, w}), 2);
  r.reset();
  auto got = receive(p.b, 10, MSG_CMSG_CLOEXEC);
  ASSERT_EQ(got->fds.size(), 2u);
  EXPECT_EQ(got->flags & MSG_CTRUNC, 0);
  EXPECT_EQ(fcntl(got->fds[0], F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(write(got->fds[1], "through", 7), 7);
  char b[10];
  EXPECT_EQ(read(got->fds[0], b, 10), 7);
}

TEST(Rights, PeekDuplicates) {
  Pair p(SOCK_DGRAM);
  Fd f = open("/", O_RDONLY);
  ASSERT_EQ(send_fds(p.a, "x", 1, {f}), 1);
  auto one = receive(p.b, 1, MSG_PEEK), two = receive(p.b, 1);
  ASSERT_EQ(one->fds.size(), 1u);
  ASSERT_EQ(two->fds.size(), 1u);
  EXPECT_NE(one->fds[0], two->fds[0]);
}

TEST(Rights, NoRoomTruncatesAndCloses) {
  Pair p(SOCK_STREAM);
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  Fd r = pipe_fds[0], w = pipe_fds[1];
  ASSERT_EQ(send_fds(p.a, "x", 1, {w}), 1);
  w.reset();
  auto got = receive(p.b, 1, 0, 0);
  EXPECT_TRUE(got->flags & MSG_CTRUNC);
  char b[1];
  EXPECT_EQ(read(r, b, 1), 0);  // the write end is gone
  Fd f = open("/", O_RDONLY);
  ASSERT_EQ(send_fds(p.a, "x", 1, {f, f, f}), 1);
  got = receive(p.b, 1, 0, CMSG_LEN(2 * sizeof(int)));
  EXPECT_TRUE(got->flags & MSG_CTRUNC);
  EXPECT_EQ(got->fds.size(), 2u);
  // read(2) drops them.
  ASSERT_EQ(send_fds(p.a, "x", 1, {f}), 1);
  EXPECT_EQ(read(p.b, b, 1), 1);
}

TEST(Rights, StreamsStopBehindThem) {
  Pair p(SOCK_STREAM);
  Fd f = open("/", O_RDONLY);
  EXPECT_EQ(write(p.a, "ab", 2), 2);
  ASSERT_EQ(send_fds(p.a, "cd", 2, {f}), 2);
  EXPECT_EQ(write(p.a, "ef", 2), 2);
  auto r = receive(p.b, 100);
  EXPECT_EQ(r->data, "abcd");
  EXPECT_EQ(r->fds.size(), 1u);
  r = receive(p.b, 100);
  EXPECT_EQ(r->data, "ef");
  EXPECT_TRUE(r->fds.empty());
}

TEST(Rights, Errors) {
  Pair p(SOCK_STREAM);
  EXPECT_ERRNO(send_fds(p.a, "x", 1, {9999}), EBADF);
  Fd f = open("/", O_RDONLY);
  EXPECT_ERRNO(send_fds(p.a, "x", 1, std::vector<int>(254, f)), EINVAL);
  EXPECT_EQ(send_fds(p.a, "x", 1, std::vector<int>(253, f)), 1);
  EXPECT_EQ(receive(p.b, 1, 0, 4096)->fds.size(), 253u);
  char bad[CMSG_SPACE(4)] = {};
  msghdr m{};
  iovec v{bad, 1};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = bad;
  m.msg_controllen = sizeof bad;
  EXPECT_ERRNO(sendmsg(p.a, &m, 0), EINVAL);  // cmsg_len 0
  m.msg_controllen = 0;
  m.msg_iovlen = 1025;
  EXPECT_ERRNO(sendmsg(p.a, &m, 0), EMSGSIZE);
  m.msg_iovlen = 1;
  v.iov_len = static_cast<size_t>(-1);
  EXPECT_ERRNO(sendmsg(p.a, &m, 0), EINVAL);
  EXPECT_ERRNO(sendmsg(p.a, nullptr, 0), EFAULT);
}

TEST(Rights, CirclesAreCollected) {
  // Each round leaves two sockets that only know each other; without a collector the limit on descriptors in flight
  // or memory would end it.
  rlimit old, low;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  low = old;
  low.rlim_cur = 64;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  // When the last circle goes is the collector's business (Linux 6.18 may leave it until much later); that they go is what keeps the
  // count in flight below the limit.
  int sent = 0;
  for (int i = 0; i < 300; i++) {
    Pair p(i % 2 ? SOCK_DGRAM : SOCK_STREAM);
    sent += send_fds(p.a, "x", 1, {p.a, p.b});
    sent += send_fds(p.b, "x", 1, {p.a});
  }
  EXPECT_EQ(sent, 600) << strerror(errno);
  setrlimit(RLIMIT_NOFILE, &old);
}

TEST(Rights, DeepChainsAreClosed) {
  Fd last = open("/", O_RDONLY);
  for (int i = 0; i < 400; i++) {
    Pair p(SOCK_DGRAM);
    ASSERT_EQ(send_fds(p.a, "x", 1, {last}), 1) << i << ": " << strerror(errno);
    last = std::move(p.b);
  }
}

TEST(Credentials, OfPeerAndMessages) {
  Pair p(SOCK_STREAM);
  ucred c{};
  socklen_t n = sizeof c;
  ASSERT_EQ(getsockopt(p.a, SOL_SOCKET, SO_PEERCRED, &c, &n), 0);
  EXPECT_EQ(c.pid, getpid());
  EXPECT_EQ(c.uid, geteuid());
  EXPECT_EQ(c.gid, getegid());
  Fd lone = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(getsockopt(lone, SOL_SOCKET, SO_PEERCRED, &c, &n), 0);
  EXPECT_EQ(c.pid, 0);
  EXPECT_EQ(c.uid, static_cast<uid_t>(-1));
  int on = 1;
  EXPECT_EQ(write(p.a, "x", 1), 1);
  ASSERT_EQ(setsockopt(p.b, SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
  EXPECT_EQ(write(p.a, "y", 1), 1);
  auto r = receive(p.b, 10);  // written before anybody asked: nobody's
  EXPECT_EQ(r->data, "x");
  ASSERT_TRUE(r->has_cred);
  EXPECT_EQ(r->cred.pid, 0);
  r = receive(p.b, 10);
  EXPECT_EQ(r->data, "y");
  EXPECT_EQ(r->cred.pid, getpid());
  EXPECT_EQ(r->cred.uid, getuid());
}

TEST(Credentials, PeerAcrossFork) {
  Name n = abstract_name("peercred");
  Fd l = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(l, n.addr(), n.size), 0);
  ASSERT_EQ(listen(l, 5), 0);
  pid_t child = fork();
  if (child == 0) {
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(c, n.addr(), n.size) != 0) _exit(1);
    ucred cr{};
    socklen_t cn = sizeof cr;
    getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cr, &cn);
    char b[1];
    (void)!read(c, b, 1);
    _exit(cr.pid == getppid() ? 0 : 2);
  }
  Fd s = accept(l, nullptr, nullptr);
  ucred c{};
  socklen_t cn = sizeof c;
  ASSERT_EQ(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &cn), 0);
  EXPECT_EQ(c.pid, child);
  s.reset();
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// ---- Options ----

TEST(Options, OfSocketLevel) {
  Pair p(SOCK_SEQPACKET);
  auto get = [&](int o) {
    int v = -77;
    socklen_t n = sizeof v;
    EXPECT_EQ(getsockopt(p.a, SOL_SOCKET, o, &v, &n), 0) << o;
    EXPECT_EQ(n, sizeof v);
    return v;
  };
  EXPECT_EQ(get(SO_TYPE), SOCK_SEQPACKET);
  EXPECT_EQ(get(SO_DOMAIN), AF_UNIX);
  EXPECT_EQ(get(SO_PROTOCOL), 0);
  EXPECT_EQ(get(SO_ERROR), 0);
  EXPECT_EQ(get(SO_ACCEPTCONN), 0);
  EXPECT_EQ(get(SO_REUSEADDR), 0);
  int v = 1;
  EXPECT_EQ(setsockopt(p.a, SOL_SOCKET, SO_REUSEADDR, &v, sizeof v), 0);
  EXPECT_EQ(get(SO_REUSEADDR), 1);
  v = 10000;
  EXPECT_EQ(setsockopt(p.a, SOL_SOCKET, SO_SNDBUF, &v, sizeof v), 0);
  EXPECT_EQ(get(SO_SNDBUF), 20000);
  v = 1;
  EXPECT_EQ(setsockopt(p.a, SOL_SOCKET, SO_SNDBUF, &v, sizeof v), 0);
  EXPECT_EQ(get(SO_SNDBUF), 4608);
  EXPECT_ERRNO(setsockopt(p.a, SOL_SOCKET, SO_TYPE, &v, sizeof v), ENOPROTOOPT);
  EXPECT_ERRNO(setsockopt(p.a, SOL_SOCKET, SO_REUSEADDR, &v, 3), EINVAL);
  EXPECT_ERRNO(setsockopt(p.a, SOL_SOCKET, SO_REUSEADDR, nullptr, sizeof v), EFAULT);
  socklen_t n = static_cast<socklen_t>(-1);
  EXPECT_ERRNO(getsockopt(p.a, SOL_SOCKET, SO_TYPE, &v, &n), EINVAL);
  char one[1];
  n = 1;
  EXPECT_EQ(getsockopt(p.a, SOL_SOCKET, SO_TYPE, one, &n), 0);
  EXPECT_EQ(n, 1u);
  EXPECT_ERRNO(getsockopt(p.a, SOL_SOCKET, 4242, &v, &n), ENOPROTOOPT);
}

// ---- Many messages ----

TEST(ManyMessages, SendAndReceive) {
  Pair p(SOCK_DGRAM);
  char out[3][2] = {"a", "b", "c"}, in[5][4];
  iovec vo[3], vi[5];
  mmsghdr mo[3] = {}, mi[5] = {};
  for (int i = 0; i < 3; i++) {
    vo[i] = {out[i], static_cast<size_t>(i % 2 + 1)};
    mo[i].msg_hdr.msg_iov = &vo[i];
    mo[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(sendmmsg(p.a, mo, 3, 0), 3);
  EXPECT_EQ(mo[1].msg_len, 2u);
  for (int i = 0; i < 5; i++) {
    vi[i] = {in[i], 4};
    mi[i].msg_hdr.msg_iov = &vi[i];
    mi[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(recvmmsg(p.b, mi, 5, MSG_WAITFORONE, nullptr), 3);
  EXPECT_EQ(mi[0].msg_len, 1u);
  EXPECT_EQ(in[2][0], 'c');
  EXPECT_ERRNO(recvmmsg(p.b, mi, 5, MSG_DONTWAIT, nullptr), EAGAIN);
}

}  // namespace
