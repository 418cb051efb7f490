// SPDX-License-Identifier: Apache-2.0
// What every file of base/bpf shares: the kernel's instruction type and where a seccomp filter finds the
// fields of struct seccomp_data. x86-64 only: little endian, so the low half of a word comes first.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace base::bpf {

using Insn = sock_filter;
using ProgramView = std::span<const Insn>;

// The kernel refuses longer programs (BPF_MAXINSNS).
inline constexpr std::size_t kMaxInsns = 4096;
inline constexpr unsigned kScratchSlots = 16;
inline constexpr unsigned kArgCount = 6;

inline constexpr std::uint32_t kNumberOffset = offsetof(seccomp_data, nr);
inline constexpr std::uint32_t kArchOffset = offsetof(seccomp_data, arch);

// A 64-bit field of seccomp_data, which a filter can only load half by half.
struct Word {
  std::uint32_t offset;
  constexpr std::uint32_t low() const { return offset; }
  constexpr std::uint32_t high() const { return offset + 4; }
};
constexpr Word argument(unsigned n) {
  return Word{static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8 * n)};
}
inline constexpr Word kInstructionPointer{offsetof(seccomp_data, instruction_pointer)};

constexpr std::uint32_t high_half(std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); }
constexpr std::uint32_t low_half(std::uint64_t v) { return static_cast<std::uint32_t>(v); }

}  // namespace base::bpf
