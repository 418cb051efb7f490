// SPDX-License-Identifier: Apache-2.0
// Defaults of open file descriptions, O_PATH descriptions, and the file system of nameless inodes.
#include "sentry/vfs/file.h"

#include <unistd.h>

#include "sentry/vfs/locks.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/special.h"

namespace sentry::vfs {
namespace {

class PathFile final : public File {
 public:
  PathFile(const Path& path, Ref<Inode> inode, int flags, Ref<auth::Credentials> cred, RefOrNull<MountNamespace> tree)
      : File(FileKind::path_only, path, std::move(inode), flags, std::move(cred)), tree_(std::move(tree)) {}

 private:
  RefOrNull<MountNamespace> tree_;
};

// The file system of pipes, sockets and anonymous inodes. Never mounted, never gone.
class AnonymousFs final : public FileSystem {
 public:
  Ref<Inode> root() override { UNREACHABLE(); }
  FsStat statfs() override {
    FsStat s;
    s.type = 0x09041934;  // ANON_INODE_FS_MAGIC
    return s;
  }
  const char* type_name() const override { return "anon_inodefs"; }
  uint64_t next_ino() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> next_ino_{1};
};

AnonymousFs& anonymous_fs() {
  static AnonymousFs* fs = new AnonymousFs;
  return *fs;
}

class AnonymousInode final : public Inode {
 public:
  AnonymousInode(AnonymousFs& fs, uint64_t ino, uint32_t mode, const auth::Credentials& owner)
      : Inode(fs, mode), attributes_(LockRank::kFilePrivate) {
    attributes_.with([&](Attributes& a) {
      a.ino = ino;
      a.dev = fs.device();
      a.mode = mode;
      a.uid = owner.fsuid;
      a.gid = owner.fsgid;
      a.atime = a.mtime = a.ctime = a.btime = current_time();
    });
  }
  Result<Attributes> attributes() override {
    return attributes_.with([](Attributes& a) { return a; });
  }
  Result<void> set_attributes(const SetAttributes& s) override {
    if (s.mask & SetAttributes::kSize) return kEINVAL;
    attributes_.with([&](Attributes& a) {
      if (s.mask & SetAttributes::kMode) a.mode = (a.mode & S_IFMT) | (s.mode & 07777);
      if (s.mask & SetAttributes::kUid) a.uid = s.uid;
      if (s.mask & SetAttributes::kGid) a.gid = s.gid;
      timespec now = current_time();
      if (s.mask & (SetAttributes::kAtime | SetAttributes::kAtimeNow))
        a.atime = s.mask & SetAttributes::kAtime ? s.atime : now;
      if (s.mask & (SetAttributes::kMtime | SetAttributes::kMtimeNow))
        a.mtime = s.mask & SetAttributes::kMtime ? s.mtime : now;
      a.ctime = now;
    });
    return {};
  }
  // By way of /proc/PID/fd/N (and so /dev/stdout): what hangs on the inode knows.
  Result<Ref<File>> open(const Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    RefOrNull<Attachment> a = attachment();
    if (a) return a->reopen(where, flags, cred);
    return open_special(where, *this, flags, cred);
  }

 private:
  Guarded<Attributes> attributes_;
};

}  // namespace

std::atomic<File::ReleaseHook> File::release_hook{nullptr};

void File::unref() const {
  if (!drop_ref()) return;
  if (anybody_watches()) tell_closed(*this);
  if (watched.load(std::memory_order_acquire))
    if (ReleaseHook hook = release_hook.load(std::memory_order_acquire)) hook(*this);
  delete this;
}

File::File(FileKind kind, const Path& path, Ref<Inode> inode, int flags, Ref<auth::Credentials> cred)
    : kind_(kind), path_(path), inode_(std::move(inode)), flags_(flags), cred_(std::move(cred)) {
  inode_->file_opened();
}

File::~File() {
  inode_->file_closed();
  if (inode_->find_locks()) release_description_locks(*inode_, *this);
  if (write_access_) inode_->put_write_access();
}

Result<int64_t> File::seek(int64_t offset, int whence) {
  if (!seekable()) return kESPIPE;
  if (kind_ == FileKind::directory && whence != SEEK_SET && whence != SEEK_CUR) return kEINVAL;  // its positions are no sizes
  int64_t base = 0;
  switch (whence) {
    case SEEK_SET: break;
    case SEEK_CUR: base = position; break;
    case SEEK_END:
    case SEEK_DATA:
    case SEEK_HOLE: {
      auto size = static_cast<int64_t>(TRY(inode_->attributes()).size);
      if (whence == SEEK_END) {
        base = size;
        break;
      }
      // One extent of data, then the hole at the end. Linux: generic_file_llseek_size.
      if (offset < 0 || offset >= size) return kENXIO;
      return position = whence == SEEK_DATA ? offset : size;
    }
    default: return kEINVAL;
  }
  int64_t to;
  if (__builtin_add_overflow(base, offset, &to) || to < 0) return kEINVAL;
  return position = to;
}

Result<void> File::truncate(uint64_t size) {
  if (!writable() || !inode_->is_regular()) return kEINVAL;
  SetAttributes s;
  s.mask = SetAttributes::kSize;
  s.size = size;
  return inode_->set_attributes(s);
}

Ref<File> make_path_file(const Path& path, int flags, Ref<auth::Credentials> cred, RefOrNull<MountNamespace> tree) {
  return make_ref<PathFile>(path, path.inode().get_ref(), flags, std::move(cred), std::move(tree));
}

Path make_anonymous_path(std::string_view kind_name, uint32_t mode, const auth::Credentials& owner) {
  AnonymousFs& fs = anonymous_fs();
  uint64_t ino = fs.next_ino();
  std::string name(kind_name);
  if (name.find(':') == std::string::npos) name += ":[" + std::to_string(ino) + "]";
  Ref<Inode> inode = make_ref<AnonymousInode>(fs, ino, mode, owner);
  return Path{nullptr, Dentry::make_anonymous(std::move(name), std::move(inode))};
}

}  // namespace sentry::vfs
