// SPDX-License-Identifier: Apache-2.0
// Tests of 64-bit words by 32-bit instructions. Each emits code that goes to `yes` or to `no`; either may be
// kNext, which here means "behind the whole test". All compare unsigned and look at both halves.
#pragma once

#include <cstdint>
#include <span>

#include "base/bpf/assembler.h"

namespace base::bpf {

// w == v
void test_eq(Assembler& a, Word w, std::uint64_t v, Label yes, Label no);
// w <= v
void test_le(Assembler& a, Word w, std::uint64_t v, Label yes, Label no);
// w >= v
void test_ge(Assembler& a, Word w, std::uint64_t v, Label yes, Label no);
// first <= w <= last. Precondition: first <= last.
void test_range(Assembler& a, Word w, std::uint64_t first, std::uint64_t last, Label yes, Label no);
// (w & mask) == v. Precondition: v has no bit outside mask, and mask is not 0.
void test_masked(Assembler& a, Word w, std::uint64_t mask, std::uint64_t v, Label yes, Label no);
// w is one of set. Precondition: set is not empty.
void test_in(Assembler& a, Word w, std::span<const std::uint64_t> set, Label yes, Label no);
// x + y <= bound as integers, not modulo 2^64. Precondition: bound < 2^62. Uses scratch slots 0 and 1;
// at most kSumInsns instructions.
void test_sum_le(Assembler& a, Word x, Word y, std::uint64_t bound, Label yes, Label no);
inline constexpr std::size_t kSumInsns = 28;

}  // namespace base::bpf
