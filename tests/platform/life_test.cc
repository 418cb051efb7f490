// SPDX-License-Identifier: Apache-2.0
// Threads and processes: fork trees, vfork's borrowed thread, threads, kicks, the application's futexes, the end.
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "tests/platform/harness.h"

namespace platform_test {
namespace {

class Life : public testing::TestWithParam<platform::Mode> {
 protected:
  void SetUp() override {
    World::Options o;
    o.mode = GetParam();
    o.workers = 2;
    o.descriptors.resize(512);
    o.descriptors[202].may_block = true;
    world = std::make_unique<World>(o);
  }
  void TearDown() override { world.reset(); }
  std::unique_ptr<World> world;
};
INSTANTIATE_TEST_SUITE_P(, Life, testing::Values(platform::Mode::direct, platform::Mode::strict),
                         [](auto& i) { return i.param == platform::Mode::direct ? "direct" : "strict"; });

std::vector<char> pattern() {
  std::vector<char> p(4096);
  for (size_t i = 0; i < p.size(); i++) p[i] = static_cast<char>(i * 37 + 11);
  return p;
}
constexpr uint64_t kPattern = kData + 0x8000, kOut = kData + 0xa000;

TEST_P(Life, ForkCopiesMemoryRegistersAndVectorState) {
  on_fiber([&] {
    Guest g(*world);
    auto p = pattern();
    ASSERT_TRUE(g->copy_out_now(kPattern, p.data(), p.size()).ok());
    for (int round = 0; round < 10; round++) {
      ASSERT_TRUE(g->copy_out_now(kData, "before", 7).ok());
      g.call(App::vector_check, {57, 0, kPattern, kOut, 0});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      ASSERT_EQ(g->call().number, 57u);
      auto c = g->fork();
      ASSERT_TRUE(c.ok()) << c.error().name();
      Guest child(*world, std::move(*c));
      EXPECT_NE(child->space().host_pid(), g->space().host_pid());
      int64_t result = 0;
      Task t([&] {
        child->set_fiber(sched::current());
        child->set_result(0);
        result = child.run();
      });
      g->set_result(1234);
      EXPECT_EQ(g.run(), 1001234);
      t.join();
      EXPECT_EQ(result, 1000000);
      // Memory is private from now on.
      ASSERT_TRUE(g->copy_out_now(kData, "parent", 7).ok());
      Task u([&] {
        child->set_fiber(sched::current());
        EXPECT_EQ(child->copy_in_string(kData, 10).value_or("?"), "before");
        EXPECT_TRUE(child->copy_out_now(kData, "child", 6).ok());
      });
      u.join();
      EXPECT_EQ(g->copy_in_string(kData, 10).value_or("?"), "parent");
    }
  });
}

TEST_P(Life, ForkTreesGrowAndDie) {
  on_fiber([&] {
    Guest root(*world);
    std::vector<std::unique_ptr<Guest>> all;
    std::vector<std::unique_ptr<Task>> tasks;
    std::atomic<int> sum{0};
    // Each generation's last member forks the next; every one makes calls at the same time.
    Guest* from = &root;
    for (int i = 0; i < 12; i++) {
      from->call(App::null_calls, {kNull, 1});
      auto c = (*from)->fork();
      ASSERT_TRUE(c.ok());
      all.push_back(std::make_unique<Guest>(*world, std::move(*c)));
      Guest* g = all.back().get();
      (*g)->set_fiber(sched::current());
      EXPECT_TRUE((*g)->copy_out_now(kData + 64, &i, 4).ok());
      from = g;
    }
    for (auto& g : all)
      tasks.push_back(std::make_unique<Task>([&, g = g.get()] {
        (*g)->set_fiber(sched::current());
        if (g->call_and_run(App::store_loop, {kData, 100, kNull}) == 100) sum++;
      }));
    for (auto& t : tasks) t->join();
    EXPECT_EQ(sum, 12);
    int i = 0;
    for (auto& g : all) {
      (*g)->set_fiber(sched::current());
      EXPECT_EQ((*g)->load32(kData + 64).value_or(99), static_cast<uint32_t>(i++));
    }
    std::vector<int> pids;
    for (auto& g : all) pids.push_back((*g)->space().host_pid());
    all.clear();
    for (int tries = 0; tries < 1000 && !pids.empty(); tries++) {
      std::erase_if(pids, [](int pid) { return kill(pid, 0) != 0; });
      sleep_ns(1'000'000);
    }
    EXPECT_TRUE(pids.empty()) << "a dropped process lives on";
  });
}

TEST_P(Life, VforkBorrowsTheThreadAndGivesItBack) {
  on_fiber([&] {
    Guest g(*world);
    auto p = pattern();
    ASSERT_TRUE(g->copy_out_now(kPattern, p.data(), p.size()).ok());
    for (int round = 0; round < 20; round++) {
      g.call(App::vector_check, {58, 0, kPattern, kOut, 0});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      auto saved = g->save_thread();
      ASSERT_TRUE(saved.ok());
      // The child runs on the same thread, elsewhere, with other vector registers, and ends.
      Task t([&] {
        g->set_fiber(sched::current());
        arch::Registers r = g->registers();
        r.rip = address_of(App::store_loop);
        r.rdi = kData;
        r.rsi = 50;
        r.rdx = kNull;
        r.rsp = kStack + 0x8000;
        g->set_registers(r, true);
        EXPECT_EQ(g.run(), 50);
        uint32_t word = 7;
        EXPECT_TRUE(g->copy_out(kData + 128, &word, 4).ok());  // the last words are still queued
      });
      t.join();
      g->set_fiber(sched::current());
      g->restore_thread(std::move(*saved));
      g->set_result(77);
      EXPECT_EQ(g.run(), 1000077);
      EXPECT_EQ(g->load32(kData + 128).value_or(0), 7u);
    }
  });
}

TEST_P(Life, ThreadsShareMemoryAndInheritVectorState) {
  on_fiber([&] {
    Guest g(*world);
    auto p = pattern();
    ASSERT_TRUE(g->copy_out_now(kPattern, p.data(), p.size()).ok());
    g.call(App::vector_check, {56, 0, kPattern, kOut, 0});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    Guest t = g.thread();
    EXPECT_EQ(t->space().host_pid(), g->space().host_pid());
    EXPECT_NE(t->host_tid(), g->host_tid());
    {
      int64_t result = 0;
      Task task([&] {
        t->set_fiber(sched::current());
        arch::Registers r = t->registers();
        r.rsp = kStack + 0x8000;
        r.fs_base = kData + 0x1000;
        r.rax = 0;
        t->set_registers(r);
        result = t.run();
        EXPECT_EQ(t->fs_base(), kData + 0x1000);
      });
      task.join();  // they use the same buffer, one after the other
      EXPECT_EQ(result, 1000000);
      g->set_result(5);
      EXPECT_EQ(g.run(), 1000005);
    }
    // Many at once.
    constexpr int kThreads = 24;
    std::vector<std::unique_ptr<Guest>> threads;
    std::vector<std::unique_ptr<Task>> tasks;
    int64_t results[kThreads] = {};
    for (int i = 0; i < kThreads; i++) {
      threads.push_back(std::make_unique<Guest>(g.thread()));
    }
    for (int i = 0; i < kThreads; i++)
      tasks.push_back(std::make_unique<Task>([&, i] {
        Guest& x = *threads[static_cast<size_t>(i)];
        x->set_fiber(sched::current());
        uint64_t place = static_cast<uint64_t>(i);
        x.call(App::store_loop, {kData + 0x20000 + place * 64, 200, kNull}, kStack + 0x10000 + place * 0x4000);
        results[i] = x.run();
      }));
    for (auto& t2 : tasks) t2->join();
    for (int64_t r : results) EXPECT_EQ(r, 200);
    // They leave, the leader's memory stays, their slots are used again.
    std::vector<int> tids;
    for (auto& x : threads) {
      tids.push_back((*x)->host_tid());
      uint32_t tid = 99;
      (*x)->set_fiber(sched::current());
      EXPECT_TRUE((*x)->copy_out(kData + 0x40000 + static_cast<uint64_t>(tids.size()) * 4, &tid, 4).ok());
      (*x)->exit_thread(kData + 0x40000 + static_cast<uint64_t>(tids.size()) * 4);
    }
    for (int tries = 0; tries < 2000 && !tids.empty(); tries++) {
      std::erase_if(tids, [&](int tid) { return syscall(SYS_tgkill, g->space().host_pid(), tid, 0) != 0; });
      sleep_ns(1'000'000);
    }
    EXPECT_TRUE(tids.empty());
    for (uint64_t i = 1; i <= kThreads; i++) EXPECT_EQ(g->load32(kData + 0x40000 + i * 4).value_or(1), 0u);
    threads.clear();
    EXPECT_FALSE(g->space().gone());
    auto again = g->clone_thread();
    EXPECT_TRUE(again.ok());
  });
}

TEST_P(Life, ALeaderThatLeavesKeepsItsProcess) {
  on_fiber([&] {
    Guest leader(*world);
    Guest t = leader.thread();
    leader->exit_thread(0);
    sleep_ns(20'000'000);
    t->set_fiber(sched::current());
    EXPECT_EQ(t.call_and_run(App::null_calls, {kNull, 10}), 45);
    char b;
    EXPECT_TRUE(t->space().read_remote(kData, &b, 1).ok());  // needs a leader that lives
  });
}

// ---- Kicks ----

TEST_P(Life, AKickStopsAComputeLoop) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::spin, {kData});
    for (int i = 0; i < 50; i++) {
      EventKind e{};
      std::atomic<bool> kicked{false};
      Task t([&] {
        g->set_fiber(sched::current());
        // An interrupt without a kick may come from the last one: the contract of resume().
        do e = g->resume();
        while (e == EventKind::interrupt && !kicked.load());
      });
      uint64_t before = 0;
      ASSERT_TRUE(g->space().read_remote(kData, &before, 8).ok());
      ASSERT_TRUE(reaches(g, kData, before));
      EXPECT_FALSE(t.done());
      kicked.store(true);
      g->kick();
      t.join();
      ASSERT_EQ(e, EventKind::interrupt);
      uint64_t ip = g->registers().rip;
      EXPECT_TRUE(ip >= kCode && ip < kCode + 0x4000) << std::hex << ip;
    }
  });
}

