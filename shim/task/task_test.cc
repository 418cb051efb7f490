// SPDX-License-Identifier: Apache-2.0
// The parts of the task service that need no container: streams, terminals, workers, mounts, events, figures.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/container/state.h"
#include "runtime/host/terminal.h"
#include "shim/proto/metrics.pb.h"
#include "shim/rpc/server.h"
#include "shim/task/logger.h"
#include "shim/task/metrics.h"
#include "shim/task/mounts.h"
#include "shim/task/publisher.h"
#include "shim/task/relay.h"
#include "shim/task/stdio.h"
#include "shim/task/worker.h"

namespace shim::task {
namespace {

namespace sys = base::sys;

class Parts : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/caisson-task-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top = name;
  }
  void TearDown() override { IGNORE_ERROR(runtime::container::remove_tree(AT_FDCWD, top.c_str()), "a scratch directory"); }
  std::string fifo(const char* name) {
    std::string path = top + "/" + name;
    EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
    return path;
  }
  bool until(const std::function<bool()>& done, int ms = 10000) {
    for (int i = 0; i < ms; i++) {
      if (done()) return true;
      loop.after(1, [this] { loop.stop(); });
      loop.run();
      loop.resume();
    }
    return false;
  }
  std::string read_now(int fd) {
    char buf[4096];
    ssize_t n = ::read(fd, buf, sizeof buf);
    return n > 0 ? std::string(buf, static_cast<size_t>(n)) : "";
  }
  std::string top;
  rpc::Loop loop;
};

TEST_F(Parts, AClientThatLeavesNeitherEndsInputNorKillsTheWriter) {
  StdioPaths p{fifo("in"), fifo("out"), "", false};
  auto io = open_stdio(p);
  ASSERT_TRUE(io.ok()) << io.error().text();
  EXPECT_FALSE(io->err.valid());
  base::Fd client(::open(p.in.c_str(), O_WRONLY | O_NONBLOCK));
  ASSERT_EQ(::write(client.get(), "hi", 2), 2);
  client.reset();
  EXPECT_EQ(read_now(io->in.get()), "hi");
  ::fcntl(io->in.get(), F_SETFL, O_NONBLOCK);
  char c;
  EXPECT_EQ(::read(io->in.get(), &c, 1), -1) << "no end of the input while the shim holds it";
  io->hold_in.reset();
  EXPECT_EQ(::read(io->in.get(), &c, 1), 0) << "the end, once it is let go";
  // Nobody has opened the other side but the shim.
  EXPECT_EQ(::write(io->out.get(), "x", 1), 1);
}

TEST_F(Parts, AReaderSeesTheEndWhenTheProgramHasClosed) {
  StdioPaths p{"", fifo("out"), "", false};
  base::Fd reader(::open(p.out.c_str(), O_RDONLY | O_NONBLOCK));
  auto io = open_stdio(p);
  ASSERT_TRUE(io.ok());
  ASSERT_EQ(::write(io->out.get(), "last", 4), 4);
  io->out.reset();  // the program's; the shim holds a reading end alone
  EXPECT_EQ(read_now(reader.get()), "last");
  char c;
  EXPECT_EQ(::read(reader.get(), &c, 1), 0);
}

TEST_F(Parts, AReaderIsNeededWhileOneMayStillCome) {
  StdioPaths p{"", fifo("out"), "", false};
  EXPECT_EQ(open_stdio(p, Readers::needed).error().code(), base::kENXIO);
  pid_t client = ::fork();  // waits in open(2) for a writer
  if (client == 0) ::_exit(::open(p.out.c_str(), O_RDONLY) >= 0 ? 0 : 1);
  base::ResultX<Stdio> io = base::error(base::kENXIO, "");
  ASSERT_TRUE(until([&] { return (io = open_stdio(p, Readers::needed)).ok(); }));
  io->out.reset();
  int status = -1;
  EXPECT_EQ(::waitpid(client, &status, 0), client) << "it came through although the writer has gone";
  EXPECT_EQ(status, 0);
}

