// SPDX-License-Identifier: Apache-2.0
// A host descriptor as an open file. Its O_NONBLOCK flag is left alone (the description is shared with whoever gave it), so every
// call asks the host not to wait (RWF_NOWAIT), or asks poll first.
#include "sentry/fs/host/host_file.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "base/sys.h"
#include "sentry/kernel/task.h"

namespace sentry::fs::host {
namespace {

// Never mounted: it only gives its inode a device number.
class HostFs final : public vfs::FileSystem {
 public:
  Ref<vfs::Inode> root() override { UNREACHABLE(); }
  vfs::FsStat statfs() override { return {}; }
  const char* type_name() const override { return "host"; }
};

// Attributes of the host's file, owned by the container's user: host ids mean nothing inside.
class HostInode final : public vfs::Inode {
 public:
  HostInode(Ref<HostFs> fs, const struct stat& st, Fd fd, int access, uint32_t uid, uint32_t gid)
      : Inode(*fs, st.st_mode), keep_(fs), fd_(std::move(fd)), access_(access), uid_(uid), gid_(gid) {}

  Result<vfs::Attributes> attributes() override {
    struct stat st;
    TRY(sys::fstat(fd_.get(), &st));
    vfs::Attributes a;
    a.ino = st.st_ino;
    a.dev = keep_->device();
    a.size = static_cast<uint64_t>(st.st_size);
    a.blocks = static_cast<uint64_t>(st.st_blocks);
    a.rdev = st.st_rdev;
    a.mode = st.st_mode;
    a.nlink = static_cast<uint32_t>(st.st_nlink);
    a.uid = uid_;
    a.gid = gid_;
    a.atime = st.st_atim;
    a.mtime = st.st_mtim;
    a.ctime = st.st_ctim;
    return a;
  }
  Result<void> set_attributes(const vfs::SetAttributes& s) override {
    if (s.mask & vfs::SetAttributes::kUid) uid_ = s.uid;
    if (s.mask & vfs::SetAttributes::kGid) gid_ = s.gid;
    if (s.mask & vfs::SetAttributes::kSize) return sys::ftruncate(fd_.get(), static_cast<int64_t>(s.size));
    return {};
  }
  // By way of /proc/PID/fd/N (and so /dev/stdout). Differs from Linux: the host's position is shared, and no access is gained.
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;

 private:
  Ref<HostFs> keep_;
  Fd fd_;  // its own: an O_PATH description keeps the inode when the file is closed
  const int access_;
  uint32_t uid_, gid_;
};

uint32_t ready_now(int fd) {
  pollfd p{fd, POLLIN | POLLOUT | POLLRDHUP, 0};
  auto r = sys::raw(SYS_poll, reinterpret_cast<long>(&p), 1, 0);
  return r.ok() ? static_cast<uint32_t>(p.revents) : 0;
}

class HostFile final : public vfs::File {
 public:
  HostFile(const vfs::Path& path, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred, Fd fd, bool regular)
      : File(vfs::FileKind::host, path, std::move(inode), flags, std::move(cred)),
        fd_(std::move(fd)),
        regular_(regular),
        watch_([](void* p, uint32_t events) { static_cast<HostFile*>(p)->queue_.wake_all(events); }, this) {
    // Regular files and some devices cannot be watched: they are always ready.
    watched_ = watch_.start(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP).ok();
  }

  bool seekable() const override { return regular_; }

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override {
    iovec v{dst.data(), dst.size()};
    return transfer(POLLIN, f, [&](int how) { return sys::preadv2(fd_.get(), &v, 1, -1, how); },
                    [&] { return sys::read(fd_.get(), dst.data(), dst.size()); });
  }

  Result<size_t> write(std::span<const std::byte> src, int64_t*, vfs::IoFlags f) override {
    iovec v{const_cast<std::byte*>(src.data()), src.size()};
    auto r = transfer(POLLOUT, f, [&](int how) { return sys::pwritev2(fd_.get(), &v, 1, -1, how); },
                      [&] { return sys::write(fd_.get(), src.data(), src.size()); });
    if (!r.ok() && r.error() == kEPIPE)
      if (auto* t = kernel::Task::find_current()) t->send_signal(kernel::SignalInfo::kernel(SIGPIPE, SI_USER));
    return r;
  }

