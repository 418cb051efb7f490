// SPDX-License-Identifier: Apache-2.0
// implies() and contradict() serve the unreachable-rule check: they are sound, and complete for the finite sets
// and ranges that profiles mostly use.
#include "seccomp-profiles/compiler/condition.h"

#include <algorithm>

#include "base/bpf/conditions.h"

namespace seccomp_profiles::compiler {

using base::bpf::kNext;
using Kind = Condition::Kind;

bool Condition::accepts(std::uint64_t v) const {
  switch (kind) {
    case Kind::range: return v >= first && v <= last;
    case Kind::differs: return v != first;
    case Kind::set: return std::binary_search(values.begin(), values.end(), v);
    case Kind::masked: return (v & mask) == first;
    case Kind::sum: break;
  }
  UNREACHABLE();
}

bool Condition::holds(const seccomp_data& d) const {
  if (kind != Kind::sum) return accepts(d.args[arg]);
  std::uint64_t sum = 0;
  return !__builtin_add_overflow(d.args[arg], d.args[other], &sum) && sum <= last;
}

void Condition::emit(base::bpf::Assembler& a, base::bpf::Label no) const {
  const base::bpf::Word w = base::bpf::argument(arg);
  switch (kind) {
    case Kind::range: return test_range(a, w, first, last, kNext, no);
    case Kind::differs: return test_eq(a, w, first, no, kNext);
    case Kind::set: return test_in(a, w, values, kNext, no);
    case Kind::masked: return test_masked(a, w, mask, first, kNext, no);
    case Kind::sum: return test_sum_le(a, w, base::bpf::argument(other), last, kNext, no);
  }
}

bool implies(const Condition& a, const Condition& b) {
  if (b.kind == Kind::sum) {
    return a.kind == Kind::sum && a.last <= b.last &&
           std::minmax(a.arg, a.other) == std::minmax(b.arg, b.other);
  }
  if (a.kind == Kind::sum || a.arg != b.arg) return false;
  if (a.kind == Kind::set) {
    return std::all_of(a.values.begin(), a.values.end(), [&](std::uint64_t v) { return b.accepts(v); });
  }
  if (a.kind == Kind::range && b.kind == Kind::range) return a.first >= b.first && a.last <= b.last;
  if (a.kind == Kind::range && b.kind == Kind::differs) return !a.accepts(b.first);
  if (a.kind == Kind::masked && b.kind == Kind::masked) {
    return (b.mask & ~a.mask) == 0 && (a.first & b.mask) == b.first;
  }
  if (a.kind == Kind::masked && b.kind == Kind::differs) return !a.accepts(b.first);
  return a.kind == Kind::differs && b.kind == Kind::differs && a.first == b.first;
}

bool contradict(const std::vector<Condition>& all) {
  for (const Condition& c : all) {
    std::vector<std::uint64_t> left;
    if (c.kind == Kind::set) left = c.values;
    else if (c.kind == Kind::range && c.first == c.last) left = {c.first};
    else continue;
    for (const Condition& o : all) {
      if (o.kind == Kind::sum || o.arg != c.arg) continue;
      left.erase(std::remove_if(left.begin(), left.end(), [&](std::uint64_t v) { return !o.accepts(v); }), left.end());
    }
    if (left.empty()) return true;
  }
  for (const Condition& a : all) {
    for (const Condition& b : all) {
      if (a.kind == Kind::range && b.kind == Kind::range && a.arg == b.arg && a.last < b.first) return true;
    }
  }
  return false;
}

}  // namespace seccomp_profiles::compiler
