// SPDX-License-Identifier: Apache-2.0
// Snapshots of tasks and of the whole, for those who show them.
#include "sentry/kernel/inspect.h"

#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <set>

#include "base/sys.h"
#include "sentry/kernel/answers.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/ipc.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

constexpr uint64_t kMaxLargeReserve = 64 << 20;

std::vector<int> numbers(const std::vector<PidLink>& ids, const PidNamespace& viewer) {
  std::vector<int> out;
  for (const PidLink& l : ids) {  // innermost first
    out.push_back(l.number);
    if (l.ns.get() == &viewer) {
      std::reverse(out.begin(), out.end());
      return out;
    }
  }
  return {};
}

uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdull;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ull;
  return x ^ (x >> 33);
}

std::string uuid_text(uint64_t a, uint64_t b) {
  a = (a & ~0xf000ull) | 0x4000;                 // version 4
  b = (b & ~(3ull << 62)) | (2ull << 62);        // variant 1
  char text[40];
  snprintf(text, sizeof text, "%08x-%04x-%04x-%04x-%012llx", static_cast<unsigned>(a >> 32),
           static_cast<unsigned>(a >> 16) & 0xffff, static_cast<unsigned>(a) & 0xffff, static_cast<unsigned>(b >> 48),
           static_cast<unsigned long long>(b & 0xffffffffffffull));
  return text;
}

// Ids, parents, sessions: what the task-set lock guards.
void fill_ids(TaskFacts& f, Task& t, ThreadGroup& g, const PidNamespace& ns) {
  RefOrNull<Session> session;  // let go outside the lock, as the others
  RefOrNull<TtyLink> tty;
  RefOrNull<ProcessGroup> foreground;
  MutexLock l(task_set_lock);
  f.tid = number_in(t.impl().ids, ns);
  f.tgid = number_in(g.impl().ids, ns);
  f.ppid = g.impl().parent ? number_in(g.impl().parent->impl().ids, ns) : 0;
  f.ns_tids = numbers(t.impl().ids, ns);
  f.ns_tgids = numbers(g.impl().ids, ns);
  const auto& pg = g.impl().process_group ? g.impl().process_group : g.impl().last_process_group;
  if (pg) {
    f.pgrp = number_in(TaskAccess::ids(*pg), ns);
    f.ns_pgrps = numbers(TaskAccess::ids(*pg), ns);
    f.session = number_in(TaskAccess::ids(pg->session()), ns);
    f.ns_sessions = numbers(TaskAccess::ids(pg->session()), ns);
    session = Ref<Session>(pg->session());
  }
  f.exit_signal = g.impl().exit_signal;
  if (g.impl().zombie) f.state = 'Z';
  if (g.impl().reaped) f.state = 'X';
  f.children_user_ns = g.impl().children_cpu.user_ns;
  f.children_system_ns = g.impl().children_cpu.system_ns;
  if (!session) return;
  tty = session->tty();
  if (!tty) return;
  f.tty = tty->device();
  foreground = session->foreground();
  if (foreground) f.foreground_pgrp = number_in(TaskAccess::ids(*foreground), ns);
}

