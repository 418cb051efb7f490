// SPDX-License-Identifier: Apache-2.0
// The positive controls: the attacks of attack_test.cc with the wall that stops them taken away. Each must succeed, or the
// tests that they fail say nothing.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "base/sys.h"
#include "sentry/platform/impl.h"
#include "tests/platform/attack.h"

namespace platform_test {
namespace {

constexpr uint64_t kForkFlags = CLONE_PARENT | SIGCHLD;

// ---- 1: an answer forged in shared memory names another process ----

// A sentry that took a child's number from the words that the stub writes would have taken the neighbour's.
TEST_P(Attack, No1AForgedChildNumberIsNotBelieved) {
  on_fiber([&] {
    Guest g(*world), neighbour(*world);
    const int victim = neighbour->space().host_pid();
    const uint64_t slot = slot_of(g.context());
    auto& ops = g->impl().slot->ops;
    const uint64_t results = slot + (reinterpret_cast<const char*>(&ops[0].result) - reinterpret_cast<const char*>(g->impl().slot));
    Guest forger = g.thread();
    forger.call(App::forge, {results, sizeof ops[0], platform::stub::kMaxOps, static_cast<uint64_t>(victim)}, kStack + 0x20000);
    Task t([&] {
      forger->set_fiber(sched::current());
      while (forger->resume() != EventKind::gone) forger->set_result(0);
    });
    unsigned believed = 0, forked = 0;
    for (int i = 0; i < 40 && !g->space().gone(); i++) {
      g->set_fiber(sched::current());
      auto child = g->fork();
      for (unsigned k = 0; k < platform::stub::kMaxOps; k++)
        believed += reinterpret_cast<const Untrusted<int64_t>&>(ops[k].result).copy_in() == victim;
      if (!child.ok()) continue;
      forked++;
      EXPECT_NE((*child)->space().host_pid(), victim);
      EXPECT_NE((*child)->space().host_pid(), g->space().host_pid());
      (*child)->space().kill();
    }
    EXPECT_GT(believed, 0u) << "the control: the words did say so";
    EXPECT_GT(forked, 0u);
    EXPECT_FALSE(neighbour->space().gone());
    EXPECT_EQ(neighbour.call_and_run(App::null_calls, {kNull, 10}), 45);
    g->space().kill();
    t.join();
  });
}

// ---- 2 ----

TEST(Open, No2WithoutTheFilterTheStubsInstructionsDoAnything) {
  auto world = open_world(true);
  on_fiber([&] {
    Guest g(*world);
    uint64_t ip = stub_symbol("stub_ip_memory");
    EXPECT_EQ(through(g, ip, SYS_getpid, {}), g->space().host_pid());
    auto s = through(g, ip, SYS_socket, {AF_INET, SOCK_DGRAM, 0});
    EXPECT_TRUE(s.has_value() && *s >= 0);
    g.call(App::int80, {20});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    EXPECT_EQ(g->call().args[0], static_cast<uint64_t>(g->space().host_pid())) << "i386's getpid";
  });
}

TEST_P(Attack, No2TheSameFromARealStubIsRefused) {
  on_fiber([&] {
    Guest g(*world);
    for (const char* site : {"stub_ip_memory", "stub_ip_wait", "stub_ip_time", "stub_ip_ask", "stub_ip_start"})
      for (uint64_t nr : {SYS_getpid, SYS_socket, SYS_openat, SYS_execve, SYS_kill, SYS_nanosleep})
        EXPECT_EQ(through(g, stub_symbol(site), nr, {}), -ENOSYS) << site << nr;
    // Calls that another instruction may make.
    EXPECT_EQ(through(g, stub_symbol("stub_ip_wait"), SYS_munmap, {kData, 0x1000}), -ENOSYS);
    EXPECT_EQ(through(g, stub_symbol("stub_ip_memory"), SYS_membarrier, {}), -ENOSYS);
    EXPECT_EQ(through(g, stub_symbol("stub_ip_wait"), SYS_sched_yield, {}), -ENOSYS);
    EXPECT_EQ(through(g, stub_symbol("stub_ip_time"), SYS_futex, {kData, 129, 1}), -ENOSYS);
    EXPECT_EQ(through(g, stub_symbol("stub_ip_wait"), SYS_futex, {kData, 129, 1}), 0) << "the control: its own call works";
    EXPECT_GT(through(g, stub_symbol("stub_ip_wait"), SYS_membarrier, {}).value_or(-1), 0);
  });
}

// ---- 3, 4, 21: the two locks on the stub's own pages ----

TEST(Open, No3No4No21WithoutTheFilterAndTheSealsStubPagesAreTaken) {
  auto world = open_world(false);
  on_fiber([&] {
    uint64_t ip = stub_symbol("stub_ip_memory");
    struct { uint64_t nr; std::array<uint64_t, 6> a; } takes[] = {
        {SYS_munmap, {0x7fff00100000, 0x1000}},
        {SYS_mprotect, {0x7fff00000000, 0x1000, 7}},
        {SYS_madvise, {kStubZone, 0x80000000, 11 /* DOFORK */}},
        {SYS_mmap, {0x7fff00300000, 0x1000, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0ull, 0}}};
    for (auto& t : takes) {
      Guest g(*world);
      std::string before = maps_of(g->space().host_pid(), 0x7ffe00000000);
      EXPECT_GE(through(g, ip, t.nr, t.a).value_or(-1), 0) << t.nr;
      if (t.nr != SYS_madvise) { EXPECT_NE(maps_of(g->space().host_pid(), 0x7ffe00000000), before) << t.nr; }
    }
  });
}

TEST(Open, No21TheSealsHoldByThemselvesWhereTheHostHasThem) {
  if (!sys::raw(462, 0, 0, 0).ok()) GTEST_SKIP() << "no mseal on this host";
  auto world = open_world(true);
  on_fiber([&] {
    Guest g(*world);
    uint64_t ip = stub_symbol("stub_ip_memory");
    std::string before = maps_of(g->space().host_pid(), 0x7ffe00000000);
    for (uint64_t page : {0x7fff00000000ull, 0x7fff00100000ull, 0x7fff10000000ull, 0x7fff10020000ull}) {
      EXPECT_EQ(through(g, ip, SYS_munmap, {page, 0x1000}), -EPERM) << std::hex << page;
      auto r = through(g, ip, SYS_mprotect, {page, 0x1000, 7});
      EXPECT_TRUE(r == -EPERM || r == -EACCES) << std::hex << page;
      EXPECT_EQ(through(g, ip, SYS_mmap, {page, 0x1000, 7, 0x32, ~0ull, 0}), -EPERM) << std::hex << page;
    }
    EXPECT_EQ(maps_of(g->space().host_pid(), 0x7ffe00000000), before);
  });
}

// ---- 5: a doorbell that somebody keeps silencing ----

TEST_P(Attack, No5ASilencedDoorbellIsItsOwnProcesssAlone) {
  on_fiber([&] {
    Guest g(*world), neighbour(*world);
    auto count = [&](Guest& who) {
      uint64_t n = 0;
      EXPECT_TRUE(who->space().gone() || who->space().read_remote(kData, &n, 8).ok());
      return n;
    };
    auto serve = [](Guest* who) {
      return [who] {
        (*who)->set_fiber(sched::current());
        while ((*who)->resume() != EventKind::gone) (*who)->set_result(0);
      };
    };
    // Two more threads of g's process, for later.
    Guest bell = g.thread(), words = g.thread();
    bell.call(App::scramble, {kStubZone + 0x1000, 0x1000, 12345, kData + 0x9000}, kStack + 0x20000);
    words.call(App::scramble, {slot_of(g.context()), 0x400, 54321, kData + 0x9100}, kStack + 0x30000);
    g.call(App::count_calls, {kData, kNull});
    neighbour.call(App::count_calls, {kData, kNull});
    Task a(serve(&g)), b(serve(&neighbour));
    ASSERT_TRUE(reaches(g, kData, 10) && reaches(neighbour, kData, 10));
    // They write rubbish over its doorbell and over the first thread's words for ever.
    Task t(serve(&bell)), u(serve(&words));
    // The neighbour shares a processor with them, and no word: it gets on, and further than the one whose words they are.
    const uint64_t own = count(g), other = count(neighbour);
    EXPECT_TRUE(reaches(neighbour, kData, other + 1000));
    EXPECT_TRUE(eventually([&] { return g->space().gone() || count(g) - own < (count(neighbour) - other) / 2; }))
        << "the control: what they destroy does carry the calls of their process";
    g->space().kill();
    neighbour->space().kill();
    a.join();
    b.join();
    t.join();
    u.join();
  });
}

// ---- 6: control memory that follows a fork ----

TEST(Open, No6WithoutTheFilterAChildKeepsItsParentsControlMemory) {
  auto world = open_world(false);
  on_fiber([&] {
    uint64_t ip = stub_symbol("stub_ip_memory");
    Guest g(*world);
    auto mine = control_inodes(g->space().host_pid());
    ASSERT_EQ(mine.size(), 1u);
    ASSERT_EQ(through(g, ip, SYS_madvise, {kStubZone, 0x80000000, 11 /* DOFORK */}), 0);
    const uint64_t args[6] = {kForkFlags, 0, 0, 0, 0, 0};
    g->impl().grant(SYS_clone, args);
    g.call(App::rogue_clone, {ip, kForkFlags, 0});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    int child = static_cast<int>(g->call().args[0]);
    ASSERT_GT(child, 0);
    EXPECT_EQ(control_inodes(child), mine);
    kill(child, SIGKILL);
  });
}

TEST_P(Attack, No6NobodyUndoesTheDontFork) {
  on_fiber([&] {
    Guest g(*world);
    for (const char* site : {"stub_ip_memory", "stub_ip_wait", "stub_ip_start"})
      EXPECT_EQ(through(g, stub_symbol(site), SYS_madvise, {kStubZone, 0x80000000, 11}), -ENOSYS) << site;
  });
}

// ---- 7: a descriptor that nobody approved ----

TEST(Open, No7WithoutTheFilterAStubMapsWhatItLikes) {
  auto world = open_world(true);
  on_fiber([&] {
    Guest g(*world);
    uint64_t ip = stub_symbol("stub_ip_memory");
    ASSERT_TRUE(g->copy_out_now(kData + 0x100, "/proc/self/exe", 15).ok());
    auto fd = through(g, ip, SYS_openat, {static_cast<uint64_t>(AT_FDCWD), kData + 0x100, O_RDONLY, 0});
    ASSERT_TRUE(fd.has_value() && *fd >= 0) << *fd;
    struct stat st;
    ASSERT_EQ(stat(("/proc/" + std::to_string(g->space().host_pid()) + "/exe").c_str(), &st), 0);
    ASSERT_GT(through(g, ip, SYS_mmap, {0x61000000, 0x1000, 1, MAP_PRIVATE | MAP_FIXED, static_cast<uint64_t>(*fd), 0}).value_or(-1), 0);
    bool seen = false;
    for (auto& m : mapped(g->space().host_pid())) seen |= m.from == 0x61000000 && m.inode == st.st_ino;
    EXPECT_TRUE(seen);
  });
}

// ---- 8: write access by mprotect ----

TEST(Open, No8WithoutTheWallsAReadOnlyMappingBecomesWritable) {
  auto world = open_world(true);
  on_fiber([&] {
    auto rw = file_of(std::string(4096, 'o'), true);
    Guest g(*world);
    uint64_t ip = stub_symbol("stub_ip_memory");
    // The wrong descriptor at any address, the filter gone: mprotect gives what open(2) refused.
    for (uint64_t at : {uint64_t{0x70000000}, platform::kSharedBase + 0x10000}) {
      ASSERT_TRUE(g->memory_call({.op = MemoryOp::map_file, .address = at, .length = 0x1000, .prot = PROT_READ,
                                  .flags = MAP_SHARED | MAP_FIXED_NOREPLACE, .host_fd = rw.get()}).ok());
      ASSERT_EQ(through(g, ip, SYS_mprotect, {at, 0x1000, 3}), 0);
      EXPECT_EQ(g.call_and_run(App::touch, {at, 0x1000, 'X'}), 'X');
      char c;
      ASSERT_EQ(pread(rw.get(), &c, 1, 0), 1);
      EXPECT_EQ(c, 'X');
      ASSERT_EQ(pwrite(rw.get(), "o", 1, 0), 1);
    }
  });
}

// ---- 10: a thread that refuses to stop can still be killed at once ----

TEST_P(Attack, No10TheSentryKillsAProcessThatBlocksEverything) {
  on_fiber([&] {
    Guest g(*world);
    Guest s = g.thread();
    EventKind first{}, second{};
    g.call(App::block_signals, {stub_symbol("stub_sigreturn"), kData, kData + 0x1000});
    Task t([&] {
      g->set_fiber(sched::current());
      first = g->resume();
    });
    s.call(App::block_signals, {stub_symbol("stub_sigreturn"), kData + 8, kData + 0x3000}, kStack + 0x8000);
    Task u([&] {
      s->set_fiber(sched::current());
      second = s->resume();
    });
    ASSERT_TRUE(reaches(g, kData, 1000) && reaches(g, kData + 8, 1000));
    // The control: nothing less than the end of the process stops them.
    EXPECT_EQ(syscall(SYS_tgkill, g->space().host_pid(), g->space().host_pid(), STUB_KICK_SIGNAL), 0);
    uint64_t v = 0;
    sleep_ns(20'000'000);
    ASSERT_TRUE(g->space().read_remote(kData, &v, 8).ok());
    EXPECT_TRUE(reaches(g, kData, v));
    sched::Nanos start = sched::now();
    g->space().kill();
    t.join();
    u.join();
    EXPECT_LT(sched::now() - start, 1'000'000'000);
    EXPECT_EQ(first, EventKind::gone);
    EXPECT_EQ(second, EventKind::gone);
  });
}

// ---- 29: what the vector check is worth ----

TEST_P(Attack, No29AThreadWhoseVectorsAreTakenNotices) {
  on_fiber([&] {
    Guest g(*world);
    std::vector<unsigned char> pattern(2064);
    for (size_t i = 0; i < pattern.size(); i++) pattern[i] = static_cast<unsigned char>(i * 7 + 1);
    pattern[2048 + 7] = pattern[2056 + 7] = 0;
    ASSERT_TRUE(g->copy_out_now(kData, pattern.data(), pattern.size()).ok());
    if (!__builtin_cpu_supports("avx512bw")) GTEST_SKIP() << "no AVX-512 here";
    auto check = [&](bool spoil) {
      g.call(App::vector_check, {kNull, 0, kData, kData + 0x4000});
      return g.run([&](Context& c, const platform::Call&) {
        if (spoil) {
          arch::Registers r = c.registers();
          c.set_registers(r, true);
        }
        c.set_result(0);
      });
    };
    EXPECT_EQ(check(false), 1000000);
    EXPECT_LT(check(true), 1000000) << "the control: fresh vector state is seen";
  });
}

}  // namespace
}  // namespace platform_test
