// SPDX-License-Identifier: Apache-2.0
// Attributes of an inode that lives in the sentry: a locked struct and the usual changes to it.
#pragma once

#include "sentry/vfs/inode.h"

namespace sentry::fs::common {

class AttributeHolder {
 public:
  explicit AttributeHolder(const vfs::Attributes& a) : value_(LockRank::kFilePrivate, a) {}
  // Times are now; nlink 2 for a directory.
  AttributeHolder(uint64_t dev, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t rdev = 0);

  vfs::Attributes get() const {
    return value_.with([](const vfs::Attributes& a) { return a; });
  }
  // Mode (permission bits), owner, times; ctime becomes now. The size is the caller's.
  void set(const vfs::SetAttributes& s);
  enum Times : unsigned { kAccess = 1, kModify = 2, kChange = 4 };
  void touch(unsigned which);
  void add_links(int n);  // ctime becomes now
  Result<void> check(const auth::Credentials& cred, int mask) const {
    return value_.with([&](const vfs::Attributes& a) { return vfs::check_mode(cred, mask, a.mode, a.uid, a.gid); });
  }

 private:
  Guarded<vfs::Attributes> value_;
};

}  // namespace sentry::fs::common
