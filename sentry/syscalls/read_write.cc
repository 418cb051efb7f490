// SPDX-License-Identifier: Apache-2.0
// read(2), write(2), their vector and positioned forms, lseek(2), truncate(2), fallocate(2), fsync(2), advice.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include "sentry/syscalls/paths.h"
#include "sentry/syscalls/transfer.h"
#include "sentry/vfs/notify.h"

namespace sentry::syscalls {
namespace {

Result<Ref<vfs::File>> file_to_read(Task& task, int fd) {
  Ref<vfs::File> f = TRY(task.file(fd));
  if (!f->readable()) return kEBADF;
  return f;
}
Result<Ref<vfs::File>> file_to_write(Task& task, int fd) {
  Ref<vfs::File> f = TRY(task.file(fd));
  if (!f->writable()) return kEBADF;
  return f;
}

// The result, which watchers of the file learn of.
Result<long> told(vfs::File& f, uint32_t event, Result<size_t> r) {
  if (!r.ok()) return r.error();
  if (*r > 0) vfs::tell_file(f, event);
  return *r;
}

// At the description's position, which is locked when there is one.
Result<long> read_here(Task& task, vfs::File& f, UserBuffers& to, vfs::IoFlags io) {
  if (!f.seekable()) return told(f, IN_ACCESS, read_file(task, f, to, &f.position, io));
  sched::SleepLock l(f.position_lock());
  return told(f, IN_ACCESS, read_file(task, f, to, &f.position, io));
}
Result<long> write_here(Task& task, vfs::File& f, UserBuffers& from, vfs::IoFlags io) {
  if (!f.seekable()) return told(f, IN_MODIFY, write_file(task, f, from, &f.position, io));
  sched::SleepLock l(f.position_lock());
  return told(f, IN_MODIFY, write_file(task, f, from, &f.position, io));
}
Result<long> read_at(Task& task, vfs::File& f, UserBuffers& to, int64_t pos, vfs::IoFlags io) {
  if (!f.seekable()) return kESPIPE;
  return told(f, IN_ACCESS, read_file(task, f, to, &pos, io));
}
Result<long> write_at(Task& task, vfs::File& f, UserBuffers& from, int64_t pos, vfs::IoFlags io) {
  if (!f.seekable()) return kESPIPE;
  return told(f, IN_MODIFY, write_file(task, f, from, &pos, io));
}

constexpr int kRwfNoAppend = 0x20;
// RWF_* of preadv2 and pwritev2.
Result<vfs::IoFlags> with_rwf(vfs::IoFlags io, int flags, bool writing) {
  if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | kRwfNoAppend)) return kEOPNOTSUPP;
  if ((flags & RWF_APPEND) && (flags & kRwfNoAppend)) return kEINVAL;
  if (!writing && (flags & RWF_APPEND)) flags &= ~RWF_APPEND;
  if (flags & RWF_NOWAIT) io.nonblock = true;
  if (flags & RWF_APPEND) io.append = true;
  if (flags & kRwfNoAppend) io.append = false;
  if (flags & (RWF_SYNC | RWF_DSYNC)) io.sync = true;
  return io;
}

}  // namespace

Result<long> sys_read(Task& task, int fd, UserOut<void> buf, size_t count) {
  Ref<vfs::File> f = TRY(file_to_read(task, fd));
  if (static_cast<int64_t>(count) < 0) return kEFAULT;
  UserBuffers to = UserBuffers::one(buf.unchecked_address(), count);
  return read_here(task, *f, to, io_flags(*f));
}
Result<long> sys_write(Task& task, int fd, UserSized<2> buf, size_t count) {
  Ref<vfs::File> f = TRY(file_to_write(task, fd));
  if (static_cast<int64_t>(count) < 0) return kEFAULT;
  UserBuffers from = UserBuffers::one(buf.unchecked_address(), count);
  return write_here(task, *f, from, io_flags(*f));
}
Result<long> sys_pread64(Task& task, int fd, UserOut<void> buf, size_t count, int64_t offset) {
  if (offset < 0) return kEINVAL;
  Ref<vfs::File> f = TRY(file_to_read(task, fd));
  if (static_cast<int64_t>(count) < 0) return kEFAULT;
  UserBuffers to = UserBuffers::one(buf.unchecked_address(), count);
  return read_at(task, *f, to, offset, io_flags(*f));
}
Result<long> sys_pwrite64(Task& task, int fd, UserSized<2> buf, size_t count, int64_t offset) {
  if (offset < 0) return kEINVAL;
  Ref<vfs::File> f = TRY(file_to_write(task, fd));
  if (static_cast<int64_t>(count) < 0) return kEFAULT;
  UserBuffers from = UserBuffers::one(buf.unchecked_address(), count);
  return write_at(task, *f, from, offset, io_flags(*f));
}

