// SPDX-License-Identifier: Apache-2.0
// Parsing of ELF headers.
#include "sentry/kernel/loader/elf.h"

#include <elf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "sentry/platform/platform.h"

namespace sentry::kernel {

namespace {

constexpr uint64_t kPage = platform::kPageSize;
constexpr size_t kMaxPhdrBytes = 65536;  // Linux: load_elf_phdrs
constexpr size_t kMaxInterpreter = 4096;
constexpr uint64_t kMaxAlign = 1ull << 40;

constexpr uint64_t down(uint64_t v) { return v & ~(kPage - 1); }
constexpr uint64_t up(uint64_t v) { return (v + kPage - 1) & ~(kPage - 1); }

int prot_of(uint32_t flags) {
  return (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) | (flags & PF_X ? PROT_EXEC : 0);
}

Result<ElfSegment> parse_load(const Elf64_Phdr& p) {
  // Linux: "Check to see if the section's size will overflow the allowed task size"; EINVAL there too.
  if (p.p_filesz > p.p_memsz || p.p_memsz > platform::kAppLimit || p.p_vaddr > platform::kAppLimit - p.p_memsz) return kEINVAL;
  ElfSegment s;
  s.prot = prot_of(p.p_flags);
  uint64_t in_page = p.p_vaddr & (kPage - 1);
  uint64_t zero = down(p.p_vaddr);  // where zeroes begin
  if (p.p_filesz != 0) {
    if (p.p_offset < in_page || p.p_offset > static_cast<uint64_t>(INT64_MAX) - platform::kAppLimit) return kEINVAL;
    uint64_t offset = p.p_offset - in_page;
    if (offset % kPage != 0) return kEINVAL;
    s.file_start = down(p.p_vaddr);
    s.file_end = up(p.p_vaddr + p.p_filesz);
    s.file_offset = static_cast<int64_t>(offset);
    zero = p.p_vaddr + p.p_filesz;
  }
  if (p.p_memsz > p.p_filesz) {
    // A page of a segment that is not writable keeps what the file has there, as in Linux.
    if (p.p_filesz != 0 && (s.prot & PROT_WRITE)) {
      s.zero_from = zero;
      s.zero_to = up(zero);
    }
    s.anon_start = up(zero);
    s.anon_end = std::max(s.anon_start, up(p.p_vaddr + p.p_memsz));
    s.anon_prot = PROT_READ | PROT_WRITE | (s.prot & PROT_EXEC);
  }
  return s;
}

}  // namespace

size_t ElfHeader::phdr_bytes() const { return phdr_count * sizeof(Elf64_Phdr); }

Result<ElfHeader> parse_elf_header(std::span<const std::byte> head) {
  Elf64_Ehdr e;
  if (head.size() < sizeof e) return kENOEXEC;
  memcpy(&e, head.data(), sizeof e);
  if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0) return kENOEXEC;
  // Linux looks at the machine, not at the class; an x32 file has another class and another layout.
  if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_machine != EM_X86_64) return kENOEXEC;
  if (e.e_type != ET_EXEC && e.e_type != ET_DYN) return kENOEXEC;
  if (e.e_phentsize != sizeof(Elf64_Phdr)) return kENOEXEC;
  ElfHeader h;
  h.position_independent = e.e_type == ET_DYN;
  h.entry = e.e_entry;
  h.phdr_offset = e.e_phoff;
  h.phdr_count = e.e_phnum;
  if (h.phdr_count == 0 || h.phdr_bytes() > kMaxPhdrBytes) return kENOEXEC;
  if (h.phdr_offset > static_cast<uint64_t>(INT64_MAX) - kMaxPhdrBytes) return kENOEXEC;
  return h;
}

Result<ElfPlan> parse_elf_segments(const ElfHeader& header, std::span<const std::byte> phdrs) {
  if (phdrs.size() != header.phdr_bytes()) return kENOEXEC;
  ElfPlan plan;
  plan.header = header;
  plan.low = UINT64_MAX;
  plan.code_start = UINT64_MAX;
  for (size_t i = 0; i < header.phdr_count; i++) {
    Elf64_Phdr p;
    memcpy(&p, phdrs.data() + i * sizeof p, sizeof p);
    switch (p.p_type) {
      case PT_INTERP:
        if (plan.interpreter) break;  // the first one counts
        if (p.p_filesz > kMaxInterpreter || p.p_filesz < 2) return kENOEXEC;
        if (p.p_offset > static_cast<uint64_t>(INT64_MAX) - kMaxInterpreter) return kEINVAL;
        plan.interpreter = ElfPlan::Interpreter{p.p_offset, static_cast<size_t>(p.p_filesz)};
        break;
      case PT_GNU_STACK:
        plan.executable_stack = p.p_flags & PF_X;
        break;
      case PT_LOAD: {
        if (p.p_memsz == 0) break;
        ElfSegment s = TRY(parse_load(p));
        plan.low = std::min(plan.low, down(p.p_vaddr));
        plan.high = std::max(plan.high, up(p.p_vaddr + p.p_memsz));
        plan.end = std::max(plan.end, p.p_vaddr + p.p_memsz);
        if (p.p_flags & PF_X) {
          plan.code_start = std::min(plan.code_start, p.p_vaddr);
          plan.code_end = std::max(plan.code_end, p.p_vaddr + p.p_filesz);
        }
        if (header.phdr_offset >= p.p_offset && header.phdr_offset - p.p_offset < p.p_filesz && plan.phdr_address == 0)
          plan.phdr_address = header.phdr_offset - p.p_offset + p.p_vaddr;
        if (p.p_align > plan.align && p.p_align <= kMaxAlign && (p.p_align & (p.p_align - 1)) == 0) plan.align = p.p_align;
        plan.segments.push_back(s);
        break;
      }
      default:
        break;
    }
  }
  if (plan.segments.empty()) return kEINVAL;
  if (plan.code_end == 0) plan.code_start = 0;
  return plan;
}

}  // namespace sentry::kernel
