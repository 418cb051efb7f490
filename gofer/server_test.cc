// SPDX-License-Identifier: Apache-2.0
// Records that are wrong, and the real program over its socket.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "gofer/testing.h"

namespace gofer {
namespace {

using namespace base;  // the errno constants
class Records : public GoferTest {
 protected:
  Result<wire::Empty> raw(std::vector<std::byte> bytes) {
    Answer a = server_->answer(bytes);
    if (a.kind == Answer::Kind::hang_up) return kECONNRESET;
    if (a.kind == Answer::Kind::none) return wire::Empty{};
    EXPECT_TRUE(a.fds.empty());
    base::wire::Reader r(a.bytes);
    wire::ReplyHeader h;
    r(h);
    EXPECT_FALSE(r.bad());
    if (h.error) return Errno(h.error);
    return wire::Empty{};
  }
};

TEST_F(Records, EveryTruncationOfEveryRequestIsRefused) {
  auto try_all = [&](const auto& q) {
    auto whole = wire::encode_request(1, q);
    for (size_t n = 0; n < whole.size(); n++) {
      auto part = std::vector(whole.begin(), whole.begin() + static_cast<long>(n));
      auto r = raw(part);
      EXPECT_TRUE(fails_with(r, n < 10 ? kECONNRESET : kEBADMSG)) << n;
    }
    whole.push_back(std::byte{0});
    EXPECT_TRUE(fails_with(raw(whole), kEBADMSG));
  };
  try_all(wire::HelloRequest{});
  try_all(wire::AttachRequest{0});
  try_all(wire::WalkRequest{root_, {"abc", "d"}, 1});
  try_all(wire::ReadDirRequest{root_, 0, 4096, wire::kWantAll});
  try_all(wire::GetAttrRequest{{root_, "x"}});
  try_all(wire::SetAttrRequest{{root_, "x"}, 1, 2, 3, 4, 5, 6, 7});
  try_all(wire::ReadLinkRequest{{root_, "x"}});
  try_all(wire::OpenRequest{{root_, "x"}, 1});
  try_all(wire::CreateRequest{root_, "x", 1, 2, 3, 4});
  try_all(wire::MkdirRequest{root_, "x", 1, 2, 3});
  try_all(wire::SymlinkRequest{root_, "x", "y", 1, 2});
  try_all(wire::MknodRequest{root_, "x", 1, 2, 3, 4});
  try_all(wire::LinkRequest{{root_, "x"}, root_, "y"});
  try_all(wire::UnlinkRequest{{root_, "x"}, true, false});
  try_all(wire::RenameRequest{{root_, "x"}, root_, "y", 0, 0, false});
  try_all(wire::StatFsRequest{{root_, "x"}});
  try_all(wire::GetXattrRequest{{root_, "x"}, "k"});
  try_all(wire::SetXattrRequest{{root_, "x"}, "k", "v", 0});
  try_all(wire::ListXattrRequest{{root_, "x"}});
  try_all(wire::RemoveXattrRequest{{root_, "x"}, "k"});
  try_all(wire::FsyncRequest{{root_, "x"}, false});
  try_all(wire::ForgetRequest{{5, 6}});
  try_all(wire::CreateBackingRequest{wire::Store::disk});
  EXPECT_FALSE(exists("/0/x"));
}

TEST_F(Records, HugeCountsAreRefusedWithoutMemory) {
  for (uint32_t count : {1000u, 0x7fffffffu, 0xffffffffu}) {
    base::wire::Writer w;
    w(wire::RequestHeader{wire::Op::kWalk, 1});
    w(root_);
    w(count);
    w(uint32_t{0});
    EXPECT_TRUE(fails_with(raw(w.take()), kEBADMSG));
    base::wire::Writer f;
    f(wire::RequestHeader{wire::Op::kForget, 1});
    f(count);
    EXPECT_TRUE(fails_with(raw(f.take()), kEBADMSG));
    base::wire::Writer s;
    s(wire::RequestHeader{wire::Op::kGetAttr, 1});
    s(root_);
    s(count);
    EXPECT_TRUE(fails_with(raw(s.take()), kEBADMSG));
  }
}

TEST_F(Records, UnknownOperationsAndMissingHello) {
  base::wire::Writer w;
  w(wire::RequestHeader{static_cast<wire::Op>(999), 1});
  EXPECT_TRUE(fails_with(raw(w.take()), kENOSYS));
  base::wire::Writer zero;
  zero(wire::RequestHeader{static_cast<wire::Op>(0), 1});
  EXPECT_TRUE(fails_with(raw(zero.take()), kENOSYS));
  auto root = tree::open_root(top_.c_str());
  AttachPoint p{0, false};
  auto files = Files::create(std::move(root).value(), std::span(&p, 1), {});
  ASSERT_TRUE(files.ok());
  Server fresh(**files);
  Answer a = fresh.answer(wire::encode_request(7, wire::AttachRequest{0}));
  EXPECT_TRUE(fails_with(wire::decode_reply<wire::AttachRequest>(a.bytes), kEPROTO));
  a = fresh.answer(wire::encode_request(8, wire::HelloRequest{wire::kVersion + 1}));
  EXPECT_TRUE(fails_with(wire::decode_reply<wire::HelloRequest>(a.bytes), kEPROTO));
  a = fresh.answer(wire::encode_request(9, wire::HelloRequest{}));
  EXPECT_TRUE(wire::decode_reply<wire::HelloRequest>(a.bytes).ok());
}

TEST_F(Records, LeavingNeedsGreetingAndCarriesTheCode) {
  auto root = tree::open_root(top_.c_str());
  AttachPoint p{0, false};
  auto files = Files::create(std::move(root).value(), std::span(&p, 1), {});
  ASSERT_TRUE(files.ok());
  Server fresh(**files);
  EXPECT_EQ(fresh.exit_code(), 137);  // a client that just goes is a container that was killed
  EXPECT_EQ(fresh.answer(wire::encode_request(1, wire::LeaveRequest{3})).kind, Answer::Kind::hang_up);
  EXPECT_EQ(fresh.exit_code(), 137);
  Answer a = fresh.answer(wire::encode_request(2, wire::HelloRequest{}));
  EXPECT_TRUE(wire::decode_reply<wire::HelloRequest>(a.bytes).ok());
  auto record = wire::encode_request(3, wire::LeaveRequest{3});
  record.push_back(std::byte{0});
  EXPECT_EQ(fresh.answer(record).kind, Answer::Kind::hang_up);
  record.pop_back();
  EXPECT_EQ(fresh.answer(record).kind, Answer::Kind::leave);
  EXPECT_EQ(fresh.exit_code(), 3);
}

TEST_F(Records, RandomRecordsDoNoHarm) {
  uint32_t seed = 7;
  auto random = [&] { return seed = seed * 1664525 + 1013904223, seed >> 8; };
  for (int i = 0; i < 20000; i++) {
    std::vector<std::byte> bytes(random() % 80);
    for (auto& b : bytes) b = static_cast<std::byte>(random() % 4 ? 0 : random());
    if (bytes.size() > 2) {
      bytes[0] = static_cast<std::byte>(random() % 25);
      bytes[1] = std::byte{0};
    }
    if (bytes.size() > 18) memcpy(bytes.data() + 10, &root_, 8);
    (void)server_->answer(bytes);
  }
  EXPECT_EQ(text_of("/outside/secret"), "secret");
  EXPECT_TRUE(call(wire::GetAttrRequest{{root_, ""}}).ok());
}

TEST_F(Records, RepliesAreCheckedByTheClient) {
  auto good = wire::encode_reply(3, wire::AttrReply{});
  EXPECT_TRUE(wire::decode_reply<wire::GetAttrRequest>(good).ok());
  good.pop_back();
  EXPECT_TRUE(fails_with(wire::decode_reply<wire::GetAttrRequest>(good), kEBADMSG));
  for (int32_t e : {-1, 512, 4096, INT32_MIN})
    EXPECT_TRUE(fails_with(wire::decode_reply<wire::GetAttrRequest>(base::wire::encode(wire::ReplyHeader{3, e})), kEBADMSG));
  EXPECT_FALSE(wire::reply_tag({}).ok());
  EXPECT_EQ(base::wire::encode(wire::Attr{}).size(), wire::kAttrBytes);
}

// The program itself, in a chroot of the test's tree.
class Program : public GoferTest {
 protected:
  void SetUp() override {
    GoferTest::SetUp();
#ifdef CAISSON_SANITIZED
    GTEST_SKIP() << "a sanitized program is not static, and the tree has no libraries";
#endif
    auto pair = base::sys::socketpair(SOCK_SEQPACKET);
    ASSERT_TRUE(pair.ok());
    Fd program(open(GOFER_PROGRAM, O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(program.valid());
    pid_ = fork();
    ASSERT_GE(pid_, 0);
    if (pid_ == 0) {
      if (chroot(top_.c_str()) != 0 || chdir("/") != 0) _exit(90);
      int s = ::dup(pair->b.get());
      std::string fd = std::to_string(s), name = "caisson-gofer", log = "2", p0 = "0:rw", p1 = "1:ro", p2 = "2:rw";
      char* argv[] = {name.data(), fd.data(), log.data(), p0.data(), p1.data(), p2.data(), nullptr};
      char* envp[] = {nullptr};
      fexecve(program.get(), argv, envp);
      _exit(91);
    }
    socket_ = std::move(pair->a);
  }
  void TearDown() override {
    socket_.reset();
    if (pid_ > 0) {
      int status;
      kill(pid_, SIGKILL);
      waitpid(pid_, &status, 0);
    }
    GoferTest::TearDown();
  }
  int wait_for_end() {
    int status = -1;
    waitpid(std::exchange(pid_, 0), &status, 0);
    return status;
  }
  template <typename Request>
  void send(uint64_t tag, const Request& q) {
    ASSERT_TRUE(base::sys::send_fds(socket_.get(), wire::encode_request(tag, q), {}, MSG_NOSIGNAL).ok());
  }
  template <typename Request>
  Result<typename Request::Reply> receive(uint64_t tag) {
    std::vector<std::byte> buf(wire::kMaxRecord);
    received_.clear();
    received_.resize(wire::kMaxFds);
    auto got = base::sys::recv_fds(socket_.get(), buf, received_);
    if (!got.ok()) return got.error();
    if (got->size == 0) return kECONNRESET;
    received_.resize(got->fd_count);
    auto record = std::span<const std::byte>(buf).first(got->size);
    auto t = wire::reply_tag(record);
    EXPECT_TRUE(t.ok() && *t == tag);
    return wire::decode_reply<Request>(record);
  }
  template <typename Request>
  Result<typename Request::Reply> ask(const Request& q) {
    send(++tag_, q);
    return receive<Request>(tag_);
  }
  pid_t pid_ = 0;
  Fd socket_;
  std::vector<Fd> received_;
};

TEST_F(Program, ServesSeveralRequestsInFlightAndDonates) {
  write_file("/0/f", "text");
  ASSERT_TRUE(ask(wire::HelloRequest{}).ok());
  auto a = ask(wire::AttachRequest{0});
  ASSERT_TRUE(a.ok());
  for (uint64_t i = 100; i < 140; i++) send(i, wire::GetAttrRequest{{a->node, "f"}});
  for (uint64_t i = 100; i < 140; i++) EXPECT_TRUE(receive<wire::GetAttrRequest>(i).ok());
  auto o = ask(wire::OpenRequest{{a->node, "f"}, wire::kRead | wire::kWrite});
  ASSERT_TRUE(o.ok());
  ASSERT_EQ(received_.size(), 2u);
  EXPECT_EQ(text_of(received_[0]), "text");
  send(++tag_, wire::ForgetRequest{{o->node}});
  EXPECT_TRUE(fails_with(ask(wire::GetAttrRequest{{o->node, ""}}), kEBADF));
  socket_.reset();
  int status = wait_for_end();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 137) << status;  // nobody has told how the container ended
}

// Every kind of request once, under the seccomp filter.
TEST_F(Program, EveryOperationWorksUnderItsFilter) {
  ASSERT_TRUE(ask(wire::HelloRequest{}).ok());
  auto root = ask(wire::AttachRequest{0})->node;
  auto d = ask(wire::MkdirRequest{root, "d", 02755, 1, 2});
  ASSERT_TRUE(d.ok());
  auto f = ask(wire::CreateRequest{d->node, "f", wire::kRead | wire::kWrite | wire::kAppend, 04755, 1, 2});
  ASSERT_TRUE(f.ok());
  EXPECT_TRUE(ask(wire::SymlinkRequest{d->node, "l", "f", 1, 2}).ok());
  EXPECT_TRUE(ask(wire::MknodRequest{d->node, "p", S_IFIFO | 06600, 1, 2, 0}).ok());
  EXPECT_TRUE(ask(wire::LinkRequest{{f->node, ""}, root, "g"}).ok());
  auto w = ask(wire::WalkRequest{root, {"d", "l"}, wire::kRead});
  ASSERT_TRUE(w.ok());
  EXPECT_EQ(w->found.back().link, "f");
  EXPECT_TRUE(ask(wire::ReadLinkRequest{{d->node, "l"}}).ok());
  EXPECT_TRUE(ask(wire::WalkRequest{root, {"d", "f"}, wire::kRead | wire::kWrite}).ok());
  EXPECT_TRUE(ask(wire::ReadDirRequest{d->node, 0, 1024, wire::kWantAll}).ok());
  EXPECT_TRUE(ask(wire::ReadDirRequest{d->node, 0, 1024, 0}).ok());
  EXPECT_TRUE(ask(wire::GetAttrRequest{{f->node, ""}}).ok());
  EXPECT_TRUE(ask(wire::SetAttrRequest{{f->node, ""}, wire::kSetAll, 0644, 3, 4, 5, 6, 7}).ok());
  EXPECT_TRUE(ask(wire::OpenRequest{{f->node, ""}, wire::kRead | wire::kWrite | wire::kTruncate}).ok());
  EXPECT_TRUE(ask(wire::StatFsRequest{{f->node, ""}}).ok());
  for (wire::NodeId n : {f->node, d->node}) {
    auto set = ask(wire::SetXattrRequest{{n, ""}, "user.a", "b", 0});
    EXPECT_TRUE(set.ok() || set.error() == kEOPNOTSUPP);
    auto got = ask(wire::GetXattrRequest{{n, ""}, "user.a"});
    EXPECT_TRUE(got.ok() || !set.ok());
    EXPECT_TRUE(ask(wire::ListXattrRequest{{n, ""}}).ok() || !set.ok());
    EXPECT_TRUE(ask(wire::RemoveXattrRequest{{n, ""}, "user.a"}).ok() || !set.ok());
    EXPECT_TRUE(ask(wire::FsyncRequest{{n, ""}, false}).ok());
    EXPECT_TRUE(ask(wire::FsyncRequest{{n, ""}, true}).ok());
  }
  EXPECT_TRUE(ask(wire::RenameRequest{{f->node, ""}, root, "moved", RENAME_NOREPLACE, 0, false}).ok());
  EXPECT_TRUE(ask(wire::UnlinkRequest{{f->node, ""}, false, true}).ok());
  EXPECT_TRUE(ask(wire::SetAttrRequest{{f->node, ""}, wire::kSetMode | wire::kSetUid | wire::kSetMtimeNow, 0600, 1, 0, 0, 0, 0}).ok());
  EXPECT_TRUE(ask(wire::FsyncRequest{{f->node, ""}, false}).ok());
  EXPECT_TRUE(ask(wire::ListXattrRequest{{f->node, ""}}).ok());
  (void)ask(wire::GetXattrRequest{{f->node, ""}, "user.a"}).ok();
  (void)ask(wire::SetXattrRequest{{f->node, ""}, "user.a", "b", 0}).ok();
  (void)ask(wire::RemoveXattrRequest{{f->node, ""}, "user.a"}).ok();
  auto empty = ask(wire::MkdirRequest{root, "e", 0755, 0, 0});
  ASSERT_TRUE(empty.ok() && ask(wire::UnlinkRequest{{empty->node, ""}, true, true}).ok());
  EXPECT_TRUE(ask(wire::CreateBackingRequest{wire::Store::disk}).ok());
  EXPECT_EQ(received_.size(), 2u);
  EXPECT_TRUE(ask(wire::CreateBackingRequest{wire::Store::memory}).ok());
  send(++tag_, wire::ForgetRequest{{f->node, d->node}});
  // Many nodes and records make the heap grow and shrink.
  for (int i = 0; i < 3000; i++) {
    auto r = ask(wire::WalkRequest{root, {"d", "l"}});
    ASSERT_TRUE(r.ok()) << i;
  }
  socket_.reset();
  int status = wait_for_end();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 137) << status;  // nobody has told how the container ended
}

TEST_F(Program, HasItsFilterAndNoOtherDescriptors) {
  ASSERT_TRUE(ask(wire::HelloRequest{}).ok());
  std::string proc = "/proc/" + std::to_string(pid_), line, seccomp, privileges;
  std::ifstream status(proc + "/status");
  while (std::getline(status, line)) {
    if (line.starts_with("Seccomp:")) seccomp = line.substr(9);
    if (line.starts_with("NoNewPrivs:")) privileges = line.substr(12);
  }
  EXPECT_EQ(seccomp, "2");
  EXPECT_EQ(privileges, "1");
  // 0 to 2, the socket, the root, three attach points, the two stores.
  int open_fds = 0;
  for (int fd = 0; fd < 64; fd++) {
    struct stat st;
    open_fds += lstat((proc + "/fd/" + std::to_string(fd)).c_str(), &st) == 0;
  }
  EXPECT_EQ(open_fds, 10);
}

TEST_F(Program, NonsenseEndsIt) {
  ASSERT_TRUE(ask(wire::HelloRequest{}).ok());
  std::byte one{1};
  ASSERT_TRUE(base::sys::send_fds(socket_.get(), {&one, 1}, {}, MSG_NOSIGNAL).ok());
  int status = wait_for_end();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
}

TEST_F(Program, UninvitedDescriptorsAndOversizedRecordsEndIt) {
  ASSERT_TRUE(ask(wire::HelloRequest{}).ok());
  int fd = 0;
  auto q = wire::encode_request(1, wire::AttachRequest{0});
  ASSERT_TRUE(base::sys::send_fds(socket_.get(), q, {&fd, 1}, MSG_NOSIGNAL).ok());
  int status = wait_for_end();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
}

TEST_F(Program, AnOversizedRecordEndsIt) {
  ASSERT_TRUE(ask(wire::HelloRequest{}).ok());
  std::vector<std::byte> big(wire::kMaxRecord + 1);
  ASSERT_TRUE(base::sys::send_fds(socket_.get(), big, {}, MSG_NOSIGNAL).ok());
  int status = wait_for_end();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
}

TEST_F(Program, UsesLittlePrivateMemoryWhenIdle) {
  ASSERT_TRUE(ask(wire::HelloRequest{}).ok());
  auto root = ask(wire::AttachRequest{0})->node;
  for (int i = 0; i < 200; i++) {
    write_file("/0/" + std::string(200, 'n') + std::to_string(i), "");
    ASSERT_TRUE(ask(wire::WalkRequest{root, {std::string(200, 'n') + std::to_string(i)}, wire::kRead}).ok());
  }
  ASSERT_TRUE(ask(wire::ReadDirRequest{root, 0, wire::kMaxRecord, wire::kWantAll}).ok());
  std::ifstream smaps("/proc/" + std::to_string(pid_) + "/smaps_rollup");
  std::string line;
  long kib = 0;
  while (std::getline(smaps, line))
    // The text is in the page cache, once for all gofers.
    if (line.starts_with("Anonymous:")) kib += std::atol(line.c_str() + line.find(':') + 1);
  RecordProperty("private_kib", static_cast<int>(kib));
  ASSERT_GT(kib, 0);
  EXPECT_LT(kib, 600);
}

}  // namespace
}  // namespace gofer
