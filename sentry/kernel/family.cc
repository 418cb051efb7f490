// SPDX-License-Identifier: Apache-2.0
// What a death means to others: children find a new parent, groups become orphaned, the parent hears of it, an init takes its
// namespace along. Linux: exit_notify(), forget_original_parent(), zap_pid_ns_processes().
#include <algorithm>

#include "sentry/kernel/answers.h"
#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

// A child subreaper among the ancestors in the same namespace, else the namespace's init; null when that is g.
ThreadGroup* find_reaper_locked(ThreadGroup& g) REQUIRES(task_set_lock) {
  PidNamespace& ns = g.pid_namespace();
  for (ThreadGroup* p = g.impl().parent; p; p = p->impl().parent) {
    if (&p->pid_namespace() != &ns) break;
    if (p->impl().subreaper && !p->impl().zombie) return p;
  }
  auto it = ns.impl().entries.find(1);
  if (it == ns.impl().entries.end()) return nullptr;
  ThreadGroup* init = it->second.group.get();
  return init && init != &g && !init->impl().zombie ? init : nullptr;
}

bool has_stopped_member_locked(ProcessGroup& pg) REQUIRES(task_set_lock) {
  for (ThreadGroup* g : TaskAccess::members(pg)) {
    MutexLock l(g->impl().mu);
    if (g->impl().stopped) return true;
  }
  return false;
}

// Linux: kill_orphaned_pgrp(). g's link to `parent` is about to go.
void hang_up_orphans_locked(ThreadGroup& g, ThreadGroup* parent, const ThreadGroup* ignored) REQUIRES(task_set_lock) {
  if (!parent || !g.impl().process_group || !parent->impl().process_group) return;
  ProcessGroup& pg = *g.impl().process_group;
  ProcessGroup& pp = *parent->impl().process_group;
  if (&pg == &pp || &pg.session() != &pp.session()) return;
  if (!orphaned_locked(pg, ignored) || !has_stopped_member_locked(pg)) return;
  std::vector<ThreadGroup*> members = TaskAccess::members(pg);
  for (ThreadGroup* m : members) send_to_group(*m, SignalInfo::kernel(SIGHUP), true);
  for (ThreadGroup* m : members) send_to_group(*m, SignalInfo::kernel(SIGCONT), true);
}

void send_parent_death_signal_locked(ThreadGroup& child) REQUIRES(task_set_lock) {
  std::vector<Ref<Task>> tasks = child.tasks();
  for (const Ref<Task>& t : tasks)
    if (int signo = t->impl().pdeath_signal.load()) send_to_group(child, SignalInfo::user(signo, SI_USER, 0, 0), false);
}

// The children that this thread made go to another thread; with the last thread, to another process.
void give_away_children_locked(Task& t, bool last, std::vector<Ref<ThreadGroup>>& dead) REQUIRES(task_set_lock) {
  ThreadGroup& g = t.group();
  Task* heir = nullptr;
  if (!last) {
    MutexLock l(g.impl().mu);
    for (const Ref<Task>& other : g.impl().tasks)
      if (!other->impl().exiting_now) heir = other.get();
  }
  ThreadGroup* reaper = last ? find_reaper_locked(g) : nullptr;
  std::list<Ref<ThreadGroup>> children;
  if (last) {
    children.swap(g.impl().children);
  } else {
    for (const Ref<ThreadGroup>& c : g.impl().children)
      if (c->impl().parent_task == &t) children.push_back(c);
  }
  for (const Ref<ThreadGroup>& c : children) {
    if (c->impl().parent_task == &t || last) send_parent_death_signal_locked(*c);
    if (!last) {
      c->impl().parent_task = heir;
      continue;
    }
    // Looked at with the old parent in place, as it is about to lose it.
    c->impl().parent = reaper;
    c->impl().parent_task = nullptr;
    c->impl().ppid.store(reaper ? number_in(reaper->impl().ids, c->pid_namespace()) : 0);
    publish_parent(*c);
    hang_up_orphans_locked(*c, &g, nullptr);
    if (c->impl().exit_signal != 0) c->impl().exit_signal = SIGCHLD;
    if (reaper) reaper->impl().children.push_back(c);
    if (c->impl().zombie && !notify_parent_of_exit_locked(*c)) {
      dead.push_back(c);
      reap_locked(*c);
    }
  }
}

}  // namespace

