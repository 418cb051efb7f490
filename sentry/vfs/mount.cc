// SPDX-License-Identifier: Apache-2.0
// Mounts and mount namespaces. One lock guards the shape of all trees (Linux: mount_lock, namespace_sem); a parent owns its
// children, a child keeps its parent, and unmounting cuts both. Every mount is private: there is no propagation.
#include <sys/mount.h>

#include "sentry/vfs/dentry_access.h"

namespace sentry::vfs {
namespace {

constinit Mutex g_tree{LockRank::kMountTree};
std::atomic<int> g_next_mount_id{20};
constexpr size_t kMaxMounts = 100000;  // Linux: fs.mount-max; here also of all detached trees together
std::atomic<size_t> g_detached{0};     // mounts in trees that hang nowhere
constexpr uint64_t kAtimeFlags = MS_NOATIME | MS_NODIRATIME | MS_RELATIME;

// Directories of proc and sysfs that are only there to be mounted on. Linux: is_empty_dir_inode().
bool covers_nothing(const Dentry& d) {
  RefOrNull<Inode> i = d.inode();
  if (!i || !i->is_directory()) return false;
  const std::string path = dentry_text(d);
  return path == "/fs/cgroup" || path == "/sys/fs/binfmt_misc" || path == "/fs/pstore" || path == "/fs/bpf" || path == "/fs/fuse/connections" ||
         path == "/kernel/debug" || path == "/kernel/tracing" || path == "/kernel/config" || path == "/kernel/security";
}

}  // namespace

Mount::Mount(Ref<FileSystem> fs, Ref<Dentry> root, uint64_t flags, std::string source)
    : fs_(std::move(fs)), root_(std::move(root)), flags_(flags), id_(g_next_mount_id.fetch_add(1)),
      source_(std::move(source)) {
  DentryAccess::mount_added(*fs_);
}

Mount::~Mount() { DentryAccess::mount_gone(*fs_); }

struct MountNamespace::Impl {
  RefOrNull<Mount> root;
  size_t count = 0;
  bool anonymous = false;  // a detached tree
  size_t detached = 0;     // what it adds to g_detached
  void add_detached() {
    detached++;
    g_detached.fetch_add(1);
  }
  void forget_detached() { g_detached.fetch_sub(std::exchange(detached, 0)); }
};

// The tree's operations; the lock is held, and what may be the last reference is handed out to die after it.
struct MountTree {
  using Dying = std::vector<Ref<Mount>>;

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
      for (auto& [point, c] : cur->children_) out->push_back(c);
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
  static RefOrNull<Mount> parent(const Mount& m) { return m.parent_; }
  static RefOrNull<Dentry> mountpoint(const Mount& m) { return m.mountpoint_; }
  static const MountNamespace* ns(const Mount& m) { return m.ns_; }
  static void set_ns(Mount& m, const MountNamespace* ns) { m.ns_ = ns; }
  static bool mark_expired(Mount& m) { return std::exchange(m.expiry_mark_, true); }
  static size_t children(const Mount& m) { return m.children_.size(); }
};

MountNamespace::MountNamespace() : impl_(std::make_unique<Impl>()) {}

MountNamespace::~MountNamespace() {
  std::vector<Ref<Mount>> all;
  std::vector<MountTree::Detached> cut;
  {
    MutexLock l(g_tree);
    impl_->forget_detached();
    if (impl_->root) MountTree::collect(*impl_->root, &all);
    for (auto& m : all) {
      cut.push_back(MountTree::detach(*m));
      MountTree::set_ns(*m, nullptr);
    }
  }
}

Ref<MountNamespace> MountNamespace::create(Ref<FileSystem> root, uint64_t flags, std::string source) {
  Ref<MountNamespace> ns = adopt_ref(new MountNamespace);
  Ref<Dentry> top = DentryAccess::root_of(*root);
  ns->impl_->root = adopt_ref(new Mount(std::move(root), std::move(top), flags, std::move(source)));
  ns->impl_->root->ns_ = ns.get();
  ns->impl_->count = 1;
  return ns;
}

Path MountNamespace::root() const {
  MutexLock l(g_tree);
  return Path{impl_->root, impl_->root->root_};
}

Result<Ref<Mount>> MountNamespace::mount(Ref<FileSystem> fs, const Path& at, uint64_t flags, std::string source,
                                         RefOrNull<Dentry> subdir) {
  Ref<Dentry> top = subdir ? subdir.get_ref() : DentryAccess::root_of(*fs);
  RefOrNull<Inode> what = top->inode(), where = at.inode();
  if (!what || !where) return kENOENT;
  if (what->is_directory() != where->is_directory()) return kENOTDIR;
  Ref<Mount> m = adopt_ref(new Mount(std::move(fs), std::move(top), flags, std::move(source)));
  Path keep = at;
  MutexLock l(g_tree);
  if (!at.mount || MountTree::ns(*at.mount) != this) return kEINVAL;
  if (impl_->count >= kMaxMounts) return kENOSPC;
  Path point = MountTree::topmost(keep);
  if (point.dentry->is_unlinked()) return kENOENT;
  MountTree::attach(m, *point.mount, *point.dentry);
  m->ns_ = this;
  impl_->count++;
  return m;
}

Result<Ref<MountNamespace>> MountNamespace::clone_tree(const Path& from, bool recursive) const {
  if (!from.mount || !from.dentry) return kEINVAL;
  Ref<MountNamespace> tree = adopt_ref(new MountNamespace);
  std::vector<Ref<Mount>> all;
  std::map<const Mount*, Ref<Mount>> copies;
  MutexLock l(g_tree);
  if (MountTree::ns(*from.mount) != this) return kEINVAL;
  if (recursive) MountTree::collect(*from.mount, &all);
  else if (MountTree::has_locked_children(*from.mount, *from.dentry)) return kEINVAL;
  else all.push_back(from.mount.get_ref());
  if (g_detached.load() + all.size() > kMaxMounts) return kENOSPC;
  tree->impl_->anonymous = true;
  for (auto& m : all) {
    const bool top = m.get() == from.mount.get();
    RefOrNull<Mount> parent;
    if (!top) {
      auto p = copies.find(m->parent_.get());
      if (p == copies.end()) continue;  // not below `from`
      if (m->parent_.get() == from.mount.get() && !from.dentry->contains(*m->mountpoint_)) continue;
      parent = p->second;
    }
    Ref<Mount> copy = adopt_ref(new Mount(m->fs_, top ? from.dentry.get_ref() : m->root_, m->flags(), m->source_));
    copy->locked_ = !top && m->locked_;
    copy->locked_flags_ = m->locked_flags();
    copy->ns_ = tree.get();
    copies.emplace(m.get(), copy);
    if (top) tree->impl_->root = copy;
    else MountTree::attach(copy, *parent, *m->mountpoint_);
    tree->impl_->add_detached();
  }
  return tree;
}

Ref<MountNamespace> MountNamespace::detached(Ref<FileSystem> fs, uint64_t flags, std::string source) {
  Ref<MountNamespace> tree = create(std::move(fs), flags, std::move(source));
  tree->impl_->anonymous = true;
  tree->impl_->count = 0;
  tree->impl_->add_detached();
  return tree;
}

Result<Ref<Mount>> MountNamespace::bind(const Path& from, const Path& at, bool recursive) {
  RefOrNull<Inode> what = from.inode(), where = at.inode();
  if (!what || !where) return kENOENT;
  if (what->is_directory() != where->is_directory()) return kENOTDIR;
  Ref<MountNamespace> tree = TRY(clone_tree(from, recursive));
  Path top = tree->root();
  TRY(move(top, at));
  return top.mount.get_ref();
}

// Linux: fs/namespace.c do_move_mount().
Result<void> MountNamespace::move(const Path& from, const Path& at) {
  RefOrNull<Inode> what = from.inode(), where = at.inode();
  if (!what || !where) return kENOENT;
  if (what->is_directory() != where->is_directory()) return kEINVAL;
  Path keep = at;
  MountTree::Detached cut;
  std::vector<Ref<Mount>> all;
  RefOrNull<Mount> was_top;
  MutexLock l(g_tree);
  if (!from.mount || !at.mount || MountTree::ns(*at.mount) != this) return kEINVAL;
  const MountNamespace* home = MountTree::ns(*from.mount);
  const bool attached = static_cast<bool>(from.mount->parent_);
  if (attached ? home != this : !home || !home->impl_->anonymous) return kEINVAL;
  if (from.dentry.get() != from.mount->root().get() || from.mount->locked_) return kEINVAL;
  Path point = MountTree::topmost(keep);
  if (MountTree::below(*point.mount, *from.mount)) return kELOOP;
  if (point.dentry->is_unlinked()) return kENOENT;
  if (attached) {
    cut = MountTree::detach(*from.mount);
  } else {
    MountTree::collect(*from.mount, &all);
    if (impl_->count + all.size() > kMaxMounts) return kENOSPC;
    for (auto& m : all) MountTree::set_ns(*m, this);
    impl_->count += all.size();
    home->impl_->forget_detached();
    std::swap(was_top, home->impl_->root);
  }
  MountTree::attach(from.mount.get_ref(), *point.mount, *point.dentry);
  return {};
}

Result<void> MountNamespace::change_flags(const Path& at, bool recursive, uint64_t set, uint64_t clear) {
  constexpr uint64_t kStay = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  // Without a flag, access times are relative.
  auto atime_of = [](uint64_t f) { return (f & MS_NODIRATIME) | (f & MS_NOATIME ? uint64_t{MS_NOATIME} : f & MS_STRICTATIME); };
  std::vector<Ref<Mount>> all;
  MutexLock l(g_tree);
  if (!at.mount || at.dentry.get() != at.mount->root().get()) return kEINVAL;
  const MountNamespace* home = MountTree::ns(*at.mount);
  if (home != this && !(home && home->impl_->anonymous && !at.mount->parent_)) return kEINVAL;
  if (recursive) MountTree::collect(*at.mount, &all);
  else all.push_back(at.mount.get_ref());
  // Linux: can_change_locked_flags().
  for (auto& m : all) {
    const uint64_t next = (m->flags() & ~clear) | set, locked = m->locked_flags();
    if (locked & kStay & ~next) return kEPERM;
    if ((locked & kAtimeFlags) && atime_of(m->flags()) != atime_of(next)) return kEPERM;
  }
  for (auto& m : all) m->set_flags((m->flags() & ~clear) | set);
  return {};
}

Result<void> MountNamespace::unmount(const Path& at, int flags) {
  if ((flags & MNT_EXPIRE) && (flags & (MNT_FORCE | MNT_DETACH))) return kEINVAL;
  std::vector<Ref<Mount>> all;
  std::vector<MountTree::Detached> cut;
  {
    MutexLock l(g_tree);
    if (!at.mount || MountTree::ns(*at.mount) != this || at.dentry.get() != at.mount->root().get()) return kEINVAL;
    if (!at.mount->parent_ || at.mount->locked_) return kEINVAL;
    if (!(flags & MNT_DETACH)) {
      // Linux: propagate_mount_busy. The tree and `at` hold one reference each.
      if (MountTree::children(*at.mount) > 0 || at.mount->ref_count() > 2) return kEBUSY;
      if ((flags & MNT_EXPIRE) && !MountTree::mark_expired(*at.mount)) return kEAGAIN;
    }
    MountTree::collect(*at.mount, &all);
    for (auto& m : all) {
      cut.push_back(MountTree::detach(*m));
      MountTree::set_ns(*m, nullptr);
    }
    impl_->count -= all.size();
  }
  return {};
}

bool MountNamespace::holds(const Mount& m) const {
  MutexLock l(g_tree);
  return MountTree::ns(m) == this;
}

RefOrNull<Mount> MountNamespace::mounted_on(const Path& at) const {
  if (!at.mount) return nullptr;
  MutexLock l(g_tree);
  Mount* m = MountTree::child(*at.mount, at.dentry.get());
  return m ? RefOrNull<Mount>(Ref<Mount>(*m)) : RefOrNull<Mount>();
}

Path MountNamespace::mountpoint_of(const Mount& m) const {
  MutexLock l(g_tree);
  return Path{MountTree::parent(m), MountTree::mountpoint(m)};
}

Ref<MountNamespace> MountNamespace::copy(std::vector<std::pair<Ref<Mount>, Ref<Mount>>>* old_to_new,
                                         RefOrNull<auth::UserNamespace> owner, auth::NamespaceCharge charge) const {
  Ref<MountNamespace> ns = adopt_ref(new MountNamespace);
  const bool less_privileged = owner.get() != user_ns_.get();
  ns->user_ns_ = std::move(owner);
  ns->charge_ = std::move(charge);
  MutexLock l(g_tree);
  std::vector<Ref<Mount>> all;
  MountTree::collect(*impl_->root, &all);
  std::map<const Mount*, Ref<Mount>> copies;
  for (auto& m : all) {
    Ref<Mount> c = adopt_ref(new Mount(m->fs_, m->root_, m->flags(), m->source_));
    c->ns_ = ns.get();
    c->locked_flags_ = m->locked_flags();
    c->locked_ = m->locked_;
    if (less_privileged) {
      // Linux: lock_mnt_tree().
      c->locked_flags_ = m->locked_flags() | kAtimeFlags | (m->flags() & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC));
      c->locked_ = m.get() != impl_->root.get();
    }
    copies.emplace(m.get(), c);
    if (m->parent_ && copies.count(m->parent_.get()))
      MountTree::attach(c, *copies.find(m->parent_.get())->second, *m->mountpoint_);
    else
      ns->impl_->root = c;
    if (old_to_new) old_to_new->emplace_back(m, c);
  }
  ns->impl_->count = all.size();
  return ns;
}

