// SPDX-License-Identifier: Apache-2.0
// Host threads that are used again: what the next thread has of the last one, and threads that do not rest.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/platform/impl.h"
#include "tests/platform/attack.h"

namespace platform_test {
namespace {

using platform::Answer;
using platform::Mode;

class Rest : public Attack {};
INSTANTIATE_TEST_SUITE_P(, Rest, testing::Values(Mode::direct, Mode::strict),
                         [](auto& i) { return i.param == Mode::direct ? "direct" : "strict"; });

constexpr uint64_t kPattern = kData + 0x8000, kOut = kData + 0xa000;

bool lives(Guest& g, int tid) { return syscall(SYS_tgkill, g->space().host_pid(), tid, 0) == 0; }

void end_and_rest(Guest& thread, uint64_t clear_tid = 0) {
  const auto& state = thread->impl().slot->header.state;
  thread->exit_thread(clear_tid);
  ASSERT_TRUE(eventually([&] { return platform::is_request(__atomic_load_n(&state, __ATOMIC_ACQUIRE)); }));
}

TEST_P(Rest, TheNextThreadIsTheMakersCopy) {
  on_fiber([&] {
    Guest g(*world);
    std::vector<char> pattern(4096);
    for (size_t i = 0; i < pattern.size(); i++) pattern[i] = static_cast<char>(i * 41 + 3);
    ASSERT_TRUE(g->copy_out_now(kPattern, pattern.data(), pattern.size()).ok());
    int tid = 0;
    uint64_t used = 0;
    for (int round = 0; round < 3; round++) {
      g.call(App::vector_check, {56, 0, kPattern, kOut, 0});
      ASSERT_EQ(g->resume(), EventKind::syscall);
      Guest t = g.thread();
      t->set_fiber(sched::current());
      if (round == 0) tid = t->host_tid();
      EXPECT_EQ(t->host_tid(), tid);
      EXPECT_FALSE(t->answers(Answer::tid));
      for (uint64_t a : t->impl().slot->header.answers) EXPECT_EQ(a, 0u);
      arch::Registers r = t->registers();
      r.rsp = kStack + 0x8000;
      r.fs_base = kData + 0x1000 * static_cast<uint64_t>(round);
      r.rax = 0;
      t->set_registers(r);
      EXPECT_EQ(t.run(), 1000000) << "registers of its maker";
      EXPECT_EQ(t->fs_base(), r.fs_base);
      g->set_result(5);
      EXPECT_EQ(g.run(), 1000005);
      // It leaves other values behind than those that the next one is to have, and has used more time than it.
      if (round == 0) t.call(App::null_calls, {kNull, 50000}, kStack + 0x8000), t.run();
      t->answer(Answer::tid, 77);
      uint64_t now = t->cpu_time();
      EXPECT_GT(now, 0u);
      if (round == 0) used = now;
      else EXPECT_LT(now, used);
      const uint32_t word = 99;
      ASSERT_TRUE(t->copy_out_now(kData + 64, &word, 4).ok());
      end_and_rest(t, kData + 64);
      EXPECT_EQ(g->load32(kData + 64).value_or(1), 0u);
      EXPECT_TRUE(lives(g, tid)) << "the control: it rests";
    }
    EXPECT_TRUE(eventually([&] { return !lives(g, tid); })) << "nobody rests for ever";
    EXPECT_EQ(g.call_and_run(App::null_calls, {kNull, 10}), 45);
    Guest fresh = g.thread();
    fresh->set_fiber(sched::current());
    fresh.call(App::null_calls, {kNull, 10}, kStack + 0x8000);
    EXPECT_EQ(fresh.run(), 45);
  });
}

TEST_P(Rest, OnlyAFewDo) {
  on_fiber([&] {
    Guest g(*world), other(*world);
    constexpr size_t kMost = platform::Platform::Impl::kMaxResting;
    std::vector<Guest> threads;
    std::set<int> tids;
    for (size_t i = 0; i < kMost + 8; i++) threads.push_back(g.thread());
    for (Guest& t : threads) {
      tids.insert(t->host_tid());
      t->exit_thread(0);
    }
    auto living = [&] { return std::count_if(tids.begin(), tids.end(), [&](int tid) { return lives(g, tid); }); };
    EXPECT_TRUE(eventually([&] { return living() <= static_cast<long>(kMost); }));
    EXPECT_TRUE(eventually([&] { return living() == 0; }));
    // And those of a process that ends go with it.
    Guest t = other.thread();
    t->set_fiber(sched::current());
    end_and_rest(t);
    other->space().kill();
    EXPECT_EQ(g.call_and_run(App::null_calls, {kNull, 10}), 45);
  });
}

// Told to rest, it does something else for ever: its slot never says that it waits.
TEST_P(Rest, WhoDoesNotLosesItsProcess) {
  on_fiber([&] {
    Guest g(*world), neighbour(*world);
    Guest t = g.thread();
    auto [s, task] = scrambler(g, slot_of(t.context()), 64);
    ASSERT_TRUE(eventually([&] { return t->impl().slot->header.number > 1000; })) << "the control: it is overwritten";
    t->exit_thread(0);
    EXPECT_TRUE(eventually([&] { return g->space().gone(); }));
    task->join();
    EXPECT_EQ(neighbour.call_and_run(App::null_calls, {kNull, 10}), 45);
    EXPECT_FALSE(neighbour->space().gone());
  });
}

}  // namespace
}  // namespace platform_test
