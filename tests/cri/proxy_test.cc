// SPDX-License-Identifier: Apache-2.0
// The proxy between a client and a backend of the test's own: what one side sends is what the other gets.
#include "cri/proxy.h"

#include <gtest/gtest.h>

#include <functional>
#include <future>

#include "tests/cri/fake.h"

namespace cri_test {
namespace {

using namespace std::chrono_literals;
constexpr auto kPatience = 90s;

void wait_until(const std::function<bool()>& f, const char* what) {
  auto end = std::chrono::steady_clock::now() + kPatience;
  while (!f()) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "waited for " << what;
    std::this_thread::sleep_for(2ms);
  }
}

class TestGate final : public cri::Gate {
 public:
  cri::Interest interest(std::string_view m) override {
    if (m.find("Forbidden") != m.npos) return cri::Interest::refuse;
    if (m.find("/judged/") != m.npos) return cri::Interest::judge;
    if (m.find("/watched/") != m.npos) return cri::Interest::watch;
    return cri::Interest::pass;
  }
  grpc::Status refusal(std::string_view) override { return {grpc::StatusCode::UNIMPLEMENTED, "no"}; }
  cri::Verdict judge(cri::CallNotes&, const grpc::ByteBuffer& b) override {
    std::string t = text(b);
    if (t == "bad") return {{grpc::StatusCode::PERMISSION_DENIED, "bad", "why"}, {}};
    if (t == "block") release.get_future().wait();
    return {{}, bytes(t + "!")};
  }
  void asked(cri::CallNotes&, const grpc::ByteBuffer& b) override { asked_ = text(b); }
  void answered(cri::CallNotes&, const grpc::ByteBuffer& b) override { answered_ = text(b); }
  void ended(cri::CallNotes&, const grpc::Status& s) override {
    code = s.error_code();
    ends++;
  }
  std::string asked_, answered_;  // read when a call has ended
  std::atomic<int> ends{0}, code{-1};
  std::promise<void> release;
};

struct Reply {
  grpc::Status status;
  std::vector<std::string> messages;
  std::multimap<std::string, std::string> headers, trailers;
};

class Proxying : public testing::Test {
 protected:
  Proxying() : fake_(dir_.path("b.sock")), proxy_(fake_.address(), gate_) {
    auto r = proxy_.start("unix:" + dir_.path("f.sock"));
    EXPECT_TRUE(r.ok()) << r.error().text();
    grpc::ChannelArguments a;
    a.SetMaxReceiveMessageSize(-1);
    a.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    a.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 1 << 20);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel("unix:" + dir_.path("f.sock"), grpc::InsecureChannelCredentials(), a));
  }

  static void await(grpc::CompletionQueue& q, bool* ok = nullptr) {
    void* tag;
    bool dummy;
    q.Next(&tag, ok ? ok : &dummy);
  }

  // Sends all requests, closes, reads all answers.
  Reply call(const std::string& method, std::vector<std::string> requests, std::map<std::string, std::string> headers = {},
             std::chrono::seconds deadline = kPatience) {
    grpc::ClientContext c;
    for (auto& [k, v] : headers) c.AddMetadata(k, v);
    if (deadline.count()) c.set_deadline(std::chrono::system_clock::now() + deadline);
    grpc::CompletionQueue q;
    auto rw = stub_->PrepareCall(&c, method, &q);
    bool ok;
    rw->StartCall(nullptr);
    await(q, &ok);
    for (auto& m : requests) {
      if (!ok) break;
      rw->Write(bytes(m), nullptr);
      await(q, &ok);
    }
    if (ok) {
      rw->WritesDone(nullptr);
      await(q);
    }
    Reply r;
    for (;;) {
      grpc::ByteBuffer b;
      rw->Read(&b, nullptr);
      await(q, &ok);
      if (!ok) break;
      r.messages.push_back(text(b));
    }
    rw->Finish(&r.status, nullptr);
    await(q);
    for (auto& [k, v] : c.GetServerInitialMetadata()) r.headers.emplace(std::string(k.data(), k.size()), std::string(v.data(), v.size()));
    for (auto& [k, v] : c.GetServerTrailingMetadata()) r.trailers.emplace(std::string(k.data(), k.size()), std::string(v.data(), v.size()));
    return r;
  }

  TempDir dir_;
  TestGate gate_;
  Fake fake_;
  cri::Proxy proxy_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

TEST_F(Proxying, AnyMethodGoesThroughByteForByte) {
  std::string odd("\x08\x96\x01\xff\xff\xff\xff\x0f\0\0garbage that is no message", 36);
  auto r = call("/runtime.v77.RuntimeService/Echo", {odd});
  EXPECT_TRUE(r.status.ok()) << r.status.error_message();
  EXPECT_EQ(r.messages, std::vector{odd});
  EXPECT_EQ(call("/a.b/Echo", {""}).messages, std::vector<std::string>{""});
}

