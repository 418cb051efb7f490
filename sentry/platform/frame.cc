// SPDX-License-Identifier: Apache-2.0
// Signal frames, byte for byte as Linux lays them out for x86-64 (arch/x86/kernel/signal_64.c, fpu/signal.c): what
// handlers, unwinders, debuggers and language run-times look into.
#include <cpuid.h>

#include <algorithm>
#include <cstring>

#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {

constexpr uint32_t kMagic1 = 0x46505853, kMagic2 = 0x46505845;
constexpr uint64_t kUcFlags = 1 | 2 | 4;  // FP_XSTATE, SIGCONTEXT_SS, STRICT_RESTORE_SS
constexpr uint64_t kSelectors = 0x002b000000000033;
constexpr uint64_t kFlagDirection = 1 << 10, kFlagTrap = 1 << 8, kFlagResume = 1 << 16;
constexpr uint64_t kXfeaturesX87Sse = 3, kAmx = 3ull << 17;

struct SigContext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, selectors, err,
      trapno, oldmask, cr2, fpstate, reserved[8];
};
static_assert(sizeof(SigContext) == 256);
struct UContext {
  uint64_t flags, link;
  uint64_t stack_sp;
  int32_t stack_flags, pad;
  uint64_t stack_size;
  SigContext c;
  uint64_t mask;
};
static_assert(sizeof(UContext) == 304);
struct Frame {
  uint64_t restorer;
  UContext uc;
  unsigned char info[128];
};
static_assert(sizeof(Frame) == 440);
struct SoftwareBytes {  // at 464 of the XSAVE image
  uint32_t magic1, extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size, padding[7];
};
static_assert(sizeof(SoftwareBytes) == 48);
constexpr size_t kSoftwareAt = 464, kHeaderAt = 512, kMxcsrAt = 24;

}  // namespace

uint64_t xsave_mask() {
  uint32_t lo, hi;
  asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return ((static_cast<uint64_t>(hi) << 32) | lo) & ~kAmx;  // tiles need a permission that stubs never ask for
}

uint32_t xsave_size() {
  static const uint32_t size = [] {
    uint32_t end = 576;
    uint64_t mask = xsave_mask();
    for (unsigned i = 2; i < 63; i++) {
      if (!(mask >> i & 1)) continue;
      uint32_t bytes = 0, offset = 0, c = 0, d = 0;
      __cpuid_count(0xd, i, bytes, offset, c, d);
      end = std::max(end, offset + bytes);
    }
    CHECK(end + 8 <= STUB_XSAVE_SIZE);
    return end;
  }();
  return size;
}

size_t Context::signal_frame_size() { return sizeof(Frame) + 8 + 16 + xsave_size() + 4 + 64; }

Result<void> Context::push_signal_frame(const SignalFrame& f) {
  Impl& m = *impl_;
  TRY(m.perform());
  arch::Registers r = registers();
  uint32_t size = xsave_size();
  uint64_t need = signal_frame_size();
  if (f.stack_pointer < need || f.stack_pointer > kAppLimit) return kEFAULT;
  uint64_t fp = (f.stack_pointer - size - 4) & ~63ull;
  uint64_t at = ((fp - sizeof(Frame)) & ~15ull) - 8;

  Frame frame{};
  frame.restorer = f.restorer;
  UContext& u = frame.uc;
  u.flags = kUcFlags;
  u.stack_sp = f.altstack_sp;
  u.stack_flags = static_cast<int32_t>(f.altstack_flags);
  u.stack_size = f.altstack_size;
  u.mask = f.mask;
  SigContext& c = u.c;
  c.r8 = r.r8; c.r9 = r.r9; c.r10 = r.r10; c.r11 = r.r11; c.r12 = r.r12; c.r13 = r.r13; c.r14 = r.r14; c.r15 = r.r15;
  c.rdi = r.rdi; c.rsi = r.rsi; c.rbp = r.rbp; c.rbx = r.rbx; c.rdx = r.rdx; c.rax = r.rax; c.rcx = r.rcx;
  c.rsp = r.rsp; c.rip = r.rip; c.eflags = r.eflags; c.selectors = kSelectors;
  c.oldmask = f.mask;
  c.fpstate = fp;
  if (f.with_fault) {
    c.err = f.fault.error_code;
    c.trapno = f.fault.trap_number;
    c.cr2 = f.fault.address;
  }
  memcpy(frame.info, f.siginfo, sizeof frame.info);

  // XSAVE leaves these bytes alone.
  SoftwareBytes sw{kMagic1, size + 4, xsave_mask(), size, {}};
  memcpy(m.slot->xsave + kSoftwareAt, &sw, sizeof sw);
  memcpy(m.slot->xsave + size, &kMagic2, sizeof kMagic2);
  uint32_t room = TRY(m.data_room(sizeof frame));
  memcpy(reinterpret_cast<std::byte*>(m.slot) + room, &frame, sizeof frame);
  if (!m.add(OpCode::xsave, stub::kStop)) return kESRCH;
  const struct { uint64_t to, from, n; } parts[] = {{fp, STUB_XSAVE_OFFSET, size + 4ull}, {at, room, sizeof frame}};
  for (auto& p : parts) {
    Op* op = m.add(OpCode::copy_out, stub::kStop | stub::kMust);
    if (!op) return kESRCH;
    op->a[0] = p.to;
    op->a[1] = p.from;
    op->a[2] = p.n;
    m.notes[m.op_count - 1].want = p.n;
  }
  TRY(m.perform());
  if (std::exchange(m.queued_copy_failed, false)) return kEFAULT;

  r.rip = f.handler;
  r.rsp = at;
  int32_t signo;
  memcpy(&signo, f.siginfo, sizeof signo);
  r.rdi = static_cast<uint64_t>(signo);
  r.rsi = at + offsetof(Frame, info);
  r.rdx = at + offsetof(Frame, uc);
  r.rax = 0;
  r.eflags &= ~(kFlagDirection | kFlagTrap | kFlagResume);
  uint32_t flags = m.reply_flags;
  set_registers(r);
  m.reply_flags = flags | stub::kLoadFs;
  m.in_call = false;
  return {};
}

