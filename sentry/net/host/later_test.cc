// SPDX-License-Identifier: Apache-2.0
// Sends that are held: what the other side gets, and what happens when the host has no room after all. Over the loopback, where
// nothing would be held: the way is set from here.
#include "sentry/net/host/later.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "sentry/sched/test_scheduler.h"

namespace sentry::net::host {

struct HostSockPeek {
  static void hold_from_now_on(HostSock& s) {
    s.start_watching();
    s.way_ = HostSock::Way::later;
  }
  static void promise_room(HostSock& s) {
    MutexLock l(s.mu_);
    s.room_ = 8192;
  }
  static bool holds(HostSock& s) { return s.holds_.load(); }
  static bool stuck(HostSock& s) { return s.stuck_.load(); }
};

namespace {

template <typename F>
void on_scheduler(F body) {
  sched::on_scheduler(1, [&] {
    body();
    while (!nothing_waits()) sched::yield();  // what runs there ends with its scheduler
  });
}

// A connection: our socket, and the other side's descriptor.
struct Connection {
  RefOrNull<HostSock> ours;
  int own = -1, other = -1;

  // room: of both buffers; 0: as they are.
  explicit Connection(int room = 0) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t n = sizeof a;
    int l = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(l, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    if (room) {
      EXPECT_EQ(::setsockopt(l, SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    }
    EXPECT_EQ(::listen(l, 1), 0);
    EXPECT_EQ(::getsockname(l, reinterpret_cast<sockaddr*>(&a), &n), 0);
    own = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (room) {
      EXPECT_EQ(::setsockopt(own, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    }
    EXPECT_EQ(::connect(own, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    other = ::accept4(l, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    EXPECT_GE(other, 0);
    ::close(l);
    ::fcntl(own, F_SETFL, O_NONBLOCK);
    ours = make_ref<HostSock>(AF_INET, SOCK_STREAM, IPPROTO_TCP, Fd(own));
    HostSockPeek::hold_from_now_on(*ours);
  }
  ~Connection() { ::close(other); }

  Result<size_t> send(std::string_view text) {
    SendRequest r;
    r.data = std::as_bytes(std::span(text.data(), text.size()));
    r.flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    return ours->send(r);
  }
  // What has come and comes until there are n bytes, or the end.
  std::string take(size_t n) {
    std::string got;
    while (got.size() < n) {
      char b[4096];
      ssize_t k = ::recv(other, b, sizeof b, 0);
      if (k == 0 || (k < 0 && errno != EAGAIN)) break;
      if (k > 0) got.append(b, static_cast<size_t>(k));
      else sched::park(sched::now() + sched::kMs / 10);
    }
    return got;
  }
  // Has something held for which the host has no room; all that the other side will get.
  std::string stick() {
    const std::string filling(1000, 'f'), held(4000, 'h');
    std::string all;
    for (int full = 0; full < 20;) {
      ssize_t n = ::send(own, filling.data(), filling.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n > 0) all += filling.substr(0, static_cast<size_t>(n));
      full = n > 0 ? 0 : full + 1;
      if (n <= 0) sched::park(sched::now() + sched::kMs);
    }
    HostSockPeek::promise_room(*ours);
    EXPECT_EQ(send(held).value(), held.size());
    while (HostSockPeek::holds(*ours) && !HostSockPeek::stuck(*ours)) sched::yield();
    EXPECT_TRUE(HostSockPeek::stuck(*ours));
    return all + held;
  }
};

TEST(Later, IsSoonAndInOrder) {
  on_scheduler([] {
    Connection c;
    std::string all;
    for (int i = 0; i < 1000; i++) {
      std::string word = std::to_string(i) + ",";
      ASSERT_EQ(c.send(word).value(), word.size());
      all += word;
      if (i % 10 != 0) continue;  // then there is room for more
      EXPECT_TRUE(i > 0 || HostSockPeek::holds(*c.ours));
      EXPECT_EQ(c.take(all.size()), all);
      all.clear();
    }
    EXPECT_EQ(c.take(all.size()), all);
    EXPECT_FALSE(HostSockPeek::holds(*c.ours));
  });
}

TEST(Later, WhatAsksOrChangesSendsFirst) {
  on_scheduler([] {
    Connection c;
    char b[10];
    ASSERT_TRUE(c.send("a").ok());
    EXPECT_TRUE(c.ours->set_option(IPPROTO_TCP, TCP_NODELAY, std::as_bytes(std::span("\1\0\0", 4))).ok());
    EXPECT_EQ(::recv(c.other, b, sizeof b, 0), 1);
    ASSERT_TRUE(c.send("b").ok());
    EXPECT_TRUE(c.ours->unsent().ok());
    EXPECT_EQ(::recv(c.other, b, sizeof b, 0), 1);
    ASSERT_TRUE(c.send("c").ok());
    ASSERT_TRUE(c.send(std::string(100000, 'd')).ok());  // too long to be held
    EXPECT_EQ(c.take(100001).substr(0, 2), "cd");
    ASSERT_TRUE(c.send("e").ok());
    EXPECT_TRUE(c.ours->shutdown(SHUT_WR).ok());
    EXPECT_EQ(c.take(2), "e");
    EXPECT_EQ(c.send("f").error(), kEPIPE);
  });
}

TEST(Later, WithoutRoomItIsKeptInOrderAndGoesOnByItself) {
  on_scheduler([] {
    Connection c(4096);
    const std::string all = c.stick();
    EXPECT_EQ(c.ours->poll_events() & EPOLLOUT, 0u);
    EXPECT_EQ(c.send("x").error(), kEAGAIN);
    EXPECT_EQ(c.take(all.size()), all);
    while (HostSockPeek::holds(*c.ours)) sched::park(sched::now() + sched::kMs / 10);
    EXPECT_NE(c.ours->poll_events() & EPOLLOUT, 0u);
  });
}

TEST(Later, WhatIsKeptOutlivesShutdownAndClose) {
  for (bool shut : {true, false})
    on_scheduler([shut] {
      Connection c(4096);
      const std::string all = c.stick();
      if (shut) {
        EXPECT_TRUE(c.ours->shutdown(SHUT_WR).ok());
        EXPECT_EQ(c.send("x").error(), kEPIPE);
      } else {
        c.ours->close();
        c.ours = {};
      }
      EXPECT_EQ(c.take(all.size() + 1), all);  // and then the end
    });
}

TEST(Later, ARefusalIsToldByTheNextCall) {
  on_scheduler([] {
    Connection c;
    const linger reset{1, 0};
    ASSERT_EQ(::setsockopt(c.other, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    ASSERT_TRUE(c.send("x").ok());  // held
    ::close(std::exchange(c.other, -1));
    while (HostSockPeek::holds(*c.ours)) sched::yield();
    EXPECT_EQ(c.send("y").error(), kECONNRESET);
    EXPECT_EQ(c.send("z").error(), kEPIPE);
  });
}

}  // namespace
}  // namespace sentry::net::host
