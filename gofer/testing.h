// SPDX-License-Identifier: Apache-2.0
// For the tests: a tree on the host with attach points 0 (rw), 1 (ro, the same directory), 2 (rw, a regular file),
// and a client that speaks to a Server in this process through encoded records.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "base/log.h"
#include "gofer/server.h"
#include "gofer/tree.h"

namespace gofer {

template <typename T>
testing::AssertionResult fails_with(const base::Result<T>& r, base::Errno e) {
  if (r.ok()) return testing::AssertionFailure() << "succeeded, wanted " << e.name();
  if (r.error() == e) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "failed with " << r.error().name() << ", wanted " << e.name();
}

class GoferTest : public testing::Test {
 protected:
  void SetUp() override {
    char dir[] = "/tmp/gofer_test.XXXXXX";
    ASSERT_NE(mkdtemp(dir), nullptr);
    top_ = dir;
    for (const char* d : {"/0", "/store", "/shm", "/outside"}) ASSERT_EQ(mkdir((top_ + d).c_str(), 0755), 0);
    write_file("/outside/secret", "secret");
    write_file("/2", "a file volume");
    // Attach point 1 is the same tree, read-only.
    ASSERT_EQ(mkdir((top_ + "/1").c_str(), 0755), 0);
    write_file("/1/locked", "locked");
    ASSERT_EQ(mkdir((top_ + "/1/dir").c_str(), 0755), 0);
    start({});
  }
  void TearDown() override {
    server_.reset();
    files_.reset();
    ASSERT_EQ(std::system(("rm -rf '" + top_ + "'").c_str()), 0);
  }

  void start(Limits limits) {
    server_.reset();
    files_.reset();
    auto root = tree::open_root(top_.c_str());
    ASSERT_TRUE(root.ok());
    AttachPoint points[] = {{0, false}, {1, true}, {2, false}};
    auto f = Files::create(std::move(root).value(), points, limits);
    ASSERT_TRUE(f.ok()) << f.error().name();
    files_ = std::move(f).value();
    server_ = std::make_unique<Server>(*files_);
    ASSERT_TRUE(call(wire::HelloRequest{}).ok());
    root_ = attach(0);
  }
  wire::NodeId attach(uint32_t index) {
    auto r = call(wire::AttachRequest{index});
    return r.ok() ? r->node : 0;
  }

  template <typename Request>
  base::Result<typename Request::Reply> call(const Request& q) {
    auto bytes = wire::encode_request(++tag_, q);
    Answer a = server_->answer(bytes);
    EXPECT_EQ(a.kind, Request::kOp == wire::Op::kForget ? Answer::Kind::none : Answer::Kind::reply);
    fds_ = std::move(a.fds);
    if (a.kind != Answer::Kind::reply) return typename Request::Reply{};
    EXPECT_LE(a.bytes.size(), wire::kMaxRecord);
    auto t = wire::reply_tag(a.bytes);
    EXPECT_TRUE(t.ok() && *t == tag_);
    return wire::decode_reply<Request>(a.bytes);
  }

  // The node of a path like "a/b"; 0 if it is not all there.
  wire::NodeId node(const std::string& path, wire::NodeId from = 0) {
    wire::WalkRequest q;
    q.dir = from ? from : root_;
    for (size_t at = 0; at <= path.size();) {
      size_t end = std::min(path.find('/', at), path.size());
      q.names.push_back(path.substr(at, end - at));
      at = end + 1;
    }
    auto r = call(q);
    return r.ok() && r->found.size() == q.names.size() ? r->found.back().node : 0;
  }

  void write_file(const std::string& path, const std::string& text) { std::ofstream(top_ + path) << text; }
  std::string text_of(const std::string& path) {
    std::ifstream in(top_ + path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static std::string text_of(const base::Fd& fd) {
    char buf[4096];
    ssize_t n = pread(fd.get(), buf, sizeof buf, 0);
    return n < 0 ? "unreadable" : std::string(buf, static_cast<size_t>(n));
  }
  bool exists(const std::string& path) {
    struct stat st;
    return lstat((top_ + path).c_str(), &st) == 0;
  }
  void make_dir(const std::string& path) { ASSERT_EQ(mkdir((top_ + path).c_str(), 0755), 0); }

  std::string top_;
  std::unique_ptr<Files> files_;
  std::unique_ptr<Server> server_;
  Donated fds_;  // of the last call
  wire::NodeId root_ = 0;
  uint64_t tag_ = 0;
};

}  // namespace gofer
