// SPDX-License-Identifier: Apache-2.0
// The platform's part of a worker's loop: looking for requests, saying when nobody looks, and answering knocks.
#include <linux/seccomp.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "base/sys.h"
#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {

constexpr uint64_t kStubSpinUs = 4;        // how long a stub's thread spins for an answer
constexpr uint64_t kSpinLimitUs = 300;     // how long a worker spins without a request
constexpr uint64_t kGapLimitUs = 120;         // if requests come less often than this on average, nobody spins
constexpr uint64_t kGapCapUs = 300;        // one long gap is not the end of a burst
// A spinning worker that was away for so long has lost its processor to somebody: no one is spare. Nobody spins for this time; twice
// that if it happens again soon after.
constexpr uint64_t kPreemptedUs = 600, kQuietUs = 3'000, kQuietMostUs = 100'000;
// A worker that was pulled to its partner's processor leaves it after this time; twice that if the last time it was pulled back
// at once, and so on.
constexpr uint64_t kMoveAfterUs = 100, kMoveAfterMostUs = 4000, kMoveWasGoodUs = 1000;

constexpr sched::Nanos kChoresAfter = 15'000;  // a worker that has spun so long does what could wait

void send_answer(int listener, uint64_t id, int error, uint32_t flags) {
  seccomp_notif_resp r{};
  r.id = id;
  r.error = error;
  r.flags = flags;
  IGNORE_ERROR(sys::raw(SYS_ioctl, listener, static_cast<long>(SECCOMP_IOCTL_NOTIF_SEND), reinterpret_cast<long>(&r)),
               "a signal took the call away; it will notify again");
}

}  // namespace

uint64_t read_tsc() { return __builtin_ia32_rdtsc(); }

bool Context::Impl::try_take() {
  if (!is_request(__atomic_load_n(&slot->header.state, __ATOMIC_ACQUIRE))) return false;
  Phase p = Phase::running;
  return phase.compare_exchange_strong(p, Phase::requested, std::memory_order_acq_rel);
}

void Platform::Impl::show_cpu(Space::Impl& s) {
  const uint32_t cpu = worker_cpu.load(std::memory_order_relaxed);
  if (s.shown_cpu == cpu) return;
  s.shown_cpu = cpu;
  s.control.page().worker_cpu = cpu;
}

void Platform::Impl::note_request(Context& c) {
  unsigned aux;
  uint64_t t = __builtin_ia32_rdtscp(&aux);
  Context::Impl& m = c.impl();
  if (polling) {
    worker_cpu.store(aux & 0xfff, std::memory_order_relaxed);
    show_cpu(m.space->impl());
  }
  __builtin_prefetch(&m.slot->header.state, 1);  // the answer goes there
  partner_cpu.store(__atomic_load_n(&m.slot->header.cpu, __ATOMIC_RELAXED), std::memory_order_relaxed);
  uint64_t gap = std::min(t - last_request_tsc, kGapCapUs * tsc_per_us);
  last_request_tsc = t;
  uint64_t mean = gap_tsc.load(std::memory_order_relaxed);
  gap_tsc.store(mean + (gap >> 3) - (mean >> 3), std::memory_order_relaxed);
}

bool Platform::Impl::look(Context& c) {
  Context::Impl& m = c.impl();
  if (m.phase.load(std::memory_order_relaxed) != Phase::running || !m.try_take()) return false;
  note_request(c);
  if (m.fiber) m.fiber->wake();
  return true;
}

bool Platform::Impl::scan(Space& s) {
  Space::Impl& m = s.impl();
  stub::Doorbell& d = m.control.doorbell();
  if (__atomic_load_n(&d.rung, __ATOMIC_RELAXED) == 0) return false;
  __atomic_exchange_n(&d.rung, 0, __ATOMIC_SEQ_CST);
  bool found = false;
  for (size_t w = 0; w * 64 < m.slots.size(); w++) {
    if (__atomic_load_n(&d.bits[w], __ATOMIC_RELAXED) == 0) continue;
    uint64_t bits = __atomic_exchange_n(&d.bits[w], 0, __ATOMIC_SEQ_CST);
    while (bits != 0) {
      size_t i = w * 64 + static_cast<size_t>(__builtin_ctzll(bits));
      bits &= bits - 1;
      if (i >= m.slots.size() || !m.slots[i]) continue;
      if (!look(*m.slots[i])) continue;
      found = true;
      make_hot(*m.slots[i]);
    }
  }
  return found;
}

