// SPDX-License-Identifier: Apache-2.0
// One process at a time: calls, copies, memory calls, faults.
#include <gtest/gtest.h>

#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <sstream>

#include "tests/platform/harness.h"

namespace platform_test {
namespace {

class Basic : public testing::TestWithParam<platform::Mode> {
 protected:
  void SetUp() override {
    World::Options o;
    o.mode = GetParam();
    o.descriptors.resize(512);
    o.descriptors[1].in[0] = {platform::CopyIn::sized, 1, 1, 2};
    o.descriptors[2].in[0] = {platform::CopyIn::string, 0, 0, 0};
    o.descriptors[3].in[0] = {platform::CopyIn::string, 0, 0, 0};
    o.descriptors[3].in[1] = {platform::CopyIn::fixed, 1, 16, 0};
    o.descriptors[7].may_block = true;
    world = std::make_unique<World>(o);
  }
  void TearDown() override { world.reset(); }
  std::unique_ptr<World> world;
};
INSTANTIATE_TEST_SUITE_P(, Basic, testing::Values(platform::Mode::direct, platform::Mode::strict),
                         [](auto& i) { return i.param == platform::Mode::direct ? "direct" : "strict"; });

TEST_P(Basic, NullCallsReturnTheirResult) {
  on_fiber([&] {
    Guest g(*world);
    EXPECT_EQ(g.call_and_run(App::null_calls, {kNull, 1000}), 499500);
    // A call that may block does not spin.
    EXPECT_EQ(g.call_and_run(App::null_calls, {7, 200}), 19900);
  });
}

TEST_P(Basic, ACallPreservesWhatLinuxPreserves) {
  on_fiber([&] {
    Guest g(*world);
    const uint64_t args[7] = {kNull, 1, 2, 3, 4, 5, 6};
    ASSERT_TRUE(g->copy_out_now(kData, args, sizeof args).ok());
    g.call(App::call_once, {kData});
    EXPECT_EQ(g.run([](Context& c, const platform::Call& call) {
      for (unsigned i = 0; i < 6; i++) EXPECT_EQ(call.args[i], i + 1);
      c.set_result(-38);
    }), -38);
  });
}


// ---- Copies ----

TEST_P(Basic, CopiesAreExactAndStopAtTheFirstBadPage) {
  on_fiber([&] {
    Guest g(*world);
    std::string big(300'000, 'x');
    for (size_t i = 0; i < big.size(); i++) big[i] = static_cast<char>(i * 7 + i / 251);
    ASSERT_TRUE(g->copy_out_now(kData + 13, big.data(), big.size()).ok());
    std::string back(big.size(), 0);
    ASSERT_TRUE(g->copy_in(back.data(), kData + 13, back.size()).ok());
    EXPECT_EQ(big, back);

    uint64_t end = kData + kDataSize;  // nothing is mapped behind it
    std::vector<char> room(200'000);
    char* buf = room.data();
    for (size_t inside : {size_t{1}, size_t{100}, size_t{4096}, size_t{70'000}, size_t{131'072}}) {
      EXPECT_EQ(g->copy_in(buf, end - inside, inside).ok(), true);
      EXPECT_EQ(g->copy_in(buf, end - inside, inside + 1).error(), kEFAULT);
      EXPECT_EQ(g->copy_in_some(buf, end - inside, inside + 5000).value_or(0), inside);
      EXPECT_EQ(g->copy_out_some(end - inside, big.data(), inside + 1).value_or(0), inside);
      EXPECT_EQ(g->copy_out_now(end - inside, big.data(), inside + 1).error(), kEFAULT);
      EXPECT_TRUE(g->zero_out(end - inside, inside).ok());
      EXPECT_EQ(g->zero_out(end - inside, inside + 1).error(), kEFAULT);
    }
    EXPECT_EQ(g->copy_in_some(buf, end, 1).error(), kEFAULT);
    EXPECT_EQ(g->copy_out_some(end, buf, 1).error(), kEFAULT);
    EXPECT_EQ(g->copy_in(buf, 0, 1).error(), kEFAULT);
    EXPECT_TRUE(g->copy_in(buf, 0, 0).ok());
    // The stub's own memory is no application memory.
    for (uint64_t bad : {0x7fff00000000ull, 0x7fff10000000ull, 0x7fff10021000ull, 0x7ffe00000000ull - 1, ~0ull - 5,
                         0xffffffffff600000ull}) {
      EXPECT_EQ(g->copy_in(buf, bad, 8).error(), kEFAULT);
      EXPECT_EQ(g->copy_out(bad, buf, 8).error(), kEFAULT);
      EXPECT_EQ(g->load32(bad).ok(), false);
    }
    // Read-only memory takes nothing.
    EXPECT_EQ(g->copy_out_now(kCode, buf, 1).error(), kEFAULT);
  });
}

TEST_P(Basic, StringsEndAtTheirNul) {
  on_fiber([&] {
    Guest g(*world);
    uint64_t end = kData + kDataSize;
    ASSERT_TRUE(g->copy_out_now(end - 6, "hello", 6).ok());
    EXPECT_EQ(g->copy_in_string(end - 6, 4096).value_or("?"), "hello");
    EXPECT_EQ(g->copy_in_string(end - 6, 6).value_or("?"), "hello");
    EXPECT_EQ(g->copy_in_string(end - 6, 5).error(), kENAMETOOLONG);
    ASSERT_TRUE(g->copy_out_now(end - 1, "x", 1).ok());
    EXPECT_EQ(g->copy_in_string(end - 6, 4096).error(), kEFAULT);
    EXPECT_EQ(g->copy_in_string(end, 4096).error(), kEFAULT);
    std::string lng(100'000, 'a');
    ASSERT_TRUE(g->copy_out_now(kData, lng.c_str(), lng.size() + 1).ok());
    EXPECT_EQ(g->copy_in_string(kData, 200'000).value_or("?"), lng);
    EXPECT_EQ(g->copy_in_string(kData, 100'000).error(), kENAMETOOLONG);
  });
}

TEST_P(Basic, ArgumentsOfDescribedCallsArriveWithTheCall) {
  on_fiber([&] {
    Guest g(*world);
    uint64_t end = kData + kDataSize;
    ASSERT_TRUE(g->copy_out_now(kData, "some/path", 10).ok());
    ASSERT_TRUE(g->copy_out_now(end - 9, "0123456789", 9).ok());
    auto stats = [&] { return world->platform().stats().copies; };
    // A string and a fixed range.
    const uint64_t a3[7] = {3, kData, kData + 2, 0, 0, 0, 0};
    ASSERT_TRUE(g->copy_out_now(kData + 4096, a3, sizeof a3).ok());
    g.call(App::raw_call, {kData + 4096});
    EXPECT_EQ(g.run([&](Context& c, const platform::Call& call) {
      uint64_t before = stats();
      EXPECT_EQ(c.copy_in_string(call.args[0], 4096).value_or("?"), "some/path");
      char fixed[16];
      EXPECT_TRUE(c.copy_in(fixed, call.args[1], 16).ok());
      EXPECT_EQ(std::string(fixed, 7), "me/path");
      EXPECT_EQ(stats(), before) << "needed another exchange";
      c.set_result(5);
    }), 5);
    // A sized range that leaves mapped memory: the good part is usable, the rest faults.
    const uint64_t a1[7] = {1, 1, end - 9, 20, 0, 0, 0};
    ASSERT_TRUE(g->copy_out_now(kData + 4096, a1, sizeof a1).ok());
    g.call(App::raw_call, {kData + 4096});
    EXPECT_EQ(g.run([&](Context& c, const platform::Call& call) {
      char buf[20];
      EXPECT_EQ(c.copy_in(buf, call.args[1], 20).error(), kEFAULT);
      EXPECT_EQ(c.copy_in_some(buf, call.args[1], 20).value_or(0), 9u);
      EXPECT_EQ(std::string(buf, 9), "012345678");
      EXPECT_EQ(c.copy_in_string(call.args[1], 30).error(), kEFAULT);
      c.set_result(6);
    }), 6);
    // Nonsense of every kind answers, and kills nothing.
    for (uint64_t bad : {0ull, 1ull, 0x7ffe00000000ull - 3, 0x7fff00000000ull, 0x7fff10000000ull, ~0ull, ~0ull - 4096}) {
      const uint64_t a[7] = {3, bad, bad, 0, 0, 0, 0};
      ASSERT_TRUE(g->copy_out_now(kData + 4096, a, sizeof a).ok());
      g.call(App::raw_call, {kData + 4096});
      EXPECT_EQ(g.run([&](Context& c, const platform::Call& call) {
        EXPECT_EQ(c.copy_in_string(call.args[0], 4096).error(), kEFAULT);
        c.set_result(-14);
      }), -14);
    }
  });
}

TEST_P(Basic, QueuedCopiesHappenBeforeTheApplicationGoesOn) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::store_loop, {kData, 3, 5});
    int calls = 0;
    EXPECT_EQ(g.run([&](Context& c, const platform::Call& call) {
      // 60 short copies: more than one list. Then a window of 64 KiB.
      for (uint64_t i = 0; i < 60; i++) {
        uint32_t v = static_cast<uint32_t>(i * 3);
        EXPECT_TRUE(c.copy_out(kData + 4096 + i * 4, &v, 4).ok());
      }
      auto w = c.out_window(Context::kWindow);
      EXPECT_EQ(w.size(), Context::kWindow);
      memset(w.data(), 0x5a, w.size());
      EXPECT_TRUE(c.commit_out(kData + 0x10000, w, w.size() - 3).ok());
      c.set_result(static_cast<int64_t>(call.args[0]));
      calls++;
    }), 3);
    EXPECT_EQ(calls, 3);
    for (uint64_t i = 0; i < 60; i++) EXPECT_EQ(g->load32(kData + 4096 + i * 4).value_or(0), i * 3);
    std::string w(Context::kWindow, 0);
    ASSERT_TRUE(g->copy_in(w.data(), kData + 0x10000, w.size()).ok());
    EXPECT_EQ(w, std::string(Context::kWindow - 3, 0x5a) + std::string(3, 0));
  });
}

TEST_P(Basic, AQueuedCopyThatFailsComesBackBeforeTheApplicationRuns) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::null_calls, {kNull, 1});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    ASSERT_TRUE(g->copy_out(kData, "good", 4).ok());
    ASSERT_TRUE(g->copy_out(kData + kDataSize - 2, "half", 4).ok());
    g->set_result(123);
    ASSERT_EQ(g->resume(), EventKind::syscall);
    EXPECT_TRUE(g->copy_failed());
    EXPECT_EQ(g->call().number, kNull);
    g->set_result(-14);
    ASSERT_EQ(g->resume(), EventKind::syscall);
    EXPECT_FALSE(g->copy_failed());
    EXPECT_EQ(g->call().number, kDone);
    EXPECT_EQ(static_cast<int64_t>(g->call().args[0]), -14);
  });
}

TEST_P(Basic, WordsAreExchangedAtomically) {
  on_fiber([&] {
    Guest g(*world);
    EXPECT_EQ(g->cmpxchg32(kData, 0, 0xffffffff).value_or(9), 0u);
    EXPECT_EQ(g->load32(kData).value_or(0), 0xffffffffu);
    EXPECT_EQ(g->cmpxchg32(kData, 5, 6).value_or(0), 0xffffffffu);
    EXPECT_EQ(g->cmpxchg32(kCode, 5, 6).error(), kEFAULT);
    EXPECT_EQ(g->cmpxchg32(0, 5, 6).error(), kEFAULT);
  });
}

// ---- Memory calls ----

TEST_P(Basic, MemoryCallsDoWhatTheySay) {
  on_fiber([&] {
    Guest g(*world);
    uint64_t at = 0x40000000;
    g.map(at, 0x10000);
    EXPECT_EQ(g.call_and_run(App::touch, {at, 0x10000, 7}), 7);
    // NOREPLACE notices what is there.
    auto again = g->memory_call({.op = MemoryOp::map_anonymous, .address = at + 0x8000, .length = 0x10000, .prot = 3,
                                 .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE});
    EXPECT_EQ(again.error(), kEEXIST);
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::protect, .address = at, .length = 0x4000, .prot = PROT_READ}).ok());
    EXPECT_EQ(g->copy_out_now(at, "x", 1).error(), kEFAULT);
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::advise, .address = at + 0x8000, .length = 0x8000, .flags = MADV_DONTNEED}).ok());
    EXPECT_EQ(g->load32(at + 0x8000).value_or(1), 0u);
    auto moved = g->memory_call({.op = MemoryOp::remap, .address = at + 0x4000, .length = 0x4000, .new_address = 0x50000000,
                                 .new_length = 0x8000});
    ASSERT_TRUE(moved.ok());
    EXPECT_EQ(*moved, 0x50000000u);
    EXPECT_EQ(g->load32(0x50000000).value_or(0) & 0xff, 7u);
    EXPECT_EQ(g->load32(at + 0x4000).error(), kEFAULT);
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::remap, .address = 0x50000000, .length = 0x8000, .new_address = 0x50000000,
                                .new_length = 0x4000}).ok());
    EXPECT_EQ(g->load32(0x50004000).error(), kEFAULT);
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::unmap, .address = at, .length = 0x10000}).ok());
    EXPECT_EQ(g->load32(at).error(), kEFAULT);
    // More than 4 GiB at once.
    g.map(0x100000000000, 0x300000000);
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::protect, .address = 0x100000000000, .length = 0x300000000, .prot = 1}).ok());
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::unmap, .address = 0x100000000000, .length = 0x300000000}).ok());
    // What is not the application's is refused before the stub hears of it.
    for (uint64_t bad : {0x7ffe00000000ull, 0x7fff00000000ull, 0x7fff10000000ull, 0x7ffdfffff000ull, ~0xfffull})
      EXPECT_FALSE(g->memory_call({.op = MemoryOp::unmap, .address = bad, .length = 0x2000}).ok());
  });
}

