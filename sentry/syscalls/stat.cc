// SPDX-License-Identifier: Apache-2.0
// stat(2), statx(2), statfs(2), access(2), and the calls that change what stat shows: chmod, chown, utimes.
#include <linux/stat.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {
namespace {

using vfs::SetAttributes;

Result<struct stat> stat_of(Task& task, vfs::Inode& inode) {
  vfs::Attributes a = TRY(inode.attributes());
  struct stat s {};
  s.st_dev = a.dev;
  s.st_ino = a.ino;
  s.st_mode = a.mode;
  s.st_nlink = a.nlink;
  const auth::UserNamespace* ns = task.own_credentials().user_ns.get();
  s.st_uid = auth::shown_uid(ns, a.uid);
  s.st_gid = auth::shown_gid(ns, a.gid);
  s.st_rdev = a.rdev;
  s.st_size = static_cast<off_t>(a.size);
  s.st_blksize = a.blksize;
  s.st_blocks = static_cast<blkcnt_t>(a.blocks);
  s.st_atim = a.atime;
  s.st_mtim = a.mtime;
  s.st_ctim = a.ctime;
  return s;
}

Result<long> stat_path(Task& task, int dirfd, UserString path, UserOut<struct stat> out, int at_flags) {
  vfs::Path p = TRY(find_path(task, dirfd, path, at_flags));
  struct stat s = TRY(stat_of(task, *p.inode()));
  TRY(out.copy_out(task.context(), s));
  return 0L;
}

struct statx_timestamp time_of(const timespec& t) {
  struct statx_timestamp s {};
  s.tv_sec = t.tv_sec;
  s.tv_nsec = static_cast<uint32_t>(t.tv_nsec);
  return s;
}

constexpr uint64_t kStatfsMountFlags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME;
constexpr uint64_t kStRelatime = 4096, kStValid = 0x20;

Result<long> statfs_of(Task& task, const vfs::Path& p, vfs::Inode& inode, UserOut<struct statfs> out) {
  vfs::FsStat f = (p.mount ? *p.mount->fs() : inode.fs()).statfs();
  struct statfs s {};
  s.f_type = static_cast<long>(f.type);
  s.f_bsize = static_cast<long>(f.bsize);
  s.f_blocks = f.blocks;
  s.f_bfree = f.bfree;
  s.f_bavail = f.bavail;
  s.f_files = f.files;
  s.f_ffree = f.ffree;
  s.f_fsid.__val[0] = static_cast<int>(f.fsid);
  s.f_fsid.__val[1] = static_cast<int>(f.fsid >> 32);
  s.f_namelen = static_cast<long>(f.namelen);
  s.f_frsize = s.f_bsize;
  uint64_t m = p.mount ? p.mount->flags() | (p.mount->read_only() ? uint64_t{MS_RDONLY} : 0) : 0;
  s.f_flags = static_cast<long>(f.flags | kStValid | (m & kStatfsMountFlags) | (m & MS_RELATIME ? kStRelatime : 0));
  TRY(out.copy_out(task.context(), s));
  return 0L;
}

}  // namespace

Result<long> sys_newfstatat(Task& task, int dirfd, UserString path, UserOut<struct stat> st, int flags) {
  if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)) return kEINVAL;
  return stat_path(task, dirfd, path, st, flags);
}
Result<long> sys_stat(Task& task, UserString path, UserOut<struct stat> st) { return stat_path(task, AT_FDCWD, path, st, 0); }
Result<long> sys_lstat(Task& task, UserString path, UserOut<struct stat> st) {
  return stat_path(task, AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}
Result<long> sys_fstat(Task& task, int fd, UserOut<struct stat> st) {
  Result<Ref<vfs::File>> file = task.file(fd);
  if (!file.ok()) file = task.files()->get_path(fd);
  struct stat s = TRY(stat_of(task, TRY(std::move(file))->inode()));
  TRY(st.copy_out(task.context(), s));
  return 0L;
}

Result<long> sys_statx(Task& task, int dirfd, UserString path, int flags, unsigned mask, UserOut<struct statx> st) {
  constexpr int kSyncType = AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC;
  if (mask & STATX__RESERVED) return kEINVAL;
  if ((flags & kSyncType) == kSyncType) return kEINVAL;
  if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | kSyncType)) return kEINVAL;
  vfs::Path p = TRY(find_path(task, dirfd, path, flags));
  vfs::Attributes a = TRY(p.inode()->attributes());
  struct statx s {};
  s.stx_mask = STATX_BASIC_STATS | STATX_MNT_ID | (a.btime.tv_sec || a.btime.tv_nsec ? unsigned{STATX_BTIME} : 0u);
  s.stx_blksize = a.blksize;
  s.stx_nlink = a.nlink;
  const auth::UserNamespace* ns = task.own_credentials().user_ns.get();
  s.stx_uid = auth::shown_uid(ns, a.uid);
  s.stx_gid = auth::shown_gid(ns, a.gid);
  s.stx_mode = static_cast<uint16_t>(a.mode);
  s.stx_ino = a.ino;
  s.stx_size = a.size;
  s.stx_blocks = a.blocks;
  s.stx_atime = time_of(a.atime);
  s.stx_btime = time_of(a.btime);
  s.stx_ctime = time_of(a.ctime);
  s.stx_mtime = time_of(a.mtime);
  s.stx_rdev_major = major(a.rdev);
  s.stx_rdev_minor = minor(a.rdev);
  s.stx_dev_major = major(a.dev);
  s.stx_dev_minor = minor(a.dev);
  s.stx_attributes_mask = STATX_ATTR_MOUNT_ROOT;
  if (p.mount) {
    s.stx_mnt_id = static_cast<uint64_t>(p.mount->id());
    if (p.dentry.get() == p.mount->root().get()) s.stx_attributes |= STATX_ATTR_MOUNT_ROOT;
  }
  TRY(st.copy_out(task.context(), s));
  return 0L;
}

