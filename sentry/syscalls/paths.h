// SPDX-License-Identifier: Apache-2.0
// Path arguments: from an application's string and a directory descriptor to a place.
#pragma once

#include <fcntl.h>

#include <string>

#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/walk.h"

namespace sentry::syscalls {

// A path as it was given, and where its walk starts.
struct PathArgument {
  std::string text;
  vfs::WalkContext from;
};

inline Result<PathArgument> path_argument(Task& task, int dirfd, UserString path) {
  std::string text = TRY(path.copy_in(task.context()));
  vfs::WalkContext from = TRY(task.walk_context_at(dirfd, text));
  return PathArgument{std::move(text), std::move(from)};
}

// Walk flags of AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH.
inline unsigned walk_flags(int at_flags) {
  return (at_flags & AT_SYMLINK_NOFOLLOW ? 0u : unsigned{vfs::kFollow}) | (at_flags & AT_EMPTY_PATH ? unsigned{vfs::kAllowEmpty} : 0u);
}

// An existing file. With AT_EMPTY_PATH "" (or a null pointer) is dirfd itself, which may be anything.
inline Result<vfs::Path> find_path(Task& task, int dirfd, UserString path, int at_flags) {
  if ((at_flags & AT_EMPTY_PATH) && path.is_null()) return vfs::walk(TRY(task.walk_context_at(dirfd, "")), "", vfs::kAllowEmpty);
  PathArgument p = TRY(path_argument(task, dirfd, path));
  return vfs::walk(p.from, p.text, walk_flags(at_flags));
}

// A structure of which newer programs know a longer form. E2BIG: what lies past ours is not zero. Linux: copy_struct_from_user().
template <typename T>
Result<T> copy_struct_in(Task& task, UserIn<void> from, size_t size) {
  if (size > 4096) return kE2BIG;
  std::string raw(std::max(size, sizeof(T)), '\0');
  TRY(from.copy_bytes_in(task.context(), raw.data(), size));
  if (raw.find_first_not_of('\0', sizeof(T)) != std::string::npos) return kE2BIG;
  T out;
  memcpy(&out, raw.data(), sizeof out);
  return out;
}

inline Result<long> done(Result<void> r) {
  if (!r.ok()) return r.error();
  return 0L;
}

}  // namespace sentry::syscalls
