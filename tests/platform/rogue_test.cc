// SPDX-License-Identifier: Apache-2.0
// Attack 11: threads and children that nobody announced: clones by the thousand with and without a grant, behind the real filter and
// without it, and the audit that finds who lives all the same.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "sentry/platform/impl.h"
#include "tests/platform/attack.h"

namespace platform_test {
namespace {

// ---- 11: threads and children that nobody announced ----

class Audit : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* root : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      if (access((std::string(root) + "/cgroup.procs").c_str(), W_OK) != 0) continue;
      cgroup = std::string(root) + "/caisson-platform-test";
      if (mkdir(cgroup.c_str(), 0755) != 0 && errno != EEXIST) cgroup.clear();
      if (!cgroup.empty()) break;
    }
    if (cgroup.empty()) GTEST_SKIP() << "no cgroup of version 2 to use";
    // The filter leaves no instruction that clones and comes back to the application; the audit is for the day it does.
    make({.filter = false});
  }
  void make(World::Options o) {
    o.cgroup = cgroup;
    o.workers = 2;
    world = std::make_unique<World>(o);
  }
  void TearDown() override {
    world.reset();
    if (cgroup.empty()) return;
    for (int i = 0; i < 200 && rmdir(cgroup.c_str()) != 0; i++) usleep(5000);
  }
  // Children of ours that nobody has reaped.
  size_t zombies() {
    size_t n = 0;
    for (const auto& e : std::filesystem::directory_iterator("/proc")) {
      std::ifstream in(e.path() / "stat");
      std::string line;
      std::getline(in, line);
      n += line.find(") Z " + std::to_string(getpid()) + ' ') != std::string::npos;
    }
    return n;
  }
  int64_t loop(Guest& g, uint64_t ip, uint64_t nr, uint64_t flags, uint64_t stack, uint64_t n, uint64_t token,
               bool granted = false) {
    uint64_t block[6] = {ip, nr, flags, stack, n, token};
    if (!g->copy_out_now(kData, block, sizeof block).ok()) return -1;
    const uint64_t args[6] = {flags, stack, 0, 0, 0, 0};
    if (granted) g->impl().grant(SYS_clone, args);
    return g.call_and_run(App::clone_loop, {kData});
  }
  size_t population() {
    std::ifstream in(cgroup + "/cgroup.threads");
    size_t n = 0;
    std::string line;
    while (std::getline(in, line)) n++;
    return n;
  }
  std::string cgroup;
  std::unique_ptr<World> world;
};

