// SPDX-License-Identifier: Apache-2.0
// Whom a mount reaches: groups of peers, their slaves, and what comes and goes with a mount elsewhere. Linux: fs/pnode.c,
// Documentation/filesystems/sharedsubtree.rst. All with the tree's lock held.
#include <sys/mount.h>

#include "sentry/vfs/mount_tree.h"

namespace sentry::vfs {
namespace {

// Numbers of groups. Linux: mnt_group_ida.
struct Numbers {
  int next = 1;
  std::set<int> free;
};
Numbers& numbers() {
  static auto* all = new Numbers;
  return *all;
}
int take_number() {
  Numbers& n = numbers();
  if (n.free.empty()) return n.next++;
  return n.free.extract(n.free.begin()).value();
}

}  // namespace

PeerGroup::PeerGroup() : id(take_number()) {}
PeerGroup::~PeerGroup() { numbers().free.insert(id); }

void MountTree::lock(Mount& m, bool place) {
  constexpr uint64_t kStay = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  m.locked_flags_ = m.locked_flags() | kAtimeFlags | (m.flags() & kStay);
  if (place) m.locked_ = true;
}

void MountTree::set_master(Mount& m, RefOrNull<PeerGroup> master) {
  if (m.master_) m.master_->slaves.erase(m.id_);
  if (master) master->slaves.emplace(m.id_, &m);
  m.master_ = std::move(master);
}

void MountTree::join(Mount& m, const Ref<PeerGroup>& group) {
  group->peers.emplace(m.id_, &m);
  m.group_ = group;
}

void MountTree::share(Mount& m) {
  if (!m.group_) join(m, adopt_ref(new PeerGroup));
}

// Linux: change_mnt_propagation(). Only who shares has slaves.
void MountTree::change_type(Mount& m, uint64_t type) {
  if (type == MS_SHARED) {
    share(m);
    m.unbindable_ = false;
    return;
  }
  RefOrNull<PeerGroup> master = m.master_;
  if (RefOrNull<PeerGroup> left = std::exchange(m.group_, nullptr)) {
    left->peers.erase(m.id_);
    if (!left->peers.empty()) {
      master = left;
    } else {
      // The last of its group: its slaves hear of whom it heard of.
      while (!left->slaves.empty()) set_master(*left->slaves.begin()->second, master);
    }
  }
  set_master(m, type == MS_SLAVE ? master : nullptr);
  if (type != MS_SLAVE) m.unbindable_ = type == MS_UNBINDABLE;
}

bool MountTree::has_unbindable(Mount& top) {
  std::vector<Ref<Mount>> all;
  collect(top, &all);
  return std::any_of(all.begin(), all.end(), [](const Ref<Mount>& m) { return m->unbindable_; });
}

Ref<Mount> MountTree::clone(Mount& m, const Ref<Dentry>& root, Kin kin) {
  Ref<Mount> c = adopt_ref(new Mount(m.fs_, root, m.flags(), m.source_));
  c->locked_flags_ = m.locked_flags();
  if (kin == Kin::same && m.group_) join(*c, m.group_.get_ref());
  set_master(*c, kin == Kin::same || !m.group_ ? m.master_ : m.group_);
  if (kin == Kin::sharing_slave) share(*c);
  return c;
}

Ref<Mount> MountTree::clone_all(Mount& top, Kin kin) {
  std::vector<Ref<Mount>> all;
  std::map<const Mount*, Ref<Mount>> copies;
  collect(top, &all);
  for (auto& m : all) {
    Ref<Mount> c = clone(*m, m->root_, kin);
    if (m.get() != &top) {
      c->locked_ = m->locked_;
      attach(c, *copies.find(m->parent_.get())->second, *m->mountpoint_);
    }
    copies.emplace(m.get(), c);
  }
  return copies.find(&top)->second;
}

namespace {

// The peers of one group, or one slave that does not share.
struct Hearers {
  PeerGroup* group;
  size_t above;  // the index of their master
  std::vector<Mount*> mounts;
};

}  // namespace

struct MountTree::Reach {
  // Whom a change on one of a group is told: first its peers (`but` one), then slaves, each after its master.
  static std::vector<Hearers> of(PeerGroup* group, const Mount* but) {
    std::vector<Hearers> out;
    if (!group) return out;
    auto add = [&](PeerGroup& g, size_t above) {
      out.push_back({&g, above, {}});
      for (auto& [id, peer] : g.peers)
        if (peer != but) out.back().mounts.push_back(peer);
    };
    add(*group, 0);
    for (size_t i = 0; i < out.size(); i++) {
      if (!out[i].group) continue;
      std::set<const PeerGroup*> seen;
      for (auto& [id, slave] : out[i].group->slaves) {
        if (!slave->group_) out.push_back({nullptr, i, {slave}});
        else if (seen.insert(slave->group_.get()).second) add(*slave->group_, i);
      }
    }
    return out;
  }

