// SPDX-License-Identifier: Apache-2.0
// Stacks of fibers: carved from slabs, each with a guard page below it, touched lazily and recycled.
#pragma once

#include <cstddef>
#include <vector>

#include "sentry/base.h"
#include "sentry/sched/context.h"

namespace sentry::sched {

#ifdef SCHED_ASAN
inline constexpr size_t kStackSize = 256 * 1024;  // red zones make frames several times larger
#else
inline constexpr size_t kStackSize = 64 * 1024;
#endif

class StackPool {
 public:
  StackPool() : mu_(LockRank::kScheduler) {}
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  // The lowest address of kStackSize usable bytes. ENOMEM.
  Result<char*> take() EXCLUDES(mu_);
  void give_back(char* bottom) EXCLUDES(mu_);
  size_t in_use() const EXCLUDES(mu_);

 private:
  mutable Mutex mu_;
  std::vector<char*> warm_ GUARDED_BY(mu_);   // pages still there
  std::vector<char*> cold_ GUARDED_BY(mu_);   // pages given back to the host
  std::vector<char*> slabs_ GUARDED_BY(mu_);
  size_t carved_ GUARDED_BY(mu_) = 0;         // stacks taken from the newest slab so far
  size_t in_use_ GUARDED_BY(mu_) = 0;
};

}  // namespace sentry::sched
