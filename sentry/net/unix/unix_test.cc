// SPDX-License-Identifier: Apache-2.0
// The engines of AF_UNIX on fibers: what blocks, what wakes, who is collected. Semantics that an application sees are in
// tests/syscalls/{unix_socket,unix_rights}_test.cc, which also run on Linux.
#include "sentry/net/unix/unix.h"

#include <sys/un.h>

#include <cstddef>
#include <string>

#include "sentry/net/common/in_flight.h"
#include "sentry/net/common/socket_file.h"
#include "sentry/sched/test_scheduler.h"

namespace sentry::net::local {
namespace {

using sched::Group;
using sched::kMs;
using sched::on_scheduler;

template <typename T>
T ok(Result<T> r) {
  return std::move(r).value();
}

Result<size_t> send(Sock& s, std::string_view text, int flags = 0, std::vector<Ref<vfs::File>> files = {}) {
  SendRequest r;
  r.data = std::as_bytes(std::span(text.data(), text.size()));
  r.flags = flags;
  if (!files.empty()) r.control.files = TRY(InFlight::create(std::move(files), *make_ref<auth::Credentials>(), 1024));
  return s.send(r);
}
Result<std::string> receive(Sock& s, size_t n, int flags = 0, std::vector<Ref<vfs::File>>* files = nullptr) {
  std::vector<std::byte> b(n);
  auto got = TRY(s.receive({b, flags}));
  if (files) *files = std::move(got.files);
  return std::string(reinterpret_cast<char*>(b.data()), got.size);
}
Address abstract(std::string_view name) {
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  memcpy(un.sun_path + 1, name.data(), name.size());
  return Address::of(un, offsetof(sockaddr_un, sun_path) + 1 + name.size());
}
Ref<Sock> make(int type) { return create(type, 0).value(); }
Pair pair(int type) { return create_pair(type, 0).value(); }
Ref<auth::Credentials> nobody() { return make_ref<auth::Credentials>(); }

// Counts how many of them live.
std::atomic<int> live{0};
class Counted final : public vfs::File {
 public:
  static Ref<vfs::File> create() {
    auto path = vfs::make_anonymous_path("counted", S_IFREG, *nobody());
    auto inode = path.inode().get_ref();
    return make_ref<Counted>(path, inode);
  }
  Counted(const vfs::Path& p, Ref<vfs::Inode> i) : File(vfs::FileKind::plain, p, std::move(i), O_RDWR, nobody()) { live++; }
  ~Counted() override { live--; }
};

TEST(Stream, ReaderParksUntilBytesCome) {
  on_scheduler(2, [] {
    Pair p = pair(SOCK_STREAM);
    Group g;
    g.add([&] {
      auto got = receive(*p.b, 10, MSG_WAITALL);
      ASSERT_TRUE(got.ok());
      EXPECT_EQ(*got, "helloworld");
    });
    sched::park(sched::now() + kMs);
    EXPECT_EQ(ok(send(*p.a, "hello")), 5u);
    sched::park(sched::now() + kMs);
    EXPECT_EQ(ok(send(*p.a, "world")), 5u);
    g.join();
    p.a->close();
    p.b->close();
  });
}

TEST(Stream, WriterParksWhenTheQueueIsFullAndGoesOn) {
  on_scheduler(2, [] {
    Pair p = pair(SOCK_STREAM);
    std::string big(2 << 20, 'x');
    for (size_t i = 0; i < big.size(); i++) big[i] = static_cast<char>(i % 251);
    Group g;
    g.add([&] { EXPECT_EQ(ok(send(*p.a, big)), big.size()); });
    std::string all;
    while (all.size() < big.size()) {
      auto got = receive(*p.b, 10000);
      ASSERT_TRUE(got.ok());
      all += *got;
    }
    g.join();
    EXPECT_TRUE(all == big);
    p.a->close();
    p.b->close();
  });
}

TEST(Stream, SmallWritesShareAPacketAndGiveRoomBack) {
  on_scheduler(1, [] {
    Pair p = pair(SOCK_STREAM);
    for (int i = 0; i < 1000; i++) ASSERT_EQ(ok(send(*p.a, "x")), 1u);
    EXPECT_EQ(ok(p.b->unread()), 1000);
    EXPECT_LT(ok(p.a->unsent()), 40000);  // not a whole packet's cost for each byte
    EXPECT_EQ(ok(receive(*p.b, 2000)).size(), 1000u);
    EXPECT_EQ(ok(p.a->unsent()), 0);
    p.a->close();
    p.b->close();
  });
}

TEST(Stream, SignalEndsAWait) {
  on_scheduler(2, [] {
    Pair p = pair(SOCK_STREAM);
    Group g;
    auto& f = g.add([&] {
      auto got = receive(*p.b, 1);
      ASSERT_FALSE(got.ok());
      EXPECT_EQ(got.error(), kERESTARTSYS);
    });
    sched::park(sched::now() + kMs);
    f.interrupt();
    g.join();
    timeval tv{10, 0};
    EXPECT_TRUE(p.b->set_option(SOL_SOCKET, SO_RCVTIMEO_OLD, std::as_bytes(std::span(&tv, 1))).ok());
    auto& h = g.add([&] {
      auto got = receive(*p.b, 1);
      ASSERT_FALSE(got.ok());
      EXPECT_EQ(got.error(), kEINTR);  // with a time-out it is not restarted
    });
    sched::park(sched::now() + kMs);
    h.interrupt();
    g.join();
    p.a->close();
    p.b->close();
  });
}

TEST(Stream, TimeOutIsEagain) {
  on_scheduler(1, [] {
    Pair p = pair(SOCK_STREAM);
    timeval tv{0, 2000};
    EXPECT_TRUE(p.b->set_option(SOL_SOCKET, SO_RCVTIMEO_OLD, std::as_bytes(std::span(&tv, 1))).ok());
    auto got = receive(*p.b, 1);
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error(), kEAGAIN);
    p.a->close();
    p.b->close();
  });
}

TEST(Stream, ManyClientsOneListener) {
  on_scheduler(2, [] {
    constexpr int kClients = 100;
    auto l = make(SOCK_STREAM);
    ASSERT_TRUE(l->bind(abstract("many")).ok());
    ASSERT_TRUE(l->listen(3).ok());
    Group g;
    for (int i = 0; i < kClients; i++)
      g.add([i] {
        auto c = make(SOCK_STREAM);
        EXPECT_TRUE(c->connect(abstract("many"), false).ok());
        EXPECT_EQ(ok(send(*c, std::to_string(i))), std::to_string(i).size());
        EXPECT_EQ(ok(receive(*c, 4)), "ok");
        c->close();
      });
    long sum = 0;
    for (int i = 0; i < kClients; i++) {
      auto s = l->accept(false);
      ASSERT_TRUE(s.ok());
      sum += std::stol(ok(receive(**s, 8)));
      EXPECT_EQ(ok(send(**s, "ok")), 2u);
      (*s)->close();
    }
    EXPECT_EQ(sum, kClients * (kClients - 1) / 2);
    g.join();
    l->close();
    auto c = make(SOCK_STREAM);
    EXPECT_EQ(c->connect(abstract("many"), false).error(), kECONNREFUSED);
    c->close();
  });
}

TEST(Stream, ListenerClosingWhileConnectWaits) {
  on_scheduler(2, [] {
    auto l = make(SOCK_STREAM);
    ASSERT_TRUE(l->bind(abstract("closing")).ok());
    ASSERT_TRUE(l->listen(0).ok());
    auto first = make(SOCK_STREAM), second = make(SOCK_STREAM);
    EXPECT_TRUE(first->connect(abstract("closing"), true).ok());
    EXPECT_EQ(second->connect(abstract("closing"), true).error(), kEAGAIN);
    Group g;
    g.add([&] { EXPECT_EQ(second->connect(abstract("closing"), false).error(), kECONNREFUSED); });
    sched::park(sched::now() + 2 * kMs);
    l->close();
    g.join();
    EXPECT_EQ(receive(*first, 1).error(), kECONNRESET);
    first->close();
    second->close();
  });
}

TEST(Datagram, SenderWaitsForRoomAndIsTold) {
  on_scheduler(2, [] {
    auto r = make(SOCK_DGRAM), s = make(SOCK_DGRAM);
    ASSERT_TRUE(r->bind(abstract("dgram")).ok());
    ASSERT_TRUE(s->connect(abstract("dgram"), false).ok());
    int sent = 0;
    while (send(*s, "x", MSG_DONTWAIT).ok()) sent++;
    EXPECT_EQ(sent, 11);
    EXPECT_FALSE(s->poll_events() & EPOLLOUT);
    Group g;
    g.add([&] { EXPECT_TRUE(send(*s, "y").ok()); });
    sched::park(sched::now() + kMs);
    EXPECT_EQ(ok(receive(*r, 1)), "x");
    g.join();
    EXPECT_EQ(ok(receive(*r, 1)), "x");
    EXPECT_TRUE(s->poll_events() & EPOLLOUT);
    g.add([&] {
      while (send(*s, "z").ok()) {}
    });
    sched::park(sched::now() + kMs);
    r->close();  // who waits gets its refusal
    g.join();
    s->close();
  });
}

TEST(Names, DyingSocketIsNotFound) {
  on_scheduler(2, [] {
    Group g;
    std::atomic<bool> stop{false};
    g.add([&] {
      for (int i = 0; i < 500; i++) {
        auto l = make(SOCK_STREAM);
        EXPECT_TRUE(l->bind(abstract("dying")).ok());
        EXPECT_TRUE(l->listen(1).ok());
        sched::yield();
        l->close();
      }
      stop = true;
    });
    g.add([&] {
      while (!stop) {
        auto c = make(SOCK_STREAM);
        auto r = c->connect(abstract("dying"), true);
        EXPECT_TRUE(r.ok() || r.error() == kECONNREFUSED || r.error() == kEAGAIN);
        c->close();
        sched::yield();
      }
    });
    g.join();
    EXPECT_TRUE(list().empty());
  });
}

struct Files {
  Ref<vfs::File> a, b;
  Sock& sa() { return a->as<SocketFile>()->sock(); }
  Sock& sb() { return b->as<SocketFile>()->sock(); }
};
Files files(int type) {
  Pair p = pair(type);
  return {make_socket_file(std::move(p.a), 0, nobody()), make_socket_file(std::move(p.b), 0, nobody())};
}

TEST(InFlight, FilesTravelAndAreReleasedWhenUnread) {
  on_scheduler(1, [] {
    ASSERT_EQ(live, 0);
    {
      Files f = files(SOCK_STREAM);
      EXPECT_TRUE(send(f.sa(), "x", 0, {Counted::create()}).ok());
      EXPECT_TRUE(send(f.sa(), "y", 0, {Counted::create()}).ok());
      EXPECT_EQ(live, 2);
      std::vector<Ref<vfs::File>> got;
      EXPECT_EQ(ok(receive(f.sb(), 10, 0, &got)), "x");
      EXPECT_EQ(got.size(), 1u);
      got.clear();
      EXPECT_EQ(live, 1);
    }
    EXPECT_EQ(live, 0);
  });
}

TEST(InFlight, CircleIsCollectedOnlyWhenUnreachable) {
  on_scheduler(1, [] {
    for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
      std::vector<Ref<vfs::File>> kept;
      {
        Files f = files(type);
        ASSERT_TRUE(send(f.sa(), "x", 0, {f.a, f.b, Counted::create()}).ok());
        ASSERT_TRUE(send(f.sb(), "x", 0, {f.a}).ok());
        kept.push_back(f.b);
      }
      collect_garbage();
      EXPECT_EQ(live, 1);  // b is held, so all of it can be reached
      EXPECT_EQ(sockets_in_flight(), 2u);
      kept.clear();
      collect_garbage();
      EXPECT_EQ(live, 0);
      EXPECT_EQ(sockets_in_flight(), 0u);
    }
  });
}

