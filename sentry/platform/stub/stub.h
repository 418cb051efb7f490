// SPDX-License-Identifier: Apache-2.0
// The parts of the blob, to each other. Freestanding: no libc, no writable data, general registers only.
#pragma once

#include "sentry/platform/stub/stub_layout.h"

#pragma GCC visibility push(hidden)

namespace sentry::platform::stub {

// ---- entry.S ----
extern "C" {
void stub_entry();
void stub_answer();
void stub_answered();
void stub_entry_ask();
void stub_restore();
void stub_restore_end();
void stub_kick_entry();
void stub_fault_entry();
[[noreturn]] void stub_trap_entry(const void* fpstate, uint64_t mask);
void stub_sigreturn();
void stub_futex_check();
void stub_ip_futex();
void stub_futex_interrupted();
// Host calls, each from a `syscall` of its own: what it may do there is in seccomp-profiles/stub.json.
long stub_start_call(long nr, long a0 = 0, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0);
long stub_memory_call(long nr, long a0 = 0, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0);
long stub_wait_call(long nr, long a0 = 0, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0);
long stub_ask_call(long nr, long a0 = 0, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0);
long stub_time_call(long nr, long a0 = 0, long a1 = 0, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0);
long stub_app_futex(uint64_t uaddr, uint64_t op, uint64_t val, uint64_t timeout, uint64_t uaddr2, uint64_t val3);
long stub_clone(uint64_t flags, uint64_t stack, uint64_t token);
[[noreturn]] void stub_exit();
[[noreturn]] void stub_born();
long stub_spawn(uint64_t flags, uint64_t stack, uint32_t* clear_tid, void* arg);
[[noreturn]] void stub_switch(uint64_t stack, void* arg);
size_t stub_copy(void* dst, const void* src, size_t n);
size_t stub_zero(void* dst, size_t n);
long stub_copy_string(void* dst, const void* src, size_t limit);
long stub_load32(const void* p);
long stub_store32(void* p, uint32_t v);
long stub_cmpxchg32(void* p, uint32_t expected, uint32_t desired);
void stub_xsave(void* area, uint64_t mask);
long stub_xrstor(const void* area, uint64_t mask);
extern const int32_t stub_fixups[][2];
extern const int32_t stub_fixups_end[][2];

// Called by entry.S; nonzero: return by iretq.
uint32_t stub_on_syscall(Slot* s);
uint32_t stub_on_trap(Slot* s);
uint32_t stub_on_kick(Slot* s);
uint32_t stub_on_fault(Slot* s);
uint32_t stub_on_birth(Slot* s);
[[noreturn]] void zygote_start(const uint64_t* stack);
[[noreturn]] void zygote_finish(void* arg);
[[noreturn]] void zygote_helper(void* arg);
}

// ---- signals.cc ----
// Sets the handlers and the mask of this thread. Returns 0 or -errno.
long install_handlers();
void handle_signal(int sig, const void* info, void* context);

// ---- copy.cc ----
// Copies in what the call's descriptor names.
void copy_arguments(Slot* s, const PackedCall& call);

// ---- ops.cc ----
// Performs one operation. Not for futex, exit and clone's child, which do not come back here.
int64_t perform(Slot* s, Op& op);

inline const ZygotePage& zygote_page() { return *reinterpret_cast<const ZygotePage*>(STUB_ZYGOTE_PAGE); }
inline const volatile ControlPage& control_page() {
  return *reinterpret_cast<const volatile ControlPage*>(STUB_ZONE);
}
inline Doorbell& doorbell() { return *reinterpret_cast<Doorbell*>(STUB_ZONE + 0x1000); }
inline Slot* own_slot() {
  Slot* s;
  asm volatile("mov %%gs:%c1, %0" : "=r"(s) : "i"(SLOT_SELF));
  return s;
}
inline uint64_t read_fs_base() {
  uint64_t v;
  asm volatile("rdfsbase %0" : "=r"(v));
  return v;
}
// Whether [a, a+n) is application memory.
inline bool in_application(uint64_t a, uint64_t n) { return a < STUB_APP_LIMIT && n <= STUB_APP_LIMIT - a; }

}  // namespace sentry::platform::stub
