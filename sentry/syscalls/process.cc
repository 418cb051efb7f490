// SPDX-License-Identifier: Apache-2.0
// Making tasks and naming them: clone family, ids, process groups, sessions, pidfds, namespaces.
#include <limits.h>
#include <sched.h>

#include "sentry/fs/nsfs/nsfs.h"
#include "sentry/kernel/clone.h"
#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

struct CloneArgsV2 {  // struct clone_args of linux/sched.h
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
constexpr size_t kCloneArgsV0 = 64, kCloneArgsV2 = sizeof(CloneArgsV2);

RefOrNull<kernel::ThreadGroup> find_process(Task& task, int pid) {
  if (pid == 0) return task.group_ref();
  // Any thread's number names its process (Linux: find_task_by_vpid).
  RefOrNull<Task> t = task.group().pid_namespace().find_task(pid);
  if (!t) return nullptr;
  return t->group_ref();
}

// The group of CLONE_INTO_CGROUP. There is one in a container, where the child would be anyway. Linux: cgroup_css_set_fork().
Result<void> check_cgroup(Task& task, int fd) {
  constexpr uint64_t kCgroup2Magic = 0x63677270;
  Ref<vfs::File> f = TRY(task.file(fd));
  if (!f->inode().is_directory() || f->inode().fs().statfs().type != kCgroup2Magic) return kEBADF;
  return f->inode().check_access(task.own_credentials(), W_OK);
}

}  // namespace

Result<long> sys_clone(Task& task, uint64_t flags, uint64_t stack, UserOut<int> parent_tid, UserOut<int> child_tid,
                       uint64_t tls) {
  // Linux: legacy clone takes 32 bits of flags, and the pidfd goes where the parent's tid would.
  const uint64_t f = flags & 0xffffffff & ~static_cast<uint64_t>(CSIGNAL);
  if ((f & CLONE_PIDFD) && (f & CLONE_PARENT_SETTID)) return kEINVAL;
  kernel::CloneArgs a;
  a.flags = f;
  a.exit_signal = static_cast<int>(flags & CSIGNAL);
  a.stack = stack;
  a.tls = tls;
  a.parent_tid = parent_tid;
  a.child_tid = child_tid;
  a.pidfd = parent_tid;
  return kernel::clone_task(task, a);
}

Result<long> sys_fork(Task& task) {
  kernel::CloneArgs a;
  a.exit_signal = SIGCHLD;
  return kernel::clone_task(task, a);
}

Result<long> sys_vfork(Task& task) {
  kernel::CloneArgs a;
  a.flags = CLONE_VM | CLONE_VFORK;
  a.exit_signal = SIGCHLD;
  return kernel::clone_task(task, a);
}

Result<long> sys_clone3(Task& task, UserIn<void> args, size_t size) {
  CloneArgsV2 c{};
  if (size < kCloneArgsV0) return kEINVAL;
  if (size > platform::kPageSize) return kE2BIG;
  std::vector<std::byte> bytes(size);
  TRY(args.copy_bytes_in(task.context(), bytes.data(), size));
  for (size_t i = sizeof c; i < size; i++)
    if (bytes[i] != std::byte{0}) return kE2BIG;
  memcpy(&c, bytes.data(), std::min(size, sizeof c));
  constexpr uint64_t kClearSighand = 0x100000000ull, kIntoCgroup = 0x200000000ull;
  if ((c.flags & kIntoCgroup) && (c.cgroup > INT_MAX || size < kCloneArgsV2)) return kEINVAL;
  if (c.flags & ~(0xffffffffull | kClearSighand | kIntoCgroup)) return kEINVAL;
  if (c.flags & (CLONE_DETACHED | (CSIGNAL & ~0x80ull))) return kEINVAL;  // 0x80 is CLONE_NEWTIME here
  if ((c.flags & (CLONE_SIGHAND | kClearSighand)) == (CLONE_SIGHAND | kClearSighand)) return kEINVAL;
  if (c.exit_signal > kernel::kSignals) return kEINVAL;
  if ((c.flags & (CLONE_THREAD | CLONE_PARENT)) && c.exit_signal) return kEINVAL;
  constexpr uint64_t kMaxLevels = 32;  // Linux: MAX_PID_NS_LEVEL
  if (c.set_tid_size > kMaxLevels || !c.set_tid != !c.set_tid_size) return kEINVAL;
  if (c.stack == 0 ? c.stack_size > 0 : c.stack_size == 0) return kEINVAL;
  if (c.stack + c.stack_size < c.stack || c.stack + c.stack_size > platform::kAppLimit) return kEINVAL;
  kernel::CloneArgs a;
  a.flags = c.flags;
  a.exit_signal = static_cast<int>(c.exit_signal);
  a.stack = c.stack + c.stack_size;
  a.tls = c.tls;
  a.parent_tid = UserOut<int>(c.parent_tid);
  a.child_tid = UserOut<int>(c.child_tid);
  a.pidfd = UserOut<int>(c.pidfd);
  a.set_tid.resize(c.set_tid_size);
  TRY(task.context().copy_in(a.set_tid.data(), c.set_tid, c.set_tid_size * sizeof(int)));
  if (c.flags & kIntoCgroup) TRY(check_cgroup(task, static_cast<int>(c.cgroup)));
  return kernel::clone_task(task, a);
}