TEST(InFlight, CircleThroughABacklogIsCollected) {
  on_scheduler(1, [] {
    {
      auto lf = make_socket_file(make(SOCK_STREAM), 0, nobody());
      Sock& l = lf->as<SocketFile>()->sock();
      ASSERT_TRUE(l.bind(abstract("gc")).ok());
      ASSERT_TRUE(l.listen(5).ok());
      auto cf = make_socket_file(make(SOCK_STREAM), 0, nobody());
      Sock& c = cf->as<SocketFile>()->sock();
      ASSERT_TRUE(c.connect(abstract("gc"), false).ok());
      ASSERT_TRUE(send(c, "x", 0, {lf, Counted::create()}).ok());  // lies in the socket that nobody accepted
    }
    collect_garbage();
    EXPECT_EQ(live, 0);
    EXPECT_EQ(sockets_in_flight(), 0u);
  });
}

TEST(InFlight, DeepChainIsReleasedWithoutDeepRecursion) {
  on_scheduler(1, [] {
    Ref<vfs::File> last = Counted::create();
    for (int i = 0; i < 900; i++) {
      Files f = files(SOCK_DGRAM);
      ASSERT_TRUE(send(f.sa(), "x", 0, {last}).ok());
      last = f.b;
    }
    EXPECT_EQ(live, 1);
    release_files({std::move(last)});
    EXPECT_EQ(live, 0);
    EXPECT_EQ(sockets_in_flight(), 0u);
  });
}

