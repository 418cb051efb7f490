// SPDX-License-Identifier: Apache-2.0
// What the three kinds of System V objects share: keys, identifiers, owners, permissions. Linux: ipc/util.c.
#pragma once

#include <sys/ipc.h>

#include <utility>

#include "sentry/kernel/ipc.h"

namespace sentry::kernel {

// struct ipc64_perm of amd64.
struct IpcPermAbi {
  int32_t key;
  uint32_t uid, gid, cuid, cgid;
  uint16_t mode, pad1, seq, pad2;
  uint32_t pad3;
  uint64_t unused[2];
};
static_assert(sizeof(IpcPermAbi) == 48);

struct IpcOwner {
  int32_t key = 0;
  uint32_t uid = 0, gid = 0, cuid = 0, cgid = 0, mode = 0;
  int id = 0;

  void created_by(const auth::Credentials& c, int32_t k, uint32_t m) {
    key = k;
    uid = cuid = c.euid;
    gid = cgid = c.egid;
    mode = m & 0777;
  }
  // want: rwx bits. Linux: ipcperms().
  bool permits(const auth::Credentials& c, uint32_t want) const {
    uint32_t granted = mode;
    want = (want >> 6 | want >> 3 | want) & 7;
    if (c.euid == cuid || c.euid == uid) granted >>= 6;
    else if (c.egid == cgid || c.egid == gid || in_groups(c)) granted >>= 3;
    return !(want & ~granted & 7) || ipc_capable(c, CAP_IPC_OWNER);
  }
  // IPC_SET, IPC_RMID.
  bool owned_by(const auth::Credentials& c) const {
    return c.euid == cuid || c.euid == uid || ipc_capable(c, CAP_SYS_ADMIN);
  }
  // EINVAL: ids that mean nobody to the caller.
  Result<void> set(const IpcPermAbi& p, const auth::Credentials& c) {
    const uint32_t u = auth::kernel_uid(c.user_ns.get(), p.uid), g = auth::kernel_gid(c.user_ns.get(), p.gid);
    if (c.user_ns && (u == auth::kNoId || g == auth::kNoId)) return kEINVAL;
    uid = u;
    gid = g;
    mode = (mode & ~0777u) | (p.mode & 0777);
    return {};
  }
  IpcPermAbi abi(const auth::Credentials& c) const {
    const auth::UserNamespace* ns = c.user_ns.get();
    return {key, auth::shown_uid(ns, uid), auth::shown_gid(ns, gid), auth::shown_uid(ns, cuid), auth::shown_gid(ns, cgid), static_cast<uint16_t>(mode), 0, static_cast<uint16_t>(id / 32768), 0, 0, {}};
  }

 private:
  bool in_groups(const auth::Credentials& c) const {
    for (uint32_t g : c.groups)
      if (g == cgid || g == gid) return true;
    return false;
  }
};

// Objects of one kind by identifier: index + 32768 * sequence, so that a number is not soon used again. Not locked by itself.
template <typename T>
class IpcIds {
 public:
  // By key, as the get calls do. size_ok(object) is asked for an existing one. ENOSPC when `limit` exist.
  template <typename Fits, typename Make>
  Result<int> get(int32_t key, int flags, const auth::Credentials& c, size_t limit, Fits&& fits, Make&& make) {
    if (key != IPC_PRIVATE) {
      for (auto& [index, object] : objects_) {
        if (object->owner.key != key || object->removed) continue;
        if ((flags & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL)) return kEEXIST;
        TRY(fits(*object));
        if (!object->owner.permits(c, static_cast<uint32_t>(flags) & 0777)) return kEACCES;
        return object->owner.id;
      }
      if (!(flags & IPC_CREAT)) return kENOENT;
    }
    Ref<T> made = TRY(make());
    if (objects_.size() >= limit) return kENOSPC;
    // The lowest index, as Linux gives them; the sequence makes the number a new one.
    int index = 0;
    while (objects_.contains(index)) index++;
    if (std::exchange(freed_, false)) sequence_ = (sequence_ + 1) % 65535;
    made->owner.created_by(c, key, static_cast<uint32_t>(flags));
    made->owner.id = index + kMaxIndex * sequence_;
    objects_.emplace(index, made);
    return made->owner.id;
  }
  // EINVAL: there is none; EIDRM: the index is another's by now.
  Result<Ref<T>> find(int id) const {
    if (id < 0) return kEINVAL;
    auto it = objects_.find(id % kMaxIndex);
    if (it == objects_.end()) return kEINVAL;
    if (it->second->owner.id != id) return kEIDRM;
    return it->second;
  }
  Result<Ref<T>> find_index(int index) const {
    auto it = objects_.find(index);
    if (it == objects_.end()) return kEINVAL;
    return it->second;
  }
  // The caller keeps a reference.
  void remove(int id) {
    auto it = objects_.find(id % kMaxIndex);
    if (it == objects_.end() || it->second->owner.id != id) return;
    objects_.erase(it);
    freed_ = true;
  }
  int highest() const { return objects_.empty() ? 0 : objects_.rbegin()->first; }
  size_t size() const { return objects_.size(); }
  std::vector<Ref<T>> all() const {
    std::vector<Ref<T>> v;
    for (auto& [index, o] : objects_) v.push_back(o);
    return v;
  }

 private:
  static constexpr int kMaxIndex = 32768;
  std::map<int, Ref<T>> objects_;
  int sequence_ = 0;
  bool freed_ = false;
};

inline int64_t ipc_now() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec;
}

}  // namespace sentry::kernel
