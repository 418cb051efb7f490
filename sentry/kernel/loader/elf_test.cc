// SPDX-License-Identifier: Apache-2.0
// ELF headers: what is taken, what is refused, and that nothing hostile gets past the bounds.
#include "sentry/kernel/loader/elf.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <random>
#include <string>

#include "sentry/platform/platform.h"

namespace sentry::kernel {
namespace {

std::span<const std::byte> bytes(const std::string& s) { return std::as_bytes(std::span(s.data(), s.size())); }

struct Builder {
  Elf64_Ehdr e{};
  std::vector<Elf64_Phdr> p;
  Builder() {
    memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_type = ET_EXEC;
    e.e_machine = EM_X86_64;
    e.e_phentsize = sizeof(Elf64_Phdr);
    e.e_phoff = sizeof e;
    e.e_entry = 0x401000;
  }
  Elf64_Phdr& load(uint64_t vaddr, uint64_t offset, uint64_t filesz, uint64_t memsz, uint32_t flags) {
    Elf64_Phdr h{};
    h.p_type = PT_LOAD;
    h.p_vaddr = vaddr;
    h.p_offset = offset;
    h.p_filesz = filesz;
    h.p_memsz = memsz;
    h.p_flags = flags;
    h.p_align = 4096;
    p.push_back(h);
    return p.back();
  }
  Result<ElfPlan> plan() {
    e.e_phnum = static_cast<uint16_t>(p.size());
    std::string head(reinterpret_cast<char*>(&e), sizeof e);
    ElfHeader h = TRY(parse_elf_header(bytes(head)));
    std::string phdrs(reinterpret_cast<char*>(p.data()), p.size() * sizeof(Elf64_Phdr));
    return parse_elf_segments(h, bytes(phdrs));
  }
};

#define EXPECT_ERRNO(e, expr)                       \
  do {                                              \
    auto result_ = (expr);                          \
    ASSERT_FALSE(result_.ok());                     \
    EXPECT_EQ(result_.error().value(), e);          \
  } while (0)

TEST(Elf, PlansTextDataAndBss) {
  Builder b;
  b.load(0x400000, 0, 0x234, 0x234, PF_R);
  b.load(0x401000, 0x1000, 0x555, 0x555, PF_R | PF_X);
  b.load(0x403e10, 0x2e10, 0x220, 0x3000, PF_R | PF_W);
  ElfPlan plan = b.plan().value();
  EXPECT_EQ(plan.low, 0x400000u);
  EXPECT_EQ(plan.high, 0x407000u);
  EXPECT_EQ(plan.end, 0x406e10u);
  EXPECT_EQ(plan.phdr_address, 0x400040u);
  EXPECT_EQ(plan.code_start, 0x401000u);
  EXPECT_EQ(plan.code_end, 0x401555u);
  ASSERT_EQ(plan.segments.size(), 3u);
  const ElfSegment& s = plan.segments[2];
  EXPECT_EQ(s.file_start, 0x403000u);
  EXPECT_EQ(s.file_end, 0x405000u);
  EXPECT_EQ(s.file_offset, 0x2000);
  EXPECT_EQ(s.zero_from, 0x404030u);
  EXPECT_EQ(s.zero_to, 0x405000u);
  EXPECT_EQ(s.anon_start, 0x405000u);
  EXPECT_EQ(s.anon_end, 0x407000u);
  EXPECT_EQ(s.prot, PROT_READ | PROT_WRITE);
  EXPECT_FALSE(plan.executable_stack);
  EXPECT_FALSE(plan.interpreter.has_value());
}

TEST(Elf, BssWithoutFileBytesIsAnonymous) {
  Builder b;
  b.load(0x400010, 0x10, 0, 0x1000, PF_R | PF_W);
  ElfPlan plan = b.plan().value();
  EXPECT_EQ(plan.segments[0].file_start, plan.segments[0].file_end);
  EXPECT_EQ(plan.segments[0].anon_start, 0x400000u);
  EXPECT_EQ(plan.segments[0].anon_end, 0x402000u);
  EXPECT_EQ(plan.segments[0].zero_from, plan.segments[0].zero_to);
}

TEST(Elf, TheTailOfAReadOnlySegmentKeepsTheFile) {
  Builder b;
  b.load(0x400000, 0, 0x100, 0x2000, PF_R);
  ElfPlan plan = b.plan().value();
  EXPECT_EQ(plan.segments[0].zero_from, plan.segments[0].zero_to);
  EXPECT_EQ(plan.segments[0].anon_prot, PROT_READ | PROT_WRITE);
}

TEST(Elf, RefusesWhatIsNotAProgramOfThisMachine) {
  auto broken = [](auto change) {
    Builder b;
    b.load(0x400000, 0, 0x100, 0x100, PF_R);
    change(b);
    auto r = b.plan();
    return r.ok() ? 0 : r.error().value();
  };
  EXPECT_EQ(broken([](Builder&) {}), 0);
  EXPECT_EQ(broken([](Builder& b) { b.e.e_ident[1] = 'F'; }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.e.e_ident[EI_CLASS] = ELFCLASS32; }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.e.e_machine = EM_AARCH64; }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.e.e_machine = EM_386; }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.e.e_type = ET_REL; }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.e.e_type = ET_CORE; }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.e.e_phentsize = 32; }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.e.e_phoff = ~0ull; }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.p.clear(); }), ENOEXEC);
  EXPECT_EQ(broken([](Builder& b) { b.p.resize(1171); }), ENOEXEC);  // 65,576 bytes
  EXPECT_EQ(broken([](Builder& b) { b.p[0].p_type = PT_NOTE; }), EINVAL);
  EXPECT_ERRNO(ENOEXEC, parse_elf_header(bytes(std::string(63, '\x7f'))));
  EXPECT_ERRNO(ENOEXEC, parse_elf_header({}));
}