TEST_F(Audit, No11UndeclaredThreadsAndChildrenAreFoundAndKilled) {
  on_fiber([&] {
    uint64_t ip = stub_symbol("stub_ip_memory");
    for (bool thread : {false, true}) {
      uint64_t flags = thread ? CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
                              : CLONE_PARENT | SIGCHLD;
      uint64_t stack = thread ? kStack + 0x30000 : 0;
      Guest g(*world);
      sleep_ns(100'000'000);  // the pool is full again
      size_t before = population();
      // Without a grant nothing comes of it.
      EXPECT_EQ(through(g, ip, SYS_clone, {flags, stack, 0, 0, 0, 0}), -ENOSYS);
      EXPECT_EQ(population(), before);
      // A thread that has got hold of its own grant (overwritten return address, say).
      const uint64_t args[6] = {flags, stack, 0, 0, 0, 0};
      g->impl().grant(SYS_clone, args);
      g.call(App::rogue_clone, {ip, flags, stack});
      EventKind e = g->resume();
      ASSERT_EQ(e, EventKind::syscall);
      ASSERT_GT(static_cast<int64_t>(g->call().args[0]), 0);
      auto tid = static_cast<int>(g->call().args[0]);
      EXPECT_EQ(population(), before + 1) << "the control: the stranger exists";
      // The grant was for one.
      EXPECT_EQ(through(g, ip, SYS_clone, {flags, stack, 0, 0, 0, 0}), -ENOSYS);
      // Any birth makes the platform look.
      Guest h(*world);
      sched::Nanos start = sched::now();
      int alive = 0;
      do {
        sleep_ns(20'000'000);
        alive = syscall(SYS_tgkill, thread ? g->space().host_pid() : tid, tid, 0) == 0;
      } while (alive && sched::now() - start < 8'000'000'000);
      EXPECT_FALSE(alive);
      if (!thread) { EXPECT_FALSE(g->space().gone()); }
      EXPECT_EQ(h.call_and_run(App::null_calls, {kNull, 10}), 45);
    }
  });
}

constexpr uint64_t kForkFlags = CLONE_PARENT | SIGCHLD,
                   kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

// The control: without the audit the stranger lives on.
TEST_F(Audit, No11ControlWithoutTheAuditStrangersLive) {
  world.reset();
  make({.audit = false, .filter = false});
  on_fiber([&] {
    for (bool thread : {false, true}) {
      uint64_t flags = thread ? kThreadFlags : kForkFlags, stack = thread ? kStack + 0x30000 : 0;
      Guest g(*world);
      const uint64_t args[6] = {flags, stack, 0, 0, 0, 0};
      g->impl().grant(SYS_clone, args);
      g.call(App::rogue_clone, {stub_symbol("stub_ip_memory"), flags, stack});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto tid = static_cast<int>(g->call().args[0]);
      ASSERT_GT(tid, 0);
      Guest h(*world);
      sleep_ns(2'500'000'000);
      EXPECT_EQ(syscall(SYS_tgkill, thread ? g->space().host_pid() : tid, tid, 0), 0);
      if (!thread) kill(tid, SIGKILL);
    }
  });
}

// Behind the real filter: every instruction that comes back, every flavour, no grant.
TEST_F(Audit, No11ThousandsOfClonesWithoutAGrantMakeNobody) {
  for (auto mode : {platform::Mode::direct, platform::Mode::strict}) {
    world.reset();
    make({.mode = mode});
    on_fiber([&] {
      Guest g(*world);
      sleep_ns(100'000'000);  // the pool is full again
      size_t before = population();
      unsigned tried = 0;
      for (const char* site : {"stub_ip_clone", "stub_ip_memory", "stub_ip_wait", "stub_ip_ask", "stub_ip_time", "stub_ip_start",
                               "stub_ip_futex"})
        for (auto [nr, flags, stack] : {std::tuple{SYS_clone, kForkFlags, uint64_t{0}}, std::tuple{SYS_clone, kThreadFlags, kStack + 0x30000},
                                        std::tuple{SYS_clone, uint64_t{SIGCHLD}, uint64_t{0}}, std::tuple{SYS_fork, kForkFlags, uint64_t{0}},
                                        std::tuple{SYS_vfork, kForkFlags, uint64_t{0}}, std::tuple{SYS_clone3, kData + 0x1000, uint64_t{88}}}) {
          ASSERT_EQ(loop(g, stub_symbol(site), static_cast<uint64_t>(nr), flags, stack, 100, 0), 0) << site << ' ' << nr;
          ASSERT_EQ(population(), before) << site << ' ' << nr;
          tried += 100;
        }
      EXPECT_EQ(tried, 4200u);
      EXPECT_EQ(g.call_and_run(App::null_calls, {kNull, 10}), 45);
    });
  }
}

// Behind the real filter, with a grant each time: the child must say who it is, and nobody knows it.
TEST_F(Audit, No11ChildrenMadeWithStolenGrantsEndByThemselves) {
  world.reset();
  make({});
  on_fiber([&] {
    Guest g(*world), neighbour(*world);
    sleep_ns(100'000'000);
    const size_t before = population(), dead = zombies();  // of earlier tests: this process is init here
    size_t most = 0;
    int64_t made = 0;
    uint64_t ip = stub_symbol("stub_ip_clone");
    for (int i = 0; i < 1000; i++) {
      const bool thread = i % 2;
      uint64_t flags = thread ? kThreadFlags : kForkFlags, stack = thread ? kStack + 0x30000 : 0;
      int64_t n = loop(g, ip, SYS_clone, flags, stack, 3, i % 4 < 2 ? 0 : 4711, true);  // token 0 only asks to be looked at
      ASSERT_GE(n, 0);
      ASSERT_LE(n, 1) << "a grant is for one";
      made += n;
      if (i % 16 == 0) most = std::max(most, population());
    }
    EXPECT_GT(made, 900) << "the control: they were made";
    EXPECT_LE(most, before + 40);
    sched::Nanos start = sched::now();
    while ((population() > before || zombies() > dead) && sched::now() - start < 4'000'000'000) sleep_ns(50'000'000);
    EXPECT_LT(sched::now() - start, 2'500'000'000);
    EXPECT_EQ(population(), before);
    EXPECT_LE(zombies(), dead);
    EXPECT_FALSE(g->space().gone());
    EXPECT_EQ(neighbour.call_and_run(App::null_calls, {kNull, 10}), 45);
  });
}

}  // namespace
}  // namespace platform_test
