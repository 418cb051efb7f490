// SPDX-License-Identifier: Apache-2.0
// Births that wait for their maker's way back: what is done to a child before it lives, a host that refuses, a maker that dies, a kick
// that comes too early; and threads that sleep in their knocks.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>

#include "tests/platform/harness.h"

namespace platform_test {
namespace {

using platform::Birthday;

class Birth : public testing::TestWithParam<platform::Mode> {
 protected:
  void SetUp() override {
    World::Options o;
    o.mode = GetParam();
    o.workers = 2;
    o.descriptors.resize(512);
    world = std::make_unique<World>(o);
  }
  void TearDown() override { world.reset(); }
  std::unique_ptr<World> world;
};
INSTANTIATE_TEST_SUITE_P(, Birth, testing::Values(platform::Mode::direct, platform::Mode::strict),
                         [](auto& i) { return i.param == platform::Mode::direct ? "direct" : "strict"; });

constexpr uint64_t kPattern = kData + 0x8000, kOut = kData + 0xa000;

TEST_P(Birth, ForkOnTheWayBackCopiesEverything) {
  on_fiber([&] {
    Guest g(*world);
    std::vector<char> p(4096);
    for (size_t i = 0; i < p.size(); i++) p[i] = static_cast<char>(i * 41 + 3);
    ASSERT_TRUE(g->copy_out_now(kPattern, p.data(), p.size()).ok());
    for (int round = 0; round < 30; round++) {
      ASSERT_TRUE(g->copy_out_now(kData, "before", 7).ok());
      g.call(App::vector_check, {57, 0, kPattern, kOut, 0});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto c = g->fork(Birthday::at_resume);
      ASSERT_TRUE(c.ok()) << c.error().name();
      Guest child(*world, std::move(*c));
      EXPECT_EQ(child->space().host_pid(), 0) << "it lives already";
      // What is queued for it before it lives is done before its first instruction; what its maker queues is not the child's.
      ASSERT_TRUE(child->copy_out(kData + 32, "for the child", 14).ok());
      ASSERT_TRUE(g->copy_out(kData + 64, "for the parent", 15).ok());
      int64_t result = 0;
      Task t([&] {
        child->set_fiber(sched::current());
        child->set_result(0);
        result = child.run();
        EXPECT_EQ(child->copy_in_string(kData + 32, 20).value_or("?"), "for the child");
        EXPECT_EQ(child->copy_in_string(kData, 20).value_or("?"), "before");
      });
      g->set_result(1234);
      EXPECT_EQ(g.run(), 1001234);
      t.join();
      EXPECT_EQ(result, 1000000);
      EXPECT_EQ(g->copy_in_string(kData + 64, 20).value_or("?"), "for the parent");
      EXPECT_EQ(g->copy_in_string(kData + 32, 20).value_or("?"), "");
      EXPECT_NE(child->space().host_pid(), 0);
    }
  });
}

TEST_P(Birth, ThreadOnTheWayBack) {
  on_fiber([&] {
    Guest g(*world);
    for (int round = 0; round < 50; round++) {
      g.call(App::null_calls, {kNull, 1});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto c = g->clone_thread(Birthday::at_resume);
      ASSERT_TRUE(c.ok());
      Guest thread(*world, std::move(*c));
      thread.call(App::store_loop, {kData, 100, kNull}, kStack + 0x4000);
      int64_t result = 0;
      Task t([&] {
        thread->set_fiber(sched::current());
        result = thread.run();
        thread->exit_thread(0);
      });
      g->set_result(0);
      g.run();
      t.join();
      EXPECT_EQ(result, 100);
    }
  });
}

// A pids cgroup; gone with the object.
class PidsCgroup {
 public:
  PidsCgroup() {
    for (const char* base : {"/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      path = std::string(base) + "/caisson-birth-test";
      rmdir(path.c_str());
      if (mkdir(path.c_str(), 0755) != 0) continue;
      if (access((path + "/pids.max").c_str(), W_OK) == 0) return;
      rmdir(path.c_str());
    }
    path.clear();
  }
  ~PidsCgroup() {
    for (int i = 0; i < 500 && !path.empty() && rmdir(path.c_str()) != 0; i++) usleep(10000);
  }
  int current() const {
    int n = -1;
    std::ifstream(path + "/pids.current") >> n;
    return n;
  }
  void limit(const std::string& n) { std::ofstream(path + "/pids.max") << n; }
  std::string path;
};

TEST_P(Birth, AHostThatRefusesLeavesNothing) {
  auto cgroup = std::make_unique<PidsCgroup>();
  if (cgroup->path.empty()) GTEST_SKIP() << "no pids controller";
  world.reset();
  World::Options o;
  o.mode = GetParam();
  o.workers = 2;
  o.cgroup = cgroup->path;
  world = std::make_unique<World>(o);
  on_fiber([&] {
    Guest g(*world);
    for (bool process : {true, false}) {
      for (int before = -1; before != cgroup->current(); sleep_ns(50'000'000)) before = cgroup->current();  // the pool is full, the dead are gone
      cgroup->limit(std::to_string(cgroup->current()));
      g.call(App::null_calls, {kNull, 1});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto c = process ? g->fork(Birthday::at_resume) : g->clone_thread(Birthday::at_resume);
      ASSERT_TRUE(c.ok());
      Guest child(*world, std::move(*c));
      EventKind childs = EventKind::syscall;
      Task t([&] {
        child->set_fiber(sched::current());
        child->set_result(0);
        childs = child->resume();
        child->exit_thread(0);
      });
      g->set_result(4711);
      EXPECT_EQ(g->resume(), EventKind::syscall);
      EXPECT_EQ(g->birth_error(), EAGAIN);
      t.join();
      EXPECT_EQ(childs, EventKind::never_born);
      g->set_result(-EAGAIN);
      EXPECT_EQ(g.run(), -EAGAIN);
      // With the limit lifted the same thread can.
      cgroup->limit("max");
      g.call(App::null_calls, {kNull, 1});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto again = process ? g->fork(Birthday::at_resume) : g->clone_thread(Birthday::at_resume);
      ASSERT_TRUE(again.ok());
      EXPECT_EQ(g->finish_birth(), 0);
      g->set_result(0);
      g.run();
      Guest second(*world, std::move(*again));
      Task u([&] {
        second->set_fiber(sched::current());
        second.call(App::null_calls, {kNull, 3}, kStack + 0x4000);
        EXPECT_EQ(second.run(), 0 + 1 + 2);
        second->exit_thread(0);
      });
      u.join();
    }
  });
  world.reset();
  cgroup.reset();
}

// A signal for a child that is just being made neither kills it nor gets lost.
TEST_P(Birth, AnEarlyKickArrives) {
  on_fiber([&] {
    Guest g(*world);
    for (int round = 0; round < 200; round++) {
      g.call(App::null_calls, {kNull, 1});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto c = g->fork(Birthday::at_resume);
      ASSERT_TRUE(c.ok());
      Guest child(*world, std::move(*c));
      child.call(App::spin, {kData});
      EventKind first = EventKind::gone;
      Task t([&] {
        child->set_fiber(sched::current());
        first = child->resume();
      });
      Task kicker([&, round] {
        for (int i = 0; i < round % 20; i++) sleep_ns(round % 7 * 3'000);
        child->kick();
      });
      g->set_result(0);
      ASSERT_EQ(g.run(), 0);
      kicker.join();
      t.join();
      ASSERT_EQ(first, EventKind::interrupt) << round;
    }
  });
}

// Each of them interrupts the clone; what waits for the way back is made before the maker looks at them.
TEST_P(Birth, KicksDoNotWearOutAFork) {
  on_fiber([&] {
    Guest g(*world);
    for (int round = 0; round < 60; round++) {
      g.call(App::null_calls, {kNull, 1});
      EventKind e;
      while ((e = g->resume()) == EventKind::interrupt) {}  // the last one's
      ASSERT_EQ(e, EventKind::syscall);
      auto c = g->fork(Birthday::at_resume);
      ASSERT_TRUE(c.ok());
      Guest child(*world, std::move(*c));
      int64_t result = -1;
      Task t([&] {
        child->set_fiber(sched::current());
        child->set_result(0);
        result = child.run();
      });
      std::atomic<bool> over{false};
      std::thread kicker([&] {
        while (!over) {
          g->kick();
          usleep(5);
        }
      });
      g->set_result(1234);
      while ((e = g->resume()) == EventKind::interrupt) EXPECT_EQ(g->finish_birth(), 0);
      over = true;
      kicker.join();
      EXPECT_EQ(e, EventKind::syscall);
      EXPECT_EQ(g->birth_error(), 0);
      t.join();
      EXPECT_EQ(result, 0);  // what its call returned
    }
  });
}

TEST_P(Birth, AMakerThatIsKilledFirstMakesNothing) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::null_calls, {kNull, 1});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    auto c = g->fork(Birthday::at_resume);
    ASSERT_TRUE(c.ok());
    Guest child(*world, std::move(*c));
    g->space().kill();
    child->set_fiber(sched::current());
    child->set_result(0);
    EXPECT_EQ(child->resume(), EventKind::never_born);
  });
}