TEST(Elf, RefusesSegmentsOutOfBounds) {
  auto with = [](uint64_t vaddr, uint64_t offset, uint64_t filesz, uint64_t memsz) {
    Builder b;
    b.load(vaddr, offset, filesz, memsz, PF_R | PF_W);
    auto r = b.plan();
    return r.ok() ? 0 : r.error().value();
  };
  EXPECT_EQ(with(0x400000, 0, 0x2000, 0x1000), EINVAL);
  EXPECT_EQ(with(0x400000, 0, 0, ~0ull), EINVAL);
  EXPECT_EQ(with(~0ull - 0x1000, 0, 0x100, 0x100), EINVAL);
  EXPECT_EQ(with(~0ull & ~0xfffull, 0, 0x1000, 0x1000), EINVAL);
  EXPECT_EQ(with(platform::kAppLimit - 0x1000, 0, 0x1000, 0x1000), 0);
  EXPECT_EQ(with(platform::kAppLimit - 0x1000, 0, 0x1000, 0x1001), EINVAL);
  EXPECT_EQ(with(0x7fff00000000, 0, 0x1000, 0x1000), EINVAL);
  EXPECT_EQ(with(0x400100, 0x100, 0x10, 0x10), 0);
  EXPECT_EQ(with(0x400100, 0x80, 0x10, 0x10), EINVAL);   // before the start of the file
  EXPECT_EQ(with(0x400100, 0x1180, 0x10, 0x10), EINVAL); // not congruent
  EXPECT_EQ(with(0x400000, ~0xfffull, 0x10, 0x10), EINVAL);
}

TEST(Elf, TheFirstInterpreterCountsAndIsBounded) {
  Builder b;
  b.load(0, 0, 0x1000, 0x1000, PF_R);
  b.e.e_type = ET_DYN;
  Elf64_Phdr i{};
  i.p_type = PT_INTERP;
  i.p_offset = 0x238;
  i.p_filesz = 28;
  b.p.push_back(i);
  i.p_filesz = 5000;
  b.p.push_back(i);
  ElfPlan plan = b.plan().value();
  EXPECT_TRUE(plan.header.position_independent);
  EXPECT_EQ(plan.interpreter->offset, 0x238u);
  EXPECT_EQ(plan.interpreter->size, 28u);
  b.p[1].p_filesz = 1;
  EXPECT_ERRNO(ENOEXEC, b.plan());
  b.p[1].p_filesz = 4097;
  EXPECT_ERRNO(ENOEXEC, b.plan());
  b.p[1].p_filesz = 28;
  b.p[1].p_offset = ~0ull;
  EXPECT_ERRNO(EINVAL, b.plan());
}

TEST(Elf, StackAndAlignment) {
  Builder b;
  b.load(0, 0, 0x1000, 0x1000, PF_R).p_align = 0x200000;
  b.load(0x200000, 0, 0x1000, 0x1000, PF_R | PF_X).p_align = 0x300000;  // no power of two: ignored
  Elf64_Phdr s{};
  s.p_type = PT_GNU_STACK;
  s.p_flags = PF_R | PF_W | PF_X;
  b.p.push_back(s);
  ElfPlan plan = b.plan().value();
  EXPECT_TRUE(plan.executable_stack);
  EXPECT_EQ(plan.align, 0x200000u);
}

// Whatever the bytes: either refused, or every range lies in order below the limit.
TEST(Elf, RandomHeadersStayInBounds) {
  std::mt19937_64 rng(3);
  Builder good;
  good.load(0x400000, 0, 0x3000, 0x3000, PF_R | PF_X);
  good.load(0x404000, 0x3000, 0x100, 0x5000, PF_R | PF_W);
  int accepted = 0;
  for (int step = 0; step < 200000; step++) {
    Builder b = good;
    for (unsigned n = 1 + rng() % 4; n > 0; n--) {
      Elf64_Phdr& h = b.p[rng() % b.p.size()];
      uint64_t v = rng() % 3 ? rng() >> (rng() % 64) : ~0ull - (rng() % 8192);
      if (rng() % 3 == 0) v &= ~0xfffull;
      uint64_t* fields[] = {&h.p_vaddr, &h.p_offset, &h.p_filesz, &h.p_memsz, &h.p_align, &b.e.e_phoff};
      *fields[rng() % 6] = v;
    }
    auto r = b.plan();
    if (!r.ok()) continue;
    accepted++;
    const ElfPlan& p = r.value();
    ASSERT_LT(p.low, p.high);
    ASSERT_LE(p.high, platform::kAppLimit);
    ASSERT_EQ(p.align & (p.align - 1), 0u);
    for (const ElfSegment& s : p.segments) {
      ASSERT_LE(s.file_start, s.file_end);
      ASSERT_LE(s.anon_start, s.anon_end);
      ASSERT_LE(s.zero_from, s.zero_to);
      ASSERT_LE(s.zero_to - s.zero_from, 4096u);
      ASSERT_GE(s.file_offset, 0);
      ASSERT_EQ((s.file_start | s.file_end | s.anon_start | s.anon_end | static_cast<uint64_t>(s.file_offset)) & 4095, 0u);
      if (s.file_end > s.file_start) {
        ASSERT_GE(s.file_start, p.low);
        ASSERT_LE(s.file_end, p.high);
      }
      if (s.anon_end > s.anon_start) {
        ASSERT_GE(s.anon_start, p.low);
        ASSERT_LE(s.anon_end, p.high);
      }
    }
  }
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace sentry::kernel
