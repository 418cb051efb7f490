// SPDX-License-Identifier: Apache-2.0
// What a generated profile header (gen/seccomp-profiles/<name>.h) is made of. Usable in freestanding code: the
// filter itself has no pointers, and rules that nobody names take no space.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>

namespace seccomp_profiles {

struct Rule {
  const char* call;
  std::uint32_t number;
  std::uint32_t action;  // SECCOMP_RET_*
  const char* when;      // the conditions as text; empty: always
  const char* why;
  std::uint16_t at;      // index of its return instruction
};

// A syscall instruction that rules name; ip as the kernel reports it, behind the instruction.
struct CallSite {
  const char* name;
  std::uint64_t ip;
};

struct Program {
  const char* name;
  const sock_filter* filter;
  std::uint16_t length;
  std::uint16_t rule_count;
  const Rule* rules;  // in the order of the profile
  std::uint32_t default_action;
  const CallSite* sites = nullptr;
  std::uint16_t site_count = 0;  // 0: the profile tests no exact addresses
};

}  // namespace seccomp_profiles
