// SPDX-License-Identifier: Apache-2.0
// Hostile application code against the platform. Numbers are those of the acceptance tests in the design review; each
// attack has a control that shows that the tool it uses would work if it were let.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <set>

#include "sentry/platform/impl.h"
#include "tests/platform/attack.h"

namespace platform_test {
namespace {

using platform::Mode;
INSTANTIATE_TEST_SUITE_P(, Attack, testing::Values(Mode::direct, Mode::strict),
                         [](auto& i) { return i.param == Mode::direct ? "direct" : "strict"; });

unsigned scale() {
  const char* s = getenv("CAISSON_TEST_SCALE");
  return s ? static_cast<unsigned>(std::max(1, atoi(s))) : 1;
}

struct Random {
  uint64_t x = 88172645463325252ull;
  uint64_t next() {
    x ^= x << 13; x ^= x >> 7; x ^= x << 17;
    return x;
  }
  // Interesting words: page edges of the application's zone, of the stub, both halves.
  uint64_t word() {
    static const uint64_t edges[] = {0, 0x1000, 0x10000, 0x7f0000000000, 0x7ffe00000000, 0x7fff00000000, 0x7fff00001000,
                                     0x7fff00100000, 0x7fff00200000, 0x7fff10000000, 0x7fff10001000, 0x7fff10020000,
                                     0x7fff90000000, 0x7ffffffff000, 0x800000000000, 0x80000000, 0x100000000, ~0ull};
    uint64_t e = edges[next() % std::size(edges)];
    switch (next() % 6) {
      case 0: return e;
      case 1: return e - 0x1000;
      case 2: return e + 0x1000;
      case 3: return next() & 0x7fffffffffff & ~0xfffull;
      case 4: return next() % 0x100000;
      default: return next();
    }
  }
};

// ---- 2: in a real stub (the whole walk is in walk_test.cc) ----

TEST_P(Attack, No2CompatibilityCallsKill) {
  on_fiber([&] {
    Guest g(*world);
    Guest neighbour(*world);
    g.call(App::int80, {20});
    EXPECT_EQ(g->resume(), EventKind::gone);
    EXPECT_EQ(neighbour.call_and_run(App::null_calls, {kNull, 10}), 45);
  });
}

// ---- 3, 4, 21: arguments of allowed calls; memory calls against the stub ----

TEST_P(Attack, No3And4NoArgumentReachesTheStubsPages) {
  on_fiber([&] {
    Random rnd;
    uint64_t sites[] = {stub_symbol("stub_ip_memory"), stub_symbol("stub_ip_wait"), stub_symbol("stub_ip_time"),
                        stub_symbol("stub_ip_start")};
    auto g = std::make_unique<Guest>(*world);
    std::string before = maps_of((*g)->space().host_pid(), 0x7ffe00000000);
    unsigned lost = 0, effects = 0;
    for (unsigned i = 0; i < 3000 * scale(); i++) {
      static const uint64_t numbers[] = {9, 10, 11, 28, 25, 28, 131, 202, 228, 3, 462, 324};
      uint64_t nr = numbers[rnd.next() % std::size(numbers)], ip = sites[rnd.next() % 2 ? 0 : rnd.next() % 4];
      std::array<uint64_t, 6> a;
      for (auto& w : a) w = rnd.word();
      if (rnd.next() % 2) a[2] &= 7;
      if (nr == SYS_membarrier && rnd.next() % 2) a[0] = a[1] = 0;
      if (nr == 9 && rnd.next() % 2) a[3] = rnd.next() % 2 ? 0x32 : 0x100022, a[4] = ~0ull;
      if (nr == SYS_futex) a[1] = FUTEX_WAKE | (rnd.next() % 2 ? 128 : 0);  // a wait may last
      auto r = through(*g, ip, nr, a);
      if (r && *r >= 0) effects++;
      std::string now = maps_of((*g)->space().host_pid(), 0x7ffe00000000);
      ASSERT_TRUE(now == before || (*g)->space().gone()) << nr << ' ' << std::hex << a[0] << ' ' << a[1] << ' ' << a[2] << '\n' << now;
      if (!r) {  // it took its own code or stack away
        lost++;
        g = std::make_unique<Guest>(*world);
      }
    }
    EXPECT_GT(effects, 0u) << "the control: some of these calls work";
    if (GetParam() == Mode::direct) { EXPECT_GT(lost, 0u) << "the control: some hit the application itself"; }
  });
}

TEST_P(Attack, No21MemoryCallsAgainstStubPagesDoNothing) {
  on_fiber([&] {
    Guest g(*world);
    uint64_t ip = stub_symbol("stub_ip_memory");
    std::string before = maps_of(g->space().host_pid());
    auto refused = [&](uint64_t nr, std::array<uint64_t, 6> a) {
      auto r = through(g, ip, nr, a);
      ASSERT_TRUE(r.has_value()) << nr << ' ' << std::hex << a[0];
      EXPECT_LT(*r, 0) << nr << ' ' << std::hex << a[0] << ' ' << a[1] << ' ' << a[2];
    };
    for (uint64_t page : {0x7fff00000000ull, 0x7fff00100000ull, 0x7fff00200000ull, 0x7fff00206000ull, 0x7fff10000000ull,
                          0x7fff10001000ull, 0x7fff10020000ull, 0x7fff10024000ull, 0x7fff8ffff000ull}) {
      refused(SYS_munmap, {page, 0x1000});
      refused(SYS_munmap, {kCode + 0x100000, page - kCode});
      refused(SYS_mprotect, {page, 0x1000, 7});
      refused(SYS_mprotect, {page, 0x1000, 0});
      refused(SYS_mremap, {page, 0x1000, 0x1000, 3, 0x50000000});
      refused(SYS_mremap, {kData, 0x1000, 0x1000, 3, page});
      refused(SYS_mmap, {page, 0x1000, 7, 0x32, ~0ull, 0});
      refused(SYS_mmap, {page, 0x1000, 7, 0x12, 4, 0});
      refused(462, {page, 0x1000, 0});
      for (uint64_t advice = 0; advice <= 150; advice++) refused(SYS_madvise, {page, 0x1000, advice});
    }
    // The fresh child's own calls are open to everyone, and do nothing any more.
    refused(SYS_mmap, {kStubZone, 0x1000, 1, 0x100001, 3, 0});
    refused(SYS_mmap, {kStubZone + 0x1000, 0x7ffff000, 3, 0x100001, 3, 0x1000});
    EXPECT_EQ(maps_of(g->space().host_pid()), before);
    EXPECT_EQ(g.call_and_run(App::null_calls, {kNull, 10}), 45);
  });
}

// ---- 1, 5, 7: rubbish in shared memory ----

TEST_P(Attack, No1And5RubbishInSharedWordsHurtsItsOwnProcessOnly) {
  on_fiber([&] {
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> served{0};
    std::atomic<bool> wrong{false};
    Guest neighbour(*world);
    Task watch([&] {
      neighbour->set_fiber(sched::current());
      while (!stop.load()) {
        if (neighbour.call_and_run(App::store_loop, {kData, 50, kNull}) != 50) wrong = true;
        served += 50;
      }
    });
    std::atomic<unsigned> forked{0};
    for (unsigned round = 0; round < 6 * scale(); round++) {
      Guest g(*world);
      g.call(App::null_calls, {kNull, 1ull << 40});
      // Even rounds: the whole slot of the thread that forks, registers, operations, results. Odd ones: only the words that
      // answer, and the doorbell.
      uint64_t at = round % 2 == 0 ? slot_of(g.context()) : round % 4 == 1 ? slot_of(g.context()) + 0x400 : kStubZone + 0x1000;
      uint64_t n = round % 2 == 0 ? 0x4000 : round % 4 == 1 ? 0x800 : 0x800;
      auto [s, t] = scrambler(g, at, n);
      // It may well stop making sense, or any calls: the victim of its own is given some time, not waited for.
      Task victim([&] {
        g->set_fiber(sched::current());
        while (g->resume() != EventKind::gone) {
          g->set_result(0);
          auto c = g->fork();
          forked += c.ok();
          char buf[64];
          (void)g->copy_in(buf, kData, sizeof buf).ok();
        }
      });
      sleep_ns(80'000'000);
      g->space().kill();
      victim.join();
      t->join();
    }
    stop = true;
    watch.join();
    EXPECT_FALSE(wrong);
    EXPECT_GT(served, 500u);
    EXPECT_FALSE(neighbour->space().gone());
    EXPECT_GT(forked, 0u);
    EXPECT_EQ(neighbour.context().impl().queued_copy_failed, false);
    // The zygote and its pool are well.
    Guest fresh(*world);
    EXPECT_EQ(fresh.call_and_run(App::null_calls, {kNull, 10}), 45);
  });
}

TEST_P(Attack, No7OnlyApprovedInodesAreEverMapped) {
  on_fiber([&] {
    Guest g(*world);
    std::set<uint64_t> approved{0, inode_of(code_file())};
    for (auto& m : mapped(g->space().host_pid()))
      if (m.from >= 0x7fff00000000) approved.insert(m.inode);
    auto wanted = file_of(std::string(8192, 'w'));
    approved.insert(inode_of(wanted.get()));
    Guest other(*world);  // its file must not appear in g
    auto secret = file_of(std::string(8192, 's'));
    ASSERT_TRUE(other->memory_call({.op = MemoryOp::map_file, .address = 0x60000000, .length = 0x1000, .prot = 1,
                                    .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE, .host_fd = secret.get()}).ok());
    auto [s, t] = scrambler(g, slot_of(g.context()) + 0x400, 0x400);
    unsigned made = 0, looked = 0;
    for (uint64_t i = 0; i < 60 && !g->space().gone(); i++) {
      g->set_fiber(sched::current());
      auto r = g->memory_call({.op = MemoryOp::map_file, .address = 0x60000000 + i * 0x10000, .length = 0x1000, .prot = 1,
                               .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE, .host_fd = wanted.get()});
      made += r.ok();
      for (auto& m : mapped(g->space().host_pid())) {
        EXPECT_TRUE(approved.contains(m.inode)) << std::hex << m.from;
        looked++;
      }
    }
    // Every number that may name a descriptor, from the instruction that maps: nothing is there but what was given.
    Guest h(*world);
    auto r = h->memory_call({.op = MemoryOp::map_file, .address = 0x60000000, .length = 0x1000, .prot = 1,
                             .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE, .host_fd = wanted.get()});
    ASSERT_TRUE(r.ok());
    unsigned reached = 0;
    for (uint64_t fd = 0; fd < 64; fd++) {
      auto m = through(h, stub_symbol("stub_ip_memory"), SYS_mmap, {0x61000000 + fd * 0x10000, 0x1000, 1, MAP_PRIVATE | MAP_FIXED, fd, 0});
      ASSERT_TRUE(m.has_value());
      reached += *m > 0;
    }
    for (auto& m : mapped(h->space().host_pid())) EXPECT_TRUE(approved.contains(m.inode) || m.from >= kStubZone) << std::hex << m.from;
    if (GetParam() == Mode::direct) { EXPECT_GE(reached, 1u) << "the control: its own file can be mapped so"; }
    else { EXPECT_EQ(reached, 0u); }
    bool control = false;
    for (auto& m : mapped(other->space().host_pid())) control |= m.inode == inode_of(secret.get());
    EXPECT_TRUE(control);
    g->space().kill();
    t->join();
    EXPECT_GE(made, 1u) << "the control: calls get through the rubbish";
    EXPECT_GE(looked, 10u);
  });
}

// ---- 6: fork ----

TEST_P(Attack, No6NoControlPageSurvivesAFork) {
  on_fiber([&] {
    Guest parent(*world);
    parent.call(App::null_calls, {kNull, 1});
    ASSERT_EQ(parent->resume(), EventKind::syscall);
    auto mine = control_inodes(parent->space().host_pid());
    EXPECT_EQ(mine.size(), 1u) << "the control";
    auto c = parent->fork();
    ASSERT_TRUE(c.ok());
    Guest child(*world, std::move(*c));
    child->set_fiber(sched::current());
    child->set_result(0);
    ASSERT_EQ(child->resume(), EventKind::syscall);
    auto its = control_inodes(child->space().host_pid());
    EXPECT_EQ(its.size(), 1u);
    for (uint64_t i : its) EXPECT_FALSE(mine.contains(i));
    Guest pooled(*world);
    for (uint64_t i : control_inodes(pooled->space().host_pid())) EXPECT_FALSE(mine.contains(i) || its.contains(i));
    // And no descriptor of one.
    for (int fd = 0; fd < 64; fd++) {
      struct stat st;
      std::string path = "/proc/" + std::to_string(child->space().host_pid()) + "/fd/" + std::to_string(fd);
      if (stat(path.c_str(), &st) != 0) continue;
      EXPECT_FALSE(mine.contains(st.st_ino) || its.contains(st.st_ino)) << fd;
    }
  });
}

// ---- 8: write access through mprotect ----

TEST_P(Attack, No8AReadOnlySharedMappingStaysReadOnly) {
  on_fiber([&] {
    auto rw = file_of(std::string(4096, 'o'), true);
    base::Fd ro(open(("/proc/self/fd/" + std::to_string(rw.get())).c_str(), O_RDONLY | O_CLOEXEC));
    // The control: a mapping made from the writable descriptor can be made writable.
    void* p = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, rw.get(), 0);
    EXPECT_EQ(mprotect(p, 4096, PROT_READ | PROT_WRITE), 0);
    munmap(p, 4096);
    Guest g(*world);
    uint64_t at = platform::kSharedBase + 0x10000, ip = stub_symbol("stub_ip_memory");
    // In the zone of private mappings mprotect is free: there the descriptor itself must be without the right.
    uint64_t below = 0x70000000;
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::map_file, .address = below, .length = 0x1000, .prot = PROT_READ,
                                .flags = MAP_SHARED | MAP_FIXED_NOREPLACE, .host_fd = ro.get()}).ok());
    EXPECT_EQ(through(g, ip, SYS_mprotect, {below, 0x1000, 3}), GetParam() == Mode::direct ? -EACCES : -ENOSYS);
    EXPECT_EQ(through(g, ip, SYS_mmap, {below + 0x10000, 0x1000, 1, MAP_SHARED | MAP_FIXED, 16, 0}), -ENOSYS) << "no grant";
    for (int fd : {ro.get(), rw.get()}) {
      ASSERT_TRUE(g->memory_call({.op = MemoryOp::map_file, .address = at, .length = 0x1000, .prot = PROT_READ,
                                  .flags = MAP_SHARED | MAP_FIXED_NOREPLACE, .host_fd = fd}).ok());
      EXPECT_EQ(through(g, ip, SYS_mprotect, {at, 0x1000, 3}), -ENOSYS);
      EXPECT_EQ(through(g, ip, SYS_mprotect, {kData, at + 0x1000 - kData, 3}), -ENOSYS);
      g.call(App::trap, {4, at});
      ASSERT_EQ(g->resume(), EventKind::fault);
      EXPECT_EQ(g->fault().address, at);
      ASSERT_TRUE(g->memory_call({.op = MemoryOp::unmap, .address = at, .length = 0x1000}).ok());
    }
    char c;
    EXPECT_EQ(pread(rw.get(), &c, 1, 0), 1);
    EXPECT_EQ(c, 'o');
  });
}

