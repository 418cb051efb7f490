// SPDX-License-Identifier: Apache-2.0
// Making, removing and renaming names. Linux: fs/namei.c filename_create, do_unlinkat, do_rmdir, do_renameat2 and vfs_*: the
// order of the checks is theirs.
#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sentry/vfs/dentry_access.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/walker.h"

namespace sentry::vfs {

Result<void> want_write(const Path& p) {
  if (p.mount && p.mount->read_only()) return kEROFS;
  return {};
}

Result<void> may_create(const Path& dir, const auth::Credentials& cred) {
  if (dir.dentry->is_unlinked()) return kENOENT;
  return dir.inode()->check_access(cred, W_OK | X_OK);
}

Result<void> may_delete(const Path& dir, Dentry& victim, bool must_be_directory, const auth::Credentials& cred) {
  RefOrNull<Inode> inode = victim.inode();
  if (!inode) return kENOENT;
  RefOrNull<Inode> parent = dir.inode();
  TRY(parent->check_access(cred, W_OK | X_OK));
  Attributes d = TRY(parent->attributes());
  if ((d.mode & S_ISVTX) && cred.fsuid != d.uid) {
    Attributes a = TRY(inode->attributes());
    if (a.uid != cred.fsuid && !cred.has_cap_over(a.uid, a.gid, CAP_FOWNER)) return kEPERM;
  }
  if (must_be_directory && !inode->is_directory()) return kENOTDIR;
  if (!must_be_directory && inode->is_directory()) return kEISDIR;
  if (dir.dentry->is_unlinked()) return kENOENT;
  return {};
}

Result<CreateRequest> new_inode(Inode& dir, uint32_t mode, uint64_t rdev, const auth::Credentials& cred) {
  Attributes d = TRY(dir.attributes());
  CreateRequest r{mode, cred.fsuid, cred.fsgid, rdev};
  if (d.mode & S_ISGID) {
    r.gid = d.gid;
    if (S_ISDIR(mode)) r.mode |= S_ISGID;
  }
  // Linux: mode_strip_sgid.
  if (!S_ISDIR(mode) && (r.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !cred.in_group(r.gid) &&
      !cred.has_cap_over(d.uid, d.gid, CAP_FSETID))
    r.mode &= ~static_cast<uint32_t>(S_ISGID);
  return r;
}

namespace {

enum class Kind : uint8_t { file, directory };
enum class Link : uint8_t { new_file, another_name };

// Finds the place for a new name and has `make(dir, name)` make it, with the directory locked.
template <typename Make>
Result<void> with_new_name(const WalkContext& c, std::string_view path, Kind kind, RefOrNull<Mount> same_mount, Make&& make,
                           Link link = Link::new_file) {
  ParentWalk w = TRY(walk_parent(c, path, 0));
  if (w.last_kind != LastKind::normal) return kEEXIST;
  RefOrNull<Inode> dir = w.parent.inode();
  sched::SleepLock l(dir->lock());
  Ref<Dentry> d = TRY(w.parent.dentry->lookup_locked(w.name));
  if (!d->is_negative()) return kEEXIST;
  if (w.trailing_slash && kind == Kind::file) return kENOENT;
  TRY(want_write(w.parent));
  if (same_mount && same_mount.get() != w.parent.mount.get()) return kEXDEV;
  TRY(may_create(w.parent, *c.cred));
  Ref<Inode> made = TRY(make(*dir, w.name));
  d->instantiate(made);
  // A second name of a file changes its link count.
  if (link == Link::another_name) tell_self(*made, IN_ATTRIB);
  tell_entry(*dir, IN_CREATE, made.get(), w.name);
  return {};
}

bool is_mountpoint(const Dentry& d) { return d.mounted_here.load(std::memory_order_relaxed) > 0; }

}  // namespace

Result<void> make_node(const WalkContext& c, std::string_view path, uint32_t mode, uint64_t rdev) {
  switch (mode & S_IFMT) {
    case 0: mode |= S_IFREG; break;
    case S_IFREG:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK: break;
    case S_IFDIR: return kEPERM;
    default: return kEINVAL;
  }
  return with_new_name(c, path, Kind::file, nullptr, [&](Inode& dir, const std::string& name) -> Result<Ref<Inode>> {
    bool whiteout = S_ISCHR(mode) && rdev == 0;
    if ((S_ISCHR(mode) || S_ISBLK(mode)) && !whiteout && !c.cred->has_cap(CAP_MKNOD)) return kEPERM;
    CreateRequest r = TRY(new_inode(dir, mode & (S_IFMT | 07777), S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0, *c.cred));
    return dir.create(name, r);
  });
}

Result<void> make_directory(const WalkContext& c, std::string_view path, uint32_t mode) {
  return with_new_name(c, path, Kind::directory, nullptr, [&](Inode& dir, const std::string& name) -> Result<Ref<Inode>> {
    CreateRequest r = TRY(new_inode(dir, S_IFDIR | (mode & 01777), 0, *c.cred));
    return dir.mkdir(name, r);
  });
}

Result<void> make_symlink(const WalkContext& c, std::string_view target, std::string_view path) {
  if (target.empty()) return kENOENT;
  return with_new_name(c, path, Kind::file, nullptr, [&](Inode& dir, const std::string& name) -> Result<Ref<Inode>> {
    CreateRequest r = TRY(new_inode(dir, S_IFLNK | 0777, 0, *c.cred));
    return dir.symlink(name, target, r);
  });
}

Result<void> make_link(const Path& existing, const WalkContext& c, std::string_view path) {
  RefOrNull<Inode> inode = existing.inode();
  if (!inode) return kENOENT;
  // A nameless file (a pipe) has no mount, and so never the new name's.
  if (!existing.mount) return kEXDEV;
  return with_new_name(c, path, Kind::file, existing.mount, [&](Inode& dir, const std::string& name) -> Result<Ref<Inode>> {
    if (&inode->fs() != &dir.fs()) return kEXDEV;
    if (inode->is_directory()) return kEPERM;
    if (inode->stays_unnamed.load(std::memory_order_relaxed)) return kENOENT;
    TRY(dir.link(name, *inode));
    return inode.get_ref();
  }, Link::another_name);
}

Result<void> remove_file(const WalkContext& c, std::string_view path) {
  ParentWalk w = TRY(walk_parent(c, path, 0));
  if (w.last_kind != LastKind::normal) return kEISDIR;
  TRY(want_write(w.parent));
  RefOrNull<Inode> dir = w.parent.inode();
  RefOrNull<Dentry> gone;  // dies after the lock
  sched::SleepLock l(dir->lock());
  Ref<Dentry> d = TRY(w.parent.dentry->lookup_locked(w.name));
  gone = d;
  RefOrNull<Inode> victim = d->inode();
  if (!victim) return kENOENT;
  if (w.trailing_slash) return victim->is_directory() ? kEISDIR : kENOTDIR;
  TRY(may_delete(w.parent, *d, false, *c.cred));
  if (is_mountpoint(*d)) return kEBUSY;
  TRY(dir->unlink(w.name, *victim));
  d->unlinked();
  DentryAccess::leave_negative(*w.parent.dentry, w.name);
  tell_removed(*dir, *victim, w.name);
  return {};
}

Result<void> remove_directory(const WalkContext& c, std::string_view path) {
  ParentWalk w = TRY(walk_parent(c, path, 0));
  switch (w.last_kind) {
    case LastKind::dotdot: return kENOTEMPTY;
    case LastKind::dot: return kEINVAL;
    case LastKind::root: return kEBUSY;
    case LastKind::normal: break;
  }
  TRY(want_write(w.parent));
  RefOrNull<Inode> dir = w.parent.inode();
  RefOrNull<Dentry> gone;
  sched::SleepLock l(dir->lock());
  Ref<Dentry> d = TRY(w.parent.dentry->lookup_locked(w.name));
  gone = d;
  RefOrNull<Inode> victim = d->inode();
  if (!victim) return kENOENT;
  TRY(may_delete(w.parent, *d, true, *c.cred));
  sched::SleepLock inner(victim->lock());
  if (is_mountpoint(*d)) return kEBUSY;
  TRY(dir->rmdir(w.name, *victim));
  d->unlinked();
  DentryAccess::leave_negative(*w.parent.dentry, w.name);
  tell_removed(*dir, *victim, w.name);
  return {};
}

// ---- rename ----

namespace {

// Up to two directories' locks, ancestor first. Linux: lock_rename.
class DirectoryLocks {
 public:
  DirectoryLocks(const Path& a, const Path& b) NO_THREAD_SAFETY_ANALYSIS {  // released by the destructor, in a fixed order
    a_ = a.inode();
    b_ = b.inode();
    if (a_.get() == b_.get()) {
      a_->lock().lock();
      return;
    }
    topology_ = &a_->fs().rename_lock();
    topology_->lock();
    bool b_first = b.dentry->contains(*a.dentry) || (!a.dentry->contains(*b.dentry) && b_.get() < a_.get());
    (b_first ? b_ : a_)->lock().lock();
    (b_first ? a_ : b_)->lock().lock();
  }
  ~DirectoryLocks() NO_THREAD_SAFETY_ANALYSIS {  // as above
    a_->lock().unlock();
    if (!topology_) return;
    b_->lock().unlock();
    topology_->unlock();
  }
  DirectoryLocks(const DirectoryLocks&) = delete;
  DirectoryLocks& operator=(const DirectoryLocks&) = delete;

 private:
  RefOrNull<Inode> a_, b_;
  sched::SleepMutex* topology_ = nullptr;
};

struct Rename {
  const ParentWalk& from;
  const ParentWalk& to;
  Dentry& source;
  Dentry& target;
  unsigned flags;
  const auth::Credentials& cred;

  // Linux: vfs_rename.
  Result<void> run() {
    RefOrNull<Inode> moved = source.inode(), replaced = target.inode();
    if (moved.get() == replaced.get()) return {};
    RefOrNull<Inode> old_dir = from.parent.inode(), new_dir = to.parent.inode();
    bool exchange = flags & RENAME_EXCHANGE;
    TRY(may_delete(from.parent, source, moved->is_directory(), cred));
    if (!replaced) TRY(may_create(to.parent, cred));
    else TRY(may_delete(to.parent, target, exchange ? replaced->is_directory() : moved->is_directory(), cred));
    if (old_dir.get() != new_dir.get()) {
      // Their ".." changes.
      if (moved->is_directory()) TRY(moved->check_access(cred, W_OK));
      if (exchange && replaced->is_directory()) TRY(replaced->check_access(cred, W_OK));
    }
    if (is_mountpoint(source) || is_mountpoint(target)) return kEBUSY;
    if ((flags & RENAME_WHITEOUT) && !cred.has_cap(CAP_MKNOD)) return kEPERM;
    if (replaced && replaced->is_directory() && !exchange) {
      sched::SleepLock inner(replaced->lock());  // nobody makes a name in it meanwhile
      return commit(*old_dir, *moved, *new_dir, replaced.get());
    }
    return commit(*old_dir, *moved, *new_dir, replaced.get());
  }

  Result<void> commit(Inode& old_dir, Inode& moved, Inode& new_dir, Inode* replaced) {
    TRY(old_dir.rename(from.name, moved, new_dir, to.name, replaced, flags));
    if (flags & RENAME_EXCHANGE) {
      Dentry::exchanged(source, target);
      tell_moved(old_dir, from.name, new_dir, to.name, moved, nullptr);
      tell_moved(new_dir, to.name, old_dir, from.name, *replaced, nullptr);
      return {};
    }
    Dentry::moved(source, target);
    if (!(flags & RENAME_WHITEOUT)) DentryAccess::leave_negative(*from.parent.dentry, from.name);
    tell_moved(old_dir, from.name, new_dir, to.name, moved, replaced);
    return {};
  }
};

}  // namespace

Result<void> rename(const WalkContext& from_c, std::string_view old_path, const WalkContext& to_c, std::string_view new_path,
                    unsigned flags) {
  if (flags & ~static_cast<unsigned>(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) return kEINVAL;
  bool exchange = flags & RENAME_EXCHANGE;
  if (exchange && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT))) return kEINVAL;
  ParentWalk from = TRY(walk_parent(from_c, old_path, 0));
  ParentWalk to = TRY(walk_parent(to_c, new_path, 0));
  if (from.parent.mount.get() != to.parent.mount.get()) return kEXDEV;
  if (from.last_kind != LastKind::normal) return kEBUSY;
  if (to.last_kind != LastKind::normal) return flags & RENAME_NOREPLACE ? kEEXIST : kEBUSY;
  TRY(want_write(from.parent));
  RefOrNull<Dentry> keep_source, keep_target;  // die after the locks
  DirectoryLocks locks(from.parent, to.parent);
  Ref<Dentry> source = TRY(from.parent.dentry->lookup_locked(from.name));
  keep_source = source;
  if (source->is_negative()) return kENOENT;
  Ref<Dentry> target = TRY(to.parent.dentry->lookup_locked(to.name));
  keep_target = target;
  RefOrNull<Inode> target_inode = target->inode();
  if ((flags & RENAME_NOREPLACE) && target_inode) return kEEXIST;
  if (exchange) {
    if (!target_inode) return kENOENT;
    if (!target_inode->is_directory() && to.trailing_slash) return kENOTDIR;
  }
  if (!source->inode()->is_directory() && (from.trailing_slash || (!exchange && to.trailing_slash))) return kENOTDIR;
  if (source->contains(*to.parent.dentry)) return kEINVAL;
  if (target->contains(*from.parent.dentry)) return exchange ? kEINVAL : kENOTEMPTY;
  return Rename{from, to, *source, *target, flags, *from_c.cred}.run();
}

}  // namespace sentry::vfs
