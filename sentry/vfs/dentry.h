// SPDX-License-Identifier: Apache-2.0
// Names: the cache of path components, mounts, mount namespaces. Linux: fs/dcache.c, fs/namespace.c.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "sentry/vfs/inode.h"

namespace sentry::vfs {

// One name in one directory. Negative when it has no inode. Children are kept by their parent (weakly, within an LRU for
// unreferenced ones); a child keeps its parent. Held by: paths, children, the LRU.
class Dentry : public RefCounted<Dentry> {
 public:
  static Ref<Dentry> make_root(Ref<Inode> inode);                     // of a file system
  static Ref<Dentry> make_anonymous(std::string name, Ref<Inode> inode);  // "pipe:[12]", "anon_inode:[eventpoll]"

  RefOrNull<Inode> inode() const EXCLUDES(mu_);
  bool is_negative() const EXCLUDES(mu_) { return !inode(); }
  std::string name() const EXCLUDES(mu_);
  RefOrNull<Dentry> parent() const EXCLUDES(mu_);  // null for a root
  bool is_unlinked() const EXCLUDES(mu_);          // "(deleted)"

  // The cached child, or one made by asking the directory's inode (parks). Never null: may be negative.
  // Preconditions: this is a directory; the caller does not hold its lock().
  Result<Ref<Dentry>> lookup(std::string_view name);
  Result<Ref<Dentry>> lookup_locked(std::string_view name);  // the directory's inode lock is held
  // After the file system did it, with the directory's lock held:
  void instantiate(Ref<Inode> inode) EXCLUDES(mu_);          // negative -> positive
  void unlinked() EXCLUDES(mu_);                             // leaves the tree
  static void moved(Dentry& from, Dentry& to);               // rename: from takes to's place; to becomes unlinked
  static void exchanged(Dentry& a, Dentry& b);
  // Number of mounts on this dentry in any namespace (a fast test for the walk).
  std::atomic<int> mounted_here{0};
  FileSystem& fs() const { return *fs_; }
  // Whether this is `below`, or a directory that contains it.
  bool contains(const Dentry& below) const;
  // Hides RefCounted's: a long chain of parents goes one by one, not by recursion.
  void unref() const;

 private:
  friend class RefCounted<Dentry>;
  friend struct DentryAccess;
  Dentry(RefOrNull<Dentry> parent, std::string name, RefOrNull<Inode> inode);
  ~Dentry();
  mutable Mutex mu_{LockRank::kDentry};
  RefOrNull<Dentry> parent_ GUARDED_BY(mu_);
  std::string name_ GUARDED_BY(mu_);
  RefOrNull<Inode> inode_ GUARDED_BY(mu_);
  std::map<std::string, Dentry*, std::less<>> children_ GUARDED_BY(mu_);
  bool unlinked_ GUARDED_BY(mu_) = false;
  RefOrNull<Dentry> find_cached(std::string_view name, bool* stable) EXCLUDES(mu_);
  Ref<Dentry> add_child(std::string_view name, RefOrNull<Inode> inode) EXCLUDES(mu_);
  Dentry* take_parent() EXCLUDES(mu_);
  const Ref<FileSystem> fs_;
  std::atomic<bool> used_{true};  // since the LRU's hand last came by
  // Guarded by the file system's cache:
  bool in_lru_ = false;
  Dentry* lru_prev_ = nullptr;
  Dentry* lru_next_ = nullptr;
};

class MountNamespace;
class PeerGroup;

// Held by: paths, the namespace's tree.

class Mount : public RefCounted<Mount> {
 public:
  const Ref<FileSystem>& fs() const { return fs_; }
  const Ref<Dentry>& root() const { return root_; }
  uint64_t flags() const { return flags_.load(std::memory_order_relaxed); }  // MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC …
  void set_flags(uint64_t f) { flags_.store(f, std::memory_order_relaxed); }
  bool read_only() const { return (flags() & 1) || fs_->super_read_only(); }
  // Flags that this mount has from a more privileged namespace and that stay. Linux: MNT_LOCK_READONLY and its kin.
  uint64_t locked_flags() const { return locked_flags_.load(std::memory_order_relaxed); }
  int id() const { return id_; }
  const std::string& source() const { return source_; }

