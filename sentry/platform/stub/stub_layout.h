// SPDX-License-Identifier: Apache-2.0
// What the sentry and the stub's blob agree on: addresses, the slot of a thread, operations. Read by assembler too.
// The stub may write every byte of a slot, so nothing in it is ever evidence for the sentry.
#pragma once

#define STUB_TEXT 0x7fff00000000
#define STUB_TEXT_LIMIT 0x10000          // the filter's range: low half of the instruction pointer below this
#define STUB_ZYGOTE_PAGE 0x7fff00100000  // sealed memfd, read-only, the same in all stubs of a zygote
#define STUB_VDSO_AREA 0x7fff00200000
#define STUB_ZONE 0x7fff10000000
#define STUB_ZONE_SIZE 0x80000000
#define STUB_APP_LIMIT 0x7ffe00000000

#define STUB_SLOT_SIZE 0x20000           // slot i lies at STUB_ZONE + (i + 1) * STUB_SLOT_SIZE
#define STUB_OPS_OFFSET 0x400
#define STUB_STACK_TOP 0x4000            // grows down to the end of the header
#define STUB_ALTSTACK_OFFSET 0x4000
#define STUB_ALTSTACK_SIZE 0x8000
#define STUB_XSAVE_OFFSET 0xc000
#define STUB_XSAVE_SIZE 0x4000
#define STUB_DATA_OFFSET 0x10000
#define STUB_DATA_SIZE 0x10000

#define STUB_KNOCK 400                   // the number that only wakes the sentry
#define STUB_CONTROL_FD 3                // where a fresh child finds its control memfd
#define STUB_KICK_SIGNAL 10              // SIGUSR1

// Offsets in a slot that the assembler uses.
#define SLOT_STATE 0
#define SLOT_SELF 64
#define SLOT_STACK 72
#define SLOT_KICKED 80
#define SLOT_ENTRY 112
#define SLOT_REGS 128
#define REGS_R15 (SLOT_REGS + 0)
#define REGS_R14 (SLOT_REGS + 8)
#define REGS_R13 (SLOT_REGS + 16)
#define REGS_R12 (SLOT_REGS + 24)
#define REGS_RBP (SLOT_REGS + 32)
#define REGS_RBX (SLOT_REGS + 40)
#define REGS_R11 (SLOT_REGS + 48)
#define REGS_R10 (SLOT_REGS + 56)
#define REGS_R9 (SLOT_REGS + 64)
#define REGS_R8 (SLOT_REGS + 72)
#define REGS_RAX (SLOT_REGS + 80)
#define REGS_RCX (SLOT_REGS + 88)
#define REGS_RDX (SLOT_REGS + 96)
#define REGS_RSI (SLOT_REGS + 104)
#define REGS_RDI (SLOT_REGS + 112)
#define REGS_ORIG_RAX (SLOT_REGS + 120)
#define REGS_RIP (SLOT_REGS + 128)
#define REGS_EFLAGS (SLOT_REGS + 144)
#define REGS_RSP (SLOT_REGS + 152)
#define REGS_FS_BASE (SLOT_REGS + 168)
#define SLOT_ANSWERS 448
#define SLOT_ALTSTACK 0xc00              // stack_t for sigaltstack(2) of a fresh thread
#define STUB_HAVE_MSEAL 8716             // in the zygote page
#define STUB_MAX_CALLS 512
#define STUB_ANSWER_SHIFT 4              // of the flags in the zygote page: which answer the call has
#define STUB_ANSWER_BIT 32               // of an answer: its low half is what the call returns

#ifndef __ASSEMBLER__
#include <cstddef>
#include <cstdint>

#include "sentry/arch/regs.h"

