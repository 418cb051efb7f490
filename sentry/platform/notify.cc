// SPDX-License-Identifier: Apache-2.0
// Seccomp notifications: knocks, births, descriptors on their way, and calls compared with grants. Every one is
// answered at once (a knock: with its call), and only pid and registers, for which the kernel vouches, are believed.
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "base/sys.h"
#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {

Result<long> ioctl_on(int fd, unsigned long request, void* arg) {
  return sys::raw(SYS_ioctl, fd, static_cast<long>(request), reinterpret_cast<long>(arg));
}

// ENOENT: the caller was interrupted or killed; it will notify again, or never.
bool answer(int listener, uint64_t id, int error, uint32_t flags = 0) {
  seccomp_notif_resp r{};
  r.id = id;
  r.error = error;
  r.flags = flags;
  return ioctl_on(listener, SECCOMP_IOCTL_NOTIF_SEND, &r).ok();
}

bool add_fd(int listener, uint64_t id, int fd, int number, uint32_t flags = 0) {
  seccomp_notif_addfd a{};
  a.id = id;
  a.flags = SECCOMP_ADDFD_FLAG_SETFD | flags;
  a.srcfd = static_cast<uint32_t>(fd);
  a.newfd = static_cast<uint32_t>(number);
  return ioctl_on(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a).ok();
}

// Also answers the notification, with the number: the thread need not wake up twice.
bool answer_with_fd(int listener, uint64_t id, int fd, int number) {
  return add_fd(listener, id, fd, number, SECCOMP_ADDFD_FLAG_SEND);
}

// Of a thread that is in no table. It leaves by this answer; if it is a process of its own, somebody must also reap it.
void turn_away(Platform::Impl& p, int listener, uint64_t id, int tid) {
  bool known;
  {
    MutexLock l(p.mu);
    known = p.processes.contains(tid);
  }
  auto pidfd = known ? Result<Fd>(kEEXIST) : sys::pidfd_open(tid);
  if (pidfd.ok()) {
    IGNORE_ERROR(sys::pidfd_send_signal(pidfd->get(), SIGKILL), "it has just ended");
    p.counters.processes_killed.fetch_add(1, std::memory_order_relaxed);
    MutexLock l(p.mu);
    p.condemned.push_back(std::move(*pidfd));
  }
  answer(listener, id, -ENOSYS);
  if (pidfd.ok()) p.start_watchdog();
}

// A thread that only wants to be looked at.
void wake_up(Platform::Impl& p, int listener, uint64_t id, int tid) {
  RefOrNull<Context> c;
  {
    MutexLock l(p.mu);
    auto it = p.threads.find(tid);
    if (it != p.threads.end()) c = RefOrNull<Context>::upgrade(it->second);
  }
  if (!c) {  // who was never announced goes no further than this (stub_clone)
    turn_away(p, listener, id, tid);
    return;
  }
  MutexLock l(p.poll_mu);
  p.attend(c->space());
  if (p.look(*c)) p.make_hot(*c);
  p.scan(c->space());
  p.keep_knock({listener, id, c.get()});
  // Else send_reply() has not been there yet: it sets the phase, then looks at knock_count.
  if (c->impl().phase.load() == Phase::running) p.end_knock_of(*c.get(), false);
}

// The thread has come into being: tid is whose notification it is.
bool be_born(Platform::Impl& p, Birth& b, int tid) {
  Context& c = *b.child;
  Space::Impl& s = c.space().impl();
  if (b.kind == Birth::thread) {
    if (s.gone.load() || !sys::tgkill(s.pid.load(), tid, 0).ok()) return false;  // a thread of somebody else
  } else {
    auto pidfd = sys::pidfd_open(tid);
    if (!pidfd.ok()) return false;  // no process of its own
    auto owner = std::make_unique<Process>(p, tid, std::move(*pidfd), &c.space());
    Process& process = *owner;
    s.pid.store(tid);
    bool killed;
    {
      MutexLock l(p.mu);
      s.process = &process;
      p.processes[tid] = std::move(owner);
      killed = s.gone.load();
      if (killed) IGNORE_ERROR(sys::pidfd_send_signal(process.pidfd.get(), SIGKILL), "it has just died");
    }
    // From here on its death may destroy it.
    if (!process.watch.start(process.pidfd.get(), EPOLLIN).ok()) {
      c.space().kill();
      return false;
    }
    if (killed) return false;
  }
  std::vector<Leaving> left;
  {
    MutexLock l(p.mu);
    c.impl().set_host_tid(tid);
    c.impl().own_birth = nullptr;
    p.threads[tid] = &c;
    // The number is used again, so an old thread of that number has gone.
    for (size_t i = p.leaving.size(); i-- > 0;)
      if (p.leaving[i].tid == tid) {
        left.push_back(std::move(p.leaving[i]));
        p.leaving.erase(p.leaving.begin() + static_cast<long>(i));
      }
    std::erase_if(p.resting, [&](const Resting& x) { return x.tid == tid; });  // it killed itself; its slot stays taken
  }
  for (Leaving& x : left) x.space->impl().free_slot(x.slot);
  p.counters.stubs_made.fetch_add(b.kind == Birth::process, std::memory_order_relaxed);
  return true;
}

