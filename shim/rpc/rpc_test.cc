// SPDX-License-Identifier: Apache-2.0
// Frames and calls: what a good peer gets, and what a hostile one cannot do.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/sys.h"
#include "shim/rpc/client.h"
#include "shim/rpc/server.h"

namespace shim::rpc {
namespace {

std::string header(uint32_t length, uint32_t stream, int type, int flags = 0) {
  std::string f = encode_frame(stream, FrameType::request, "");
  for (int i = 0; i < 4; i++) f[static_cast<size_t>(i)] = static_cast<char>(length >> (24 - 8 * i));
  f[8] = static_cast<char>(type);
  f[9] = static_cast<char>(flags);
  return f;
}

TEST(Frames, ComeOutWholeHoweverTheyAreCut) {
  std::string bytes = encode_frame(1, FrameType::request, "first") + encode_frame(3, FrameType::response, "") +
                      encode_frame(0xfffffffe, FrameType::data, std::string(100000, 'x'));
  for (size_t step : {size_t{1}, size_t{7}, size_t{4096}, bytes.size()}) {
    FrameReader r;
    std::vector<Frame> got;
    for (size_t at = 0; at < bytes.size(); at += step) {
      r.feed(std::string_view(bytes).substr(at, step));
      while (auto f = r.next()) got.push_back(std::move(*f));
    }
    ASSERT_EQ(got.size(), 3u) << step;
    EXPECT_EQ(got[0].body, "first");
    EXPECT_EQ(got[0].stream, 1u);
    EXPECT_EQ(got[1].body, "");
    EXPECT_EQ(got[1].type, 2);
    EXPECT_EQ(got[2].stream, 0xfffffffeu);
    EXPECT_EQ(got[2].body.size(), 100000u);
    EXPECT_EQ(r.waiting(), 0u);
  }
}

TEST(Frames, AnOverlongBodyIsPassedOverAndTheNextIsRead) {
  FrameReader r;
  r.feed(header(kMaxBody + 1, 5, 1));
  std::string chunk(65536, 'y');
  size_t left = kMaxBody + 1;
  while (left > 0) {
    EXPECT_FALSE(r.next());
    size_t n = std::min(left, chunk.size());
    r.feed(std::string_view(chunk).substr(0, n));
    left -= n;
  }
  auto f = r.next();
  ASSERT_TRUE(f);
  EXPECT_TRUE(f->too_long);
  EXPECT_EQ(f->stream, 5u);
  r.feed(encode_frame(7, FrameType::request, "z"));
  f = r.next();
  ASSERT_TRUE(f);
  EXPECT_FALSE(f->too_long);
  EXPECT_EQ(f->body, "z");
}

TEST(Frames, APromiseOfMuchTakesNoMemory) {
  FrameReader r;
  r.feed(header(0xffffffff, 1, 1));
  for (int i = 0; i < 64; i++) {
    r.feed(std::string(65536, 'a'));
    EXPECT_FALSE(r.next());
    EXPECT_EQ(r.waiting(), 0u);
  }
}

// A server in this thread's loop; raw peers and clients talk to it.
class Rpc : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(directory), nullptr);
    path = std::string(directory) + "/s";
    listen();
  }
  void TearDown() override {
    ::unlink(path.c_str());
    ::rmdir(directory);
  }
  void listen() {
    ::unlink(path.c_str());
    base::Fd s(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path.c_str());
    ASSERT_EQ(::bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    ASSERT_EQ(::listen(s.get(), 16), 0);
    server.emplace(loop, std::move(s), [this](Call c) { handle(std::move(c)); }, limits);
  }
  void handle(Call c) {
    if (c.method == "echo") {
      proto::KeyValue kv;
      kv.set_key(c.payload);
      kv.set_value(c.metadata["containerd-namespace-ttrpc"]);
      return c.reply(kv);
    }
    if (c.method == "hold") return held.push_back(std::move(c));
    if (c.method == "drop") return;
    if (c.method == "big") {
      proto::KeyValue kv;
      kv.set_value(std::string(1 << 20, 'b'));
      return c.reply(kv);
    }
    c.fail(Code::unimplemented, "method " + c.method);
  }
  // Runs the loop until done() or for `ms`.
  bool until(const std::function<bool()>& done, int ms = 10000) {
    for (int i = 0; i < ms; i++) {
      if (done()) return true;
      Loop* l = &loop;
      l->after(1, [l] { l->stop(); });
      loop.run();
      loop.resume();
    }
    return false;
  }
  base::Fd raw() {
    auto s = connect_unix(path);
    EXPECT_TRUE(s.ok());
    return std::move(s).value();
  }
  std::string request(uint32_t stream, const std::string& method, int64_t timeout_ns = 0) {
    proto::Request q;
    q.set_service("s");
    q.set_method(method);
    q.set_timeout_nano(timeout_ns);
    return encode_frame(stream, FrameType::request, q.SerializeAsString());
  }
  // Sends bytes and reads one frame; nothing if the server hangs up.
  std::optional<Frame> ask(int fd, std::string_view bytes) {
    EXPECT_TRUE(base::sys::write_all(fd, bytes.data(), bytes.size()).ok());
    return answer(fd);
  }
  std::optional<Frame> answer(int fd) {
    FrameReader r;
    std::optional<Frame> got;
    bool ended = false;
    until([&] {
      char b[10];  // no more than one frame's worth at a time
      for (;;) {
        if ((got = r.next())) return true;
        ssize_t n = ::read(fd, b, r.waiting() < kFrameHeader ? kFrameHeader - r.waiting() : 1);
        if (n == 0) ended = true;
        if (n <= 0) return ended;
        r.feed({b, static_cast<size_t>(n)});
      }
    });
    return got;
  }
  int code_of(const std::optional<Frame>& f) {
    proto::Response r;
    return f && r.ParseFromString(f->body) ? r.status().code() : -1;
  }

  char directory[32] = "/tmp/caisson-rpc-XXXXXX";
  std::string path;
  Loop loop;
  ServerLimits limits;
  std::vector<Call> held;
  std::optional<Server> server;
};

