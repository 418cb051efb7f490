// SPDX-License-Identifier: Apache-2.0
// The dentry cache. A parent knows its children weakly; a child keeps its parent; the file system's LRU keeps recently
// used ones. A dying dentry leaves its parent's list under the parent's lock, so a pointer found there is never stale.
// Linux: fs/dcache.c.
#include "sentry/vfs/dentry.h"

#include "sentry/vfs/dentry_access.h"
#include "sentry/vfs/notify.h"

namespace sentry::vfs {

Dentry::Dentry(RefOrNull<Dentry> parent, std::string name, RefOrNull<Inode> inode)
    : parent_(std::move(parent)), name_(std::move(name)), inode_(std::move(inode)),
      fs_(parent_ ? parent_->fs_ : Ref<FileSystem>(inode_->fs())) {}

Dentry::~Dentry() { DCHECK(!in_lru_); }

void Dentry::unref() const {
  auto* d = const_cast<Dentry*>(this);
  while (d && d->drop_ref()) {
    Dentry* parent = d->take_parent();
    Ref<FileSystem> fs = d->fs_;  // outlives the inode, whose destructor may use it
    delete d;
    d = parent;
  }
}

// Nobody else can reach this one any more, except through its parent's list, where try_ref() refuses.
Dentry* Dentry::take_parent() {
  Dentry* parent;
  std::string name;
  {
    MutexLock l(mu_);
    parent = parent_.leak();
    name = std::move(name_);
  }
  if (!parent) return nullptr;
  MutexLock l(parent->mu_);
  auto it = parent->children_.find(name);
  if (it != parent->children_.end() && it->second == this) parent->children_.erase(it);
  return parent;
}

Ref<Dentry> Dentry::make_root(Ref<Inode> inode) { return adopt_ref(new Dentry(nullptr, "", std::move(inode))); }

Ref<Dentry> Dentry::make_anonymous(std::string name, Ref<Inode> inode) {
  return adopt_ref(new Dentry(nullptr, std::move(name), std::move(inode)));
}

RefOrNull<Inode> Dentry::inode() const {
  MutexLock l(mu_);
  return inode_;
}
std::string Dentry::name() const {
  MutexLock l(mu_);
  return name_;
}
RefOrNull<Dentry> Dentry::parent() const {
  MutexLock l(mu_);
  return parent_;
}
bool Dentry::is_unlinked() const {
  MutexLock l(mu_);
  return unlinked_;
}

bool Dentry::contains(const Dentry& below) const {
  if (this == &below) return true;
  for (RefOrNull<Dentry> d = below.parent(); d; d = d->parent())
    if (d.get() == this) return true;
  return false;
}

RefOrNull<Dentry> Dentry::find_cached(std::string_view name, bool* stable) {
  MutexLock l(mu_);
  *stable = inode_ && inode_->dentries_are_stable();
  auto it = children_.find(name);
  if (it == children_.end()) return nullptr;
  auto d = RefOrNull<Dentry>::upgrade(it->second);
  if (d && !d->used_.load(std::memory_order_relaxed)) d->used_.store(true, std::memory_order_relaxed);
  return d;
}

Ref<Dentry> Dentry::add_child(std::string_view name, RefOrNull<Inode> inode) {
  Ref<Dentry> child = adopt_ref(new Dentry(Ref<Dentry>(*this), std::string(name), std::move(inode)));
  MutexLock l(mu_);
  children_[std::string(name)] = child.get();
  return child;
}

Result<Ref<Dentry>> Dentry::lookup(std::string_view name) {
  bool stable;
  if (auto d = find_cached(name, &stable))
    if (stable || d->mounted_here.load(std::memory_order_relaxed) > 0) return d.get_ref();
  RefOrNull<Inode> dir = inode();
  if (!dir) return kENOENT;
  sched::SleepLock l(dir->lock());
  return lookup_locked(name);
}

Result<Ref<Dentry>> Dentry::lookup_locked(std::string_view name) {
  bool stable;
  RefOrNull<Dentry> cached = find_cached(name, &stable);
  if (cached && (stable || cached->mounted_here.load(std::memory_order_relaxed) > 0)) return cached.get_ref();
  RefOrNull<Inode> dir = inode();
  if (!dir) return kENOENT;
  RefOrNull<Inode> found = TRY(dir->lookup(name));
  if (cached) {
    RefOrNull<Inode> had = cached->inode();
    if (had.get() == found.get()) return cached.get_ref();
    if (!had) {
      cached->instantiate(found.get_ref());
      return cached.get_ref();
    }
    cached->unlinked();  // gone, or another file by now
  }
  Ref<Dentry> child = add_child(name, std::move(found));
  if (stable) DentryAccess::remember(*child);
  return child;
}

void Dentry::instantiate(Ref<Inode> inode) {
  MutexLock l(mu_);
  CHECK(!inode_);
  inode_ = std::move(inode);
}

void Dentry::unlinked() {
  RefOrNull<Dentry> parent;
  std::string name;
  {
    MutexLock l(mu_);
    unlinked_ = true;
    parent = parent_;
    name = name_;
  }
  if (parent) {
    MutexLock l(parent->mu_);
    auto it = parent->children_.find(name);
    if (it != parent->children_.end() && it->second == this) parent->children_.erase(it);
  }
  DentryAccess::forget(*this);
}

// Both directories' locks are held, so nobody looks either name up through the file system; a reader of parent() and
// name() sees the old or the new pair of each step, as before or after the rename.
void Dentry::moved(Dentry& from, Dentry& to) {
  PlaceChange change;
  Ref<Dentry> old_parent = from.parent().get_ref();
  Ref<Dentry> new_parent = to.parent().get_ref();
  std::string old_name = from.name(), new_name = to.name();
  {
    MutexLock2 l(old_parent->mu_, new_parent->mu_);
    auto it = old_parent->children_.find(old_name);
    if (it != old_parent->children_.end() && it->second == &from) old_parent->children_.erase(it);
    new_parent->children_[new_name] = &from;
  }
  RefOrNull<Dentry> let_go;
  {
    MutexLock l(from.mu_);
    let_go = std::move(from.parent_);
    from.parent_ = new_parent;
    from.name_ = new_name;
  }
  {
    MutexLock l(to.mu_);
    to.unlinked_ = true;
  }
  DentryAccess::forget(to);
}

void Dentry::exchanged(Dentry& a, Dentry& b) {
  PlaceChange change;
  Ref<Dentry> a_parent = a.parent().get_ref();
  Ref<Dentry> b_parent = b.parent().get_ref();
  std::string a_name = a.name(), b_name = b.name();
  {
    MutexLock2 l(a_parent->mu_, b_parent->mu_);
    a_parent->children_[a_name] = &b;
    b_parent->children_[b_name] = &a;
  }
  RefOrNull<Dentry> let_go_a, let_go_b;
  {
    MutexLock l(a.mu_);
    let_go_a = std::move(a.parent_);
    a.parent_ = b_parent;
    a.name_ = b_name;
  }
  {
    MutexLock l(b.mu_);
    let_go_b = std::move(b.parent_);
    b.parent_ = a_parent;
    b.name_ = a_name;
  }
}

// ---- The cache of a file system ----

void DentryAccess::unlink_lru(FileSystem::DentryCache& c, Dentry& d) {
  (d.lru_prev_ ? d.lru_prev_->lru_next_ : c.head) = d.lru_next_;
  (d.lru_next_ ? d.lru_next_->lru_prev_ : c.tail) = d.lru_prev_;
  d.lru_prev_ = d.lru_next_ = nullptr;
  d.in_lru_ = false;
  c.count--;
}

void DentryAccess::push_lru(FileSystem::DentryCache& c, Dentry& d) {
  d.lru_prev_ = nullptr;
  d.lru_next_ = c.head;
  (c.head ? c.head->lru_prev_ : c.tail) = &d;
  c.head = &d;
  d.in_lru_ = true;
  c.count++;
}

void DentryAccess::remember(Dentry& d) {
  FileSystem::DentryCache& c = *d.fs_->dentries_;
  Dentry* victim = nullptr;
  {
    MutexLock l(c.mu);
    if (c.mounts == 0 || d.in_lru_) return;
    d.ref();
    push_lru(c, d);
    for (int tries = 0; c.count > kMaxCached && !victim; tries++) {
      Dentry* t = c.tail;
      unlink_lru(c, *t);
      if (tries < 16 && t->used_.exchange(false, std::memory_order_relaxed)) push_lru(c, *t);
      else victim = t;
    }
  }
  if (victim) victim->unref();
}

void DentryAccess::forget(Dentry& d) {
  FileSystem::DentryCache& c = *d.fs_->dentries_;
  {
    MutexLock l(c.mu);
    if (!d.in_lru_) return;
    unlink_lru(c, d);
  }
  d.unref();
}

void DentryAccess::leave_negative(Dentry& dir, std::string_view name) {
  RefOrNull<Inode> inode = dir.inode();
  if (inode && inode->dentries_are_stable()) remember(*dir.add_child(name, nullptr));
}

Ref<Dentry> DentryAccess::unnamed(Dentry& dir, Ref<Inode> inode, uint64_t ino) {
  Ref<Dentry> d = adopt_ref(new Dentry(Ref<Dentry>(dir), "#" + std::to_string(ino), std::move(inode)));
  MutexLock l(d->mu_);
  d->unlinked_ = true;
  return d;
}

Ref<Dentry> DentryAccess::root_of(FileSystem& fs) {
  FileSystem::DentryCache& c = *fs.dentries_;
  {
    MutexLock l(c.mu);
    if (c.root) return c.root.get_ref();
  }
  Ref<Dentry> made = Dentry::make_root(fs.root());
  MutexLock l(c.mu);
  if (!c.root) c.root = made;
  return c.root.get_ref();
}

void DentryAccess::mount_added(FileSystem& fs) {
  FileSystem::DentryCache& c = *fs.dentries_;
  MutexLock l(c.mu);
  c.mounts++;
}

void DentryAccess::mount_gone(FileSystem& fs) {
  FileSystem::DentryCache& c = *fs.dentries_;
  Dentry* all;
  RefOrNull<Dentry> root;
  {
    MutexLock l(c.mu);
    if (--c.mounts > 0) return;
    all = c.head;
    c.head = c.tail = nullptr;
    c.count = 0;
    for (Dentry* d = all; d; d = d->lru_next_) d->in_lru_ = false;
    root = std::move(c.root);
  }
  tell_unmounted(fs);
  while (all) {
    Dentry* next = all->lru_next_;
    all->lru_prev_ = all->lru_next_ = nullptr;
    all->unref();
    all = next;
  }
}

}  // namespace sentry::vfs