TEST_P(Basic, QueuedMemoryCallsAreStamped) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::null_calls, {kNull, 2});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    uint64_t s1 = 0, s2 = 0;
    MemoryCall map{.op = MemoryOp::map_anonymous, .address = 0x40000000, .length = 0x4000, .prot = 3,
                   .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE};
    ASSERT_TRUE(g->queue_memory_call(map, &s1).ok());
    ASSERT_TRUE(g->queue_memory_call({.op = MemoryOp::unmap, .address = 0x40002000, .length = 0x1000}, &s2).ok());
    EXPECT_LT(s1, s2);
    EXPECT_LT(g->completed_stamp(), s1);
    g->set_result(0);
    ASSERT_EQ(g->resume(), EventKind::syscall);
    EXPECT_EQ(g->memory_call_error(), 0);
    EXPECT_EQ(g->completed_stamp(), s2);
    EXPECT_TRUE(g->load32(0x40000000).ok());
    EXPECT_FALSE(g->load32(0x40002000).ok());
    // One that fails comes back as the call's error, the application has not run.
    ASSERT_TRUE(g->queue_memory_call(map, &s1).ok());
    g->set_result(1);
    ASSERT_EQ(g->resume(), EventKind::syscall);
    EXPECT_EQ(g->memory_call_error(), EEXIST);
    EXPECT_EQ(g->call().number, kNull);
    g->set_result(-EEXIST);
    ASSERT_EQ(g->resume(), EventKind::syscall);
    EXPECT_EQ(g->call().number, kDone);
  });
}

