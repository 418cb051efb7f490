// SPDX-License-Identifier: Apache-2.0
// Ends of threads and processes: who does not go when told is killed, who is dead is reaped, and who was never
// announced is found. Runs only while there is something to watch.
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "base/sys.h"
#include "sentry/platform/impl.h"

namespace sentry::platform {
namespace {
constexpr sched::Nanos kTick = kSecond / 5;
constexpr size_t kMaxThreadsFile = 4 << 20;
constexpr sched::Nanos kAuditPeriod = kSecond / 2;
constexpr sched::Nanos kStrangerLimit = kSecond * 3 / 4;  // how long a thread may run unannounced
}  // namespace

void Platform::Impl::start_watchdog() {
  if (!watchdog.armed()) watchdog.arm(sched::now() + kTick);
}

Control Platform::Impl::reap(Process& p) {
  siginfo_t info{};
  // Not our child: its parent reaps it.
  IGNORE_ERROR(sys::raw(SYS_waitid, P_PIDFD, p.pidfd.get(), reinterpret_cast<long>(&info), WEXITED | WNOHANG, 0),
               "another process's child");
  LOG(debug, "stub {} ended: code {}, status {}", p.pid, info.si_code, info.si_status);
  if (p.space) p.space->impl().process = nullptr;
  Control control = std::move(p.control);
  processes.erase(p.pid);  // with p
  return retire(std::move(control));
}

void Platform::Impl::kill_retired(Where where) {
  unsigned cpu;
  __builtin_ia32_rdtscp(&cpu);
  cpu &= 0xfff;
  cpu_set_t set = usable_cpus;
  if (cpu < CPU_SETSIZE && where == Where::away) CPU_CLR(cpu, &set);
  if (cpu < CPU_SETSIZE && where == Where::here) {
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
  }
  MutexLock l(mu);
  for (int pid : retired) {
    auto it = processes.find(pid);
    // Dead by itself; and the number may have been given to another one, whose space lives.
    if (it == processes.end() || it->second->dead || (it->second->space && !it->second->space->gone())) continue;
    if (CPU_COUNT(&set) != 0)
      IGNORE_ERROR(sys::raw(SYS_sched_setaffinity, pid, sizeof set, reinterpret_cast<long>(&set)), "then it dies where it was");
    counters.processes_killed.fetch_add(1, std::memory_order_relaxed);
    IGNORE_ERROR(sys::pidfd_send_signal(it->second->pidfd.get(), SIGKILL), "it has just died");
  }
  retired.clear();
  retired_count.store(0);
}

void Platform::Impl::process_died(Process& p) {
  RefOrNull<Space> space;
  Control surplus;
  {
    MutexLock l(mu);
    p.dead = true;
    space = RefOrNull<Space>::upgrade(p.space);
    if (!space) {
      surplus = reap(p);
      return;
    }
  }
  space->impl().mark_gone();
  bool later = false;
  std::function<void()> zygote_died;
  {
    MutexLock l(mu);
    Zygote* z = space->impl().zygote;
    if (z && z->impl().context && &z->impl().context->space() == space.get()) zygote_died.swap(z->impl().patience->death_handler);
    if (space->impl().remote_users.load() != 0) later = true;
    else surplus = reap(p);
  }
  if (later) start_watchdog();
  if (zygote_died) zygote_died();
}

void Platform::Impl::on_watchdog() {
  if (retired_count.load() != 0) kill_retired(Where::away);
  std::vector<Ref<Space>> guilty;
  std::vector<Leaving> done;
  std::vector<Control> surplus;
  sched::Nanos t = sched::now();
  bool more;
  {
    MutexLock l(mu);
    std::erase_if(kicked, [&](Context* c) {
      Context::Impl& m = c->impl();
      if (m.phase.load() != Phase::running || m.space->gone()) return true;
      if (!m.kick_wanted.load()) return true;
      if (!overdue(*m.space, m.kick_time, m.kick_cpu)) return false;
      guilty.push_back(m.space);
      return true;
    });
    dismiss_resting(t, guilty);
    for (size_t i = leaving.size(); i-- > 0;) {
      Leaving& x = leaving[i];
      bool gone = x.space->gone() || !sys::tgkill(x.space->host_pid(), x.tid, 0).ok();
      if (!gone) {
        if (overdue(*x.space, x.since, x.cpu)) guilty.push_back(x.space);
        else continue;
      }
      done.push_back(std::move(x));
      leaving.erase(leaving.begin() + static_cast<long>(i));
    }
    std::vector<Process*> dead;
    bool waiting = false;
    for (auto& [pid, p] : processes) {
      if (!p->dead) continue;
      if (p->space && p->space->impl().remote_users.load() != 0) waiting = true;
      else dead.push_back(p.get());
    }
    for (Process* p : dead) surplus.push_back(reap(*p));
    std::erase_if(condemned, [](Fd& fd) {
      siginfo_t info{};
      auto r = sys::raw(SYS_waitid, P_PIDFD, fd.get(), reinterpret_cast<long>(&info), WEXITED | WNOHANG, 0);
      return !r.ok() || info.si_pid != 0;  // not ours to reap, or reaped
    });
    more = !kicked.empty() || !leaving.empty() || !resting.empty() || waiting || !condemned.empty();
  }
  for (Leaving& x : done)
    if (x.space->gone()) continue;
    else x.space->impl().free_slot(x.slot);
  for (auto& s : guilty) {
    LOG(warn, "stub {} did not stop when it was told; killed", s->host_pid());
    s->kill();
  }
  more |= drop_lost_births(t);
  bool due;
  {
    MutexLock l(mu);
    due = audits_left > 0 && t >= next_audit && !threads_files.empty();
  }
  if (due) audit();
  {
    MutexLock l(mu);
    more |= audits_left > 0 && !threads_files.empty();
  }
  if (more) start_watchdog();
}

// Whoever runs in the sandbox's cgroups and stays in no table is a stranger.
void Platform::Impl::audit() {
  std::vector<std::shared_ptr<Fd>> files;
  {
    MutexLock l(mu);
    for (auto& [zygote, file] : threads_files) files.push_back(file);
  }
  std::string text;
  for (auto& file : files) {
    for (size_t at = 0; at <= kMaxThreadsFile;) {
      char buf[16384];
      auto n = sys::pread(file->get(), buf, sizeof buf, static_cast<int64_t>(at));
      if (!n.ok() || *n == 0) break;
      text.append(buf, *n);
      at += *n;
    }
  }
  std::unordered_map<int, sched::Nanos> found;
  sched::Nanos t = sched::now();
  auto known_locked = [&](int tid) REQUIRES(mu) {
    if (threads.contains(tid) || sys::tgkill(getpid(), tid, 0).ok()) return true;
    auto is_it = [&](const auto& x) { return x.tid == tid; };
    if (std::any_of(leaving.begin(), leaving.end(), is_it) || std::any_of(resting.begin(), resting.end(), is_it)) return true;
    return processes.contains(tid);  // a leader that waits for the end of its process
  };
  MutexLock l(mu);
  // While somebody is being born it may be just that one, whom the host has not let run yet.
  sched::Nanos limit = births.empty() ? kStrangerLimit : kSilentDeadline;
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    int tid = 0;
    auto r = std::from_chars(p, end, tid);
    p = r.ptr + 1;
    if (r.ec != std::errc() || tid <= 0) continue;
    if (known_locked(tid)) continue;
    auto seen = strangers.find(tid);
    sched::Nanos since = seen == strangers.end() ? t : seen->second;
    found[tid] = since;
    if (t - since < limit) continue;
    auto pidfd = sys::pidfd_open(tid);
    if (pidfd.ok()) {  // a process of its own
      LOG(warn, "process {} was never announced; killed", tid);
      counters.processes_killed.fetch_add(1, std::memory_order_relaxed);
      IGNORE_ERROR(sys::pidfd_send_signal(pidfd->get(), SIGKILL), "it has just ended");
      condemned.push_back(std::move(*pidfd));
      continue;
    }
    for (auto& [pid, process] : processes)
      if (!process->dead && sys::tgkill(pid, tid, 0).ok()) {
        LOG(warn, "thread {} of stub {} was never announced; killed", tid, pid);
        IGNORE_ERROR(sys::pidfd_send_signal(process->pidfd.get(), SIGKILL), "it has just ended");
      }
  }
  strangers = std::move(found);
  if (audits_left > 0) audits_left--;
  if (!strangers.empty()) audits_left = std::max(audits_left, 2);
  next_audit = t + kAuditPeriod;
}

}  // namespace sentry::platform
