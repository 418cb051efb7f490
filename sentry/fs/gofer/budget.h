// SPDX-License-Identifier: Apache-2.0
// What inodes keep only because there is room (descriptors of closed files, directory listings). When there is too much, the
// inode that was longest without use gives up what it keeps.
#pragma once

#include <vector>

#include "sentry/vfs/inode.h"

namespace sentry::fs::gofer {

class Budget {
 public:
  explicit Budget(size_t max) : max_(max) {}
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
    size_t weight_ = 0;
    Entry* newer_ = nullptr;
    Entry* older_ = nullptr;
  };
  using Victims = std::vector<Ref<vfs::Inode>>;

  // owner keeps this much and has just used it. Returns who must give up what they keep, already taken out. The caller
  // tells them, and lets go of them, outside its locks.
  [[nodiscard]] Victims keep(Entry& e, vfs::Inode& owner, size_t weight) EXCLUDES(mu_);
  void release(Entry& e) EXCLUDES(mu_);
  // The oldest, worth at least this much.
  [[nodiscard]] Victims shrink(size_t by) EXCLUDES(mu_);
  size_t used() const EXCLUDES(mu_);

 private:
  void unlink(Entry& e) REQUIRES(mu_);
  void take_down_to(size_t limit, Victims& out) REQUIRES(mu_);
  mutable Mutex mu_{LockRank::kFilePages};  // inside an inode's own
  const size_t max_;
  size_t used_ GUARDED_BY(mu_) = 0;
  Entry* head_ GUARDED_BY(mu_) = nullptr;  // newest
  Entry* tail_ GUARDED_BY(mu_) = nullptr;
};

}  // namespace sentry::fs::gofer