// A process that nobody needs need not end at once, but soon; and its number and control memory are used again without harm.
TEST_P(Birth, RetiredProcessesEnd) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::null_calls, {kNull, 1'000'000});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    std::vector<int> pids;
    for (int round = 0; round < 20; round++) {
      auto c = g->fork(Birthday::at_resume);
      ASSERT_TRUE(c.ok());
      g->set_result(0);
      ASSERT_EQ(g->resume(), EventKind::syscall);
      Guest child(*world, std::move(*c));
      child->set_fiber(sched::current());
      child.call(App::null_calls, {kNull, 3});
      ASSERT_EQ(child.run(), 0 + 1 + 2);
      pids.push_back(child->space().host_pid());
      child->space().retire();
      EXPECT_TRUE(child->space().gone());
      EXPECT_EQ(child->resume(), EventKind::gone);
    }
    const auto patience = sched::now() + 30'000'000'000;
    auto living = [&] {
      return std::count_if(pids.begin(), pids.end(), [&](int pid) { return pid != g->space().host_pid() && ::kill(pid, 0) == 0; });
    };
    while (living() != 0 && sched::now() < patience) sched::park(sched::now() + 1'000'000);
    EXPECT_EQ(living(), 0);
    EXPECT_EQ(::kill(g->space().host_pid(), 0), 0);
  });
}

