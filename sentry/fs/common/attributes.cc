// SPDX-License-Identifier: Apache-2.0
// Attributes of an inode that lives in the sentry.
#include "sentry/fs/common/attributes.h"

namespace sentry::fs::common {

namespace {
vfs::Attributes fresh(uint64_t dev, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t rdev) {
  vfs::Attributes a;
  a.dev = dev;
  a.ino = ino;
  a.mode = mode;
  a.uid = uid;
  a.gid = gid;
  a.rdev = rdev;
  a.nlink = S_ISDIR(mode) ? 2 : 1;
  a.atime = a.mtime = a.ctime = a.btime = vfs::current_time();
  return a;
}
}  // namespace

AttributeHolder::AttributeHolder(uint64_t dev, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t rdev)
    : AttributeHolder(fresh(dev, ino, mode, uid, gid, rdev)) {}

void AttributeHolder::set(const vfs::SetAttributes& s) {
  using S = vfs::SetAttributes;
  timespec now = vfs::current_time();
  value_.with([&](vfs::Attributes& a) {
    if (s.mask & S::kMode) a.mode = (a.mode & S_IFMT) | (s.mode & 07777);
    if (s.mask & S::kUid) a.uid = s.uid;
    if (s.mask & S::kGid) a.gid = s.gid;
    if (s.mask & S::kAtime) a.atime = s.atime;
    else if (s.mask & S::kAtimeNow) a.atime = now;
    if (s.mask & S::kMtime) a.mtime = s.mtime;
    else if (s.mask & S::kMtimeNow) a.mtime = now;
    a.ctime = now;
  });
}

void AttributeHolder::touch(unsigned which) {
  timespec now = vfs::current_time();
  value_.with([&](vfs::Attributes& a) {
    if (which & kAccess) a.atime = now;
    if (which & kModify) a.mtime = now;
    if (which & kChange) a.ctime = now;
  });
}

void AttributeHolder::add_links(int n) {
  timespec now = vfs::current_time();
  value_.with([&](vfs::Attributes& a) {
    a.nlink += static_cast<uint32_t>(n);
    a.ctime = now;
  });
}

}  // namespace sentry::fs::common
