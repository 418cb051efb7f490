// SPDX-License-Identifier: Apache-2.0
// The pool of threads that may block in the host.
#include "sentry/sched/io_pool.h"

#include "sentry/sched/impl.h"

namespace sentry::sched {
namespace {
constexpr Nanos kIdleLife = 5'000'000'000;
}  // namespace

void IoPool::close() {
  std::vector<Thread> gone;
  {
    MutexLock l(mu_);
    closing_ = true;
    gone = slots_;
    for (Thread& t : slots_) t.used = false;
  }
  bell_.fetch_add(1);
  futex_wake(bell_, INT32_MAX);
  for (Thread& t : gone)
    if (t.used) pthread_join(t.id, nullptr);
}

bool IoPool::start_locked() {
  if (slots_.empty()) slots_.resize(max_threads_);  // never again: threads keep their address
  for (Thread& t : slots_) {
    if (t.used && !t.exited) continue;
    if (t.used) pthread_join(t.id, nullptr);  // it has let go of the lock for the last time
    t = Thread{.pool = this};
    auto id = start_thread(thread_main, &t);
    if (!id.ok()) {
      LOG(warn, "no thread for the I/O pool: {}", id.error().name());
      return false;
    }
    t.id = *id;
    t.used = true;
    live_++;
    return true;
  }
  return false;
}

bool IoPool::submit(Job& job) {
  bool ring;
  {
    MutexLock l(mu_);
    if (queued_ >= idle_ && live_ < max_threads_ && !start_locked() && live_ == 0) return false;
    if (tail_) tail_->next = &job;
    else head_ = &job;
    tail_ = &job;
    queued_++;
    ring = idle_ > 0;
  }
  if (ring) {
    bell_.fetch_add(1);
    futex_wake(bell_, 1);
  }
  return true;
}

unsigned IoPool::threads() const {
  MutexLock l(mu_);
  return live_;
}

void* IoPool::thread_main(void* thread) {
  auto* t = static_cast<Thread*>(thread);
  t->pool->serve(*t);
  return nullptr;
}

void IoPool::serve(Thread& t) {
  bool waited = false;  // without anything to do, for kIdleLife
  for (;;) {
    Job* job = nullptr;
    uint32_t bell = 0;
    {
      MutexLock l(mu_);
      if (head_) {
        job = head_;
        head_ = job->next;
        if (!head_) tail_ = nullptr;
        queued_--;
      } else if (waited || closing_) {
        live_--;
        t.exited = true;
        return;
      } else {
        idle_++;
        bell = bell_.load();  // a job that is queued after this changes it
      }
    }
    if (!job) {
      Nanos until = now() + kIdleLife;
      futex_wait(bell_, bell, kIdleLife);
      waited = now() >= until;
      MutexLock l(mu_);
      idle_--;
      continue;
    }
    waited = false;
    job->fn(job->arg);
    Ref<Fiber> fiber(*job->fiber);  // the fiber may see `done`, and even end, before wake() returns
    job->done.store(true, std::memory_order_release);
    fiber->wake();
  }
}

void run_blocking_raw(void (*fn)(void*), void* arg) {
  Fiber* self = current();
  CHECK(self);
  IoPool::Job job{.fn = fn, .arg = arg, .fiber = self};
  if (!FiberAccess::impl(*self).scheduler.io_.submit(job)) {
    fn(arg);  // the monitor replaces this worker if it takes long
    return;
  }
  while (!job.done.load(std::memory_order_acquire)) park();
  // A wake-up that was meant for a wait around this call must not be lost in the loop above.
  self->wake();
}

}  // namespace sentry::sched
