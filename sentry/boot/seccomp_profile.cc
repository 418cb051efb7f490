// SPDX-License-Identifier: Apache-2.0
// A rule without arguments decides its call, whatever other rules say; else the first whose arguments fit; else the default.
#include "sentry/boot/seccomp_profile.h"

#include <algorithm>
#include <map>

#include "base/bpf/conditions.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::boot {
namespace {

namespace bpf = base::bpf;

struct Condition {
  std::vector<base::wire::SeccompArg> all;
  uint32_t action;
};
struct CallRules {
  std::optional<uint32_t> always;
  std::vector<Condition> conditions;
};

void emit_arg(bpf::Assembler& a, const base::wire::SeccompArg& arg, bpf::Label no) {
  const bpf::Word w = bpf::argument(arg.index);
  switch (arg.op) {
    case 1: bpf::test_eq(a, w, arg.value, no, bpf::kNext); return;
    case 2:
      if (arg.value == 0) a.jump(no);
      else bpf::test_le(a, w, arg.value - 1, bpf::kNext, no);
      return;
    case 3: bpf::test_le(a, w, arg.value, bpf::kNext, no); return;
    case 4: bpf::test_eq(a, w, arg.value, bpf::kNext, no); return;
    case 5: bpf::test_ge(a, w, arg.value, bpf::kNext, no); return;
    case 6:
      if (arg.value == UINT64_MAX) a.jump(no);
      else bpf::test_ge(a, w, arg.value + 1, bpf::kNext, no);
      return;
    default:  // (argument & value) == value_two
      if (arg.value == 0) {
        if (arg.value_two != 0) a.jump(no);
      } else if (arg.value_two & ~arg.value) {
        a.jump(no);
      } else {
        bpf::test_masked(a, w, arg.value, arg.value_two, bpf::kNext, no);
      }
  }
}

void emit_call(bpf::Assembler& a, const CallRules& r, uint32_t otherwise) {
  if (r.always) {
    a.ret(*r.always);
    return;
  }
  for (const Condition& c : r.conditions) {
    bpf::Label next = a.label();
    for (const auto& arg : c.all) emit_arg(a, arg, next);
    a.ret(c.action);
    a.place(next);
  }
  a.ret(otherwise);
}

using Calls = std::vector<std::pair<uint32_t, CallRules>>;

// Halves the list of numbers until one is left.
void emit_search(bpf::Assembler& a, const Calls& calls, size_t from, size_t to, uint32_t otherwise) {
  if (to - from == 1) {
    bpf::Label no = a.label();
    a.jump_eq(calls[from].first, bpf::kNext, no);
    emit_call(a, calls[from].second, otherwise);
    a.place(no);
    a.ret(otherwise);
    return;
  }
  const size_t middle = from + (to - from) / 2;
  bpf::Label high = a.label();
  a.jump_ge(calls[middle].first, high, bpf::kNext);
  emit_search(a, calls, from, middle, otherwise);
  a.place(high);
  emit_search(a, calls, middle, to, otherwise);
}

}  // namespace

Result<Ref<kernel::SeccompFilter>> compile_profile(const base::wire::Seccomp& profile) {
  std::map<std::string_view, uint32_t> numbers;
  for (uint32_t n = 0; n < platform::kMaxCallNumber; n++)
    if (const syscalls::Row* row = syscalls::find_row(n)) numbers.emplace(row->name, n);
  std::map<uint32_t, CallRules> by_number;
  for (const auto& rule : profile.rules) {
    if (rule.action == profile.default_action) continue;
    for (const auto& arg : rule.args)
      if (arg.index > 5 || arg.op < 1 || arg.op > 7) return kEINVAL;
    // An argument that is named twice: either may fit. Otherwise all must.
    bool alternatives = false;
    for (size_t i = 0; i < rule.args.size(); i++)
      for (size_t k = 0; k < i; k++) alternatives |= rule.args[i].index == rule.args[k].index;
    for (const std::string& name : rule.names) {
      auto it = numbers.find(name);
      if (it == numbers.end()) continue;
      CallRules& r = by_number[it->second];
      if (rule.args.empty()) {
        if (!r.always) r.always = rule.action;
      } else if (alternatives) {
        for (const auto& arg : rule.args) r.conditions.push_back({{arg}, rule.action});
      } else {
        r.conditions.push_back({rule.args, rule.action});
      }
    }
  }
  Calls calls(by_number.begin(), by_number.end());
  bpf::Assembler a;
  if (calls.empty()) {
    a.ret(profile.default_action);
  } else {
    a.load(bpf::kNumberOffset);
    emit_search(a, calls, 0, calls.size(), profile.default_action);
  }
  bpf::Assembler::Finished done = TRY(a.finish());
  return kernel::SeccompFilter::create(std::move(done.insns), nullptr, false);
}

}  // namespace sentry::boot
