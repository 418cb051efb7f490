// SPDX-License-Identifier: Apache-2.0
// Label resolution, with a fixed point over the jumps that need widening: widening one moves others apart,
// so it is repeated until nothing changes. It only ever grows, hence ends.
#include "base/bpf/assembler.h"

namespace base::bpf {
namespace {
constexpr std::uint32_t kUnplaced = ~0u;
constexpr std::uint32_t kReach = 255;

bool is_jump(std::uint16_t code) { return BPF_CLASS(code) == BPF_JMP; }
bool is_always(std::uint16_t code) { return BPF_OP(code) == BPF_JA; }
}  // namespace

Label Assembler::label() {
  places_.push_back(kUnplaced);
  return Label{static_cast<std::uint32_t>(places_.size() - 1)};
}

void Assembler::place(Label l) {
  CHECK(l.id != 0 && l.id < places_.size() && places_[l.id] == kUnplaced);
  places_[l.id] = static_cast<std::uint32_t>(items_.size());
}

void Assembler::jump(Label to) {
  if (to == kNext) return;
  emit(BPF_JMP | BPF_JA, 0);
  items_.back().yes = to;
}

void Assembler::branch(unsigned op, std::uint32_t k, Label yes, Label no) {
  emit(BPF_JMP | op, k);
  items_.back().yes = yes;
  items_.back().no = no;
}

Result<Assembler::Finished> Assembler::finish() const {
  const std::size_t n = items_.size();
  // Every target as an item index; n stands for "past the end", which no jump may reach.
  auto target = [&](std::size_t i, Label l) { return l == kNext ? static_cast<std::uint32_t>(i + 1) : places_[l.id]; };
  for (std::size_t i = 0; i < n; ++i) {
    if (!is_jump(items_[i].code)) continue;
    for (Label l : {items_[i].yes, items_[i].no}) {
      if (l.id >= places_.size()) return kEINVAL;
      std::uint32_t t = target(i, l);
      if (t == kUnplaced || t <= i) return kEINVAL;
      if (t >= n && !(is_always(items_[i].code) && l == kNext)) return kEINVAL;
    }
  }
  // A wide side of a conditional jump goes through an unconditional one behind it: first that of `yes`.
  std::vector<bool> wide_yes(n), wide_no(n);
  std::vector<std::uint32_t> at(n + 1);
  for (bool changed = true; changed;) {
    changed = false;
    std::uint32_t pc = 0;
    for (std::size_t i = 0; i < n; ++i) {
      at[i] = pc;
      pc += 1u + (wide_yes[i] ? 1u : 0u) + (wide_no[i] ? 1u : 0u);
    }
    at[n] = pc;
    for (std::size_t i = 0; i < n; ++i) {
      if (!is_jump(items_[i].code) || is_always(items_[i].code)) continue;
      auto far = [&](Label l) { return at[target(i, l)] - at[i] - 1 > kReach; };
      if (!wide_yes[i] && far(items_[i].yes)) changed = wide_yes[i] = true;
      if (!wide_no[i] && far(items_[i].no)) changed = wide_no[i] = true;
    }
  }
  if (at[n] > kMaxInsns || n == 0) return n == 0 ? kEINVAL : kE2BIG;

  Finished out;
  out.insns.reserve(at[n]);
  out.index_of.assign(at.begin(), at.begin() + static_cast<std::ptrdiff_t>(n));
  for (std::size_t i = 0; i < n; ++i) {
    const Item& it = items_[i];
    const std::uint32_t pc = at[i];
    if (!is_jump(it.code)) {
      out.insns.push_back({it.code, 0, 0, it.k});
      continue;
    }
    const std::uint32_t yes = at[target(i, it.yes)];
    if (is_always(it.code)) {
      out.insns.push_back({it.code, 0, 0, yes - pc - 1});
      continue;
    }
    const std::uint32_t no = at[target(i, it.no)];
    const std::uint32_t hop_yes = pc + 1, hop_no = pc + 1 + (wide_yes[i] ? 1u : 0u);
    out.insns.push_back({it.code, static_cast<std::uint8_t>((wide_yes[i] ? hop_yes : yes) - pc - 1),
                         static_cast<std::uint8_t>((wide_no[i] ? hop_no : no) - pc - 1), it.k});
    if (wide_yes[i]) out.insns.push_back({BPF_JMP | BPF_JA, 0, 0, yes - hop_yes - 1});
    if (wide_no[i]) out.insns.push_back({BPF_JMP | BPF_JA, 0, 0, no - hop_no - 1});
  }
  return out;
}

}  // namespace base::bpf
