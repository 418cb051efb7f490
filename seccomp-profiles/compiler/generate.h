// SPDX-License-Identifier: Apache-2.0
// From a checked profile to a BPF program, a C++ header, and a listing for people.
#pragma once

#include <string>
#include <vector>

#include "base/bpf/program.h"
#include "seccomp-profiles/compiler/profile.h"

namespace seccomp_profiles::compiler {

struct Compiled {
  std::vector<base::bpf::Insn> filter;
  std::vector<std::uint32_t> return_of;  // by rule: index of its return instruction
};

// Throws ProfileError if the program is longer than the kernel takes.
Compiled compile(const Profile& profile);
std::string header_text(const Profile& profile, const Compiled& program, const std::string& source);
std::string listing_text(const Profile& profile, const Compiled& program);

}  // namespace seccomp_profiles::compiler