  Result<int64_t> seek(int64_t offset, int whence) override {
    if (!regular_) return kESPIPE;
    auto r = sys::from_libc(lseek(fd_.get(), offset, whence));
    if (!r.ok()) return r.error();
    return int64_t{*r};
  }

  uint32_t poll_events() override { return watched_ ? ready_now(fd_.get()) : EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM; }
  sched::WaitQueue* poll_queue() override { return watched_ ? &queue_ : nullptr; }

  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override {
    if (command != FIONREAD) return kENOTTY;
    int n = 0;
    TRY(sys::raw(SYS_ioctl, fd_.get(), FIONREAD, reinterpret_cast<long>(&n)));
    TRY(c.copy_out(arg, &n, sizeof n));
    return 0L;
  }

  Result<void> sync(bool) override {
    if (!regular_) return kEINVAL;
    Result<void> r;
    sched::run_blocking([&] {
      auto s = sys::from_libc(fsync(fd_.get()));
      if (!s.ok()) r = s.error();
    });
    return r;
  }

 private:
  // now(flags): an attempt that must not wait. later(): a call that may, for the I/O pool, made when poll says ready.
  template <typename Now, typename Later>
  Result<size_t> transfer(short events, vfs::IoFlags f, Now&& now, Later&& later) {
    for (;;) {
      Result<size_t> r = no_wait_ ? now(RWF_NOWAIT) : Result<size_t>(kEOPNOTSUPP);
      if (r.ok()) return r;
      bool again = r.error() == kEAGAIN;
      if (!again && !(r.error() == kEOPNOTSUPP) && !(r.error() == kEINVAL)) return r;
      if (!again) no_wait_ = false;
      if (!watched_ || (!again && (ready_now(fd_.get()) & (events | POLLHUP | POLLERR)))) {
        sched::run_blocking([&] { r = later(); });
        return r;
      }
      if (f.nonblock) return kEAGAIN;
      TRY(sched::wait_for(queue_, [&] { return (ready_now(fd_.get()) & (events | POLLHUP | POLLERR)) != 0; }));
    }
  }

  Fd fd_;
  const bool regular_;
  bool watched_ = false;
  bool no_wait_ = true;  // the host file takes RWF_NOWAIT, as far as we know
  sched::WaitQueue queue_;
  sched::FdWatch watch_;  // last: stops before the queue goes
};

Result<Ref<vfs::File>> HostInode::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  if (S_ISSOCK(type())) return kENXIO;
  const int wanted = flags & O_ACCMODE;
  if (access_ != O_RDWR && wanted != access_) return kEACCES;
  Fd fd = TRY(sys::dup_cloexec(fd_.get()));
  return Ref<vfs::File>(make_ref<HostFile>(where, Ref<vfs::Inode>(*this), flags & (O_ACCMODE | O_APPEND | O_NONBLOCK), cred,
                                           std::move(fd), is_regular()));
}

}  // namespace

Result<Ref<vfs::File>> from_host_fd(Fd fd, const Ref<auth::Credentials>& cred) {
  struct stat st;
  TRY(sys::fstat(fd.get(), &st));
  if (S_ISDIR(st.st_mode)) return kEISDIR;
  long flags = TRY(sys::raw(SYS_fcntl, fd.get(), F_GETFL));
  auto fs = make_ref<HostFs>();
  const int access = static_cast<int>(flags) & O_ACCMODE;
  Ref<vfs::Inode> inode = make_ref<HostInode>(fs, st, TRY(sys::dup_cloexec(fd.get())), access, cred->euid, cred->egid);
  const char* name = S_ISFIFO(st.st_mode) ? "pipe" : S_ISSOCK(st.st_mode) ? "socket" : "host";
  std::string text = base::format("{}:[{}]", name, st.st_ino);
  if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)) text = "/dev/null";
  auto dentry = vfs::Dentry::make_anonymous(std::move(text), inode);
  vfs::Path path{nullptr, dentry};
  Ref<vfs::File> file = make_ref<HostFile>(path, inode, static_cast<int>(flags) & (O_ACCMODE | O_APPEND), cred,
                                           std::move(fd), S_ISREG(st.st_mode));
  return file;
}

}  // namespace sentry::fs::host
