// SPDX-License-Identifier: Apache-2.0
// Paths and mounts as text: getcwd(2), /proc/PID/mountinfo. Linux: fs/d_path.c, fs/proc_namespace.c.
#include "sentry/vfs/mount_tree.h"

namespace sentry::vfs {
namespace {

// Writes the names from p up to root, or up to the top when root is not met. Dentries seen are kept until the lock is gone: the
// last reference of one must not go under it.
struct TextWalk {
  std::vector<std::string> names;
  std::vector<RefOrNull<Dentry>> keep;
  bool reached_root = false;

  void run(const Path& p, const Path* root) {
    RefOrNull<Mount> m = p.mount;
    RefOrNull<Dentry> d = p.dentry;
    for (;;) {
      keep.push_back(d);
      if (root && m.get() == root->mount.get() && d.get() == root->dentry.get()) {
        reached_root = true;
        return;
      }
      if (m && d.get() == m->root().get()) {
        RefOrNull<Mount> up = MountTree::parent(*m);
        if (!up) return;
        d = MountTree::mountpoint(*m);
        m = up;
        continue;
      }
      RefOrNull<Dentry> parent = d->parent();
      if (!parent) return;
      names.push_back(d->name());
      d = parent;
    }
  }
  std::string text() const {
    std::string out;
    for (auto it = names.rbegin(); it != names.rend(); ++it) {
      out += '/';
      out += *it;
    }
    return out.empty() ? "/" : out;
  }
};

std::string finish(const Path& p, std::string text) {
  return p.dentry->is_unlinked() ? text + " (deleted)" : text;
}

}  // namespace

std::string dentry_text(const Dentry& dentry) {
  TextWalk w;
  w.run(Path{nullptr, Ref<Dentry>(const_cast<Dentry&>(dentry))}, nullptr);
  return w.text();
}

std::string path_text_from_top(const Path& path) {
  if (!path.dentry) return {};
  if (!path.mount) return path.dentry->name();
  TextWalk w;
  {
    MutexLock l(g_tree);
    w.run(path, nullptr);
  }
  return finish(path, w.text());
}

std::string path_text(const MountNamespace&, const Path& path, const Path& root) {
  if (!path.dentry) return {};
  if (!path.mount) return path.dentry->name();
  if (!root) return path_text_from_top(path);
  TextWalk w;
  {
    MutexLock l(g_tree);
    w.run(path, &root);
  }
  std::string text = finish(path, w.text());
  return w.reached_root ? text : "(unreachable)" + text;
}

std::vector<MountNamespace::Info> MountNamespace::list(const Path& root) const {
  std::vector<Ref<Mount>> all;
  std::vector<Info> out;
  std::set<int> seen;  // groups with a peer that is seen from root
  {
    MutexLock l(g_tree);
    MountTree::collect(*impl_->root, &all);
  }
  std::sort(all.begin(), all.end(), [](const Ref<Mount>& a, const Ref<Mount>& b) { return a->id() < b->id(); });
  for (auto& m : all) {
    TextWalk w;
    Path p{m, m->root()};
    Info info{m, 0, {}};
    {
      MutexLock l(g_tree);
      w.run(p, &root);
      RefOrNull<Mount> up = MountTree::parent(*m);
      info.parent_id = up ? up->id() : m->id();
      if (w.reached_root && m->group_) seen.insert(m->group_->id);
    }
    if (!w.reached_root) continue;  // also the mount that the root lies in, unless it is the root of that
    info.mountpoint = w.text();
    out.push_back(std::move(info));
  }
  MutexLock l(g_tree);
  for (Info& i : out) {
    i.shared = i.mount->group_ ? i.mount->group_->id : 0;
    i.master = i.mount->master_ ? i.mount->master_->id : 0;
    i.unbindable = i.mount->unbindable_;
    for (const PeerGroup* g = i.mount->master_.get(); g && !i.from; g = MountTree::master_of(*g))
      if (seen.count(g->id)) i.from = g->id;
  }
  return out;
}

}  // namespace sentry::vfs
