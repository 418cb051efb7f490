// SPDX-License-Identifier: Apache-2.0
// A thread's conversation seen from the sentry: answer, wait for the next event, registers.
#include <linux/futex.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "base/sys.h"
#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {

RequestKind kind_of(uint32_t word) { return static_cast<RequestKind>(word >> 8 & 0xff); }
uint32_t detail_of(uint32_t word) { return word >> 16; }

constexpr uint64_t kAnswerUs = 60;  // longer than nearly all that a stub's own code is told to do

}  // namespace

Context::Context() = default;

Context::~Context() {
  Impl& m = *impl_;
  if (!m.left && !m.space->gone()) {
    if (m.phase.load() == Phase::handling && host_tid_ != 0) exit_thread(0);
    else if (host_tid_ != 0) m.space->kill();  // its thread runs, and nobody would ever listen to it
  }
  if (!m.left) m.platform().forget(*this);
}

void Context::set_fiber(sched::Fiber* fiber) {
  RefOrNull<sched::Fiber> next;
  if (fiber) next = Ref<sched::Fiber>(*fiber);
  MutexLock l(impl_->platform().poll_mu);
  std::swap(impl_->fiber, next);
}

// ---- The exchange ----

void Context::Impl::send_reply(uint32_t flags) {
  stub::SlotHeader& h = slot->header;
  uint32_t word = stub::kReply | op_count << 8 | flags << 16;
  __atomic_exchange_n(&h.state, word, __ATOMIC_SEQ_CST);
  phase.store(Phase::running, std::memory_order_seq_cst);
  if (__atomic_load_n(&h.sleeping, __ATOMIC_RELAXED) != 0)
    IGNORE_ERROR(sys::raw(SYS_futex, reinterpret_cast<long>(&h.state), FUTEX_WAKE, INT32_MAX), "nobody slept");
  if (platform().knock_count.load() != 0) platform().answer_knock_of(self);
}

uint32_t Context::Impl::exchange(uint32_t flags) {
  Space::Impl& s = space->impl();
  DCHECK(fiber.get() == sched::current());  // set_fiber() first
  if (s.gone.load(std::memory_order_acquire) || never_born.load()) return 0;
  bool resumes = flags & stub::kResume;
  resuming.store(resumes, std::memory_order_relaxed);
  uint64_t cpu = 0;
  sched::Nanos since = 0;
  if (!resumes) platform().expect_answer(kAnswerUs);
  send_reply(flags);
  // Asked for while the event was being handled, after the last look at it.
  if (resumes && kick_wanted.load(std::memory_order_seq_cst)) send_kick();
  while (phase.load(std::memory_order_acquire) == Phase::running && !try_take()) {
    if (s.gone.load(std::memory_order_acquire) || never_born.load()) break;
    if (resumes) {
      sched::park();
      continue;
    }
    if (sched::park(sched::now() + kDeadline) != sched::Parked::timed_out) continue;
    if (since == 0) {  // it has had its time; from here on its CPU time counts
      since = sched::now() - kDeadline;
      cpu = process_cpu_time(s.pid.load());
    } else if (overdue(*space, since, cpu)) {
      LOG(warn, "stub {} does not do what it was told; killed", s.pid.load());
      space->kill();
    }
  }
  bool gone = s.gone.load(std::memory_order_acquire) || never_born.load();
  phase.store(Phase::handling, std::memory_order_relaxed);
  if (gone) return 0;
  // Whatever it holds now is taken as the request.
  return __atomic_load_n(&slot->header.state, __ATOMIC_ACQUIRE) | stub::kRequest;
}

void Context::Impl::begin_call() {
  stub::SlotHeader& h = slot->header;
  Call& c = self.call_;
  c.number = fetch(h.number);
  for (int i = 0; i < 6; i++) c.args[i] = fetch(h.args[i]);
  in_call = true;
  if (const unsigned ranges = c.number < kMaxCallNumber ? platform().has_in[c.number] : 0) {
    uint32_t end = 0;
    for (unsigned i = 0; i < std::size(in); i++) {
      in[i] = i >= ranges ? stub::CopiedIn{} : i < 2 ? fetch(h.in[i]) : fetch(h.pieces[i - 2]);
      if (in[i].offset < STUB_DATA_OFFSET || in[i].offset > STUB_SLOT_SIZE ||
          in[i].length > STUB_SLOT_SIZE - in[i].offset)
        in[i] = {};
      if (in[i].length != 0) end = std::max(end, in[i].offset + in[i].length - STUB_DATA_OFFSET);
    }
    in_valid = end != 0;
    in_end = end;
    data_used = end;
  }
}

