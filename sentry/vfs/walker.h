// SPDX-License-Identifier: Apache-2.0
// One path resolution in progress, for the room's own files (walk.cc, open.cc, names.cc). Linux: struct nameidata.
#pragma once

#include "sentry/vfs/dentry_access.h"
#include "sentry/vfs/walk.h"

namespace sentry::vfs {

class Walker {
 public:
  Walker(const WalkContext& c, unsigned flags) : c_(c), flags_(flags) {}

  // Walks to the directory of the last component, which stays in name(), last_kind(), trailing_slash(). Its search permission
  // has been checked.
  Result<void> start(std::string_view path);
  // From where start() ended, the last component. follow: a symlink there is followed (a trailing slash follows too).
  Result<void> finish(bool follow);
  // The last component was found to be this symlink: goes on from its directory to its target's last component. True: it was a jump, and
  // where() is the end.
  Result<bool> follow_last(const Ref<Dentry>& link);
  // Crosses the mounts on `d`, a child of where(), and goes there.
  Result<void> enter(Ref<Dentry> d);

  const Path& where() const { return cur_; }
  Path take() { return std::move(cur_); }
  const std::string& name() const { return name_; }
  LastKind last_kind() const { return last_; }
  bool trailing_slash() const { return slash_; }

 private:
  Result<void> parents();
  Result<void> step(std::string_view name, bool follow);
  Result<void> up();
  Result<void> cross_mounts();
  Result<bool> read_link(Inode& link, std::string_view rest);
  Result<void> begin_at_root();
  bool scoped() const { return flags_ & (kBeneath | kInRoot); }

  const WalkContext& c_;
  const unsigned flags_;
  const PlaceChange::Watch places_;
  Path root_, cur_;
  std::string text_;   // what is still to be walked
  size_t pos_ = 0;
  std::string name_;
  LastKind last_ = LastKind::normal;
  bool slash_ = false;
  bool jumped_ = false;
  int links_ = 0;
};

// Checks before a name in `dir` is made (Linux: may_create) or taken away (may_delete).
Result<void> may_create(const Path& dir, const auth::Credentials& cred);
Result<void> may_delete(const Path& dir, Dentry& victim, bool must_be_directory, const auth::Credentials& cred);
// EROFS on a read-only mount.
Result<void> want_write(const Path& p);
// Owner and set-group-ID rule of a new inode in dir (Linux: inode_init_owner).
Result<CreateRequest> new_inode(Inode& dir, uint32_t mode, uint64_t rdev, const auth::Credentials& cred);

}  // namespace sentry::vfs
