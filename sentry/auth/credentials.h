// SPDX-License-Identifier: Apache-2.0
// Who a task is: ids, groups, capabilities. Linux: include/linux/cred.h. Immutable once published: a change makes a
// copy and swaps it in, so that a File may keep the credentials it was opened with.
#pragma once

#include <linux/capability.h>

#include <cstdint>
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
  // exec: new capability sets from the file's (file_permitted etc. are 0 without file capabilities) as
  // security/commoncap.c computes them; setuid/setgid bits applied by the caller before.
  void apply_exec(bool setuid_root, uint64_t file_permitted, uint64_t file_inheritable, bool file_effective);
  // After a change of uids (setuid family): security/commoncap.c cap_emulate_setxuid.
  void fix_caps_after_setuid(uint32_t old_uid, uint32_t old_euid, uint32_t old_suid);

 private:
  friend class RefCounted<Credentials>;
  ~Credentials() = default;
};

}  // namespace sentry::auth
