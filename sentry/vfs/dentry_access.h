// SPDX-License-Identifier: Apache-2.0
// The dentry cache of one file system, for the room's own files: its root dentry and an LRU (a clock) of dentries that
// stay although nobody refers to them.
#pragma once

#include "sentry/vfs/dentry.h"

namespace sentry::vfs {

struct FileSystem::DentryCache {
  Mutex mu{LockRank::kFilePrivate};
  RefOrNull<Dentry> root GUARDED_BY(mu);
  Dentry* head GUARDED_BY(mu) = nullptr;  // newest; each member holds one reference
  Dentry* tail GUARDED_BY(mu) = nullptr;
  size_t count GUARDED_BY(mu) = 0;
  int mounts GUARDED_BY(mu) = 0;
};

// Names and mounts that change their place, counted before and after: a walk that must not leave a directory cannot trust its ".." when
// one did meanwhile. Linux: rename_lock and mount_lock as path lookups use them.
class PlaceChange {
 public:
  PlaceChange() { begun_.fetch_add(1); }
  ~PlaceChange() { done_.fetch_add(1); }
  PlaceChange(const PlaceChange&) = delete;
  PlaceChange& operator=(const PlaceChange&) = delete;

  class Watch {
   public:
    Watch() : done_at_start_(done_.load()), at_start_(begun_.load()) {}
    bool none_since() const { return done_at_start_ == at_start_ && begun_.load() == at_start_; }

   private:
    uint64_t done_at_start_, at_start_;  // read in this order
  };

 private:
  static inline std::atomic<uint64_t> begun_{0}, done_{0};
};

struct DentryAccess {
  static constexpr size_t kMaxCached = 16384;  // unreferenced dentries kept per file system

  // The one root dentry of a mounted file system.
  static Ref<Dentry> root_of(FileSystem& fs);
  static void mount_added(FileSystem& fs);
  static void mount_gone(FileSystem& fs);  // the last one empties the cache
  static void remember(Dentry& d);
  static void forget(Dentry& d);
  // A negative entry in place of a name that was just removed.
  static void leave_negative(Dentry& dir, std::string_view name);
  // A place in `dir` for a file that never had a name (O_TMPFILE).
  static Ref<Dentry> unnamed(Dentry& dir, Ref<Inode> inode, uint64_t ino);

 private:
  static void unlink_lru(FileSystem::DentryCache& c, Dentry& d) REQUIRES(c.mu);
  static void push_lru(FileSystem::DentryCache& c, Dentry& d) REQUIRES(c.mu);
};

}  // namespace sentry::vfs