void fill_signals(TaskFacts& f, Task& t, ThreadGroup& g) {
  RefOrNull<SignalHandlers> handlers;
  bool stopped = false, dying = false;
  {
    MutexLock l(g.impl().mu);
    f.threads = static_cast<int>(g.impl().tasks.size());
    f.pending = t.impl().pending.set();
    f.shared_pending = g.impl().shared.set();
    f.queued_signals = t.container().queued_signals()->of(g.impl().last_uid);
    f.queue_limit = g.impl().limits[RLIMIT_SIGPENDING].rlim_cur;
    f.blocked = t.impl().blocked;
    handlers = g.impl().handlers;
    stopped = t.impl().in_stop;
    dying = t.impl().exiting_now;
    f.wait_status = g.impl().status.wait_status;
  }
  for (int s = 1; handlers && s <= kSignals; s++) {
    uint64_t h = handlers->get(s).handler;
    if (h == reinterpret_cast<uint64_t>(SIG_IGN)) f.ignored |= signal_bit(s);
    else if (h != reinterpret_cast<uint64_t>(SIG_DFL)) f.caught |= signal_bit(s);
  }
  if (f.state != 'R') return;
  bool at_stop;
  {
    MutexLock l(task_set_lock);
    at_stop = t.impl().trace.stopped;
  }
  if (at_stop) f.state = 't';
  else if (stopped) f.state = 'T';
  else if (dying && !t.find_mm()) f.state = 'Z';  // a leader that waits for its threads
  else if (&t != Task::find_current() && (t.impl().in_call.load(std::memory_order_relaxed) || t.impl().state.load() == 0 || waits_by_itself(t)))
    f.state = 'S';
}

bool holds_nothing(const mm::Vma& v) { return v.prot == PROT_NONE || v.name == "[vvar]"; }

}  // namespace

bool is_dumpable(Task& t) {
  MutexLock l(t.impl().mu);
  return !t.impl().mm || t.impl().mm->dumpable.load(std::memory_order_relaxed);
}

void set_dumpable(Task& t, bool dumpable) {
  MutexLock l(t.impl().mu);
  if (t.impl().mm) t.impl().mm->dumpable.store(dumpable, std::memory_order_relaxed);
}

// Linux: __ptrace_may_access(), its part about memory that is not dumpable.
bool may_see_memory(const auth::Credentials& me, Task& target) {
  RefOrNull<auth::UserNamespace> where;
  {
    MutexLock l(target.impl().mu);
    if (!target.impl().mm || target.impl().mm->dumpable.load(std::memory_order_relaxed)) return true;
    where = target.impl().mm->user_ns;
  }
  return me.has_cap_in(where.get(), CAP_SYS_PTRACE);
}

bool may_inspect(Task* viewer, Task& target, bool by_fsids) {
  if (!viewer || &viewer->group() == &target.group()) return true;
  Ref<auth::Credentials> me = viewer->credentials(), it = target.credentials();
  const uint32_t uid = by_fsids ? me->fsuid : me->uid;
  const uint32_t gid = by_fsids ? me->fsgid : me->gid;
  if (!may_see_memory(*me, target)) return false;
  if (me->has_cap_in(it->user_ns.get(), CAP_SYS_PTRACE)) return true;
  if (uid != it->euid || uid != it->suid || uid != it->uid || gid != it->egid || gid != it->sgid || gid != it->gid)
    return false;
  const uint64_t mine = by_fsids ? me->cap_effective : me->cap_permitted;
  return me->user_ns.get() == it->user_ns.get() && (it->cap_permitted & ~mine) == 0;
}

TaskFacts task_facts(Task& t, const PidNamespace& ns, FactsOf of) {
  TaskFacts f;
  f.name = t.name();
  f.cred = t.credentials();
  Ref<ThreadGroup> g = t.group_ref();
  fill_ids(f, t, *g, ns);
  fill_signals(f, t, *g);
  if (RefOrNull<FsContext> fs = find_fs(t)) f.umask = static_cast<int>(fs->umask());
  else f.umask = -1;
  if (RefOrNull<FdTable> files = find_files(t)) f.fd_size = (files->size() + 63) / 64 * 64;
  f.nice = t.impl().nice.load();
  f.policy = t.impl().policy.load();
  f.affinity = t.affinity();
  f.start_ns = std::max<int64_t>(0, t.impl().start_time - t.kernel().boot_monotonic_ns());
  CpuTimes c = of == FactsOf::process ? cpu_times(*g) : cpu_times(t);
  f.user_ns = c.user_ns;
  f.system_ns = c.system_ns;
  return f;
}