TEST_P(Birth, AMakerThatEndsAtOnceLeavesItsChildAlive) {
  on_fiber([&] {
    for (int round = 0; round < 30; round++) {
      Guest child = [&] {
        Guest g(*world);
        g.call(App::null_calls, {kNull, 1});
        EXPECT_EQ(g->resume(), EventKind::syscall);
        auto c = g->fork(Birthday::at_resume);
        EXPECT_TRUE(c.ok());
        g->set_result(0);
        EXPECT_EQ(g->resume(), EventKind::syscall);  // it has come back from the clone
        g->space().kill();
        return Guest(*world, std::move(*c));
      }();
      child->set_fiber(sched::current());
      child.call(App::null_calls, {kNull, 5});
      ASSERT_EQ(child.run(), 0 + 1 + 2 + 3 + 4);
    }
  });
}

// More threads wait in their knocks than the host should keep: each gets its own answer, in whatever order.
TEST_P(Birth, ManyWaitAndAllAreAnswered) {
  on_fiber([&] {
    std::vector<std::unique_ptr<Guest>> guests;
    std::vector<std::unique_ptr<Task>> tasks;
    constexpr int kGuests = 24, kCalls = 5;
    std::atomic<int> right{0};
    for (int i = 0; i < kGuests; i++) guests.push_back(std::make_unique<Guest>(*world));
    for (int i = 0; i < kGuests; i++)
      tasks.push_back(std::make_unique<Task>([&, i] {
        Guest& g = *guests[static_cast<size_t>(i)];
        g->set_fiber(sched::current());
        g.call(App::null_calls, {kNull, kCalls});
        for (int k = 0; k < kCalls; k++) {
          if (g->resume() != EventKind::syscall || g->call().number != kNull) return;
          sleep_ns((i * 7 + k * 5) % 11 * 1'000'000);
          g->set_result(i);
        }
        if (g.run() == kCalls * i) right++;
      }));
    for (auto& t : tasks) t->join();
    EXPECT_EQ(right, kGuests);
  });
}

}  // namespace
}  // namespace platform_test