  // What is mounted at m's place on those.
  static std::vector<Mount*> same_place(const Mount& m) {
    std::vector<Mount*> out;
    if (!m.parent_) return out;
    for (const Hearers& h : of(m.parent_->group_.get(), m.parent_.get()))
      for (Mount* on : h.mounts)
        if (Mount* c = child(*on, m.mountpoint_.get())) out.push_back(c);
    return out;
  }

  // The same of many that go together.
  static std::vector<Mount*> same_places(const std::vector<Ref<Mount>>& all) {
    std::map<PeerGroup*, std::set<const Dentry*>> places;
    for (auto& m : all)
      if (m->parent_ && m->parent_->group_) places[m->parent_->group_.get()].insert(m->mountpoint_.get());
    std::vector<Mount*> out;
    for (auto& [group, points] : places) {
      for (const Hearers& h : of(group, nullptr)) {
        for (Mount* on : h.mounts) {
          // Whichever is shorter: a tree of many mounts may have many peers.
          if (points.size() > on->children_.size()) {
            for (auto& [point, c] : on->children_)
              if (points.count(point)) out.push_back(c.get());
            continue;
          }
          for (const Dentry* point : points)
            if (Mount* c = child(*on, point)) out.push_back(c);
        }
      }
    }
    return out;
  }

  static bool overmounts(const Mount& m) { return m.mountpoint_.get() == m.parent_->root_.get(); }

