// SPDX-License-Identifier: Apache-2.0
// Who a task is: ids, groups, capabilities. Linux: include/linux/cred.h. Immutable once published: a change makes a
// copy and swaps it in, so that a File may keep the credentials it was opened with.
#pragma once

#include <linux/capability.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/auth/user_namespace.h"
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
  RefOrNull<UserNamespace> user_ns;  // in which the capabilities count; null: the first

  Credentials() = default;
  Ref<Credentials> copy() const;
  // In the first user namespace: over what belongs to the sandbox as a whole. Linux: capable().
  bool has_cap(int cap) const { return !user_ns && has_own_cap(cap); }
  // In the own one. Linux: ns_capable(current_user_ns()).
  bool has_own_cap(int cap) const { return (cap_effective >> cap) & 1; }
  // Over what belongs to `target`. Linux: ns_capable().
  bool has_cap_in(const UserNamespace* target, int cap) const;
  // Over a file of this owner and group: both must have a name in the own namespace. Linux: capable_wrt_inode_uidgid().
  bool has_cap_over(uint32_t owner, uint32_t group, int cap) const {
    return has_own_cap(cap) && (!user_ns || (uid_in(user_ns.get(), owner) != kNoId && gid_in(user_ns.get(), group) != kNoId));
  }
  // Whether it is the file's owner, or may act as it. Linux: inode_owner_or_capable().
  bool owns_or(uint32_t owner, int cap) const {
    return fsuid == owner || (has_own_cap(cap) && uid_in(user_ns.get(), owner) != kNoId);
  }
  // Whether these are no more than those: their holder could have made them. Linux: cred_cap_issubset().
  bool no_more_than(const Credentials& those) const;
  // What a task has in a user namespace that it has made or joined. Linux: set_cred_user_ns().
  void enter(Ref<UserNamespace> ns);
  // The id that is 0 in its namespace; kNoId.
  uint32_t root_uid() const { return kernel_uid(user_ns.get(), 0); }
  bool in_group(uint32_t g) const;  // fsgid or supplementary (in_group_p)
  // Capabilities in the security.capability attribute of a program.
  struct FileCaps {
    uint64_t permitted = 0, inheritable = 0;
    bool effective = false;
    uint32_t root = 0;  // they count where this id is 0, and below
  };
  // The attribute as it is kept when its holder writes it, and as it is shown to it: the root id follows the namespace. EINVAL;
  // EOVERFLOW: it counts elsewhere. Linux: cap_convert_nscap(), cap_inode_getsecurity().
  Result<std::string> file_caps_to_keep(std::string_view xattr) const;
  Result<std::string> file_caps_to_show(std::string xattr) const;
  // Linux: rootid_owns_currentns().
  bool counts(const FileCaps& f) const;
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
