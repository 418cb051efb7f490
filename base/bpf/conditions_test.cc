// SPDX-License-Identifier: Apache-2.0
// Every 64-bit test against plain 64-bit and 128-bit arithmetic, on values around the borders of both halves.
#include "base/bpf/conditions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "base/bpf/evaluate.h"

namespace base::bpf {
namespace {

using U64 = std::uint64_t;
__extension__ typedef unsigned __int128 U128;

// Numbers around each of `around`, around powers of two, and with halves exchanged or spoilt.
std::vector<U64> border_values(std::initializer_list<U64> around) {
  std::vector<U64> out;
  auto near = [&](U64 v, U64 width) {
    for (U64 d = 0; d <= width; ++d) {
      out.push_back(v + d);
      out.push_back(v - d);
    }
  };
  near(0, 2);
  for (unsigned bit : {12u, 31u, 32u, 33u, 46u, 47u, 62u, 63u}) near(U64{1} << bit, 1);
  for (U64 v : around) {
    near(v, 3);
    near(v ^ (U64{1} << 32), 1);
    near(v ^ (U64{1} << 63), 1);
    near(v + (U64{1} << 32), 1);
    near(v - (U64{1} << 32), 1);
    out.push_back(v << 32 | v >> 32);
    out.push_back(static_cast<std::uint32_t>(v));
    out.push_back(v | 0xffffffff);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// A program made of one test. With shape 0 both ends are labels; 1: yes falls through; 2: no falls through.
template <typename Emit>
std::vector<Insn> program(int shape, Emit emit) {
  Assembler a;
  Label yes = a.label(), no = a.label();
  emit(a, shape == 1 ? kNext : yes, shape == 2 ? kNext : no);
  if (shape == 2) {
    a.place(no);
    a.ret(SECCOMP_RET_KILL_PROCESS);
    a.place(yes);
    a.ret(SECCOMP_RET_ALLOW);
  } else {
    a.place(yes);
    a.ret(SECCOMP_RET_ALLOW);
    a.place(no);
    a.ret(SECCOMP_RET_KILL_PROCESS);
  }
  auto p = a.finish();
  EXPECT_TRUE(p.ok());
  if (!p.ok()) return {};
  EXPECT_TRUE(validate(p->insns).ok());
  return p->insns;
}

bool allows(const std::vector<Insn>& p, const seccomp_data& d) {
  auto v = evaluate(p, d);
  return v.ok() && v->action == SECCOMP_RET_ALLOW;
}

template <typename Emit, typename Truth>
void compare(const std::vector<U64>& values, Emit emit, Truth truth) {
  for (int shape = 0; shape < 3; ++shape) {
    const auto p = program(shape, emit);
    for (U64 v : values) {
      seccomp_data d{};
      d.args[3] = v;
      ASSERT_EQ(allows(p, d), truth(v)) << std::hex << v << " shape " << shape;
    }
  }
}

constexpr std::array<U64, 14> kConstants = {
    0, 1, 2, 0x7fffffff, 0xffffffff, 0x100000000, 0x100000001, 0x7f0000000000, 0x7ffe00000000,
    0x7ffe00001000, 0x7fff10000fff, 0x8000000000000000, 0xfffffffffffffffe, 0xffffffffffffffff};

TEST(Conditions, OneConstantAgreesWithPlainArithmetic) {
  for (U64 c : kConstants) {
    const auto values = border_values({c});
    compare(values, [&](Assembler& a, Label y, Label n) { test_eq(a, argument(3), c, y, n); },
            [&](U64 v) { return v == c; });
    compare(values, [&](Assembler& a, Label y, Label n) { test_eq(a, argument(3), c, n, y); },
            [&](U64 v) { return v != c; });
    compare(values, [&](Assembler& a, Label y, Label n) { test_le(a, argument(3), c, y, n); },
            [&](U64 v) { return v <= c; });
    compare(values, [&](Assembler& a, Label y, Label n) { test_ge(a, argument(3), c, y, n); },
            [&](U64 v) { return v >= c; });
  }
}

TEST(Conditions, RangesAgreeWithPlainArithmetic) {
  for (U64 first : kConstants) {
    for (U64 last : kConstants) {
      if (first > last) continue;
      compare(border_values({first, last}),
              [&](Assembler& a, Label y, Label n) { test_range(a, argument(3), first, last, y, n); },
              [&](U64 v) { return v >= first && v <= last; });
    }
  }
}

TEST(Conditions, MasksAgreeWithPlainArithmetic) {
  for (U64 mask : kConstants) {
    if (mask == 0) continue;
    for (U64 c : kConstants) {
      const U64 want = c & mask;
      compare(border_values({mask, c, want}),
              [&](Assembler& a, Label y, Label n) { test_masked(a, argument(3), mask, want, y, n); },
              [&](U64 v) { return (v & mask) == want; });
    }
  }
}

TEST(Conditions, SetsAgreeWithPlainArithmetic) {
  const std::vector<std::vector<U64>> sets = {
      {4},
      {4, 8, 14, 15, 20, 22, 23},
      {0xffffffff, 0xffffffffffffffff},
      {0x4, 0x100000004, 0x200000004, 0x200000005, 0x4},
      {0x22 | 0x10, 0x22 | 0x100000},
  };
  for (const auto& set : sets) {
    auto values = border_values({set.front(), set.back()});
    for (U64 v : set) {
      for (U64 flip : {U64{0}, U64{1}, U64{1} << 32, U64{1} << 33, U64{1} << 63}) values.push_back(v ^ flip);
    }
    compare(values, [&](Assembler& a, Label y, Label n) { test_in(a, argument(3), set, y, n); },
            [&](U64 v) { return std::find(set.begin(), set.end(), v) != set.end(); });
  }
}

TEST(Conditions, TheInstructionPointerIsAWordLikeAnArgument) {
  const auto p = program(0, [](Assembler& a, Label y, Label n) {
    test_range(a, kInstructionPointer, 0x7fff00000000, 0x7fff0000ffff, y, n);
  });
  seccomp_data d{};
  for (auto [ip, inside] : {std::pair<U64, bool>{0x7fff00000000, true}, {0x7fff0000ffff, true}, {0x7fff00010000, false},
                            {0x7ffeffffffff, false}, {0x7ffe00000100, false}, {0xffff7fff00000100, false}}) {
    d.instruction_pointer = ip;
    EXPECT_EQ(allows(p, d), inside) << std::hex << ip;
  }
}

// The bound that everything rests on: addr + len <= bound, exactly, for all pairs of border values.
TEST(Conditions, SumBoundIsExactOnAllBorderPairs) {
  std::size_t pairs = 0;
  for (U64 bound : {U64{0x7ffe00000000}, U64{0x7f0000000000}, U64{0x7ffe00001234}, U64{0x1000}, U64{0},
                    U64{0x7fffffffffff}, U64{0xffffffff}, (U64{1} << 62) - 1}) {
    auto values = border_values({bound, bound / 2, bound - 0x1000, ~bound, U64{0} - bound, 0x12345678fffff000});
    for (unsigned bit = 0; bit < 64; ++bit) {
      for (U64 v : {U64{1} << bit, bound ^ U64{1} << bit}) values.insert(values.end(), {v - 1, v, v + 1});
    }
    const auto p = program(0, [&](Assembler& a, Label y, Label n) {
      test_sum_le(a, argument(0), argument(1), bound, y, n);
    });
    EXPECT_LE(p.size(), kSumInsns + 2);
    auto check = [&](U64 x, U64 y) {
      seccomp_data d{};
      d.args[0] = x;
      d.args[1] = y;
      const bool truth = static_cast<U128>(x) + static_cast<U128>(y) <= static_cast<U128>(bound);
      ASSERT_EQ(allows(p, d), truth) << std::hex << x << " + " << y << " <= " << bound;
      ++pairs;
    };
    for (U64 x : values) {
      // The complements to the bound, where truth changes, besides the plain cross product.
      for (U64 delta : {U64{0}, U64{1}, U64{2}, U64{0x1000}, U64{1} << 32, (U64{1} << 32) - 1}) {
        check(x, bound - x + delta);
        check(x, bound - x - delta);
        check(x, U64{0} - x + delta);
        check(x, U64{0} - x - delta);
      }
      for (U64 y : values) check(x, y);
    }
  }
  EXPECT_GE(pairs, 360000u);
}

}  // namespace
}  // namespace base::bpf