namespace sentry::platform::stub {

// State word: the stub writes requests, the sentry writes replies.
enum : uint32_t {
  kStateMask = 0xff,
  kRequest = 1,  // | RequestKind << 8 | detail << 16
  kReply = 2,    // | number of operations << 8 | ReplyFlags << 16
};
enum class RequestKind : uint8_t {
  syscall,  // detail 1: it came through SIGSYS
  fault,
  kick,  // detail 1: a host futex call was interrupted
  ask,   // operations done; detail: how many were tried
};
enum ReplyFlags : uint32_t {
  kResume = 1,   // let the application run after the operations; else ask again
  kSetRax = 2,   // the result word becomes rax
  kLoadFs = 4,   // load FS base from the registers
  kIret = 8,     // return by iretq (single step)
  kRest = 16,    // the next answer will not come soon: do not spin for it
};

enum class OpCode : uint16_t {
  none,
  copy_out,     // application a0 <- slot offset a1, a2 bytes; result: bytes copied
  inline_out,   // application a0 <- a2..a5, a1 bytes (at most 32); result: bytes copied
  copy_in,      // slot offset a1 <- application a0, a2 bytes; result: bytes copied
  copy_string,  // as copy_in up to a NUL; result: length without it, -ENAMETOOLONG or -EFAULT
  zero_out,     // application a0, a2 zero bytes; result: bytes written
  load32,
  cmpxchg32,    // a0 address, a1 expected, a2 desired; result: old value
  host_call,    // aux: number; a0..a5 arguments
  xsave, xrstor,
  futex,        // a0..a5 as futex(2); ends the list: its result is rax
  clone,        // a0 flags, a1 stack, a2 token
  exit_thread,  // a0: address to clear and wake, or 0; a1: 1 to park for ever
  knock,        // a0: token
  cpu_time,     // result: own CPU time in ns
};
// A short copy or a negative result fails. kMust: a failure asks at the end instead of resuming; kStop: it also ends the
// list; kStamp: `result` came in as the stamp to store afterwards.
enum OpFlags : uint16_t { kMust = 1, kStop = 2, kStamp = 4 };

struct Op {
  OpCode code;
  uint16_t flags;
  uint32_t aux;
  uint64_t a[6];
  int64_t result;
};
static_assert(sizeof(Op) == 64);
inline constexpr unsigned kMaxOps = 32;

struct FaultInfo {
  int32_t signo, code;
  uint64_t address, ip, trap_number, error_code;
};
struct CopiedIn {
  uint64_t address;
  uint32_t offset, length;  // offset in the slot
};
inline constexpr unsigned kMaxPieces = 4;

// The header of a slot. Line 0 is all that a null call moves between processors.
struct alignas(64) SlotHeader {
  uint32_t state;
  uint32_t sleeping;     // the stub waits in futex(state)
  uint64_t number;       // of the call; in the reply its result
  uint64_t args[6];

  uint64_t self;         // address of this slot in the stub
  uint64_t stack;        // top of the stub's stack
  uint32_t kicked;
  uint32_t polled;       // the sentry looks at `state` itself: no doorbell needed
  uint32_t index;
  uint32_t cpu;          // where the thread last waited; a hint for spinning
  uint64_t stamp;        // memory calls made so far, as the sentry numbers them
  uint32_t ready;        // a fresh thread: signals may come
  uint32_t patience;     // the stub's own (wait_reply)
  uint64_t entry;        // address of stub_entry: patched call sites jump through it
  uint32_t waits;        // the thread sleeps in a futex of its own accord; for /proc only
  uint32_t spare2;

