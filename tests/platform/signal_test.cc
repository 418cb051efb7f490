// SPDX-License-Identifier: Apache-2.0
// Signal frames: built on the application's stack while its vector registers are live, and taken apart again.
#include <gtest/gtest.h>
#include <signal.h>
#include <ucontext.h>

#include <cstring>

#include "tests/platform/harness.h"

namespace platform_test {
namespace {

class Signals : public testing::Test {
 protected:
  void SetUp() override { world = std::make_unique<World>(World::Options{}); }
  void TearDown() override { world.reset(); }
  std::unique_ptr<World> world;
};

std::vector<char> pattern() {
  std::vector<char> p(4096);
  for (size_t i = 0; i < p.size(); i++) p[i] = static_cast<char>(i * 37 + 11);
  return p;
}

platform::SignalFrame frame_for(Context& c, int signo, uint64_t count_at) {
  platform::SignalFrame f{};
  f.handler = address_of(App::handler);
  f.mask = 0x1234;
  f.altstack_sp = 0x777000;
  f.altstack_size = 0x8000;
  f.altstack_flags = 2;
  f.stack_pointer = c.stack_pointer() - 128;
  memcpy(f.siginfo, &signo, 4);
  memcpy(f.siginfo + 16, &count_at, 8);
  return f;
}

// The handler dirties zmm5 and zmm20; the interrupted loop checks them, its red zone and r10 all the time.
TEST_F(Signals, InterruptedCodeNoticesNothing) {
  on_fiber([&] {
    Guest g(*world);
    auto p = pattern();
    uint64_t stop = kData, rounds = kData + 8, handled = kData + 16, pat = kData + 0x8000;
    ASSERT_TRUE(g->copy_out_now(pat, p.data(), p.size()).ok());
    g.call(App::vector_spin, {stop, pat, rounds});
    int64_t bad = -1;
    uint64_t frames = 0, returns = 0;
    Task t([&] {
      g->set_fiber(sched::current());
      for (;;) {
        EventKind e = g->resume();
        if (e == EventKind::interrupt) {
          ASSERT_TRUE(g->push_signal_frame(frame_for(g.context(), SIGUSR2, handled)).ok());
          frames++;
        } else if (e == EventKind::syscall && g->call().number == 15) {
          auto r = g->pop_signal_frame();
          ASSERT_TRUE(r.ok()) << r.error().name();
          EXPECT_EQ(r->mask, 0x1234u);
          EXPECT_EQ(r->altstack_sp, 0x777000u);
          EXPECT_EQ(r->altstack_size, 0x8000u);
          returns++;
        } else {
          ASSERT_EQ(e, EventKind::syscall);
          bad = static_cast<int64_t>(g->call().args[0]);
          return;
        }
      }
    });
    for (int i = 0; i < 300; i++) {
      g->kick();
      sleep_ns(500'000);
    }
    EXPECT_TRUE(reaches(g, rounds, 100));
    uint64_t one = 1;
    EXPECT_TRUE(g->space().write_remote(stop, &one, 8).ok());
    t.join();
    g->set_fiber(sched::current());
    EXPECT_EQ(bad, 0);
    EXPECT_GT(frames, 50u);
    EXPECT_EQ(frames, returns);
    uint64_t n = 0;
    EXPECT_TRUE(g->copy_in(&n, handled, 8).ok());
    EXPECT_EQ(n, frames);
  });
}

TEST_F(Signals, TheFrameIsLinuxs) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::null_calls, {kNull, 1});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    arch::Registers before = g->registers();
    g->set_result(55);
    auto f = frame_for(g.context(), SIGSEGV, 0);
    f.restorer = 0xabcdef;
    f.with_fault = true;
    f.fault = {SIGSEGV, SEGV_MAPERR, 0x5000, before.rip, 14, 6};
    ASSERT_TRUE(g->push_signal_frame(f).ok());
    arch::Registers r = g->registers();
    EXPECT_EQ(r.rip, f.handler);
    EXPECT_EQ(r.rdi, static_cast<uint64_t>(SIGSEGV));
    EXPECT_EQ(r.rsp % 16, 8u);
    EXPECT_LE(f.stack_pointer - r.rsp, Context::signal_frame_size());
    uint64_t restorer = 0;
    ASSERT_TRUE(g->copy_in(&restorer, r.rsp, 8).ok());
    EXPECT_EQ(restorer, 0xabcdefu);
    EXPECT_EQ(r.rdx, r.rsp + 8);
    EXPECT_EQ(r.rsi, r.rsp + 8 + 304);
    ucontext_t u;
    ASSERT_TRUE(g->copy_in(&u, r.rdx, 304).ok());
    EXPECT_EQ(u.uc_flags, 7u);
    EXPECT_EQ(u.uc_stack.ss_sp, reinterpret_cast<void*>(0x777000));
    EXPECT_EQ(u.uc_mcontext.gregs[REG_RIP], static_cast<greg_t>(before.rip));
    EXPECT_EQ(u.uc_mcontext.gregs[REG_RSP], static_cast<greg_t>(before.rsp));
    EXPECT_EQ(u.uc_mcontext.gregs[REG_RAX], 55);
    EXPECT_EQ(u.uc_mcontext.gregs[REG_TRAPNO], 14);
    EXPECT_EQ(u.uc_mcontext.gregs[REG_ERR], 6);
    EXPECT_EQ(u.uc_mcontext.gregs[REG_CR2], 0x5000);
    EXPECT_EQ(u.uc_mcontext.gregs[REG_CSGSFS], 0x002b000000000033);
    uint64_t fp = reinterpret_cast<uint64_t>(u.uc_mcontext.fpregs);
    EXPECT_EQ(fp % 64, 0u);
    unsigned char x[576];
    ASSERT_TRUE(g->copy_in(x, fp, sizeof x).ok());
    uint32_t magic1, extended, size, magic2;
    memcpy(&magic1, x + 464, 4);
    memcpy(&extended, x + 468, 4);
    memcpy(&size, x + 480, 4);
    EXPECT_EQ(magic1, 0x46505853u);
    EXPECT_EQ(extended, size + 4);
    ASSERT_TRUE(g->copy_in(&magic2, fp + size, 4).ok());
    EXPECT_EQ(magic2, 0x46505845u);
    uint64_t features;
    memcpy(&features, x + 512, 8);
    EXPECT_EQ(features & 3, 3u);
    for (int i = 520; i < 576; i++) EXPECT_EQ(x[i], 0);

