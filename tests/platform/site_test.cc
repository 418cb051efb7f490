// SPDX-License-Identifier: Apache-2.0
// Attacks 3 and 4 from every `syscall` of the stub: its own call with random and boundary arguments, and other calls. Whatever
// follows the instruction, no page of the stub changes, and no neighbour notices.
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>

#include "sentry/platform/impl.h"
#include "tests/platform/attack.h"

namespace platform_test {
namespace {

using platform::Mode;
class Sites : public Attack {};
INSTANTIATE_TEST_SUITE_P(, Sites, testing::Values(Mode::direct, Mode::strict),
                         [](auto& i) { return i.param == Mode::direct ? "direct" : "strict"; });

struct Site {
  const char* name;
  bool returns;  // to the stack, after at most one word
  std::vector<uint64_t> numbers;
};
const Site kSites[] = {
    {"stub_ip_start", true, {SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise, SYS_seccomp, SYS_sendmsg}},
    {"stub_ip_memory", true, {SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap}},
    {"stub_ip_wait", true, {SYS_futex, SYS_membarrier, SYS_restart_syscall}},
    {"stub_ip_futex", true, {SYS_futex, SYS_restart_syscall}},
    {"stub_ip_ask", true, {400}},
    {"stub_ip_time", true, {SYS_clock_gettime, SYS_sched_yield}},
    {"stub_ip_clone", true, {SYS_clone, SYS_clone3, SYS_fork, SYS_vfork}},
    {"stub_ip_close_parent", true, {SYS_close}},
    {"stub_ip_knock", false, {400}},
    {"stub_ip_map_page", false, {SYS_mmap}},
    {"stub_ip_map_zone", false, {SYS_mmap}},
    {"stub_ip_dontfork", false, {SYS_madvise}},
    {"stub_ip_mseal", false, {462}},
    {"stub_ip_close", false, {SYS_close}},
    {"stub_ip_sigaltstack", false, {SYS_sigaltstack}},
    {"stub_ip_sigreturn", false, {SYS_rt_sigreturn}},
    {"stub_ip_exit", false, {SYS_exit}},
};

struct Random {
  uint64_t x = 0x9e3779b97f4a7c15;
  uint64_t next() {
    x ^= x << 13; x ^= x >> 7; x ^= x << 17;
    return x;
  }
  uint64_t word() {
    static const uint64_t edges[] = {0, 1, 3, 4, 0x1000, 0x10000, kData, kStack, kCode, 0x7f0000000000, 0x7ffe00000000, 0x7fff00000000,
                                     0x7fff00001000, 0x7fff00100000, 0x7fff00200000, 0x7fff10000000, 0x7fff10001000, 0x7fff10020000,
                                     0x7fff90000000, 0x7ffff000, 0x7ffffffff000, 0x800000000000, 0x80000000, 0x100000000, 0x100001, ~0ull};
    uint64_t e = edges[next() % std::size(edges)];
    switch (next() % 6) {
      case 0:
      case 1: return e;
      case 2: return e - (next() % 2 ? 1 : 0x1000);
      case 3: return e + (next() % 2 ? 1 : 0x1000);
      case 4: return e | (next() % 2 ? 0x100000000 : 0xffffffff00000000);
      default: return next();
    }
  }
};

// Lets the guest run until its next event, or ends it.
bool comes_back(Guest& g, sched::Nanos limit) {
  EventKind e = EventKind::gone;
  Task t([&] {
    g->set_fiber(sched::current());
    e = g->resume();
  });
  sched::Nanos until = sched::now() + limit;
  while (!t.done() && sched::now() < until) sleep_ns(50'000);
  bool in_time = t.done();
  if (!in_time) g->space().kill();
  t.join();
  g->set_fiber(sched::current());
  return in_time && e == EventKind::syscall && g->call().number == kDone;
}

TEST_P(Sites, No3And4EverySiteWithAnyArguments) {
  on_fiber([&] {
    auto sites = stub_symbols("stub_ip_");
    for (uint64_t a : sites) {
      bool named = false;
      for (const Site& s : kSites) named |= stub_symbol(s.name) == a;
      EXPECT_TRUE(named) << std::hex << a << " is not in this test";
    }
    Random rnd;
    Guest neighbour(*world);
    auto g = std::make_unique<Guest>(*world);
    const std::string before = maps_of((*g)->space().host_pid(), platform::kAppLimit);
    unsigned ended = 0, worked = 0, refused = 0;
    for (const Site& s : kSites) {
      uint64_t ip = stub_symbol(s.name);
      for (unsigned i = 0; i < (s.returns ? 200u : 40u); i++) {
        uint64_t nr = rnd.next() % 8 == 0 ? rnd.next() % 470 : s.numbers[rnd.next() % s.numbers.size()];
        uint64_t block[8] = {ip, nr};
        for (int k = 2; k < 8; k++) block[k] = rnd.word();
        if (nr == SYS_futex) block[3] = FUTEX_WAKE | (rnd.next() % 2 ? 128 : 0) | (rnd.next() % 4 ? 0 : 1ull << 32);  // a wait may last
        if (nr == SYS_munmap && rnd.next() % 2) block[2] = 0x60000000;  // not always its own code
        if ((nr == SYS_mmap || nr == SYS_mremap) && rnd.next() % 2) block[2] = 0x60000000, block[3] = 0x1000;
        if (!(*g)->copy_out_now(kData, block, sizeof block).ok()) {
          g = std::make_unique<Guest>(*world);
          ASSERT_TRUE((*g)->copy_out_now(kData, block, sizeof block).ok());
        }
        bool pops = std::string_view(s.name) == "stub_ip_clone" || std::string_view(s.name) == "stub_ip_close_parent";
        g->call(pops ? App::gadget2 : App::gadget, {kData});
        bool back = comes_back(*g, 40'000'000);
        if (back) (static_cast<int64_t>((*g)->call().args[0]) < 0 ? refused : worked)++;
        if (!(*g)->space().gone()) {
          std::string now = maps_of((*g)->space().host_pid(), platform::kAppLimit);
          ASSERT_TRUE(now == before || now.empty() || (*g)->space().gone())
              << s.name << ' ' << nr << std::hex << ' ' << block[2] << ' ' << block[3] << ' ' << block[4] << '\n' << now;
        }
        if (!back) {
          ended++;
          g = std::make_unique<Guest>(*world);
        }
      }
      ASSERT_EQ(neighbour.call_and_run(App::null_calls, {kNull, 10}), 45) << s.name;
    }
    EXPECT_GT(worked, 20u) << "the control: some of these calls work";
    EXPECT_GT(refused, 300u);
    EXPECT_GT(ended, 20u) << "the control: some run into the stub, or hit the application itself";
    Guest fresh(*world);
    EXPECT_EQ(maps_of(fresh->space().host_pid(), platform::kAppLimit), before);
  });
}

}  // namespace
}  // namespace platform_test
