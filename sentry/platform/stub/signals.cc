// SPDX-License-Identifier: Apache-2.0
// The host signals of a stub: SIGSYS (an application's system call), faults, and the kick. Handlers run on the host's alternate
// stack. Those of faults and kicks only change where the thread goes on; that of SIGSYS leaves for the entry itself.
#include "sentry/platform/stub/stub.h"

namespace sentry::platform::stub {
namespace {

constexpr int kSigill = 4, kSigtrap = 5, kSigbus = 7, kSigfpe = 8, kSigsegv = 11, kSigsys = 31;
constexpr uint64_t kFlagTrap = 1 << 8, kFlagDirection = 1 << 10, kFlagAlign = 1 << 18;

struct SigInfo {
  int signo, error, code, pad;
  uint64_t address;
};
struct SigContext {  // arch/x86/include/uapi/asm/sigcontext.h
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, selectors,
      err, trapno, oldmask, cr2;
  const void* fpstate;
};
struct UContext {
  uint64_t flags, link;
  StackDescription stack;
  SigContext c;
};
struct KernelSigaction {
  void (*handler)(int, const void*, void*);
  uint64_t flags;
  void (*restorer)();
  uint64_t mask;
};

uint64_t at(void (*f)()) { return reinterpret_cast<uint64_t>(f); }
bool in_stub(uint64_t ip) { return ip >> 32 == STUB_TEXT >> 32 && static_cast<uint32_t>(ip) < STUB_TEXT_LIMIT; }
bool in_restore(uint64_t ip) { return ip >= at(stub_restore) && ip < at(stub_restore_end); }

void save(Slot* s, const SigContext& c) {
  arch::Registers& r = s->header.regs;
  r.r15 = c.r15; r.r14 = c.r14; r.r13 = c.r13; r.r12 = c.r12; r.rbp = c.rbp; r.rbx = c.rbx;
  r.r11 = c.r11; r.r10 = c.r10; r.r9 = c.r9; r.r8 = c.r8; r.rax = c.rax; r.rcx = c.rcx;
  r.rdx = c.rdx; r.rsi = c.rsi; r.rdi = c.rdi;
  r.orig_rax = ~0ull;
  r.rip = c.rip; r.eflags = c.eflags; r.rsp = c.rsp;
  r.fs_base = read_fs_base();
}

void redirect(SigContext& c, void (*where)()) {
  c.rip = at(where);
  c.eflags &= ~(kFlagTrap | kFlagDirection | kFlagAlign);
}

void on_kick(SigContext& c) {
  Slot* s = own_slot();
  if (!in_stub(c.rip)) {
    save(s, c);
    redirect(c, stub_kick_entry);
    return;
  }
  if (c.rip >= at(stub_answered) && c.rip < at(stub_entry_ask)) {  // the call is over
    save(s, c);
    s->header.regs.rip = c.rcx;
    s->header.regs.r11 = c.eflags;
    redirect(c, stub_kick_entry);
    return;
  }
  __atomic_store_n(&s->header.kicked, 1, __ATOMIC_SEQ_CST);
  if (c.rip >= at(stub_answer) && c.rip < at(stub_answered)) redirect(c, stub_entry_ask);
  else if (in_restore(c.rip)) c.rip = at(stub_restore);  // reads only the slot, and looks at `kicked` first
  else if (c.rip >= at(stub_futex_check) && c.rip <= at(stub_ip_futex)) c.rip = at(stub_futex_interrupted);
}

void on_fault(int sig, const SigInfo& info, SigContext& c) {
  if (in_stub(c.rip)) {
    if (sig == kSigtrap && c.eflags & kFlagTrap) {  // the application single-steps; its flags are saved already
      c.eflags &= ~kFlagTrap;
      return;
    }
    if (sig == kSigsegv || sig == kSigbus)
      for (auto f = stub_fixups; f != stub_fixups_end; f++)
        if (c.rip == reinterpret_cast<uint64_t>(&(*f)[0]) + static_cast<int64_t>((*f)[0])) {
          c.rip = reinterpret_cast<uint64_t>(&(*f)[0]) + static_cast<int64_t>((*f)[1]);
          return;
        }
  }
  Slot* s = own_slot();
  // A jump to a bad address faults at the end of the way back; the registers are still in the slot.
  if (!in_restore(c.rip)) save(s, c);
  FaultInfo& f = s->header.fault;
  f.signo = sig;
  f.code = info.code;
  f.address = info.address;
  f.ip = s->header.regs.rip;
  f.trap_number = c.trapno;
  f.error_code = c.err;
  redirect(c, stub_fault_entry);
}

}  // namespace

void handle_signal(int sig, const void* info, void* context) {
  SigContext& c = static_cast<UContext*>(context)->c;
  if (sig == kSigsys) {
    if (in_stub(c.rip)) {  // a call that the filter refuses, made from the stub's own text
      c.rax = static_cast<uint64_t>(-38);
      return;
    }
    Slot* s = own_slot();
    save(s, c);
    s->header.regs.rcx = c.rip;
    s->header.regs.r11 = c.eflags;
    if (c.eflags & kFlagAlign) asm volatile("pushfq; andq %0, (%%rsp); popfq" : : "i"(~static_cast<int>(kFlagAlign)) : "memory", "cc");
    stub_trap_entry(c.fpstate, zygote_page().xfeatures);
  } else if (sig == STUB_KICK_SIGNAL) {
    on_kick(c);
  } else {
    on_fault(sig, *static_cast<const SigInfo*>(info), c);
  }
}

long install_handlers() {
  constexpr uint64_t kSiginfo = 4, kOnstack = 0x08000000, kRestorer = 0x04000000, kNodefer = 0x40000000;
  constexpr uint64_t kick = 1ull << (STUB_KICK_SIGNAL - 1);
  uint64_t unblocked = kick;
  const int signals[] = {kSigill, kSigtrap, kSigbus, kSigfpe, kSigsegv, kSigsys, STUB_KICK_SIGNAL};
  for (int sig : signals) {
    KernelSigaction sa{handle_signal, kSiginfo | kOnstack | kRestorer, stub_sigreturn, kick};
    if (sig == kSigsys) {  // its handler leaves without a return that would restore the mask
      sa.flags |= kNodefer;
      sa.mask = 0;
    }
    long r = stub_start_call(13, sig, reinterpret_cast<long>(&sa), 0, 8);
    if (r < 0) return r;
    unblocked |= 1ull << (sig - 1);
  }
  uint64_t mask = ~unblocked;
  return stub_start_call(14, 2, reinterpret_cast<long>(&mask), 0, 8);
}

}  // namespace sentry::platform::stub