TEST_P(Basic, FilesAreMappedInTheModeTheyWereGiven) {
  on_fiber([&] {
    Guest g(*world);
    std::vector<base::Fd> files;
    // More files than the stub keeps, twice over, so that descriptors are replaced and found again.
    for (int i = 0; i < 40; i++) files.push_back(file_of("file " + std::to_string(i) + std::string(5000, '.')));
    for (unsigned round = 0; round < 2; round++)
      for (unsigned i = 0; i < 40; i++) {
        uint64_t at = 0x60000000 + (round * 40 + i) * 0x10000;
        auto r = g->memory_call({.op = MemoryOp::map_file, .address = at, .length = 0x2000, .prot = PROT_READ,
                                 .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE, .host_fd = files[i].get(),
                                 .file_key = 100 + i});
        ASSERT_TRUE(r.ok()) << r.error().name();
        EXPECT_EQ(g->copy_in_string(at, 10).error(), kENAMETOOLONG);
        char buf[8] = {};
        ASSERT_TRUE(g->copy_in(buf, at, 7).ok());
        EXPECT_EQ(std::string(buf), ("file " + std::to_string(i) + "..").substr(0, 7));
      }
    // Shared and writable: what the application writes is in the file.
    auto file = file_of(std::string(4096, 'a'), true);
    uint64_t shared = platform::kSharedBase + 0x10000;
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::map_file, .address = shared, .length = 0x1000, .prot = PROT_READ | PROT_WRITE,
                                .flags = MAP_SHARED | MAP_FIXED_NOREPLACE, .host_fd = file.get()}).ok());
    ASSERT_TRUE(g->copy_out_now(shared, "changed", 7).ok());
    char content[7];
    ASSERT_EQ(pread(file.get(), content, 7, 0), 7);
    EXPECT_EQ(memcmp(content, "changed", 7), 0);
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::protect, .address = shared, .length = 0x1000, .prot = PROT_READ}).ok());
    EXPECT_EQ(g->copy_out_now(shared, "x", 1).error(), kEFAULT);
    // A descriptor open for reading cannot be mapped shared and writable.
    auto ro = file_of("read only");
    EXPECT_EQ(g->memory_call({.op = MemoryOp::map_file, .address = shared + 0x10000, .length = 0x1000,
                              .prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED | MAP_FIXED_NOREPLACE,
                              .host_fd = ro.get()}).error(), kEACCES);
  });
}