 private:
  friend class RefCounted<Mount>;
  friend class MountNamespace;
  friend struct MountTree;
  Mount(Ref<FileSystem> fs, Ref<Dentry> root, uint64_t flags, std::string source);
  ~Mount();
  Ref<FileSystem> fs_;
  Ref<Dentry> root_;
  std::atomic<uint64_t> flags_;
  int id_;
  std::string source_;
  // Guarded by the mount tree's lock (mount.cc):
  RefOrNull<Mount> parent_;
  RefOrNull<Dentry> mountpoint_;
  std::map<const Dentry*, Ref<Mount>> children_;
  const MountNamespace* ns_ = nullptr;  // null once unmounted
  bool expiry_mark_ = false;
  bool locked_ = false;  // what lies under it is not to be seen by this namespace. Linux: MNT_LOCKED
  bool unbindable_ = false;
  RefOrNull<PeerGroup> group_, master_;  // shared with; slave of (propagation.cc)
  std::atomic<uint64_t> locked_flags_{0};
};

// A place: a dentry seen through a mount. Linux: struct path.
struct Path {
  RefOrNull<Mount> mount;
  RefOrNull<Dentry> dentry;
  explicit operator bool() const { return static_cast<bool>(dentry); }
  friend bool operator==(const Path& a, const Path& b) {
    return a.mount.get() == b.mount.get() && a.dentry.get() == b.dentry.get();
  }
  RefOrNull<Inode> inode() const { return dentry ? dentry->inode() : RefOrNull<Inode>(); }
};

// Held by: FsContexts' tasks.
class MountNamespace : public RefCounted<MountNamespace> {
 public:
  static Ref<MountNamespace> create(Ref<FileSystem> root, uint64_t flags, std::string source);
  const RefOrNull<auth::UserNamespace>& user_ns() const { return user_ns_; }
  Path root() const;
  // Mounts fs on the directory (or file) at `at`. subdir: which dentry of fs becomes its root (bind), default its root.
  Result<Ref<Mount>> mount(Ref<FileSystem> fs, const Path& at, uint64_t flags, std::string source,
                           RefOrNull<Dentry> subdir = nullptr);
  // MS_BIND (with MS_REC also what is mounted below `from`) and MS_MOVE of mount(2). What is moved is a mount of this namespace or
  // the top of a detached tree.
  Result<Ref<Mount>> bind(const Path& from, const Path& at, bool recursive);
  Result<void> move(const Path& from, const Path& at);
  // Trees that hang nowhere until they are moved into a namespace, and go with their last reference: a copy of what is mounted
  // here, or a file system. Linux: anonymous namespaces.
  Result<Ref<MountNamespace>> clone_tree(const Path& from, bool recursive) const;
  static Ref<MountNamespace> detached(Ref<FileSystem> fs, uint64_t flags, std::string source);
  // Of the mount whose root `at` is, and with `recursive` of all below: all or none. It is of this namespace, or of a detached tree. EPERM:
  // a more privileged namespace has locked one of them. propagation: 0, MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE.
  struct Change {
    uint64_t set = 0, clear = 0, propagation = 0;
  };
  Result<void> change(const Path& at, bool recursive, const Change& c);
  // MOVE_MOUNT_SET_GROUP: `to` shares with whom `from` shares, and is a slave of the same.
  Result<void> set_group(const Path& from, const Path& to);
  // Makes it a slave of mounts that are not seen here: the host's.
  static void follow_outside(Mount& m);
  // flags: MNT_DETACH, MNT_EXPIRE, MNT_FORCE. `at` itself is the one reference that does not make the mount busy.
  Result<void> unmount(const Path& at, int flags);
  bool holds(const Mount& m) const;
  // The mount on top of this path, if one is.
  RefOrNull<Mount> mounted_on(const Path& at) const;
  // Where a mount's root is mounted; empty at the namespace's root.
  Path mountpoint_of(const Mount& m) const;
  struct Info {
    Ref<Mount> mount;
    int parent_id;
    std::string mountpoint;  // as seen from `root`
    // Groups by number, 0: none. from: the nearest one above that is seen from `root`.
    int shared = 0, master = 0, from = 0;
    bool unbindable = false;
  };
  std::vector<Info> list(const Path& root) const;  // in the order of their making
  // CLONE_NEWNS. For a user namespace other than this one's owner every mount is locked as it is.
  Ref<MountNamespace> copy(std::vector<std::pair<Ref<Mount>, Ref<Mount>>>* old_to_new, RefOrNull<auth::UserNamespace> owner = nullptr,
                           auth::NamespaceCharge charge = {}) const;
  // Whether a mount of such a file system is here with all that it holds to be seen, and no stricter than `flags` (MS_RDONLY): else
  // a new one would reveal what is hidden. Linux: mount_too_revealing().
  bool shows_whole(std::string_view type, uint64_t flags) const;
  Result<void> pivot_root(const Path& new_root, const Path& put_old);

 private:
  friend class RefCounted<MountNamespace>;
  friend struct MountTree;
  MountNamespace();
  ~MountNamespace();
  struct Impl;
  std::unique_ptr<Impl> impl_;
  RefOrNull<auth::UserNamespace> user_ns_;
  auth::NamespaceCharge charge_;
};

// The text of a dentry as seen from the root of its file system (the "root" field of mountinfo).
std::string dentry_text(const Dentry& dentry);
// As path_text, from the top of the mount tree it hangs in: for /proc/PID/maps.
std::string path_text_from_top(const Path& path);
// The text of a path as seen from root; "(unreachable)…" and " (deleted)" as d_path of Linux does.
std::string path_text(const MountNamespace& ns, const Path& path, const Path& root);

}  // namespace sentry::vfs
