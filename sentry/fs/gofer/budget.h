// SPDX-License-Identifier: Apache-2.0
// What inodes keep only because there is room (descriptors of closed files, directory listings). When there is too much, the
// inode that was longest without use gives up what it keeps.
#pragma once

#include <vector>

#include "sentry/vfs/inode.h"

namespace sentry::fs::gofer {

class Budget {
 public:
  // strongly: an inode stays for as long as it keeps something.
  enum class Hold : uint8_t { weakly, strongly };
  Budget(size_t max, Hold hold) : max_(max), hold_(hold) {}
  ~Budget() { CHECK(!head_); }
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // An inode's place in a budget; a member of it.
  class Entry {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    friend class Budget;
    vfs::Inode* owner_ = nullptr;  // null: keeps nothing
    RefOrNull<vfs::Inode> held_;
    size_t weight_ = 0;
    Entry* newer_ = nullptr;
    Entry* older_ = nullptr;
  };
  using Victims = std::vector<Ref<vfs::Inode>>;

  // owner keeps this much and has just used it. Returns who must give up what they keep, already taken out. The caller
  // tells them, and lets go of them, outside its locks.
  [[nodiscard]] Victims keep(Entry& e, vfs::Inode& owner, size_t weight) EXCLUDES(mu_);
  // Whoever calls this for an inode that is held has a reference of their own.
  void release(Entry& e) EXCLUDES(mu_);
  // All inodes of a file system.
  [[nodiscard]] Victims release_all(const vfs::FileSystem& fs) EXCLUDES(mu_);
  // The oldest, worth at least this much.
  [[nodiscard]] Victims shrink(size_t by) EXCLUDES(mu_);
  size_t used() const EXCLUDES(mu_);

 private:
  RefOrNull<vfs::Inode> unlink(Entry& e) REQUIRES(mu_);  // what it held
  void take_down_to(size_t limit, Victims& out) REQUIRES(mu_);
  mutable Mutex mu_{LockRank::kFilePages};  // inside an inode's own
  const size_t max_;
  const Hold hold_;
  size_t used_ GUARDED_BY(mu_) = 0;
  Entry* head_ GUARDED_BY(mu_) = nullptr;  // newest
  Entry* tail_ GUARDED_BY(mu_) = nullptr;
};

}  // namespace sentry::fs::gofer