Result<long> sys_readv(Task& task, int fd, UserReadVector vec, size_t count) {
  Ref<vfs::File> f = TRY(file_to_read(task, fd));
  UserBuffers to = TRY(UserBuffers::from_vector(task, vec, count));
  return read_here(task, *f, to, io_flags(*f));
}
Result<long> sys_writev(Task& task, int fd, UserWriteVector vec, size_t count) {
  Ref<vfs::File> f = TRY(file_to_write(task, fd));
  UserBuffers from = TRY(UserBuffers::from_vector(task, vec, count));
  return write_here(task, *f, from, io_flags(*f));
}
// On amd64 pos_low holds all of the offset.
Result<long> sys_preadv2(Task& task, int fd, UserReadVector vec, size_t count, uint64_t pos_low, uint64_t, int flags) {
  auto pos = static_cast<int64_t>(pos_low);
  if (pos < -1) return kEINVAL;
  Ref<vfs::File> f = TRY(file_to_read(task, fd));
  vfs::IoFlags io = TRY(with_rwf(io_flags(*f), flags, false));
  UserBuffers to = TRY(UserBuffers::from_vector(task, vec, count));
  return pos == -1 ? read_here(task, *f, to, io) : read_at(task, *f, to, pos, io);
}
Result<long> sys_pwritev2(Task& task, int fd, UserWriteVector vec, size_t count, uint64_t pos_low, uint64_t, int flags) {
  auto pos = static_cast<int64_t>(pos_low);
  if (pos < -1) return kEINVAL;
  Ref<vfs::File> f = TRY(file_to_write(task, fd));
  vfs::IoFlags io = TRY(with_rwf(io_flags(*f), flags, true));
  UserBuffers from = TRY(UserBuffers::from_vector(task, vec, count));
  return pos == -1 ? write_here(task, *f, from, io) : write_at(task, *f, from, pos, io);
}
Result<long> sys_preadv(Task& task, int fd, UserReadVector vec, size_t count, uint64_t pos_low, uint64_t pos_high) {
  if (static_cast<int64_t>(pos_low) < 0) return kEINVAL;
  return sys_preadv2(task, fd, vec, count, pos_low, pos_high, 0);
}
Result<long> sys_pwritev(Task& task, int fd, UserWriteVector vec, size_t count, uint64_t pos_low, uint64_t pos_high) {
  if (static_cast<int64_t>(pos_low) < 0) return kEINVAL;
  return sys_pwritev2(task, fd, vec, count, pos_low, pos_high, 0);
}

Result<long> sys_lseek(Task& task, int fd, int64_t offset, int whence) {
  Ref<vfs::File> f = TRY(task.file(fd));
  if (whence < 0 || whence > SEEK_HOLE) return kEINVAL;
  sched::SleepLock l(f->position_lock());
  int64_t at = TRY(f->seek(offset, whence));
  return long{at};
}

// ---- Size ----

namespace {

Result<void> within_file_limit(Task& task, uint64_t size) {
  if (size <= task.rlimit(RLIMIT_FSIZE)) return {};
  task.send_signal(kernel::SignalInfo::kernel(SIGXFSZ, SI_USER));
  return kEFBIG;
}

}  // namespace

Result<long> sys_truncate(Task& task, UserString path, int64_t length) {
  if (length < 0) return kEINVAL;
  vfs::Path p = TRY(find_path(task, AT_FDCWD, path, 0));
  RefOrNull<vfs::Inode> inode = p.inode();
  if (inode->is_regular() && static_cast<uint64_t>(length) > TRY(inode->attributes()).size)
    TRY(within_file_limit(task, static_cast<uint64_t>(length)));
  vfs::SetAttributes s;
  s.mask = vfs::SetAttributes::kSize;
  s.size = static_cast<uint64_t>(length);
  return done(vfs::change_attributes(p, s, task.own_credentials()));
}

