// SPDX-License-Identifier: Apache-2.0
#include "sentry/patch/code.h"

#include <cstring>

namespace sentry::patch {
namespace {

constexpr std::byte kJmp{0xe9}, kMovEax{0xb8};
constexpr uint32_t kRtSigreturn = 15;

uint32_t word_at(const std::byte* p) {
  uint32_t v;
  memcpy(&v, p, sizeof v);
  return v;
}
void put(std::byte* p, uint32_t v) { memcpy(p, &v, sizeof v); }

template <size_t N>
bool is_syscall(std::span<const std::byte, N> b) {
  return b[kBefore] == std::byte{0x0f} && b[kBefore + 1] == std::byte{0x05};
}

}  // namespace

bool is_mov_site(std::span<const std::byte, kAround> b, uint64_t number) {
  if (!is_syscall(b) || b[1] != kMovEax) return false;
  // With a prefix before it (REX, operand size) it would be another instruction.
  auto before = static_cast<unsigned>(b[0]);
  if ((before & 0xf0) == 0x40 || before == 0x66) return false;
  uint32_t immediate = word_at(&b[2]);
  return immediate == number && immediate != kRtSigreturn;
}

std::optional<uint64_t> pun_reach(std::span<const std::byte, kAround> b) {
  if (!is_syscall(b)) return std::nullopt;
  uint64_t high = 0;
  for (size_t i = 0; i < kAfter; i++) {
    auto v = static_cast<unsigned>(b[kBefore + kSyscallLength + i]);
    if (v == 0xb8 || v == 0x0f) return std::nullopt;  // may begin a site of its own, whose patch would change the displacement
    high |= static_cast<uint64_t>(v) << (8 * (i + 1));
  }
  if (high & 0x80000000) return std::nullopt;
  return high + kMovLength;
}

Sure sure_site(std::span<const std::byte, kAroundSure> b) {
  if (!is_syscall(b)) return Sure::no;
  uint32_t number = word_at(&b[2]);
  if (number < kMaxNumber && is_mov_site(b.first<kAround>(), number)) return Sure::mov;
  // cmp $-4096,%rax; cmp $-4095,%rax
  constexpr std::array<unsigned, 6> cmp{0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff};
  for (size_t i = 0; i < cmp.size(); i++) {
    auto v = static_cast<unsigned>(b[kBefore + kSyscallLength + i]);
    if (v != cmp[i] && !(i == 2 && v == 1)) return Sure::no;
  }
  return Sure::pun;
}

std::array<std::byte, kMovLength> mov_patch(uint64_t site, uint64_t trampoline) {
  std::array<std::byte, kMovLength> out{kJmp};
  put(&out[1], static_cast<uint32_t>(trampoline - site));  // the jump ends where the site begins
  return out;
}

std::array<std::byte, kSyscallLength> pun_patch(uint64_t reach, uint64_t site, uint64_t trampoline) {
  return {kJmp, static_cast<std::byte>(trampoline - site - reach)};
}

std::array<std::byte, kTrampolineMax> trampoline(Form form, uint64_t at, uint64_t site, uint32_t number, uint32_t slot) {
  std::array<std::byte, kTrampolineMax> out{};
  std::byte* p = out.data();
  auto emit = [&](std::initializer_list<unsigned> bytes) {
    for (unsigned b : bytes) *p++ = static_cast<std::byte>(b);
  };
  if (form == Form::mov) {
    emit({0xb8});
    put(p, number);
    p += 4;
  }
  emit({0x48, 0x8d, 0x0d});  // lea rel32(%rip),%rcx
  uint64_t next = at + static_cast<uint64_t>(p - out.data()) + 4;
  put(p, static_cast<uint32_t>(site + kSyscallLength - next));
  p += 4;
  emit({0x65, 0xff, 0x24, 0x25});  // jmp *%gs:disp32
  put(p, slot);
  return out;
}

}  // namespace sentry::patch