RefOrNull<FdTable> find_files(Task& t) {
  MutexLock l(t.impl().mu);
  return t.impl().files;
}
RefOrNull<FsContext> find_fs(Task& t) {
  MutexLock l(t.impl().mu);
  return t.impl().fs;
}
RefOrNull<PidNamespace> pids_for_children(Task& t) {
  {
    MutexLock l(t.impl().mu);
    if (t.impl().child_pids) return t.impl().child_pids;
  }
  return Ref<PidNamespace>(t.group().pid_namespace());
}
uint64_t timer_slack_ns(Task& t) { return t.impl().timer_slack_ns.load(); }
void set_timer_slack_ns(Task& t, uint64_t ns) { t.impl().timer_slack_ns.store(ns); }
int seccomp_mode(Task& t) { return t.impl().seccomp_mode.load(); }
int seccomp_filters(Task& t) { return seccomp_filter_count(t); }
uint32_t personality(Task& t) { return t.impl().personality.load(); }
uint64_t last_call_number(Task& t) {
  if (t.impl().in_call.load(std::memory_order_relaxed)) return t.impl().call_number.load(std::memory_order_relaxed);
  return waits_by_itself(t) ? 202 : ~0ull;
}

int oom_score_adj(ThreadGroup& g) { return g.impl().oom_score_adj.load(); }
void set_oom_score_adj(ThreadGroup& g, int value) { g.impl().oom_score_adj.store(value); }
uint32_t login_uid(ThreadGroup& g) { return g.impl().login_uid.load(); }
void set_login_uid(ThreadGroup& g, uint32_t uid) {
  static std::atomic<uint32_t> next_session{1};
  g.impl().login_uid.store(uid);
  g.impl().session_id.store(uid == ~0u ? ~0u : next_session.fetch_add(1));
}
uint32_t audit_session(ThreadGroup& g) { return g.impl().session_id.load(); }
uint32_t coredump_filter(ThreadGroup& g) { return g.impl().coredump_filter.load(); }
void set_coredump_filter(ThreadGroup& g, uint32_t bits) { g.impl().coredump_filter.store(bits & 0x1ff); }

// Keyed, so that no address of the kernel's can be told from a number.
uint64_t namespace_number(Kernel& k, NamespaceKind kind, const void* ns) {
  constexpr uint64_t kFirstDynamic = 4026532000;  // below lie Linux's fixed numbers
  if (!ns) return kind == NamespaceKind::user ? 4026531837 : 4026531834;  // the first user and time namespaces
  uint64_t x = mix(reinterpret_cast<uint64_t>(ns) ^ k.impl().namespace_secret) + static_cast<uint64_t>(kind);
  return kFirstDynamic + mix(x ^ std::rotl(k.impl().namespace_secret, 17)) % (UINT32_MAX - kFirstDynamic);
}

unsigned cpu_count(Kernel& k, const Container& c) {
  unsigned n = std::max(1u, k.machine().cpus);
  double limit = c.limits().cpus;
  if (limit <= 0 || limit >= n) return n;
  auto whole = static_cast<unsigned>(limit);
  return std::max(1u, whole + (whole < limit ? 1 : 0));
}

// Mappings that only keep addresses are not counted, nor the far part of large ones that nobody has charged.
uint64_t resident_estimate(const mm::Vma& v) {
  if (holds_nothing(v)) return 0;
  if (v.locked) return v.length();
  if (v.noreserve) return std::min(v.length(), kMaxLargeReserve / 16);
  if (v.file && !(v.prot & PROT_WRITE)) return v.length() / 2 & ~4095ull;
  return v.length();
}