TEST(InFlight, BoundedByUser) {
  on_scheduler(1, [] {
    Ref<auth::Credentials> cred = nobody();
    cred->uid = 4711;
    std::vector<InFlight> on_the_way;
    Errno last = kEPERM;
    for (int i = 0; i < 50; i++) {
      auto r = InFlight::create({Counted::create()}, *cred, 20);
      if (!r.ok()) {
        last = r.error();
        break;
      }
      on_the_way.push_back(std::move(r).value());
    }
    EXPECT_EQ(last.value(), ETOOMANYREFS);
    EXPECT_EQ(on_the_way.size(), 21u);
    on_the_way.clear();
    EXPECT_TRUE(InFlight::create({Counted::create()}, *cred, 20).ok());
    EXPECT_EQ(live, 0);
  });
}

TEST(InFlight, CollectorAndReceiversAtOnce) {
  on_scheduler(2, [] {
    Group g;
    std::atomic<int> running{3};
    for (int k = 0; k < 3; k++)
      g.add([&running] {
        for (int i = 0; i < 200; i++) {
          Files outer = files(SOCK_STREAM), inner = files(SOCK_STREAM);
          EXPECT_TRUE(send(inner.sa(), "in", 0, {Counted::create()}).ok());
          EXPECT_TRUE(send(outer.sa(), "out", 0, {inner.b}).ok());
          inner.b = inner.a;
          sched::yield();
          std::vector<Ref<vfs::File>> got, deep;
          EXPECT_EQ(ok(receive(outer.sb(), 3, i % 2 ? MSG_PEEK : 0, &got)), "out");
          ASSERT_EQ(got.size(), 1u);
          EXPECT_EQ(ok(receive(got[0]->as<SocketFile>()->sock(), 2, 0, &deep)), "in");
          EXPECT_EQ(deep.size(), 1u);
        }
        running--;
      });
    while (running > 0) {
      collect_garbage();
      sched::yield();
    }
    g.join();
    collect_garbage();
    EXPECT_EQ(live, 0);
    EXPECT_EQ(sockets_in_flight(), 0u);
  });
}

}  // namespace
}  // namespace sentry::net::local