    // A handler may change the context: registers and SSE state come back as it left them.
    u.uc_mcontext.gregs[REG_RAX] = 777;
    u.uc_mcontext.gregs[REG_EFL] |= 0x3000 | 0x20000;  // IOPL and VM are not its to set
    ASSERT_TRUE(g->copy_out_now(r.rdx, &u, 304).ok());
    r.rsp += 8;
    g->set_registers(r);
    ASSERT_TRUE(g->pop_signal_frame().ok());
    EXPECT_EQ(g->registers().rax, 777u);
    EXPECT_EQ(g->registers().rip, before.rip);
    EXPECT_EQ(g->registers().eflags & 0x23000, 0u);
    ASSERT_EQ(g->resume(), EventKind::syscall);
    EXPECT_EQ(static_cast<int64_t>(g->call().args[0]), 777);
  });
}

TEST_F(Signals, BadStacksAreEfault) {
  on_fiber([&] {
    Guest g(*world);
    g.call(App::null_calls, {kNull, 1});
    ASSERT_EQ(g->resume(), EventKind::syscall);
    auto f = frame_for(g.context(), SIGUSR1, 0);
    for (uint64_t sp : std::initializer_list<uint64_t>{0x1000, 0x999000, kCode + 0x2000, kStack + 1000, 0x7fff10040000, ~0ull}) {
      f.stack_pointer = sp;
      EXPECT_EQ(g->push_signal_frame(f).error(), kEFAULT) << std::hex << sp;
    }
    arch::Registers r = g->registers();
    for (uint64_t sp : std::initializer_list<uint64_t>{0, 0x999000, kStack + kStackSize - 100, 0x7fff10020000}) {
      r.rsp = sp;
      g->set_registers(r);
      EXPECT_EQ(g->pop_signal_frame().error(), kEFAULT) << std::hex << sp;
    }
    // Rubbish in the XSAVE image neither traps in the stub nor survives.
    std::vector<uint64_t> rubbish(1024);
    uint64_t x = 88172645463325252ull;
    for (int round = 0; round < 50; round++) {
      for (auto& w : rubbish) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        w = x;
      }
      rubbish[28] = kData + 0x1000;  // fpstate
      uint32_t magic[] = {0x46505853, 0, 0xffffffff, 0xffffffff, 2696};
      ASSERT_TRUE(g->copy_out_now(kData, rubbish.data(), 4096).ok());
      ASSERT_TRUE(g->copy_out_now(kData + 0x1000, rubbish.data(), 4096).ok());
      if (round % 2) { ASSERT_TRUE(g->copy_out_now(kData + 0x1000 + 464, magic, sizeof magic).ok()); }
      r.rsp = kData;
      g->set_registers(r);
      EXPECT_TRUE(g->pop_signal_frame().ok());
      arch::Registers now = g->registers();
      EXPECT_EQ(now.cs, 0x33u);
      g.call(App::null_calls, {kNull, 3});
      EXPECT_EQ(g.run(), 3);
    }
  });
}

}  // namespace
}  // namespace platform_test
