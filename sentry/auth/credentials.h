// SPDX-License-Identifier: Apache-2.0
// Who a task is: ids, groups, capabilities. Linux: include/linux/cred.h. Immutable once published: a change makes a
// copy and swaps it in, so that a File may keep the credentials it was opened with.
#pragma once

#include <linux/capability.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "sentry/base.h"

namespace sentry::auth {

inline constexpr int kLastCap = CAP_CHECKPOINT_RESTORE;  // 40
inline constexpr uint64_t kAllCaps = (1ull << (kLastCap + 1)) - 1;

// Held by: tasks, open files, sockets (SCM_CREDENTIALS).
class Credentials : public RefCounted<Credentials> {
 public:
  uint32_t uid = 0, euid = 0, suid = 0, fsuid = 0;
  uint32_t gid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<uint32_t> groups;  // supplementary
  uint64_t cap_effective = 0, cap_permitted = 0, cap_inheritable = 0, cap_bounding = 0, cap_ambient = 0;
  uint32_t securebits = 0;
  bool no_new_privs = false;
  bool dumpable = true;

  Credentials() = default;
  Ref<Credentials> copy() const;
  bool has_cap(int cap) const { return (cap_effective >> cap) & 1; }
  bool in_group(uint32_t g) const;  // fsgid or supplementary (in_group_p)
  // Capabilities in the security.capability attribute of a program.
  struct FileCaps {
    uint64_t permitted = 0, inheritable = 0;
    bool effective = false;
  };
  // The attribute's bytes (struct vfs_cap_data, versions 1 to 3). EINVAL when malformed.
  static Result<FileCaps> parse_file_caps(std::string_view xattr);
  // exec: new ids and capability sets as security/commoncap.c computes them. The caller has put the program's setuid and setgid
  // owners into euid and egid before. file is null without file capabilities. EPERM: the file asks for more than may be given.
  Result<void> apply_exec(const FileCaps* file);
  // After a change of uids (setuid family): security/commoncap.c cap_emulate_setxuid.
  void fix_caps_after_setuid(uint32_t old_uid, uint32_t old_euid, uint32_t old_suid);
  void fix_caps_after_setfsuid(uint32_t old_fsuid);

 private:
  friend class RefCounted<Credentials>;
  ~Credentials() = default;
};

}  // namespace sentry::auth