  // Of what could go those that may: nothing that stays may change its place by it, and nothing that is locked lose its cover. What lies over the
  // root of one that goes stays, in its place. Linux: Documentation/filesystems/propagate_umount.txt.
  static void keep_what_may_not_go(std::vector<Mount*> check, std::set<Mount*>* going) {
    auto stays = [&](Mount& m) {
      going->erase(&m);
      if (m.parent_) check.push_back(m.parent_.get());
      for (auto& [point, c] : m.children_) check.push_back(c.get());
    };
    while (!check.empty()) {
      Mount* m = check.back();
      check.pop_back();
      if (!going->count(m)) continue;
      bool may_go = !m->locked_ || going->count(m->parent_.get());
      bool carries = false;
      for (auto& [point, c] : m->children_) {
        if (going->count(c.get())) continue;
        carries = true;
        if (!overmounts(*c)) {
          may_go = false;
          break;
        }
      }
      if (!may_go) {
        stays(*m);
        continue;
      }
      // What it carries takes its place, so that has to be there.
      for (Mount *at = m, *up = m->parent_.get(); carries && up && going->count(up); at = up, up = up->parent_.get())
        if (!overmounts(*at)) stays(*up);
    }
  }
};

Result<std::vector<MountTree::Copy>> MountTree::copies_for(const MountNamespace& by, Mount& source, size_t more, const Path& point) {
  std::vector<Hearers> all = Reach::of(point.mount->group_.get(), point.mount.get());
  std::vector<Ref<Mount>> tree;
  collect(source, &tree);
  std::map<const MountNamespace*, size_t> growth{{&by, more}};
  size_t total = more;
  for (Hearers& h : all) {
    std::erase_if(h.mounts, [&](Mount* m) { return !m->ns_ || m->ns_->impl_->anonymous || !m->root_->contains(*point.dentry); });
    for (Mount* m : h.mounts) growth[m->ns_] += tree.size();
    total += h.mounts.size() * tree.size();
  }
  if (total > kMaxMounts) return kENOSPC;
  for (auto& [ns, n] : growth)
    if (ns->impl_->count + n > kMaxMounts) return kENOSPC;
  std::vector<Copy> out;
  if (all.empty()) return out;
  for (auto& m : tree) share(*m);
  std::vector<Mount*> original(all.size(), &source);
  for (size_t i = 0; i < all.size(); i++) {
    Mount*& latest = original[i];
    latest = original[all[i].above];
    bool first = i > 0;
    for (Mount* on : all[i].mounts) {
      const Kin kin = !std::exchange(first, false) ? Kin::same : all[i].group ? Kin::sharing_slave : Kin::slave;
      out.push_back({clone_all(*latest, kin), Ref<Mount>(*on)});
      latest = out.back().top.get();
    }
  }
  return out;
}

void MountTree::attach_copies(const MountNamespace& by, const std::vector<Copy>& copies, Dentry& point, std::vector<Detached>* cut) {
  for (const Copy& c : copies) {
    std::vector<Ref<Mount>> tree;
    collect(*c.top, &tree);
    const MountNamespace* ns = c.parent->ns_;
    for (auto& m : tree) {
      set_ns(*m, ns);
      if (ns->user_ns_.get() != by.user_ns_.get()) lock(*m, m.get() != c.top.get());
    }
    ns->impl_->count += tree.size();
    // What is there already lies over it.
    RefOrNull<Mount> over;
    if (Mount* there = child(*c.parent, &point)) {
      over = Ref<Mount>(*there);
      cut->push_back(detach(*there));
    }
    attach(c.top, *c.parent, point);
    if (!over) continue;
    Path top = topmost(Path{c.top, c.top->root_});
    attach(over.get_ref(), *top.mount, *top.dentry);
  }
}

bool MountTree::busy(Mount& m, uint32_t held) {
  if (!m.children_.empty() || m.ref_count() > held) return true;
  for (Mount* c : Reach::same_place(m)) {
    uint32_t own = 1;
    if (!c->children_.empty()) {
      if (c->children_.size() > 1 || !child(*c, c->root_.get())) continue;  // it would stay
      own++;
    }
    if (c->ref_count() > own) return true;
  }
  return false;
}

void MountTree::unmount(Mount& top, std::vector<Detached>* cut) {
  std::vector<Ref<Mount>> order;
  collect(top, &order);
  std::set<Mount*> going;
  for (auto& m : order) going.insert(m.get());
  // Whoever may take away the one may take away those that came with it.
  for (Mount* c : Reach::same_place(top)) c->locked_ = false;
  std::vector<Mount*> elsewhere;
  for (Mount* c : Reach::same_places(order)) {
    if (!going.insert(c).second) continue;
    elsewhere.push_back(c);
    order.push_back(Ref<Mount>(*c));
  }
  Reach::keep_what_may_not_go(elsewhere, &going);
  struct Moved {
    Ref<Mount> mount;
    Ref<Mount> parent;
    Ref<Dentry> point;
  };
  std::vector<Moved> moved;
  for (Mount* m : going) {
    Mount* over = child(*m, m->root_.get());
    if (!over || going.count(over)) continue;
    Mount *at = m, *up = m->parent_.get();
    while (going.count(up)) at = up, up = up->parent_.get();
    moved.push_back({Ref<Mount>(*over), Ref<Mount>(*up), at->mountpoint_.get_ref()});
  }
  for (auto& m : moved) cut->push_back(detach(*m.mount));
  for (auto& m : order)
    if (going.count(m.get())) cut->push_back(take_out(*m));
  for (auto& m : moved) attach(m.mount, *m.parent, *m.point);
  for (auto& m : order) cut->push_back({m, nullptr, nullptr});  // none of them may die here
}

}  // namespace sentry::vfs
