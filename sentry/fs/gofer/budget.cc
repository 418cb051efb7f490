// SPDX-License-Identifier: Apache-2.0
// The list of those who keep something.
#include "sentry/fs/gofer/budget.h"

namespace sentry::fs::gofer {

RefOrNull<vfs::Inode> Budget::unlink(Entry& e) {
  (e.newer_ ? e.newer_->older_ : head_) = e.older_;
  (e.older_ ? e.older_->newer_ : tail_) = e.newer_;
  e.newer_ = e.older_ = nullptr;
  e.owner_ = nullptr;
  used_ -= e.weight_;
  RefOrNull<vfs::Inode> held = std::move(e.held_);
  e.held_ = nullptr;
  return held;
}

void Budget::take_down_to(size_t limit, Victims& out) {
  while (used_ > limit && tail_) {
    RefOrNull<vfs::Inode> owner = RefOrNull<vfs::Inode>::upgrade(tail_->owner_);
    RefOrNull<vfs::Inode> held = unlink(*tail_);
    if (owner) out.push_back(owner.get_ref());  // else it is dying, and gives up everything
  }
}

Budget::Victims Budget::keep(Entry& e, vfs::Inode& owner, size_t weight) {
  Victims out;
  MutexLock l(mu_);
  RefOrNull<vfs::Inode> held;
  if (e.owner_) held = unlink(e);
  take_down_to(weight < max_ ? max_ - weight : 0, out);
  e.owner_ = &owner;
  if (hold_ == Hold::strongly) e.held_ = Ref<vfs::Inode>(owner);
  e.weight_ = weight;
  e.older_ = head_;
  (head_ ? head_->newer_ : tail_) = &e;
  head_ = &e;
  used_ += weight;
  return out;
}

void Budget::release(Entry& e) {
  RefOrNull<vfs::Inode> held;
  MutexLock l(mu_);
  if (e.owner_) held = unlink(e);
}

Budget::Victims Budget::release_all(const vfs::FileSystem& fs) {
  Victims out;
  MutexLock l(mu_);
  for (Entry* e = head_; e;) {
    Entry* next = e->older_;
    if (&e->owner_->fs() == &fs)
      if (auto owner = unlink(*e)) out.push_back(owner.get_ref());
    e = next;
  }
  return out;
}

Budget::Victims Budget::shrink(size_t by) {
  Victims out;
  MutexLock l(mu_);
  take_down_to(used_ > by ? used_ - by : 0, out);
  return out;
}

size_t Budget::used() const {
  MutexLock l(mu_);
  return used_;
}

}  // namespace sentry::fs::gofer
