// SPDX-License-Identifier: Apache-2.0
// Ports and connections over loopback.
#include "sentry/net/inet/inet.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <string>

#include "sentry/net/inet/address.h"
#include "sentry/sched/test_scheduler.h"

namespace sentry::net::inet {
namespace {

using sched::on_scheduler;

template <typename T>
T ok(Result<T> r) {
  return std::move(r).value();
}

Ref<Sock> make(int family, int type) { return ok(create(family, type, 0, *make_ref<auth::Credentials>())); }
Address v4(uint32_t host, uint16_t port) { return Endpoint::v4(host, port).to_address(AF_INET); }
Address v6(const in6_addr& a, uint16_t port) {
  Endpoint e;
  e.address = a;
  e.port = port;
  return e.to_address(AF_INET6);
}
uint16_t port_of(Sock& s) {
  Address a = ok(s.name());
  return ntohs(a.as<sockaddr_in>().sin_port);
}
Result<size_t> send(Sock& s, std::string_view text, const Address* to = nullptr) {
  SendRequest r;
  r.data = std::as_bytes(std::span(text.data(), text.size()));
  r.flags = MSG_NOSIGNAL;
  r.to = to;
  return s.send(r);
}
Result<std::string> receive(Sock& s) {
  std::byte b[64];
  auto got = TRY(s.receive({b, MSG_DONTWAIT}));
  return std::string(reinterpret_cast<char*>(b), got.size);
}
void set(Sock& s, int level, int option, int v) {
  EXPECT_TRUE(s.set_option(level, option, std::as_bytes(std::span(&v, 1))).ok());
}

TEST(Ports, ConflictsAndReuse) {
  on_scheduler(1, [] {
    auto a = make(AF_INET, SOCK_STREAM), b = make(AF_INET, SOCK_STREAM), c = make(AF_INET, SOCK_STREAM);
    ASSERT_TRUE(a->bind(v4(INADDR_LOOPBACK, 0)).ok());
    uint16_t port = port_of(*a);
    EXPECT_GE(port, 32768);
    EXPECT_EQ(a->bind(v4(INADDR_LOOPBACK, 0)).error(), kEINVAL);
    EXPECT_EQ(b->bind(v4(INADDR_LOOPBACK, port)).error(), kEADDRINUSE);
    EXPECT_EQ(b->bind(v4(INADDR_ANY, port)).error(), kEADDRINUSE);
    EXPECT_TRUE(b->bind(v4(0x7f000002, port)).ok());  // another loopback address
    EXPECT_EQ(c->bind(v4(0x08080808, 0)).error(), kEADDRNOTAVAIL);
    auto six = make(AF_INET6, SOCK_STREAM);
    EXPECT_EQ(six->bind(v6(in6addr_any, port)).error(), kEADDRINUSE);  // dual stack
    set(*six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    EXPECT_TRUE(six->bind(v6(in6addr_any, port)).ok());
    a->close();
    b->close();
    EXPECT_TRUE(c->bind(v4(INADDR_ANY, port)).ok());
    c->close();
    six->close();
    auto x = make(AF_INET, SOCK_STREAM), y = make(AF_INET, SOCK_STREAM);
    for (auto* s : {&x, &y}) {
      set(**s, SOL_SOCKET, SO_REUSEADDR, 1);
      EXPECT_TRUE((*s)->bind(v4(INADDR_ANY, port)).ok());
    }
    EXPECT_TRUE(x->listen(1).ok());
    EXPECT_EQ(y->listen(1).error(), kEADDRINUSE);
    x->close();
    y->close();
  });
}

TEST(Tcp, FindsTheClosestListener) {
  on_scheduler(1, [] {
    auto wild = make(AF_INET6, SOCK_STREAM);
    ASSERT_TRUE(wild->bind(v6(in6addr_any, 0)).ok());
    uint16_t port = port_of(*wild);
    ASSERT_TRUE(wild->listen(5).ok());
    auto c = make(AF_INET, SOCK_STREAM), d = make(AF_INET6, SOCK_STREAM);
    EXPECT_TRUE(c->connect(v4(INADDR_ANY, port), false).ok());
    EXPECT_TRUE(d->connect(v6(in6addr_loopback, port), false).ok());
    auto s = wild->accept(true);
    ASSERT_TRUE(s.ok());
    auto peer = (*s)->peer_name();
    ASSERT_TRUE(peer.ok());
    auto six = peer->as<sockaddr_in6>();
    EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&six.sin6_addr));
    EXPECT_EQ(ok(send(*c, "hello")), 5u);
    EXPECT_EQ(ok(receive(**s)), "hello");
    auto e = make(AF_INET, SOCK_STREAM);
    EXPECT_EQ(e->connect(v4(0x08080808, 80), false).error(), kENETUNREACH);
    for (auto& x : {c, d, e, wild}) x->close();
    (*s)->close();
    auto f = make(AF_INET, SOCK_STREAM);
    EXPECT_EQ(f->connect(v4(INADDR_LOOPBACK, port), false).error(), kECONNREFUSED);
    f->close();
  });
}

TEST(Tcp, CloseAndReset) {
  on_scheduler(1, [] {
    auto l = make(AF_INET, SOCK_STREAM);
    ASSERT_TRUE(l->listen(5).ok());  // gets a port by itself
    uint16_t port = port_of(*l);
    auto connect = [&] {
      auto c = make(AF_INET, SOCK_STREAM);
      EXPECT_TRUE(c->connect(v4(INADDR_LOOPBACK, port), false).ok());
      return std::pair{c, ok(l->accept(true))};
    };
    auto [c, s] = connect();
    EXPECT_EQ(ok(send(*c, "last words")), 10u);
    c->close();
    EXPECT_EQ(ok(receive(*s)), "last words");
    EXPECT_EQ(ok(receive(*s)), "");
    EXPECT_EQ(ok(send(*s, "x")), 1u);  // goes out, is answered by a reset
    EXPECT_EQ(send(*s, "x").error(), kEPIPE);
    s->close();
    auto [c2, s2] = connect();
    EXPECT_EQ(ok(send(*c2, "unread")), 6u);
    s2->close();
    EXPECT_EQ(receive(*c2).error(), kECONNRESET);
    c2->close();
    auto [c3, s3] = connect();
    linger now{1, 0};
    EXPECT_TRUE(s3->set_option(SOL_SOCKET, SO_LINGER, std::as_bytes(std::span(&now, 1))).ok());
    s3->close();
    EXPECT_EQ(receive(*c3).error(), kECONNRESET);
    c3->close();
    l->close();
  });
}

TEST(Udp, PeersAndOverflow) {
  on_scheduler(1, [] {
    auto a = make(AF_INET, SOCK_DGRAM), b = make(AF_INET, SOCK_DGRAM), c = make(AF_INET, SOCK_DGRAM);
    ASSERT_TRUE(a->bind(v4(INADDR_ANY, 0)).ok());
    ASSERT_TRUE(b->bind(v4(INADDR_LOOPBACK, 0)).ok());
    Address to_a = v4(INADDR_LOOPBACK, port_of(*a)), to_b = v4(INADDR_LOOPBACK, port_of(*b));
    ASSERT_TRUE(a->connect(to_b, false).ok());
    EXPECT_EQ(ok(send(*c, "stranger", &to_a)), 8u);
    EXPECT_EQ(receive(*a).error(), kEAGAIN);  // not from its peer
    EXPECT_EQ(ok(send(*b, "peer", &to_a)), 4u);
    EXPECT_EQ(ok(receive(*a)), "peer");
    std::string big(60000, 'x');
    for (int i = 0; i < 20; i++) EXPECT_EQ(ok(send(*c, big, &to_b)), big.size());
    int got = 0;
    while (receive(*b).ok()) got++;
    EXPECT_EQ(got, 3);  // the rest did not fit 212992 bytes
    EXPECT_EQ(send(*c, std::string(70000, 'x'), &to_b).error(), kEMSGSIZE);
    for (auto& s : {a, b, c}) s->close();
  });
}

}  // namespace
}  // namespace sentry::net::inet
