// SPDX-License-Identifier: Apache-2.0
// Making, starting and stopping a scheduler and its threads.
#include <linux/futex.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/sys.h"
#include "sentry/sched/impl.h"

namespace sentry::sched {
namespace {

constexpr int kSeatSignal = SIGURG;

std::atomic<Scheduler*> the_scheduler{nullptr};

#if defined(SCHED_ASAN) || defined(SCHED_TSAN)
constexpr size_t kThreadStack = 1024 * 1024;
#else
constexpr size_t kThreadStack = 256 * 1024;
#endif

}  // namespace

Result<pthread_t> start_thread(void* (*entry)(void*), void* arg) {
  // Signals of the process go to its first thread; those of a thread's own faults must reach it.
  sigset_t block, old;
  sigfillset(&block);
  for (int sig : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, kSeatSignal}) sigdelset(&block, sig);
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kThreadStack);
  pthread_sigmask(SIG_SETMASK, &block, &old);
  pthread_t id;
  int r = pthread_create(&id, &attr, entry, arg);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attr);
  if (r != 0) return Errno(r);
  return id;
}

void futex_wait(std::atomic<uint32_t>& word, uint32_t value, Nanos timeout) {
  timespec ts{timeout / 1'000'000'000, timeout % 1'000'000'000};
  IGNORE_ERROR(sys::raw(SYS_futex, reinterpret_cast<long>(&word), FUTEX_WAIT_PRIVATE, value,
                        timeout < 0 ? 0 : reinterpret_cast<long>(&ts)),
               "callers look again in any case");
}

void futex_wake(std::atomic<uint32_t>& word, int n) {
  IGNORE_ERROR(sys::raw(SYS_futex, reinterpret_cast<long>(&word), FUTEX_WAKE_PRIVATE, n), "cannot fail");
}

Scheduler::Impl* find_scheduler() {
  Scheduler* s = the_scheduler.load(std::memory_order_acquire);
  return s ? &s->impl() : nullptr;
}

// ---- Threads ----

Scheduler::Impl::Impl(const Options& o) : options_(o), io_(o.io_threads) {
  if (options_.workers == 0) options_.workers = 1;
  if (options_.workers > kMaxWorkers) options_.workers = kMaxWorkers;
  struct sigaction none {};
  none.sa_handler = [](int) {};
  CHECK(sigaction(kSeatSignal, &none, nullptr) == 0);
  MutexLock l(mu_);
  workers_.reserve(kMaxWorkers);
  workers_.push_back(std::make_unique<Worker>(*this));
  workers_[0]->main = true;
}

Scheduler::Impl::~Impl() { io_.close(); }

void* Scheduler::Impl::worker_main(void* worker) {
  auto& w = *static_cast<Worker*>(worker);
  w.scheduler.work(w);
  return nullptr;
}

void Scheduler::Impl::start_worker(Worker& w) {
  if (w.has_thread) pthread_join(w.thread, nullptr);  // an earlier one that has left
  w.leave = false;
  w.searching = true;
  w.stuck.store(false);
  w.awake.store(true);
  threads_.fetch_add(1);
  auto t = start_thread(worker_main, &w);
  if (t.ok()) {
    w.thread = *t;
    w.has_thread = true;
    return;
  }
  LOG(warn, "no thread for a worker: {}", t.error().name());
  threads_.fetch_sub(1);
  searching_.fetch_sub(1);
  MutexLock l(mu_);
  w.has_thread = false;
  w.exited = true;
  active_--;
}

// ---- Seats ----

Result<void> Scheduler::Impl::start_seat(Ref<Seat> seat) {
  Worker* w = nullptr;
  {
    MutexLock l(mu_);
    if (stopping_.load()) return kESRCH;
    for (auto& old : workers_)
      if (old->exited) w = old.get();
    if (!w) {
      if (workers_.size() >= kMaxWorkers) return kEAGAIN;
      workers_.push_back(std::make_unique<Worker>(*this));
      w = workers_.back().get();
    }
    w->exited = false;
    w->unseat.store(false);
    w->seat = std::move(seat);
    active_++;
  }
  searching_.fetch_add(1);
  start_worker(*w);
  MutexLock l(mu_);
  if (w->has_thread) return {};
  w->seat = nullptr;
  return kEAGAIN;
}