Result<long> sys_statfs(Task& task, UserString path, UserOut<struct statfs> buf) {
  vfs::Path p = TRY(find_path(task, AT_FDCWD, path, 0));
  return statfs_of(task, p, *p.inode(), buf);
}
Result<long> sys_fstatfs(Task& task, int fd, UserOut<struct statfs> buf) {
  Ref<vfs::File> f = TRY(task.files()->get_path(fd));
  return statfs_of(task, f->path(), f->inode(), buf);
}

// ---- access ----

Result<long> sys_faccessat2(Task& task, int dirfd, UserString path, int mode, int flags) {
  if (mode & ~(R_OK | W_OK | X_OK)) return kEINVAL;
  if (flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return kEINVAL;
  PathArgument p = TRY(path_argument(task, dirfd, path));
  if (!(flags & AT_EACCESS)) {
    // Linux: access_override_creds. The real ids decide, for the walk as well.
    const auth::Credentials& own = task.own_credentials();
    const uint64_t caps = own.uid == own.root_uid() ? own.cap_permitted : 0;
    if (own.fsuid != own.uid || own.fsgid != own.gid || own.cap_effective != caps) {
      Ref<auth::Credentials> real = own.copy();
      real->fsuid = own.uid;
      real->fsgid = own.gid;
      if (!(own.securebits & 4)) real->cap_effective = caps;  // SECBIT_NO_SETUID_FIXUP
      p.from.cred = real;
    }
  }
  vfs::Path found = TRY(vfs::walk(p.from, p.text, walk_flags(flags)));
  return done(vfs::access(found, mode, *p.from.cred));
}
Result<long> sys_faccessat(Task& task, int dirfd, UserString path, int mode) { return sys_faccessat2(task, dirfd, path, mode, 0); }
Result<long> sys_access(Task& task, UserString path, int mode) { return sys_faccessat2(task, AT_FDCWD, path, mode, 0); }

// ---- chmod, chown ----

namespace {

Result<long> change(Task& task, const vfs::Path& p, const SetAttributes& s) {
  return done(vfs::change_attributes(p, s, task.own_credentials()));
}
SetAttributes mode_change(uint32_t mode) {
  SetAttributes s;
  s.mask = SetAttributes::kMode;
  s.mode = mode & 07777;
  return s;
}
// EINVAL: an id that means nobody here.
Result<SetAttributes> owner_change(Task& task, uint32_t uid, uint32_t gid) {
  SetAttributes s;
  const auth::UserNamespace* ns = task.own_credentials().user_ns.get();
  s.uid = auth::kernel_uid(ns, uid);
  s.gid = auth::kernel_gid(ns, gid);
  if ((uid != UINT32_MAX && s.uid == auth::kNoId) || (gid != UINT32_MAX && s.gid == auth::kNoId)) return kEINVAL;
  if (uid != UINT32_MAX) s.mask |= SetAttributes::kUid;
  if (gid != UINT32_MAX) s.mask |= SetAttributes::kGid;
  return s;
}

}  // namespace

Result<long> sys_fchmodat2(Task& task, int dirfd, UserString path, uint32_t mode, int flags) {
  if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return kEINVAL;
  return change(task, TRY(find_path(task, dirfd, path, flags)), mode_change(mode));
}
Result<long> sys_fchmodat(Task& task, int dirfd, UserString path, uint32_t mode) {
  return sys_fchmodat2(task, dirfd, path, mode, 0);
}
Result<long> sys_chmod(Task& task, UserString path, uint32_t mode) { return sys_fchmodat2(task, AT_FDCWD, path, mode, 0); }
Result<long> sys_fchmod(Task& task, int fd, uint32_t mode) {
  return change(task, TRY(task.file(fd))->path(), mode_change(mode));
}

Result<long> sys_fchownat(Task& task, int dirfd, UserString path, uint32_t uid, uint32_t gid, int flags) {
  if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return kEINVAL;
  return change(task, TRY(find_path(task, dirfd, path, flags)), TRY(owner_change(task, uid, gid)));
}
Result<long> sys_chown(Task& task, UserString path, uint32_t uid, uint32_t gid) {
  return sys_fchownat(task, AT_FDCWD, path, uid, gid, 0);
}
Result<long> sys_lchown(Task& task, UserString path, uint32_t uid, uint32_t gid) {
  return sys_fchownat(task, AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}
Result<long> sys_fchown(Task& task, int fd, uint32_t uid, uint32_t gid) {
  return change(task, TRY(task.file(fd))->path(), TRY(owner_change(task, uid, gid)));
}

// ---- utimes ----

namespace {

// Null: now. Sets nothing when both are UTIME_OMIT.
Result<SetAttributes> times_change(const timespec* t) {
  SetAttributes s;
  if (!t) {
    s.mask = SetAttributes::kAtimeNow | SetAttributes::kMtimeNow;
    return s;
  }
  for (int i = 0; i < 2; i++) {
    bool now = t[i].tv_nsec == UTIME_NOW, omit = t[i].tv_nsec == UTIME_OMIT;
    if (!now && !omit && (t[i].tv_nsec < 0 || t[i].tv_nsec >= 1000000000)) return kEINVAL;
    if (omit) continue;
    if (i == 0) s.mask |= now ? SetAttributes::kAtimeNow : SetAttributes::kAtime;
    else s.mask |= now ? SetAttributes::kMtimeNow : SetAttributes::kMtime;
    (i == 0 ? s.atime : s.mtime) = t[i];
  }
  return s;
}

// A null path means dirfd itself.
Result<long> set_times(Task& task, int dirfd, UserString path, const timespec* t, int at_flags) {
  SetAttributes s = TRY(times_change(t));
  if (s.mask == 0) return 0L;  // Linux does not even look at the path
  if (path.is_null() && dirfd != AT_FDCWD) {
    if (at_flags) return kEINVAL;
    return change(task, TRY(task.file(dirfd))->path(), s);
  }
  return change(task, TRY(find_path(task, dirfd, path, at_flags)), s);
}

Result<long> set_times_us(Task& task, int dirfd, UserString path, UserIn<struct timeval> times) {
  if (times.is_null()) return set_times(task, dirfd, path, nullptr, 0);
  auto v = TRY(times.copy_in_array(task.context(), 2));
  timespec t[2];
  for (int i = 0; i < 2; i++) {
    if (v[i].tv_usec < 0 || v[i].tv_usec >= 1000000) return kEINVAL;
    t[i] = {v[i].tv_sec, v[i].tv_usec * 1000};
  }
  return set_times(task, dirfd, path, t, 0);
}

}  // namespace

Result<long> sys_utimensat(Task& task, int dirfd, UserString path, UserIn<struct timespec> times, int flags) {
  if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return kEINVAL;
  if (times.is_null()) return set_times(task, dirfd, path, nullptr, flags);
  auto t = TRY(times.copy_in_array(task.context(), 2));
  return set_times(task, dirfd, path, t.data(), flags);
}
Result<long> sys_futimesat(Task& task, int dirfd, UserString path, UserIn<struct timeval> times) {
  return set_times_us(task, dirfd, path, times);
}
Result<long> sys_utimes(Task& task, UserString path, UserIn<struct timeval> times) {
  return set_times_us(task, AT_FDCWD, path, times);
}
Result<long> sys_utime(Task& task, UserString path, UserIn<struct utimbuf> times) {
  if (times.is_null()) return set_times(task, AT_FDCWD, path, nullptr, 0);
  utimbuf u = TRY(times.copy_in(task.context()));
  timespec t[2] = {{u.actime, 0}, {u.modtime, 0}};
  return set_times(task, AT_FDCWD, path, t, 0);
}

}  // namespace sentry::syscalls