Result<SignalReturn> Context::pop_signal_frame() {
  Impl& m = *impl_;
  UContext u;
  arch::Registers r = registers();
  TRY(copy_in(&u, r.rsp, sizeof u));
  const SigContext& c = u.c;
  r.r8 = c.r8; r.r9 = c.r9; r.r10 = c.r10; r.r11 = c.r11; r.r12 = c.r12; r.r13 = c.r13; r.r14 = c.r14; r.r15 = c.r15;
  r.rdi = c.rdi; r.rsi = c.rsi; r.rbp = c.rbp; r.rbx = c.rbx; r.rdx = c.rdx; r.rax = c.rax; r.rcx = c.rcx;
  r.rsp = c.rsp; r.rip = c.rip; r.eflags = c.eflags;

  uint32_t size = xsave_size();
  uint64_t features = 0;  // with no state in the frame it is reset
  if (c.fpstate != 0) {
    if (c.fpstate >= kAppLimit - size - 4) return kEFAULT;
    int64_t got = TRY(m.ask(OpCode::copy_in, {c.fpstate, STUB_XSAVE_OFFSET, size + 4}));
    if (got < static_cast<int64_t>(kHeaderAt)) return kEFAULT;
    SoftwareBytes sw;
    uint32_t magic2 = 0;
    untrusted_copy(&sw, m.slot->xsave + kSoftwareAt, sizeof sw);
    features = kXfeaturesX87Sse;
    if (sw.magic1 == kMagic1 && sw.xstate_size >= 576 && sw.xstate_size <= size &&
        got >= static_cast<int64_t>(sw.xstate_size) + 4) {
      untrusted_copy(&magic2, m.slot->xsave + sw.xstate_size, sizeof magic2);
      if (magic2 == kMagic2) {
        untrusted_copy(&features, m.slot->xsave + kHeaderAt, sizeof features);
        features &= sw.xfeatures & xsave_mask();
      }
    }
    uint32_t mxcsr;
    untrusted_copy(&mxcsr, m.slot->xsave + kMxcsrAt, sizeof mxcsr);
    mxcsr &= 0xffff;
    memcpy(m.slot->xsave + kMxcsrAt, &mxcsr, sizeof mxcsr);
  } else {
    uint32_t mxcsr = 0x1f80;
    memcpy(m.slot->xsave + kMxcsrAt, &mxcsr, sizeof mxcsr);
  }
  memset(m.slot->xsave + kHeaderAt, 0, 64);
  memcpy(m.slot->xsave + kHeaderAt, &features, sizeof features);
  if (!m.add(OpCode::xrstor, stub::kMust)) return kESRCH;

  uint32_t flags = m.reply_flags;
  set_registers(r);
  m.reply_flags = flags | stub::kLoadFs;
  m.in_call = m.in_valid = false;
  return SignalReturn{u.mask, u.stack_sp, u.stack_size, static_cast<uint32_t>(u.stack_flags)};
}

}  // namespace sentry::platform