// ---- 10: refusing to stop ----

TEST_P(Attack, No10AThreadThatBlocksKicksLosesItsProcess) {
  on_fiber([&] {
    Guest g(*world), neighbour(*world);
    g.call(App::block_signals, {stub_symbol("stub_sigreturn"), kData, kData + 0x1000});
    EventKind e{};
    Task t([&] {
      g->set_fiber(sched::current());
      e = g->resume();
    });
    ASSERT_TRUE(reaches(g, kData, 1000));
    sched::Nanos start = sched::now();
    g->kick();
    sleep_ns(50'000'000);
    uint64_t v = 0;
    ASSERT_TRUE(g->space().read_remote(kData, &v, 8).ok());
    EXPECT_TRUE(reaches(g, kData, v)) << "the control: the kick was refused";
    EXPECT_FALSE(t.done());
    EXPECT_EQ(neighbour.call_and_run(App::null_calls, {kNull, 10}), 45);
    t.join();
    EXPECT_EQ(e, EventKind::gone);
    EXPECT_LT(sched::now() - start, 6'000'000'000);
    EXPECT_FALSE(neighbour->space().gone());
  });
}

// Lets a second thread compute, without a fiber that waits for it.
void spin(Guest& thread) {
  thread.call(App::spin, {kData}, kStack + 0x8000);
  thread->impl().send_reply(platform::stub::kResume | platform::stub::kLoadFs);
}

TEST_P(Attack, No10AThreadThatDoesNotLeaveLosesItsProcess) {
  on_fiber([&] {
    Guest g(*world);
    Guest s = g.thread();
    spin(s);
    ASSERT_TRUE(reaches(g, kData, 100));
    s->exit_thread(0);  // it runs, and does not care
    sched::Nanos start = sched::now();
    while (!g->space().gone() && sched::now() - start < 8'000'000'000) sleep_ns(10'000'000);
    EXPECT_TRUE(g->space().gone());
  });
}

// Of 64 threads that compute on two processors each runs now and then: what the others use is not held against one.
TEST_P(Attack, No10AThreadIsNotBlamedForTheTimeOfOthers) {
  on_fiber([&] {
    Guest g(*world);
    Guest s = g.thread();
    spin(s);
    platform::Space& space = s->space();
    const uint64_t two = 1'000'000'000;  // half a second for each
    auto blamed = [&] { return platform::overdue(space, sched::now() - 2'000'000'000, 0); };
    EXPECT_FALSE(platform::overdue(space, sched::now(), 0));
    EXPECT_TRUE(platform::overdue(space, sched::now() - 60'000'000'000, UINT64_MAX / 2)) << "20 seconds are enough in any case";
    ASSERT_TRUE(eventually([&] { return space.cpu_time() > two * 6 / 10; }));
    const bool early = blamed();
    if (space.cpu_time() < two) {
      EXPECT_FALSE(early);
    }
    ASSERT_TRUE(eventually([&] { return space.cpu_time() > two; }));
    EXPECT_TRUE(blamed());
    space.kill();
  });
}

}  // namespace
}  // namespace platform_test
