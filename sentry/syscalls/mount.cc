// SPDX-License-Identifier: Apache-2.0
// mount(2), umount2(2), pivot_root(2). There is no propagation between namespaces: MS_SHARED and its kin succeed and change
// nothing, as every mount is private.
#include <sys/mount.h>

#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {
namespace {

constexpr uint64_t kMagic = 0xC0ED0000, kMagicMask = 0xffff0000;
constexpr uint64_t kPropagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
// Flags that a mount keeps; the rest are of the call or of a file system's own.
constexpr uint64_t kKept = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_MANDLOCK | MS_DIRSYNC | 256 /* NOSYMFOLLOW */ |
                           MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME | MS_LAZYTIME;

bool may_mount(Task& task) { return task.own_credentials().has_cap(CAP_SYS_ADMIN); }

// A page of text at most; null is empty.
Result<std::string> text_of(Task& task, uint64_t address) {
  if (address == 0) return std::string();
  Result<std::string> s = task.context().copy_in_string(address, 4096);
  if (!s.ok() && s.error() == kENAMETOOLONG) return kEINVAL;
  return s;
}

Result<void> remount(const vfs::Path& at, uint64_t flags) {
  if (!at.mount || at.dentry.get() != at.mount->root().get()) return kEINVAL;
  uint64_t next = flags & kKept;
  // Linux: without an atime flag the old ones stay (do_mount).
  constexpr uint64_t kAtime = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;
  if (!(flags & kAtime)) next |= at.mount->flags() & kAtime;
  at.mount->set_flags(next);
  return {};
}

}  // namespace

Result<long> sys_mount(Task& task, UserString source, UserString target, UserIn<char> type, uint64_t flags, UserIn<void> data) {
  std::string type_text = TRY(text_of(task, type.unchecked_address()));
  std::string source_text = TRY(text_of(task, source.unchecked_address()));
  std::string data_text = flags & (MS_BIND | MS_MOVE | MS_REMOUNT | kPropagation)
                              ? std::string() : TRY(text_of(task, data.unchecked_address()));
  vfs::Path at = TRY(find_path(task, AT_FDCWD, target, 0));
  if ((flags & kMagicMask) == kMagic) flags &= ~kMagicMask;
  if (!may_mount(task)) return kEPERM;
  Ref<vfs::MountNamespace> ns = task.fs()->mounts();
  if (flags & MS_REMOUNT) return done(remount(at, flags));
  if (flags & (MS_BIND | MS_MOVE)) {
    if (source_text.empty()) return source.is_null() ? kEINVAL : kENOENT;
    vfs::Path from = TRY(vfs::walk(task.walk_context(), source_text, vfs::kFollow));
    if (flags & MS_MOVE) return done(ns->move(from, at));
    (void)TRY(ns->bind(from, at, flags & MS_REC));
    return 0L;
  }
  if (flags & kPropagation) {
    if (!at.mount || at.dentry.get() != at.mount->root().get()) return kEINVAL;
    return 0L;
  }
  if (type.is_null() || type_text.empty()) return type.is_null() ? kEINVAL : kENODEV;
  kernel::FileSystems* maker = task.container().file_systems();
  if (!maker) return kENODEV;
  Ref<vfs::FileSystem> fs = TRY(maker->make(type_text, data_text));
  (void)TRY(ns->mount(fs, at, flags & kKept, source_text.empty() ? "none" : source_text));
  return 0L;
}

Result<long> sys_umount2(Task& task, UserString target, int flags) {
  if (flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) return kEINVAL;
  vfs::Path at = TRY(find_path(task, AT_FDCWD, target, flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0));
  if (!may_mount(task)) return kEPERM;
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
