// SPDX-License-Identifier: Apache-2.0
// Extended attributes with the checks of who may.
#include "sentry/vfs/xattr.h"

#include <unistd.h>

#include "sentry/vfs/notify.h"
#include "sentry/vfs/walker.h"

namespace sentry::vfs {
namespace {

// mask: R_OK or W_OK.
Result<void> permitted(const Path& path, Inode& inode, const std::string& name, int mask, const auth::Credentials& cred) {
  if (mask & W_OK) TRY(want_write(path));
  if (name.starts_with("security.")) {
    if (!(mask & W_OK)) return {};
    if (name != "security.capability") return cred.has_cap(CAP_SYS_ADMIN) ? Result<void>() : kEPERM;
    Attributes a = TRY(inode.attributes());
    return cred.has_cap_over(a.uid, a.gid, CAP_SETFCAP) ? Result<void>() : kEPERM;
  }
  if (name.starts_with("system.")) return {};
  if (name.starts_with("trusted.")) {
    if (!cred.has_cap(CAP_SYS_ADMIN)) return mask & W_OK ? kEPERM : kENODATA;
    return {};
  }
  if (name.starts_with("user.")) {
    if (!inode.is_regular() && !inode.is_directory()) return mask & W_OK ? kEPERM : kENODATA;
    if (inode.is_directory() && (mask & W_OK)) {
      Attributes a = TRY(inode.attributes());
      if ((a.mode & S_ISVTX) && !cred.owns_or(a.uid, CAP_FOWNER)) return kEPERM;
    }
  }
  return inode.check_access(cred, mask);
}

}  // namespace

Result<std::string> get_xattr(const Path& path, const std::string& name, const auth::Credentials& cred) {
  RefOrNull<Inode> inode = path.inode();
  if (!inode) return kENOENT;
  TRY(permitted(path, *inode, name, R_OK, cred));
  std::string value = TRY(inode->get_xattr(name));
  return name == "security.capability" ? cred.file_caps_to_show(std::move(value)) : Result<std::string>(std::move(value));
}

Result<void> set_xattr(const Path& path, const std::string& name, std::string_view value, int flags,
                       const auth::Credentials& cred) {
  RefOrNull<Inode> inode = path.inode();
  if (!inode) return kENOENT;
  TRY(permitted(path, *inode, name, W_OK, cred));
  std::string own_root;
  if (name == "security.capability") {
    own_root = TRY(cred.file_caps_to_keep(value));
    value = own_root;
  }
  sched::SleepLock l(inode->lock());
  TRY(inode->set_xattr(name, value, flags));
  tell_object(path, *inode, IN_ATTRIB);
  return {};
}

Result<std::vector<std::string>> list_xattr(const Path& path, const auth::Credentials& cred) {
  RefOrNull<Inode> inode = path.inode();
  if (!inode) return kENOENT;
  std::vector<std::string> names = TRY(inode->list_xattr());
  if (!cred.has_cap(CAP_SYS_ADMIN)) std::erase_if(names, [](const std::string& n) { return n.starts_with("trusted."); });
  return names;
}

Result<void> remove_xattr(const Path& path, const std::string& name, const auth::Credentials& cred) {
  RefOrNull<Inode> inode = path.inode();
  if (!inode) return kENOENT;
  TRY(permitted(path, *inode, name, W_OK, cred));
  sched::SleepLock l(inode->lock());
  TRY(inode->remove_xattr(name));
  tell_object(path, *inode, IN_ATTRIB);
  return {};
}

}  // namespace sentry::vfs
