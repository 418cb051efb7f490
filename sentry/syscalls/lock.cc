// SPDX-License-Identifier: Apache-2.0
// fcntl(2) byte-range locks and flock(2).
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "sentry/syscalls/locks.h"
#include "sentry/syscalls/paths.h"
#include "sentry/vfs/locks.h"

namespace sentry::syscalls {
namespace {

// Linux: fs/locks.c flock_to_posix_lock.
Result<vfs::RangeLock> range_of(Task& task, vfs::File& file, const struct flock& l, bool ofd) {
  int64_t start = l.l_start, end;
  switch (l.l_whence) {
    case SEEK_SET: break;
    case SEEK_CUR:
      if (__builtin_add_overflow(start, file.position, &start)) return kEOVERFLOW;
      break;
    case SEEK_END:
      if (__builtin_add_overflow(start, static_cast<int64_t>(TRY(file.inode().attributes()).size), &start)) return kEOVERFLOW;
      break;
    default: return kEINVAL;
  }
  if (start < 0) return kEINVAL;
  if (l.l_len > 0) {
    if (__builtin_add_overflow(start, l.l_len - 1, &end)) return kEOVERFLOW;
  } else if (l.l_len < 0) {
    if (start + l.l_len < 0) return kEINVAL;
    end = start - 1;
    start += l.l_len;
  } else {
    end = INT64_MAX;
  }
  if (l.l_type != F_RDLCK && l.l_type != F_WRLCK && l.l_type != F_UNLCK) return kEINVAL;
  if (ofd && l.l_pid != 0) return kEINVAL;
  vfs::RangeLock r;
  r.type = l.l_type;
  r.start = start;
  r.end = end;
  r.ofd = ofd;
  r.owner = ofd ? static_cast<const void*>(&file) : task.files().get();
  r.pid = ofd ? -1 : task.group().pid();
  return r;
}

}  // namespace

Result<long> get_lock(Task& task, vfs::File& file, uint64_t address, bool ofd) {
  auto l = TRY(UserIn<struct flock>(address).copy_in(task.context()));
  if (l.l_type != F_RDLCK && l.l_type != F_WRLCK && !(ofd && l.l_type == F_UNLCK)) return kEINVAL;
  vfs::RangeLock r = vfs::test_range_lock(file.inode(), TRY(range_of(task, file, l, ofd)));
  l.l_type = r.type;
  if (r.type != F_UNLCK) {
    l.l_whence = SEEK_SET;
    l.l_start = r.start;
    l.l_len = r.end == INT64_MAX ? 0 : r.end - r.start + 1;
    l.l_pid = r.pid;
  }
  TRY(UserOut<struct flock>(address).copy_out(task.context(), l));
  return 0L;
}

Result<long> set_lock(Task& task, vfs::File& file, uint64_t address, bool ofd, bool wait) {
  auto l = TRY(UserIn<struct flock>(address).copy_in(task.context()));
  vfs::RangeLock r = TRY(range_of(task, file, l, ofd));
  if (r.type == F_RDLCK && !file.readable()) return kEBADF;
  if (r.type == F_WRLCK && !file.writable()) return kEBADF;
  return done(vfs::set_range_lock(file.inode(), r, wait ? vfs::LockWait::yes : vfs::LockWait::no));
}

Result<long> sys_flock(Task& task, int fd, int operation) {
  int what = operation & ~LOCK_NB;
  if (what != LOCK_SH && what != LOCK_EX && what != LOCK_UN) return kEINVAL;
  Ref<vfs::File> f = TRY(task.file(fd));
  return done(vfs::set_flock(f->inode(), *f, what, operation & LOCK_NB ? vfs::LockWait::no : vfs::LockWait::yes));
}

}  // namespace sentry::syscalls
