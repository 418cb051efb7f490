// SPDX-License-Identifier: Apache-2.0
// The lock order of all programs, outermost first (docs/LOCKING.md says what each guards). A thread may
// only take a lock of a higher rank than any it holds; debug builds abort when it does not.
#pragma once

#include <cstdint>

namespace base {

enum class LockRank : uint8_t {
  kEpollLinks,
  kEpollInterest,
  kMountTree,
  kDentry,
  kFilePrivate,   // state of one file system, inode or file
  kSocket,
  kTty,
  kMmMetadata,
  kMmMappings,
  kFilePages,
  kTaskSet,       // process tree, groups, sessions, pid tables
  kSignalHandlers,
  kTask,
  kFdTable,
  kFsContext,
  kFutex,
  kTimer,
  kMmActive,
  kWaitQueue,
  kEpollWait,     // waiters of an epoll; of several, the watched one first (nesting has no cycles)
  kPlatform,
  kScheduler,
  kIo,            // I/O pool, gofer channel
  kLog,
};

#ifdef CAISSON_DEBUG
void lock_rank_enter(LockRank rank, const void* lock);
void lock_rank_leave(LockRank rank, const void* lock);
// Aborts if this thread holds any Mutex: called before a fiber parks or user memory is copied.
void assert_no_locks_held(const char* doing);
#else
inline void lock_rank_enter(LockRank, const void*) {}
inline void lock_rank_leave(LockRank, const void*) {}
inline void assert_no_locks_held(const char*) {}
#endif

}  // namespace base
