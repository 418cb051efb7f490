// SPDX-License-Identifier: Apache-2.0
// The kernel's view of a filter, in user space: what its checker accepts, and what a program answers to one
// call, instruction by instruction. Programs are untrusted here (an application may bring its own).
#pragma once

#include <cstdint>

#include "base/bpf/program.h"
#include "base/result.h"

namespace base::bpf {

struct Verdict {
  std::uint32_t action;  // SECCOMP_RET_* with its 16 bits of data
  std::uint32_t at;      // index of the return instruction
  std::uint32_t steps;   // instructions executed
};

// Accepts what Linux accepts (net/core/filter.c bpf_check_classic, kernel/seccomp.c seccomp_check_filter):
// known instructions, jumps inside the program, aligned loads inside seccomp_data, no read of a scratch slot
// that some path leaves unset, a return at the end. EINVAL otherwise.
Result<void> validate(ProgramView program);

// Runs the program on `data`. Needs no validate() before: an instruction that is unknown, a load or a jump
// out of bounds is EINVAL.
Result<Verdict> evaluate(ProgramView program, const seccomp_data& data);

// What the program answers to a call whatever its arguments and wherever it is made: EAGAIN when it looks at those. Linux:
// seccomp_is_const_allow().
Result<Verdict> evaluate_number(ProgramView program, int number, std::uint32_t arch);

}  // namespace base::bpf
