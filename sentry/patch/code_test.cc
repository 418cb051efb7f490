// SPDX-License-Identifier: Apache-2.0
// The bytes of patches, and that they do what they say: the code is run.
#include "sentry/patch/code.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <vector>

namespace sentry::patch {
namespace {

template <size_t N>
std::array<std::byte, N> bytes(const unsigned (&v)[N]) {
  std::array<std::byte, N> out;
  for (size_t i = 0; i < N; i++) out[i] = static_cast<std::byte>(v[i]);
  return out;
}

TEST(MovSite, NumberMustBeTheOneSeen) {
  auto b = bytes({0x90, 0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x90, 0x90});
  EXPECT_TRUE(is_mov_site(b, 110));
  EXPECT_FALSE(is_mov_site(b, 111));
  EXPECT_FALSE(is_mov_site(b, 110 | 1ull << 32));
}
TEST(MovSite, PrefixesMakeItAnotherInstruction) {
  for (unsigned prefix : {0x40u, 0x41u, 0x48u, 0x4fu, 0x66u})
    EXPECT_FALSE(is_mov_site(bytes({prefix, 0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x90, 0x90}), 110)) << prefix;
}
TEST(MovSite, TheSignalReturnIsKept) {
  EXPECT_FALSE(is_mov_site(bytes({0x90, 0xb8, 15, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x1f, 0x80}), 15));
}
TEST(MovSite, OtherInstructionsAreNone) {
  EXPECT_FALSE(is_mov_site(bytes({0x90, 0xb9, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x90, 0x90}), 110));  // ecx
  EXPECT_FALSE(is_mov_site(bytes({0x90, 0xb8, 0x6e, 0, 0, 0, 0x0f, 0x04, 0xc3, 0x90, 0x90}), 110));
}

TEST(Pun, ReachIsTheNextInstructionsBytes) {
  EXPECT_EQ(pun_reach(bytes({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00})), 0x3d4800u + 5);
  EXPECT_EQ(pun_reach(bytes({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x01})), 0x13d4800u + 5);
  EXPECT_EQ(pun_reach(bytes({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x89, 0xc3})), std::nullopt);  // backwards
  EXPECT_EQ(pun_reach(bytes({0, 0, 0, 0, 0x31, 0xc0, 0xcd, 0x80, 0x48, 0x3d, 0x00})), std::nullopt);
}
TEST(Pun, WhatMayBePatchedItselfIsNoDisplacement) {
  EXPECT_EQ(pun_reach(bytes({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0xb8, 0x01, 0x00})), std::nullopt);
  EXPECT_EQ(pun_reach(bytes({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0x0f, 0x05, 0x00})), std::nullopt);
}

TEST(SureSite, LongSequencesOnly) {
  auto sure = [](const unsigned (&v)[14]) { return sure_site(bytes(v)); };
  EXPECT_EQ(sure({0x90, 0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3, 0, 0, 0, 0, 0}), Sure::mov);
  EXPECT_EQ(sure({0x90, 0xb8, 0, 2, 0, 0, 0x0f, 0x05, 0xc3, 0, 0, 0, 0, 0}), Sure::no);  // no such number
  EXPECT_EQ(sure({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff}), Sure::pun);
  EXPECT_EQ(sure({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff}), Sure::pun);
  EXPECT_EQ(sure({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x02, 0xf0, 0xff, 0xff}), Sure::no);
  EXPECT_EQ(sure({0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0xc3, 0, 0, 0, 0, 0}), Sure::no);
  // Both: the mov, which leaves the instruction where it was.
  EXPECT_EQ(sure({0x90, 0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff}), Sure::mov);
}

// Code in memory that is run: `at` is its start. GS of a test program is 0, so the jump at the trampoline's end is replaced.
class Run : public ::testing::Test {
 protected:
  static constexpr size_t kSize = 8 << 20;
  void SetUp() override {
    void* p = mmap(nullptr, kSize, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(p, MAP_FAILED);
    code_ = static_cast<std::byte*>(p);
  }
  void TearDown() override { munmap(code_, kSize); }
  void put(size_t at, std::span<const std::byte> b) { memcpy(code_ + at, b.data(), b.size()); }
  // The trampoline, which answers rcx - its site's address + rax << 32 instead of entering the stub.
  void put_trampoline(Form form, size_t at, size_t site, uint32_t number) {
    auto t = trampoline(form, at, site, number, 112);
    size_t n = trampoline_length(form);
    auto tail = bytes({0x65, 0xff, 0x24, 0x25, 112, 0, 0, 0});
    EXPECT_EQ(memcmp(&t[n - 8], tail.data(), 8), 0);
    put(at, std::span(t).first(n - 8));
    put(at + n - 8, bytes({0x48, 0xc1, 0xe0, 0x20, 0x48, 0x01, 0xc8, 0xc3}));  // shl $32,%rax; add %rcx,%rax; ret
  }
  uint64_t call(size_t at) { return reinterpret_cast<uint64_t (*)()>(code_ + at)(); }
  uint64_t base() const { return reinterpret_cast<uint64_t>(code_); }
  std::byte* code_ = nullptr;
};

TEST_F(Run, MovFormLoadsTheNumberAndTheReturnAddress) {
  for (size_t site : {4096u + 5u, 4096u + 64u, 8190u}) {
    size_t at = 3 << 20;
    put(site - 5, mov_patch(site, at));
    put_trampoline(Form::mov, at, site, 110);
    EXPECT_EQ(call(site - 5), base() + site + 2 + (110ull << 32));
  }
}

TEST_F(Run, PunFormKeepsTheNextInstruction) {
  size_t site = 64 * 1024 + 61;
  auto around = bytes({0x90, 0x90, 0x90, 0x90, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00});
  for (unsigned choice : {0u, 1u, 128u, 255u}) {
    put(site - 6, around);
    put(site + 5, bytes({0xf0, 0xff, 0xff, 0xc3}));  // the rest of cmp; ret
    uint64_t reach = *pun_reach(around);
    size_t at = site + reach + choice;
    put(site, pun_patch(reach, site, at));
    put_trampoline(Form::pun, at, site, 0);
    EXPECT_EQ(memcmp(code_ + site + 2, &around[8], 3), 0);
    EXPECT_EQ(call(site - 2), base() + site + 2) << choice;  // through xor %eax,%eax
  }
}

}  // namespace
}  // namespace sentry::patch