Result<long> sys_getpid(Task& task) { return long{task.group().pid()}; }
Result<long> sys_gettid(Task& task) { return long{task.tid()}; }
Result<long> sys_getppid(Task& task) { return long{task.group().impl().ppid.load(std::memory_order_relaxed)}; }
Result<long> sys_set_tid_address(Task& task, uint64_t address) {
  task.impl().clear_child_tid = address;
  return long{task.tid()};
}

Result<long> sys_setpgid(Task& task, int pid, int pgid) {
  TRY(kernel::set_process_group(task, pid, pgid));
  return 0L;
}

Result<long> sys_getpgid(Task& task, int pid) {
  RefOrNull<kernel::ThreadGroup> g = find_process(task, pid);
  if (!g) return kESRCH;
  return long{g->process_group()->id_in(task.group().pid_namespace())};
}

Result<long> sys_getpgrp(Task& task) {
  return long{task.group().process_group()->id_in(task.group().pid_namespace())};
}

Result<long> sys_setsid(Task& task) { return kernel::set_session(task); }

Result<long> sys_getsid(Task& task, int pid) {
  RefOrNull<kernel::ThreadGroup> g = find_process(task, pid);
  if (!g) return kESRCH;
  return long{g->session()->id_in(task.group().pid_namespace())};
}

Result<long> sys_pidfd_open(Task& task, int pid, unsigned flags) {
  if (flags & ~static_cast<unsigned>(O_NONBLOCK)) return kEINVAL;  // PIDFD_THREAD is not offered
  if (pid <= 0) return kEINVAL;
  Ref<kernel::PidNamespace> ns(task.group().pid_namespace());
  RefOrNull<kernel::ThreadGroup> g = ns->find_group(pid);
  if (!g) {
    if (ns->find_task(pid)) return kEINVAL;  // a thread, not a process
    return kESRCH;
  }
  return task.install(kernel::make_pidfd(g.get_ref(), static_cast<int>(flags), task.credentials()), true);
}

Result<long> sys_pidfd_getfd(Task& task, int pidfd, int target_fd, unsigned flags) {
  if (flags != 0) return kEINVAL;
  Ref<vfs::File> f = TRY(task.file(pidfd));
  Ref<kernel::ThreadGroup> g = TRY(kernel::process_of_pidfd(*f));
  std::vector<Ref<Task>> tasks = g->tasks();
  if (tasks.empty()) return kESRCH;
  if (!kernel::may_inspect(&task, *tasks.front(), false)) return kEPERM;
  Result<Ref<kernel::FdTable>> files = tasks.front()->find_files();
  if (!files.ok()) return kESRCH;
  Ref<vfs::File> file = TRY((*files)->get_path(target_fd));
  return task.install(std::move(file), true);
}

Result<long> sys_unshare(Task& task, uint64_t flags) {
  TRY(kernel::unshare(task, flags));
  return 0L;
}

// By a namespace's file, or by a pidfd: then all kinds that `type` names, as the process has them.
Result<long> sys_setns(Task& task, int fd, int type) {
  using kernel::NamespaceKind;
  Ref<vfs::File> f = TRY(task.file(fd));
  std::vector<kernel::AnyNamespace> which;
  if (Result<kernel::AnyNamespace> one = fs::nsfs::namespace_of_file(*f); one.ok()) {
    if (type != 0 && type != one->clone_flag()) return kEINVAL;
    which.push_back(std::move(one).value());
  } else {
    Result<Ref<kernel::ThreadGroup>> process = kernel::process_of_pidfd(*f);
    if (!process.ok()) return kEINVAL;
    Ref<kernel::ThreadGroup> g = *process;
    if (type == 0 || (static_cast<uint64_t>(static_cast<unsigned>(type)) & ~kernel::kNewNamespaces)) return kEINVAL;
    std::vector<Ref<Task>> tasks = g->tasks();
    if (tasks.empty()) return kESRCH;
    if (!kernel::may_inspect(&task, *tasks.front(), false)) return kEPERM;
    // In the order in which one makes the next possible. Linux: validate_nsset().
    for (NamespaceKind kind : {NamespaceKind::user, NamespaceKind::mnt, NamespaceKind::uts, NamespaceKind::ipc, NamespaceKind::pid,
                               NamespaceKind::cgroup, NamespaceKind::net, NamespaceKind::time}) {
      Result<kernel::AnyNamespace> ns = kernel::namespace_of(*tasks.front(), kind, false);
      if (!ns.ok()) return kESRCH;
      if (type & ns->clone_flag()) which.push_back(std::move(ns).value());
    }
  }
  TRY(kernel::join_namespaces(task, which));
  return 0L;
}

}  // namespace sentry::syscalls
