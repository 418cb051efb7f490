// SPDX-License-Identifier: Apache-2.0
// A thread's conversation with the sentry: post a request, wait for the answer, perform its operations.
#include "sentry/platform/stub/stub.h"

namespace sentry::platform::stub {
namespace {

constexpr long kSchedYield = 24, kFutex = 202, kMembarrier = 324;
constexpr int64_t kEfault = -14, kEintr = -4;
constexpr uint64_t kTrapFlag = 1 << 8;

uint64_t tsc() {
  uint32_t lo, hi;
  asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
  return static_cast<uint64_t>(hi) << 32 | lo;
}
uint64_t tsc_and_cpu(uint32_t* cpu) {
  uint32_t lo, hi, aux;
  asm volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
  *cpu = aux & 0xfff;  // as Linux sets it: node << 12 | processor
  return static_cast<uint64_t>(hi) << 32 | lo;
}

void post(Slot* s, uint32_t request) {
  SlotHeader& h = s->header;
  if (__atomic_load_n(&h.kicked, __ATOMIC_RELAXED)) h.kicked = 0;  // its line stays shared
  __atomic_exchange_n(&h.state, request, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&h.polled, __ATOMIC_RELAXED)) return;
  Doorbell& d = doorbell();
  uint32_t i = h.index % kMaxSlots;
  __atomic_fetch_or(&d.bits[i / 64], 1ull << (i % 64), __ATOMIC_SEQ_CST);
  __atomic_exchange_n(&d.rung, 1, __ATOMIC_SEQ_CST);
  if (control_page().attended != 0) return;
  uint32_t cpu;
  tsc_and_cpu(&cpu);
  if (h.cpu != cpu) h.cpu = cpu;
  // A kick takes a knock away before the sentry has seen it.
  while (control_page().attended == 0 && stub_ask_call(STUB_KNOCK) == kEintr) {
  }
}

// SlotHeader::patience. Most answers come within the page's budget. If a thread's come soon after (pread of 64 KiB), it spins up to
// kLong budgets; where that is in vain (the one it waits for needs this very processor), not again before kDoubts more such answers.
constexpr uint32_t kPatient = 1u << 31, kLong = 6, kSoon = 10, kDoubts = 64;

uint32_t wait_reply(Slot* s, bool may_spin) {
  SlotHeader& h = s->header;
  uint32_t v = __atomic_load_n(&h.state, __ATOMIC_ACQUIRE);
  if ((v & kStateMask) == kReply) return v;
  // A call that waits as a rule (poll, epoll_wait) may have its answer at once: falling asleep and being woken takes longer than this.
  const uint32_t usual = may_spin ? control_page().spin_tsc : control_page().spin_tsc / 4;
  uint32_t budget = usual;
  uint64_t start = 0;
  if (budget != 0) {
    uint32_t cpu;
    start = tsc_and_cpu(&cpu);
    if (h.cpu != cpu) h.cpu = cpu;
    if (may_spin && h.patience & kPatient) budget *= kLong;
    if (control_page().worker_cpu == cpu && !in_trial_slice(start)) budget = 0;
    while (budget != 0) {
      for (int i = 0; i < 4; i++) {
        asm volatile("pause");
        v = __atomic_load_n(&h.state, __ATOMIC_ACQUIRE);
        if ((v & kStateMask) == kReply) {
          __builtin_prefetch(&h.state, 1);  // the next request goes there
          return v;
        }
      }
      if (tsc() - start >= budget) break;
    }
    if (budget > usual) h.patience = kDoubts;
  }
  for (;;) {
    __atomic_exchange_n(&h.sleeping, 1, __ATOMIC_SEQ_CST);
    v = __atomic_load_n(&h.state, __ATOMIC_SEQ_CST);
    if ((v & kStateMask) == kReply) break;
    stub_wait_call(kFutex, reinterpret_cast<long>(&h.state), 0, v, 0, 0, 0);
  }
  h.sleeping = 0;
  if (may_spin && budget != 0 && tsc() - start < uint64_t{usual} * kSoon) h.patience = h.patience == 0 ? kPatient : h.patience - 1;
  return v;
}

// The futex call of the application. Returns true when a kick ended it and the sentry has to decide.
bool app_futex(Slot* s, const Op& op) {
  long r = stub_app_futex(op.a[0], op.a[1], op.a[2], op.a[3], op.a[4], op.a[5]);
  if (r == kEintr) return true;
  s->header.regs.rax = static_cast<uint64_t>(r);
  return false;
}

[[noreturn]] void leave(Slot* s, const Op& op) {
  if (op.a[0] != 0 && in_application(op.a[0], 4) &&
      stub_store32(reinterpret_cast<void*>(op.a[0]), 0) == 0)
    stub_wait_call(kFutex, static_cast<long>(op.a[0]), 1 | 128, 1);  // FUTEX_WAKE, private
  if (op.a[1] != 0)
    for (;;) stub_wait_call(kFutex, reinterpret_cast<long>(&s->header.cpu), 0, s->header.cpu, 0);
  stub_exit();
}

// A notified call that a kick interrupts has not been made.
long call_again(decltype(stub_ask_call)* site, uint32_t nr, const uint64_t (&a)[6]) {
  for (;;) {
    long r = site(nr, static_cast<long>(a[0]), static_cast<long>(a[1]), static_cast<long>(a[2]),
                  static_cast<long>(a[3]), static_cast<long>(a[4]), static_cast<long>(a[5]));
    if (r != kEintr) return r;
  }
}

bool failed(const Op& op) {
  if (op.result < 0) return true;
  switch (op.code) {
    case OpCode::copy_out:
    case OpCode::copy_in:
    case OpCode::zero_out:
      return static_cast<uint64_t>(op.result) != op.a[2];
    case OpCode::inline_out:
      return static_cast<uint64_t>(op.result) != op.a[1];
    default:
      return false;
  }
}

// Waits for the answer, performs it, and asks again until the application may run.
uint32_t converse(Slot* s, bool may_spin) {
  for (;;) {
    uint32_t reply = wait_reply(s, may_spin);
    uint32_t count = reply >> 8 & 0xff, flags = reply >> 16;
    bool ask = !(flags & kResume), futex = false;
    // The result word lies in the first line, which the next request overwrites.
    if (flags & kSetRax) s->header.regs.rax = s->header.number;
    uint32_t i = 0;
    for (; i < count && i < kMaxOps; i++) {
      Op& op = s->ops[i];
      if (op.code == OpCode::futex) {
        if (app_futex(s, op)) ask = futex = true;
        break;
      }
      if (op.code == OpCode::exit_thread) leave(s, op);
      uint64_t stamp = static_cast<uint64_t>(op.result);
      op.result = perform(s, op);
      if (op.flags & kStamp) __atomic_store_n(&s->header.stamp, stamp, __ATOMIC_RELEASE);
      if (op.flags & (kMust | kStop) && failed(op)) {
        ask = true;
        if (op.flags & kStop) break;
      }
    }
    if (!ask) {
      if (flags & kLoadFs) asm volatile("wrfsbase %0" : : "r"(s->header.regs.fs_base));
      return s->header.regs.eflags & kTrapFlag;
    }
    if (futex) post(s, kRequest | static_cast<uint32_t>(RequestKind::kick) << 8 | 1 << 16);
    else post(s, kRequest | static_cast<uint32_t>(RequestKind::ask) << 8 | i << 16);
    may_spin = !(flags & kRest);
  }
}

uint32_t request(Slot* s, RequestKind kind, bool may_spin, uint32_t detail = 0) {
  post(s, kRequest | static_cast<uint32_t>(kind) << 8 | detail << 16);
  return converse(s, may_spin);
}

// futex(2) on words that no other process knows, where the sentry has nothing to add: wakes, and waits without a time-out.
// False: ask.
bool own_futex(SlotHeader& h) {
  constexpr uint64_t kWait = 0, kWake = 1, kWaitBitset = 9, kPrivate = 128;
  const uint64_t addr = h.regs.rdi, op = h.regs.rsi;
  if (addr % 4 != 0 || !in_application(addr, 4)) return false;
  long r;
  if (op == (kWake | kPrivate)) {
    // After the caller's store: the sentry sets `watched` before it looks at the word.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (control_page().watched != 0) return false;
    r = stub_app_futex(addr, op, h.regs.rdx, 0, 0, 0);
  } else if ((op == (kWait | kPrivate) || (op == (kWaitBitset | kPrivate) && static_cast<uint32_t>(h.regs.r9) != 0)) && h.regs.r10 == 0) {
    h.waits = 1;
    r = stub_app_futex(addr, op, h.regs.rdx, 0, 0, h.regs.r9);
    h.waits = 0;
  } else {
    return false;
  }
  if (r == kEintr) return false;  // a kick: the sentry decides what becomes of the call
  h.regs.rax = static_cast<uint64_t>(r);
  return true;
}

// Calls that concern this process alone, from a patched site. False: ask.
bool own_call(SlotHeader& h, uint64_t nr) {
  if (nr >= kMaxCalls || h.answers[zygote_page().flags[nr] >> STUB_ANSWER_SHIFT] == 0) return false;
  if (nr == kFutex) return own_futex(h);
  if (nr != kSchedYield) return false;
  h.regs.rax = static_cast<uint64_t>(stub_time_call(kSchedYield));
  return true;
}

uint32_t make_call(Slot* s, uint32_t detail) {
  SlotHeader& h = s->header;
  uint64_t nr = h.regs.rax;
  if (detail == 0 && own_call(h, nr)) return h.regs.eflags & kTrapFlag;
  h.regs.orig_rax = nr;
  h.number = nr;
  h.args[0] = h.regs.rdi;
  h.args[1] = h.regs.rsi;
  h.args[2] = h.regs.rdx;
  h.args[3] = h.regs.r10;
  h.args[4] = h.regs.r8;
  h.args[5] = h.regs.r9;
  bool may_spin = true;
  if (nr < kMaxCalls) {
    uint8_t flags = zygote_page().flags[nr];
    if (flags & kHasIn) copy_arguments(s, zygote_page().calls[nr]);
    may_spin = !(flags & kMayBlock);
  }
  return request(s, RequestKind::syscall, may_spin, detail);
}

}  // namespace