TEST_F(Proxying, HeadersGoBothWays) {
  auto r = call("/s/Echo", {"m"}, {{"x-want-a", "1"}, {"x-want-b-bin", std::string("\0\xff", 2)}, {"x-end-c", "3"}});
  EXPECT_EQ(r.headers.find("x-want-a")->second, "1");
  EXPECT_EQ(r.headers.find("x-want-b-bin")->second, std::string("\0\xff", 2));
  EXPECT_EQ(r.trailers.find("x-end-c")->second, "3");
  auto shown = call("/s/Show", {"m"}, {{"traceparent", "00-ab"}}).messages.at(0);
  EXPECT_NE(shown.find("traceparent=00-ab\n"), shown.npos) << shown;
}

TEST_F(Proxying, ALongTextOfAnErrorAndLongHeadersFit) {
  std::string big(60000, 'x');
  auto r = call("/s/Echo", {"m"}, {{"x-want-a", big}, {"x-end-b", big}});
  EXPECT_TRUE(r.status.ok()) << r.status.error_message();
  EXPECT_EQ(r.headers.find("x-want-a")->second, big);
  EXPECT_EQ(r.trailers.find("x-end-b")->second, big);
}

TEST_F(Proxying, DeadlineGoesThroughAndIsAbsentWhenNoneIsSet) {
  auto left = [&](std::chrono::seconds d) {
    auto t = call("/s/Show", {"m"}, {}, d).messages.at(0);
    return atol(t.substr(t.find("left=") + 5).c_str());
  };
  EXPECT_EQ(left(0s), -1);
  auto l = left(5000s);
  EXPECT_GT(l, 4900);
  EXPECT_LE(l, 5200);  // the library rounds up on the wire
}

TEST_F(Proxying, StatusComesWithTextAndDetails) {
  for (auto method : {"/s/Fail", "/s/FailLate"}) {
    auto r = call(method, {"m"});
    EXPECT_EQ(r.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(r.status.error_message(), "not today: \xc3\xa9 100%\n");
    EXPECT_EQ(r.status.error_details(), std::string("de\0tails\xff", 9));
    EXPECT_EQ(r.trailers.count("grpc-status-details-bin"), 1u);
  }
}

TEST_F(Proxying, BigMessagesGoThroughAndTooBigOnesAreRefused) {
  std::string big(12 << 20, 'b');
  big[12345] = 'x';
  auto r = call("/s/Echo", {big});
  EXPECT_TRUE(r.status.ok()) << r.status.error_message();
  EXPECT_TRUE(r.messages == std::vector{big});
  auto refused = call("/s/Last", {std::string(cri::kMaxRequest + 1, 'b')});
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.status.error_message();
  EXPECT_TRUE(call("/s/Echo", {"still here"}).status.ok());
}

TEST_F(Proxying, StreamsOfBothSides) {
  auto r = call("/s/Count", {"1000"});
  EXPECT_TRUE(r.status.ok());
  ASSERT_EQ(r.messages.size(), 1000u);
  EXPECT_EQ(r.messages.back(), "0");
  EXPECT_EQ(call("/s/Last", std::vector<std::string>(500, "four")).messages, std::vector<std::string>{"500 2000"});
  EXPECT_EQ(call("/s/Last", {}).messages, std::vector<std::string>{"0 0"});
}

TEST_F(Proxying, AStreamIsAnsweredWhileItIsOpen) {
  grpc::ClientContext c;
  c.set_deadline(std::chrono::system_clock::now() + kPatience);
  grpc::CompletionQueue q;
  auto rw = stub_->PrepareCall(&c, "/s/Echo", &q);
  bool ok;
  rw->StartCall(nullptr);
  await(q, &ok);
  rw->ReadInitialMetadata(nullptr);  // they come before any message
  await(q, &ok);
  EXPECT_TRUE(ok);
  for (int i = 0; i < 50; i++) {
    rw->Write(bytes(std::to_string(i)), nullptr);
    await(q, &ok);
    grpc::ByteBuffer b;
    rw->Read(&b, nullptr);
    await(q, &ok);
    ASSERT_TRUE(ok);
    EXPECT_EQ(text(b), std::to_string(i));
  }
  rw->WritesDone(nullptr);
  await(q, &ok);
  grpc::Status s;
  rw->Finish(&s, nullptr);
  await(q, &ok);
  EXPECT_TRUE(s.ok()) << s.error_message();
}

TEST_F(Proxying, CancellationReachesTheBackend) {
  grpc::ClientContext c;
  grpc::CompletionQueue q;
  auto rw = stub_->PrepareCall(&c, "/s/Hang", &q);
  rw->StartCall(nullptr);
  await(q);
  wait_until([&] { return fake_.hanging == 1; }, "the call to arrive");
  c.TryCancel();
  wait_until([&] { return fake_.cancelled == 1; }, "the cancellation");
  grpc::Status s;
  rw->Finish(&s, nullptr);
  await(q);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::CANCELLED);
  wait_until([&] { return proxy_.calls_in_flight() == 0; }, "the call to be forgotten");
}

