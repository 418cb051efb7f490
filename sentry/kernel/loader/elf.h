// SPDX-License-Identifier: Apache-2.0
// ELF files as data: from header bytes, which are hostile, to a checked plan of what to map. Pure functions.
// Linux: fs/binfmt_elf.c; man 5 elf.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "sentry/base.h"

namespace sentry::kernel {

// Where the program headers are.
struct ElfHeader {
  bool position_independent = false;  // ET_DYN
  uint64_t entry = 0;
  uint64_t phdr_offset = 0;
  uint16_t phdr_count = 0;
  size_t phdr_bytes() const;
};

// One PT_LOAD, in addresses before the load bias. The file part and the zero part are page ranges; either may be empty.
struct ElfSegment {
  uint64_t file_start = 0, file_end = 0;  // mapped from the file; file_end is rounded up
  int64_t file_offset = 0;                // of file_start
  int prot = 0;
  uint64_t zero_from = 0, zero_to = 0;    // bytes of the last file page that must be zero (equal: none)
  uint64_t anon_start = 0, anon_end = 0;  // pages of zeroes after it
  int anon_prot = 0;
};

struct ElfPlan {
  ElfHeader header;
  std::vector<ElfSegment> segments;
  uint64_t low = 0, high = 0;        // page range of all segments
  uint64_t align = 4096;             // the largest p_align that is a power of two
  uint64_t end = 0;                  // highest byte of any segment: where brk starts
  uint64_t code_start = 0, code_end = 0;
  uint64_t phdr_address = 0;         // of the program headers in memory; 0: in no segment
  bool executable_stack = false;
  struct Interpreter {
    uint64_t offset;
    size_t size;                     // with its NUL, 2 to 4096
  };
  std::optional<Interpreter> interpreter;
};

// The first bytes of a file (64 are needed). ENOEXEC: not an ELF program of this machine.
Result<ElfHeader> parse_elf_header(std::span<const std::byte> head);
// The program headers, exactly header.phdr_bytes() of them. ENOEXEC, EINVAL, ENOMEM.
Result<ElfPlan> parse_elf_segments(const ElfHeader& header, std::span<const std::byte> phdrs);

}  // namespace sentry::kernel
