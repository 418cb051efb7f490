// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of the generated filters: one call as a value, and what a filter answers to it.
#pragma once

#include <gtest/gtest.h>
#include <linux/audit.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/bpf/disassemble.h"
#include "base/bpf/evaluate.h"
#include "seccomp-profiles/install.h"
#include "seccomp-profiles/program.h"

namespace seccomp_profiles {

using U64 = std::uint64_t;
using Args = std::array<U64, 6>;

inline constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW, kTrap = SECCOMP_RET_TRAP, kNotify = SECCOMP_RET_USER_NOTIF,
                               kKill = SECCOMP_RET_KILL_PROCESS;

inline seccomp_data call_of(std::uint32_t nr, const Args& args = {}, U64 ip = 0x7fff00000100) {
  seccomp_data d{};
  d.nr = static_cast<int>(nr);
  d.arch = AUDIT_ARCH_X86_64;
  d.instruction_pointer = ip;
  std::copy(args.begin(), args.end(), d.args);
  return d;
}

inline std::uint32_t answer(const Program& p, const seccomp_data& d) {
  auto v = base::bpf::evaluate({p.filter, p.length}, d);
  EXPECT_TRUE(v.ok());
  return v.ok() ? v->action : 0xdeadu;
}

// Expects an answer, and reports the rule if it is another.
inline void expect(const Program& p, std::uint32_t want, std::uint32_t nr, const Args& args = {}) {
  const seccomp_data d = call_of(nr, args);
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
