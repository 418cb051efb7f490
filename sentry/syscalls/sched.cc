// SPDX-License-Identifier: Apache-2.0
// Scheduling: what applications ask and set is kept and answered; the host schedules. Linux: kernel/sched/syscalls.c.
#include <sched.h>

#include <algorithm>
#include <bit>

#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

constexpr int kResetOnFork = 0x40000000, kDeadline = 6;

RefOrNull<Task> find(Task& task, int pid) {
  if (pid == 0) return Ref<Task>(task);
  return task.group().pid_namespace().find_task(pid);
}

// Linux: check_same_owner().
bool same_owner(Task& task, Task& target) {
  const auth::Credentials& c = task.own_credentials();
  Ref<auth::Credentials> t = target.credentials();
  return c.euid == t->euid || c.euid == t->uid;
}

// EPERM for real-time policies: they would be the host's to give.
Result<void> set_policy(Task& task, Task& target, int policy, int priority) {
  policy &= ~kResetOnFork;
  switch (policy) {
    case SCHED_OTHER:
    case SCHED_BATCH:
    case SCHED_IDLE:
      if (priority != 0) return kEINVAL;
      break;
    case SCHED_FIFO:
    case SCHED_RR:
      if (priority < 1 || priority > 99) return kEINVAL;
      return kEPERM;
    case kDeadline:
      return kEPERM;
    default:
      return kEINVAL;
  }
  if (!same_owner(task, target) && !task.own_credentials().has_cap(CAP_SYS_NICE)) return kEPERM;
  target.impl().policy = policy;
  return {};
}

// Linux: can_nice() and set_one_prio().
Result<void> set_nice(Task& task, Task& target, int nice) {
  const auth::Credentials& c = task.own_credentials();
  Ref<auth::Credentials> t = target.credentials();
  if (c.euid != t->uid && c.euid != t->euid && !c.has_cap_in(t->user_ns.get(), CAP_SYS_NICE)) return kEPERM;
  if (nice < target.impl().nice.load()) {
    uint64_t reach = static_cast<uint64_t>(20 - nice);
    if (reach > target.rlimit(RLIMIT_NICE) && !c.has_cap(CAP_SYS_NICE)) return kEACCES;
  }
  target.impl().nice = nice;
  return {};
}

// The tasks that getpriority and setpriority mean.
Result<std::vector<Ref<Task>>> priority_targets(Task& task, int which, int who) {
  std::vector<Ref<Task>> list;
  kernel::PidNamespace& ns = task.group().pid_namespace();
  switch (which) {
    case PRIO_PROCESS:
      if (RefOrNull<Task> t = find(task, who)) list.push_back(t.get_ref());
      return list;
    case PRIO_PGRP: {
      RefOrNull<kernel::ProcessGroup> pg = task.group().process_group();
      if (who != 0) pg = ns.find_process_group(who);
      if (!pg) return list;
      for (const Ref<kernel::ThreadGroup>& g : kernel::members_of(*pg))
        for (const Ref<Task>& t : g->tasks()) list.push_back(t);
      return list;
    }
    case PRIO_USER: {
      const auth::Credentials& me = task.own_credentials();
      const uint32_t uid = who == 0 ? me.uid : auth::kernel_uid(me.user_ns.get(), static_cast<uint32_t>(who));
      for (const Ref<kernel::ThreadGroup>& g : ns.groups())
        for (const Ref<Task>& t : g->tasks())
          if (t->credentials()->uid == uid) list.push_back(t);
      return list;
    }
    default:
      return kEINVAL;
  }
}

kernel::CpuSet online_cpus(Task& task) {
  kernel::CpuSet set{};
  size_t n = std::min<size_t>(kernel::cpu_count(task.kernel(), task.container()), set.size() * 64);
  for (size_t i = 0; i < n; i++) set[i / 64] |= 1ull << (i % 64);
  return set;
}

struct SchedAttr {  // struct sched_attr, version 0
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};
static_assert(sizeof(SchedAttr) == 48);

}  // namespace

Result<long> sys_sched_yield(Task&) {
  sched::yield();
  return 0L;
}

Result<long> sys_getpriority(Task& task, int which, int who) {
  std::vector<Ref<Task>> list = TRY(priority_targets(task, which, who));
  if (list.empty()) return kESRCH;
  int best = 19;
  for (const Ref<Task>& t : list) best = std::min(best, t->impl().nice.load());
  return long{20 - best};
}

Result<long> sys_setpriority(Task& task, int which, int who, int nice) {
  nice = std::clamp(nice, -20, 19);
  std::vector<Ref<Task>> list = TRY(priority_targets(task, which, who));
  if (list.empty()) return kESRCH;
  Result<void> worst;
  for (const Ref<Task>& t : list)
    if (Result<void> r = set_nice(task, *t, nice); !r.ok()) worst = std::move(r);
  if (!worst.ok()) return worst.error();
  return 0L;
}

Result<long> sys_sched_setparam(Task& task, int pid, UserIn<int> param) {
  if (pid < 0 || param.is_null()) return kEINVAL;
  int priority = TRY(param.copy_in(task.context()));
  RefOrNull<Task> t = find(task, pid);
  if (!t) return kESRCH;
  TRY(set_policy(task, *t, t->impl().policy.load(), priority));
  return 0L;
}

Result<long> sys_sched_getparam(Task& task, int pid, UserOut<int> param) {
  if (pid < 0 || param.is_null()) return kEINVAL;
  if (!find(task, pid)) return kESRCH;
  TRY(param.copy_out(task.context(), 0));
  return 0L;
}

