// SPDX-License-Identifier: Apache-2.0
// Making and joining namespaces. Linux: kernel/nsproxy.c, the install and owner operations of each kind.
#include "sentry/kernel/namespaces.h"

#include "sentry/kernel/clone.h"
#include "sentry/kernel/inspect.h"
#include "sentry/kernel/ipc.h"

namespace sentry::kernel {
namespace {

constexpr int kMaxPidLevel = 32;  // MAX_PID_NS_LEVEL

Result<auth::NamespaceCharge> counted(NamespaceKind kind, const UserNs& owner, uint32_t uid) {
  return auth::NamespaceCharge::create(kind, owner, uid);
}

Result<Ref<PidNamespace>> new_pid_namespace(Task& t, const UserNs& owner, uint32_t uid) {
  Ref<PidNamespace> parent(t.group().pid_namespace());
  {
    MutexLock l(t.impl().mu);
    if (t.impl().child_pids && t.impl().child_pids.get() != parent.get()) return kEINVAL;
  }
  if (!auth::lies_in(owner.get(), parent->impl().user_ns.get())) return kEINVAL;
  if (parent->impl().level >= kMaxPidLevel) return kENOSPC;
  return PidNamespace::create(parent, owner, TRY(counted(NamespaceKind::pid, owner, uid)));
}

// Linux: current_chrooted(). What is mounted over the root of the namespace is its root as well.
bool chrooted(Task& t) {
  Ref<FsContext> fs = t.fs();
  vfs::Path top = fs->mounts()->root();
  while (RefOrNull<vfs::Mount> over = fs->mounts()->mounted_on(top)) top = vfs::Path{over, over->root()};
  return !(fs->root() == top);
}

Result<void> enter_mount_copy(FsContext& fs, const UserNs& owner, auth::NamespaceCharge charge) {
  std::vector<std::pair<Ref<vfs::Mount>, Ref<vfs::Mount>>> renamed;
  Ref<vfs::MountNamespace> copy = fs.mounts()->copy(&renamed, owner, std::move(charge));
  auto translate = [&](vfs::Path p) {
    for (auto& [from, to] : renamed)
      if (p.mount.get() == from.get()) p.mount = to;
    return p;
  };
  fs.set_mounts(std::move(copy), translate(fs.root()), translate(fs.cwd()));
  return {};
}

template <typename T>
const T* held(const AnyNamespace::Object& o) {
  return std::get<RefOrNull<T>>(o).get();
}

}  // namespace

const char* namespace_type(NamespaceKind kind) {
  switch (kind) {
    case NamespaceKind::cgroup: return "cgroup";
    case NamespaceKind::ipc: return "ipc";
    case NamespaceKind::mnt: return "mnt";
    case NamespaceKind::net: return "net";
    case NamespaceKind::pid: return "pid";
    case NamespaceKind::time: return "time";
    case NamespaceKind::user: return "user";
    case NamespaceKind::uts: return "uts";
  }
  UNREACHABLE();
}

int AnyNamespace::clone_flag() const {
  switch (kind_) {
    case NamespaceKind::cgroup: return CLONE_NEWCGROUP;
    case NamespaceKind::ipc: return CLONE_NEWIPC;
    case NamespaceKind::mnt: return CLONE_NEWNS;
    case NamespaceKind::net: return CLONE_NEWNET;
    case NamespaceKind::pid: return CLONE_NEWPID;
    case NamespaceKind::time: return static_cast<int>(kCloneNewTime);
    case NamespaceKind::user: return CLONE_NEWUSER;
    case NamespaceKind::uts: return CLONE_NEWUTS;
  }
  UNREACHABLE();
}

const void* AnyNamespace::identity() const {
  return std::visit([](const auto& n) -> const void* { return n.get(); }, object_);
}

UserNs AnyNamespace::owner() const {
  switch (kind_) {
    case NamespaceKind::user: {
      const UserNs& u = std::get<UserNs>(object_);
      return u ? u->parent : UserNs();
    }
    case NamespaceKind::mnt: return held<vfs::MountNamespace>(object_)->user_ns();
    case NamespaceKind::uts: return held<UtsNamespace>(object_)->user_ns();
    case NamespaceKind::ipc: return held<IpcNamespace>(object_)->user_ns();
    case NamespaceKind::pid: return held<PidNamespace>(object_)->impl().user_ns;
    case NamespaceKind::net: return held<NetNamespace>(object_)->user_ns();
    case NamespaceKind::cgroup: return held<CgroupNamespace>(object_)->user_ns();
    case NamespaceKind::time: {
      const auto& n = std::get<RefOrNull<TimeNamespace>>(object_);
      return n ? n->user_ns() : UserNs();
    }
  }
  UNREACHABLE();
}

Result<AnyNamespace> AnyNamespace::parent(Task& t) const {
  if (kind_ == NamespaceKind::user) {
    const UserNs& u = std::get<UserNs>(object_);
    if (!u || !auth::lies_in(u->parent.get(), user_ns_of(t))) return kEPERM;
    return AnyNamespace(NamespaceKind::user, u->parent);
  }
  if (kind_ != NamespaceKind::pid) return kEINVAL;
  const RefOrNull<PidNamespace>& up = held<PidNamespace>(object_)->impl().parent;
  const PidNamespace* mine = &t.group().pid_namespace();
  for (const PidNamespace* p = up.get(); p; p = p->impl().parent.get())
    if (p == mine) return AnyNamespace(NamespaceKind::pid, up);
  return kEPERM;
}

Result<AnyNamespace> namespace_of(Task& t, NamespaceKind kind, bool for_children) {
  RefOrNull<FsContext> fs = find_fs(t);
  if (!fs) return kENOENT;
  Task::Impl& i = t.impl();
  switch (kind) {
    case NamespaceKind::user: return AnyNamespace(kind, t.credentials()->user_ns);
    case NamespaceKind::mnt: return AnyNamespace(kind, RefOrNull<vfs::MountNamespace>(fs->mounts()));
    case NamespaceKind::pid:
      return AnyNamespace(kind, for_children ? pids_for_children(t) : RefOrNull<PidNamespace>(Ref<PidNamespace>(t.group().pid_namespace())));
    case NamespaceKind::net: return AnyNamespace(kind, RefOrNull<NetNamespace>(net_of(t)));
    default: break;
  }
  MutexLock l(i.mu);
  switch (kind) {
    case NamespaceKind::uts: return AnyNamespace(kind, i.uts);
    case NamespaceKind::ipc: return AnyNamespace(kind, i.ipc);
    case NamespaceKind::cgroup: return AnyNamespace(kind, i.cgroup);
    default: return AnyNamespace(kind, for_children ? i.child_time : i.time);
  }
}

Result<NewNamespaces> make_namespaces(Task& t, uint64_t flags, const RefOrNull<FsContext>& fs) {
  NewNamespaces n;
  const auth::Credentials& me = t.own_credentials();
  UserNs owner = me.user_ns;
  if (flags & CLONE_NEWUSER) {
    if (chrooted(t)) return kEPERM;
    Ref<auth::UserNamespace> made = TRY(auth::UserNamespace::create(me));
    owner = made;
    Ref<auth::Credentials> cred = me.copy();
    cred->enter(std::move(made));
    n.cred = std::move(cred);
  }
  if (!(flags & kNewNamespaces & ~uint64_t{CLONE_NEWUSER})) return n;
  if (!me.has_cap_in(owner.get(), CAP_SYS_ADMIN)) return kEPERM;
  const uint32_t uid = me.euid;
  if (flags & CLONE_NEWNS) {
    TRY(enter_mount_copy(*fs, owner, TRY(counted(NamespaceKind::mnt, owner, uid))));
    n.fs = fs;
  }
  if (flags & CLONE_NEWUTS) {
    Ref<UtsNamespace> old = t.uts();
    n.uts = make_ref<UtsNamespace>(old->hostname(), old->domainname(), owner, TRY(counted(NamespaceKind::uts, owner, uid)));
  }
  if (flags & CLONE_NEWIPC) n.ipc = IpcNamespace::create(owner, TRY(counted(NamespaceKind::ipc, owner, uid)));
  if (flags & CLONE_NEWPID) n.child_pids = TRY(new_pid_namespace(t, owner, uid));
  if (flags & CLONE_NEWCGROUP) n.cgroup = make_ref<CgroupNamespace>(owner, TRY(counted(NamespaceKind::cgroup, owner, uid)));
  if (flags & CLONE_NEWNET) n.net = make_ref<NetNamespace>(owner, TRY(counted(NamespaceKind::net, owner, uid)));
  if (flags & kCloneNewTime) {
    RefOrNull<TimeNamespace> from;
    {
      MutexLock l(t.impl().mu);
      from = t.impl().child_time;
    }
    n.child_time = make_ref<TimeNamespace>(owner, TRY(counted(NamespaceKind::time, owner, uid)),
                                           from ? from->monotonic_ns.load() : 0, from ? from->boottime_ns.load() : 0);
  }
  return n;
}

namespace {

// What setns(2) asks of one namespace. own: the user namespace that the task will be in by then.
Result<void> may_join(Task& t, const AnyNamespace& ns, const auth::UserNamespace* own, NewNamespaces& n) {
  const auth::Credentials& me = t.own_credentials();
  const UserNs owner = ns.owner();
  switch (ns.kind()) {
    case NamespaceKind::user: {
      const UserNs& u = std::get<UserNs>(ns.object());
      if (u.get() == me.user_ns.get() || t.group().tasks().size() > 1) return kEINVAL;
      if (!me.has_cap_in(u.get(), CAP_SYS_ADMIN)) return kEPERM;
      if (!u) return kEPERM;  // nobody below has it in the first one
      Ref<auth::Credentials> cred = me.copy();
      cred->enter(u.get_ref());
      n.cred = std::move(cred);
      return {};
    }
    case NamespaceKind::mnt: {
      if (!me.has_cap_in(owner.get(), CAP_SYS_ADMIN) || !me.has_cap_in(own, CAP_SYS_CHROOT) || !me.has_cap_in(own, CAP_SYS_ADMIN))
        return kEPERM;
      if (t.group().tasks().size() > 1) return kEINVAL;
      Ref<vfs::MountNamespace> mounts = std::get<RefOrNull<vfs::MountNamespace>>(ns.object()).get_ref();
      Ref<FsContext> fs = t.fs()->copy();
      vfs::Path top = mounts->root();
      while (RefOrNull<vfs::Mount> over = mounts->mounted_on(top)) top = vfs::Path{over, over->root()};
      fs->set_mounts(std::move(mounts), top, top);
      n.fs = std::move(fs);
      return {};
    }
    default: break;
  }
  if (ns.kind() == NamespaceKind::time && t.group().tasks().size() > 1) return kEUSERS;
  if (!me.has_cap_in(owner.get(), CAP_SYS_ADMIN) || !me.has_cap_in(own, CAP_SYS_ADMIN)) return kEPERM;
  switch (ns.kind()) {
    case NamespaceKind::uts: n.uts = std::get<RefOrNull<UtsNamespace>>(ns.object()); return {};
    case NamespaceKind::ipc: n.ipc = std::get<RefOrNull<IpcNamespace>>(ns.object()); return {};
    case NamespaceKind::net: n.net = std::get<RefOrNull<NetNamespace>>(ns.object()); return {};
    case NamespaceKind::cgroup: n.cgroup = std::get<RefOrNull<CgroupNamespace>>(ns.object()); return {};
    case NamespaceKind::time:
      n.time = n.child_time = std::get<RefOrNull<TimeNamespace>>(ns.object());
      n.first_time = !n.time;
      return {};
    case NamespaceKind::pid: {
      const auto& pids = std::get<RefOrNull<PidNamespace>>(ns.object());
      const PidNamespace* p = pids.get();
      while (p && p != &t.group().pid_namespace()) p = p->impl().parent.get();
      if (!p) return kEINVAL;
      n.child_pids = pids;
      return {};
    }
    default: UNREACHABLE();
  }
}

}  // namespace

Result<void> join_namespaces(Task& t, const std::vector<AnyNamespace>& which) {
  NewNamespaces n;
  const auth::UserNamespace* own = user_ns_of(t);
  for (const AnyNamespace& ns : which) {
    TRY(may_join(t, ns, own, n));
    if (ns.kind() == NamespaceKind::user) own = n.cred->user_ns.get();
  }
  if (n.ipc) leave_undo(t);
  enter_namespaces(t, std::move(n));
  return {};
}

void enter_namespaces(Task& t, NewNamespaces n) {
  if (n.cred) {
    if (!n.cred->no_more_than(t.own_credentials())) {
      set_dumpable(t, false);
      t.impl().pdeath_signal = 0;
    }
    t.set_credentials(n.cred.get_ref());
  }
  if (n.fs) t.set_fs(n.fs.get_ref());
  if (n.time) n.time->in_use = true;
  const bool time = n.time || n.first_time, child_time = n.child_time || n.first_time;
  Task::Impl& i = t.impl();
  MutexLock l(i.mu);
  if (n.uts) std::swap(i.uts, n.uts);
  if (n.ipc) std::swap(i.ipc, n.ipc);
  if (n.child_pids) std::swap(i.child_pids, n.child_pids);
  if (n.net) std::swap(i.net, n.net);
  if (n.cgroup) std::swap(i.cgroup, n.cgroup);
  if (time) std::swap(i.time, n.time);
  if (child_time) std::swap(i.child_time, n.child_time);
}

Ref<NetNamespace> net_of(Task& t) {
  {
    MutexLock l(t.impl().mu);
    if (t.impl().net) return t.impl().net.get_ref();
  }
  return Ref<NetNamespace>(NetNamespace::first());
}

Ref<NetNamespace> current_net() {
  Task* t = Task::find_current();
  return t ? net_of(*t) : Ref<NetNamespace>(NetNamespace::first());
}

NetNamespace& NetNamespace::first() {
  static auto* ns = new NetNamespace(nullptr, {});
  return *ns;
}

RefOrNull<TimeNamespace> time_of(const Task& t) {
  MutexLock l(t.impl().mu);
  return t.impl().time;
}

int64_t clock_offset(const Task& t, int clock) {
  RefOrNull<TimeNamespace> ns = time_of(t);
  if (!ns) return 0;
  switch (clock) {
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE: return ns->monotonic_ns.load(std::memory_order_relaxed);
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM: return ns->boottime_ns.load(std::memory_order_relaxed);
    default: return 0;
  }
}

bool enter_time_for_children(Task& t) {
  RefOrNull<TimeNamespace> old;
  MutexLock l(t.impl().mu);
  if (t.impl().time.get() == t.impl().child_time.get()) return false;
  old = t.impl().child_time;
  if (old) old->in_use = true;
  std::swap(t.impl().time, old);
  return true;
}

}  // namespace sentry::kernel