void token_knock(Platform::Impl& p, int listener, uint64_t id, int tid, uint64_t token) {
  RefOrNull<Birth> birth;
  RefOrNull<Context> c;
  std::vector<FdGrant> arriving;
  {
    MutexLock l(p.mu);
    auto known = p.threads.find(tid);
    if (known != p.threads.end()) {
      c = RefOrNull<Context>::upgrade(known->second);
      if (c)
        for (FdGrant& g : c->impl().fd_grants)
          if (g.token == token && g.fd.valid()) arriving.push_back(std::move(g));
    } else {
      auto it = p.births.find(token);
      if (it != p.births.end()) {
        birth = it->second;
        p.births.erase(it);
      }
    }
  }
  if (!arriving.empty()) {
    auto& cached = c->space().impl().fds;
    auto index = [](const FdGrant& g) { return static_cast<size_t>(g.number - Space::Impl::kFirstCachedFd); };
    {
      MutexLock l(p.mu);
      for (const FdGrant& g : arriving) cached[index(g)].key = g.key;
    }
    bool good = true;
    for (size_t i = 0; i + 1 < arriving.size() && good; i++) good = add_fd(listener, id, arriving[i].fd.get(), arriving[i].number);
    if (good && answer_with_fd(listener, id, arriving.back().fd.get(), arriving.back().number)) return;
    answer(listener, id, -EMFILE);
    MutexLock l(p.mu);
    for (const FdGrant& g : arriving) cached[index(g)].key = 0;
    return;
  }
  if (!birth) {
    if (c) answer(listener, id, -ENOSYS);
    else turn_away(p, listener, id, tid);
    return;
  }
  bool good = be_born(p, *birth, tid);
  // Somebody polls its maker: then it need not knock for its first call.
  if (good && p.attended_count.load() != 0) {
    MutexLock l(p.poll_mu);
    p.attend(birth->child->space());
  }
  if (good && birth->kind == Birth::process && !birth->carried)
    good = answer_with_fd(listener, id, birth->child->space().impl().control.fd(), STUB_CONTROL_FD);
  else if (good)
    answer(listener, id, 0);
  if (!good) {
    answer(listener, id, -ENOSYS);
    p.refuse(*birth);
    return;
  }
  birth->state.store(Birth::born);
  RefOrNull<sched::Fiber> waiter;
  {
    MutexLock l(p.mu);
    std::swap(waiter, birth->waiter);
  }
  if (waiter) waiter->wake();
}

void granted_call(Platform::Impl& p, int listener, const seccomp_notif& n) {
  bool found = false;
  Grant g{};
  RefOrNull<Birth> birth;
  RefOrNull<Context> c;
  {
    MutexLock l(p.mu);
    auto it = p.threads.find(static_cast<int>(n.pid));
    if (it != p.threads.end()) c = RefOrNull<Context>::upgrade(it->second);
    if (c) {
      auto& grants = c->impl().grants;
      for (size_t i = 0; i < grants.size() && !found; i++) {
        if (grants[i].number != static_cast<uint64_t>(n.data.nr) ||
            memcmp(grants[i].args, n.data.args, sizeof g.args) != 0)
          continue;
        found = true;
        g = grants[i];
        grants.erase(grants.begin() + static_cast<long>(i));
        if (g.number == SYS_clone) birth = c->impl().making;
        if (birth) birth->cloned = true;
      }
    }
  }
  if (!found) {
    answer(listener, n.id, -ENOSYS);
    return;
  }
  bool ready = !birth || !birth->carried ||
               add_fd(listener, n.id, birth->child->space().impl().control.fd(), STUB_CONTROL_FD);
  if (ready && answer(listener, n.id, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)) return;
  MutexLock l(p.mu);  // not used: the call will notify again
  c->impl().grants.push_back(g);
}

}  // namespace

uint64_t random_token() {
  // A fiber does not change its thread in here.
  static thread_local uint64_t drawn[16];
  static thread_local size_t left = 0;
  uint64_t t = 0;
  while (t == 0) {
    if (left == 0) {
      CHECK(getrandom(drawn, sizeof drawn, 0) == sizeof drawn);
      left = std::size(drawn);
    }
    t = std::exchange(drawn[--left], 0);
  }
  return t;
}

bool Platform::Impl::receive(int listener) {
  seccomp_notif n{};
  if (!ioctl_on(listener, SECCOMP_IOCTL_NOTIF_RECV, &n).ok()) {
    // Interrupted, or who notified was; or all are dead.
    pollfd f{listener, POLLIN, 0};
    return ::poll(&f, 1, 0) != 1 || !(f.revents & POLLHUP);
  }
  counters.notifications.fetch_add(1, std::memory_order_relaxed);
  int tid = static_cast<int>(n.pid);
  if (n.data.nr != STUB_KNOCK) {
    granted_call(*this, listener, n);
  } else if (n.data.args[0] == 0) {
    counters.knocks.fetch_add(1, std::memory_order_relaxed);
    wake_up(*this, listener, n.id, tid);
  } else {
    token_knock(*this, listener, n.id, tid, n.data.args[0]);
  }
  return true;
}

}  // namespace sentry::platform
