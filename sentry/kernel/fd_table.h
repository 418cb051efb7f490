// SPDX-License-Identifier: Apache-2.0
// Descriptors of a process. Linux: fs/file.c. Installing is two-phased (FdReservation), as in Linux: reserve a number,
// copy it out, then commit; an error in between leaves no trace.
#pragma once

#include <vector>

#include "sentry/vfs/file.h"

namespace sentry::kernel {

// Held by: tasks (CLONE_FILES shares it).
class FdTable : public RefCounted<FdTable> {
 public:
  static Ref<FdTable> create();
  Ref<FdTable> copy() const;
  // EBADF when there is none or it is O_PATH (get_path: also those).
  Result<Ref<vfs::File>> get(int fd) const;
  Result<Ref<vfs::File>> get_path(int fd) const;
  // The lowest free number >= at_least and < limit (RLIMIT_NOFILE): EMFILE, EINVAL.
  Result<int> reserve(int at_least, uint64_t limit);
  void commit(int fd, Ref<vfs::File> file, bool cloexec);
  void cancel(int fd);
  // dup2/dup3: replaces what is there (the old file is flushed by the caller: returned). EBADF past the limit.
  Result<RefOrNull<vfs::File>> replace(int fd, Ref<vfs::File> file, bool cloexec, uint64_t limit);
  // Removes fd; the caller flushes and drops the file (outside locks).
  Result<Ref<vfs::File>> remove(int fd);
  Result<bool> cloexec(int fd) const;
  Result<void> set_cloexec(int fd, bool on);
  std::vector<Ref<vfs::File>> remove_range(uint32_t first, uint32_t last);  // close_range
  void set_cloexec_range(uint32_t first, uint32_t last);
  std::vector<Ref<vfs::File>> remove_cloexec();                              // exec
  std::vector<int> numbers() const;                                          // /proc/PID/fd
  int size() const;  // highest open number + 1

 private:
  friend class RefCounted<FdTable>;
  FdTable() = default;
  ~FdTable();
  struct Slot {
    RefOrNull<vfs::File> file;
    bool reserved = false, cloexec = false;
  };
  mutable Mutex mu_{LockRank::kFdTable};
  std::vector<Slot> slots_ GUARDED_BY(mu_);
  size_t first_free_ GUARDED_BY(mu_) = 0;
};

// A reserved number that goes back unless committed.
class FdReservation {
 public:
  static Result<FdReservation> reserve(const Ref<FdTable>& table, uint64_t limit, int at_least = 0);
  FdReservation(FdReservation&& o) noexcept : table_(o.table_), fd_(std::exchange(o.fd_, -1)) {}
  FdReservation& operator=(FdReservation&&) = delete;
  ~FdReservation() { if (fd_ >= 0) table_->cancel(fd_); }
  int number() const { return fd_; }
  int commit(Ref<vfs::File> file, bool cloexec) {
    int fd = std::exchange(fd_, -1);
    table_->commit(fd, std::move(file), cloexec);
    return fd;
  }

 private:
  FdReservation(const Ref<FdTable>& t, int fd) : table_(t), fd_(fd) {}
  Ref<FdTable> table_;
  int fd_;
};

}  // namespace sentry::kernel