TEST_F(Rpc, ACallIsAnswered) {
  Client c(loop, path);
  std::string got;
  c.call("s", "echo", "hello", "space", 5000, [&](auto r) { got = r.ok() ? *r : "failed: " + r.error().text(); });
  ASSERT_TRUE(until([&] { return !got.empty(); }));
  proto::KeyValue kv;
  ASSERT_TRUE(kv.ParseFromString(got)) << got;
  EXPECT_EQ(kv.key(), "hello");
  EXPECT_EQ(kv.value(), "space");
}

TEST_F(Rpc, ManyCallsAreInFlightAndAnsweredInAnyOrder) {
  Client c(loop, path);
  std::vector<int> order;
  for (int i = 0; i < 3; i++) c.call("s", "hold", "", "n", 5000, [&, i](auto r) { order.push_back(r.ok() ? i : -1); });
  ASSERT_TRUE(until([&] { return held.size() == 3; }));
  held[2].reply();
  held[0].reply();
  held[1].reply();
  ASSERT_TRUE(until([&] { return order.size() == 3; }));
  EXPECT_EQ(order, (std::vector<int>{2, 0, 1}));
}

TEST_F(Rpc, ErrorsHaveTheirCodeAndText) {
  Client c(loop, path);
  std::string text;
  c.call("s", "nothing", "", "n", 5000, [&](auto r) { text = r.ok() ? "ok" : r.error().text(); });
  ASSERT_TRUE(until([&] { return !text.empty(); }));
  EXPECT_NE(text.find("method nothing (code 12)"), std::string::npos) << text;
  auto s = raw();
  EXPECT_EQ(code_of(ask(s.get(), request(1, "drop"))), static_cast<int>(Code::internal)) << "a call that is forgotten is told";
}

TEST_F(Rpc, ACallersDeadlineIsKept) {
  auto s = raw();
  EXPECT_EQ(code_of(ask(s.get(), request(1, "hold", 20'000'000))), static_cast<int>(Code::deadline_exceeded));
  ASSERT_EQ(held.size(), 1u);
  EXPECT_FALSE(held[0].awaited());
  held.clear();  // its late answer goes nowhere
  EXPECT_EQ(code_of(ask(s.get(), request(3, "echo"))), 0);
}

TEST_F(Rpc, StreamsMustBeOddAndGrow) {
  auto s = raw();
  EXPECT_EQ(code_of(ask(s.get(), request(2, "echo"))), static_cast<int>(Code::invalid_argument));
  EXPECT_EQ(code_of(ask(s.get(), request(5, "echo"))), 0);
  EXPECT_EQ(code_of(ask(s.get(), request(5, "echo"))), static_cast<int>(Code::invalid_argument));
  EXPECT_EQ(code_of(ask(s.get(), request(3, "echo"))), static_cast<int>(Code::invalid_argument));
  EXPECT_EQ(code_of(ask(s.get(), request(7, "echo"))), 0);
}