void Platform::Impl::make_hot(Context& c) {
  Space::Impl& s = c.impl().space->impl();
  if (c.impl().hot || !s.attended) return;
  if (c.impl().index >= s.slots.size() || s.slots[c.impl().index] != &c) return;  // it is leaving
  if (hot_count == kMaxHot) {
    Context& old = *hot[hot_next++ % kMaxHot];
    cool(old);
    look(old);
  }
  c.impl().hot = true;
  __atomic_store_n(&c.impl().slot->header.polled, 1, __ATOMIC_RELEASE);
  hot[hot_count++] = &c;
}

// The caller looks once more afterwards.
void Platform::Impl::cool(Context& c) {
  if (!c.impl().hot) return;
  c.impl().hot = false;
  __atomic_exchange_n(&c.impl().slot->header.polled, 0, __ATOMIC_SEQ_CST);
  Context** at = std::find(hot, hot + hot_count, &c);
  *at = hot[--hot_count];
}

void Platform::Impl::attend(Space& s) {
  if (s.impl().attended || s.gone()) return;
  if (attended.size() == kMaxAttended) {
    Space& old = *attended.front();
    neglect(old);
    scan(old);
  }
  stub::ControlPage& page = s.impl().control.page();
  page.spin_tsc = may_spin && cpus > 1 ? static_cast<uint32_t>(kStubSpinUs * tsc_per_us) : 0;
  show_cpu(s.impl());
  __atomic_store_n(&page.attended, 1, __ATOMIC_SEQ_CST);
  s.impl().attended = true;
  attended.push_back(&s);
  attended_count.store(attended.size());
}

// The caller scans once more afterwards.
void Platform::Impl::neglect(Space& s) {
  if (!s.impl().attended) return;
  s.impl().attended = false;
  for (unsigned i = hot_count; i-- > 0;)
    if (&hot[i]->space() == &s) {
      Context& c = *hot[i];
      cool(c);
      look(c);
    }
  __atomic_exchange_n(&s.impl().control.page().attended, 0, __ATOMIC_SEQ_CST);
  attended.erase(std::find(attended.begin(), attended.end(), &s));
  attended_count.store(attended.size());
}

bool Platform::Impl::poll() {
  MutexLock l(poll_mu);
  bool found = false;
  polling = true;
  for (unsigned i = 0; i < hot_count; i++) found |= look(*hot[i]);
  for (size_t i = 0; i < attended.size(); i++) found |= scan(*attended[i]);
  polling = false;
  return found;
}

bool Platform::Impl::prepare_sleep() {
  if (retired_count.load(std::memory_order_relaxed) != 0) kill_retired(Where::away);
  MutexLock l(poll_mu);
  for (unsigned i = 0; i < hot_count; i++) {
    hot[i]->impl().hot = false;
    __atomic_store_n(&hot[i]->impl().slot->header.polled, 0, __ATOMIC_RELAXED);
  }
  for (Space* s : attended) {
    s->impl().attended = false;
    __atomic_store_n(&s->impl().control.page().attended, 0, __ATOMIC_RELAXED);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // Whoever missed the flags has posted before this; whoever posts later knocks.
  bool found = false;
  for (unsigned i = 0; i < hot_count; i++) found |= look(*hot[i]);
  for (Space* s : attended) found |= scan(*s);
  hot_count = 0;
  attended.clear();
  attended_count.store(0);
  return !found;
}

bool Platform::Impl::leave_cpu(unsigned cpu) {
  cpu_set_t others = usable_cpus;
  if (cpu >= CPU_SETSIZE) return false;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0) return false;
  auto r = sys::raw(SYS_sched_setaffinity, 0, sizeof others, reinterpret_cast<long>(&others));
  // Only the move was wanted: from here on the scheduler is free again.
  IGNORE_ERROR(sys::raw(SYS_sched_setaffinity, 0, sizeof usable_cpus, reinterpret_cast<long>(&usable_cpus)),
               "a cpuset that has just shrunk has its own way");
  return r.ok();
}

bool Platform::Impl::requests_come_fast() const { return gap_tsc.load(std::memory_order_relaxed) <= kGapLimitUs * tsc_per_us; }

