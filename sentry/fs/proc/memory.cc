// SPDX-License-Identifier: Apache-2.0
// /proc/PID/{cmdline,environ,auxv,mem}: bytes of the process's own memory. Linux: fs/proc/base.c.
#include <unistd.h>

#include <algorithm>

#include "sentry/fs/proc/proc_fs.h"
#include "sentry/kernel/tracer.h"

namespace sentry::fs::proc {
namespace {

using kernel::Task;

constexpr uint64_t kMaxStrings = 2 << 20;  // what exec takes at most, roughly (ARG_MAX)

std::string read_range(mm::AddressSpace& space, uint64_t start, uint64_t end) {
  std::string out;
  if (start >= end) return out;
  out.resize(std::min(end - start, kMaxStrings));
  size_t done = 0;
  while (done < out.size()) {
    Result<size_t> n = space.read_remote(start + done, out.data() + done, out.size() - done);
    if (!n.ok() || *n == 0) break;
    done += *n;
  }
  out.resize(done);
  return out;
}

class MemFile final : public vfs::File {
 public:
  MemFile(const vfs::Path& where, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred,
          RefOrNull<mm::AddressSpace> space)
      : File(vfs::FileKind::plain, where, std::move(inode), flags, std::move(cred)), space_(std::move(space)) {}

  bool seekable() const override { return true; }
  Result<size_t> read(std::span<std::byte> dst, int64_t* pos, vfs::IoFlags) override {
    return transfer(dst.size(), pos, [&](uint64_t at, size_t done, size_t n) {
      return space_->read_remote(at, dst.data() + done, n);
    });
  }
  Result<size_t> write(std::span<const std::byte> src, int64_t* pos, vfs::IoFlags) override {
    return transfer(src.size(), pos, [&](uint64_t at, size_t done, size_t n) {
      return kernel::write_as_debugger(*space_, at, src.data() + done, n);
    });
  }
  Result<int64_t> seek(int64_t offset, int whence) override {
    if (whence == SEEK_CUR) offset += position;
    else if (whence != SEEK_SET) return kEINVAL;
    return position = offset;
  }

 private:
  // Differs from Linux: pages without the right are written for a tracer of that process only, while a thread of it is stopped.
  template <typename F>
  Result<size_t> transfer(size_t n, int64_t* pos, F&& step) {
    if (!space_ || n == 0) return size_t{0};
    size_t done = 0;
    while (done < n) {
      Result<size_t> r = step(static_cast<uint64_t>(*pos) + done, done, n - done);
      if (!r.ok() || *r == 0) {
        if (!r.ok() && r.error() == kESRCH) break;  // the process has gone
        if (done == 0) return kEIO;
        break;
      }
      done += *r;
    }
    *pos += static_cast<int64_t>(done);
    return done;
  }

  RefOrNull<mm::AddressSpace> space_;
};

class MemInode final : public OfTask<common::SyntheticInode> {
 public:
  MemInode(const Subject& s, uint64_t ino) : OfTask(s, ino, S_IFREG | 0600) {}
  Result<void> set_attributes(const vfs::SetAttributes& s) override {
    using S = vfs::SetAttributes;
    if ((s.mask & S::kSize) && !(s.mask & (S::kMode | S::kUid | S::kGid))) return {};
    return kEPERM;
  }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    (void)TRY(inspected());
    return Ref<vfs::File>(make_ref<MemFile>(where, Ref<vfs::Inode>(*this), flags, cred, subject_.space()));
  }
};

}  // namespace

// A program that writes over its arguments (setproctitle) may go on into its environment: then the text ends at the first NUL.
Result<std::string> cmdline_text(const Subject& s, Task&) {
  RefOrNull<mm::AddressSpace> m = s.space();
  if (!m) return std::string();
  std::string out = read_range(*m, m->arg_start, m->arg_end);
  if (out.empty() || out.back() == '\0' || out.size() < m->arg_end - m->arg_start) return out;
  if (m->env_start == m->arg_end) out += read_range(*m, m->env_start, m->env_end);
  out.resize(std::min(out.find('\0'), out.size()));
  return out;
}

Result<std::string> environ_text(const Subject& s, Task&) {
  RefOrNull<mm::AddressSpace> m = s.space();
  if (!m) return std::string();
  return read_range(*m, m->env_start, m->env_end);
}

Result<std::string> auxv_text(const Subject& s, Task&) {
  RefOrNull<mm::AddressSpace> m = s.space();
  if (!m) return std::string();
  return std::string(reinterpret_cast<const char*>(m->auxv.data()), m->auxv.size() * sizeof(uint64_t));
}

Ref<vfs::Inode> make_mem(const Subject& s, uint64_t ino) { return make_ref<MemInode>(s, ino); }

}  // namespace sentry::fs::proc
