// SPDX-License-Identifier: Apache-2.0
// From text to a place: path resolution. Linux: fs/namei.c, man 7 path_resolution.
#pragma once

#include <string>
#include <string_view>

#include "sentry/vfs/file.h"

namespace sentry::vfs {

// Where and as whom a walk is made.
struct WalkContext {
  const MountNamespace& mounts;
  Path root;   // chroot
  Path start;  // cwd, or what dirfd names
  Ref<auth::Credentials> cred;
};

enum WalkFlags : unsigned {
  kFollow = 1,            // a symlink in last place is followed
  kDirectory = 2,         // must be a directory (O_DIRECTORY); a trailing slash sets it
  kNoXdev = 4, kNoMagicLinks = 8, kNoSymlinks = 16, kBeneath = 32, kInRoot = 64,  // openat2(2)
  kAllowEmpty = 128,      // AT_EMPTY_PATH: "" is the start itself
};

// An existing file. ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EXDEV. Parks.
Result<Path> walk(const WalkContext& c, std::string_view path, unsigned flags);

// The parent directory and the last component, for calls that make, remove or rename names. name_is_directory: it ended in '/'.
// "." and ".." as last component: last_kind says so and name is empty.
enum class LastKind : uint8_t { normal, dot, dotdot, root };
struct ParentWalk {
  Path parent;
  std::string name;
  LastKind last_kind = LastKind::normal;
  bool trailing_slash = false;
};
Result<ParentWalk> walk_parent(const WalkContext& c, std::string_view path, unsigned flags);

// open(2) and friends: creates, truncates, checks, follows. flags as openat(2), mode with umask applied.
Result<Ref<File>> open(const WalkContext& c, std::string_view path, int flags, uint32_t mode, unsigned walk_flags);

// The operations of the *at calls, with all checks of Linux's vfs_* functions (permissions, sticky bit, read-only mounts,
// busy mount points).
Result<void> make_node(const WalkContext& c, std::string_view path, uint32_t mode, uint64_t rdev);
Result<void> make_directory(const WalkContext& c, std::string_view path, uint32_t mode);
Result<void> make_symlink(const WalkContext& c, std::string_view target, std::string_view path);
Result<void> make_link(const Path& existing, const WalkContext& c, std::string_view path);
Result<void> remove_file(const WalkContext& c, std::string_view path);
Result<void> remove_directory(const WalkContext& c, std::string_view path);
Result<void> rename(const WalkContext& from, std::string_view old_path, const WalkContext& to, std::string_view new_path,
                    unsigned flags);
// chmod, chown, utimensat, truncate with the checks of notify_change(). cred decides.
Result<void> change_attributes(const Path& path, SetAttributes change, const auth::Credentials& cred);
// The permission check of path-based calls: mount flags (EROFS for writing), then the inode's own.
Result<void> may_access(const Path& path, int mask, const auth::Credentials& cred);
// access(2) with the given ids; mask of R_OK|W_OK|X_OK.
Result<void> access(const Path& path, int mask, const auth::Credentials& cred);

}  // namespace sentry::vfs