int64_t perform(Slot* s, Op& op) {
  char* base = reinterpret_cast<char*>(s);
  auto app = [&](int i) { return reinterpret_cast<void*>(op.a[i]); };
  auto mine = [&](uint64_t offset) { return base + offset % STUB_SLOT_SIZE; };
  switch (op.code) {
    case OpCode::copy_out:
      if (!in_application(op.a[0], op.a[2])) return 0;
      return static_cast<int64_t>(op.a[2] - stub_copy(app(0), mine(op.a[1]), op.a[2]));
    case OpCode::inline_out:
      if (op.a[1] > 32 || !in_application(op.a[0], op.a[1])) return 0;
      return static_cast<int64_t>(op.a[1] - stub_copy(app(0), &op.a[2], op.a[1]));
    case OpCode::copy_in:
      if (!in_application(op.a[0], op.a[2])) return 0;
      return static_cast<int64_t>(op.a[2] - stub_copy(mine(op.a[1]), app(0), op.a[2]));
    case OpCode::copy_string:
      if (!in_application(op.a[0], 1)) return kEfault;
      return stub_copy_string(mine(op.a[1]), app(0), op.a[2]);
    case OpCode::zero_out:
      if (!in_application(op.a[0], op.a[2])) return 0;
      return static_cast<int64_t>(op.a[2] - stub_zero(app(0), op.a[2]));
    case OpCode::load32:
      return in_application(op.a[0], 4) ? stub_load32(app(0)) : kEfault;
    case OpCode::cmpxchg32:
      return in_application(op.a[0], 4) ? stub_cmpxchg32(app(0), static_cast<uint32_t>(op.a[1]),
                                                         static_cast<uint32_t>(op.a[2]))
                                        : kEfault;
    case OpCode::host_call:
      return call_again(op.aux == kFutex || op.aux == kMembarrier ? stub_wait_call : stub_memory_call, op.aux, op.a);
    case OpCode::xsave:
      stub_xsave(s->xsave, zygote_page().xfeatures);
      return 0;
    case OpCode::xrstor:
      return stub_xrstor(s->xsave, zygote_page().xfeatures);
    case OpCode::clone:
      return stub_clone(op.a[0], op.a[1], op.a[2]);
    case OpCode::knock:
      return call_again(stub_ask_call, STUB_KNOCK, op.a);
    case OpCode::cpu_time: {
      long r = stub_time_call(228, 3, reinterpret_cast<long>(s->time));
      return r < 0 ? r : s->time[0] * 1000000000 + s->time[1];
    }
    default:
      return -38;
  }
}

extern "C" {

uint32_t stub_on_syscall(Slot* s) { return make_call(s, 0); }
uint32_t stub_on_trap(Slot* s) { return make_call(s, 1); }
uint32_t stub_on_kick(Slot* s) { return request(s, RequestKind::kick, true); }
uint32_t stub_on_fault(Slot* s) { return request(s, RequestKind::fault, true); }
// The sentry wrote the request into the slot itself: only its answer is to come.
uint32_t stub_on_birth(Slot* s) {
  s->header.entry = reinterpret_cast<uint64_t>(&stub_entry);
  __atomic_exchange_n(&s->header.ready, 1, __ATOMIC_SEQ_CST);
  return converse(s, false);
}

}  // extern "C"

}  // namespace sentry::platform::stub
