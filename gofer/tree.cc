// SPDX-License-Identifier: Apache-2.0
// The one file of the gofer that hands a path to the host. Lookups are openat2 of one component beneath a held
// directory, without following any kind of link; the calls that have no such mode (statx, unlinkat …) get the same
// single component, which they cannot leave the directory by, and never follow it.
#include "gofer/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "base/sys.h"

namespace gofer::tree {
namespace {

using namespace base;
using base::sys::from_libc;

constexpr uint64_t kBeneath = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
constexpr long kFchmodat2 = 452;  // Linux 6.6; older headers have no name for it

bool have_fchmodat2 = true;

Result<Fd> look_up(int dir, const char* name, uint64_t flags, uint64_t mode = 0) {
  return sys::openat2(dir, name, flags | O_NOFOLLOW, mode, kBeneath);
}

Result<void> none(long r) {
  auto result = from_libc(r);
  if (!result.ok()) return result.error();
  return {};
}

int64_t nanoseconds(const struct statx_timestamp& t) {
  int64_t ns;
  if (__builtin_mul_overflow(t.tv_sec, int64_t{1'000'000'000}, &ns)) return t.tv_sec < 0 ? INT64_MIN : INT64_MAX;
  if (__builtin_add_overflow(ns, int64_t{t.tv_nsec}, &ns)) return INT64_MAX;
  return ns;
}

Result<Attr> stat(int dir, const char* name, int flags) {
  struct statx x;
  TRY(from_libc(::statx(dir, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                        STATX_BASIC_STATS | STATX_BTIME, &x)));
  Attr a;
  a.mode = x.stx_mode;
  a.uid = x.stx_uid;
  a.gid = x.stx_gid;
  a.nlink = x.stx_nlink;
  a.ino = x.stx_ino;
  a.size = x.stx_size;
  a.blocks = x.stx_blocks;
  a.dev = makedev(x.stx_dev_major, x.stx_dev_minor);
  a.rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor);
  a.blksize = x.stx_blksize;
  a.atime = nanoseconds(x.stx_atime);
  a.mtime = nanoseconds(x.stx_mtime);
  a.ctime = nanoseconds(x.stx_ctime);
  if (x.stx_mask & STATX_BTIME) {
    a.btime = nanoseconds(x.stx_btime);
    a.flags |= Attr::kHasBtime;
  }
  if (x.stx_attributes & STATX_ATTR_IMMUTABLE) a.flags |= Attr::kImmutable;
  if (x.stx_attributes & STATX_ATTR_APPEND) a.flags |= Attr::kAppendOnly;
  return a;
}

timespec to_timespec(Time t) {
  if (t.what == Time::omit) return {0, UTIME_OMIT};
  if (t.what == Time::now) return {0, UTIME_NOW};
  int64_t s = t.ns / 1'000'000'000, n = t.ns % 1'000'000'000;
  if (n < 0) {
    n += 1'000'000'000;
    s--;
  }
  return {s, n};
}

template <typename F>
Result<std::string> sized(F&& call) {
  std::string value(512, '\0');
  for (;;) {
    auto n = from_libc(call(value.data(), value.size()));
    if (n.ok()) {
      value.resize(static_cast<size_t>(*n));
      return value;
    }
    if (!(n.error() == kERANGE) || value.size() == wire::kMaxXattrValue)
      return n.error() == kERANGE ? kE2BIG : n.error();
    value.resize(wire::kMaxXattrValue);
  }
}

}  // namespace

Result<void> probe_host() {
  auto r = sys::openat2(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0, kBeneath);
  if (!r.ok()) return r.error();
  auto mode = sys::raw(kFchmodat2, -1, reinterpret_cast<long>(""), 0, AT_EMPTY_PATH);
  have_fchmodat2 = mode.ok() || !(mode.error() == kENOSYS);
  return {};
}
void pretend_no_fchmodat2(bool on) { have_fchmodat2 = !on; }

Result<Fd> open_root(const char* path) { return sys::open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW); }
Result<Fd> open_path(int dir, const Name& name) { return look_up(dir, name.c_str(), O_PATH); }
Result<Fd> open_directory(int dir, const Name& name) { return look_up(dir, name.c_str(), O_PATH | O_DIRECTORY); }
Result<Fd> open_listing(int dir) { return look_up(dir, ".", O_RDONLY | O_DIRECTORY); }

Result<Attr> attr_of(int fd) { return stat(fd, "", AT_EMPTY_PATH); }

Result<uint64_t> mount_of(int fd) {
  struct statx x;
  TRY(from_libc(::statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_MNT_ID, &x)));
  return x.stx_mnt_id;
}
Result<Attr> attr_at(int dir, const Name& name) { return stat(dir, name.c_str(), 0); }

Result<void> stand_in(int dir) { return none(::fchdir(dir)); }

void look_for_xattrs(const Name& name, Attr& a) {
  char names[1024];
  auto n = from_libc(::llistxattr(name.c_str(), names, sizeof names));
  if (!n.ok()) {
    if (n.error() == kEOPNOTSUPP) a.flags |= Attr::kNoXattrs;
    return;
  }
  std::string_view all(names, static_cast<size_t>(*n));
  while (!all.empty()) {
    size_t end = std::min(all.find('\0'), all.size());
    if (wire::shared_xattr(all.substr(0, end))) return;
    all.remove_prefix(std::min(end + 1, all.size()));
  }
  a.flags |= Attr::kNoXattrs;
}

Result<Attr> attr_with_xattrs(int dir, const Name& name) {
  Attr a = TRY(attr_at(dir, name));
  if (stand_in(dir).ok()) look_for_xattrs(name, a);
  return a;
}

namespace {
Result<void> check_regular(const Attr& a) {
  if (S_ISDIR(a.mode)) return kEISDIR;
  if (S_ISLNK(a.mode)) return kELOOP;
  if (!S_ISREG(a.mode)) return kENXIO;
  return {};
}
}  // namespace

Result<Fd> open_regular(int dir, const Name& name, int path_fd, Access access, bool append) {
  Attr held = TRY(attr_of(path_fd));
  TRY(check_regular(held));
  uint64_t flags = access == Access::read ? O_RDONLY : access == Access::write ? O_WRONLY : O_RDWR;
  if (append) flags |= O_APPEND;
  // Whatever the name may have become since: O_NONBLOCK and O_NOCTTY make opening a FIFO or terminal harmless, and the
  // mounts of the tree are nodev. No O_TRUNC, for the same reason.
  Fd fd = TRY(look_up(dir, name.c_str(), flags | O_NONBLOCK | O_NOCTTY));
  Attr opened = TRY(attr_of(fd.get()));
  if (same_object(held, opened)) return fd;
  // Opening for writing may have copied the file up in a host overlay, which can give it another number; the O_PATH
  // descriptor then shows that number too.
  held = TRY(attr_of(path_fd));
  if (!S_ISREG(opened.mode) || !same_object(held, opened)) return kESTALE;
  return fd;
}

Result<Opened> open_for_reading(int dir, const Name& name, const Attr& seen) {
  TRY(check_regular(seen));
  Fd fd = TRY(look_up(dir, name.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY));  // see open_regular()
  Attr opened = TRY(attr_of(fd.get()));
  if (!S_ISREG(opened.mode) || !same_object(seen, opened)) return kESTALE;
  return Opened{std::move(fd), opened};
}

Result<Fd> create_regular(int dir, const Name& name, uint32_t mode) {
  return look_up(dir, name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK | O_NOCTTY, mode & 07777);
}
Result<Fd> create_unnamed(int dir, uint32_t mode) { return look_up(dir, ".", O_TMPFILE | O_RDWR, mode & 07777); }
Result<void> truncate(int fd, uint64_t size) {
  if (size > INT64_MAX) return kEINVAL;
  return sys::ftruncate(fd, static_cast<int64_t>(size));
}

Result<void> make_directory(int dir, const Name& name, uint32_t mode) {
  return none(::mkdirat(dir, name.c_str(), mode & 07777));
}
Result<void> make_symlink(int dir, const Name& name, const std::string& target) {
  return none(::symlinkat(target.c_str(), dir, name.c_str()));
}
Result<void> make_node(int dir, const Name& name, uint32_t mode) {
  return none(::mknodat(dir, name.c_str(), mode, makedev(0, 0)));
}
Result<void> link(int from_dir, const Name& from, int dir, const Name& name) {
  return none(::linkat(from_dir, from.c_str(), dir, name.c_str(), 0));
}
Result<void> link_held(int fd, int dir, const Name& name) {
  return none(::linkat(fd, "", dir, name.c_str(), AT_EMPTY_PATH));
}
Result<void> unlink(int dir, const Name& name, bool directory) {
  return none(::unlinkat(dir, name.c_str(), directory ? AT_REMOVEDIR : 0));
}
Result<void> rename(int from_dir, const Name& from, int to_dir, const Name& to, uint32_t flags) {
  // Raw: the C library makes another call when flags is 0, which the filter refuses.
  return none(syscall(SYS_renameat2, from_dir, from.c_str(), to_dir, to.c_str(), flags));
}

Result<void> change_owner(int fd, uint32_t uid, uint32_t gid) {
  return none(::fchownat(fd, "", uid, gid, AT_EMPTY_PATH));
}
Result<void> change_owner_at(int dir, const Name& name, uint32_t uid, uint32_t gid) {
  return none(::fchownat(dir, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW));
}

Result<void> change_mode(int fd, uint32_t mode, int dir, const Name* name) {
  mode &= 07777;
  if (have_fchmodat2) return none(::syscall(kFchmodat2, fd, "", mode, AT_EMPTY_PATH));
  Attr held = TRY(attr_of(fd));
  if (S_ISDIR(held.mode)) {
    Fd open = TRY(open_listing(fd));
    return none(::fchmod(open.get(), mode));
  }
  if (!S_ISREG(held.mode)) return kEOPNOTSUPP;
  if (!name) return none(::fchmod(fd, mode));  // a removed file, which is held open for reading
  Fd open = TRY(open_regular(dir, *name, fd, Access::read));
  return none(::fchmod(open.get(), mode));
}

Result<void> change_times(int fd, Time atime, Time mtime) {
  timespec t[2] = {to_timespec(atime), to_timespec(mtime)};
  return none(::utimensat(fd, "", t, AT_EMPTY_PATH));
}

Result<wire::StatFsReply> stat_fs(int fd) {
  struct statfs s;
  TRY(from_libc(::fstatfs(fd, &s)));
  wire::StatFsReply r;
  r.type = static_cast<uint64_t>(s.f_type);
  r.bsize = static_cast<uint64_t>(s.f_bsize);
  r.blocks = s.f_blocks;
  r.bfree = s.f_bfree;
  r.bavail = s.f_bavail;
  r.files = s.f_files;
  r.ffree = s.f_ffree;
  r.namelen = static_cast<uint64_t>(s.f_namelen);
  r.frsize = static_cast<uint64_t>(s.f_frsize);
  r.flags = static_cast<uint64_t>(s.f_flags);
  r.fsid = static_cast<uint32_t>(s.f_fsid.__val[0]) | uint64_t{static_cast<uint32_t>(s.f_fsid.__val[1])} << 32;
  return r;
}

namespace {
Result<std::string> read_link_path(int fd, const char* name) {
  char buf[4097];
  long n = TRY(from_libc(::readlinkat(fd, name, buf, sizeof buf)));
  if (static_cast<size_t>(n) > wire::kMaxTarget) return kENAMETOOLONG;
  return std::string(buf, static_cast<size_t>(n));
}
}  // namespace
Result<std::string> read_link(int dir, const Name& name) { return read_link_path(dir, name.c_str()); }
Result<std::string> read_link_of(int fd) { return read_link_path(fd, ""); }

Result<void> sync(int fd, bool data_only) { return none(data_only ? ::fdatasync(fd) : ::fsync(fd)); }

Result<std::string> get_xattr(int fd, const std::string& key) {
  return sized([&](char* b, size_t n) { return ::fgetxattr(fd, key.c_str(), b, n); });
}
Result<std::string> list_xattr(int fd) {
  return sized([&](char* b, size_t n) { return ::flistxattr(fd, b, n); });
}
Result<void> set_xattr(int fd, const std::string& key, const std::string& value, int flags) {
  return none(::fsetxattr(fd, key.c_str(), value.data(), value.size(), flags));
}
Result<void> remove_xattr(int fd, const std::string& key) { return none(::fremovexattr(fd, key.c_str())); }

Result<size_t> list(int fd, std::span<std::byte> buf) {
  long n = TRY(from_libc(::getdents64(fd, buf.data(), buf.size())));
  return static_cast<size_t>(n);
}
Result<void> seek(int fd, uint64_t cookie) { return none(::lseek(fd, static_cast<off64_t>(cookie), SEEK_SET)); }

}  // namespace gofer::tree
