// SPDX-License-Identifier: Apache-2.0
// The tree of mounts as the room's own files work on it: mount.cc (who may do what), propagation.cc (whom it reaches), mount_text.cc.
#pragma once

#include <sys/mount.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "sentry/vfs/dentry_access.h"

namespace sentry::vfs {

// Guards the shape of all trees and all groups. Linux: mount_lock, namespace_sem.
inline constinit Mutex g_tree{LockRank::kMountTree};
inline constexpr size_t kMaxMounts = 100000;  // Linux: fs.mount-max; here also of all detached trees together
inline std::atomic<size_t> g_detached{0};     // mounts in trees that hang nowhere
inline constexpr uint64_t kAtimeFlags = MS_NOATIME | MS_NODIRATIME | MS_RELATIME;

// Mounts that tell one another what is mounted on them and unmounted; their slaves are told too, and tell nobody. Linux: the rings mnt_share and
// mnt_slave_list. One without peers is outside: the host's. Held by: its peers and slaves.
class PeerGroup : public RefCounted<PeerGroup> {
 public:
  PeerGroup();
  ~PeerGroup();
  const int id;  // the smallest that is free
  std::map<int, Mount*> peers, slaves;  // by their ids; a slave may be a peer of another group, then all of that are
};

struct MountNamespace::Impl {
  RefOrNull<Mount> root;
  size_t count = 0;
  bool anonymous = false;  // a detached tree
  size_t detached = 0;     // what it adds to g_detached
  void add_detached() {
    detached++;
    g_detached.fetch_add(1);
  }
  void forget_one() {
    if (anonymous) {
      detached--;
      g_detached.fetch_sub(1);
    } else {
      count--;
    }
  }
  void forget_detached() { g_detached.fetch_sub(std::exchange(detached, 0)); }
};

// The tree's operations; the lock is held, and what may be the last reference is handed out to die after it.
struct MountTree {
  static Mount* child(Mount& m, const Dentry* d) {
    auto it = m.children_.find(d);
    return it == m.children_.end() ? nullptr : it->second.get();
  }
  static void attach(const Ref<Mount>& m, Mount& parent, Dentry& point) {
    PlaceChange change;
    parent.children_.emplace(&point, m);
    point.mounted_here.fetch_add(1);
    m->parent_ = Ref<Mount>(parent);
    m->mountpoint_ = Ref<Dentry>(point);
  }
  struct Detached {
    RefOrNull<Mount> self, parent;
    RefOrNull<Dentry> point;
  };
  static Detached detach(Mount& m) {
    PlaceChange change;
    Detached d{Ref<Mount>(m), std::move(m.parent_), std::move(m.mountpoint_)};
    m.parent_ = nullptr;
    m.mountpoint_ = nullptr;
    if (d.parent) {
      auto it = d.parent->children_.find(d.point.get());
      CHECK(it != d.parent->children_.end());
      d.parent->children_.erase(it);  // d.self keeps it
      d.point->mounted_here.fetch_sub(1);
    }
    return d;
  }
  // Every mount below and including m, parents first.
  static void collect(Mount& m, std::vector<Ref<Mount>>* out) {
    size_t next = out->size();
    out->push_back(Ref<Mount>(m));
    for (; next < out->size(); next++) {
      Ref<Mount> cur = (*out)[next];
      const auto first = static_cast<ptrdiff_t>(out->size());
      for (auto& [point, c] : cur->children_) out->push_back(c);
      std::sort(out->begin() + first, out->end(), [](const Ref<Mount>& a, const Ref<Mount>& b) { return a->id() < b->id(); });
    }
  }
  static bool below(const Mount& m, const Mount& top) {
    for (const Mount* p = &m; p; p = p->parent_.get())
      if (p == &top) return true;
    return false;
  }
  // Whether `p` lies at or below `top` in the tree of names. Linux: is_path_reachable.
  static bool reachable(const Path& p, const Path& top) {
    const Mount* m = p.mount.get();
    const Dentry* d = p.dentry.get();
    while (m && m != top.mount.get()) {
      if (!m->parent_) return false;
      d = m->mountpoint_.get();
      m = m->parent_.get();
    }
    return m && top.dentry->contains(*d);
  }
  static Path topmost(Path p) {
    while (p.dentry->mounted_here.load() > 0) {
      Mount* m = child(*p.mount, p.dentry.get());
      if (!m) break;
      p = Path{Ref<Mount>(*m), m->root_};
    }
    return p;
  }
  // Linux: has_locked_children().
  static bool has_locked_children(const Mount& m, const Dentry& below) {
    for (auto& [point, c] : m.children_)
      if (c->locked_ && below.contains(*point)) return true;
    return false;
  }
  // For a namespace with less privileges than the one it comes from; place: also what it covers stays covered. Linux: lock_mnt_tree().
  static void lock(Mount& m, bool place);

  // ---- propagation.cc ----
  struct Reach;
  // What a copy is to its original. Linux: clone_mnt() with no flag, CL_SLAVE, CL_SLAVE | CL_MAKE_SHARED.
  enum class Kin : uint8_t { same, slave, sharing_slave };
  static Ref<Mount> clone(Mount& m, const Ref<Dentry>& root, Kin kin);
  static Ref<Mount> clone_all(Mount& top, Kin kin);
  static void share(Mount& m);
  // MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE.
  static void change_type(Mount& m, uint64_t type);
  static void set_master(Mount& m, RefOrNull<PeerGroup> master);
  static void join(Mount& m, const Ref<PeerGroup>& group);
  static const PeerGroup* master_of(const PeerGroup& g) { return g.peers.empty() ? nullptr : g.peers.begin()->second->master_.get(); }
  static bool has_unbindable(Mount& top);
  static bool locked(const Mount& m) { return m.locked_; }
  // Copies of a tree for all that `point` reaches. Between the two the caller attaches the original.
  struct Copy {
    Ref<Mount> top;
    Ref<Mount> parent;
  };
  static Result<std::vector<Copy>> copies_for(const MountNamespace& by, Mount& source, size_t more, const Path& point);
  static void attach_copies(const MountNamespace& by, const std::vector<Copy>& copies, Dentry& point, std::vector<Detached>* cut);
  // Whether one of those that go with m is in use. Linux: propagate_mount_busy().
  static bool busy(Mount& m, uint32_t held);
  // Takes m out with all below it, and what it reaches elsewhere.
  static void unmount(Mount& m, std::vector<Detached>* cut);

  static RefOrNull<Mount> parent(const Mount& m) { return m.parent_; }
  static RefOrNull<Dentry> mountpoint(const Mount& m) { return m.mountpoint_; }
  static const MountNamespace* ns(const Mount& m) { return m.ns_; }
  static void set_ns(Mount& m, const MountNamespace* ns) { m.ns_ = ns; }
  // Out of the tree, its namespace and its group.
  static Detached take_out(Mount& m) {
    if (m.ns_) m.ns_->impl_->forget_one();
    m.ns_ = nullptr;
    change_type(m, MS_PRIVATE);
    return detach(m);
  }
  static bool mark_expired(Mount& m) { return std::exchange(m.expiry_mark_, true); }
  static size_t children(const Mount& m) { return m.children_.size(); }
};


}  // namespace sentry::vfs
