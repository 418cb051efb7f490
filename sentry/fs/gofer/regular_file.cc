// SPDX-License-Identifier: Apache-2.0
// Descriptions and mappings of regular files. Data goes between the host's page cache and its destination directly; what could
// wait for a disk is done on the I/O pool.
#include <linux/falloc.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/sys.h"
#include "sentry/fs/common/regular_data.h"
#include "sentry/fs/gofer/host_inode.h"

namespace sentry::fs::gofer {
namespace {

// The file's end, wherever others have moved it. Preconditions: the write lock. *end: where the bytes end.
Result<size_t> host_append(int fd, std::span<const std::byte> src, uint64_t* end) {
  iovec v{const_cast<std::byte*>(src.data()), src.size()};
  // -1: at the descriptor's own position, which an append then leaves behind what it wrote.
  Result<size_t> r = sys::pwritev2(fd, &v, 1, -1, RWF_APPEND | RWF_NOWAIT);
  if (!r.ok() && (r.error() == kEAGAIN || r.error() == kEOPNOTSUPP))
    sched::run_blocking([&] { r = sys::pwritev2(fd, &v, 1, -1, RWF_APPEND); });
  size_t n = TRY(std::move(r));
  *end = static_cast<uint64_t>(TRY(sys::raw(SYS_lseek, fd, 0, SEEK_CUR)));
  return n;
}

Result<void> host_sync(int fd, bool data_only) {
  Result<long> r = 0l;
  sched::run_blocking([&] { r = sys::raw(data_only ? SYS_fdatasync : SYS_fsync, fd); });
  TRY(std::move(r));
  return {};
}

// fallocate(2), whatever it does to the size. Preconditions: the write lock.
Result<void> host_allocate(Regular& inode, int mode, int64_t offset, int64_t length) {
  auto fd = TRY(inode.fd_for_writing());
  Result<long> r = 0l;
  struct stat st{};
  sched::run_blocking([&] {
    r = sys::raw(SYS_fallocate, fd->get(), mode, offset, length);
    if (r.ok() && !sys::fstat(fd->get(), &st).ok()) r = kEIO;
  });
  TRY(std::move(r));
  inode.has_size(static_cast<uint64_t>(st.st_size));
  return {};
}

// One description's view, which it keeps (Linux: vm_file).
class RegularMappable final : public mm::Mappable {
 public:
  RegularMappable(Ref<vfs::File> file, Regular& inode, uint64_t ino) : file_(std::move(file)), inode_(inode), ino_(ino) {}
  ~RegularMappable() override {
    if (fds_.with([](Fds& f) { return static_cast<bool>(f.rw); })) inode_.mapped_for_writing(-1);
  }

  Result<mm::MapFd> map_fd(bool writable) override {
    if (writable && !file_->writable()) return kEACCES;
    auto slot = [&](Fds& f) -> RefOrNull<HostFd>& { return writable ? f.rw : f.ro; };
    // Once given out, it stays until nobody maps it.
    RefOrNull<HostFd> have = fds_.with([&](Fds& f) { return slot(f); });
    if (!have) {
      auto fresh = writable ? inode_.fd_for_writing() : inode_.read_only_fd();
      if (!fresh.ok()) return fresh.error() == kESTALE ? kENODEV : fresh.error();
      bool first = false;
      have = fds_.with([&](Fds& f) {
        RefOrNull<HostFd>& s = slot(f);
        first = !s;
        if (first) s = *fresh;
        return s;
      });
      if (first && writable) inode_.mapped_for_writing(1);
    }
    return mm::MapFd{have->get(), have->key};
  }
  uint64_t device() const override { return inode_.fs().device(); }
  uint64_t inode_number() const override { return ino_; }
  std::string path() const override {
    return file_->path() ? vfs::path_text_from_top(file_->path()) : std::string();
  }
  std::optional<patch::ContentId> content_id() const override { return inode_.content_id(); }
  Result<void> punch_hole(int64_t offset, uint64_t length) override {
    if (!file_->writable()) return kEACCES;
    if (length > INT64_MAX) return kEINVAL;
    sched::SleepLock l(inode_.write_lock());
    return host_allocate(inode_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, static_cast<int64_t>(length));
  }
  Result<void> sync_range(int64_t, uint64_t) override {
    auto fd = TRY(inode_.fd_for_reading());
    return host_sync(fd->get(), true);
  }