TEST_P(Basic, FilesAreReadByTheThreadItself) {
  on_fiber([&] {
    Guest g(*world);
    auto file = file_of(std::string(20000, 'a') + "here" + std::string(20000, 'z'));
    const uint64_t at = 0x60000000;
    ASSERT_TRUE(g->memory_call({.op = MemoryOp::map_anonymous, .address = at, .length = 0x8000, .prot = PROT_READ | PROT_WRITE,
                                .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE}).ok());
    auto read = [&](uint64_t addr, size_t n, uint64_t offset) { return g->read_host(file.get(), 7, addr, n, offset); };
    if (GetParam() == platform::Mode::strict) {
      EXPECT_EQ(read(at, 4, 20000).error(), kEOPNOTSUPP);
      return;
    }
    auto r = read(at, 0x8000, 20000);
    ASSERT_TRUE(r.ok()) << r.error().name();
    EXPECT_EQ(*r, 20004u);
    char got[8] = {};
    ASSERT_TRUE(g->copy_in(got, at, 5).ok());
    EXPECT_STREQ(got, "herez");
    EXPECT_EQ(read(at, 100, 50000).value_or(1), 0u) << "past its end";
    EXPECT_EQ(read(at + 0x7000, 0x2000, 0).value_or(0), 0x1000u) << "as far as there is memory";
    EXPECT_EQ(read(at + 0x8000, 100, 0).error(), kEFAULT);
    EXPECT_EQ(read(0x7fff10001000, 100, 0).error(), kEFAULT);
    EXPECT_EQ(read(~0ull - 10, 100, 0).error(), kEFAULT);
    // Descriptors are kept and replaced as those of mappings are.
    std::vector<base::Fd> files;
    for (int i = 0; i < 40; i++) files.push_back(file_of("file " + std::to_string(i) + "."));
    for (unsigned round = 0; round < 2; round++)
      for (unsigned i = 0; i < 40; i++) {
        auto n = g->read_host(files[i].get(), 100 + i, at, 100, 0);
        ASSERT_TRUE(n.ok()) << n.error().name();
        char name[16] = {};
        ASSERT_TRUE(g->copy_in(name, at, *n).ok());
        EXPECT_EQ(std::string(name), "file " + std::to_string(i) + ".");
      }
  });
}

