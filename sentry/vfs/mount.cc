// SPDX-License-Identifier: Apache-2.0
// Mounts and mount namespaces. One lock guards the shape of all trees (Linux: mount_lock, namespace_sem); a parent owns its
// children, a child keeps its parent, and unmounting cuts both. Whom a change reaches besides: propagation.cc.
#include <sys/mount.h>

#include "sentry/vfs/mount_tree.h"

namespace sentry::vfs {
namespace {

std::atomic<int> g_next_mount_id{20};

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

Mount::~Mount() {
  CHECK(!group_ && !master_);  // they would be told of what comes
  DentryAccess::mount_gone(*fs_);
}

MountNamespace::MountNamespace() : impl_(std::make_unique<Impl>()) {}

MountNamespace::~MountNamespace() {
  std::vector<Ref<Mount>> all;
  std::vector<MountTree::Detached> cut;
  {
    MutexLock l(g_tree);
    impl_->forget_detached();
    if (impl_->root) MountTree::collect(*impl_->root, &all);
    for (auto& m : all) {
      MountTree::set_ns(*m, nullptr);
      cut.push_back(MountTree::take_out(*m));
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
  std::vector<MountTree::Detached> cut;
  std::vector<MountTree::Copy> copies;
  MutexLock l(g_tree);
  if (!at.mount || MountTree::ns(*at.mount) != this) return kEINVAL;
  Path point = MountTree::topmost(keep);
  if (point.dentry->is_unlinked()) return kENOENT;
  copies = TRY(MountTree::copies_for(*this, *m, 1, point));
  MountTree::attach(m, *point.mount, *point.dentry);
  m->ns_ = this;
  impl_->count++;
  MountTree::attach_copies(*this, copies, *point.dentry, &cut);
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
  if (from.mount->unbindable_) return kEINVAL;
  tree->impl_->anonymous = true;
  for (auto& m : all) {
    const bool top = m.get() == from.mount.get();
    RefOrNull<Mount> parent;
    if (!top) {
      auto p = copies.find(m->parent_.get());
      if (p == copies.end()) continue;  // not below `from`, or below one that is left out
      if (m->parent_.get() == from.mount.get() && !from.dentry->contains(*m->mountpoint_)) continue;
      if (m->unbindable_ && m->locked_) return kEPERM;
      if (m->unbindable_) continue;
      parent = p->second;
    }
    Ref<Mount> copy = MountTree::clone(*m, top ? from.dentry.get_ref() : m->root_, MountTree::Kin::same);
    copy->locked_ = !top && m->locked_;
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
  std::vector<MountTree::Detached> cut;
  std::vector<MountTree::Copy> copies;
  std::vector<Ref<Mount>> all;
  RefOrNull<Mount> was_top;
  MutexLock l(g_tree);
  if (!from.mount || !at.mount || MountTree::ns(*at.mount) != this) return kEINVAL;
  const MountNamespace* home = MountTree::ns(*from.mount);
  const bool attached = static_cast<bool>(from.mount->parent_);
  if (attached ? home != this : !home || !home->impl_->anonymous) return kEINVAL;
  if (from.dentry.get() != from.mount->root().get() || from.mount->locked_) return kEINVAL;
  if (attached && from.mount->parent_->group_) return kEINVAL;  // its peers would not hear of it
  Path point = MountTree::topmost(keep);
  if (point.mount->group_ && MountTree::has_unbindable(*from.mount)) return kEINVAL;
  if (MountTree::below(*point.mount, *from.mount)) return kELOOP;
  if (point.dentry->is_unlinked()) return kENOENT;
  if (!attached) MountTree::collect(*from.mount, &all);
  copies = TRY(MountTree::copies_for(*this, *from.mount, all.size(), point));
  if (attached) {
    cut.push_back(MountTree::detach(*from.mount));
  } else {
    for (auto& m : all) MountTree::set_ns(*m, this);
    impl_->count += all.size();
    home->impl_->forget_detached();
    std::swap(was_top, home->impl_->root);
  }
  MountTree::attach(from.mount.get_ref(), *point.mount, *point.dentry);
  MountTree::attach_copies(*this, copies, *point.dentry, &cut);
  return {};
}

Result<void> MountNamespace::change(const Path& at, bool recursive, const Change& c) {
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
    const uint64_t next = (m->flags() & ~c.clear) | c.set, locked = m->locked_flags();
    if (locked & kStay & ~next) return kEPERM;
    if ((locked & kAtimeFlags) && atime_of(m->flags()) != atime_of(next)) return kEPERM;
  }
  for (auto& m : all) {
    m->set_flags((m->flags() & ~c.clear) | c.set);
    if (c.propagation) MountTree::change_type(*m, c.propagation);
  }
  return {};
}

// Linux: fs/namespace.c do_set_group().
Result<void> MountNamespace::set_group(const Path& from, const Path& to) {
  MutexLock l(g_tree);
  for (const Path* p : {&from, &to})
    if (!p->mount || MountTree::ns(*p->mount) != this || p->dentry.get() != p->mount->root().get()) return kEINVAL;
  Mount &a = *from.mount, &b = *to.mount;
  if (a.fs_.get() != b.fs_.get() || !a.root_->contains(*b.root_) || MountTree::has_locked_children(a, *b.root_)) return kEINVAL;
  if (b.group_ || b.master_ || (!a.group_ && !a.master_)) return kEINVAL;
  MountTree::set_master(b, a.master_);
  if (a.group_) MountTree::join(b, a.group_.get_ref());
  return {};
}

void MountNamespace::follow_outside(Mount& m) {
  MutexLock l(g_tree);
  MountTree::set_master(m, adopt_ref(new PeerGroup));
}

Result<void> MountNamespace::unmount(const Path& at, int flags) {
  if ((flags & MNT_EXPIRE) && (flags & (MNT_FORCE | MNT_DETACH))) return kEINVAL;
  std::vector<MountTree::Detached> cut;
  {
    MutexLock l(g_tree);
    if (!at.mount || MountTree::ns(*at.mount) != this || at.dentry.get() != at.mount->root().get()) return kEINVAL;
    if (!at.mount->parent_ || at.mount->locked_) return kEINVAL;
    if (!(flags & MNT_DETACH)) {
      // The tree and `at` hold one reference each.
      if (MountTree::busy(*at.mount, 2)) return kEBUSY;
      if ((flags & MNT_EXPIRE) && !MountTree::mark_expired(*at.mount)) return kEAGAIN;
    }
    MountTree::unmount(*at.mount, &cut);
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
    Ref<Mount> c = MountTree::clone(*m, m->root_, less_privileged ? MountTree::Kin::slave : MountTree::Kin::same);
    c->ns_ = ns.get();
    c->locked_ = m->locked_;
    c->unbindable_ = m->unbindable_;
    if (less_privileged) MountTree::lock(*c, m.get() != impl_->root.get());
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
  if (put_old.mount->group_ || (new_root.mount->parent_ && new_root.mount->parent_->group_)) return kEINVAL;
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

}  // namespace sentry::vfs
