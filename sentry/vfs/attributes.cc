// SPDX-License-Identifier: Apache-2.0
// Changes of mode, owner, times and size, and access(2). Linux: fs/attr.c setattr_prepare and notify_change, fs/open.c.
#include <sys/mount.h>
#include <unistd.h>

#include "sentry/vfs/notify.h"
#include "sentry/vfs/walker.h"

namespace sentry::vfs {
namespace {

using A = SetAttributes;

// What remains of a mode when somebody else's hand has touched the file: no set-user-ID, no meaningful set-group-ID.
uint32_t without_privileges(uint32_t mode) {
  return mode & ~static_cast<uint32_t>(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0));
}

Result<void> check_owner_change(A& s, const Attributes& now, const auth::Credentials& cred) {
  bool chown = cred.has_cap_over(now.uid, now.gid, CAP_CHOWN);
  bool owner = cred.fsuid == now.uid;
  if ((s.mask & A::kUid) && !chown && !(owner && s.uid == now.uid)) return kEPERM;
  if ((s.mask & A::kGid) && !chown && !(owner && (s.gid == now.gid || cred.in_group(s.gid)))) return kEPERM;
  if (!S_ISDIR(now.mode)) {
    uint32_t mode = without_privileges(now.mode);
    if (!cred.in_group(now.gid) && !cred.has_cap_over(now.uid, now.gid, CAP_FSETID)) mode &= ~static_cast<uint32_t>(S_ISGID);
    if (mode != now.mode) {
      s.mask |= A::kMode;
      s.mode = mode & 07777;
    }
  }
  return {};
}

Result<void> check_times(const A& s, const Attributes& now, Inode& inode, const auth::Credentials& cred) {
  bool owner = cred.owns_or(now.uid, CAP_FOWNER);
  if (owner) return {};
  bool touch = (s.mask & A::kAtimeNow) && (s.mask & A::kMtimeNow);
  if (!touch) return kEPERM;
  return inode.check_access(cred, W_OK);
}

Result<void> check_size(A& s, const Path& path, const Attributes& now, const auth::Credentials& cred) {
  if (S_ISDIR(now.mode)) return kEISDIR;
  if (!S_ISREG(now.mode)) return kEINVAL;
  TRY(may_access(path, W_OK, cred));
  s.mask |= A::kMtimeNow;
  uint32_t mode = without_privileges(now.mode);
  if (mode != now.mode && !cred.has_cap_over(now.uid, now.gid, CAP_FSETID)) {
    s.mask |= A::kMode;
    s.mode = mode & 07777;
  }
  return {};
}

}  // namespace

Result<void> may_access(const Path& path, int mask, const auth::Credentials& cred) {
  RefOrNull<Inode> inode = path.inode();
  if (!inode) return kENOENT;
  if ((mask & W_OK) && path.mount && path.mount->read_only() &&
      (inode->is_regular() || inode->is_directory() || inode->is_symlink()))
    return kEROFS;
  return inode->check_access(cred, mask);
}

Result<void> access(const Path& path, int mask, const auth::Credentials& cred) {
  RefOrNull<Inode> inode = path.inode();
  if (!inode) return kENOENT;
  if (mask == F_OK) return {};
  if ((mask & X_OK) && inode->is_regular() && path.mount && (path.mount->flags() & MS_NOEXEC)) return kEACCES;
  return may_access(path, mask, cred);
}

Result<void> change_attributes(const Path& path, SetAttributes s, const auth::Credentials& cred) {
  RefOrNull<Inode> inode = path.inode();
  if (!inode) return kENOENT;
  TRY(want_write(path));
  if ((s.mask & A::kMode) && inode->is_symlink()) return kEOPNOTSUPP;
  bool resize = s.mask & A::kSize;
  if (resize && inode->is_regular()) {
    TRY(may_access(path, W_OK, cred));
    TRY(inode->get_write_access());
  }
  struct Put {
    Inode* inode;
    ~Put() {
      if (inode) inode->put_write_access();
    }
  } put{resize && inode->is_regular() ? inode.get() : nullptr};

  sched::SleepLock l(inode->lock());
  Attributes now = TRY(inode->attributes());
  if (s.mask & A::kMode) {
    if (!cred.owns_or(now.uid, CAP_FOWNER)) return kEPERM;
    s.mode &= 07777;
    if (!cred.in_group(now.gid) && !cred.has_cap_over(now.uid, now.gid, CAP_FSETID)) s.mode &= ~static_cast<uint32_t>(S_ISGID);
  }
  if (s.mask & (A::kUid | A::kGid)) TRY(check_owner_change(s, now, cred));
  if (s.mask & (A::kAtime | A::kMtime | A::kAtimeNow | A::kMtimeNow)) TRY(check_times(s, now, *inode, cred));
  if (resize) TRY(check_size(s, path, now, cred));
  if (s.mask == 0) return {};
  TRY(inode->set_attributes(s));
  tell_attributes(path, *inode, resize ? s.mask & ~static_cast<uint32_t>(A::kMtimeNow) : s.mask);
  return {};
}

}  // namespace sentry::vfs