void charge_task_locked(Container& c, uint32_t uid, int n) {
  TaskAccess::task_count(c) += n;
  auto& per_user = TaskAccess::user_tasks(c);
  if ((per_user[uid] += n) <= 0) per_user.erase(uid);
}

// Removes a dead process from all tables. The caller keeps a reference beyond the lock.
void reap_locked(ThreadGroup& g) {
  if (g.impl().reaped) return;
  g.impl().reaped = true;
  if (ThreadGroup* parent = g.impl().parent) {
    auto& c = parent->impl().children;
    for (auto it = c.begin(); it != c.end(); ++it) {
      if (it->get() != &g) continue;
      c.erase(it);
      break;
    }
  }
  g.impl().parent = nullptr;
  g.impl().last_process_group = g.impl().process_group;
  if (g.impl().process_group) {
    Session& s = g.impl().process_group->session();
    if (TaskAccess::leader(s) == &g) TaskAccess::leader(s) = nullptr;
  }
  leave_process_group_locked(g);
  unlink_group_locked(g);
  RefOrNull<Task> leader;  // it holds the group in turn
  MutexLock l(g.impl().mu);
  std::swap(leader, g.impl().leader);
}

// The last step of a thread: after it nobody finds it any more.
void leave_family(Task& t) {
  ThreadGroup& g = t.group();
  std::vector<Ref<ThreadGroup>> dead;  // let go outside the lock
  TraceRemains tracees;
  vfs::Path exe;
  Ref<Task> self(t);
  MutexLock l(task_set_lock);
  charge_task_locked(g.container(), t.own_credentials().uid, -1);
  bool last;
  bool is_leader;
  {
    MutexLock m(g.impl().mu);
    auto& tasks = g.impl().tasks;
    if (TaskAccess::fiber(t)) g.impl().system_before += static_cast<uint64_t>(TaskAccess::fiber(t)->cpu_time());
    tasks.erase(std::find_if(tasks.begin(), tasks.end(), [&](const Ref<Task>& x) { return x.get() == &t; }));
    last = tasks.empty();
    is_leader = g.impl().leader.get() == &t;
    if (last) {
      if (!g.impl().status_is_group && g.impl().leader)
        g.impl().status.wait_status = g.impl().leader->impl().exit_code.load();
      std::swap(exe, g.impl().exe);
    }
    g.impl().stop_queue.wake_all();  // exec of a sibling may wait for this
  }
  release_tracees_locked(t, &tracees);
  if (!is_leader) {
    trace_gone_locked(t, false, &tracees);
    unlink_task_locked(t);
  }
  give_away_children_locked(t, last, dead);
  if (!last) return;
  hang_up_orphans_locked(g, g.impl().parent, &g);
  g.impl().zombie = true;
  RefOrNull<Task> leader;
  {
    MutexLock m(g.impl().mu);
    leader = g.impl().leader;
  }
  if (leader) trace_gone_locked(*leader, true, &tracees);
  if (!notify_parent_of_exit_locked(g)) reap_locked(g);
  g.impl().exit_events.wake_all();
}

// The init of a namespace dies: everybody in it goes first.
void empty_namespace(ThreadGroup& init) {
  PidNamespace& ns = init.pid_namespace();
  std::vector<Ref<ThreadGroup>> dead;
  std::vector<Ref<ThreadGroup>> members;
  {
    MutexLock l(task_set_lock);
    ns.impl().dying = true;
    init.impl().reap_children = true;
    for (auto& [number, e] : ns.impl().entries)
      if (e.group && e.group.get() != &init) members.push_back(e.group.get_ref());
    for (const Ref<ThreadGroup>& g : members) {
      if (g->impl().zombie && g->impl().parent == &init) reap_locked(*g);
      MutexLock m(g->impl().mu);
      begin_group_exit_locked(g->impl(), ExitStatus::signaled(SIGKILL, false));
    }
  }
  auto alone = [&] { return ns.impl().groups_alive.load() <= 1; };
  IGNORE_ERROR(sched::wait_for(ns.impl().empty_queue, alone, sched::kNever, sched::Interruptible::no), "no deadline");
}

}  // namespace sentry::kernel
