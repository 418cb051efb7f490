// SPDX-License-Identifier: Apache-2.0
// open(2). Linux: fs/namei.c path_openat, do_open, may_open.
#include <sys/mount.h>
#include <unistd.h>

#include "sentry/vfs/dentry_access.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/special.h"
#include "sentry/vfs/walker.h"

namespace sentry::vfs {
namespace {

constexpr int kLargeFile = 0100000;  // the kernel's O_LARGEFILE; glibc's is 0
constexpr int kNotKept = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC;

int access_mask(int flags) {
  int mask = 0;
  switch (flags & O_ACCMODE) {
    case O_RDONLY: mask = R_OK; break;
    case O_WRONLY: mask = W_OK; break;
    default: mask = R_OK | W_OK;
  }
  if (flags & O_TRUNC) mask |= W_OK;
  return mask;
}

// Gives the inode's write access back unless a File took it over.
class WriteAccess {
 public:
  Result<void> get(Inode& inode) {
    TRY(inode.get_write_access());
    inode_ = Ref<Inode>(inode);
    return {};
  }
  void hand_to(File& file) {
    if (!inode_) return;
    file.holds_write_access();
    inode_ = nullptr;
  }
  ~WriteAccess() {
    if (inode_) inode_->put_write_access();
  }

 private:
  RefOrNull<Inode> inode_;
};

// The description itself; permissions and truncation are done.
Result<Ref<File>> open_inode(const Path& p, Inode& inode, int flags, const Ref<auth::Credentials>& cred) {
  int kept = (flags & ~kNotKept) | kLargeFile;
  if (p.mount) {
    switch (inode.type()) {
      case S_IFIFO:
      case S_IFCHR:
      case S_IFBLK: return open_special(p, inode, kept, cred);
      case S_IFSOCK: return kENXIO;
      default: break;
    }
  }
  return inode.open(p, kept, cred);
}

Result<void> truncate_opened(Inode& inode, const auth::Credentials& cred) {
  sched::SleepLock l(inode.lock());
  SetAttributes s;
  s.mask = SetAttributes::kSize | SetAttributes::kMtimeNow;
  if (!cred.has_cap(CAP_FSETID)) {
    const Attributes a = TRY(inode.attributes());
    const uint32_t mode = a.mode;
    uint32_t keep = mode & ~static_cast<uint32_t>(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0));
    if (keep != mode && !cred.has_cap_over(a.uid, a.gid, CAP_FSETID)) {
      s.mask |= SetAttributes::kMode;
      s.mode = keep;
    }
  }
  return inode.set_attributes(s);
}

Result<Ref<File>> open_existing(const Path& p, int flags, const Ref<auth::Credentials>& cred) {
  RefOrNull<Inode> inode = p.inode();
  if (!inode) return kENOENT;
  if ((flags & O_CREAT) && inode->is_directory()) return kEISDIR;
  if ((flags & O_DIRECTORY) && !inode->is_directory()) return kENOTDIR;
  int mask = access_mask(flags);
  switch (inode->type()) {
    case S_IFLNK: return kELOOP;
    case S_IFDIR:
      if (mask & W_OK) return kEISDIR;
      break;
    case S_IFCHR:
    case S_IFBLK:
      if (p.mount && ((p.mount->flags() & MS_NODEV) || p.mount->fs()->user_ns())) return kEACCES;
      [[fallthrough]];
    case S_IFIFO:
    case S_IFSOCK: flags &= ~O_TRUNC; break;
    default: break;
  }
  TRY(may_access(p, mask, *cred));
  if (flags & O_NOATIME) {
    Attributes a = TRY(inode->attributes());
    if (!cred->owns_or(a.uid, CAP_FOWNER)) return kEPERM;
  }
  WriteAccess access;
  if (inode->is_regular() && (mask & W_OK)) TRY(access.get(*inode));
  if ((flags & O_TRUNC) && inode->is_regular()) TRY(truncate_opened(*inode, *cred));
  Ref<File> file = TRY(open_inode(p, *inode, flags, cred));
  if (file->writable()) access.hand_to(*file);
  tell_file(*file, IN_OPEN);
  if ((flags & O_TRUNC) && inode->is_regular()) tell_file(*file, IN_MODIFY);
  return file;
}

Result<Ref<File>> open_created(const Path& p, Inode& inode, int flags, const Ref<auth::Credentials>& cred) {
  WriteAccess access;
  if (access_mask(flags) & W_OK) TRY(access.get(inode));
  Ref<File> file = TRY(open_inode(p, inode, flags, cred));
  if (file->writable()) access.hand_to(*file);
  tell_file(*file, IN_OPEN);
  return file;
}

Result<Ref<File>> open_unnamed(const WalkContext& c, std::string_view path, int flags, uint32_t mode, unsigned walk_flags) {
  Path dir = TRY(walk(c, path, walk_flags | kDirectory | kFollow));
  TRY(want_write(dir));
  RefOrNull<Inode> dir_inode = dir.inode();
  TRY(may_access(dir, W_OK | X_OK, *c.cred));
  CreateRequest req = TRY(new_inode(*dir_inode, S_IFREG | (mode & 07777), 0, *c.cred));
  RefOrNull<Inode> made;
  {
    sched::SleepLock l(dir_inode->lock());
    made = TRY(dir_inode->create_unnamed(req));
    if (flags & O_EXCL) made->stays_unnamed = true;
  }
  uint64_t ino = TRY(made->attributes()).ino;
  Path p{dir.mount, DentryAccess::unnamed(*dir.dentry, made.get_ref(), ino)};
  return open_created(p, *made, flags & ~O_DIRECTORY, c.cred);
}

// The name was not there. Null: it is by now.
Result<RefOrNull<File>> create_and_open(const WalkContext& c, const Walker& w, int flags, uint32_t mode) {
  const Path& dir = w.where();
  RefOrNull<Inode> dir_inode = dir.inode();
  RefOrNull<Dentry> d;
  RefOrNull<Inode> made;
  {
    sched::SleepLock l(dir_inode->lock());
    d = TRY(dir.dentry->lookup_locked(w.name()));
    if (!d->is_negative()) return RefOrNull<File>();
    TRY(want_write(dir));
    TRY(may_create(dir, *c.cred));
    CreateRequest req = TRY(new_inode(*dir_inode, S_IFREG | (mode & 07777), 0, *c.cred));
    Result<Ref<Inode>> r = dir_inode->create(w.name(), req);
    if (!r.ok()) {
      if (r.error() == kEEXIST && !(flags & O_EXCL)) d->unlinked();  // made behind our back: look again
      else return r.error();
      return RefOrNull<File>();
    }
    made = std::move(r).value();
    d->instantiate(made.get_ref());
    tell_entry(*dir_inode, IN_CREATE, made.get(), w.name());
  }
  return RefOrNull<File>(TRY(open_created(Path{dir.mount, d}, *made, flags, c.cred)));
}

Result<Ref<File>> open_or_create(const WalkContext& c, std::string_view path, int flags, uint32_t mode, unsigned walk_flags) {
  Walker w(c, walk_flags);
  TRY(w.start(path));
  for (int tries = 0; tries < 8;) {
    if (w.last_kind() != LastKind::normal) {
      TRY(w.finish(true));
      return flags & O_EXCL ? kEEXIST : kEISDIR;
    }
    if (w.trailing_slash()) return kEISDIR;
    Ref<Dentry> d = TRY(w.where().dentry->lookup(w.name()));
    RefOrNull<Inode> inode = d->inode();
    if (!inode) {
      RefOrNull<File> file = TRY(create_and_open(c, w, flags, mode));
      if (file) return file.get_ref();
      tries++;
      continue;
    }
    if (flags & O_EXCL) return kEEXIST;
    if (!inode->is_symlink()) {
      TRY(w.enter(std::move(d)));
      return open_existing(w.where(), flags, c.cred);
    }
    if (flags & O_NOFOLLOW) return kELOOP;
    if (TRY(w.follow_last(d))) return open_existing(w.where(), flags, c.cred);
  }
  return kESTALE;
}

}  // namespace

Result<Ref<File>> open(const WalkContext& c, std::string_view path, int flags, uint32_t mode, unsigned walk_flags) {
  walk_flags &= ~static_cast<unsigned>(kFollow);
  if ((flags & O_TMPFILE) == O_TMPFILE) return open_unnamed(c, path, flags, mode, walk_flags);
  if ((flags & O_CREAT) && !(flags & O_PATH)) return open_or_create(c, path, flags, mode, walk_flags);
  if (!(flags & O_NOFOLLOW)) walk_flags |= kFollow;
  if (flags & O_DIRECTORY) walk_flags |= kDirectory;
  Path p = TRY(walk(c, path, walk_flags));
  if (flags & O_PATH) return make_path_file(p, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW), c.cred);
  return open_existing(p, flags, c.cred);
}

}  // namespace sentry::vfs
