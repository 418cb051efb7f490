// SPDX-License-Identifier: Apache-2.0
// The registers of an application thread, in the order of struct user_regs_struct (sys/user.h), so that ptrace and
// core dumps copy them as they are.
#pragma once

#include <cstdint>

namespace sentry::arch {

struct Registers {
  uint64_t r15 = 0, r14 = 0, r13 = 0, r12 = 0, rbp = 0, rbx = 0, r11 = 0, r10 = 0, r9 = 0, r8 = 0, rax = 0, rcx = 0,
           rdx = 0, rsi = 0, rdi = 0;
  uint64_t orig_rax = ~0ull;  // number of the call in progress, or -1
  uint64_t rip = 0, cs = 0x33, eflags = 0x202, rsp = 0, ss = 0x2b;
  uint64_t fs_base = 0, gs_base = 0, ds = 0, es = 0, fs = 0, gs = 0;
};
static_assert(sizeof(Registers) == 27 * 8);

// EFLAGS bits that an application may set (arch/x86/kernel/signal.c, FIX_EFLAGS).
inline constexpr uint64_t kUserEflags = 0x50dd5;

}  // namespace sentry::arch
