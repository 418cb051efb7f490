// SPDX-License-Identifier: Apache-2.0
// Namespaces of a task, one like the other: what clone, unshare and setns put into it, and what a file of /proc/PID/ns stands for.
// Linux: kernel/nsproxy.c, include/linux/ns_common.h.
#pragma once

#include <sched.h>

#include <variant>

#include "sentry/kernel/internal.h"
#include "sentry/kernel/ipc.h"
#include "sentry/kernel/net_namespace.h"

namespace sentry::kernel {

using auth::NamespaceKind;
using UserNs = RefOrNull<auth::UserNamespace>;

// The root of what is seen of the cgroups: a container has one group, so all see the same. Held by: tasks, the container.
class CgroupNamespace : public RefCounted<CgroupNamespace> {
 public:
  CgroupNamespace() = default;
  CgroupNamespace(UserNs user_ns, auth::NamespaceCharge charge) : user_ns_(std::move(user_ns)), charge_(std::move(charge)) {}
  const UserNs& user_ns() const { return user_ns_; }

 private:
  friend class RefCounted<CgroupNamespace>;
  ~CgroupNamespace() = default;
  UserNs user_ns_;
  auth::NamespaceCharge charge_;
};

// What CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead by. A task without one is in the first. Held by: tasks.
class TimeNamespace : public RefCounted<TimeNamespace> {
 public:
  TimeNamespace(UserNs user_ns, auth::NamespaceCharge charge, int64_t monotonic, int64_t boottime)
      : monotonic_ns(monotonic), boottime_ns(boottime), user_ns_(std::move(user_ns)), charge_(std::move(charge)) {}
  const UserNs& user_ns() const { return user_ns_; }
  std::atomic<int64_t> monotonic_ns, boottime_ns;
  std::atomic<bool> in_use{false};  // somebody is in it: the offsets stay

 private:
  friend class RefCounted<TimeNamespace>;
  ~TimeNamespace() = default;
  UserNs user_ns_;
  auth::NamespaceCharge charge_;
};

// One namespace of any kind. A first user or time namespace is a null reference of its kind.
class AnyNamespace {
 public:
  using Object = std::variant<UserNs, RefOrNull<vfs::MountNamespace>, RefOrNull<UtsNamespace>, RefOrNull<IpcNamespace>,
                              RefOrNull<PidNamespace>, RefOrNull<NetNamespace>, RefOrNull<CgroupNamespace>, RefOrNull<TimeNamespace>>;
  AnyNamespace(NamespaceKind kind, Object object) : kind_(kind), object_(std::move(object)) {}
  NamespaceKind kind() const { return kind_; }
  const Object& object() const { return object_; }
  const void* identity() const;  // for namespace_number()
  UserNs owner() const;          // of a user namespace: its parent
  // NS_GET_PARENT. EINVAL: this kind has none; EPERM: it is not for this task to see.
  Result<AnyNamespace> parent(Task& t) const;
  int clone_flag() const;

 private:
  NamespaceKind kind_;
  Object object_;
};

// ESRCH: it ends.
Result<AnyNamespace> namespace_of(Task& t, NamespaceKind kind, bool for_children);
const char* namespace_type(NamespaceKind kind);  // "uts"

// CLONE_NEW*: what a new task, or this one from now on, is in. Null fields stay as they are.
struct NewNamespaces {
  RefOrNull<auth::Credentials> cred;
  RefOrNull<FsContext> fs;
  RefOrNull<UtsNamespace> uts;
  RefOrNull<IpcNamespace> ipc;
  RefOrNull<PidNamespace> child_pids;
  RefOrNull<NetNamespace> net;
  RefOrNull<CgroupNamespace> cgroup;
  RefOrNull<TimeNamespace> time, child_time;
  bool first_time = false;  // back to the first time namespace
};
inline constexpr uint64_t kCloneNewTime = 0x80;
inline constexpr uint64_t kNewNamespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
                                           CLONE_NEWCGROUP | kCloneNewTime;

// fs: whose root and working directory move along with CLONE_NEWNS. pids: what a new PID namespace lies in. EPERM, ENOSPC.
Result<NewNamespaces> make_namespaces(Task& t, uint64_t flags, const RefOrNull<FsContext>& fs);
// setns(2): all of `which` or none. EINVAL, EPERM, EUSERS.
Result<void> join_namespaces(Task& t, const std::vector<AnyNamespace>& which);
// unshare(2), setns(2): from now on t is in these.
void enter_namespaces(Task& t, NewNamespaces fresh);

RefOrNull<TimeNamespace> time_of(const Task& t);  // null: the first
// What this clock is ahead of the host's by, for t.
int64_t clock_offset(const Task& t, int clock);
// Moves into the time namespace for its children: at exec, and a child at its birth. True: its clocks are others than before.
bool enter_time_for_children(Task& t);

// What the maps of its programs' ids and clocks come from; the task's own fiber.
inline const auth::UserNamespace* user_ns_of(const Task& t) { return t.own_credentials().user_ns.get(); }

}  // namespace sentry::kernel
