// SPDX-License-Identifier: Apache-2.0
// AF_UNIX sockets as an application sees them (man 7 unix), and the parts of other families that need no network. Passes on
// Linux first, then in the sandbox.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

class Fd {
 public:
  Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(o.release()) {}
  Fd& operator=(Fd&& o) noexcept {
    reset(o.release());
    return *this;
  }
  ~Fd() { reset(); }
  operator int() const { return fd_; }
  int release() {
    int f = fd_;
    fd_ = -1;
    return f;
  }
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

struct Pair {
  Fd a, b;
  explicit Pair(int type) {
    int v[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, type, 0, v), 0);
    a.reset(v[0]);
    b.reset(v[1]);
  }
};

#define EXPECT_ERRNO(call, e)         \
  do {                                \
    errno = 0;                        \
    EXPECT_EQ((call), -1) << #call;   \
    EXPECT_EQ(errno, e) << #call << ": " << strerror(errno); \
  } while (0)

struct Name {
  sockaddr_un un{};
  socklen_t size = 0;
  const sockaddr* addr() const { return reinterpret_cast<const sockaddr*>(&un); }
};
Name abstract_name(const std::string& s) {
  Name n;
  n.un.sun_family = AF_UNIX;
  std::string full = s + std::to_string(getpid());
  memcpy(n.un.sun_path + 1, full.data(), full.size());
  n.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + full.size());
  return n;
}
Name path_name(const std::string& s) {
  Name n;
  n.un.sun_family = AF_UNIX;
  strncpy(n.un.sun_path, s.c_str(), sizeof n.un.sun_path - 1);
  n.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + s.size() + 1);
  return n;
}
struct Directory {
  std::string path;
  Directory() {
    char t[] = "/tmp/unix_socket_testXXXXXX";
    path = mkdtemp(t);
  }
  ~Directory() {
    if (DIR* d = opendir(path.c_str())) {
      while (dirent* e = readdir(d)) unlinkat(dirfd(d), e->d_name, 0);
      closedir(d);
    }
    rmdir(path.c_str());
  }
  std::string operator/(const std::string& s) const { return path + "/" + s; }
};

