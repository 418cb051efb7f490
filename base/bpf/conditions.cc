// SPDX-License-Identifier: Apache-2.0
// The halves are compared high first, so that a test that fails mostly fails on its second instruction.
#include "base/bpf/conditions.h"

#include <algorithm>
#include <vector>

namespace base::bpf {
namespace {
// Replaces kNext by a label that is placed behind everything emitted while this object lives.
class Frame {
 public:
  Frame(Assembler& a, Label& yes, Label& no) : a_(a), end_(a.label()) {
    if (yes == kNext) yes = end_;
    if (no == kNext) no = end_;
  }
  ~Frame() { a_.place(end_); }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

 private:
  Assembler& a_;
  Label end_;
};
}  // namespace

void test_eq(Assembler& a, Word w, std::uint64_t v, Label yes, Label no) {
  Frame frame(a, yes, no);
  a.load(w.high());
  a.jump_eq(high_half(v), kNext, no);
  a.load(w.low());
  a.jump_eq(low_half(v), yes, no);
}

void test_le(Assembler& a, Word w, std::uint64_t v, Label yes, Label no) {
  Frame frame(a, yes, no);
  a.load(w.high());
  if (low_half(v) == ~0u) return a.jump_gt(high_half(v), no, yes);
  if (high_half(v) != 0) {
    a.jump_gt(high_half(v), no, kNext);
    a.jump_eq(high_half(v), kNext, yes);
  } else {
    a.jump_eq(0, kNext, no);
  }
  a.load(w.low());
  a.jump_gt(low_half(v), no, yes);
}

void test_ge(Assembler& a, Word w, std::uint64_t v, Label yes, Label no) {
  Frame frame(a, yes, no);
  a.load(w.high());
  if (low_half(v) == 0) return a.jump_ge(high_half(v), yes, no);
  a.jump_gt(high_half(v), yes, kNext);
  a.jump_eq(high_half(v), kNext, no);
  a.load(w.low());
  a.jump_ge(low_half(v), yes, no);
}

void test_range(Assembler& a, Word w, std::uint64_t first, std::uint64_t last, Label yes, Label no) {
  CHECK(first <= last);
  Frame frame(a, yes, no);
  if (first == 0) return test_le(a, w, last, yes, no);
  if (high_half(first) != high_half(last)) {
    test_ge(a, w, first, kNext, no);
    return test_le(a, w, last, yes, no);
  }
  a.load(w.high());
  a.jump_eq(high_half(first), kNext, no);
  a.load(w.low());
  if (low_half(first) != 0) a.jump_ge(low_half(first), kNext, no);
  a.jump_gt(low_half(last), no, yes);
}

void test_masked(Assembler& a, Word w, std::uint64_t mask, std::uint64_t v, Label yes, Label no) {
  CHECK(mask != 0 && (v & ~mask) == 0);
  Frame frame(a, yes, no);
  auto half = [&](std::uint32_t offset, std::uint32_t m, std::uint32_t x, Label then) {
    a.load(offset);
    if (m == ~0u) return a.jump_eq(x, then, no);
    if (x == 0) return a.jump_set(m, no, then);
    a.and_value(m);
    a.jump_eq(x, then, no);
  };
  const bool low = low_half(mask) != 0;
  if (high_half(mask) != 0) half(w.high(), high_half(mask), high_half(v), low ? kNext : yes);
  if (low) half(w.low(), low_half(mask), low_half(v), yes);
}

void test_in(Assembler& a, Word w, std::span<const std::uint64_t> set, Label yes, Label no) {
  CHECK(!set.empty());
  std::vector<std::uint64_t> values(set.begin(), set.end());
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  Frame frame(a, yes, no);
  struct Group { std::size_t begin, end; Label at; };
  std::vector<Group> groups;  // values with the same high half
  for (std::size_t i = 0; i < values.size();) {
    std::size_t j = i;
    while (j < values.size() && high_half(values[j]) == high_half(values[i])) ++j;
    groups.push_back({i, j, a.label()});
    i = j;
  }
  a.load(w.high());
  for (std::size_t g = 0; g < groups.size(); ++g) {
    a.jump_eq(high_half(values[groups[g].begin]), groups[g].at, g + 1 < groups.size() ? kNext : no);
  }
  for (const Group& g : groups) {
    a.place(g.at);
    a.load(w.low());
    for (std::size_t i = g.begin; i < g.end; ++i) a.jump_eq(low_half(values[i]), yes, i + 1 < g.end ? kNext : no);
  }
}

void test_sum_le(Assembler& a, Word x, Word y, std::uint64_t bound, Label yes, Label no) {
  // Both high halves are at most bound's, below 2^30, so their sum and a carry cannot wrap 32 bits.
  const std::uint32_t high = high_half(bound), low = low_half(bound);
  CHECK(bound < std::uint64_t{1} << 62);
  const std::size_t before = a.size();
  {
    Frame frame(a, yes, no);
    Label no_carry = a.label(), compare = a.label();
    a.load(x.high());
    a.jump_gt(high, no, kNext);
    a.store_scratch(0);
    a.load(y.high());
    a.jump_gt(high, no, kNext);
    a.a_to_x();
    a.load_scratch(0);
    a.add_x();
    a.store_scratch(0);  // the sum of the high halves
    a.load(x.low());
    a.a_to_x();
    a.load(y.low());
    a.add_x();
    a.store_scratch(1);  // the low half of the sum; it wrapped if it is below x.low
    a.jump_ge_x(no_carry, kNext);
    a.load_scratch(0);
    a.add_value(1);
    a.jump(compare);
    a.place(no_carry);
    a.load_scratch(0);
    a.place(compare);
    a.jump_gt(high, no, kNext);
    a.jump_eq(high, kNext, yes);
    a.load_scratch(1);
    a.jump_gt(low, no, yes);
  }
  CHECK(a.size() - before <= kSumInsns);
}

}  // namespace base::bpf