  arch::Registers regs;  // 128
  FaultInfo fault;       // 344
  uint64_t spare3[3];
  CopiedIn in[2];        // 408
  uint64_t spare4;
  // What the stub may do without asking, by Answer (platform.h); 0: ask. The sentry writes and never reads them.
  uint64_t answers[16];
  CopiedIn pieces[kMaxPieces];  // what a vector in `in` points to
};
static_assert(offsetof(SlotHeader, answers) == SLOT_ANSWERS);
static_assert(offsetof(SlotHeader, state) == SLOT_STATE && offsetof(SlotHeader, self) == SLOT_SELF &&
              offsetof(SlotHeader, stack) == SLOT_STACK && offsetof(SlotHeader, kicked) == SLOT_KICKED &&
              offsetof(SlotHeader, entry) == SLOT_ENTRY &&
              offsetof(SlotHeader, regs) == SLOT_REGS && sizeof(SlotHeader) <= STUB_OPS_OFFSET);
static_assert(SLOT_REGS + offsetof(arch::Registers, rip) == REGS_RIP &&
              SLOT_REGS + offsetof(arch::Registers, rsp) == REGS_RSP &&
              SLOT_REGS + offsetof(arch::Registers, rax) == REGS_RAX &&
              SLOT_REGS + offsetof(arch::Registers, fs_base) == REGS_FS_BASE);

struct StackDescription {  // stack_t
  uint64_t sp;
  int32_t flags, pad;
  uint64_t size;
};

struct Slot {
  SlotHeader header;
  unsigned char gap0[STUB_OPS_OFFSET - sizeof(SlotHeader)];
  Op ops[kMaxOps];
  StackDescription altstack;  // SLOT_ALTSTACK
  int64_t time[2];            // clock_gettime of the thread writes here
  unsigned char gap1[STUB_XSAVE_OFFSET - SLOT_ALTSTACK - sizeof(StackDescription) - 16];
  unsigned char xsave[STUB_XSAVE_SIZE];
  unsigned char data[STUB_DATA_SIZE];
};
static_assert(offsetof(Slot, ops) == STUB_OPS_OFFSET && offsetof(Slot, altstack) == SLOT_ALTSTACK &&
              offsetof(Slot, xsave) == STUB_XSAVE_OFFSET && offsetof(Slot, data) == STUB_DATA_OFFSET &&
              sizeof(Slot) == STUB_SLOT_SIZE);
inline constexpr unsigned kMaxSlots = STUB_ZONE_SIZE / STUB_SLOT_SIZE - 1;
inline constexpr uint64_t slot_address(unsigned i) { return STUB_ZONE + (i + 1ull) * STUB_SLOT_SIZE; }

// Page 0 of the zone; the stub can only read it.
struct ControlPage {
  uint32_t attended;   // some worker polls this space's doorbell
  uint32_t spin_tsc;   // how long a thread may spin for an answer
  uint32_t worker_cpu; // where the worker last looked: nobody spins for a partner on the same processor …
  uint32_t watched;    // the sentry has waiters of this space's private futexes: it must see each wake
};
// … except in one of 32 such slices of time, so that the host's scheduler sees two busy threads and moves them apart.
inline constexpr unsigned kSpinSliceShift = 21;
inline constexpr bool in_trial_slice(uint64_t tsc) { return (tsc >> kSpinSliceShift) % 32 == 0; }

// Page 1.
struct Doorbell {
  uint32_t rung;
  uint32_t spare;
  uint64_t bits[(kMaxSlots + 63) / 64];
};
static_assert(sizeof(Doorbell) <= 4096);

// One packed call descriptor (platform.h, CallDescriptor).
struct PackedIn {
  uint8_t kind, arg, size_arg, pad;
  uint16_t size, pad2;
};
struct PackedCall {
  PackedIn in[2];
};
static_assert(sizeof(PackedCall) == 16);
inline constexpr unsigned kMaxCalls = STUB_MAX_CALLS;

inline constexpr uint32_t kMayBlock = 1, kHasIn = 2;  // flags; from STUB_ANSWER_SHIFT on an Answer
struct ZygotePage {
  uint8_t flags[kMaxCalls];
  PackedCall calls[kMaxCalls];
  uint64_t xfeatures;     // mask for XSAVE and XRSTOR
  uint32_t filter_length; // instructions
  uint32_t have_mseal;
  uint64_t filter[4096];  // struct sock_filter
};
static_assert(offsetof(ZygotePage, have_mseal) == STUB_HAVE_MSEAL);
inline constexpr uint64_t kZygotePageSize = (sizeof(ZygotePage) + 4095) & ~4095ull;
static_assert(kZygotePageSize <= 0x100000);

// First record to the zygote (descriptors: control memfd, zygote-page memfd), and its answer (descriptor: listener).
struct ZygoteHello {
  uint64_t magic;
  uint64_t token;
};
struct ZygoteAnswer {
  uint64_t magic;
  int64_t error;  // 0, or the step that failed << 16 | errno
  uint64_t vvar, vdso, vdso_end;
};
inline constexpr uint64_t kZygoteMagic = 0x6361697373316e30;

}  // namespace sentry::platform::stub
#endif
