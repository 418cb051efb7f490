// SPDX-License-Identifier: Apache-2.0
// For tests: the real gofer server on a thread over a tree of the host, with attach points 0 (read-write), 1 (read-only, a copy of
// nothing), 2 (a regular file), 3 (for a shared mount); it counts requests and may tamper with replies.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "base/sys.h"
#include "gofer/server.h"
#include "gofer/tree.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/sched/test_scheduler.h"
#include "sentry/vfs/test_tree.h"

namespace sentry::fs::gofer {

namespace wire = base::wire::gofer;

class TestHost {
 public:
  TestHost() {
    char dir[] = "/tmp/gofer_fs_test.XXXXXX";
    CHECK(mkdtemp(dir));
    top = dir;
    umask(0);
    for (const char* d : {"0", "1", "3", "store", "shm"}) make_dir(d);
    put("2", "one file");
  }
  ~TestHost() {
    stop();
    CHECK(std::system(("rm -rf '" + top + "'").c_str()) == 0);
  }
  // Serves until the other end closes. Called once; gives that end.
  Fd start() {
    auto root = ::gofer::tree::open_root(top.c_str());
    CHECK(root.ok());
    ::gofer::AttachPoint points[] = {{0, false}, {1, true}, {2, false}, {3, false}};
    auto f = ::gofer::Files::create(std::move(root).value(), points, {});
    CHECK(f.ok());
    files_ = std::move(f).value();
    auto pair = sys::socketpair(SOCK_SEQPACKET);
    CHECK(pair.ok());
    socket_ = std::move(pair->a);
    thread_ = std::thread([this] { serve(); });
    return std::move(pair->b);
  }
  void stop() {
    if (!thread_.joinable()) return;
    shutdown(socket_.get(), SHUT_RDWR);
    thread_.join();
  }

  std::string path(const std::string& p) const { return top + "/" + p; }
  void put(const std::string& p, const std::string& text) const { std::ofstream(path(p)) << text; }
  std::string get(const std::string& p) const {
    std::ifstream in(path(p));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void make_dir(const std::string& p) const { CHECK(mkdir(path(p).c_str(), 0755) == 0); }
  struct stat stat_of(const std::string& p) const {
    struct stat st{};
    if (lstat(path(p).c_str(), &st) != 0) st.st_ino = 0;
    return st;
  }
  bool exists(const std::string& p) const { return stat_of(p).st_ino != 0; }

  // Requests served since the last call.
  unsigned requests() { return served_.exchange(0); }
  unsigned requests(wire::Op op) { return by_op_[static_cast<size_t>(op)].load(); }
  size_t nodes() const { return files_->nodes().nodes(); }

  std::string top;
  // Runs on the server's thread before a reply goes out; set it while nothing is in flight.
  std::function<void(wire::Op, ::gofer::Answer&)> tamper;

 private:
  void serve() {
    ::gofer::Server server(*files_);
    std::vector<std::byte> in(wire::kMaxRecord);
    for (;;) {
      auto got = sys::recv_fds(socket_.get(), in, {}, 0);
      if (!got.ok() || got->size == 0) return;
      auto record = std::span<const std::byte>(in).first(got->size);
      wire::RequestHeader h;
      base::wire::Reader r(record);
      r(h);
      by_op_[static_cast<size_t>(h.op)]++;
      if (h.op != wire::Op::kForget) served_++;
      auto a = server.answer(record);
      if (a.kind == ::gofer::Answer::Kind::hang_up) return;
      if (a.kind == ::gofer::Answer::Kind::none) continue;
      if (tamper) tamper(h.op, a);
      if (a.kind != ::gofer::Answer::Kind::reply) return;  // it dies
      std::vector<int> fds;
      for (auto& fd : a.fds) fds.push_back(fd.get());
      if (!sys::send_fds(socket_.get(), a.bytes, fds, MSG_NOSIGNAL).ok()) return;
    }
  }
  std::unique_ptr<::gofer::Files> files_;
  Fd socket_;
  std::thread thread_;
  std::atomic<unsigned> served_{0};
  std::array<std::atomic<unsigned>, 32> by_op_{};
};

using vfs::error_of;
using vfs::make_user;
using vfs::must;

// An attach point, mounted as the root of a namespace.
struct Tree : vfs::TestTree {
  Ref<vfs::FileSystem> fs;
  explicit Tree(Ref<vfs::FileSystem> f) : TestTree(f, geteuid()), fs(std::move(f)) {}
  // An attach point of a fresh conversation.
  static Tree of(const Ref<Client>& c, const AttachOptions& o) { return Tree(must(attach(c, o))); }

  // Names in the order they came, without "." and "..".
  static std::vector<std::string> list(vfs::File& dir, size_t at_once = SIZE_MAX) {
    struct Sink : vfs::DirectorySink {
      std::vector<std::string> names;
      size_t room = 0;
      bool add(std::string_view name, uint64_t, unsigned char, int64_t next) override {
        if (room == 0) return false;
        room--;
        if (name != "." && name != "..") names.emplace_back(name);
        last = next;
        return true;
      }
      int64_t last = 0;
    } sink;
    for (;;) {
      sink.room = at_once;
      size_t before = sink.names.size();
      int64_t pos = dir.position;
      CHECK(dir.read_directory(sink, &dir.position).ok());
      if (sink.names.size() == before && dir.position == pos) return sink.names;
    }
  }
  std::vector<std::string> list(std::string_view p) const {
    auto names = list(*must_open(p, O_RDONLY | O_DIRECTORY));
    std::sort(names.begin(), names.end());
    return names;
  }
};

// body(host, client) on a fiber.
template <typename Prepare, typename Body>
void with_gofer(Prepare prepare, Body body, Waiting waiting = Waiting::awake) {
  TestHost host;
  prepare(host);
  Fd socket = host.start();
  sched::on_scheduler(2, [&] {
    auto client = connect(std::move(socket), waiting);
    ASSERT_TRUE(client.ok());
    host.requests();
    body(host, *client);
  });
}

}  // namespace sentry::fs::gofer
