// SPDX-License-Identifier: Apache-2.0
// mount(2), umount2(2), pivot_root(2).
#include <sys/mount.h>

#include <bit>

#include "sentry/syscalls/mount.h"

#include "sentry/kernel/ipc.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {
namespace {

// File systems that root of any user namespace may mount. Linux: FS_USERNS_MOUNT.
bool for_everybody(std::string_view type) {
  for (const char* t : {"tmpfs", "ramfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"})
    if (type == t) return true;
  return false;
}

constexpr uint64_t kMagic = 0xC0ED0000, kMagicMask = 0xffff0000;
constexpr uint64_t kPropagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
// Flags that a mount keeps; the rest are of the call or of a file system's own.
constexpr uint64_t kKept = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_MANDLOCK | MS_DIRSYNC | 256 /* NOSYMFOLLOW */ |
                           MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME | MS_LAZYTIME;

// A page of text at most; null is empty.
Result<std::string> text_of(Task& task, uint64_t address) {
  if (address == 0) return std::string();
  Result<std::string> s = task.context().copy_in_string(address, 4096);
  if (!s.ok() && s.error() == kENAMETOOLONG) return kEINVAL;
  return s;
}

Result<void> remount(Task& task, const vfs::Path& at, uint64_t flags) {
  Ref<vfs::MountNamespace> ns = task.fs()->mounts();
  if (!at.mount || !ns->holds(*at.mount)) return kEINVAL;
  // Linux: without an atime flag the old ones stay (do_mount).
  constexpr uint64_t kAtime = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;
  const uint64_t stays = flags & kAtime ? 0 : kAtime;
  return ns->change(at, false, {flags & kKept, kKept & ~stays, 0});
}

}  // namespace

bool may_mount(Task& task) {
  return task.own_credentials().has_cap_in(task.fs()->mounts()->user_ns().get(), CAP_SYS_ADMIN);
}

Result<void> may_make(Task& task, std::string_view type) {
  const auth::Credentials& c = task.own_credentials();
  if (!c.user_ns) return {};
  if (!for_everybody(type)) return kEPERM;
  kernel::UserNs of;
  if (type == "proc") of = task.group().pid_namespace().impl().user_ns;
  else if (type == "mqueue") of = kernel::ipc_of(task)->user_ns();
  else if (type == "sysfs") of = kernel::net_of(task)->user_ns();
  else return {};
  if (!c.has_cap_in(of.get(), CAP_SYS_ADMIN)) return kEPERM;
  return {};
}

Result<void> may_show(Task& task, std::string_view type, uint64_t flags) {
  if (!task.own_credentials().user_ns || (type != "proc" && type != "sysfs")) return {};
  if (!task.fs()->mounts()->shows_whole(type, flags)) return kEPERM;
  return {};
}

Result<Ref<vfs::FileSystem>> make_file_system(Task& task, const std::string& type, const std::string& data) {
  kernel::FileSystems* maker = task.container().file_systems();
  if (!maker) return kENODEV;
  Ref<vfs::FileSystem> fs = TRY(maker->make(type, data));
  if (type != "mqueue") fs->set_user_ns(task.own_credentials().user_ns);
  return fs;
}

Result<long> sys_mount(Task& task, UserString source, UserString target, UserIn<char> type, uint64_t flags, UserIn<void> data) {
  std::string type_text = TRY(text_of(task, type.unchecked_address()));
  std::string source_text = TRY(text_of(task, source.unchecked_address()));
  std::string data_text = flags & (MS_BIND | MS_MOVE | MS_REMOUNT | kPropagation)
                              ? std::string() : TRY(text_of(task, data.unchecked_address()));
  vfs::Path at = TRY(find_path(task, AT_FDCWD, target, 0));
  if ((flags & kMagicMask) == kMagic) flags &= ~kMagicMask;
  if (!may_mount(task)) return kEPERM;
  Ref<vfs::MountNamespace> ns = task.fs()->mounts();
  if (flags & MS_REMOUNT) return done(remount(task, at, flags));
  if ((flags & kPropagation) && !(flags & MS_BIND)) {
    const uint64_t propagation = flags & ~uint64_t{MS_REC | MS_SILENT};
    if ((propagation & ~kPropagation) || std::popcount(propagation) != 1) return kEINVAL;
    return done(ns->change(at, flags & MS_REC, {0, 0, propagation}));
  }
  if (flags & (MS_BIND | MS_MOVE)) {
    if (source_text.empty()) return source.is_null() ? kEINVAL : kENOENT;
    vfs::Path from = TRY(vfs::walk(task.walk_context(), source_text, vfs::kFollow));
    if (!(flags & MS_BIND)) return done(ns->move(from, at));
    (void)TRY(ns->bind(from, at, flags & MS_REC));
    return 0L;
  }
  if (type.is_null() || type_text.empty()) return type.is_null() ? kEINVAL : kENODEV;
  TRY(may_make(task, type_text));
  TRY(may_show(task, type_text, flags));
  Ref<vfs::FileSystem> fs = TRY(make_file_system(task, type_text, data_text));
  (void)TRY(ns->mount(fs, at, flags & kKept, source_text.empty() ? "none" : source_text));
  return 0L;
}

Result<long> sys_umount2(Task& task, UserString target, int flags) {
  if (flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) return kEINVAL;
  vfs::Path at = TRY(find_path(task, AT_FDCWD, target, flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0));
  if (!may_mount(task)) return kEPERM;
  // Linux: LOOKUP_MOUNTPOINT. What is mounted over the place, also when that is the working directory.
  while (RefOrNull<vfs::Mount> over = task.fs()->mounts()->mounted_on(at)) at = vfs::Path{over, over->root()};
  if ((flags & MNT_FORCE) && !task.own_credentials().has_cap(CAP_SYS_ADMIN)) return kEPERM;
  return done(task.fs()->mounts()->unmount(at, flags & ~UMOUNT_NOFOLLOW));
}

Result<long> sys_pivot_root(Task& task, UserString new_root, UserString put_old) {
  if (!may_mount(task)) return kEPERM;
  vfs::Path to = TRY(find_path(task, AT_FDCWD, new_root, 0));
  vfs::Path old_place = TRY(find_path(task, AT_FDCWD, put_old, 0));
  Ref<vfs::MountNamespace> ns = task.fs()->mounts();
  vfs::Path old_root = ns->root();
  if (!(task.fs()->root() == old_root)) return kEINVAL;  // Differs from Linux: not from inside a chroot
  TRY(ns->pivot_root(to, old_place));
  // Linux: chroot_fs_refs. Whoever stood at the old root stands at the new one.
  for (const auto& group : task.container().pids()->groups()) {
    for (const auto& t : group->tasks()) {
      Ref<kernel::FsContext> fs = t->fs();
      if (fs->mounts().get() != ns.get()) continue;
      if (fs->root() == old_root) fs->set_root(to);
      if (fs->cwd() == old_root) fs->set_cwd(to);
    }
  }
  return 0L;
}

}  // namespace sentry::syscalls