std::vector<uint64_t> resident_of(mm::AddressSpace& space, const std::vector<mm::Vma>& list) {
  constexpr uint64_t kMostPages = 8192;  // asked for at once: about a millisecond
  uint64_t pages = 0;
  for (const mm::Vma& v : list)
    if (!holds_nothing(v)) pages += v.length() / platform::kPageSize;
  const uint64_t stride = pages / kMostPages + 1;
  std::vector<uint64_t> addresses;
  std::vector<uint32_t> owner;
  for (size_t i = 0; i < list.size(); i++) {
    if (holds_nothing(list[i])) continue;
    // From the middle of the first stride, so that a short mapping is not always asked about at its first page.
    for (uint64_t a = list[i].start + std::min(stride / 2 * platform::kPageSize, list[i].length() - platform::kPageSize);
         a < list[i].end; a += stride * platform::kPageSize) {
      addresses.push_back(a);
      owner.push_back(static_cast<uint32_t>(i));
    }
  }
  std::vector<uint64_t> out(list.size());
  auto present = std::make_unique<bool[]>(addresses.size());
  if (!space.space().pages_present(addresses, {present.get(), addresses.size()}).ok()) {
    for (size_t i = 0; i < list.size(); i++) out[i] = resident_estimate(list[i]);
    return out;
  }
  for (size_t i = 0; i < addresses.size(); i++)
    if (present[i]) out[owner[i]] += stride * platform::kPageSize;
  for (size_t i = 0; i < list.size(); i++) out[i] = std::min(out[i], list[i].length());
  return out;
}

Residence residence(mm::AddressSpace& space) {
  Residence r;
  const std::vector<mm::Vma> list = space.list();
  const std::vector<uint64_t> resident = resident_of(space, list);
  for (size_t i = 0; i < list.size(); i++) {
    const mm::Vma& v = list[i];
    if (v.file && v.file->is_anonymous()) r.shmem += resident[i];
    else if (v.file && (v.shared || !(v.prot & PROT_WRITE))) r.file += resident[i];
    else r.anonymous += resident[i];
  }
  return r;
}

// Copy-on-write pages count once for each process, so the estimate is held below three quarters: a program that sizes itself
// by free memory finds some.
MemoryFacts memory_facts(Kernel& k, const Container& c) {
  MemoryFacts m;
  m.total = k.machine().memory_bytes;
  if (uint64_t limit = c.limits().memory_bytes; limit != 0 && limit < m.total) {
    m.total = limit;
    m.limited = true;
  }
  std::set<const mm::AddressSpace*> seen;
  for (const Ref<ThreadGroup>& g : c.pids()->groups()) {
    RefOrNull<Task> t = g->leader();
    RefOrNull<mm::AddressSpace> space = t ? t->find_mm() : nullptr;
    if (!space || !seen.insert(space.get()).second) continue;
    if (seen.size() % 16 == 0 && sched::current()) sched::yield();
    for (const mm::Vma& v : space->list())
      m.used += v.file && !v.file->is_anonymous() && !(v.prot & PROT_WRITE) ? resident_estimate(v) / 4 : resident_estimate(v);
  }
  m.used = std::min(m.used, m.total / 4 * 3) & ~4095ull;
  m.free = m.total - m.used;
  return m;
}

// Reaped stubs are the sentry's children on the host; living ones are asked.
CpuTotals cpu_totals(Kernel&, const PidNamespace& ns) {
  auto ns_of = [](const timeval& t) { return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_usec) * 1000; };
  CpuTotals c;
  struct rusage dead{}, self{};
  if (getrusage(RUSAGE_CHILDREN, &dead) == 0) c.user_ns = ns_of(dead.ru_utime) + ns_of(dead.ru_stime);
  if (getrusage(RUSAGE_SELF, &self) == 0) c.system_ns = ns_of(self.ru_utime) + ns_of(self.ru_stime);
  for (const Ref<ThreadGroup>& g : ns.groups())
    if (!g->is_zombie()) c.user_ns += cpu_times(*g).user_ns;
  return c;
}

int64_t tasks_in(const Container& c) {
  MutexLock l(task_set_lock);
  return TaskAccess::task_count(const_cast<Container&>(c));
}

std::string boot_id(Kernel& k) { return uuid_text(k.impl().boot_id[0], k.impl().boot_id[1]); }
std::string random_uuid(Kernel& k) { return uuid_text(k.random64(), k.random64()); }

}  // namespace sentry::kernel
