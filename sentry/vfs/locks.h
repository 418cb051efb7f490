// SPDX-License-Identifier: Apache-2.0
// File locks: POSIX byte ranges (fcntl F_SETLK), those of open file descriptions (F_OFD_SETLK), and flock(2). Linux: fs/locks.c.
#pragma once

#include <string>

#include "sentry/vfs/file.h"

namespace sentry::vfs {

// One byte range. owner: the descriptor table for POSIX locks, the File for OFD locks.
struct RangeLock {
  short type = F_UNLCK;         // F_RDLCK, F_WRLCK, F_UNLCK
  int64_t start = 0;
  int64_t end = INT64_MAX;      // inclusive
  const void* owner = nullptr;
  int pid = 0;                  // for F_GETLK; -1 for OFD locks
  bool ofd = false;
};

enum class LockWait : uint8_t { no, yes };

// Sets, changes or clears. EAGAIN: another owner's lock is in the way (LockWait::no); kERESTARTSYS; EDEADLK; ENOLCK: too many.
Result<void> set_range_lock(Inode& inode, const RangeLock& request, LockWait wait);
// The first lock that would be in the way, or one of type F_UNLCK.
RangeLock test_range_lock(Inode& inode, const RangeLock& request);
// close(2) of a descriptor of this inode by `owner`.
void release_range_locks(Inode& inode, const void* owner);

// operation: LOCK_SH, LOCK_EX, LOCK_UN. EWOULDBLOCK, kERESTARTSYS.
Result<void> set_flock(Inode& inode, const File& owner, int operation, LockWait wait);
// The description goes: its flock and its OFD locks.
void release_description_locks(Inode& inode, const File& owner);

// What close(2) does with one descriptor that was taken out of `table`: POSIX locks of the table, then flush().
Result<void> close_descriptor(File& file, const void* table);

// For the inode's destructor.
void destroy_locks(LockList* list);

}  // namespace sentry::vfs
