// SPDX-License-Identifier: Apache-2.0
// A zygote: its adoption, and the few ready stubs that are kept of it.
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/sys.h"
#include "sentry/platform/impl.h"
#include "sentry/platform/zygote_life.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1ul << 0)
#endif

namespace sentry::platform {
namespace {

constexpr sched::Nanos kAdoptDeadline = 10 * kSecond;
constexpr sched::Nanos kBurst = kSecond / 10;  // two processes within this time: keep two ready
constexpr size_t kMaxReady = 2;

}  // namespace

Zygote::Zygote() = default;
Zygote::~Zygote() {
  kill_all();
  if (impl_->seat) sched::Scheduler::get().stop_seat(*impl_->seat);
  std::shared_ptr<Fd> file;
  MutexLock l(impl_->platform.mu);
  for (Space* s : impl_->spaces) s->impl().zygote = nullptr;
  auto& files = impl_->platform.threads_files;
  if (auto it = files.find(this); it != files.end()) {
    file = std::move(it->second);
    files.erase(it);
  }
}

Zygote::Impl::Impl(Zygote& z, Platform::Impl& p)
    : self(z), platform(p) {}

Result<Ref<Zygote>> Platform::adopt_zygote(Fd socket) {
  Platform::Impl& p = *impl_;
  auto zygote = Maker::zygote(p);
  Zygote::Impl& z = zygote->impl();
  Control control = TRY(Control::create());
  auto space = Maker::space(p, zygote.get(), std::move(control));
  space->impl().patience = z.patience;
  {
    MutexLock l(p.mu);
    z.spaces.push_back(space.get());
  }
  auto context = Maker::context(space, 0);
  context->set_fiber(sched::current());
  space->impl().control.prepare_slot(0);
  space->impl().put_context(0, context.get());

  stub::ZygoteHello hello{stub::kZygoteMagic, random_token()};
  auto birth = make_ref<Birth>(Birth::zygote, context, space);
  {
    MutexLock l(p.mu);
    birth->waiter = Ref<sched::Fiber>(*sched::current());
    p.births.emplace(hello.token, birth);
  }
  auto forget_birth = [&] {
    MutexLock l(p.mu);
    p.births.erase(hello.token);
  };
  const int fds[] = {space->impl().control.fd(), p.zygote_page.get()};
  stub::ZygoteAnswer answer{};
  Fd got;
  Result<sys::Received> received = kEIO;
  Result<void> sent = sys::send_fds(socket.get(), std::as_bytes(std::span(&hello, 1)), fds);
  if (sent.ok())
    sched::run_blocking([&] {
      received = sys::recv_fds(socket.get(), std::as_writable_bytes(std::span(&answer, 1)), std::span(&got, 1));
    });
  space->impl().control.close_fd();
  if (!received.ok() || received->size != sizeof answer || answer.magic != stub::kZygoteMagic || answer.error != 0 ||
      !got.valid()) {
    forget_birth();
    const int why = static_cast<int>(answer.error & 0xffff);
    // Of all steps only that of the filter can find something busy: one listener per process is all the host allows.
    if (why == EBUSY) return kEBUSY;
    LOG(error, "zygote: start failed in step {} with errno {}", answer.error >> 16, why);
    return kEIO;
  }
  auto seat = make_ref<ListenerSeat>(p, std::move(got));
  z.vvar = answer.vvar;
  z.vdso = answer.vdso;
  z.vdso_end = answer.vdso_end;
  // Since Linux 6.6: the woken side runs on the waker's CPU at once.
  IGNORE_ERROR(sys::raw(SYS_ioctl, seat->fd(), static_cast<long>(SECCOMP_IOCTL_NOTIF_SET_FLAGS),
                        SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP),
               "an older host does without");
  if (auto r = sched::Scheduler::get().start_seat(seat); !r.ok()) {
    forget_birth();
    return r.error();
  }
  z.seat = seat;
  sched::Nanos deadline = sched::now() + kAdoptDeadline;
  while (birth->state.load() == Birth::waiting && sched::now() < deadline) sched::park(deadline);
  forget_birth();
  if (birth->state.load() != Birth::born) return kETIMEDOUT;
  context->set_fiber(nullptr);
  z.context = context;
  z.refill();
  return zygote;
}

Result<Ref<Context>> Zygote::Impl::make() {
  sched::SleepLock l(fork_lock);
  if (dead) return kESRCH;
  context->set_fiber(sched::current());
  auto made = context->fork(Birthday::now);
  context->set_fiber(nullptr);
  return made;
}

Result<Ref<Context>> Zygote::new_process() {
  Impl& z = *impl_;
  RefOrNull<Context> ready;
  {
    MutexLock l(z.platform.mu);
    while (!z.pool.empty() && !ready) {
      ready = std::move(z.pool.back());
      z.pool.pop_back();
    }
  }
  z.refill();
  if (ready && !ready->space().gone()) return ready.get_ref();
  return z.make();
}

// Keeps one process ready, two after a burst.
void Zygote::Impl::refill() {
  sched::Nanos t = sched::now();
  {
    MutexLock l(platform.mu);
    bool burst = t - last_taken < kBurst;
    last_taken = t;
    wanted = burst ? kMaxReady : 1;
    if (refilling || dead || pool.size() >= wanted) return;
    refilling = true;
  }
  Ref<Zygote> keep(self);
  auto fiber = sched::spawn([keep] {
    Impl& z = keep->impl();
    for (;;) {
      auto made = z.make();
      MutexLock l(z.platform.mu);
      if (made.ok() && !z.dead) z.pool.push_back(std::move(made).value());
      if (!made.ok() || z.dead || z.pool.size() >= z.wanted) {
        z.refilling = false;
        return;
      }
    }
  });
  if (fiber.ok()) return;
  MutexLock l(platform.mu);
  refilling = false;
}

void set_death_handler(Zygote& zygote, std::function<void()> handler) {
  Zygote::Impl& z = zygote.impl();
  bool late;
  {
    MutexLock l(z.platform.mu);
    late = z.context && z.context->space().gone();
    if (!late) z.patience->death_handler = std::move(handler);
  }
  if (late) handler();
}

void set_paused(Zygote& zygote, bool paused) {
  Patience& p = *zygote.impl().patience;
  if (!paused) p.resumed.store(sched::now());
  p.paused.store(paused);
}

void set_threads_file(Zygote& zygote, Fd file) {
  MutexLock l(zygote.impl().platform.mu);
  zygote.impl().platform.threads_files[&zygote] = std::make_shared<Fd>(std::move(file));
}

void Zygote::kill_all() {
  Impl& z = *impl_;
  std::vector<Ref<Space>> all;
  std::vector<Ref<Context>> pool;
  std::function<void()> handler;
  {
    MutexLock l(z.platform.mu);
    z.dead = true;
    handler.swap(z.patience->death_handler);
    pool.swap(z.pool);
    for (Space* s : z.spaces)
      if (auto r = RefOrNull<Space>::upgrade(s)) all.push_back(r.get_ref());
  }
  for (auto& s : all) s->kill();
}

uint64_t Zygote::vdso_address() const { return impl_->vdso; }
uint64_t Zygote::vdso_length() const { return impl_->vdso_end - impl_->vvar; }
uint64_t Zygote::vvar_address() const { return impl_->vvar; }

}  // namespace sentry::platform