TEST_F(Rpc, RubbishIsAnsweredOrHungUpOn) {
  auto s = raw();
  EXPECT_EQ(code_of(ask(s.get(), encode_frame(1, FrameType::request, "\xff\xff\xff"))), static_cast<int>(Code::invalid_argument));
  EXPECT_EQ(code_of(ask(s.get(), encode_frame(1, FrameType::data, "x"))), static_cast<int>(Code::invalid_argument));
  EXPECT_EQ(code_of(ask(s.get(), header(0, 3, 1, 2))), static_cast<int>(Code::unimplemented)) << "a stream is asked for";
  EXPECT_EQ(code_of(ask(s.get(), request(5, "echo"))), 0);
  EXPECT_FALSE(ask(s.get(), header(0, 7, 77))) << "what is no frame ends the connection";
  auto other = raw();
  EXPECT_EQ(code_of(ask(other.get(), request(1, "echo"))), 0) << "and only that one";
}

TEST_F(Rpc, AnOverlongRequestIsRefusedAndTheConnectionLives) {
  auto s = raw();
  std::string bytes = header(kMaxBody + 10, 1, 1) + std::string(kMaxBody + 10, 'x');
  size_t at = 0;
  ASSERT_TRUE(until([&] {
    ssize_t n = ::send(s.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (n > 0) at += static_cast<size_t>(n);
    return at == bytes.size();
  }));
  EXPECT_EQ(code_of(answer(s.get())), static_cast<int>(Code::resource_exhausted));
  EXPECT_EQ(code_of(ask(s.get(), request(3, "echo"))), 0);
}

TEST_F(Rpc, APeerThatDoesNotReadIsDropped) {
  limits.unsent = 3 << 20;
  listen();
  auto s = raw();
  std::string many;
  for (uint32_t i = 0; i < 40; i++) many += request(2 * i + 1, "big");
  ASSERT_TRUE(base::sys::write_all(s.get(), many.data(), many.size()).ok());
  ASSERT_TRUE(until([&] { return ::recv(s.get(), &many[0], 1, MSG_PEEK | MSG_DONTWAIT) == 1; }));
  EXPECT_TRUE(until([&] { return server->connections() == 0; }));
  auto other = raw();
  EXPECT_EQ(code_of(ask(other.get(), request(1, "echo"))), 0);
}

TEST_F(Rpc, CallsAndConnectionsAreBounded) {
  limits.calls = 2;
  limits.connections = 2;
  listen();
  auto s = raw();
  std::string two = request(1, "hold") + request(3, "hold");
  EXPECT_EQ(code_of(ask(s.get(), two + request(5, "hold"))), static_cast<int>(Code::resource_exhausted));
  auto second = raw(), third = raw();
  EXPECT_EQ(code_of(ask(second.get(), request(1, "echo"))), 0);
  EXPECT_FALSE(answer(third.get()));
  s.reset();
  EXPECT_TRUE(until([&] { return server->connections() == 1; }));
  EXPECT_FALSE(held[0].awaited()) << "nobody waits when the connection is gone";
}

TEST_F(Rpc, AClientConnectsAgain) {
  Client c(loop, path);
  int good = 0, bad = 0;
  auto count = [&](auto r) { r.ok() ? good++ : bad++; };
  c.call("s", "echo", "", "n", 5000, count);
  ASSERT_TRUE(until([&] { return good == 1; }));
  server.reset();
  ASSERT_TRUE(until([&] {
    if (bad == 0) c.call("s", "echo", "", "n", 5000, count);
    return bad > 0;
  }));
  listen();
  ASSERT_TRUE(until([&] { c.call("s", "echo", "", "n", 5000, count); return good > 1; }));
}

TEST_F(Rpc, AServerThatDoesNotAnswerIsGivenUp) {
  Client c(loop, path);
  std::string text;
  c.call("s", "hold", "", "n", 30, [&](auto r) { text = r.ok() ? "ok" : r.error().text(); });
  ASSERT_TRUE(until([&] { return !text.empty(); }));
  held.clear();
  EXPECT_TRUE(text.find("did not answer") != std::string::npos || text.find("code 4") != std::string::npos) << text;
}

}  // namespace
}  // namespace shim::rpc