Result<long> sys_sched_setscheduler(Task& task, int pid, int policy, UserIn<int> param) {
  if (pid < 0 || policy < 0 || param.is_null()) return kEINVAL;
  int priority = TRY(param.copy_in(task.context()));
  RefOrNull<Task> t = find(task, pid);
  if (!t) return kESRCH;
  TRY(set_policy(task, *t, policy, priority));
  return 0L;
}

Result<long> sys_sched_getscheduler(Task& task, int pid) {
  if (pid < 0) return kEINVAL;
  RefOrNull<Task> t = find(task, pid);
  if (!t) return kESRCH;
  return long{t->impl().policy.load()};
}

Result<long> sys_sched_get_priority_max(Task&, int policy) {
  if (policy == SCHED_FIFO || policy == SCHED_RR) return 99L;
  if (policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE || policy == kDeadline) return 0L;
  return kEINVAL;
}

Result<long> sys_sched_get_priority_min(Task&, int policy) {
  if (policy == SCHED_FIFO || policy == SCHED_RR) return 1L;
  if (policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE || policy == kDeadline) return 0L;
  return kEINVAL;
}

Result<long> sys_sched_rr_get_interval(Task& task, int pid, UserOut<struct timespec> interval) {
  if (pid < 0) return kEINVAL;
  if (!find(task, pid)) return kESRCH;
  TRY(interval.copy_out(task.context(), timespec{0, 4000000}));  // a slice of the fair scheduler
  return 0L;
}

Result<long> sys_sched_setattr(Task& task, int pid, UserIn<void> attr, unsigned flags) {
  if (pid < 0 || attr.is_null() || flags != 0) return kEINVAL;
  uint32_t size = TRY(attr.copy_in<uint32_t>(task.context()));
  if (size == 0) size = sizeof(SchedAttr);
  if (size < sizeof(SchedAttr) || size > platform::kPageSize) {
    TRY(UserOut<uint32_t>(attr.unchecked_address()).copy_out_now(task.context(), uint32_t{sizeof(SchedAttr)}));
    return kE2BIG;
  }
  SchedAttr a = TRY(attr.copy_in<SchedAttr>(task.context()));
  RefOrNull<Task> t = find(task, pid);
  if (!t) return kESRCH;
  if (static_cast<int32_t>(a.policy) < 0) return kEINVAL;
  TRY(set_policy(task, *t, static_cast<int>(a.policy), static_cast<int>(a.priority)));
  TRY(set_nice(task, *t, std::clamp(a.nice, -20, 19)));
  return 0L;
}

Result<long> sys_sched_getattr(Task& task, int pid, UserOut<void> attr, unsigned size, unsigned flags) {
  if (pid < 0 || attr.is_null() || size > platform::kPageSize || size < sizeof(SchedAttr) || flags != 0) return kEINVAL;
  RefOrNull<Task> t = find(task, pid);
  if (!t) return kESRCH;
  SchedAttr a{};
  a.size = sizeof a;
  a.policy = static_cast<uint32_t>(t->impl().policy.load());
  a.nice = t->impl().nice.load();
  TRY(attr.copy_out(task.context(), a));
  return 0L;
}

Result<long> sys_sched_setaffinity(Task& task, int pid, size_t len, UserIn<void> mask) {
  RefOrNull<Task> t = find(task, pid);
  if (!t) return kESRCH;
  if (!same_owner(task, *t) && !task.own_credentials().has_cap_in(t->credentials()->user_ns.get(), CAP_SYS_NICE)) return kEPERM;
  kernel::CpuSet wanted{};
  TRY(mask.copy_bytes_in(task.context(), wanted.data(), std::min(len, sizeof wanted)));
  const kernel::CpuSet online = online_cpus(task);
  bool any = false;
  for (size_t i = 0; i < wanted.size(); i++) any |= (wanted[i] &= online[i]) != 0;
  if (!any) return kEINVAL;
  t->set_affinity(wanted);
  return 0L;
}

Result<long> sys_sched_getaffinity(Task& task, int pid, size_t len, UserOut<void> mask) {
  const kernel::CpuSet online = online_cpus(task);
  size_t highest = 0;
  for (size_t i = 0; i < online.size(); i++)
    if (online[i]) highest = i * 64 + 64 - static_cast<size_t>(std::countl_zero(online[i]));
  if (len * 8 < highest || len % sizeof(uint64_t)) return kEINVAL;
  RefOrNull<Task> t = find(task, pid);
  if (!t) return kESRCH;
  kernel::CpuSet set = t->affinity();
  if (set == kernel::CpuSet{}) set = online;
  size_t bytes = std::min(len, (highest + 63) / 64 * 8);
  TRY(mask.copy_bytes_out(task.context(), set.data(), bytes));
  return static_cast<long>(bytes);
}

// The number is of the CPU that answers: as good a hint as any, and always one that exists.
Result<long> sys_getcpu(Task& task, UserOut<unsigned> cpu, UserOut<unsigned> node, uint64_t) {
  unsigned now = static_cast<unsigned>(std::max(sched_getcpu(), 0)) % kernel::cpu_count(task.kernel(), task.container());
  if (!cpu.is_null()) TRY(cpu.copy_out(task.context(), now));
  if (!node.is_null()) TRY(node.copy_out(task.context(), 0u));
  return 0L;
}

}  // namespace sentry::syscalls
