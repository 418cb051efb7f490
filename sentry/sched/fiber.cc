// SPDX-License-Identifier: Apache-2.0
// Fibers: birth, parking, waking, end.
#include <time.h>

#include "sentry/sched/impl.h"
#include "sentry/sched/linger.h"

namespace sentry::sched {
namespace {

thread_local Worker* worker_of_thread = nullptr;

}  // namespace

Nanos now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

Worker* this_worker() {
  Worker* w = worker_of_thread;
  asm volatile("" : "+r"(w) : : "memory");
  return w;
}

void set_this_worker(Worker* w) { worker_of_thread = w; }

Fiber* current() {
  Worker* w = this_worker();
  return w ? w->running : nullptr;
}

// ---- Fiber ----

Fiber::Fiber() = default;
Fiber::~Fiber() = default;

void Fiber::Impl::deadline_passed(void*) { UNREACHABLE(); }

void Fiber::wake() {
  // Always a read-modify-write, even when it changes nothing: the fiber's own exchange then comes after it and sees all
  // that was written before this call.
  uint32_t old = impl_->state.fetch_or(kWoken, std::memory_order_acq_rel);
  if (old == kParked) impl_->scheduler.make_runnable(*this);
}

void Fiber::interrupt() {
  interrupt_pending.store(true, std::memory_order_release);
  wake();
}

bool Fiber::finished() const { return impl_->state.load(std::memory_order_acquire) & kFinished; }

// ---- Parking ----

void Scheduler::Impl::leave_fiber(Worker& w, Fiber& f, Action action) {
  Fiber::Impl& impl = FiberAccess::impl(f);
  w.action = action;
  sanitizer_before(impl.point, w.point, action == Action::finish);
  sched_switch(&impl.sp, w.sp);
  // Perhaps on another thread now.
  sanitizer_after(impl.point, this_worker()->point);
}

Parked park(Nanos deadline) {
  assert_no_locks_held("parking a fiber");
  Worker* w = this_worker();
  CHECK(w && w->running);
  Fiber& f = *w->running;
  auto& impl = FiberAccess::impl(f);
  if (impl.state.load(std::memory_order_relaxed) & kWoken) {
    impl.state.exchange(0, std::memory_order_acq_rel);
    return Parked::woken;
  }
  if (deadline == kNever) {
    Scheduler::Impl::leave_fiber(*w, f, Action::park);
    return Parked::woken;
  }
  if (deadline <= now()) return Parked::timed_out;
  impl.scheduler.arm_deadline(f, deadline);
  Scheduler::Impl::leave_fiber(*w, f, Action::park);
  return impl.scheduler.disarm_deadline(f) ? Parked::timed_out : Parked::woken;
}

void yield() {
  assert_no_locks_held("yielding");
  Worker* w = this_worker();
  CHECK(w && w->running);
  Scheduler::Impl::leave_fiber(*w, *w->running, Action::yield);
}

void linger(Nanos quiet, Nanos most) {
  const Nanos began = now();
  for (Nanos last = began;;) {
    const Worker* before = this_worker();
    if (before->seat) return;
    const unsigned rounds = before->rounds;
    yield();
    const Worker* after = this_worker();
    const Nanos t = now();
    if (after != before || after->rounds != rounds + 1) last = t;  // somebody else has run
    if (t - last >= quiet || t - began >= most) return;
  }
}

// ---- Birth and end ----

void Scheduler::Impl::fiber_main(void* fiber) {
  auto& f = *static_cast<Fiber*>(fiber);
  Fiber::Impl& impl = FiberAccess::impl(f);
  sanitizer_after(impl.point, this_worker()->point);
  impl.fn(impl.arg);
  leave_fiber(*this_worker(), f, Action::finish);
  UNREACHABLE();
}

Result<Ref<Fiber>> Scheduler::Impl::spawn(void (*fn)(void*), void* arg) {
  char* stack = TRY(stacks_.take());
  Ref<Fiber> f = adopt_ref(new Fiber);
  f->impl_ = std::make_unique<Fiber::Impl>(*this, *f);
  Fiber::Impl& impl = *f->impl_;
  impl.fn = fn;
  impl.arg = arg;
  impl.stack = stack;
  sanitizer_new_stack(impl.point, stack, kStackSize);
  impl.sp = prepare_stack(stack, kStackSize, fiber_main, f.get());
  f->ref();  // the scheduler's own, until it has finished
  make_runnable(*f);
  return f;
}

void Scheduler::Impl::make_runnable(Fiber& f) {
  Worker* w = this_worker();
  if (w && &w->scheduler == this && !w->slot.load(std::memory_order_relaxed) &&
      !w->stuck.load(std::memory_order_relaxed)) {
    w->slot.store(&f);
    if (!w->stuck.load()) return;
    // The monitor emptied the slot of this worker, perhaps just before we filled it. Whoever takes f out queues it.
    Fiber* back = w->slot.exchange(nullptr);
    if (back) push(*back);
    return;
  }
  push(f);
}

}  // namespace sentry::sched
