// SPDX-License-Identifier: Apache-2.0
// Telling watchers. Linux: fs/notify/fsnotify.c; the order of events is that of the kernel's own places.
#include "sentry/vfs/notify.h"

#include <algorithm>
#include <set>

namespace sentry::vfs {

struct WatchList {
  explicit WatchList(Inode& i) : inode(&i) {}
  Inode* const inode;
  Mutex mu{LockRank::kFilePrivate};
  std::vector<Ref<FileWatch>> watches GUARDED_BY(mu);
  bool orphan GUARDED_BY(mu) = false;  // its last name is gone, somebody has it open
};

std::atomic<uint32_t> watch_count{0};

namespace {

// Inodes that have watches, for unmounting.
constinit Mutex g_watched_mu{LockRank::kFilePrivate};
std::set<Inode*>& watched_inodes() {
  static std::set<Inode*>* s = new std::set<Inode*>;
  return *s;
}

std::atomic<uint32_t> g_cookie{0};

void tell(Inode& inode, uint32_t mask, uint32_t cookie, std::string_view name, bool unlinked) {
  for (const Ref<FileWatch>& w : watches_of(inode)) w->event(mask, cookie, name, unlinked);
}

uint32_t with_type(const Inode* i, uint32_t mask) { return i && i->is_directory() ? mask | IN_ISDIR : mask; }

// Every watch of an inode that is gone ends, after one last event.
void end_watches(Inode& inode, uint32_t mask) {
  WatchList* list = inode.watches();
  if (!list) return;
  std::vector<Ref<FileWatch>> all;
  {
    MutexLock l(list->mu);
    all.swap(list->watches);
    list->orphan = false;
  }
  if (all.empty()) return;
  {
    MutexLock l(g_watched_mu);
    watched_inodes().erase(&inode);
  }
  watch_count.fetch_sub(static_cast<uint32_t>(all.size()));
  for (const Ref<FileWatch>& w : all) {
    w->event(mask, 0, {}, false);
    w->ended();
  }
}

// The last name of `inode` may be gone. Linux: d_delete() and iput().
void tell_if_gone(Inode& inode) {
  WatchList* list = inode.watches();
  if (!list) return;
  Result<Attributes> a = inode.attributes();
  if (!a.ok() || (!inode.is_directory() && a->nlink > 0)) return;
  bool open = inode.open_files() > 0;
  if (open) {
    MutexLock l(list->mu);
    list->orphan = true;
  }
  if (!open || inode.open_files() == 0) end_watches(inode, IN_DELETE_SELF);
}

}  // namespace

std::vector<Ref<FileWatch>> watches_of(Inode& inode) {
  WatchList* list = inode.watches();
  if (!list) return {};
  MutexLock l(list->mu);
  return list->watches;
}

void add_watch(Inode& inode, Ref<FileWatch> watch) {
  WatchList* list = inode.watches();
  if (!list) {
    auto fresh = std::make_unique<WatchList>(inode);
    list = inode.set_watches(fresh.get());
    if (list == fresh.get()) fresh.release();
  }
  {
    MutexLock l(list->mu);
    list->watches.push_back(std::move(watch));
  }
  MutexLock l(g_watched_mu);
  watched_inodes().insert(&inode);
  watch_count.fetch_add(1);
}

void remove_watch(Inode& inode, FileWatch& watch) {
  WatchList* list = inode.watches();
  if (!list) return;
  RefOrNull<FileWatch> gone;
  bool empty = false;
  {
    MutexLock l(list->mu);
    for (auto it = list->watches.begin(); it != list->watches.end(); ++it) {
      if (it->get() != &watch) continue;
      gone = *it;
      list->watches.erase(it);
      break;
    }
    empty = list->watches.empty();
  }
  if (!gone) return;
  watch_count.fetch_sub(1);
  if (!empty) return;
  MutexLock l(g_watched_mu);
  watched_inodes().erase(&inode);
}

void destroy_watches(WatchList* list) {
  if (!list) return;
  {
    // A watch that ended while it was being added has left the inode there.
    MutexLock l(g_watched_mu);
    watched_inodes().erase(list->inode);
  }
  delete list;
}

void tell_entry(Inode& dir, uint32_t mask, const Inode* child, std::string_view name, uint32_t cookie) {
  if (anybody_watches()) tell(dir, with_type(child, mask), cookie, name, false);
}

void tell_self(Inode& inode, uint32_t mask) {
  if (anybody_watches()) tell(inode, with_type(&inode, mask), 0, {}, false);
}

void tell_object(const Path& path, Inode& inode, uint32_t mask) {
  if (!anybody_watches()) return;
  if (path.dentry) {
    if (RefOrNull<Dentry> parent = path.dentry->parent())
      if (RefOrNull<Inode> dir = parent->inode(); dir && dir->watches())
        tell(*dir, with_type(&inode, mask), 0, path.dentry->name(), path.dentry->is_unlinked());
  }
  if (inode.watches()) tell(inode, with_type(&inode, mask), 0, {}, path.dentry && path.dentry->is_unlinked());
}

void tell_removed(Inode& dir, Inode& inode, std::string_view name) {
  if (!anybody_watches()) return;
  if (!inode.is_directory()) tell_self(inode, IN_ATTRIB);  // its link count
  tell_if_gone(inode);
  tell_entry(dir, IN_DELETE, &inode, name);
}

void tell_moved(Inode& old_dir, std::string_view old_name, Inode& new_dir, std::string_view new_name, Inode& moved,
                Inode* replaced) {
  if (!anybody_watches()) return;
  const uint32_t cookie = g_cookie.fetch_add(1) + 1;
  tell_entry(old_dir, IN_MOVED_FROM, &moved, old_name, cookie);
  tell_entry(new_dir, IN_MOVED_TO, &moved, new_name, cookie);
  if (replaced) tell_self(*replaced, IN_ATTRIB);
  tell_self(moved, IN_MOVE_SELF);
  if (replaced) tell_if_gone(*replaced);
}

void tell_attributes(const Path& path, Inode& inode, uint32_t set_mask) {
  if (!anybody_watches()) return;
  using A = SetAttributes;
  uint32_t mask = 0;
  if (set_mask & (A::kUid | A::kGid | A::kMode)) mask |= IN_ATTRIB;
  if (set_mask & A::kSize) mask |= IN_MODIFY;
  const bool atime = set_mask & (A::kAtime | A::kAtimeNow), mtime = set_mask & (A::kMtime | A::kMtimeNow);
  if (atime && mtime) mask |= IN_ATTRIB;
  else if (atime) mask |= IN_ACCESS;
  else if (mtime) mask |= IN_MODIFY;
  if (mask) tell_object(path, inode, mask);
}

void tell_closed(const File& file) {
  if (!anybody_watches() || (file.flags() & O_PATH)) return;
  Inode& inode = file.inode();
  tell_object(file.path(), inode, file.writable() ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
  WatchList* list = inode.watches();
  if (!list || inode.open_files() > 1) return;  // this one is still counted
  bool orphan;
  {
    MutexLock l(list->mu);
    orphan = list->orphan;
  }
  if (orphan) end_watches(inode, IN_DELETE_SELF);
}

void tell_unmounted(FileSystem& fs) {
  if (!anybody_watches()) return;
  std::vector<Ref<Inode>> inodes;
  {
    MutexLock l(g_watched_mu);
    for (Inode* i : watched_inodes())
      if (&i->fs() == &fs)
        if (RefOrNull<Inode> held = RefOrNull<Inode>::upgrade(i)) inodes.push_back(held.get_ref());
  }
  for (const Ref<Inode>& i : inodes) end_watches(*i, IN_UNMOUNT);
}

}  // namespace sentry::vfs
