// SPDX-License-Identifier: Apache-2.0
// Numbers of tasks: PID namespaces. Linux: kernel/pid.c, kernel/pid_namespace.c.
#include "sentry/kernel/internal.h"

namespace sentry::kernel {
namespace {

constexpr int kPidMax = 32768;
constexpr int kReservedPids = 300;  // not given again after a wrap

Result<int> pick_number_locked(PidNamespace::Impl& ns) REQUIRES(task_set_lock) {
  int n = ns.last;
  for (int tries = 0; tries < kPidMax; tries++) {
    if (++n >= kPidMax) n = kReservedPids;
    auto it = ns.entries.find(n);
    if (it == ns.entries.end() || !it->second.used()) {
      ns.last = n;
      return n;
    }
  }
  return kEAGAIN;
}

// The number that clone3(2) asks for. Linux: alloc_pid().
Result<int> take_number_locked(PidNamespace::Impl& ns, int number, const auth::Credentials& cred) REQUIRES(task_set_lock) {
  if (number < 1 || number >= kPidMax) return kEINVAL;
  if (number != 1 && !ns.entries.contains(1)) return kEINVAL;  // the first is the init
  if (!cred.has_cap_in(ns.user_ns.get(), CAP_CHECKPOINT_RESTORE) && !cred.has_cap_in(ns.user_ns.get(), CAP_SYS_ADMIN)) return kEPERM;
  auto it = ns.entries.find(number);
  if (it != ns.entries.end() && it->second.used()) return kEEXIST;
  return number;
}

void erase_unused_locked(PidNamespace::Impl& ns, int number) REQUIRES(task_set_lock) {
  auto it = ns.entries.find(number);
  if (it != ns.entries.end() && !it->second.used()) ns.entries.erase(it);
}

}  // namespace

PidNamespace::PidNamespace() : impl_(std::make_unique<Impl>()) {}
PidNamespace::~PidNamespace() = default;

Ref<PidNamespace> PidNamespace::create(RefOrNull<PidNamespace> parent, RefOrNull<auth::UserNamespace> user_ns,
                                       auth::NamespaceCharge charge) {
  Ref<PidNamespace> ns = adopt_ref(new PidNamespace());
  ns->impl_->user_ns = std::move(user_ns);
  ns->impl_->charge = std::move(charge);
  if (parent) ns->impl_->level = parent->impl_->level + 1;
  ns->impl_->parent = std::move(parent);
  return ns;
}

RefOrNull<Task> PidNamespace::find_task(int tid) const {
  MutexLock l(task_set_lock);
  auto it = impl_->entries.find(tid);
  return it == impl_->entries.end() ? RefOrNull<Task>() : it->second.task;
}
RefOrNull<ThreadGroup> PidNamespace::find_group(int pid) const {
  MutexLock l(task_set_lock);
  auto it = impl_->entries.find(pid);
  return it == impl_->entries.end() ? RefOrNull<ThreadGroup>() : it->second.group;
}
RefOrNull<ProcessGroup> PidNamespace::find_process_group(int id) const {
  MutexLock l(task_set_lock);
  auto it = impl_->entries.find(id);
  return it == impl_->entries.end() ? RefOrNull<ProcessGroup>()
                                    : RefOrNull<ProcessGroup>::upgrade(it->second.process_group);
}
RefOrNull<Session> PidNamespace::find_session(int id) const {
  MutexLock l(task_set_lock);
  auto it = impl_->entries.find(id);
  return it == impl_->entries.end() ? RefOrNull<Session>() : RefOrNull<Session>::upgrade(it->second.session);
}
std::vector<Ref<ThreadGroup>> PidNamespace::groups() const {
  std::vector<Ref<ThreadGroup>> v;
  MutexLock l(task_set_lock);
  for (auto& [number, e] : impl_->entries)
    if (e.group) v.push_back(e.group.get_ref());
  return v;
}
RefOrNull<ThreadGroup> PidNamespace::init() const { return find_group(1); }
int PidNamespace::last_pid() const {
  MutexLock l(task_set_lock);
  return impl_->last;
}

Result<std::vector<PidLink>> allocate_pid_locked(const Ref<PidNamespace>& ns, std::span<const int> wanted, const auth::Credentials* cred) {
  std::vector<PidLink> links;
  if (wanted.size() > static_cast<size_t>(ns->impl().level) + 1) return kEINVAL;
  if (ns->impl().dying) return kENOMEM;
  for (PidNamespace* p = ns.get(); p; p = p->impl().parent.get()) {
    Result<int> n = links.size() < wanted.size() ? take_number_locked(p->impl(), wanted[links.size()], *cred) : pick_number_locked(p->impl());
    if (!n.ok()) {
      free_pid_locked(links);
      return n.error();
    }
    p->impl().entries[*n].reserved = true;
    links.push_back({Ref<PidNamespace>(*p), *n});
  }
  return links;
}

void free_pid_locked(const std::vector<PidLink>& ids) {
  for (const PidLink& l : ids) {
    PidNamespace::Impl& ns = l.ns->impl();
    auto it = ns.entries.find(l.number);
    if (it == ns.entries.end()) continue;
    it->second.reserved = false;
    erase_unused_locked(ns, l.number);
  }
}

int number_in(const std::vector<PidLink>& ids, const PidNamespace& ns) {
  for (const PidLink& l : ids)
    if (l.ns.get() == &ns) return l.number;
  return 0;
}

// Publishes the task (and, for a leader, its group) under its numbers.
void link_task_locked(Task& t) {
  ThreadGroup& g = t.group();
  bool leads = t.impl().tid.load() == g.impl().pid.load();
  for (const PidLink& l : t.impl().ids) {
    PidNamespace::Impl::Entry& e = l.ns->impl().entries[l.number];
    e.reserved = false;
    e.task = Ref<Task>(t);
    if (leads) {
      e.group = Ref<ThreadGroup>(g);
      l.ns->impl().groups_alive.fetch_add(1);
    }
  }
}

// A thread that was not the leader has gone: its number is free.
void unlink_task_locked(Task& t) {
  for (const PidLink& l : t.impl().ids) {
    PidNamespace::Impl& ns = l.ns->impl();
    auto it = ns.entries.find(l.number);
    if (it == ns.entries.end() || it->second.task.get() != &t) continue;
    it->second.task = nullptr;
    erase_unused_locked(ns, l.number);
  }
}

// The process leaves the tables: its number may be given again.
void unlink_group_locked(ThreadGroup& g) {
  for (const PidLink& l : g.impl().ids) {
    PidNamespace::Impl& ns = l.ns->impl();
    auto it = ns.entries.find(l.number);
    if (it == ns.entries.end() || it->second.group.get() != &g) continue;
    it->second.group = nullptr;
    it->second.task = nullptr;
    erase_unused_locked(ns, l.number);
    if (ns.groups_alive.fetch_sub(1) <= 2) ns.empty_queue.wake_all();
  }
}

}  // namespace sentry::kernel
