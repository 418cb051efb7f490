// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of the generated filters: one call as a value, and what a filter answers to it.
#pragma once

#include <gtest/gtest.h>
#include <linux/audit.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "base/bpf/disassemble.h"
#include "base/bpf/evaluate.h"
#include "seccomp-profiles/install.h"
#include "seccomp-profiles/program.h"

namespace seccomp_profiles {

using U64 = std::uint64_t;
using Args = std::array<U64, 6>;

inline constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW, kTrap = SECCOMP_RET_TRAP, kNotify = SECCOMP_RET_USER_NOTIF,
                               kKill = SECCOMP_RET_KILL_PROCESS;

// Stands for every syscall instruction that the program names; the most that any of them may do is the answer.
inline constexpr U64 kAnySite = 0x7fff00000001;

inline seccomp_data call_of(std::uint32_t nr, const Args& args = {}, U64 ip = kAnySite) {
  seccomp_data d{};
  d.nr = static_cast<int>(nr);
  d.arch = AUDIT_ARCH_X86_64;
  d.instruction_pointer = ip;
  std::copy(args.begin(), args.end(), d.args);
  return d;
}

inline std::uint32_t answer_at(const Program& p, const seccomp_data& d) {
  auto v = base::bpf::evaluate({p.filter, p.length}, d);
  EXPECT_TRUE(v.ok());
  return v.ok() ? v->action : 0xdeadu;
}

// The call at the site that gives the most, for a call at kAnySite.
inline seccomp_data at_best_site(const Program& p, seccomp_data d) {
  if (d.instruction_pointer != kAnySite || p.site_count == 0) return d;
  auto worth = [&](const seccomp_data& x) {
    const std::uint32_t a = answer_at(p, x);
    return a == kAllow ? 2 : a == kNotify ? 1 : 0;
  };
  seccomp_data best = d;
  best.instruction_pointer = p.sites[0].ip;
  for (unsigned i = 1; i < p.site_count; ++i) {
    d.instruction_pointer = p.sites[i].ip;
    if (worth(d) > worth(best)) best = d;
  }
  return best;
}

inline std::uint32_t answer(const Program& p, const seccomp_data& d) { return answer_at(p, at_best_site(p, d)); }

// The address of a named site, as the filter sees it; 0: there is none.
inline U64 site_of(const Program& p, std::string_view name) {
  for (unsigned i = 0; i < p.site_count; ++i) {
    if (p.sites[i].name == name) return p.sites[i].ip;
  }
  return 0;
}

// Expects an answer, and reports the rule if it is another.
inline void expect(const Program& p, std::uint32_t want, std::uint32_t nr, const Args& args = {}) {
  const seccomp_data d = at_best_site(p, call_of(nr, args));
  EXPECT_EQ(base::bpf::action_text(answer(p, d)), base::bpf::action_text(want)) << describe(p, d);
}

// Expects `want` for the arguments as given, and `spoilt` whenever a bit of the high half of one of the
// arguments in `checked` (a bit mask of argument numbers) is flipped.
inline void expect_both_halves(const Program& p, std::uint32_t want, std::uint32_t spoilt, std::uint32_t nr,
                               const Args& args, unsigned checked) {
  expect(p, want, nr, args);
  for (unsigned a = 0; a < args.size(); ++a) {
    if ((checked & (1u << a)) == 0) continue;
    for (unsigned bit = 32; bit < 64; ++bit) {
      Args other = args;
      other[a] ^= U64{1} << bit;
      expect(p, spoilt, nr, other);
    }
  }
}

}  // namespace seccomp_profiles