TEST_F(Proxying, APassedDeadlineEndsTheCallOnBothSides) {
  auto r = call("/s/Hang", {"m"}, {}, 1s);
  EXPECT_EQ(r.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  wait_until([&] { return proxy_.calls_in_flight() == 0 && fake_.hanging == 0; }, "the call to be forgotten");
}

TEST_F(Proxying, WithoutABackendUnavailableAndWellAgainWhenItIsBack) {
  EXPECT_TRUE(call("/s/Echo", {"m"}).status.ok());
  fake_.stop();
  auto r = call("/s/Echo", {"m"});
  EXPECT_EQ(r.status.error_code(), grpc::StatusCode::UNAVAILABLE) << r.status.error_message();
  EXPECT_FALSE(r.status.error_message().empty());
  fake_.start();
  wait_until([&] { return call("/s/Echo", {"m"}).status.ok(); }, "the backend to be found again");
}

TEST_F(Proxying, ABackendThatGoesEndsItsCalls) {
  auto pending = std::async(std::launch::async, [&] { return call("/s/Hang", {"m"}); });
  wait_until([&] { return fake_.hanging == 1; }, "the call to arrive");
  fake_.stop();
  auto code = pending.get().status.error_code();
  EXPECT_TRUE(code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::CANCELLED) << code;
}

TEST_F(Proxying, ManyCallsAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 8; t++) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; i++) {
        std::string m = std::to_string(t * 1000 + i);
        auto r = call(i % 2 ? "/watched/Echo" : "/judged/Echo", {m});
        if (r.status.ok() && r.messages == std::vector{i % 2 ? m : m + "!"}) good++;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(good, 800);
  wait_until([&] { return proxy_.calls_in_flight() == 0 && gate_.ends == 800; }, "the calls to be forgotten");
}

TEST_F(Proxying, TheGateRefusesChangesAndSees) {
  auto calls = fake_.calls.load();
  auto r = call("/s/Forbidden", {"m"});
  EXPECT_EQ(r.status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  r = call("/judged/Echo", {"bad"});
  EXPECT_EQ(r.status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(r.status.error_message(), "bad");
  EXPECT_EQ(r.status.error_details(), "why");
  r = call("/judged/Echo", {});
  EXPECT_EQ(r.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << r.status.error_message();
  EXPECT_EQ(fake_.calls, calls) << "a refused call was sent on";
  EXPECT_EQ(call("/judged/Echo", {"good", "next"}).messages, (std::vector<std::string>{"good!", "next"}));
  EXPECT_EQ(call("/watched/Echo", {"one", "two"}).messages, (std::vector<std::string>{"one", "two"}));
  wait_until([&] { return gate_.ends == 5; }, "the ends");
  EXPECT_EQ(gate_.asked_, "one");
  EXPECT_EQ(gate_.answered_, "one");
  EXPECT_EQ(gate_.code, 0);
}

TEST_F(Proxying, ACallThatIsCancelledWhileItIsJudgedNeverReachesTheBackend) {
  grpc::ClientContext c;
  grpc::CompletionQueue q;
  auto rw = stub_->PrepareCall(&c, "/judged/Echo", &q);
  rw->StartCall(nullptr);
  await(q);
  rw->Write(bytes("block"), nullptr);
  await(q);
  wait_until([&] { return proxy_.calls_in_flight() == 1; }, "the call");
  c.TryCancel();
  grpc::Status s;
  rw->Finish(&s, nullptr);
  await(q);
  // Others go on meanwhile, and so do other verdicts.
  EXPECT_TRUE(call("/s/Echo", {"m"}).status.ok());
  EXPECT_TRUE(call("/judged/Echo", {"m"}).status.ok());
  auto calls = fake_.calls.load();
  gate_.release.set_value();
  wait_until([&] { return proxy_.calls_in_flight() == 0; }, "the call to be forgotten");
  EXPECT_EQ(fake_.calls, calls);
}

TEST_F(Proxying, StopLetsCallsEndAndThenCancels) {
  auto pending = std::async(std::launch::async, [&] { return call("/s/Hang", {"m"}); });
  wait_until([&] { return fake_.hanging == 1; }, "the call to arrive");
  proxy_.stop(100ms);
  EXPECT_FALSE(pending.get().status.ok());
  wait_until([&] { return fake_.hanging == 0; }, "the call to be cancelled");
}

}  // namespace
}  // namespace cri_test