Result<long> sys_ftruncate(Task& task, int fd, int64_t length) {
  if (length < 0) return kEINVAL;
  Ref<vfs::File> f = TRY(task.file(fd));
  if (!f->inode().is_regular() || !f->writable()) return kEINVAL;
  auto size = static_cast<uint64_t>(length);
  if (size > TRY(f->inode().attributes()).size) TRY(within_file_limit(task, size));
  size_t any = 1;
  if (size > 0) TRY(before_write(task, *f, 0, false, &any));
  sched::SleepLock l(f->inode().lock());
  TRY(f->truncate(size));
  vfs::tell_file(*f, IN_MODIFY);
  return 0L;
}

Result<long> sys_fallocate(Task& task, int fd, int mode, int64_t offset, int64_t length) {
  Ref<vfs::File> f = TRY(task.file(fd));
  // Linux: vfs_fallocate.
  if (offset < 0 || length <= 0) return kEINVAL;
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_ZERO_RANGE |
                         FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE;
  if (mode & ~kKnown) return kEOPNOTSUPP;
  if ((mode & FALLOC_FL_PUNCH_HOLE) && (mode & FALLOC_FL_ZERO_RANGE)) return kEOPNOTSUPP;
  if ((mode & FALLOC_FL_PUNCH_HOLE) && !(mode & FALLOC_FL_KEEP_SIZE)) return kEOPNOTSUPP;
  if (!f->writable()) return kEBADF;
  if (S_ISFIFO(f->inode().type())) return kESPIPE;
  if (f->inode().is_directory()) return kEISDIR;
  if (!f->inode().is_regular() && !S_ISBLK(f->inode().type())) return kENODEV;
  int64_t end;
  if (__builtin_add_overflow(offset, length, &end)) return kEFBIG;
  if (!(mode & (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))) TRY(within_file_limit(task, static_cast<uint64_t>(end)));
  sched::SleepLock l(f->inode().lock());
  TRY(f->allocate(mode, offset, length));
  vfs::tell_file(*f, IN_MODIFY);
  return 0L;
}

// ---- To the disk, and advice ----

namespace {

Result<long> sync_fd(Task& task, int fd, bool data_only) {
  Ref<vfs::File> f = TRY(task.file(fd));
  return done(f->sync(data_only));
}

}  // namespace

Result<long> sys_fsync(Task& task, int fd) { return sync_fd(task, fd, false); }
Result<long> sys_fdatasync(Task& task, int fd) { return sync_fd(task, fd, true); }

Result<long> sys_sync(Task& task) {
  Ref<kernel::FsContext> fs = task.fs();
  for (auto& m : fs->mounts()->list(fs->mounts()->root()))
    IGNORE_ERROR(m.mount->fs()->sync(), "man 2 sync: always successful");
  return 0L;
}

Result<long> sys_syncfs(Task& task, int fd) {
  Ref<vfs::File> f = TRY(task.file(fd));
  return done((f->path().mount ? *f->path().mount->fs() : f->inode().fs()).sync());
}

Result<long> sys_sync_file_range(Task& task, int fd, int64_t offset, int64_t len, unsigned flags) {
  Ref<vfs::File> f = TRY(task.file(fd));
  constexpr unsigned kKnown = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  int64_t end;
  if ((flags & ~kKnown) || offset < 0 || len < 0 || __builtin_add_overflow(offset, len, &end)) return kEINVAL;
  vfs::Inode& i = f->inode();
  if (!i.is_regular() && !i.is_directory() && !i.is_symlink() && !S_ISBLK(i.type())) return kESPIPE;
  if (flags & SYNC_FILE_RANGE_WAIT_AFTER) TRY(f->sync(true));
  return 0L;
}

Result<long> sys_readahead(Task& task, int fd, int64_t, size_t) {
  Ref<vfs::File> f = TRY(file_to_read(task, fd));
  if (!f->inode().is_regular() && !S_ISBLK(f->inode().type())) return kEINVAL;
  return 0L;  // the host reads ahead
}

Result<long> sys_fadvise64(Task& task, int fd, int64_t, int64_t len, int advice) {
  Ref<vfs::File> f = TRY(task.file(fd));
  if (S_ISFIFO(f->inode().type())) return kESPIPE;
  if (len < 0 || advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE) return kEINVAL;
  return 0L;
}

}  // namespace sentry::syscalls