// ---- Faults ----

TEST_P(Basic, FaultsOfApplicationCodeAreEvents) {
  on_fiber([&] {
    Guest g(*world);
    struct { uint64_t kind, arg; int signo, code; uint64_t address; } cases[] = {
        {0, 0, SIGTRAP, 128, 0}, {1, 0, SIGFPE, FPE_INTDIV, 0}, {2, 0, SIGILL, ILL_ILLOPN, 0},
        {3, 0x999000, SIGSEGV, SEGV_MAPERR, 0x999000}, {4, kCode, SIGSEGV, SEGV_ACCERR, kCode}};
    for (auto& t : cases) {
      g.call(App::trap, {t.kind, t.arg});
      ASSERT_EQ(g->resume(), EventKind::fault) << t.kind;
      EXPECT_EQ(g->fault().signo, t.signo) << t.kind;
      EXPECT_EQ(g->fault().code, t.code) << t.kind;
      if (t.address) { EXPECT_EQ(g->fault().address, t.address); }
      EXPECT_EQ(g->fault().ip, g->registers().rip);
      EXPECT_EQ(g->registers().rdi, t.kind);
      EXPECT_EQ(g->registers().orig_rax, ~0ull);
      if (t.signo == SIGTRAP) {  // goes on behind the int3
        ASSERT_EQ(g->resume(), EventKind::syscall);
        EXPECT_EQ(g->call().args[0], 77u);
      }
    }
    // A jump into nowhere, to a non-canonical address, and into the stub (not where it would wait for an answer for ever).
    for (uint64_t where : {uint64_t{0x10}, uint64_t{0x8000000000000000}, uint64_t{0x7fff00000000}, stub_symbol("stub_ip_start"), stub_symbol("stub_copy")}) {
      g.call(App::jump, {where, 0, 0, 0});
      EventKind e = g->resume();
      EXPECT_TRUE(e == EventKind::fault || e == EventKind::syscall || e == EventKind::gone) << std::hex << where;
      if (e == EventKind::gone) break;
      if (e == EventKind::fault && where < 0x7fff00000000ull) { EXPECT_EQ(g->fault().signo, SIGSEGV); }
    }
    // The sentry sends the thread to a bad address itself.
    Guest h(*world);
    arch::Registers r = h->registers();
    r.rip = 0x9000000000000000;
    r.rsp = kStack + 4096;
    r.rbx = 42;
    h->set_registers(r);
    ASSERT_EQ(h->resume(), EventKind::fault);
    EXPECT_EQ(h->fault().signo, SIGSEGV);
    EXPECT_EQ(h->registers().rip, 0x9000000000000000u);
    EXPECT_EQ(h->registers().rbx, 42u);
  });
}

