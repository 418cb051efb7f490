// SPDX-License-Identifier: Apache-2.0
// fork, vfork, clone. Everything that can fail is done before the child becomes visible; what is shared is decided here alone,
// never by flags of the host's clone.
#include "sentry/kernel/keys.h"
#include "sentry/kernel/clone.h"

#include <sched.h>

#include "sentry/kernel/answers.h"
#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/ipc.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/trace.h"

namespace sentry::kernel {
namespace {

// Linux: copy_process(), its first page.
Result<void> check_flags(Task& t, const CloneArgs& a) {
  const uint64_t f = a.flags;
  auto has = [f](uint64_t bits) { return (f & bits) == bits; };
  if (has(CLONE_NEWIPC | CLONE_SYSVSEM)) return kEINVAL;
  if (has(CLONE_NEWNS | CLONE_FS) || has(CLONE_NEWUSER | CLONE_FS)) return kEINVAL;
  if ((f & CLONE_THREAD) && !(f & CLONE_SIGHAND)) return kEINVAL;
  if ((f & CLONE_SIGHAND) && !(f & CLONE_VM)) return kEINVAL;
  if ((f & CLONE_PARENT) && t.group().impl().is_init) return kEINVAL;
  if ((f & CLONE_THREAD) && (f & (CLONE_NEWUSER | CLONE_NEWPID))) return kEINVAL;
  if ((f & CLONE_PIDFD) && (f & CLONE_DETACHED)) return kEINVAL;
  // A thread is where its process is.
  if ((f & CLONE_THREAD) && pids_for_children(t).get() != &t.group().pid_namespace()) return kEINVAL;
  return {};
}

Result<void> charge(Task& t) {
  const auth::Credentials& cred = t.own_credentials();
  uint64_t limit = t.rlimit(RLIMIT_NPROC);
  Container& c = t.container();
  MutexLock l(task_set_lock);
  int64_t container_limit = c.limits().pids;
  if (container_limit > 0 && TaskAccess::task_count(c) >= container_limit) return kEAGAIN;
  auto& per_user = TaskAccess::user_tasks(c);
  auto it = per_user.find(cred.uid);
  if (it != per_user.end() && static_cast<uint64_t>(it->second) >= limit && cred.uid != 0 &&
      !cred.has_cap(CAP_SYS_RESOURCE) && !cred.has_cap(CAP_SYS_ADMIN))
    return kEAGAIN;
  charge_task_locked(c, cred.uid, 1);
  return {};
}

// Parts that are copied or shared. *pids: the new namespace of CLONE_NEWPID.
Result<void> copy_parts(Task& t, Task& child, uint64_t flags, RefOrNull<PidNamespace>* pids) {
  Ref<FdTable> files = t.files();
  if (!(flags & CLONE_FILES)) files = files->copy();
  Ref<FsContext> fs = t.fs();
  if (!(flags & CLONE_FS)) fs = fs->copy();
  NewNamespaces fresh;
  if (flags & kNewNamespaces) fresh = TRY(make_namespaces(t, flags, fs));
  *pids = fresh.child_pids;
  Ref<UtsNamespace> uts = fresh.uts ? fresh.uts.get_ref() : t.uts();
  Ref<auth::Credentials> cred = fresh.cred ? fresh.cred.get_ref() : t.credentials();
  RefOrNull<SeccompFilter> seccomp;
  RefOrNull<SemUndo> undo;
  if (flags & CLONE_SYSVSEM) undo = undo_of(t);
  RefOrNull<IpcNamespace> ipc = fresh.ipc ? fresh.ipc : RefOrNull<IpcNamespace>(ipc_of(t));
  RefOrNull<NetNamespace> net;
  RefOrNull<CgroupNamespace> cgroup;
  RefOrNull<TimeNamespace> time, child_time;
  {
    MutexLock l(t.impl().mu);
    seccomp = t.impl().seccomp;
    net = t.impl().net;
    cgroup = t.impl().cgroup;
    time = t.impl().time;
    child_time = t.impl().child_time;
  }
  if (fresh.net) net = fresh.net;
  if (fresh.cgroup) cgroup = fresh.cgroup;
  if (fresh.child_time) child_time = fresh.child_time;
  // Linux: timens_on_fork(). Who shares memory shares the clocks of its vDSO.
  if (!(flags & CLONE_VM)) time = child_time;
  if (time) time->in_use = true;
  std::string name = t.name();
  Task::Impl& i = child.impl();
  MutexLock l(i.mu);
  i.files = std::move(files);
  i.fs = std::move(fs);
  i.uts = std::move(uts);
  i.cred = std::move(cred);
  i.seccomp = std::move(seccomp);
  i.ipc = std::move(ipc);
  i.net = std::move(net);
  i.cgroup = std::move(cgroup);
  i.time = std::move(time);
  i.child_time = std::move(child_time);
  i.sem_undo = std::move(undo);
  i.seccomp_mode = t.impl().seccomp_mode.load();
  i.io_priority = t.impl().io_priority.load();
  i.name = std::move(name);
  return {};
}

void copy_attributes(Task& t, Task& child, uint64_t flags) {
  Task::Impl& from = t.impl();
  Task::Impl& to = child.impl();
  to.blocked = from.restore_mask ? from.saved_mask : from.blocked;
  to.nice = from.nice.load();
  to.policy = from.policy.load();
  child.set_affinity(t.affinity());
  to.personality = from.personality.load();
  to.timer_slack_ns = from.timer_slack_ns.load();
  // Linux: sas_ss_reset() when the memory is shared and the parent does not wait.
  if ((flags & (CLONE_VM | CLONE_VFORK)) != CLONE_VM) {
    to.altstack_sp = from.altstack_sp;
    to.altstack_size = from.altstack_size;
    to.altstack_flags = from.altstack_flags;
  }
}

Ref<ThreadGroup> make_child_group(Task& t, Task& child, const CloneArgs& a) {
  ThreadGroup& g = t.group();
  Ref<ThreadGroup> n = TaskAccess::make_group(t.kernel());
  Ref<SignalHandlers> handlers = g.handlers();
  if (!(a.flags & CLONE_SIGHAND)) handlers = handlers->copy();
  if (a.flags & 0x100000000ull /* CLONE_CLEAR_SIGHAND */) handlers->reset_for_exec();
  ThreadGroup::Impl& i = n->impl();
  i.container = g.impl().container;
  i.oom_score_adj = g.impl().oom_score_adj.load();
  i.login_uid = g.impl().login_uid.load();
  i.session_id = g.impl().session_id.load();
  i.coredump_filter = g.impl().coredump_filter.load();
  std::array<rlimit64, RLIM_NLIMITS> limits;
  vfs::Path exe;
  {
    MutexLock l(g.impl().mu);
    limits = g.impl().limits;
    exe = g.impl().exe;
  }
  {
    MutexLock l(i.mu);
    i.handlers = std::move(handlers);
    i.limits = limits;
    i.exe = std::move(exe);
    i.leader = Ref<Task>(child);
    i.last_uid = t.own_credentials().uid;
  }
  const rlimit64 cpu = limits[RLIMIT_CPU];
  if (cpu.rlim_cur != RLIM64_INFINITY || cpu.rlim_max != RLIM64_INFINITY) i.timers->cpu_limit_changed(cpu);
  return n;
}

// Numbers for the child, reserved until link_task_locked().
Result<void> reserve_ids(Task& t, Task& child, RefOrNull<PidNamespace> ns, std::span<const int> wanted) {
  if (!ns) ns = pids_for_children(t);
  const auth::Credentials& cred = t.own_credentials();
  MutexLock l(task_set_lock);
  child.impl().ids = TRY(allocate_pid_locked(ns.get_ref(), wanted, &cred));
  child.impl().tid = child.impl().ids.front().number;
  return {};
}

// What a half-made child gives back unless it is finished.
class Unborn {
 public:
  Unborn(Task& parent, Ref<Task> child) : parent_(parent), child_(std::move(child)) {}
  ~Unborn() {
    if (!child_) return;
    if (spawned) abort_task(*child_);
    RefOrNull<FdTable> files;
    RefOrNull<FsContext> fs;
    {
      MutexLock l(child_->impl().mu);
      std::swap(files, child_->impl().files);
      std::swap(fs, child_->impl().fs);
    }
    if (RefOrNull<ThreadGroup>& group = TaskAccess::group(*child_)) {
      MutexLock l(group->impl().mu);
      if (group->impl().leader.get() == child_.get()) group->impl().leader = nullptr;  // they hold each other
    }
    MutexLock l(task_set_lock);
    free_pid_locked(child_->impl().ids);
    if (charged) charge_task_locked(parent_.container(), parent_.own_credentials().uid, -1);
  }
  void finished() { child_ = nullptr; }
  bool charged = false, spawned = false;

