// SPDX-License-Identifier: Apache-2.0
// Waiting for children: who counts, what is reported, who is reaped.
#include "sentry/kernel/wait_child.h"

#include <sys/wait.h>

#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

bool matches_locked(Task& t, const WaitQuery& q, ThreadGroup& child) REQUIRES(task_set_lock) {
  switch (q.which) {
    case WaitQuery::Which::any:
      break;
    case WaitQuery::Which::pid:
      if (q.process ? q.process.get() != &child
                    : number_in(child.impl().ids, t.group().pid_namespace()) != q.pid)
        return false;
      break;
    case WaitQuery::Which::group:
      if (!q.group || child.impl().process_group.get() != q.group.get()) return false;
      break;
  }
  if ((q.options & __WNOTHREAD) && child.impl().parent_task && child.impl().parent_task != &t) return false;
  if (traced_by_locked(child, t.group())) return true;
  const bool clone_child = child.impl().exit_signal != SIGCHLD;
  return (q.options & __WALL) || clone_child == ((q.options & __WCLONE) != 0);
}

// Whether q asks for this tracee. Linux: eligible_child() with ptrace.
bool asks_for_locked(Task& t, const WaitQuery& q, const std::vector<PidLink>& ids, ThreadGroup& g, const Task* tracer)
    REQUIRES(task_set_lock) {
  switch (q.which) {
    case WaitQuery::Which::any:
      break;
    case WaitQuery::Which::pid:
      if (q.process ? q.process.get() != &g : number_in(ids, t.group().pid_namespace()) != q.pid) return false;
      break;
    case WaitQuery::Which::group:
      if (!q.group || g.impl().process_group.get() != q.group.get()) return false;
      break;
  }
  return !(q.options & __WNOTHREAD) || tracer == &t;
}

// A tracee that is stopped, or one that has ended. *some: there are tracees to wait for.
bool report_tracee_locked(Task& t, const WaitQuery& q, WaitResult* r, std::list<DeadTracee>* told, bool* some)
    REQUIRES(task_set_lock) {
  ThreadGroup::Impl& mine = t.group().impl();
  const bool look_only = q.options & WNOWAIT;
  for (auto it = mine.dead_tracees.begin(); it != mine.dead_tracees.end(); ++it) {
    if (!asks_for_locked(t, q, it->ids, *it->group, it->tracer)) continue;
    *some = true;
    if (!(q.options & WEXITED)) continue;
    *r = WaitResult{};
    r->pid = number_in(it->ids, t.group().pid_namespace());
    r->uid = it->uid;
    r->wait_status = it->wait_status;
    r->code = (r->wait_status & 0x7f) ? CLD_KILLED : CLD_EXITED;
    if (!look_only) told->splice(told->end(), mine.dead_tracees, it);
    return true;
  }
  for (const Ref<Task>& c : mine.tracees) {
    TraceState& s = c->impl().trace;
    if (!asks_for_locked(t, q, c->impl().ids, c->group(), s.tracer)) continue;
    *some = true;
    if (!s.stopped || s.reported || s.resumed) continue;
    *r = WaitResult{};
    r->pid = number_in(c->impl().ids, t.group().pid_namespace());
    r->code = s.why == CLD_STOPPED ? CLD_STOPPED : CLD_TRAPPED;
    r->wait_status = s.code << 8 | 0x7f;
    {
      MutexLock l(c->group().impl().mu);
      r->uid = c->group().impl().last_uid;
    }
    if (!look_only) s.reported = true;
    return true;
  }
  return false;
}

// Fills *r when there is something to report of this child.
bool report_locked(Task& t, const WaitQuery& q, ThreadGroup& child, WaitResult* r) REQUIRES(task_set_lock) {
  ThreadGroup::Impl& c = child.impl();
  const bool keep = q.options & WNOWAIT;
  bool stopped;
  {
    MutexLock l(c.mu);
    stopped = c.stopped;
    r->uid = c.last_uid;
    r->wait_status = c.status.wait_status;
    r->cpu.user_ns = c.cpu_before;
    r->cpu.system_ns = c.system_before;
  }
  r->pid = number_in(c.ids, t.group().pid_namespace());
  if (c.zombie) {
    if (!(q.options & WEXITED)) return false;
    r->code = (r->wait_status & 0x7f) ? CLD_KILLED : CLD_EXITED;
    r->cpu += c.children_cpu;
    r->peak_resident = std::max(c.peak_resident.load(), c.children_peak);
    if (keep) return true;
    t.group().impl().children_peak = std::max(t.group().impl().children_peak, r->peak_resident);
    t.group().impl().children_cpu += r->cpu;
    reap_locked(child);
    return true;
  }
  if ((q.options & WSTOPPED) && stopped && c.report.stopped_by && !traced_by_locked(child, t.group())) {
    r->code = CLD_STOPPED;
    r->wait_status = c.report.stopped_by << 8 | 0x7f;
    if (!keep) c.report.stopped_by = 0;
    return true;
  }
  if ((q.options & WCONTINUED) && c.report.continued) {
    r->code = CLD_CONTINUED;
    r->wait_status = 0xffff;
    if (!keep) c.report.continued = false;
    return true;
  }
  return false;
}

}  // namespace

Result<WaitResult> wait_for_child(Task& t, const WaitQuery& q) {
  WaitResult result;
  bool none = false;
  auto look = [&] {
    RefOrNull<ThreadGroup> child;  // let go after the lock
    std::list<DeadTracee> told;
    RefOrNull<ProcessGroup> group;
    MutexLock l(task_set_lock);
    bool some = false;
    if (report_tracee_locked(t, q, &result, &told, &some)) return true;
    none = !some;
    for (const Ref<ThreadGroup>& c : t.group().impl().children) {
      if (!matches_locked(t, q, *c)) continue;
      none = false;
      child = c;
      group = c->impl().process_group;
      if (report_locked(t, q, *child, &result)) return true;
    }
    if (none) return true;
    result = WaitResult{};
    return (q.options & WNOHANG) != 0;
  };
  TRY(sched::wait_for(t.group().impl().child_events, look));
  if (none) return kECHILD;
  return result;
}

int siginfo_status(const WaitResult& r) {
  switch (r.code) {
    case CLD_EXITED: return (r.wait_status >> 8) & 0xff;
    case CLD_STOPPED:
    case CLD_TRAPPED: return r.wait_status >> 8;
    case CLD_CONTINUED: return SIGCONT;
    default: return r.wait_status & 0x7f;
  }
}

}  // namespace sentry::kernel
