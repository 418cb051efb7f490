// SPDX-License-Identifier: Apache-2.0
// A profile as data: read from JSON, checked, with every name resolved. The format is described in
// seccomp-profiles/README.md.
#pragma once

#include <linux/seccomp.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "seccomp-profiles/compiler/condition.h"

namespace seccomp_profiles::compiler {

// What is wrong with a profile: file, rule, and what to do about it.
struct ProfileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Constant {
  std::string name;
  std::uint64_t value;
  std::string why;
};

struct Rule {
  std::string call;
  std::uint32_t number = 0;
  std::uint32_t action = 0;  // SECCOMP_RET_*
  std::vector<Condition> when;
  std::vector<std::uint64_t> at;  // instruction pointers, sorted; empty: any that the profile's sites allow
  std::string why;
  std::string label;  // "rule 7 (mmap)"
  bool matches(const seccomp_data& d) const;
};

// A named syscall instruction. ip is what the kernel reports: the address behind the instruction.
struct Site {
  std::string name;
  std::uint64_t ip;
};

// Which instruction pointers may call at all; others get the default action. A range, or exactly those that rules name.
struct CallSites {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::vector<Site> exact;  // by address
  bool contains(std::uint64_t ip) const;
};

struct Profile {
  std::string name;  // of the program: file name, and "_variant" if it has variants
  std::string why;
  std::vector<Constant> constants;
  std::uint32_t wrong_arch = 0;
  std::uint32_t default_action = 0;
  std::optional<CallSites> sites;
  std::vector<std::uint32_t> hot;  // numbers tested first, in this order
  std::vector<Rule> rules;

  // What the profile says about a call, without any BPF: the reference for tests.
  std::uint32_t action_for(const seccomp_data& d) const;
};

struct ParseOptions {
  std::string path;     // for messages
  std::string name;     // of the program
  std::string variant;  // empty: the profile has none
  // Lines "name 0xaddress" of syscall instructions: every rule then holds at those alone that its "at" names.
  std::optional<std::string> ip_symbols;
};

// Throws ProfileError.
Profile parse_profile(const std::string& json, const ParseOptions& options);

}  // namespace seccomp_profiles::compiler
