// SPDX-License-Identifier: Apache-2.0
// Slabs of fiber stacks.
#include "sentry/sched/stack.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/sys.h"

#ifdef SCHED_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif

namespace sentry::sched {
namespace {

constexpr size_t kGuard = 4096;
constexpr size_t kSlot = kGuard + kStackSize;
constexpr size_t kPerSlab = 64;
constexpr size_t kSlabSize = kSlot * kPerSlab;
constexpr size_t kMaxWarm = 16;
constexpr int kMadvGuardInstall = 102;  // Linux 6.13; older headers do not have it

Result<void> advise(char* p, size_t n, int advice) {
  TRY(sys::raw(SYS_madvise, reinterpret_cast<long>(p), static_cast<long>(n), advice));
  return {};
}

// A guard of the new kind costs no mapping of its own: 10,000 stacks would need 20,000 of the host's 65,530.
Result<void> guard(char* p) {
  if (advise(p, kGuard, kMadvGuardInstall).ok()) return {};
  TRY(sys::raw(SYS_mprotect, reinterpret_cast<long>(p), kGuard, PROT_NONE));
  return {};
}

}  // namespace

StackPool::~StackPool() {
  MutexLock l(mu_);
  if (in_use_ > 0) return;  // fibers that never ended live on these stacks, and their objects with them
  for (char* slab : slabs_) {
#ifdef SCHED_ASAN
    ASAN_UNPOISON_MEMORY_REGION(slab, kSlabSize);
    __lsan_unregister_root_region(slab, kSlabSize);
#endif
    IGNORE_ERROR(sys::munmap(slab, kSlabSize), "the address space only keeps a hole less");
  }
}

Result<char*> StackPool::take() {
  MutexLock l(mu_);
  for (auto* list : {&warm_, &cold_}) {
    if (list->empty()) continue;
    char* p = list->back();
    list->pop_back();
    in_use_++;
    return p;
  }
  if (slabs_.empty() || carved_ == kPerSlab) {
    void* p = TRY(sys::mmap(nullptr, kSlabSize, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0));
    auto* slab = static_cast<char*>(p);
    IGNORE_ERROR(advise(slab, kSlabSize, MADV_NOHUGEPAGE), "a kernel without huge pages needs no advice");
#ifdef SCHED_ASAN
    __lsan_register_root_region(slab, kSlabSize);
#endif
    slabs_.push_back(slab);
    carved_ = 0;
  }
  char* slot = slabs_.back() + carved_ * kSlot;
  TRY(guard(slot));
  carved_++;
  in_use_++;
  // Giving back must never allocate.
  size_t all = slabs_.size() * kPerSlab;
  if (cold_.capacity() < all) cold_.reserve(all * 2);
  if (warm_.capacity() < kMaxWarm) warm_.reserve(kMaxWarm);
  return slot + kGuard;
}

void StackPool::give_back(char* bottom) {
  {
    MutexLock l(mu_);
    in_use_--;
    if (warm_.size() < kMaxWarm) {
      warm_.push_back(bottom);
      return;
    }
  }
  IGNORE_ERROR(advise(bottom, kStackSize, MADV_DONTNEED), "only memory is wasted");
  MutexLock l(mu_);
  cold_.push_back(bottom);
}

size_t StackPool::in_use() const {
  MutexLock l(mu_);
  return in_use_;
}

}  // namespace sentry::sched
