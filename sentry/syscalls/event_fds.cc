// SPDX-License-Identifier: Apache-2.0
// eventfd, timerfd, signalfd, epoll.
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "sentry/fs/epoll/epoll.h"
#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/fs/signalfd/signalfd.h"
#include "sentry/fs/timerfd/timerfd.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/syscalls/timeout.h"

namespace sentry::syscalls {

// ---- eventfd ----

Result<long> sys_eventfd2(Task& task, unsigned init, int flags) {
  if (flags & ~(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) return kEINVAL;
  return task.install(fs::eventfd::create(init, flags, flags & EFD_SEMAPHORE, task.credentials()), flags & EFD_CLOEXEC);
}
Result<long> sys_eventfd(Task& task, unsigned init) { return sys_eventfd2(task, init, 0); }

// ---- timerfd ----

Result<long> sys_timerfd_create(Task& task, int clock, int flags) {
  if (flags & ~(TFD_CLOEXEC | TFD_NONBLOCK)) return kEINVAL;
  return task.install(TRY(fs::timerfd::create(clock, flags, task.credentials())), flags & TFD_CLOEXEC);
}
Result<long> sys_timerfd_settime(Task& task, int fd, int flags, UserIn<itimerspec> value, UserOut<itimerspec> old) {
  auto v = TRY(value.copy_in(task.context()));
  auto file = TRY(task.file(fd));
  auto before = TRY(fs::timerfd::set(*file, flags, v));
  if (!old.is_null()) TRY(old.copy_out(task.context(), before));
  return 0L;
}
Result<long> sys_timerfd_gettime(Task& task, int fd, UserOut<itimerspec> value) {
  auto file = TRY(task.file(fd));
  TRY(value.copy_out(task.context(), TRY(fs::timerfd::get(*file))));
  return 0L;
}

// ---- signalfd ----

Result<long> sys_signalfd4(Task& task, int fd, UserIn<uint64_t> mask, size_t size, int flags) {
  if ((flags & ~(SFD_CLOEXEC | SFD_NONBLOCK)) || size != sizeof(uint64_t)) return kEINVAL;
  uint64_t m = TRY(mask.copy_in(task.context()));
  if (fd == -1) return task.install(fs::signalfd::create(task, m, flags), flags & SFD_CLOEXEC);
  auto file = TRY(task.file(fd));
  TRY(fs::signalfd::set_mask(*file, m));
  return static_cast<long>(fd);
}
Result<long> sys_signalfd(Task& task, int fd, UserIn<uint64_t> mask, size_t size) {
  return sys_signalfd4(task, fd, mask, size, 0);
}

// ---- epoll ----

Result<long> sys_epoll_create1(Task& task, int flags) {
  if (flags & ~EPOLL_CLOEXEC) return kEINVAL;
  return task.install(fs::epoll::create(task.credentials()), flags & EPOLL_CLOEXEC);
}
Result<long> sys_epoll_create(Task& task, int size) {
  if (size <= 0) return kEINVAL;
  return sys_epoll_create1(task, 0);
}
Result<long> sys_epoll_ctl(Task& task, int fd, int op, int target, UserIn<epoll_event> event) {
  epoll_event ev{};
  if (op != EPOLL_CTL_DEL) ev = TRY(event.copy_in(task.context()));
  auto e = TRY(task.file(fd));
  auto t = TRY(task.file(target));
  TRY(fs::epoll::control(*e, op, target, t, ev));
  return 0L;
}

namespace {
Result<long> epoll_wait_until(Task& task, int fd, UserOut<void> events, int max, sched::Nanos deadline) {
  if (max <= 0 || max > INT32_MAX / static_cast<int>(sizeof(epoll_event))) return kEINVAL;
  auto e = TRY(task.file(fd));
  auto got = TRY(fs::epoll::wait(*e, max, deadline));
  if (!got.empty()) TRY(events.copy_bytes_out(task.context(), got.data(), got.size() * sizeof(epoll_event)));
  return static_cast<long>(got.size());
}
}  // namespace

Result<long> sys_epoll_wait(Task& task, int fd, UserOut<void> events, int max, int timeout_ms) {
  return epoll_wait_until(task, fd, events, max, deadline_after_ms(timeout_ms));
}
Result<long> sys_epoll_pwait(Task& task, int fd, UserOut<void> events, int max, int timeout_ms,
                             UserIn<uint64_t> sigmask, size_t setsize) {
  TRY(apply_signal_mask(task, sigmask, setsize));
  return epoll_wait_until(task, fd, events, max, deadline_after_ms(timeout_ms));
}
Result<long> sys_epoll_pwait2(Task& task, int fd, UserOut<void> events, int max, UserIn<timespec> timeout,
                              UserIn<uint64_t> sigmask, size_t setsize) {
  sched::Nanos deadline = sched::kNever;
  if (!timeout.is_null()) deadline = TRY(deadline_after(TRY(timeout.copy_in(task.context()))));
  TRY(apply_signal_mask(task, sigmask, setsize));
  return epoll_wait_until(task, fd, events, max, deadline);
}

}  // namespace sentry::syscalls