EventKind Context::resume() {
  Impl& m = *impl_;
  copy_failed_ = std::exchange(m.queued_copy_failed, false);
  memory_call_error_ = std::exchange(m.queued_memory_error, 0);
  birth_error_ = 0;
  futex_interrupted_ = false;
  auto gone = [&] { return m.never_born.load() ? EventKind::never_born : EventKind::gone; };
  if (m.space->gone()) return gone();
  if (copy_failed_ || memory_call_error_ != 0) return EventKind::syscall;
again:
  if (m.kick_wanted.load(std::memory_order_relaxed)) {
    m.kick_wanted.store(false);
    m.in_call = false;
    futex_interrupted_ = std::exchange(m.futex_queued, false);
    return EventKind::interrupt;
  }
  if (m.futex_queued) {
    Op* op = m.add(OpCode::futex, 0);
    if (!op) return gone();
    for (int i = 0; i < 6; i++) op->a[i] = m.futex_args[i];
  }
  uint32_t flags = stub::kResume | m.reply_flags;
  if (m.has_rax) {
    flags |= stub::kSetRax;
    m.slot->header.number = static_cast<uint64_t>(m.rax);
  }
  uint32_t word = m.exchange(flags);
  if (word == 0) return gone();
  RequestKind kind = kind_of(word);
  if (kind == RequestKind::ask) {
    m.futex_queued = false;
    m.finish_list(detail_of(word), true);
    copy_failed_ = std::exchange(m.queued_copy_failed, false);
    memory_call_error_ = std::exchange(m.queued_memory_error, 0);
    birth_error_ = std::exchange(m.queued_birth_error, 0);
    // One more try; not before a kick, which would take the clone away each time.
    if (m.making && !copy_failed_ && memory_call_error_ == 0) goto again;
    return EventKind::syscall;
  }
  m.finish_list(0, false);
  m.has_rax = false;
  m.reply_flags = 0;
  m.futex_queued = false;
  m.in_call = m.in_valid = false;
  m.kick_wanted.store(false, std::memory_order_relaxed);
  auto& counters = m.platform().counters;
  switch (kind) {
    case RequestKind::fault: {
      auto f = fetch(m.slot->header.fault);
      fault_ = {f.signo, f.code, f.address, f.ip, f.trap_number, f.error_code};
      counters.faults.fetch_add(1, std::memory_order_relaxed);
      return EventKind::fault;
    }
    case RequestKind::kick:
      futex_interrupted_ = detail_of(word) & 1;
      return EventKind::interrupt;
    default:
      m.begin_call();
      trapped_ = detail_of(word) & 1;
      if (trapped_) counters.traps.store(counters.traps.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      counters.calls.store(counters.calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return EventKind::syscall;
  }
}

// ---- Registers ----

void Context::set_result(int64_t rax) {
  impl_->has_rax = true;
  impl_->rax = rax;
}

arch::Registers Context::registers() {
  Impl& m = *impl_;
  arch::Registers r = fetch(m.slot->header.regs);
  if (m.has_rax) r.rax = static_cast<uint64_t>(m.rax);
  r.orig_rax = m.in_call ? call_.number : ~0ull;
  r.cs = 0x33;
  r.ss = 0x2b;
  r.gs_base = r.ds = r.es = r.fs = r.gs = 0;
  return r;
}

void Context::set_registers(const arch::Registers& regs, bool fresh_vector) {
  Impl& m = *impl_;
  arch::Registers r = regs;
  r.cs = 0x33;
  r.ss = 0x2b;
  r.eflags = (r.eflags & arch::kUserEflags) | 0x202;
  r.gs_base = r.ds = r.es = r.fs = r.gs = 0;
  if (r.fs_base >= kAppLimit) r.fs_base = 0;
  memcpy(&m.slot->header.regs, &r, sizeof r);
  m.has_rax = false;
  m.reply_flags |= stub::kLoadFs;
  if (fresh_vector) {
    memset(m.slot->xsave, 0, xsave_size());
    uint32_t mxcsr = 0x1f80;
    memcpy(m.slot->xsave + 24, &mxcsr, sizeof mxcsr);
    m.add(OpCode::xrstor, stub::kMust);
  }
}

uint64_t Context::instruction_pointer() { return fetch(impl_->slot->header.regs.rip); }
uint64_t Context::stack_pointer() { return fetch(impl_->slot->header.regs.rsp); }

void Context::set_fs_base(uint64_t base) {
  impl_->slot->header.regs.fs_base = base < kAppLimit ? base : 0;
  impl_->reply_flags |= stub::kLoadFs;
}
uint64_t Context::fs_base() { return fetch(impl_->slot->header.regs.fs_base); }

// ---- Answers ----

namespace {
// Bit 32: the low half is what the call returns. Calls that the stub makes itself have any other value but 0.
uint64_t packed(Answer which, uint32_t value) {
  return which == Answer::yield || which == Answer::futex ? 1 : uint64_t{1} << STUB_ANSWER_BIT | value;
}
}  // namespace

void Context::answer(Answer which, uint32_t value) {
  impl_->answered |= 1u << static_cast<unsigned>(which);
  __atomic_store_n(&impl_->slot->header.answers[static_cast<unsigned>(which)], packed(which, value), __ATOMIC_RELEASE);
}
void Context::ask_about(Answer which) {
  impl_->answered &= ~(1u << static_cast<unsigned>(which));
  __atomic_store_n(&impl_->slot->header.answers[static_cast<unsigned>(which)], 0, __ATOMIC_SEQ_CST);
}
void Context::ask_about_all() {
  impl_->answered = 0;
  for (uint64_t& a : impl_->slot->header.answers) __atomic_store_n(&a, 0, __ATOMIC_SEQ_CST);
}
bool Context::answers(Answer which) const { return impl_->answered & 1u << static_cast<unsigned>(which); }
bool Context::waits_by_itself() const { return __atomic_load_n(&impl_->slot->header.waits, __ATOMIC_RELAXED) != 0; }

void Context::watch_futexes() { __atomic_store_n(&space_->impl().control.page().watched, 1, __ATOMIC_SEQ_CST); }

// ---- Kicks ----

void Context::kick() {
  Impl& m = *impl_;
  m.kick_wanted.store(true, std::memory_order_seq_cst);
  // A thread that was only asked for something comes back by itself; resume() looks at kick_wanted.
  if (m.phase.load(std::memory_order_seq_cst) == Phase::running && m.resuming.load(std::memory_order_relaxed)) m.send_kick();
}

void Context::Impl::send_kick() {
  Platform::Impl& p = platform();
  bool first = false;
  // A fresh child has no signal stack before it is ready; it looks at `kicked` after it has said so.
  stub::SlotHeader& h = slot->header;
  if (__atomic_load_n(&h.ready, __ATOMIC_SEQ_CST) == 0) {
    __atomic_store_n(&h.kicked, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&h.ready, __ATOMIC_SEQ_CST) == 0) return;
  }
  p.answer_knock_of(self);  // once received, a notification sleeps through signals
  {
    MutexLock l(p.mu);
    if (left || self.host_tid_ == 0 || !space->impl().process) return;
    if (std::find(p.kicked.begin(), p.kicked.end(), &self) == p.kicked.end()) {
      p.kicked.push_back(&self);
      kick_time = sched::now();
      kick_cpu = process_cpu_time(space->impl().pid.load());
      first = p.kicked.size() == 1;
    }
    IGNORE_ERROR(sys::tgkill(space->impl().pid.load(), self.host_tid_, STUB_KICK_SIGNAL), "it has just ended");
    p.counters.kicks.fetch_add(1, std::memory_order_relaxed);
  }
  if (first) p.start_watchdog();
}

bool overdue(Space& s, sched::Nanos since, uint64_t cpu) {
  if (const auto& p = s.impl().patience) {
    if (p->paused.load()) return false;
    since = std::max(since, p->resumed.load());
  }
  sched::Nanos waited = sched::now() - since;
  if (waited < kDeadline) return false;
  if (waited >= kSilentDeadline) return true;
  // A stub that is frozen, or starved by its neighbours, has not refused anything; nor has a thread whose process spent that time on others.
  uint64_t used = process_cpu_time(s.host_pid());
  return used >= cpu + static_cast<uint64_t>(kCpuDeadline) * s.impl().places.load(std::memory_order_relaxed);
}

}  // namespace sentry::platform