void Scheduler::Impl::stop_seat(Seat& seat) {
  {
    MutexLock l(mu_);
    for (auto& w : workers_)
      if (w->seat.get() == &seat) w->unseat.store(true);
  }
  if (call_off_seats()) seats_leave_.arm(now() + kTick);
}

bool Scheduler::Impl::call_off_seats() {
  bool more = false;
  MutexLock l(mu_);
  for (auto& w : workers_) {
    if (!w->seat || !w->has_thread || !(w->unseat.load() || stopping_.load())) continue;
    pthread_kill(w->thread, kSeatSignal);
    more = true;
  }
  return more;
}

void Scheduler::Impl::run() {
  auto m = start_thread(monitor_main, this);
  if (m.ok()) {
    monitor_ = *m;
    has_monitor_ = true;
  } else {
    LOG(warn, "no thread for the monitor: {}", m.error().name());
  }
  Worker* self;
  {
    MutexLock l(mu_);
    self = workers_[0].get();
  }
  for (unsigned i = 1; i < options_.workers; i++) activate_one(true);
  work(*self);
  std::vector<pthread_t> threads;
  if (has_monitor_) {
    set_monitor_timer(1);
    pthread_join(monitor_, nullptr);
  }
  {
    MutexLock l(mu_);
    for (auto& w : workers_)
      if (w->has_thread) threads.push_back(w->thread);
  }
  while (call_off_seats()) sched_yield();
  for (pthread_t t : threads) pthread_join(t, nullptr);
}

void Scheduler::Impl::stop() {
  stopping_.store(true);
  ring_sleeper();
  Worker* asleep;
  {
    MutexLock l(mu_);
    asleep = idle_;
    idle_ = nullptr;
    idle_count_.store(0);
  }
  while (asleep) {
    Worker* next = asleep->next_idle;
    asleep->bell.store(1, std::memory_order_release);
    futex_wake(asleep->bell, 1);
    asleep = next;
  }
}

// ---- Scheduler ----

Scheduler::Scheduler() = default;

Result<std::unique_ptr<Scheduler>> Scheduler::create(const Options& options) {
  std::unique_ptr<Scheduler> s(new Scheduler);
  s->impl_ = std::make_unique<Impl>(options);
  Impl& i = *s->impl_;
  i.epoll_ = TRY(sys::epoll_create());
  i.event_ = TRY(sys::eventfd(0));
  i.monitor_timer_ = TRY(sys::timerfd(CLOCK_MONOTONIC));
  i.wake_timer_ = TRY(sys::timerfd(CLOCK_MONOTONIC));
  TRY(sys::set_nonblocking(i.monitor_timer_.get(), false));
  // Edge-triggered: every write rings, and nobody needs to read.
  epoll_event e{};
  e.events = EPOLLIN | EPOLLET;
  TRY(sys::epoll_ctl(i.epoll_.get(), EPOLL_CTL_ADD, i.event_.get(), &e));
  TRY(sys::epoll_ctl(i.epoll_.get(), EPOLL_CTL_ADD, i.wake_timer_.get(), &e));
  Scheduler* none = nullptr;
  if (!the_scheduler.compare_exchange_strong(none, s.get())) return kEBUSY;
  return s;
}

Scheduler::~Scheduler() {
  Scheduler* self = this;
  the_scheduler.compare_exchange_strong(self, nullptr);
}

Scheduler& Scheduler::get() {
  Scheduler* s = the_scheduler.load(std::memory_order_acquire);
  CHECK(s);
  return *s;
}

void Scheduler::set_poller(Poller* poller) {
  impl_->poller_.store(poller, std::memory_order_release);
  impl_->ring_sleeper();
}

Result<Ref<Fiber>> Scheduler::spawn(void (*fn)(void*), void* arg) { return impl_->spawn(fn, arg); }
Result<void> Scheduler::start_seat(Ref<Seat> seat) { return impl_->start_seat(std::move(seat)); }
void Scheduler::stop_seat(Seat& seat) { impl_->stop_seat(seat); }
void Scheduler::run() { impl_->run(); }
void Scheduler::stop() { impl_->stop(); }

}  // namespace sentry::sched
