// SPDX-License-Identifier: Apache-2.0
// Processes: facts about them. Their signals are in signal_send.cc, their ends in exit.cc.
#include "sentry/kernel/keys.h"
#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/posix_timers.h"

namespace sentry::kernel {

ThreadGroup::Impl::Impl(Kernel& k) : kernel(k) {}
ThreadGroup::Impl::~Impl() = default;
ThreadGroup::ThreadGroup(Kernel& kernel) : impl_(std::make_unique<Impl>(kernel)) {
  impl_->timers = std::make_unique<PosixTimers>(*this);
}
ThreadGroup::~ThreadGroup() = default;
Ref<ThreadGroup> TaskAccess::make_group(Kernel& k) { return adopt_ref(new ThreadGroup(k)); }

Kernel& ThreadGroup::kernel() const { return impl_->kernel; }
int ThreadGroup::pid() const { return impl_->pid.load(std::memory_order_relaxed); }
int ThreadGroup::pid_in(const PidNamespace& ns) const {
  MutexLock l(task_set_lock);
  return number_in(impl_->ids, ns);
}
int ThreadGroup::ppid_in(const PidNamespace& ns) const {
  MutexLock l(task_set_lock);
  return impl_->parent ? number_in(impl_->parent->impl().ids, ns) : 0;
}
// The first link is written before the group is published and its namespace never changes.
PidNamespace& ThreadGroup::pid_namespace() const NO_THREAD_SAFETY_ANALYSIS { return *impl_->ids.front().ns; }
Container& ThreadGroup::container() const { return *impl_->container; }

RefOrNull<Task> ThreadGroup::leader() const {
  MutexLock l(impl_->mu);
  return impl_->leader;
}
std::vector<Ref<Task>> ThreadGroup::tasks() const {
  MutexLock l(impl_->mu);
  return impl_->tasks;
}
Ref<ProcessGroup> ThreadGroup::process_group() const {
  MutexLock l(task_set_lock);
  return (impl_->process_group ? impl_->process_group : impl_->last_process_group).get_ref();
}
Ref<Session> ThreadGroup::session() const {
  Ref<ProcessGroup> pg = process_group();
  return Ref<Session>(pg->session());
}
Ref<SignalHandlers> ThreadGroup::handlers() const {
  MutexLock l(impl_->mu);
  return impl_->handlers.get_ref();
}
std::vector<Ref<ThreadGroup>> ThreadGroup::children() const {
  MutexLock l(task_set_lock);
  return {impl_->children.begin(), impl_->children.end()};
}
struct rlimit64 ThreadGroup::get_rlimit(int resource) const {
  MutexLock l(impl_->mu);
  return impl_->limits[static_cast<size_t>(resource)];
}
void ThreadGroup::set_rlimit(int resource, struct rlimit64 value) {
  std::vector<Ref<Task>> members;
  mm::Limits m;
  {
    MutexLock l(impl_->mu);
    impl_->limits[static_cast<size_t>(resource)] = value;
    m = mm::Limits{impl_->limits[RLIMIT_AS].rlim_cur, impl_->limits[RLIMIT_DATA].rlim_cur,
                   impl_->limits[RLIMIT_STACK].rlim_cur, impl_->limits[RLIMIT_MEMLOCK].rlim_cur};
    members = impl_->tasks;
  }
  if (resource == RLIMIT_CPU) impl_->timers->cpu_limit_changed(value);
  if (members.empty()) return;
  if (RefOrNull<mm::AddressSpace> space = members.front()->find_mm()) space->set_limits(m);
}
bool ThreadGroup::is_zombie() const {
  MutexLock l(task_set_lock);
  return impl_->zombie;
}
sched::WaitQueue& ThreadGroup::exit_queue() { return impl_->exit_events; }
std::optional<ExitStatus> ThreadGroup::exit_status() const {
  MutexLock l(task_set_lock);
  if (!impl_->zombie) return std::nullopt;
  MutexLock m(impl_->mu);
  return impl_->status;
}
vfs::Path ThreadGroup::exe() const {
  MutexLock l(impl_->mu);
  return impl_->exe;
}

void cpu_leave(ThreadGroup& g, platform::Space& s) {
  uint64_t now = s.cpu_time();
  ThreadGroup::Impl& i = g.impl();
  MutexLock l(i.mu);
  if (!i.cpu_paused && now > i.cpu_base) i.cpu_before += now - i.cpu_base;
  i.cpu_paused = true;
}

void cpu_enter(ThreadGroup& g, uint64_t base) {
  MutexLock l(g.impl().mu);
  g.impl().cpu_base = base;
  g.impl().cpu_paused = false;
}

CpuTimes cpu_times(Task& t) {
  RefOrNull<platform::Context> c;
  CpuTimes r;
  bool alone = true;  // it always was: its time is the stub's
  {
    ThreadGroup::Impl& g = t.group().impl();
    MutexLock l(g.mu);
    if (TaskAccess::fiber(t)) r.system_ns = static_cast<uint64_t>(TaskAccess::fiber(t)->cpu_time());
    alone = g.tasks.size() <= 1 && g.system_before == 0;
    if (!alone && !t.impl().lending) c = TaskAccess::context(t);
  }
  if (alone) r.user_ns = cpu_times(t.group()).user_ns;
  else if (c) r.user_ns = c->cpu_time();
  return r;
}

uint64_t peak_resident(ThreadGroup& g) {
  std::atomic<uint64_t>& peak = g.impl().peak_resident;
  // The host is asked about each page, 50 us for a small process and 1 ms for a large one: at most a tenth of the time goes there.
  const sched::Nanos begin = sched::now();
  if (begin < g.impl().look_at_resident.load(std::memory_order_relaxed)) return peak.load();
  RefOrNull<Task> leader = g.leader();
  RefOrNull<mm::AddressSpace> mm = leader ? leader->find_mm() : nullptr;
  if (!mm)
    for (const Ref<Task>& t : g.tasks())
      if ((mm = t->find_mm())) break;
  uint64_t now = mm ? residence(*mm).total() : 0;
  uint64_t old = peak.load();
  while (now > old && !peak.compare_exchange_weak(old, now)) {
  }
  const sched::Nanos end = sched::now();
  g.impl().look_at_resident.store(end + 9 * (end - begin), std::memory_order_relaxed);
  return std::max(now, old);
}

CpuTimes cpu_times(ThreadGroup& g) {
  uint64_t now = 0;
  std::vector<Ref<Task>> tasks = g.tasks();
  if (!tasks.empty())
    if (RefOrNull<mm::AddressSpace> mm = tasks.front()->find_mm()) now = mm->space().cpu_time();
  MutexLock l(g.impl().mu);
  CpuTimes r;
  r.user_ns = g.impl().cpu_before;
  if (!g.impl().cpu_paused && now > g.impl().cpu_base) r.user_ns += now - g.impl().cpu_base;
  r.system_ns = g.impl().system_before;
  for (const Ref<Task>& t : g.impl().tasks)
    if (TaskAccess::fiber(*t)) r.system_ns += static_cast<uint64_t>(TaskAccess::fiber(*t)->cpu_time());
  return r;
}

}  // namespace sentry::kernel
