// SPDX-License-Identifier: Apache-2.0
// One condition of a rule: what it means (for checks and tests), and how it is emitted.
#pragma once

#include <linux/seccomp.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/bpf/assembler.h"

namespace seccomp_profiles::compiler {

struct Condition {
  enum class Kind {
    range,   // first <= arg <= last
    differs, // arg != first
    set,     // arg is one of values
    masked,  // (arg & mask) == first
    sum,     // arg + other <= last, without wrap
  };
  Kind kind;
  unsigned arg = 0;
  unsigned other = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t mask = 0;
  std::vector<std::uint64_t> values;  // sorted, each once
  std::string text;                   // as the profile says it

  // Whether v satisfies it. Not for sums.
  bool accepts(std::uint64_t v) const;
  bool holds(const seccomp_data& d) const;
  // Goes to `no`, or falls through if it holds.
  void emit(base::bpf::Assembler& a, base::bpf::Label no) const;
};

// True only if every call that satisfies `a` satisfies `b` (it may miss some that do).
bool implies(const Condition& a, const Condition& b);
// True only if no call satisfies all of them.
bool contradict(const std::vector<Condition>& all);

}  // namespace seccomp_profiles::compiler