TEST_P(Basic, SingleStepStopsAfterEachInstruction) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::null_calls, {kNull, 1});
    arch::Registers r = g->registers();
    r.eflags |= 0x100;
    g->set_registers(r);
    int steps = 0, calls = 0;
    for (; steps < 200; steps++) {
      EventKind e = g->resume();
      if (e == EventKind::syscall) {
        calls++;
        EXPECT_TRUE(g->registers().eflags & 0x100);
        if (g->call().number == kDone) break;
        g->set_result(0);
        continue;
      }
      ASSERT_EQ(e, EventKind::fault);
      ASSERT_EQ(g->fault().signo, SIGTRAP);
      uint64_t ip = g->registers().rip;
      ASSERT_TRUE(ip >= kCode && ip < kCode + 0x4000) << std::hex << ip;
    }
    EXPECT_EQ(calls, 2);
    EXPECT_GT(steps, 8);
  });
}

TEST_P(Basic, NothingButTheStubIsMappedInAFreshProcess) {
  on_fiber([&] {
    auto c = world->zygote().new_process();
    ASSERT_TRUE(c.ok());
    std::string maps = maps_of((*c)->space().host_pid());
    std::istringstream in(maps);
    std::string line;
    int n = 0;
    while (std::getline(in, line)) {
      n++;
      uint64_t from = std::stoull(line, nullptr, 16);
      EXPECT_GE(from, 0x7fff00000000ull) << maps;
      bool writable = line.find("rw") != std::string::npos;
      EXPECT_EQ(writable, from == 0x7fff10001000ull) << maps;
      EXPECT_EQ(line.find("wx"), std::string::npos);
    }
    EXPECT_LE(n, 8) << maps;
    EXPECT_GT(world->zygote().vdso_address(), 0x7fff00200000ull);
  });
}

TEST_P(Basic, RemoteCopiesAndDeath) {
  on_fiber([&] {
    Guest g(*world);
    ASSERT_TRUE(g->copy_out_now(kData, "remote", 7).ok());
    char buf[7] = {};
    EXPECT_EQ(g->space().read_remote(kData, buf, 7).value_or(0), 7u);
    EXPECT_STREQ(buf, "remote");
    EXPECT_EQ(g->space().write_remote(kData, "REMOTE", 6).value_or(0), 6u);
    EXPECT_EQ(g->copy_in_string(kData, 10).value_or(""), "REMOTE");
    EXPECT_FALSE(g->space().read_remote(0x7fff10000000, buf, 7).ok());
    EXPECT_FALSE(g->space().gone());
    // Killed from outside (by the host's OOM killer, say): every operation ends.
    kill(g->space().host_pid(), SIGKILL);
    g.call(App::spin, {kData});
    EXPECT_EQ(g->resume(), EventKind::gone);
    EXPECT_TRUE(g->space().gone());
    EXPECT_FALSE(g->copy_in(buf, kData, 7).ok());
    EXPECT_FALSE(g->memory_call({.op = MemoryOp::unmap, .address = kData, .length = 4096}).ok());
    EXPECT_FALSE(g->space().read_remote(kData, buf, 7).ok());
    EXPECT_FALSE(g->fork().ok());
  });
}

}  // namespace
}  // namespace platform_test
