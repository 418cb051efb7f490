// SPDX-License-Identifier: Apache-2.0
// What the tests of sockets share: descriptors and pairs that close themselves, names, messages with descriptors.
#pragma once

#include <dirent.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace sockets {

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
inline Name abstract_name(const std::string& s) {
  Name n;
  n.un.sun_family = AF_UNIX;
  std::string full = s + std::to_string(getpid());
  memcpy(n.un.sun_path + 1, full.data(), full.size());
  n.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + full.size());
  return n;
}
inline Name path_name(const std::string& s) {
  Name n;
  n.un.sun_family = AF_UNIX;
  strncpy(n.un.sun_path, s.c_str(), sizeof n.un.sun_path - 1);
  n.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + s.size() + 1);
  return n;
}
struct Directory {
  std::string path;
  Directory() {
    char t[] = "/tmp/socket_testXXXXXX";
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

inline int events_of(int fd) {
  pollfd p{fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
  EXPECT_GE(poll(&p, 1, 0), 0);
  return p.revents;
}

inline ssize_t send_fds(int sock, const char* data, size_t n, std::vector<int> fds, int flags = 0) {
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
inline std::unique_ptr<Received> receive(int sock, size_t n, int flags = 0, size_t room = 512) {
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

inline void ignore_sigpipe() { signal(SIGPIPE, SIG_IGN); }

}  // namespace sockets
