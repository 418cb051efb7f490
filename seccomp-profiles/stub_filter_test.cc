// SPDX-License-Identifier: Apache-2.0
// The stub's filter, instruction by instruction against a table of allowed, notified and refused calls.
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <csignal>
#include <map>
#include <set>
#include <string>

#include "seccomp-profiles/filter_test_util.h"
#include "seccomp-profiles/stub_direct.h"
#include "seccomp-profiles/stub_strict.h"

namespace seccomp_profiles {
namespace {

constexpr const Program& kDirect = stub_direct::kProgram;
constexpr const Program& kStrict = stub_strict::kProgram;
const Program* const kBoth[] = {&kDirect, &kStrict};
constexpr U64 kBound = 0x7ffe00000000, kShared = 0x7f0000000000, kControl = 0x7fff10000000, kControlEnd = 0x7fff90000000;
constexpr U64 kAnon = MAP_PRIVATE | MAP_ANONYMOUS, kNoReplace = 0x100000, kNoFd = 0xffffffff;
constexpr unsigned kMseal = 462, kKnockNumber = 400;

bool below(U64 addr, U64 len, U64 bound) {
  U64 end = 0;
  return !__builtin_add_overflow(addr, len, &end) && end <= bound;
}

static_assert(stub_direct::kBound == kBound && stub_strict::kBound == kBound);
static_assert(stub_direct::kKnock == kKnockNumber);
static_assert(stub_direct::kControlBase + stub_direct::kControlLength == kControlEnd);

// The published list: nothing else is ever allowed or notified, whatever the arguments.
const std::set<unsigned> kStrictReachable = {
    SYS_futex, SYS_rt_sigreturn, SYS_exit, SYS_restart_syscall, SYS_membarrier, SYS_clock_gettime, SYS_sched_yield,
    SYS_sigaltstack, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_close, SYS_clone, SYS_mremap, kMseal, kKnockNumber};
std::set<unsigned> reachable(const Program* p) {
  std::set<unsigned> all = kStrictReachable;
  if (p == &kDirect) all.insert(SYS_pread64);
  return all;
}

TEST(StubFilter, ReachesNothingButThePublishedCalls) {
  const Args tuples[] = {{}, {1, 1, 1, 1, 1, 1}, {~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull},
                         {kControl, 129, 0, 0x22, kNoFd, 0}, {0x10000, 0x1000, 7, 0x32, kNoFd, 0}, {0x8011, 0, 0, 0, 0, 0}};
  for (const Program* p : kBoth) {
    const std::set<unsigned> kReachable = reachable(p);
    std::set<unsigned> reached;
    for (unsigned nr = 0; nr < 1024; ++nr) {
      for (const Args& args : tuples) {
        const std::uint32_t a = answer(*p, call_of(nr, args));
        if (a != kTrap) reached.insert(nr);
        // x32, and numbers above 2^31, are other calls.
        EXPECT_EQ(answer(*p, call_of(nr | 0x40000000u, args)), kTrap) << nr;
        EXPECT_EQ(answer(*p, call_of(nr | 0x80000000u, args)), kTrap) << nr;
      }
    }
    for (unsigned nr : reached) EXPECT_TRUE(kReachable.count(nr)) << nr;
    std::set<unsigned> named;
    for (unsigned i = 0; i < p->rule_count; ++i) named.insert(p->rules[i].number);
    EXPECT_EQ(named, kReachable);
    EXPECT_EQ(answer(*p, call_of(~0u)), kTrap);
  }
}

TEST(StubFilter, AnotherArchitectureEndsTheProcess) {
  for (const Program* p : kBoth) {
    for (std::uint32_t arch : {0x40000003u /* i386 */, 0xc00000b7u /* aarch64 */, 0u, 0x3eu, 0x8000003eu, ~0u}) {
      for (unsigned nr = 0; nr < 1024; ++nr) {
        seccomp_data d = call_of(nr);
        d.arch = arch;
        ASSERT_EQ(answer(*p, d), kKill);
      }
    }
  }
}

TEST(StubFilter, OnlyTheStubsSyscallInstructionsMayCall) {
  for (const Program* p : kBoth) {
    std::vector<U64> others = {0, 0x401000, 0x7ffe12345678, 0x7ffeffffffff, 0x7fff00000000, 0x7fff0000ffff, 0x7fff00010000,
                               0x7ffffffff000, 0xffffffffff600000, 0x100007fff0100, 0xffff7fff00000100, 0x17fff00000100, 0x100};
    ASSERT_GE(p->site_count, 10u);
    for (unsigned i = 0; i < p->site_count; ++i) {
      const U64 ip = p->sites[i].ip;
      for (U64 other : {ip - 2, ip - 1, ip + 1, ip + 2, ip ^ U64{1} << 32, ip ^ U64{1} << 63, ip & 0xffffffff}) others.push_back(other);
    }
    for (U64 ip : others) {
      for (unsigned nr = 0; nr < 1024; ++nr) {
        ASSERT_EQ(answer(*p, call_of(nr, {kControl, 129, 0, 0, 0, 0}, ip)), kTrap) << std::hex << ip;
      }
    }
  }
}

// Who may make which calls: all that is published, no more, whatever the arguments.
TEST(StubFilter, EachInstructionMakesItsOwnCallsOnly) {
  const std::map<std::string, std::set<unsigned>> own = {
      {"stub_ip_start", {}},
      {"stub_ip_memory", {SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap}},
      {"stub_ip_wait", {SYS_futex, SYS_membarrier, SYS_restart_syscall}},
      {"stub_ip_futex", {SYS_futex, SYS_restart_syscall}},
      {"stub_ip_ask", {kKnockNumber}},
      {"stub_ip_knock", {kKnockNumber}},
      {"stub_ip_time", {SYS_clock_gettime, SYS_sched_yield}},
      {"stub_ip_sigreturn", {SYS_rt_sigreturn}},
      {"stub_ip_exit", {SYS_exit}},
      {"stub_ip_clone", {SYS_clone}},
      {"stub_ip_sigaltstack", {SYS_sigaltstack}},
      {"stub_ip_map_page", {SYS_mmap}},
      {"stub_ip_map_zone", {SYS_mmap}},
      {"stub_ip_dontfork", {SYS_madvise}},
      {"stub_ip_mseal", {kMseal}},
      {"stub_ip_close", {SYS_close}},
      {"stub_ip_close_parent", {SYS_close}},
  };
  const Args tuples[] = {{}, {1, 1, 1, 1, 1, 1}, {~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull},
                         {kControl, 0, 0, 0, 0, 0}, {kControl, 129, 0, 0, 0, 0}, {3, kControl, 0, 0, 0, 0},
                         {0x10000, 0x1000, 7, 0x32, kNoFd, 0}, {0x10000, 0x1000, 4, 0, 0, 0}, {0x8011, 0, 0, 0, 0, 0},
                         {kControl, 0x1000, 1, MAP_SHARED | kNoReplace, 3, 0}, {3, 0, 0, 0, 0, 0},
                         {kControl + 0x1000, 0x7ffff000, 3, MAP_SHARED | kNoReplace, 3, 0x1000},
                         {kControl, 0x80000000, MADV_DONTFORK, 0, 0, 0}, {kControl, 0x80000000, 0, 0, 0, 0}, {4, 0x10000, 1, 0, 0, 0}};
  for (const Program* p : kBoth) {
    ASSERT_EQ(p->site_count, own.size());
    for (unsigned i = 0; i < p->site_count; ++i) {
      ASSERT_TRUE(own.count(p->sites[i].name)) << p->sites[i].name;
      std::set<unsigned> may = own.at(p->sites[i].name);
      if (p == &kDirect && std::string(p->sites[i].name) == "stub_ip_memory") may.insert(SYS_pread64);
      std::set<unsigned> reached;
      for (unsigned nr = 0; nr < 1024; ++nr) {
        for (const Args& a : tuples) {
          if (answer_at(*p, call_of(nr, a, p->sites[i].ip)) != kTrap) reached.insert(nr);
        }
      }
      EXPECT_EQ(reached, may) << p->sites[i].name;
    }
  }
  // Numbers alone do not tell these apart.
  const U64 page = site_of(kDirect, "stub_ip_map_page"), wait = site_of(kDirect, "stub_ip_wait"),
            futex = site_of(kDirect, "stub_ip_futex"), memory = site_of(kDirect, "stub_ip_memory");
  const Args anon = {0x10000, 0x1000, 7, kAnon | MAP_FIXED, kNoFd, 0};
  EXPECT_EQ(answer_at(kDirect, call_of(SYS_mmap, anon, page)), kTrap);
  EXPECT_EQ(answer_at(kDirect, call_of(SYS_mmap, anon, memory)), kAllow);
  EXPECT_EQ(answer_at(kDirect, call_of(SYS_futex, {kControl, FUTEX_WAIT, 0, 0, 0, 0}, futex)), kTrap);
  EXPECT_EQ(answer_at(kDirect, call_of(SYS_futex, {kControl, FUTEX_WAIT, 0, 0, 0, 0}, wait)), kAllow);
  EXPECT_EQ(answer_at(kDirect, call_of(SYS_futex, {0x10000, 128, 0, 0, 0, 0}, wait)), kTrap);
  EXPECT_EQ(answer_at(kDirect, call_of(SYS_futex, {0x10000, 129, 0, 0, 0, 0}, wait)), kAllow);
}

TEST(StubFilter, PrivateFutexesAnywhereSharedOnesOnlyInControlMemory) {
  for (const Program* p : kBoth) {
    for (U64 op = 0; op < 1024; ++op) {
      const bool anywhere = op == 128 || op == 129 || op == 137 || op == 393;
      const bool control = anywhere || op == FUTEX_WAIT;
      expect(*p, anywhere ? kAllow : kTrap, SYS_futex, {0x10000, op, 1, 0, 0, 0});
      expect(*p, anywhere ? kAllow : kTrap, SYS_futex, {kControl - 1, op, 1, 0, 0, 0});
      expect(*p, control ? kAllow : kTrap, SYS_futex, {kControl, op, 1, 0, 0, 0});
      expect(*p, control ? kAllow : kTrap, SYS_futex, {kControlEnd - 4, op, 1, 0, 0, 0});
      expect(*p, anywhere ? kAllow : kTrap, SYS_futex, {kControlEnd, op, 1, 0, 0, 0});
      expect(*p, kTrap, SYS_futex, {kControl, op | 1ull << 32, 1, 0, 0, 0});
    }
    expect_both_halves(*p, kAllow, kTrap, SYS_futex, {kControl + 64, FUTEX_WAIT, 1, 0, 0, 0}, 0b11);
    expect_both_halves(*p, kAllow, kTrap, SYS_futex, {0x10000, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0}, 0b10);
  }
}

TEST(StubFilter, SmallCallsWithExactArguments) {
  for (const Program* p : kBoth) {
    expect(*p, kAllow, SYS_rt_sigreturn);
    expect(*p, kAllow, SYS_exit, {1, 0, 0, 0, 0, 0});
    expect(*p, kAllow, SYS_restart_syscall);
    expect(*p, kAllow, SYS_sched_yield);
    for (unsigned nr : {SYS_exit_group, SYS_kill, SYS_tgkill, SYS_prctl, SYS_execve, SYS_openat, SYS_seccomp, SYS_ptrace,
                        SYS_clone3, SYS_fork, SYS_vfork, SYS_brk, SYS_set_robust_list, SYS_rseq, SYS_rt_sigaction,
                        SYS_rt_sigprocmask, SYS_arch_prctl, SYS_userfaultfd, SYS_process_vm_writev, SYS_pkey_mprotect}) {
      expect(*p, kTrap, nr);
    }
    for (U64 cmd = 0; cmd < 1024; ++cmd) {
      const bool own = cmd == 0 || cmd == 8 || cmd == 16 || cmd == 32 || cmd == 64;
      expect(*p, own ? kAllow : kTrap, SYS_membarrier, {cmd, 0, 0, 0, 0, 0});
      expect(*p, kTrap, SYS_membarrier, {cmd, 1, 0, 0, 0, 0});
    }
    expect_both_halves(*p, kAllow, kTrap, SYS_membarrier, {8, 0, 0, 0, 0, 0}, 0b11);
    for (U64 clock = 0; clock < 16; ++clock) {
      expect(*p, clock == 3 ? kAllow : kTrap, SYS_clock_gettime, {clock, kControl + 64, 0, 0, 0, 0});
    }
    expect_both_halves(*p, kAllow, kTrap, SYS_clock_gettime, {3, kControl + 64, 0, 0, 0, 0}, 0b11);
    expect(*p, kTrap, SYS_clock_gettime, {U64(-6), kControl, 0, 0, 0, 0});  // another thread's clock
    expect(*p, kTrap, SYS_clock_gettime, {3, kControl - 1, 0, 0, 0, 0});
    expect(*p, kAllow, SYS_clock_gettime, {3, kControlEnd - 16, 0, 0, 0, 0});
    expect(*p, kTrap, SYS_clock_gettime, {3, kControlEnd - 15, 0, 0, 0, 0});
    expect(*p, kTrap, SYS_clock_gettime, {3, 0x7fff00000100, 0, 0, 0, 0});
    expect_both_halves(*p, kAllow, kTrap, SYS_sigaltstack, {0x1234, 0, 0, 0, 0, 0}, 0b10);
    expect(*p, kTrap, SYS_sigaltstack, {0, 0x1234, 0, 0, 0, 0});
  }
}

TEST(StubFilter, AFreshChildsOwnSetUpIsExact) {
  const Args ro = {kControl, 0x1000, PROT_READ, MAP_SHARED | kNoReplace, 3, 0};
  const Args rw = {kControl + 0x1000, 0x7ffff000, PROT_READ | PROT_WRITE, MAP_SHARED | kNoReplace, 3, 0x1000};
  const Args dontfork = {kControl, 0x80000000, MADV_DONTFORK, 0, 0, 0};
  const Args seal = {kControl, 0x80000000, 0, 0, 0, 0};
  for (const Program* p : kBoth) {
    const std::uint32_t other = p == &kDirect ? kTrap : kNotify;
    expect(*p, kAllow, SYS_mmap, ro);
    expect(*p, kAllow, SYS_mmap, rw);
    expect_both_halves(*p, kAllow, other, SYS_madvise, dontfork, 0b111);
    expect_both_halves(*p, kAllow, kTrap, kMseal, seal, 0b111);
    expect_both_halves(*p, kAllow, kTrap, SYS_close, {3, 0, 0, 0, 0, 0}, 0b1);
    // One bit off in any argument, and it is another call.
    for (unsigned a = 0; a < 6; ++a) {
      for (unsigned bit = 0; bit < 64; ++bit) {
        for (Args x : {ro, rw}) {
          x[a] ^= U64{1} << bit;
          expect(*p, other, SYS_mmap, x);
        }
      }
    }
    for (unsigned bit = 0; bit < 32; ++bit) {
      for (unsigned a = 0; a < 3; ++a) {
        Args x = seal, y = dontfork;
        x[a] ^= U64{1} << bit;
        y[a] ^= U64{1} << bit;
        expect(*p, kTrap, kMseal, x);
        expect(*p, other, SYS_madvise, y);
      }
    }
  }
}

TEST(StubFilter, NotifiedCallsHaveNoPointerForTheKernel) {
  constexpr U64 kFork = CLONE_PARENT | SIGCHLD;
  constexpr U64 kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  static_assert(stub_direct::kForkFlags == kFork && stub_direct::kThreadFlags == kThread);
  for (const Program* p : kBoth) {
    expect_both_halves(*p, kNotify, kTrap, SYS_clone, {kFork, 0, 0, 0, 0, 0}, 0b11111);
    expect_both_halves(*p, kNotify, kTrap, SYS_clone, {kThread, 0x7f1234567000, 0, 0, 0, 0}, 0b11101);
    expect(*p, kTrap, SYS_clone, {kFork, 0x1000, 0, 0, 0, 0});
    for (unsigned a = 2; a < 5; ++a) {
      Args x = {kFork, 0, 0, 0, 0, 0}, y = {kThread, 0x1000, 0, 0, 0, 0};
      x[a] = y[a] = 0x1000;
      expect(*p, kTrap, SYS_clone, x);
      expect(*p, kTrap, SYS_clone, y);
    }
    for (unsigned bit = 0; bit < 32; ++bit) {
      expect(*p, kTrap, SYS_clone, {kFork ^ 1ull << bit, 0, 0, 0, 0, 0});
      expect(*p, kTrap, SYS_clone, {kThread ^ 1ull << bit, 0, 0, 0, 0, 0});
    }
    for (const Args& any : {Args{}, Args{1, 2, 3, 4, 5, 6}, Args{~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull}}) {
      expect(*p, kNotify, kKnockNumber, any);
      expect(*p, kNotify, SYS_mremap, any);
      if (any[0] != 3) expect(*p, kTrap, SYS_close, any);
    }
    // No rule notifies but for calls whose arguments are all plain values.
    for (unsigned i = 0; i < p->rule_count; ++i) {
      if (p->rules[i].action != kNotify) continue;
      static const std::set<unsigned> kPlain = {kKnockNumber, SYS_clone, SYS_mremap, SYS_mmap,
                                                SYS_munmap, SYS_mprotect, SYS_madvise};
      EXPECT_TRUE(kPlain.count(p->rules[i].number)) << p->rules[i].call;
    }
  }
}

TEST(StubFilter, StrictModeNotifiesEveryChangeOfMemory) {
  for (unsigned nr : {SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise}) {
    expect(kStrict, kNotify, nr, {});
    expect(kStrict, kNotify, nr, {0x10000, 0x1000, 3, kAnon | MAP_FIXED, kNoFd, 0});
    expect(kStrict, kNotify, nr, {~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull});
    expect(kStrict, kNotify, nr, {kControl, 0x1000, 4, 0, 0, 0});
  }
}

// addr and len around the borders of the zones, and every way to wrap.
template <typename F>
void for_each_range(F f) {
  std::vector<U64> addresses = {0, 0x1000, 0x10000, 0x7fffffff, 0x80000000, 0xfffff000, 0x100000000, kControl, kControlEnd,
                                0x7fff00000000, 0x7fff00001000, U64{1} << 47, U64{1} << 63, ~0xfffull, ~0ull};
  for (U64 border : {kBound, kShared}) {
    for (U64 d : {0x0ull, 0x1ull, 0xfffull, 0x1000ull, 0x100000000ull, 0xffffffffull}) {
      addresses.push_back(border - d);
      addresses.push_back(border + d);
    }
  }
  for (U64 addr : addresses) {
    std::vector<U64> lengths = addresses;
    for (U64 border : {kBound, kShared, U64{0}}) {
      for (U64 d : {0ull, 1ull, 0x1000ull, 0x100000000ull}) {
        lengths.push_back(border - addr + d);
        lengths.push_back(border - addr - d);
      }
    }
    for (U64 len : lengths) f(addr, len);
  }
}

TEST(StubFilter, DirectAnonymousMmap) {
  for (U64 fixed : {U64{MAP_FIXED}, kNoReplace}) {
    for (U64 extra : {U64{0}, U64{MAP_NORESERVE}, U64{MAP_STACK}, U64{MAP_NORESERVE | MAP_STACK}}) {
      for (U64 fd : {kNoFd, ~U64{0}}) {
        for (U64 prot = 0; prot < 8; ++prot) expect(kDirect, kAllow, SYS_mmap, {0x10000, 0x1000, prot, kAnon | fixed | extra, fd, 0});
      }
    }
  }
  const Args good = {0x10000, 0x1000, 7, kAnon | MAP_FIXED, kNoFd, 0};
  expect_both_halves(kDirect, kAllow, kTrap, SYS_mmap, good, 0b01100);
  // Every flag word with one or two more bits, or one fewer.
  const std::set<U64> words = [] {
    std::set<U64> w;
    for (U64 fixed : {U64{MAP_FIXED}, kNoReplace}) {
      for (U64 extra : {U64{0}, U64{MAP_NORESERVE}, U64{MAP_STACK}, U64{MAP_NORESERVE | MAP_STACK}}) w.insert(kAnon | fixed | extra);
    }
    return w;
  }();
  for (U64 word : words) {
    for (unsigned i = 0; i < 32; ++i) {
      for (unsigned k = 0; k < 32; ++k) {
        const U64 flags = word ^ U64{1} << i ^ (i == k ? 0 : U64{1} << k);
        expect(kDirect, words.count(flags) ? kAllow : kTrap, SYS_mmap, {0x10000, 0x1000, 3, flags, kNoFd, 0});
      }
    }
  }
  for (U64 prot : {8ull, 0x01000000ull, 0x02000000ull, 0x01000003ull, 0x100000001ull}) {
    expect(kDirect, kTrap, SYS_mmap, {0x10000, 0x1000, prot, kAnon | MAP_FIXED, kNoFd, 0});
  }
  for (U64 fd : {0ull, 3ull, 0xfffffffeull, 0x1ffffffffull, 0x7fffffffull}) {
    expect(kDirect, kTrap, SYS_mmap, {0x10000, 0x1000, 3, kAnon | MAP_FIXED, fd, 0});
  }
  for_each_range([](U64 addr, U64 len) {
    expect(kDirect, below(addr, len, kBound) ? kAllow : kTrap, SYS_mmap, {addr, len, 3, kAnon | MAP_FIXED, kNoFd, 0});
  });
}

TEST(StubFilter, DirectFileMmap) {
  for (U64 fixed : {U64{MAP_FIXED}, kNoReplace}) {
    for_each_range([&](U64 addr, U64 len) {
      const bool in = below(addr, len, kBound);
      expect(kDirect, in ? kAllow : kTrap, SYS_mmap, {addr, len, 5, MAP_PRIVATE | fixed, 17, 0x2000});
      expect(kDirect, !in ? kTrap : addr >= kShared ? kAllow : kNotify, SYS_mmap, {addr, len, 5, MAP_SHARED | fixed, 17, 0x2000});
    });
    for (U64 fd : {4ull, 19ull, 4095ull}) {
      expect(kDirect, kAllow, SYS_mmap, {0x10000, 0x1000, 5, MAP_PRIVATE | fixed, fd, 0});
      expect(kDirect, kAllow, SYS_mmap, {kShared, 0x1000, 7, MAP_SHARED | fixed, fd, 0});
      expect(kDirect, kNotify, SYS_mmap, {0x10000, 0x1000, 7, MAP_SHARED | fixed, fd, 0});
    }
    // Below the files lies the control memory of a child on its way.
    for (U64 fd : {0ull, 1ull, 2ull, 3ull, 3ull | 1ull << 32, 4096ull, 0xffffffffull, ~0ull, 1ull << 32, 0x80000000ull}) {
      expect(kDirect, kTrap, SYS_mmap, {0x10000, 0x1000, 5, MAP_PRIVATE | fixed, fd, 0});
      expect(kDirect, kTrap, SYS_mmap, {kShared, 0x1000, 7, MAP_SHARED | fixed, fd, 0});
      expect(kDirect, kTrap, SYS_mmap, {0x10000, 0x1000, 7, MAP_SHARED | fixed, fd, 0});
    }
    expect(kDirect, kTrap, SYS_mmap, {0x10000, 0x1000, 8, MAP_PRIVATE | fixed, 4, 0});
    expect(kDirect, kTrap, SYS_mmap, {kShared, 0x1000, 8, MAP_SHARED | fixed, 4, 0});
    expect(kDirect, kTrap, SYS_mmap, {0x10000, 0x1000, 8, MAP_SHARED | fixed, 4, 0});
    expect_both_halves(kDirect, kNotify, kTrap, SYS_mmap, {0x10000, 0x1000, 7, MAP_SHARED | fixed, 4, 0}, 0b11100);
    expect_both_halves(kDirect, kAllow, kTrap, SYS_mmap, {0x10000, 0x1000, 5, MAP_PRIVATE | fixed, 4, 0}, 0b11100);
    expect_both_halves(kDirect, kAllow, kTrap, SYS_mmap, {kShared, 0x1000, 7, MAP_SHARED | fixed, 4, 0}, 0b11100);
  }
  for (U64 flags : {U64{0}, U64{3}, U64{MAP_SHARED}, U64{MAP_PRIVATE}, U64{MAP_SHARED_VALIDATE | MAP_FIXED},
                    U64{MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED}, U64{MAP_PRIVATE | MAP_FIXED | MAP_POPULATE},
                    U64{MAP_PRIVATE | MAP_FIXED} | kNoReplace, U64{MAP_PRIVATE | MAP_FIXED | MAP_GROWSDOWN},
                    U64{MAP_PRIVATE | MAP_FIXED | MAP_LOCKED}}) {
    expect(kDirect, kTrap, SYS_mmap, {0x10000, 0x1000, 5, flags, 4, 0});
    expect(kDirect, kTrap, SYS_mmap, {kShared, 0x1000, 5, flags, 4, 0});
  }
}

TEST(StubFilter, DirectReadsOfDonatedFilesGoToTheApplicationAlone) {
  for_each_range([](U64 addr, U64 len) {
    expect(kDirect, below(addr, len, kBound) ? kAllow : kTrap, SYS_pread64, {4, addr, len, 0, 0, 0});
    expect(kStrict, kTrap, SYS_pread64, {4, addr, len, 0, 0, 0});
  });
  for (U64 fd : {4ull, 19ull, 4095ull}) expect(kDirect, kAllow, SYS_pread64, {fd, 0x10000, 0x1000, ~0ull, 0, 0});
  for (U64 fd : {0ull, 1ull, 2ull, 3ull, 4096ull, 0xffffffffull, ~0ull}) expect(kDirect, kTrap, SYS_pread64, {fd, 0x10000, 0x1000, 0, 0, 0});
  expect_both_halves(kDirect, kAllow, kTrap, SYS_pread64, {4, 0x10000, 0x1000, 0, 0, 0}, 0b00001);
}

TEST(StubFilter, DirectUnmapProtectAndAdvise) {
  for_each_range([](U64 addr, U64 len) {
    expect(kDirect, below(addr, len, kBound) ? kAllow : kTrap, SYS_munmap, {addr, len, 0, 0, 0, 0});
    const std::uint32_t shared = addr >= kShared && below(addr, len, kBound) ? kNotify : kTrap;
    expect(kDirect, below(addr, len, kShared) ? kAllow : shared, SYS_mprotect, {addr, len, 7, 0, 0, 0});
    expect(kDirect, kTrap, SYS_mprotect, {addr, len, 8, 0, 0, 0});
    expect(kDirect, kTrap, SYS_mprotect, {addr, len, 1ull << 32, 0, 0, 0});
    expect(kDirect, kTrap, SYS_mprotect, {addr, len, PROT_GROWSDOWN | 1, 0, 0, 0});
    expect(kDirect, below(addr, len, kBound) ? kAllow : kTrap, SYS_madvise, {addr, len, MADV_DONTNEED, 0, 0, 0});
  });
  const std::set<U64> advice = {4, 8, 14, 15, 20, 22, 23};
  for (U64 a = 0; a < 256; ++a) {
    expect(kDirect, advice.count(a) ? kAllow : kTrap, SYS_madvise, {0x10000, 0x1000, a, 0, 0, 0});
    expect(kDirect, kTrap, SYS_madvise, {0x10000, 0x1000, a | 1ull << 32, 0, 0, 0});
    expect(kDirect, kTrap, SYS_madvise, {0x10000, 0x1000, U64{0} - a - 1, 0, 0, 0});
    if (a != MADV_DONTFORK) {
      expect(kDirect, kTrap, SYS_madvise, {kControl, 0x80000000, a, 0, 0, 0});
    }
  }
}

}  // namespace
}  // namespace seccomp_profiles
