// SPDX-License-Identifier: Apache-2.0
// What the tests of inet sockets share. Those named inet_ run in a network namespace made by in_netns.sh.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>

#include <functional>
#include <map>

#include "tests/syscalls/sockets.h"

namespace inet {

using namespace sockets;

struct Place {
  sockaddr_storage s{};
  socklen_t size = sizeof s;
  sockaddr* addr() { return reinterpret_cast<sockaddr*>(&s); }
  const sockaddr* addr() const { return reinterpret_cast<const sockaddr*>(&s); }
  sockaddr_in& v4() { return *reinterpret_cast<sockaddr_in*>(&s); }
  sockaddr_in6& v6() { return *reinterpret_cast<sockaddr_in6*>(&s); }
  uint16_t port() { return ntohs(v4().sin_port); }  // at the same place in both
};
inline Place name(const char* address, uint16_t port) {
  Place n;
  if (strchr(address, ':')) {
    n.v6().sin6_family = AF_INET6;
    n.v6().sin6_port = htons(port);
    EXPECT_EQ(inet_pton(AF_INET6, address, &n.v6().sin6_addr), 1);
    n.size = sizeof(sockaddr_in6);
  } else {
    n.v4().sin_family = AF_INET;
    n.v4().sin_port = htons(port);
    EXPECT_EQ(inet_pton(AF_INET, address, &n.v4().sin_addr), 1);
    n.size = sizeof(sockaddr_in);
  }
  return n;
}
inline Place name_of(int fd) {
  Place n;
  EXPECT_EQ(getsockname(fd, n.addr(), &n.size), 0) << strerror(errno);
  return n;
}
inline Place peer_of(int fd) {
  Place n;
  EXPECT_EQ(getpeername(fd, n.addr(), &n.size), 0) << strerror(errno);
  return n;
}
inline int bind_to(int fd, const Place& n) { return bind(fd, n.addr(), n.size); }
inline int connect_to(int fd, const Place& n) { return connect(fd, n.addr(), n.size); }

template <typename T>
int set(int fd, int level, int option, const T& v) {
  return setsockopt(fd, level, option, &v, sizeof v);
}
inline int get(int fd, int level, int option) {
  int v = -12345;
  socklen_t n = sizeof v;
  EXPECT_EQ(getsockopt(fd, level, option, &v, &n), 0) << level << " " << option << ": " << strerror(errno);
  return v;
}

// A listener and its name.
struct Listener {
  Fd fd;
  Place at;
  explicit Listener(const char* address = "127.0.0.1", int flags = 0, int backlog = 16) {
    fd = socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_STREAM | flags, 0);
    EXPECT_EQ(bind_to(fd, name(address, 0)), 0) << strerror(errno);
    EXPECT_EQ(listen(fd, backlog), 0);
    at = name_of(fd);
  }
};
// A connection: c is the side that connected.
struct Connection {
  Fd c, s;
  explicit Connection(const char* address = "127.0.0.1") {
    Listener l(address);
    c = socket(l.at.s.ss_family, SOCK_STREAM, 0);
    EXPECT_EQ(connect_to(c, l.at), 0) << strerror(errno);
    s = accept(l.fd, nullptr, nullptr);
    EXPECT_GE(s, 0);
  }
};

inline double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}
inline void nap(int ms) { usleep(static_cast<useconds_t>(ms) * 1000); }
inline int wait_for(int fd, int events, int ms = 5000) {
  pollfd p{fd, static_cast<short>(events), 0};
  int n = poll(&p, 1, ms);
  return n < 0 ? -1 : p.revents;
}
inline void set_nonblocking(int fd) { EXPECT_EQ(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0); }
inline bool send_all(int fd, const void* data, size_t n) {
  auto* p = static_cast<const char*>(data);
  while (n > 0) {
    ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
    if (k <= 0) return false;
    p += k;
    n -= static_cast<size_t>(k);
  }
  return true;
}

// A message with all that came beside it, by level and type.
struct Message {
  ssize_t n = -1;
  int flags = 0;
  std::string data;
  Place from;
  std::map<std::pair<int, int>, std::string> control;
  template <typename T>
  T as(int level, int type) {
    T v{};
    auto it = control.find({level, type});
    if (it != control.end()) memcpy(&v, it->second.data(), std::min(sizeof v, it->second.size()));
    return v;
  }
  bool has(int level, int type) const { return control.contains({level, type}); }
};
inline Message receive_message(int fd, int flags = 0, size_t room = 512) {
  Message r;
  alignas(cmsghdr) char c[512];
  char b[4096];
  iovec v{b, sizeof b};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_name = &r.from.s;
  m.msg_namelen = sizeof r.from.s;
  m.msg_control = c;
  m.msg_controllen = room;
  r.n = recvmsg(fd, &m, flags);
  if (r.n < 0) return r;
  r.from.size = m.msg_namelen;
  r.flags = m.msg_flags;
  r.data.assign(b, static_cast<size_t>(r.n));
  for (cmsghdr* h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
    r.control[{h->cmsg_level, h->cmsg_type}].assign(reinterpret_cast<char*>(CMSG_DATA(h)), h->cmsg_len - CMSG_LEN(0));
  return r;
}
template <typename T>
ssize_t send_with(int fd, const Place& to, int level, int type, const T& value, std::string data = "with") {
  alignas(cmsghdr) char c[CMSG_SPACE(sizeof value)] = {};
  iovec v{data.data(), data.size()};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_name = const_cast<sockaddr*>(to.addr());
  m.msg_namelen = to.size;
  m.msg_control = c;
  m.msg_controllen = sizeof c;
  cmsghdr* h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = level;
  h->cmsg_type = type;
  h->cmsg_len = CMSG_LEN(sizeof value);
  memcpy(CMSG_DATA(h), &value, sizeof value);
  return sendmsg(fd, &m, 0);
}

// Joined at the end.
class Thread {
 public:
  explicit Thread(std::function<void()> f) : f_(std::move(f)) {
    EXPECT_EQ(pthread_create(&t_, nullptr, [](void* p) -> void* {
      static_cast<Thread*>(p)->f_();
      return nullptr;
    }, this), 0);
  }
  ~Thread() { join(); }
  void join() {
    if (!joined_) pthread_join(t_, nullptr);
    joined_ = true;
  }

 private:
  std::function<void()> f_;
  pthread_t t_{};
  bool joined_ = false;
};

}  // namespace inet