 private:
  Task& parent_;
  RefOrNull<Task> child_;
};

// The child's memory and host thread. lent: it runs on the parent's Context, whose state is kept in *saved.
// The host's part waits for the parent's way back wherever nobody else can change the memory meanwhile, and the parent goes back
// before the child does anything that it waits for.
Result<void> make_context(Task& t, Task& child, uint64_t flags, bool lend, platform::SavedThread* saved) {
  using platform::Birthday;
  const bool waits = (flags & CLONE_VFORK) || traced(t);  // it may stop before it goes back
  RefOrNull<SharedMm> mm;
  RefOrNull<platform::Context> context;
  if (flags & CLONE_VM) {
    if (lend) {
      *saved = TRY(t.context().save_thread());
      context = Ref<platform::Context>(t.context());
    } else {
      context = TRY(t.context().clone_thread(waits ? Birthday::now : Birthday::at_resume));
    }
    MutexLock l(t.impl().mu);
    mm = t.impl().mm;
    mm->users.fetch_add(1);
  } else {
    bool alone;
    {
      MutexLock l(t.impl().mu);
      alone = t.impl().mm->users.load() == 1;
    }
    mm::AddressSpace::Forked f =
        TRY(t.mm()->fork(t.context(), alone && !waits ? Birthday::at_resume : Birthday::now));
    Ref<SharedMm> fresh = make_ref<SharedMm>(std::move(f.space));
    {
      MutexLock l(t.impl().mu);
      fresh->program = t.impl().mm->program;
      fresh->dumpable = t.impl().mm->dumpable.load();
      fresh->user_ns = t.impl().mm->user_ns;
    }
    mm = std::move(fresh);
    context = std::move(f.context);
  }
  {
    MutexLock l(child.impl().mu);
    child.impl().mm = std::move(mm);
  }
  TaskAccess::context(child) = std::move(context);
  return {};
}

void set_child_registers(Task& t, Task& child, const CloneArgs& a, int tid) {
  arch::Registers regs = t.context().registers();
  platform::Context& c = child.context();
  regs.rax = 0;
  if (a.stack) regs.rsp = a.stack;
  if (a.flags & CLONE_SETTLS) regs.fs_base = a.tls;
  c.set_registers(regs);
  if (a.flags & CLONE_CHILD_SETTID) IGNORE_ERROR(a.child_tid.copy_out(c, tid), "Linux ignores a bad address here");
}

// The child becomes known: ids, family, process group.
void publish(Task& t, Task& child, const CloneArgs& a) {
  ThreadGroup& g = child.group();
  RefOrNull<ProcessGroup> keep;
  MutexLock l(task_set_lock);
  {
    MutexLock m(g.impl().mu);
    g.impl().tasks.push_back(Ref<Task>(child));
  }
  if (!(a.flags & CLONE_THREAD)) {
    g.impl().ids = child.impl().ids;
    g.impl().pid = child.impl().tid.load();
    g.impl().is_init = child.impl().tid.load() == 1;
    g.impl().exit_signal = a.exit_signal;
    ThreadGroup* parent = &t.group();
    g.impl().parent_task = &t;
    if (a.flags & CLONE_PARENT) {
      parent = t.group().impl().parent;
      g.impl().parent_task = t.group().impl().parent_task;
      g.impl().exit_signal = t.group().impl().exit_signal;
    }
    g.impl().parent = parent;
    if (parent) {
      parent->impl().children.push_back(Ref<ThreadGroup>(g));
      g.impl().ppid = number_in(parent->impl().ids, g.pid_namespace());
    }
    keep = t.group().impl().process_group;
    enter_process_group_locked(g, keep.get_ref());
  }
  link_task_locked(child);
  // The namespace's init began to die after the number was given: nobody would kill this child.
  if (g.pid_namespace().impl().dying) {
    MutexLock m(g.impl().mu);
    begin_group_exit_locked(g.impl(), ExitStatus::signaled(SIGKILL, false));
  }
}

// The parent sleeps until the child has let go of its memory. A killed parent leaves; a lent Context is then the child's.
void wait_for_vfork(Task& t, VforkLink& link, platform::SavedThread saved) {
  auto over = [&] {
    if (must_exit(t)) return true;
    MutexLock l(link.mu);
    return link.released;
  };
  IGNORE_ERROR(sched::wait_for(link.queue, over, sched::kNever, sched::Interruptible::no), "no deadline");
  {
    MutexLock l(link.mu);
    if (!link.released) {
      link.parent_gone = true;
      return;  // lending stays set: its Context is no longer this task's
    }
  }
  if (!link.lent) return;
  platform::Context& c = t.context();
  c.set_fiber(sched::current());
  c.restore_thread(std::move(saved));
  cpu_enter(t.group(), c.space().cpu_time());
  {
    MutexLock l(t.group().impl().mu);
    t.impl().lending = false;
  }
  publish_answers(t);
}

}  // namespace

Result<long> clone_task(Task& t, const CloneArgs& a) {
  TRY(check_flags(t, a));
  // A signal for the whole group is either seen by the child or taken before it is made.
  if (t.signal_pending()) return kERESTARTNOINTR;
  Ref<Task> child = TaskAccess::make_task(t.kernel());
  Unborn unborn(t, child);
  TRY(charge(t));
  unborn.charged = true;
  RefOrNull<PidNamespace> pids;
  TRY(copy_parts(t, *child, a.flags, &pids));
  TRY(reserve_ids(t, *child, std::move(pids), a.set_tid));
  copy_attributes(t, *child, a.flags);
  inherit_keyrings(t, *child);
  TaskAccess::group(*child) = (a.flags & CLONE_THREAD) ? t.group_ref() : make_child_group(t, *child, a);
  TRY(spawn_task_fiber(*child));
  unborn.spawned = true;

  const int tid = child->tid();
  int tid_for_parent;
  {
    MutexLock l(task_set_lock);
    tid_for_parent = number_in(child->impl().ids, t.group().pid_namespace());
    if (!(a.flags & CLONE_THREAD)) {
      child->group().impl().ids = child->impl().ids;
      child->group().impl().pid = tid;
    }
  }
  std::optional<FdReservation> pidfd;
  RefOrNull<vfs::File> pidfd_file;
  if (a.flags & CLONE_PIDFD) {
    pidfd.emplace(TRY(FdReservation::reserve(t.files(), t.rlimit(RLIMIT_NOFILE))));
    pidfd_file = make_pidfd(child->group_ref(), 0, t.credentials());
    TRY(a.pidfd.copy_out_now(t.context(), pidfd->number()));
  }

  const bool vfork = a.flags & CLONE_VFORK;
  const bool lend = vfork && (a.flags & CLONE_VM) && !(a.flags & CLONE_THREAD) && !traced(t);
  platform::SavedThread saved;
  // In shared memory the word is written before the child exists: it may be the one that the child clears when it ends.
  const bool tell = a.flags & CLONE_PARENT_SETTID;
  if (tell && (a.flags & CLONE_VM))
    IGNORE_ERROR(a.parent_tid.copy_out(t.context(), tid_for_parent), "a bad address fails the call when it is done");
  TRY(make_context(t, *child, a.flags, lend, &saved));
  RefOrNull<VforkLink> link;
  if (vfork) {
    Ref<VforkLink> made = make_ref<VforkLink>();
    made->lent = lend;
    link = made;
    child->impl().vfork = made;
  }
  if (a.flags & CLONE_CHILD_CLEARTID) child->impl().clear_child_tid = a.child_tid.unchecked_address();
  set_child_registers(t, *child, a, tid);
  if (lend) {
    cpu_leave(t.group(), t.context().space());
    cpu_enter(child->group(), t.context().space().cpu_time());
    MutexLock l(t.group().impl().mu);
    t.impl().lending = true;
  } else if (tell && !(a.flags & CLONE_VM)) {
    IGNORE_ERROR(a.parent_tid.copy_out(t.context(), tid_for_parent), "Linux ignores a bad address here");
  }
  publish(t, *child, a);
  unborn.finished();
  if (a.flags & CLONE_THREAD) inherit_filters_again(t, *child);
  if (pidfd) pidfd->commit(pidfd_file.get_ref(), true);
  int event = 0, tid_there = 0;
  const bool watched = traced(t);
  if (__builtin_expect(watched, 0)) {
    event = trace_clone(t, *child, a.flags, a.exit_signal);
    tid_there = tid_for_tracer(t, *child);
  }
  start_task(*child);
  if (event) (void)trace_event(t, event, static_cast<uint64_t>(tid_there));
  if (link) wait_for_vfork(t, *link, std::move(saved));
  if (watched && vfork) (void)trace_event(t, PTRACE_EVENT_VFORK_DONE, static_cast<uint64_t>(tid_there));
  return long{tid_for_parent};
}

Result<void> unshare(Task& t, uint64_t flags) {
  constexpr uint64_t kKnown = CLONE_THREAD | CLONE_FS | CLONE_NEWNS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES |
                              CLONE_SYSVSEM | kNewNamespaces;
  if (flags & ~kKnown) return kEINVAL;
  if (flags & CLONE_NEWUSER) flags |= CLONE_THREAD | CLONE_FS;
  if (flags & CLONE_NEWNS) flags |= CLONE_FS;
  if (flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)) {
    if (t.group().tasks().size() > 1) return kEINVAL;
  }
  RefOrNull<FsContext> fs;
  if (flags & CLONE_FS) fs = t.fs()->copy();
  NewNamespaces fresh = TRY(make_namespaces(t, flags, fs));
  if (fs) fresh.fs = fs;
  if (flags & CLONE_FILES) t.set_files(t.files()->copy());
  if (flags & (CLONE_NEWIPC | CLONE_SYSVSEM)) leave_undo(t);
  enter_namespaces(t, std::move(fresh));
  return {};
}

}  // namespace sentry::kernel
