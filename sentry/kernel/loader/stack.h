// SPDX-License-Identifier: Apache-2.0
// The first stack of a program: argc, argv, envp, the auxiliary vector and what they point to. Pure.
// Linux: create_elf_tables(); the x86-64 psABI, "Initial Stack and Register State".
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "sentry/base.h"

namespace sentry::kernel {

struct StackInput {
  uint64_t top = 0;                 // page aligned end of the stack
  const std::vector<std::string>* args = nullptr;
  const std::vector<std::string>* env = nullptr;
  const std::string* filename = nullptr;
  std::array<uint64_t, 2> random{}; // AT_RANDOM
  uint64_t jitter = 0;              // below 8192: moves the stack pointer down
  // AT_* that are known before; AT_RANDOM, AT_EXECFN and AT_PLATFORM are added, then AT_NULL.
  std::vector<std::pair<uint64_t, uint64_t>> auxv;
};

struct StackImage {
  uint64_t stack_pointer = 0;       // bytes begin here and end at top
  std::vector<std::byte> bytes;
  uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
  std::vector<uint64_t> auxv;       // as it is in memory
};

// E2BIG: a string longer than kMaxArgString, or more than limit bytes of strings and pointers.
Result<StackImage> build_stack(const StackInput& in, uint64_t limit);

}  // namespace sentry::kernel