 private:
  struct Fds {
    RefOrNull<HostFd> ro, rw;
  };
  const Ref<vfs::File> file_;
  Regular& inode_;  // file_ keeps it
  const uint64_t ino_;
  Guarded<Fds> fds_{LockRank::kFilePrivate};
};

class RegularFile final : public vfs::File {
 public:
  RegularFile(const vfs::Path& where, Ref<Regular> inode, int flags, const Ref<auth::Credentials>& cred)
      : File(vfs::FileKind::plain, where, inode, flags, cred), inode_(*inode) {
    inode_.opened();
  }
  ~RegularFile() override { inode_.closed(); }

  bool seekable() const override { return true; }
  bool takes_shared() const override { return true; }

  Result<size_t> read(std::span<std::byte> dst, int64_t* pos, vfs::IoFlags) override {
    auto fd = TRY(inode_.fd_for_reading());
    size_t n = TRY(common::host_read(fd->get(), dst, static_cast<uint64_t>(*pos), false));
    *pos += static_cast<int64_t>(n);
    return n;
  }

  Result<size_t> read_directly(platform::Context& c, uint64_t addr, size_t n, int64_t* pos) override {
    auto fd = TRY(inode_.read_only_fd());
    size_t got = TRY(c.read_host(fd->get(), fd->key, addr, n, static_cast<uint64_t>(*pos)));
    *pos += static_cast<int64_t>(got);
    return got;
  }

  Result<size_t> write(std::span<const std::byte> src, int64_t* pos, vfs::IoFlags io) override {
    if (src.empty()) return size_t{0};
    auto fd = TRY(inode_.fd_for_writing());
    size_t n;
    {
      sched::SleepLock l(inode_.write_lock());
      uint32_t privileges = TRY(inode_.privileges());
      auto end = static_cast<uint64_t>(*pos);
      if (io.append) {
        n = TRY(host_append(fd->get(), src, &end));
      } else {
        n = TRY(common::host_write(fd->get(), src, end, false));
        end += n;
      }
      if (n) inode_.written_up_to(end);
      if (n && privileges) inode_.restore_privileges(privileges);
      *pos = static_cast<int64_t>(end);
    }
    if (n && (io.sync || (flags() & O_DSYNC))) TRY(host_sync(fd->get(), (flags() & O_SYNC) != O_SYNC));
    return n;
  }

  Result<int64_t> seek(int64_t offset, int whence) override {
    switch (whence) {
      case SEEK_END: {
        auto size = static_cast<int64_t>(std::min<uint64_t>(TRY(inode_.size()), INT64_MAX));
        int64_t to;
        if (__builtin_add_overflow(size, offset, &to) || to < 0) return kEINVAL;
        return position = to;
      }
      case SEEK_DATA:
      case SEEK_HOLE: {
        if (offset < 0) return kENXIO;
        auto fd = TRY(inode_.fd_for_reading());
        Result<long> r = 0l;
        sched::SleepLock l(inode_.write_lock());  // host_append() needs the descriptor's position
        sched::run_blocking([&] { r = sys::raw(SYS_lseek, fd->get(), offset, whence); });
        return position = TRY(std::move(r));
      }
      default: return File::seek(offset, whence);
    }
  }

  Result<Ref<mm::Mappable>> mappable() override {
    uint64_t ino = TRY(inode_.attributes()).ino;
    Ref<mm::Mappable> m = make_ref<RegularMappable>(Ref<vfs::File>(*this), inode_, ino);
    return m;
  }
  Result<void> sync(bool data_only) override {
    auto fd = TRY(inode_.fd_for_reading());
    return host_sync(fd->get(), data_only);
  }
  Result<void> allocate(int mode, int64_t offset, int64_t length) override {
    sched::SleepLock l(inode_.write_lock());
    return host_allocate(inode_, mode, offset, length);
  }

 private:
  Regular& inode_;  // File::inode() keeps it
};

}  // namespace

Ref<vfs::File> make_regular_file(const vfs::Path& where, Ref<Regular> inode, int flags, const Ref<auth::Credentials>& cred) {
  return make_ref<RegularFile>(where, std::move(inode), flags, cred);
}

}  // namespace sentry::fs::gofer
