// SPDX-License-Identifier: Apache-2.0
// open(2) and its family, close(2), umask(2).
#include <linux/close_range.h>
#include <linux/openat2.h>

#include "sentry/syscalls/paths.h"
#include "sentry/vfs/locks.h"

namespace sentry::syscalls {
namespace {

constexpr int kTmpfileBit = O_TMPFILE & ~O_DIRECTORY;
constexpr int kLargeFile = 0100000;
constexpr int kValidFlags = O_RDONLY | O_WRONLY | O_RDWR | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NDELAY |
                            O_NONBLOCK | O_DSYNC | O_SYNC | O_ASYNC | O_DIRECT | kLargeFile | O_DIRECTORY | O_NOFOLLOW |
                            O_NOATIME | O_CLOEXEC | O_PATH | kTmpfileBit;

// Linux: fs/open.c build_open_flags.
Result<int> check_flags(int flags) {
  if (flags & O_PATH) return flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (flags & kTmpfileBit) {
    if ((flags & (O_TMPFILE | O_CREAT)) != O_TMPFILE) return kEINVAL;
    if ((flags & O_ACCMODE) == O_RDONLY) return kEINVAL;
  } else if ((flags & (O_DIRECTORY | O_CREAT)) == (O_DIRECTORY | O_CREAT)) {
    return kEINVAL;
  }
  return flags;
}

Result<long> open_at(Task& task, const PathArgument& p, int flags, uint32_t mode, unsigned resolve) {
  auto slot = TRY(kernel::FdReservation::reserve(task.files(), task.rlimit(RLIMIT_NOFILE)));
  uint32_t masked = mode & 07777 & ~task.fs()->umask();
  Ref<vfs::File> file = TRY(vfs::open(p.from, p.text, flags & ~O_CLOEXEC, masked, resolve));
  return long{slot.commit(std::move(file), flags & O_CLOEXEC)};
}

}  // namespace

Result<long> sys_openat(Task& task, int dirfd, UserString path, int flags, uint32_t mode) {
  flags = TRY(check_flags(flags & kValidFlags));
  return open_at(task, TRY(path_argument(task, dirfd, path)), flags, mode, 0);
}
Result<long> sys_open(Task& task, UserString path, int flags, uint32_t mode) {
  return sys_openat(task, AT_FDCWD, path, flags, mode);
}
Result<long> sys_creat(Task& task, UserString path, uint32_t mode) {
  return sys_openat(task, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

Result<long> sys_openat2(Task& task, int dirfd, UserString path, UserIn<void> how_ptr, size_t size) {
  if (size < sizeof(open_how)) return kEINVAL;
  if (size > 4096) return kE2BIG;
  std::string raw(size, '\0');
  TRY(how_ptr.copy_bytes_in(task.context(), raw.data(), size));
  if (raw.find_first_not_of('\0', sizeof(open_how)) != std::string::npos) return kE2BIG;
  open_how how;
  memcpy(&how, raw.data(), sizeof how);
  if (how.flags & ~static_cast<uint64_t>(kValidFlags)) return kEINVAL;
  auto flags = static_cast<int>(how.flags);
  constexpr uint64_t kKnown = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH |
                              RESOLVE_IN_ROOT | RESOLVE_CACHED;
  if (how.resolve & ~kKnown) return kEINVAL;
  if ((how.resolve & RESOLVE_BENEATH) && (how.resolve & RESOLVE_IN_ROOT)) return kEINVAL;
  if (flags & (O_CREAT | kTmpfileBit)) {
    if (how.mode & ~uint64_t{07777}) return kEINVAL;
  } else if (how.mode != 0) {
    return kEINVAL;
  }
  if (TRY(check_flags(flags)) != flags) return kEINVAL;
  // What is cached is not known here without asking: "try again without it" (man 2 openat2, EAGAIN).
  if (how.resolve & RESOLVE_CACHED) return flags & (O_TRUNC | O_CREAT | kTmpfileBit) ? kEINVAL : kEAGAIN;
  unsigned walk = 0;
  if (how.resolve & RESOLVE_NO_XDEV) walk |= vfs::kNoXdev;
  if (how.resolve & RESOLVE_NO_MAGICLINKS) walk |= vfs::kNoMagicLinks;
  if (how.resolve & RESOLVE_NO_SYMLINKS) walk |= vfs::kNoSymlinks | vfs::kNoMagicLinks;
  if (how.resolve & RESOLVE_BENEATH) walk |= vfs::kBeneath;
  if (how.resolve & RESOLVE_IN_ROOT) walk |= vfs::kInRoot;
  std::string text = TRY(path.copy_in(task.context()));
  // A scoped walk starts at dirfd even when the path is absolute.
  bool scoped = how.resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT);
  vfs::WalkContext from = TRY(task.walk_context_at(dirfd, scoped ? "." : text));
  return open_at(task, PathArgument{std::move(text), std::move(from)}, flags, static_cast<uint32_t>(how.mode), walk);
}

Result<long> sys_close(Task& task, int fd) {
  Ref<kernel::FdTable> table = task.files();
  Ref<vfs::File> file = TRY(table->remove(fd));
  return done(vfs::close_descriptor(*file, table.get()));
}

Result<long> sys_close_range(Task& task, unsigned first, unsigned last, unsigned flags) {
  if (flags & ~static_cast<unsigned>(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) return kEINVAL;
  if (first > last) return kEINVAL;
  if (flags & CLOSE_RANGE_UNSHARE) task.set_files(task.files()->copy());
  Ref<kernel::FdTable> table = task.files();
  if (flags & CLOSE_RANGE_CLOEXEC) {
    table->set_cloexec_range(first, last);
    return 0L;
  }
  for (auto& file : table->remove_range(first, last))
    IGNORE_ERROR(vfs::close_descriptor(*file, table.get()), "man 2 close_range: errors of single files are not told");
  return 0L;
}

Result<long> sys_umask(Task& task, uint32_t mask) { return long{task.fs()->set_umask(mask & 0777)}; }

}  // namespace sentry::syscalls