bool Platform::Impl::spinner_wanted() {
  return may_spin && cpus > 1 && requests_come_fast() && read_tsc() >= quiet_until_tsc.load(std::memory_order_relaxed);
}

bool Platform::Impl::worth_spinning(sched::Nanos idle_for) {
  if (!may_spin || cpus < 2) return false;
  unsigned cpu;
  const uint64_t t = __builtin_ia32_rdtscp(&cpu);
  cpu &= 0xfff;
  if (idle_for > 0 && t - looked_tsc > kPreemptedUs * tsc_per_us) {
    const uint64_t until = quiet_until_tsc.load(std::memory_order_relaxed);
    quiet_us = t - until < 4 * quiet_us * tsc_per_us ? std::min(2 * quiet_us, kQuietMostUs) : kQuietUs;
    quiet_until_tsc.store(t + quiet_us * tsc_per_us, std::memory_order_relaxed);
  }
  looked_tsc = t;
  if (idle_for > kChoresAfter) {
    if (may_prepare.load(std::memory_order_relaxed)) prepare_control();
    if (retired_count.load(std::memory_order_relaxed) != 0) kill_retired(Where::here);
  }
  if (t < quiet_until_tsc.load(std::memory_order_relaxed)) return false;
  const bool fast = requests_come_fast();
  const uint32_t partner = partner_cpu.load(std::memory_order_relaxed);
  if (partner == cpu) {
    // Two that wait for each other on one processor only cost each other time. The host's scheduler wakes us beside our waker and
    // leaves us there, so we go ourselves, if requests come often enough to pay for it.
    if (!fast) return false;
    move_after_us = t - last_move_tsc > kMoveWasGoodUs * tsc_per_us ? kMoveAfterUs : std::min(move_after_us * 2, kMoveAfterMostUs);
    if (t - last_move_tsc < move_after_us * tsc_per_us) return false;
    last_move_tsc = t;
    if (!leave_cpu(partner)) return false;
  }
  if (t < expected_until.load(std::memory_order_relaxed)) return true;
  return fast && idle_for < static_cast<sched::Nanos>(kSpinLimitUs * 1000);
}

// ---- Knocks ----

void Platform::Impl::keep_knock(const PendingKnock& k) {
  if (knocks.size() == kMaxPendingKnocks) {  // the oldest will sleep in the futex
    send_answer(knocks[0].listener, knocks[0].id, 0, 0);
    knocks.erase(knocks.begin());
  }
  knocks.push_back(k);
  knock_count.store(static_cast<uint32_t>(knocks.size()));
}

void Platform::Impl::end_knock_of(Context& c, bool dying) {
  for (size_t i = knocks.size(); i-- > 0;) {
    if (knocks[i].context != &c) continue;
    if (!dying) send_answer(knocks[i].listener, knocks[i].id, 0, 0);
    knocks.erase(knocks.begin() + static_cast<long>(i));
  }
  knock_count.store(static_cast<uint32_t>(knocks.size()), std::memory_order_relaxed);
}

void Platform::Impl::answer_knock_of(Context& c) {
  MutexLock l(poll_mu);
  end_knock_of(c, false);
}

void Platform::Impl::forget(Context& c) {
  {
    MutexLock l(poll_mu);
    end_knock_of(c, c.space().gone());
    cool(c);
    Space::Impl& s = c.impl().space->impl();
    if (c.impl().index < s.slots.size() && s.slots[c.impl().index] == &c) s.slots[c.impl().index] = nullptr;
  }
  MutexLock l(mu);
  auto it = threads.find(c.host_tid());
  if (it != threads.end() && it->second == &c) threads.erase(it);
  std::erase(kicked, &c);
}

void Platform::Impl::forget(Space& s) {
  {
    MutexLock l(poll_mu);
    neglect(s);
  }
  Control surplus;
  MutexLock l(mu);
  if (Process* p = s.impl().process) {
    p->space = nullptr;
    p->control = std::move(s.impl().control);
    if (!s.gone()) IGNORE_ERROR(sys::pidfd_send_signal(p->pidfd.get(), 9), "it has just died");
    if (p->dead) surplus = reap(*p);
  } else if (s.impl().pid.load() != 0) {
    surplus = retire(std::move(s.impl().control));
  }
  std::erase_if(resting, [&](const Resting& x) { return x.space == &s; });
  if (s.impl().zygote) std::erase(s.impl().zygote->impl().spaces, &s);
}

}  // namespace sentry::platform