bool MountNamespace::shows_whole(std::string_view type, uint64_t flags) const {
  std::vector<Ref<Mount>> all;
  MutexLock l(g_tree);
  MountTree::collect(*impl_->root, &all);
  for (auto& m : all) {
    if (type != m->fs()->type_name() || m->root().get() != DentryAccess::root_of(*m->fs()).get()) continue;
    if ((m->locked_flags() & MS_RDONLY) && !(flags & MS_RDONLY)) continue;
    bool whole = true;
    // Linux lets what covers an empty directory pass; which are, only their file system knows, and those of proc and sysfs say so.
    for (auto& [point, c] : m->children_) whole = whole && (!c->locked_ || covers_nothing(*point));
    if (whole) return true;
  }
  return false;
}

// Linux: fs/namespace.c path_pivot_root, with the namespace's root as the caller's root.
Result<void> MountNamespace::pivot_root(const Path& new_root, const Path& put_old) {
  RefOrNull<Inode> a = new_root.inode(), b = put_old.inode();
  if (!a || !b) return kENOENT;
  if (!a->is_directory() || !b->is_directory()) return kENOTDIR;
  MountTree::Detached cut;
  RefOrNull<Mount> old_top;
  MutexLock l(g_tree);
  if (!new_root.mount || !put_old.mount || MountTree::ns(*new_root.mount) != this ||
      MountTree::ns(*put_old.mount) != this)
    return kEINVAL;
  if (new_root.mount.get() == impl_->root.get() || put_old.mount.get() == impl_->root.get()) return kEBUSY;
  if (new_root.dentry.get() != new_root.mount->root().get()) return kEINVAL;
  if (new_root.dentry->is_unlinked() || put_old.dentry->is_unlinked()) return kENOENT;
  if (!MountTree::reachable(put_old, new_root) || new_root.mount->locked_) return kEINVAL;
  old_top = impl_->root;
  if (std::exchange(old_top->locked_, false)) new_root.mount->locked_ = true;
  cut = MountTree::detach(*new_root.mount);
  Path point = MountTree::topmost(put_old);
  impl_->root = new_root.mount;
  MountTree::attach(old_top.get_ref(), *point.mount, *point.dentry);
  return {};
}

// ---- Text ----

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
  {
    MutexLock l(g_tree);
    MountTree::collect(*impl_->root, &all);
  }
  for (auto& m : all) {
    TextWalk w;
    Path p{m, m->root()};
    int parent_id = 0;
    {
      MutexLock l(g_tree);
      w.run(p, &root);
      RefOrNull<Mount> up = MountTree::parent(*m);
      parent_id = up ? up->id() : m->id();
    }
    // The mount that the root itself lies in is shown as "/".
    if (!w.reached_root && root.mount.get() == m.get()) w.names.clear();
    else if (!w.reached_root) continue;
    out.push_back(Info{m, parent_id, w.text()});
  }
  return out;
}

}  // namespace sentry::vfs