// Against a stub in every phase: entry, copying, waiting, going back. Every kick must be seen, and no call lost or
// repeated.
TEST_P(Life, KicksInEveryPhaseAreNeitherLostNorRepeatCalls) {
  on_fiber([&] {
    Guest g(*world);
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> interrupts{0}, calls{0};
    uint64_t next = 0;
    bool in_order = true;
    g.call(App::count_calls, {kData, kNull});
    Task t([&] {
      g->set_fiber(sched::current());
      while (!stop.load()) {
        EventKind e = g->resume();
        if (e == EventKind::interrupt) {
          interrupts++;
          continue;
        }
        if (e != EventKind::syscall) break;
        in_order &= g->call().args[0] == next++;
        calls++;
        g->set_result(0);
      }
    });
    unsigned seed = 1;
    uint64_t kicks = 0;
    for (sched::Nanos end = sched::now() + 400'000'000; sched::now() < end;) {
      g->kick();
      kicks++;
      // The thread makes calls all the time, each of which counts as coming out. So only require progress.
      seed = seed * 1103515245 + 12345;
      sleep_ns(1000 + (seed >> 8) % 60'000);
    }
    stop = true;
    t.join();
    EXPECT_TRUE(in_order);
    EXPECT_GT(calls, 100u);
    EXPECT_GT(interrupts, 0u);
    EXPECT_LE(interrupts, 2 * kicks);
    EXPECT_FALSE(g->space().gone());
  });
}

// A loop that makes no call after the kick cannot hide a lost one.
TEST_P(Life, AKickThatComesJustAfterAnAnswerIsNotLost) {
  on_fiber([&] {
    Guest g(*world);
    unsigned seed = 7;
    for (int i = 0; i < 150; i++) {
      g->set_fiber(sched::current());
      g.call(App::null_calls, {kNull, 1});
      EventKind first;
      while ((first = g->resume()) == EventKind::interrupt) {}  // a late one of the last round
      ASSERT_EQ(first, EventKind::syscall);
      arch::Registers r = g->registers();
      r.rip = address_of(App::spin);
      r.rdi = kData;
      g->set_registers(r);
      EventKind e{};
      Task t([&] {
        g->set_fiber(sched::current());
        e = g->resume();
      });
      seed = seed * 1103515245 + 12345;
      sched::Nanos until = sched::now() + (seed >> 8) % 30'000;
      while (sched::now() < until) sched::yield();
      g->kick();
      t.join();
      ASSERT_EQ(e, EventKind::interrupt);
    }
  });
}

TEST_P(Life, PrivateFutexesAreTheHosts) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::futex_wait, {kData, 1, 0});  // the word is 0
    ASSERT_EQ(g->resume(), EventKind::syscall);
    ASSERT_EQ(g->call().number, static_cast<uint64_t>(SYS_futex));
    g->run_host_futex(g->call());
    EXPECT_EQ(g.run(), -EAGAIN);

    // A time-out.
    const int64_t ts[2] = {0, 3'000'000};
    ASSERT_TRUE(g->copy_out_now(kData + 64, ts, sizeof ts).ok());
    g.call(App::futex_wait, {kData, 0, kData + 64});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    g->run_host_futex(g->call());
    EXPECT_EQ(g.run(), -ETIMEDOUT);

    // Woken by a sibling.
    Guest s = g.thread();
    g.call(App::futex_wait, {kData, 0, 0});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    Task t([&] {
      g->set_fiber(sched::current());
      g->run_host_futex(g->call());
      EXPECT_EQ(g.run(), 0);
    });
    sleep_ns(5'000'000);
    EXPECT_FALSE(t.done());
    s->set_fiber(sched::current());
    const uint64_t wake[7] = {SYS_futex, kData, FUTEX_WAKE, 1, 0, 0, 0};
    ASSERT_TRUE(s->copy_out_now(kData + 128, wake, sizeof wake).ok());
    s.call(App::raw_call, {kData + 128}, kStack + 0x8000);
    ASSERT_EQ(s->resume(), EventKind::syscall);
    s->run_host_futex(s->call());
    EXPECT_EQ(s.run(), 1);
    t.join();

    // Ended by a kick, at every moment.
    for (int i = 0; i < 100; i++) {
      g.call(App::futex_wait, {kData, 0, 0});
      g->set_fiber(sched::current());
      EventKind first;
      while ((first = g->resume()) == EventKind::interrupt) {}
      ASSERT_EQ(first, EventKind::syscall);
      EventKind e{};
      Task w([&] {
        g->set_fiber(sched::current());
        g->run_host_futex(g->call());
        e = g->resume();
      });
      sched::Nanos until = sched::now() + (i % 50) * 1000;
      while (sched::now() < until) sched::yield();
      g->kick();
      w.join();
      ASSERT_EQ(e, EventKind::interrupt);
      EXPECT_TRUE(g->futex_interrupted());
      g->set_fiber(sched::current());
    }
    // Interrupted, then begun again: the kernel's restart.
    g->run_host_futex(g->call());
    uint32_t one = 1;
    EXPECT_TRUE(g->copy_out_now(kData, &one, 4).ok());
    EXPECT_EQ(g.run(), -EAGAIN);
  });
}

TEST_P(Life, CpuTimeIsTheThreads) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::null_calls, {kNull, 20000});
    g.run();
    uint64_t one = g->cpu_time();
    EXPECT_GT(one, 0u);
    auto c = g->clone_thread();
    ASSERT_TRUE(c.ok());
    (*c)->set_fiber(sched::current());
    uint64_t other = (*c)->cpu_time();
    EXPECT_GT(other, 0u);
    EXPECT_LT(other, one);
    EXPECT_GE(g->space().cpu_time(), one);
  });
}

}  // namespace
}  // namespace platform_test
