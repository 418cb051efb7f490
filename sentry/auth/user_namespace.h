// SPDX-License-Identifier: Apache-2.0
// User namespaces: maps of ids, and who owns what. Ids everywhere in the sentry are those of the first user namespace; they are
// translated where programs hand them in and get them back. A null pointer stands for the first one, which maps every id to itself.
// Linux: kernel/user_namespace.c, kernel/ucount.c, include/linux/uidgid.h.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "sentry/base.h"

namespace sentry::auth {

class Credentials;

inline constexpr uint32_t kNoId = ~0u;           // of no user
inline constexpr uint32_t kOverflowId = 65534;   // shown for ids without a name in a namespace
inline constexpr int kMaxUserLevel = 32;

struct IdExtent {
  uint32_t inside = 0, outside = 0, count = 0;  // outside: of the first user namespace, once it is in force
};

// Extents do not overlap, on either side.
class IdMap {
 public:
  explicit IdMap(std::vector<IdExtent> extents) : extents_(std::move(extents)) {}
  uint32_t to_kernel(uint32_t id) const;
  uint32_t from_kernel(uint32_t id) const;
  const std::vector<IdExtent>& extents() const { return extents_; }

 private:
  const std::vector<IdExtent> extents_;
};

enum class NamespaceKind : uint8_t { cgroup, ipc, mnt, net, pid, time, user, uts };
inline constexpr size_t kNamespaceKinds = 8;

// How many namespaces users have made, by kind; max: /proc/sys/user/max_*_namespaces.
struct NamespaceCounts {
  static constexpr int kDefaultMax = 16384;
  std::array<std::atomic<int>, kNamespaceKinds> max;
  Guarded<std::map<std::pair<uint32_t, size_t>, int>> used{LockRank::kFsContext};
  NamespaceCounts();
};

// Held by: credentials, what belongs to it (other namespaces, file systems), its children.
class UserNamespace : public RefCounted<UserNamespace> {
 public:
  enum class Ids : uint8_t { user, group, project };

  // unshare(CLONE_NEWUSER) by somebody with these credentials. ENOSPC: nested too deep, or too many; EPERM: the maker's ids have no
  // name where it is.
  static Result<Ref<UserNamespace>> create(const Credentials& maker);

  const RefOrNull<UserNamespace> parent;  // null: the first one
  const int level;
  const uint32_t owner, group;  // of the maker
  const bool parent_could_setfcap;

  // Null until it is written.
  const IdMap* map(Ids ids) const { return maps_[static_cast<size_t>(ids)].load(std::memory_order_acquire); }
  // EPERM: there is one already.
  Result<void> set_map(Ids ids, std::vector<IdExtent> extents);
  bool setgroups_allowed() const { return setgroups_.load(std::memory_order_acquire); }
  // EPERM: it was denied, or is to be denied after the groups were mapped.
  Result<void> allow_setgroups(bool allow);
  NamespaceCounts& counts() { return counts_; }

 private:
  friend class RefCounted<UserNamespace>;
  struct Charge;
  UserNamespace(const Credentials& maker, std::unique_ptr<Charge> charge);
  ~UserNamespace();
  Mutex mu_{LockRank::kFsContext};
  std::array<std::atomic<const IdMap*>, 3> maps_{};
  std::atomic<bool> setgroups_{true};
  NamespaceCounts counts_;
  std::unique_ptr<Charge> charge_;
};

// A namespace that is counted while this lives. Linux: inc_ucount(), dec_ucount().
class NamespaceCharge {
 public:
  NamespaceCharge() = default;
  // To a user of `where` and to the owners of all above it. ENOSPC.
  static Result<NamespaceCharge> create(NamespaceKind kind, const RefOrNull<UserNamespace>& where, uint32_t uid);
  NamespaceCharge(NamespaceCharge&& o) noexcept;
  NamespaceCharge& operator=(NamespaceCharge&& o) noexcept;
  ~NamespaceCharge() { drop(); }

 private:
  void drop();
  bool counted_ = false;
  NamespaceKind kind_ = NamespaceKind::user;
  RefOrNull<UserNamespace> where_;
  uint32_t uid_ = 0;
};

NamespaceCounts& counts_of(UserNamespace* ns);

// Ids as a namespace's programs say them, to the kernel's: kNoId when they have no meaning there. Linux: make_kuid().
uint32_t kernel_uid(const UserNamespace* ns, uint32_t uid);
uint32_t kernel_gid(const UserNamespace* ns, uint32_t gid);
// And back: kNoId. Linux: from_kuid().
uint32_t uid_in(const UserNamespace* ns, uint32_t kernel_id);
uint32_t gid_in(const UserNamespace* ns, uint32_t kernel_id);
// And back for those who must be told something. Linux: from_kuid_munged().
uint32_t shown_uid(const UserNamespace* ns, uint32_t kernel_id);
uint32_t shown_gid(const UserNamespace* ns, uint32_t kernel_id);
// Whether ns is `top` or lies below it. Linux: in_userns().
bool lies_in(const UserNamespace* ns, const UserNamespace* top);

}  // namespace sentry::auth
