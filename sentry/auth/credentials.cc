// SPDX-License-Identifier: Apache-2.0
// The rules by which capabilities follow ids: exec, setuid family. Linux: security/commoncap.c.
#include "sentry/auth/credentials.h"

#include <linux/securebits.h>

#include <algorithm>
#include <cstring>

namespace sentry::auth {
namespace {

constexpr uint64_t bit(int cap) { return 1ull << cap; }
// What setfsuid(2) takes away from and gives back to the effective set (CAP_FS_SET).
constexpr uint64_t kFsCaps = bit(CAP_CHOWN) | bit(CAP_MKNOD) | bit(CAP_DAC_OVERRIDE) | bit(CAP_DAC_READ_SEARCH) |
                             bit(CAP_FOWNER) | bit(CAP_FSETID) | bit(CAP_MAC_OVERRIDE) | bit(CAP_LINUX_IMMUTABLE);

}  // namespace

Ref<Credentials> Credentials::copy() const {
  Ref<Credentials> c = make_ref<Credentials>();
  c->uid = uid, c->euid = euid, c->suid = suid, c->fsuid = fsuid;
  c->gid = gid, c->egid = egid, c->sgid = sgid, c->fsgid = fsgid;
  c->groups = groups;
  c->cap_effective = cap_effective, c->cap_permitted = cap_permitted, c->cap_inheritable = cap_inheritable;
  c->cap_bounding = cap_bounding, c->cap_ambient = cap_ambient;
  c->securebits = securebits;
  c->no_new_privs = no_new_privs;
  c->user_ns = user_ns;
  return c;
}

// Linux: cap_capable().
bool Credentials::has_cap_in(const UserNamespace* target, int cap) const {
  const UserNamespace* own = user_ns.get();
  for (const UserNamespace* ns = target;; ns = ns->parent.get()) {
    if (ns == own) return has_own_cap(cap);
    if (!ns || (own && ns->level <= own->level)) return false;
    // Who has made a namespace may do everything in it, from the one above.
    if (ns->parent.get() == own && ns->owner == euid) return true;
  }
}

bool Credentials::no_more_than(const Credentials& those) const {
  if (user_ns.get() == those.user_ns.get()) return (cap_permitted & ~those.cap_permitted) == 0;
  for (const UserNamespace* ns = user_ns.get(); ns; ns = ns->parent.get())
    if (ns->parent.get() == those.user_ns.get() && ns->owner == those.euid) return true;
  return false;
}

void Credentials::enter(Ref<UserNamespace> ns) {
  securebits = 0;
  cap_inheritable = cap_ambient = 0;
  cap_permitted = cap_effective = cap_bounding = kAllCaps;
  user_ns = std::move(ns);
}

bool Credentials::counts(const FileCaps& f) const {
  for (const UserNamespace* ns = user_ns.get();; ns = ns->parent.get()) {
    if (uid_in(ns, f.root) == 0) return true;
    if (!ns) return false;
  }
}

bool Credentials::in_group(uint32_t g) const {
  return g == fsgid || std::find(groups.begin(), groups.end(), g) != groups.end();
}

Result<std::string> Credentials::file_caps_to_keep(std::string_view x) const {
  uint32_t w[6] = {};
  if (x.size() != XATTR_CAPS_SZ_2 && x.size() != XATTR_CAPS_SZ_3) return kEINVAL;
  memcpy(w, x.data(), x.size());
  const uint32_t revision = w[0] & VFS_CAP_REVISION_MASK;
  if (revision != (x.size() == XATTR_CAPS_SZ_3 ? VFS_CAP_REVISION_3 : VFS_CAP_REVISION_2)) return kEINVAL;
  if (!user_ns && revision == VFS_CAP_REVISION_2) return std::string(x);
  const uint32_t root = kernel_uid(user_ns.get(), w[5]);
  if (root == kNoId) return kEINVAL;
  w[0] = VFS_CAP_REVISION_3 | (w[0] & VFS_CAP_FLAGS_EFFECTIVE);
  w[5] = root;
  return std::string(reinterpret_cast<const char*>(w), XATTR_CAPS_SZ_3);
}

Result<std::string> Credentials::file_caps_to_show(std::string x) const {
  uint32_t w[6] = {};
  if (x.size() != XATTR_CAPS_SZ_2 && x.size() != XATTR_CAPS_SZ_3) return x;
  memcpy(w, x.data(), x.size());
  const uint32_t root = uid_in(user_ns.get(), w[5]);
  if (root != kNoId && root != 0) {
    w[5] = root;
    return std::string(reinterpret_cast<const char*>(w), XATTR_CAPS_SZ_3);
  }
  FileCaps f;
  f.root = w[5];
  if (!counts(f)) return kEOVERFLOW;
  // What is root's own here looks as it did before there were namespaces.
  w[0] = VFS_CAP_REVISION_2 | (w[0] & VFS_CAP_FLAGS_EFFECTIVE);
  return std::string(reinterpret_cast<const char*>(w), XATTR_CAPS_SZ_2);
}

Result<Credentials::FileCaps> Credentials::parse_file_caps(std::string_view x) {
  uint32_t w[6] = {};
  if (x.size() < sizeof w[0]) return kEINVAL;
  memcpy(w, x.data(), std::min(x.size(), sizeof w));
  FileCaps f;
  f.effective = w[0] & VFS_CAP_FLAGS_EFFECTIVE;
  switch (w[0] & VFS_CAP_REVISION_MASK) {
    case VFS_CAP_REVISION_1:
      if (x.size() != XATTR_CAPS_SZ_1) return kEINVAL;
      f.permitted = w[1], f.inheritable = w[2];
      break;
    case VFS_CAP_REVISION_3:
      if (x.size() != XATTR_CAPS_SZ_3) return kEINVAL;
      f.root = w[5];
      [[fallthrough]];
    case VFS_CAP_REVISION_2:
      if (x.size() != XATTR_CAPS_SZ_2 && x.size() != XATTR_CAPS_SZ_3) return kEINVAL;
      f.permitted = w[1] | static_cast<uint64_t>(w[3]) << 32;
      f.inheritable = w[2] | static_cast<uint64_t>(w[4]) << 32;
      break;
    default:
      return kEINVAL;
  }
  f.permitted &= kAllCaps;
  f.inheritable &= kAllCaps;
  return f;
}

// Linux: cap_bprm_creds_from_file().
Result<void> Credentials::apply_exec(const FileCaps* file) {
  const uint64_t old_permitted = cap_permitted;
  uint64_t permitted = 0;
  bool effective = false;
  if (file) {
    permitted = (cap_bounding & file->permitted) | (cap_inheritable & file->inheritable);
    effective = file->effective;
    if (effective && (file->permitted & ~permitted)) return kEPERM;
  }
  const uint32_t root = root_uid();
  const bool is_root = uid == root && root != kNoId, acts_as_root = euid == root && root != kNoId;
  const bool setuid_root_with_caps = file && !is_root && acts_as_root;
  if (!(securebits & SECBIT_NOROOT) && !setuid_root_with_caps) {
    if (acts_as_root || is_root) permitted = cap_bounding | cap_inheritable;
    if (acts_as_root) effective = true;
  }
  const bool is_setid = euid != uid || egid != gid;
  if (no_new_privs && (is_setid || (permitted & ~old_permitted))) {
    euid = uid;
    egid = gid;
    permitted &= old_permitted;
  }
  suid = fsuid = euid;
  sgid = fsgid = egid;
  if (file || is_setid) cap_ambient = 0;
  permitted |= cap_ambient;
  cap_permitted = permitted;
  cap_effective = effective ? permitted : cap_ambient;
  securebits &= ~static_cast<uint32_t>(SECBIT_KEEP_CAPS);
  return {};
}

// Linux: cap_emulate_setxuid().
void Credentials::fix_caps_after_setuid(uint32_t old_uid, uint32_t old_euid, uint32_t old_suid) {
  if (securebits & SECBIT_NO_SETUID_FIXUP) return;
  const uint32_t root = root_uid();
  if (root == kNoId) return;
  bool was_root = old_uid == root || old_euid == root || old_suid == root;
  if (was_root && uid != root && euid != root && suid != root) {
    if (!(securebits & SECBIT_KEEP_CAPS)) cap_permitted = cap_effective = 0;
    cap_ambient = 0;
  }
  if (old_euid == root && euid != root) cap_effective = 0;
  if (old_euid != root && euid == root) cap_effective = cap_permitted;
}

void Credentials::fix_caps_after_setfsuid(uint32_t old_fsuid) {
  if (securebits & SECBIT_NO_SETUID_FIXUP) return;
  const uint32_t root = root_uid();
  if (root == kNoId) return;
  if (old_fsuid == root && fsuid != root) cap_effective &= ~kFsCaps;
  if (old_fsuid != root && fsuid == root) cap_effective |= kFsCaps & cap_permitted;
}

}  // namespace sentry::auth