// Its output may be read by a client that has not come to its error stream yet: it must not see an end meanwhile.
TEST_F(Parts, AStreamThatIsOpenStaysOpenWhileAnotherIsAwaited) {
  StdioPaths p{"", fifo("out"), fifo("err"), false};
  base::Fd reader(::open(p.out.c_str(), O_RDONLY | O_NONBLOCK));
  Stdio io;
  EXPECT_EQ(open_more(p, Readers::needed, io).error().code(), base::kENXIO);
  char c;
  EXPECT_EQ(::read(reader.get(), &c, 1), -1);
  EXPECT_EQ(errno, EAGAIN) << "an end would be 0 bytes";
  base::Fd other(::open(p.err.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_TRUE(open_more(p, Readers::needed, io).ok());
  ASSERT_EQ(::write(io.out.get(), "1", 1), 1);
  ASSERT_EQ(::write(io.err.get(), "2", 1), 1);
  EXPECT_EQ(read_now(reader.get()), "1");
  EXPECT_EQ(read_now(other.get()), "2");
}

TEST_F(Parts, FilesAreAppendedToAndOtherNamesRefused) {
  for (int i = 0; i < 2; i++) {
    auto io = open_stdio({"", "file://" + top + "/log", "", false});
    ASSERT_TRUE(io.ok()) << io.error().text();
    ASSERT_EQ(::write(io->out.get(), "line\n", 5), 5);
  }
  EXPECT_EQ(runtime::host::read_file(top + "/log").value_or(""), "line\nline\n");
  EXPECT_FALSE(open_stdio({"", "tcp://host", "", false}).ok());
  EXPECT_FALSE(open_stdio({top + "/none", "", "", false}).ok());
}

TEST_F(Parts, ATerminalIsCarriedBothWaysAndToTheEnd) {
  auto t = runtime::host::open_terminal();
  ASSERT_TRUE(t.ok()) << t.error().text();
  StdioPaths p{fifo("in"), fifo("out"), "", true};
  base::Fd in(::open(p.in.c_str(), O_RDWR | O_NONBLOCK)), out(::open(p.out.c_str(), O_RDONLY | O_NONBLOCK));
  auto io = open_stdio(p);
  ASSERT_TRUE(io.ok());
  Relay relay(loop, std::move(t->master), std::move(io).value());
  ASSERT_EQ(::write(in.get(), "typed\n", 6), 6);
  ::fcntl(t->slave.get(), F_SETFL, O_NONBLOCK);
  std::string got;
  ASSERT_TRUE(until([&] { return (got += read_now(t->slave.get())) == "typed\n"; })) << got;
  ASSERT_EQ(::write(t->slave.get(), "bye", 3), 3);
  t->slave.reset();
  relay.finish();
  ASSERT_TRUE(until([&] { return relay.master() < 0; })) << "the other side is closed: nothing more can come";
  EXPECT_NE(read_now(out.get()).find("bye"), std::string::npos);
}

TEST_F(Parts, AClientThatDoesNotReadStopsTheTerminalAndNotTheShim) {
  auto t = runtime::host::open_terminal();
  ASSERT_TRUE(t.ok());
  StdioPaths p{"", fifo("out"), "", true};
  base::Fd out(::open(p.out.c_str(), O_RDONLY | O_NONBLOCK));
  Relay relay(loop, std::move(t->master), std::move(open_stdio(p)).value());
  ::fcntl(t->slave.get(), F_SETFL, O_NONBLOCK);
  std::string chunk(1000, 'x');
  size_t sent = 0;
  // Until everything between is full.
  for (int idle = 0; idle < 50;) {
    ssize_t n = ::write(t->slave.get(), chunk.data(), chunk.size());
    if (n > 0) sent += static_cast<size_t>(n);
    else idle++;
    until([] { return false; }, 1);
  }
  EXPECT_GE(sent, 65536u);
  EXPECT_LT(sent, 1u << 20);
  size_t got = 0;
  ASSERT_TRUE(until([&] { return (got += read_now(out.get()).size()) >= sent; }));
}

TEST_F(Parts, AWorkerHandsBackWordsAndDescriptors) {
  Workers w(loop);
  std::string path = top + "/out";
  base::Fd file(::open(path.c_str(), O_RDWR | O_CREAT, 0600));
  const int stdio[3] = {-1, file.get(), -1};
  std::optional<base::ResultX<Outcome>> got;
  w.run("try", 5000, stdio, []() -> base::ResultX<Outcome> {
    if (::write(1, "from the child", 14) != 14) return base::error(base::kEIO, "cannot write");
    Outcome o;
    o.data = "words";
    int p[2];
    TRY_MSG(sys::from_libc(::pipe2(p, O_CLOEXEC)), "make a pipe");
    if (::write(p[1], "sent", 4) != 4) return base::error(base::kEIO, "cannot write");
    o.fds.emplace_back(p[0]);
    ::close(p[1]);
    return o;
  }, [&](base::ResultX<Outcome> r) { got.emplace(std::move(r)); });
  ASSERT_TRUE(until([&] { return got.has_value(); }));
  ASSERT_TRUE(got->ok()) << got->error().text();
  EXPECT_EQ((*got)->data, "words");
  ASSERT_EQ((*got)->fds.size(), 1u);
  EXPECT_EQ(read_now((*got)->fds[0].get()), "sent");
  EXPECT_EQ(runtime::host::read_file(path).value_or(""), "from the child");
  EXPECT_EQ(w.running(), 0u);
}

TEST_F(Parts, AWorkerThatFailsDiesOrHangsIsTold) {
  Workers w(loop);
  const int none[3] = {-1, -1, -1};
  std::vector<std::string> said;
  auto note = [&](base::ResultX<Outcome> r) { said.push_back(r.ok() ? "ok" : r.error().text()); };
  w.run("fail", 5000, none, []() -> base::ResultX<Outcome> { return base::error(base::kENOENT, "no such thing"); }, note);
  ASSERT_TRUE(until([&] { return said.size() == 1; }));
  w.run("die", 5000, none, []() -> base::ResultX<Outcome> { ::_exit(3); }, note);
  ASSERT_TRUE(until([&] { return said.size() == 2; }));
  w.run("throw", 5000, none, []() -> base::ResultX<Outcome> { throw std::bad_alloc(); }, note);
  ASSERT_TRUE(until([&] { return said.size() == 3; }));
  w.run("hang", 50, none, []() -> base::ResultX<Outcome> { for (;;) ::pause(); }, note);
  ASSERT_TRUE(until([&] { return said.size() == 4; }));
  EXPECT_EQ(said[0], "no such thing");
  EXPECT_NE(said[1].find("died"), std::string::npos) << said[1];
  EXPECT_NE(said[2].find("bad_alloc"), std::string::npos) << said[2];
  EXPECT_NE(said[3].find("50 ms"), std::string::npos) << said[3];
}

TEST(Loggers, AreProgramsWithTheirArguments) {
  auto c = parse_logger("binary:///usr/bin/log%20it?_KEY=/var/lib/x&flag&b=c%3Dd");
  ASSERT_TRUE(c.ok()) << c.error().text();
  EXPECT_EQ(c->path, "/usr/bin/log it");
  EXPECT_EQ(c->args, (std::vector<std::string>{"_KEY", "/var/lib/x", "flag", "b", "c=d"}));
  for (const char* bad : {"binary://", "binary://rel", "binary:///a%zz", "binary:///a%0", "binary:///a?x=%00", "file:///x"}) {
    EXPECT_FALSE(parse_logger(bad).ok()) << bad;
  }
}

TEST_F(Parts, ALoggerGetsBothStreamsAndIsWaitedFor) {
  std::string program = top + "/log";
  ASSERT_TRUE(runtime::host::replace_file(program, "#!/bin/sh\nexec >" + top + "/got\necho $CONTAINER_ID $CONTAINER_NAMESPACE $1 $2\nexec 5>&-\n"
                                                   "cat <&3; cat <&4\n", 0755).ok());
  int out[2], err[2];
  ASSERT_EQ(::pipe2(out, O_CLOEXEC) | ::pipe2(err, O_CLOEXEC), 0);
  auto r = start_logger("binary://" + program + "?k=v", "id", "space", out[0], err[0]);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(::write(out[1], "out\n", 4) + ::write(err[1], "err\n", 4), 8);
  for (int fd : {out[0], out[1], err[0], err[1]}) ::close(fd);
  EXPECT_TRUE(until([&] { return runtime::host::read_file(top + "/got").value_or("") == "id space k v\nout\nerr\n"; }));
  EXPECT_NE(start_logger("binary://" + top + "/none", "id", "space", 0, 0).error().text().find("cannot be run"), std::string::npos);
}

TEST(Layers, ManyAreNamedFromTheirCommonDirectory) {
  std::vector<std::string> o{"index=off", "lowerdir=/var/lib/c/snapshots/12/fs:/var/lib/c/snapshots/1/fs", "upperdir=/u"};
  EXPECT_EQ(shorten_layers(o), "/var/lib/c/snapshots/");
  EXPECT_EQ(o[1], "lowerdir=12/fs:1/fs");
  for (const char* same : {"lowerdir=/one", "lowerdir=/a/x:/b/y", "lowerdir=rel/a:rel/b", "lowerdir=/a/\\:x:/a/y", "upperdir=/a/x:/a/y"}) {
    std::vector<std::string> one{same};
    EXPECT_EQ(shorten_layers(one), "") << same;
    EXPECT_EQ(one[0], same);
  }
}

TEST(Metrics, AreOfTheVersionOfTheHostsController) {
  runtime::host::CgroupStats s;
  s.cpu_ns = 5000;
  s.memory = {1 << 20, 4096, 0, 2};
  s.memory_raw = {{"total_inactive_file", 7}, {"inactive_file", 8}};
  s.pids = 3;
  s.pids_limit = UINT64_MAX;
  s.io_bytes = {{8, 0, 100, "Read"}, {8, 0, 200, "Write"}};
  proto::Metrics1 one;
  auto a = encode_metrics(s, false);
  EXPECT_EQ(a.type_url(), "io.containerd.cgroups.v1.Metrics");
  ASSERT_TRUE(one.ParseFromString(a.value()));
  EXPECT_EQ(one.memory().usage().usage(), 4096u);
  EXPECT_EQ(one.memory().total_inactive_file(), 7u);
  EXPECT_EQ(one.pids().limit(), 0u);
  EXPECT_EQ(one.cpu().usage().total(), 5000u);
  EXPECT_EQ(one.blkio().io_service_bytes_recursive_size(), 2);
  proto::Metrics2 two;
  a = encode_metrics(s, true);
  EXPECT_EQ(a.type_url(), "io.containerd.cgroups.v2.Metrics");
  ASSERT_TRUE(two.ParseFromString(a.value()));
  EXPECT_EQ(two.cpu().usage_usec(), 5u);
  EXPECT_EQ(two.memory().inactive_file(), 8u);
  EXPECT_EQ(two.io().usage_size(), 1);
  EXPECT_EQ(two.io().usage(0).wbytes(), 200u);
}

// Stands for containerd's event service.
class Events : public Parts {
 protected:
  void listen() {
    std::string path = top + "/c";
    ::unlink(path.c_str());
    base::Fd s(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path.c_str());
    ASSERT_EQ(::bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    ASSERT_EQ(::listen(s.get(), 16), 0);
    server.emplace(loop, std::move(s), [this](rpc::Call c) {
      proto::ForwardRequest q;
      EXPECT_EQ(c.service + "/" + c.method, "containerd.services.events.ttrpc.v1.Events/Forward");
      EXPECT_EQ(c.metadata["containerd-namespace-ttrpc"], "space");
      ASSERT_TRUE(q.ParseFromString(c.payload));
      if (refuse-- > 0) return c.fail(rpc::Code::unavailable, "not now");
      topics.push_back(q.envelope().topic() + " " + q.envelope().event().type_url());
      c.reply();
    });
  }
  int refuse = 0;
  std::vector<std::string> topics;
  std::optional<rpc::Server> server;
};

TEST_F(Events, ComeInOrderAndAgainWhenContainerdIsAway) {
  Publisher p(loop, top + "/c", "space");
  proto::Empty nothing;
  p.publish("/tasks/create", "TaskCreate", nothing);
  p.publish("/tasks/start", "TaskStart", nothing);
  until([] { return false; }, 20);
  refuse = 1;
  listen();
  p.publish("/tasks/exit", "TaskExit", nothing);
  ASSERT_TRUE(until([&] { return p.idle(); }));
  EXPECT_EQ(topics, (std::vector<std::string>{"/tasks/create containerd.events.TaskCreate", "/tasks/start containerd.events.TaskStart",
                                              "/tasks/exit containerd.events.TaskExit"}));
}

}  // namespace
}  // namespace shim::task
