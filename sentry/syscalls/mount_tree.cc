// SPDX-License-Identifier: Apache-2.0
// Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2). Mounts with mapped ids are refused as by a file system without them.
#include <sys/mount.h>

#include "sentry/syscalls/mount.h"
#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {
namespace {

// linux/mount.h, linux/fcntl.h: C libraries have them under conditions.
constexpr unsigned kOpenTreeClone = 1, kAtRecursive = 0x8000;
constexpr unsigned kFromSymlinks = 1, kFromEmpty = 4, kToSymlinks = 0x10, kToEmpty = 0x40, kSetGroup = 0x100, kBeneath = 0x200, kMoveMask = 0x377;
constexpr uint64_t kAttrAtime = 0x70, kAttrNoatime = 0x10, kAttrStrictatime = 0x20, kAttrIdmap = 0x100000;
constexpr uint64_t kAttrs = 1 | 2 | 4 | 8 | kAttrAtime | 0x80 | 0x200000;
constexpr uint64_t kAllAtime = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;

struct MountAttr {
  uint64_t set, clear, propagation, userns_fd;
};

int at_flags_of(bool follow, bool empty) { return (follow ? 0 : AT_SYMLINK_NOFOLLOW) | (empty ? AT_EMPTY_PATH : 0); }

}  // namespace

uint64_t mount_flags_of(uint64_t a) {
  return (a & 1 ? uint64_t{MS_RDONLY} : 0) | (a & 2 ? uint64_t{MS_NOSUID} : 0) | (a & 4 ? uint64_t{MS_NODEV} : 0) | (a & 8 ? uint64_t{MS_NOEXEC} : 0) |
         (a & 0x80 ? uint64_t{MS_NODIRATIME} : 0) | (a & 0x200000 ? uint64_t{256} /* MS_NOSYMFOLLOW */ : 0);
}

Result<uint64_t> atime_flags_of(uint64_t attributes) {
  switch (attributes & kAttrAtime) {
    case 0: return uint64_t{MS_RELATIME};
    case kAttrNoatime: return uint64_t{MS_NOATIME};
    case kAttrStrictatime: return uint64_t{MS_STRICTATIME};
  }
  return kEINVAL;
}

Result<long> sys_open_tree(Task& task, int dirfd, UserString path, unsigned flags) {
  if (flags & ~(unsigned{AT_EMPTY_PATH} | AT_NO_AUTOMOUNT | kAtRecursive | AT_SYMLINK_NOFOLLOW | kOpenTreeClone | O_CLOEXEC)) return kEINVAL;
  if ((flags & (kAtRecursive | kOpenTreeClone)) == kAtRecursive) return kEINVAL;
  const bool clone = flags & kOpenTreeClone;
  if (clone && !may_mount(task)) return kEPERM;
  auto fd = TRY(kernel::FdReservation::reserve(task.files(), task.rlimit(RLIMIT_NOFILE)));
  vfs::Path at = TRY(find_path(task, dirfd, path, static_cast<int>(flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))));
  if (!at.inode()) return kENOENT;
  RefOrNull<vfs::MountNamespace> tree;
  if (clone) {
    tree = TRY(task.fs()->mounts()->clone_tree(at, flags & kAtRecursive));
    at = tree->root();
  }
  return long{fd.commit(vfs::make_path_file(at, O_PATH, task.credentials(), std::move(tree)), flags & O_CLOEXEC)};
}

Result<long> sys_move_mount(Task& task, int from_fd, UserString from_path, int to_fd, UserString to_path, unsigned flags) {
  if (!may_mount(task)) return kEPERM;
  if (flags & ~kMoveMask) return kEINVAL;
  if ((flags & (kSetGroup | kBeneath)) == (kSetGroup | kBeneath)) return kEINVAL;
  vfs::Path from = TRY(find_path(task, from_fd, from_path, at_flags_of(flags & kFromSymlinks, flags & kFromEmpty)));
  vfs::Path to = TRY(find_path(task, to_fd, to_path, at_flags_of(flags & kToSymlinks, flags & kToEmpty)));
  if (flags & kSetGroup) return done(task.fs()->mounts()->set_group(from, to));
  if (flags & kBeneath) return kEINVAL;  // Differs from Linux
  return done(task.fs()->mounts()->move(from, to));
}

Result<long> sys_mount_setattr(Task& task, int dirfd, UserString path, unsigned flags, UserIn<void> attr, size_t size) {
  if (flags & ~(unsigned{AT_EMPTY_PATH} | kAtRecursive | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)) return kEINVAL;
  if (size > 4096) return kE2BIG;
  if (size < sizeof(MountAttr)) return kEINVAL;
  if (!may_mount(task)) return kEPERM;
  MountAttr a = TRY(copy_struct_in<MountAttr>(task, attr, size));
  if (!a.set && !a.clear && !a.propagation) return 0L;
  if (a.propagation & ~uint64_t{MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED}) return kEINVAL;
  if (__builtin_popcountll(a.propagation) > 1) return kEINVAL;
  if ((a.set | a.clear) & ~(kAttrs | kAttrIdmap)) return kEINVAL;
  uint64_t set = mount_flags_of(a.set), clear = mount_flags_of(a.clear);
  if (a.clear & kAttrAtime) {
    // Access times are one choice of several, so all of it is cleared or nothing.
    if ((a.clear & kAttrAtime) != kAttrAtime) return kEINVAL;
    clear |= kAllAtime;
    set |= TRY(atime_flags_of(a.set));
  } else if (a.set & kAttrAtime) {
    return kEINVAL;
  }
  if (a.clear & kAttrIdmap) return kEINVAL;
  if ((a.set & kAttrIdmap) && a.userns_fd > INT32_MAX) return kEINVAL;
  if (a.set & kAttrIdmap) (void)TRY(task.file(static_cast<int>(a.userns_fd)));
  vfs::Path at = TRY(find_path(task, dirfd, path, static_cast<int>(flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))));
  if (a.set & kAttrIdmap) return kEINVAL;
  return done(task.fs()->mounts()->change(at, flags & kAtRecursive, {set, clear, a.propagation}));
}

}  // namespace sentry::syscalls
