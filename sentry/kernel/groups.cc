// SPDX-License-Identifier: Apache-2.0
// Process groups and sessions. Linux: kernel/sys.c (setpgid, setsid), kernel/exit.c (orphaned groups).
#include <algorithm>

#include "sentry/kernel/internal.h"
#include "sentry/kernel/session.h"

namespace sentry::kernel {
namespace {

// The names of a group or session in every namespace that sees it.
void name_locked(const std::vector<PidLink>& ids, ProcessGroup* pg, Session* s) REQUIRES(task_set_lock) {
  for (const PidLink& l : ids) {
    PidNamespace::Impl::Entry& e = l.ns->impl().entries[l.number];
    if (pg) e.process_group = pg;
    if (s) e.session = s;
  }
}

void forget_locked(const std::vector<PidLink>& ids, bool group, bool session) REQUIRES(task_set_lock) {
  for (const PidLink& l : ids) {
    auto& entries = l.ns->impl().entries;
    auto it = entries.find(l.number);
    if (it == entries.end()) continue;
    if (group) it->second.process_group = nullptr;
    if (session) it->second.session = nullptr;
    if (!it->second.used()) entries.erase(it);
  }
}

}  // namespace

ProcessGroup::ProcessGroup(Ref<Session> session) : session_(std::move(session)) {}
ProcessGroup::~ProcessGroup() = default;
Session::Session() = default;
Session::~Session() = default;

int ProcessGroup::id_in(const PidNamespace& ns) const {
  MutexLock l(task_set_lock);
  return number_in(ids_, ns);
}
int Session::id_in(const PidNamespace& ns) const {
  MutexLock l(task_set_lock);
  return number_in(ids_, ns);
}
RefOrNull<TtyLink> Session::tty() const {
  MutexLock l(mu_);
  return tty_;
}
void Session::set_tty(RefOrNull<TtyLink> t) {
  {
    MutexLock l(mu_);
    std::swap(tty_, t);
  }
}
RefOrNull<ThreadGroup> leader_of(Session& s) {
  MutexLock l(task_set_lock);
  ThreadGroup* g = TaskAccess::leader(s);
  if (!g) return nullptr;
  return Ref<ThreadGroup>(*g);
}
RefOrNull<ProcessGroup> Session::foreground() const {
  MutexLock l(mu_);
  return foreground_;
}
void Session::set_foreground(RefOrNull<ProcessGroup> g) {
  {
    MutexLock l(mu_);
    std::swap(foreground_, g);
  }
}

void ProcessGroup::send_signal(const SignalInfo& info) {
  for (const Ref<ThreadGroup>& g : members_of(*this)) g->send_signal(info);
}

bool ProcessGroup::is_orphaned() const {
  MutexLock l(task_set_lock);
  return orphaned_locked(*this, nullptr);
}

std::vector<Ref<ThreadGroup>> members_of(ProcessGroup& pg) {
  std::vector<Ref<ThreadGroup>> v;
  MutexLock l(task_set_lock);
  for (ThreadGroup* g : TaskAccess::members(pg)) v.push_back(Ref<ThreadGroup>(*g));
  return v;
}

void leave_process_group_locked(ThreadGroup& g) {
  RefOrNull<ProcessGroup> pg = std::move(g.impl().process_group);
  if (!pg) return;
  auto& members = TaskAccess::members(*pg);
  members.erase(std::find(members.begin(), members.end(), &g));
  if (!members.empty()) return;
  forget_locked(TaskAccess::ids(*pg), true, false);
  Session& s = *TaskAccess::session(*pg);
  auto& groups = TaskAccess::groups(s);
  groups.erase(std::find(groups.begin(), groups.end(), pg.get()));
  if (groups.empty()) {
    forget_locked(TaskAccess::ids(s), false, true);
    s.set_foreground(nullptr);
  }
}

void enter_process_group_locked(ThreadGroup& g, Ref<ProcessGroup> pg) {
  if (g.impl().process_group.get() == pg.get()) return;
  leave_process_group_locked(g);
  TaskAccess::members(*pg).push_back(&g);
  g.impl().process_group = std::move(pg);
}

Ref<ProcessGroup> new_process_group_locked(ThreadGroup& g, Ref<Session> s) {
  Ref<ProcessGroup> pg = TaskAccess::make_process_group(std::move(s));
  TaskAccess::ids(*pg) = g.impl().ids;
  TaskAccess::groups(*TaskAccess::session(*pg)).push_back(pg.get());
  name_locked(g.impl().ids, pg.get(), nullptr);
  return pg;
}

Ref<Session> new_session_locked(ThreadGroup& g) {
  Ref<Session> s = TaskAccess::make_session();
  TaskAccess::ids(*s) = g.impl().ids;
  TaskAccess::leader(*s) = &g;
  name_locked(g.impl().ids, nullptr, s.get());
  return s;
}

// Linux: will_become_orphaned_pgrp(). No member has a parent in another group of the same session.
bool orphaned_locked(const ProcessGroup& pg, const ThreadGroup* ignored) {
  ProcessGroup& group = const_cast<ProcessGroup&>(pg);
  for (ThreadGroup* g : TaskAccess::members(group)) {
    if (g == ignored || g->impl().zombie) continue;
    ThreadGroup* parent = g->impl().parent;
    if (!parent || !parent->impl().process_group) continue;
    ProcessGroup& pp = *parent->impl().process_group;
    if (&pp != &pg && &pp.session() == &pg.session()) return false;
  }
  return true;
}

Result<void> set_process_group(Task& t, int pid, int pgid) {
  if (pid == 0) pid = t.group().pid();
  if (pgid == 0) pgid = pid;
  if (pgid < 0) return kEINVAL;
  ThreadGroup& self = t.group();
  PidNamespace& ns = self.pid_namespace();
  RefOrNull<ProcessGroup> let_go;  // dropped outside the lock
  MutexLock l(task_set_lock);
  auto it = ns.impl().entries.find(pid);
  if (it == ns.impl().entries.end()) return kESRCH;
  RefOrNull<ThreadGroup> g = it->second.group;
  if (!g) {
    if (it->second.task) return kEINVAL;  // a thread that leads nothing
    return kESRCH;
  }
  if (g->impl().parent == &self) {
    if (&g->impl().process_group->session() != &self.impl().process_group->session()) return kEPERM;
    if (g->impl().did_exec) return kEACCES;
  } else if (g.get() != &self) {
    return kESRCH;
  }
  if (!g->impl().process_group) return kESRCH;
  Ref<Session> session(g->impl().process_group->session());
  if (TaskAccess::leader(*session) == g.get()) return kEPERM;
  let_go = g->impl().process_group;
  if (pgid == pid) {
    auto self_it = ns.impl().entries.find(pid);
    RefOrNull<ProcessGroup> named = RefOrNull<ProcessGroup>::upgrade(self_it->second.process_group);
    if (named && &named->session() != session.get()) return kEPERM;
    Ref<ProcessGroup> pg = named ? named.get_ref() : new_process_group_locked(*g, session);
    enter_process_group_locked(*g, std::move(pg));
    return {};
  }
  auto target = ns.impl().entries.find(pgid);
  if (target == ns.impl().entries.end()) return kEPERM;
  RefOrNull<ProcessGroup> pg = RefOrNull<ProcessGroup>::upgrade(target->second.process_group);
  if (!pg || &pg->session() != session.get()) return kEPERM;
  enter_process_group_locked(*g, pg.get_ref());
  return {};
}

Result<long> set_session(Task& t) {
  ThreadGroup& g = t.group();
  RefOrNull<ProcessGroup> let_go;
  MutexLock l(task_set_lock);
  if (TaskAccess::leader(g.impl().process_group->session()) == &g) return kEPERM;
  PidNamespace::Impl& ns = g.pid_namespace().impl();
  auto it = ns.entries.find(g.impl().pid.load());
  if (it != ns.entries.end() && it->second.process_group) return kEPERM;
  let_go = g.impl().process_group;
  enter_process_group_locked(g, new_process_group_locked(g, new_session_locked(g)));
  return long{g.impl().pid.load()};
}

}  // namespace sentry::kernel
