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
  c->dumpable = dumpable;
  return c;
}

bool Credentials::in_group(uint32_t g) const {
  return g == fsgid || std::find(groups.begin(), groups.end(), g) != groups.end();
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
      // A root id other than ours belongs to another user namespace: such capabilities do not count here.
      if (w[5] != 0) return FileCaps{};
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
  const bool setuid_root_with_caps = file && uid != 0 && euid == 0;
  if (!(securebits & SECBIT_NOROOT) && !setuid_root_with_caps) {
    if (euid == 0 || uid == 0) permitted = cap_bounding | cap_inheritable;
    if (euid == 0) effective = true;
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
  bool was_root = old_uid == 0 || old_euid == 0 || old_suid == 0;
  if (was_root && uid != 0 && euid != 0 && suid != 0) {
    if (!(securebits & SECBIT_KEEP_CAPS)) cap_permitted = cap_effective = 0;
    cap_ambient = 0;
  }
  if (old_euid == 0 && euid != 0) cap_effective = 0;
  if (old_euid != 0 && euid == 0) cap_effective = cap_permitted;
}

void Credentials::fix_caps_after_setfsuid(uint32_t old_fsuid) {
  if (securebits & SECBIT_NO_SETUID_FIXUP) return;
  if (old_fsuid == 0 && fsuid != 0) cap_effective &= ~kFsCaps;
  if (old_fsuid != 0 && fsuid == 0) cap_effective |= kFsCaps & cap_permitted;
}

}  // namespace sentry::auth