int events_of(int fd) {
  pollfd p{fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
  EXPECT_GE(poll(&p, 1, 0), 0);
  return p.revents;
}

ssize_t send_fds(int sock, const char* data, size_t n, std::vector<int> fds, int flags = 0) {
  std::vector<char> c(CMSG_SPACE(fds.size() * sizeof(int)));
  iovec v{const_cast<char*>(data), n};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = c.data();
  m.msg_controllen = c.size();
  cmsghdr* h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  memcpy(CMSG_DATA(h), fds.data(), fds.size() * sizeof(int));
  return sendmsg(sock, &m, flags);
}
struct Received {
  ssize_t n = 0;
  int error = 0, flags = 0;
  std::string data;
  std::vector<int> fds;
  bool has_cred = false;
  ucred cred{};
  ~Received() {
    for (int f : fds) close(f);
  }
};
std::unique_ptr<Received> receive(int sock, size_t n, int flags = 0, size_t room = 512) {
  auto r = std::make_unique<Received>();
  std::vector<char> d(n), c(room);
  iovec v{d.data(), n};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = room ? c.data() : nullptr;
  m.msg_controllen = room;
  r->n = recvmsg(sock, &m, flags);
  r->error = errno;
  r->flags = m.msg_flags;
  if (r->n < 0) return r;
  r->data.assign(d.data(), std::min<size_t>(n, static_cast<size_t>(r->n)));
  for (cmsghdr* h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
    if (h->cmsg_type == SCM_RIGHTS) {
      size_t k = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      r->fds.resize(k);
      memcpy(r->fds.data(), CMSG_DATA(h), k * sizeof(int));
    } else if (h->cmsg_type == SCM_CREDENTIALS) {
      r->has_cred = true;
      memcpy(&r->cred, CMSG_DATA(h), sizeof r->cred);
    }
  }
  return r;
}

void ignore_sigpipe() { signal(SIGPIPE, SIG_IGN); }

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

// ---- Loopback and the list of interfaces ----

TEST(Interfaces, LoopbackIsKnown) {
  EXPECT_EQ(if_nametoindex("lo"), 1u);
  char name[IF_NAMESIZE];
  EXPECT_STREQ(if_indextoname(1, name), "lo");
  Fd s = socket(AF_UNIX, SOCK_DGRAM, 0);
  ifreq r{};
  strcpy(r.ifr_name, "lo");
  ASSERT_EQ(ioctl(s, SIOCGIFFLAGS, &r), 0);
  EXPECT_TRUE(r.ifr_flags & IFF_LOOPBACK);
  strcpy(r.ifr_name, "nope0");
  EXPECT_ERRNO(ioctl(s, SIOCGIFFLAGS, &r), ENODEV);
  ifaddrs* list = nullptr;
  ASSERT_EQ(getifaddrs(&list), 0);
  bool v4 = false;
  for (ifaddrs* i = list; i; i = i->ifa_next)
    if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !strcmp(i->ifa_name, "lo"))
      v4 |= reinterpret_cast<sockaddr_in*>(i->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
  EXPECT_TRUE(v4);
  freeifaddrs(list);
}

sockaddr_in loopback(uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}
sockaddr* any(sockaddr_in& a) { return reinterpret_cast<sockaddr*>(&a); }

TEST(Loopback, TcpServerAndClient) {
  ignore_sigpipe();
  Fd l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = loopback(0);
  ASSERT_EQ(bind(l, any(a), sizeof a), 0);
  ASSERT_EQ(listen(l, 8), 0);
  socklen_t n = sizeof a;
  ASSERT_EQ(getsockname(l, any(a), &n), 0);
  ASSERT_NE(a.sin_port, 0);
  Fd again = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(bind(again, any(a), sizeof a), EADDRINUSE);
  ASSERT_EQ(connect(c, any(a), sizeof a), 0);
  sockaddr_in from{};
  n = sizeof from;
  Fd s = accept(l, any(from), &n);
  ASSERT_GE(s, 0);
  sockaddr_in mine{};
  n = sizeof mine;
  ASSERT_EQ(getsockname(c, any(mine), &n), 0);
  EXPECT_EQ(memcmp(&mine, &from, sizeof mine), 0);
  int on = 1;
  EXPECT_EQ(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
  EXPECT_EQ(send(c, "ping", 4, 0), 4);
  char b[8];
  EXPECT_EQ(recv(s, b, 8, 0), 4);
  EXPECT_EQ(events_of(s), POLLOUT);
  EXPECT_EQ(shutdown(c, SHUT_WR), 0);
  EXPECT_EQ(recv(s, b, 8, 0), 0);
  EXPECT_EQ(events_of(s), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_EQ(send(s, "pong", 4, 0), 4);
  EXPECT_EQ(recv(c, b, 8, 0), 4);
  s.reset();
  EXPECT_EQ(recv(c, b, 8, 0), 0);
  l.reset();
  Fd d = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_ERRNO(connect(d, any(a), sizeof a), ECONNREFUSED);
}

TEST(Loopback, ReuseAddressLetsOneListen) {
  Fd x = socket(AF_INET, SOCK_STREAM, 0), y = socket(AF_INET, SOCK_STREAM, 0), z = socket(AF_INET, SOCK_STREAM, 0);
  int on = 1;
  sockaddr_in a = loopback(0);
  for (int s : {static_cast<int>(x), static_cast<int>(y)}) {
    ASSERT_EQ(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    ASSERT_EQ(bind(s, any(a), sizeof a), 0);
    socklen_t n = sizeof a;
    ASSERT_EQ(getsockname(s, any(a), &n), 0);
  }
  EXPECT_ERRNO(bind(z, any(a), sizeof a), EADDRINUSE);
  EXPECT_EQ(listen(x, 1), 0);
  EXPECT_ERRNO(listen(y, 1), EADDRINUSE);
}

TEST(Loopback, AddressesOfNobody) {
  Fd s = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = loopback(0);
  a.sin_addr.s_addr = htonl(0xc0000201);  // 192.0.2.1, for documentation only
  EXPECT_ERRNO(bind(s, any(a), sizeof a), EADDRNOTAVAIL);
  EXPECT_ERRNO(bind(s, any(a), 4), EINVAL);
  EXPECT_ERRNO(connect(s, any(a), 1), EINVAL);
  a.sin_family = 77;
  EXPECT_ERRNO(bind(s, any(a), sizeof a), EAFNOSUPPORT);
  EXPECT_ERRNO(connect(s, any(a), sizeof a), EAFNOSUPPORT);
  EXPECT_ERRNO(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  EXPECT_ERRNO(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
}

TEST(Loopback, WriteAfterClose) {
  ignore_sigpipe();
  Fd l = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(listen(l, 8), 0);  // picks a port
  sockaddr_in a{};
  socklen_t n = sizeof a;
  ASSERT_EQ(getsockname(l, any(a), &n), 0);
  ASSERT_NE(a.sin_port, 0);
  char b[4];
  {
    Fd u = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(events_of(u), POLLOUT | POLLHUP);
    EXPECT_ERRNO(send(u, "x", 1, 0), EPIPE);
    EXPECT_ERRNO(recv(u, b, 4, 0), ENOTCONN);
    EXPECT_ERRNO(shutdown(u, SHUT_WR), ENOTCONN);
  }
  Fd c = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(c, any(a), sizeof a), 0);
  Fd s = accept(l, nullptr, nullptr);
  s.reset();
  usleep(10000);
  EXPECT_EQ(events_of(c), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_EQ(send(c, "x", 1, 0), 1);
  usleep(10000);
  EXPECT_ERRNO(send(c, "x", 1, 0), EPIPE);
  // With bytes unread, closing resets.
  Fd d = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(d, any(a), sizeof a), 0);
  s = accept(l, nullptr, nullptr);
  EXPECT_EQ(send(d, "unread", 6, 0), 6);
  usleep(10000);
  s.reset();
  usleep(10000);
  EXPECT_ERRNO(recv(d, b, 4, 0), ECONNRESET);
  EXPECT_EQ(recv(d, b, 4, 0), 0);
}

TEST(Loopback, NonblockingConnect) {
  Fd l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  sockaddr_in a = loopback(0);
  ASSERT_EQ(bind(l, any(a), sizeof a), 0);
  ASSERT_EQ(listen(l, 8), 0);
  socklen_t n = sizeof a;
  ASSERT_EQ(getsockname(l, any(a), &n), 0);
  EXPECT_ERRNO(connect(c, any(a), sizeof a), EINPROGRESS);
  pollfd p{c, POLLOUT, 0};
  ASSERT_EQ(poll(&p, 1, 5000), 1);
  int error = -1;
  n = sizeof error;
  ASSERT_EQ(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &n), 0);
  EXPECT_EQ(error, 0);
  EXPECT_EQ(connect(c, any(a), sizeof a), 0);
  EXPECT_ERRNO(connect(c, any(a), sizeof a), EISCONN);
  l.reset();
  Fd d = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  EXPECT_ERRNO(connect(d, any(a), sizeof a), EINPROGRESS);
  p.fd = d;
  ASSERT_EQ(poll(&p, 1, 5000), 1);
  EXPECT_TRUE(p.revents & POLLERR);
  n = sizeof error;
  ASSERT_EQ(getsockopt(d, SOL_SOCKET, SO_ERROR, &error, &n), 0);
  EXPECT_EQ(error, ECONNREFUSED);
}

TEST(Loopback, DualStack) {
  Fd l = socket(AF_INET6, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  ASSERT_EQ(bind(l, reinterpret_cast<sockaddr*>(&six), sizeof six), 0);
  ASSERT_EQ(listen(l, 8), 0);
  socklen_t n = sizeof six;
  ASSERT_EQ(getsockname(l, reinterpret_cast<sockaddr*>(&six), &n), 0);
  sockaddr_in a = loopback(ntohs(six.sin6_port));
  ASSERT_EQ(connect(c, any(a), sizeof a), 0);
  n = sizeof six;
  Fd s = accept(l, reinterpret_cast<sockaddr*>(&six), &n);
  ASSERT_GE(s, 0);
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&six.sin6_addr));
}

TEST(Loopback, Udp) {
  Fd r = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in a = loopback(0);
  ASSERT_EQ(bind(r, any(a), sizeof a), 0);
  socklen_t n = sizeof a;
  ASSERT_EQ(getsockname(r, any(a), &n), 0);
  EXPECT_ERRNO(send(s, "x", 1, 0), EDESTADDRREQ);
  EXPECT_EQ(sendto(s, "datagram", 8, 0, any(a), sizeof a), 8);
  char b[4];
  sockaddr_in from{};
  n = sizeof from;
  EXPECT_EQ(recvfrom(r, b, 4, MSG_TRUNC, any(from), &n), 8);
  EXPECT_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  EXPECT_EQ(sendto(r, "back", 4, 0, any(from), sizeof from), 4);
  EXPECT_EQ(recv(s, b, 4, 0), 4);
  ASSERT_EQ(connect(s, any(a), sizeof a), 0);
  r.reset();
  EXPECT_EQ(send(s, "x", 1, 0), 1);
  EXPECT_ERRNO(recv(s, b, 4, 0), ECONNREFUSED);
}

TEST(Netlink, OtherKindsAreRefused) {
  EXPECT_ERRNO(socket(AF_NETLINK, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
  EXPECT_ERRNO(socket(AF_NETLINK, SOCK_RAW, 31), EPROTONOSUPPORT);
}

}  // namespace
