// SPDX-License-Identifier: Apache-2.0
// null, zero, full, random, urandom: major 1 of Linux's Documentation/admin-guide/devices.txt.
#include "sentry/fs/dev/dev.h"

#include <sys/random.h>
#include <sys/sysmacros.h>

#include <cstring>

#include "base/sys.h"

namespace sentry::fs::dev {
namespace {

enum Minor : unsigned { kNull = 3, kZero = 5, kFull = 7, kRandom = 8, kUrandom = 9 };

// makedev(3) for small numbers, at compile time.
constexpr uint64_t device(unsigned major_number, unsigned minor_number) { return major_number << 8 | minor_number; }

constexpr Node kNodes[] = {
    {"null", 0666, device(1, kNull)},       {"zero", 0666, device(1, kZero)},
    {"full", 0666, device(1, kFull)},       {"random", 0666, device(1, kRandom)},
    {"urandom", 0666, device(1, kUrandom)}, {"tty", 0666, device(5, 0)},
};

// mmap(2) of /dev/zero is anonymous memory (drivers/char/mem.c mmap_zero): mm asks is_anonymous() and never for a descriptor.
class ZeroMemory final : public mm::Mappable {
 public:
  Result<mm::MapFd> map_fd(bool) override { return kENODEV; }
  uint64_t device() const override { return 0; }
  uint64_t inode_number() const override { return 0; }
  std::string path() const override { return "/dev/zero"; }
  bool is_anonymous() const override { return true; }
};

class MemoryDevice final : public vfs::File {
 public:
  MemoryDevice(unsigned minor, const vfs::Path& path, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::plain, path, std::move(inode), flags, std::move(cred)), minor_(minor) {}

  bool seekable() const override { return true; }
  // Linux: drivers/char/mem.c null_lseek: any seek succeeds and goes to 0.
  Result<int64_t> seek(int64_t, int) override { return int64_t{0}; }

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags) override {
    switch (minor_) {
      case kNull: return size_t{0};
      case kZero:
      case kFull: memset(dst.data(), 0, dst.size()); return dst.size();
      default: return random_bytes(dst);
    }
  }
  Result<size_t> write(std::span<const std::byte> src, int64_t*, vfs::IoFlags) override {
    if (minor_ == kFull) return kENOSPC;
    return src.size();
  }
  Result<Ref<mm::Mappable>> mappable() override {
    if (minor_ != kZero) return kENODEV;
    Ref<mm::Mappable> m = make_ref<ZeroMemory>();
    return m;
  }

 private:
  static Result<size_t> random_bytes(std::span<std::byte> dst) {
    size_t done = 0;
    while (done < dst.size()) {
      size_t n = dst.size() - done < 256 ? dst.size() - done : 256;  // never short, never interrupted (man 2 getrandom)
      std::byte buf[256];
      TRY(sys::from_libc(getrandom(buf, n, 0)));
      memcpy(dst.data() + done, buf, n);
      done += n;
    }
    return done;
  }
  const unsigned minor_;
};

}  // namespace

Result<Ref<vfs::File>> open(uint64_t rdev, const vfs::Path& where, const Ref<vfs::Inode>& inode, int flags,
                            const Ref<auth::Credentials>& cred) {
  if (major(rdev) != 1) return kENXIO;
  switch (minor(rdev)) {
    case kNull:
    case kZero:
    case kFull:
    case kRandom:
    case kUrandom: {
      Ref<vfs::File> f = make_ref<MemoryDevice>(minor(rdev), where, inode, flags, cred);
      return f;
    }
    default: return kENXIO;
  }
}

std::span<const Node> default_nodes() { return kNodes; }

}  // namespace sentry::fs::dev
