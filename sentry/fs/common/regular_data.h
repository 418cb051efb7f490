// SPDX-License-Identifier: Apache-2.0
// Contents of a regular file that lives in the sandbox: pages of the sentry's heap while small, an unnamed host file when
// larger than kHeapMax or mapped. Used by tmpfs, memfds and the overlay's upper layer.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "sentry/fs/common/backing.h"
#include "sentry/fs/common/extents.h"
#include "sentry/mm/address_space.h"
#include "sentry/sched/wait.h"
#include "sentry/vfs/file.h"

namespace sentry::fs::common {

// Pages of 4 KiB that something may still use: size= of a tmpfs, a container's share. Held by: contents.
class PageBudget : public RefCounted<PageBudget> {
 public:
  virtual Result<void> charge(uint64_t pages) = 0;  // ENOSPC
  virtual void uncharge(uint64_t pages) = 0;

 protected:
  friend class RefCounted<PageBudget>;
  virtual ~PageBudget() = default;
};

// Held by: the inode, mappings.
class RegularData : public RefCounted<RegularData> {
 public:
  static constexpr uint64_t kPage = 4096;
  static constexpr uint64_t kHeapMax = 64 * 1024;

  static Ref<RegularData> create(std::shared_ptr<BackingSource> source, RefOrNull<PageBudget> budget);

  uint64_t size() const EXCLUDES(mu_);
  uint64_t allocated_bytes() const EXCLUDES(mu_);
  // Fewer bytes only at the end of the file. Parks when the host must wait for a disk.
  Result<size_t> read(std::span<std::byte> dst, uint64_t offset);
  // As vfs::File::read_directly. Not of a file whose pages are charged one by one: the application could fill its holes.
  Result<size_t> read_directly(platform::Context& c, uint64_t addr, size_t n, uint64_t offset);
  // append: at the end, whatever *offset says. *offset becomes where the bytes went. Fewer bytes when space runs out in the
  // middle; ENOSPC, EFBIG when none fits.
  Result<size_t> write(std::span<const std::byte> src, uint64_t* offset, bool append);
  Result<void> truncate(uint64_t size);
  // fallocate(2): mode 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE; EOPNOTSUPP for the rest.
  Result<void> allocate(int mode, int64_t offset, int64_t length);
  // SEEK_DATA, SEEK_HOLE; ENXIO.
  Result<int64_t> seek(int64_t offset, int whence) const;
  // From then on its whole size is charged: applications fill pages without asking. ENOMEM when that does not fit.
  Result<mm::MapFd> map_fd(bool writable);
  std::optional<patch::ContentId> content_id() const;
  bool in_host_file() const { return backed_.load(std::memory_order_acquire); }

 private:
  friend class RefCounted<RegularData>;
  using Page = std::array<std::byte, kPage>;
  RegularData(std::shared_ptr<BackingSource> source, RefOrNull<PageBudget> budget);
  ~RegularData();

  Result<size_t> write_heap(std::span<const std::byte> src, uint64_t offset) REQUIRES(change_);
  Result<size_t> write_host(std::span<const std::byte> src, uint64_t offset) REQUIRES(change_);
  Result<void> move_to_host() REQUIRES(change_);
  Result<void> punch(uint64_t offset, uint64_t end) REQUIRES(change_);
  Result<void> set_size(uint64_t size) REQUIRES(change_);
  Result<void> charge(uint64_t pages);
  void uncharge(uint64_t pages);

  const std::shared_ptr<BackingSource> source_;
  const RefOrNull<PageBudget> budget_;
  const uint64_t ro_key_ = mm::new_map_key(), rw_key_ = mm::new_map_key();  // of its two descriptions
  sched::SleepMutex change_;  // writers, truncation, the move to the host; parks are inside
  std::atomic<uint64_t> changes_{0};        // of the contents so far
  std::atomic<bool> mapped_for_writing_{false};  // at some time
  std::atomic<bool> backed_{false};
  BackingFds host_;     // written once, before backed_
  bool mapped_ = false; // under change_: extents_ is everything up to size_
  mutable Mutex mu_{LockRank::kFilePages};
  uint64_t size_ GUARDED_BY(mu_) = 0;
  std::vector<std::unique_ptr<Page>> pages_ GUARDED_BY(mu_);  // null: a hole. Past its end: holes
  Extents extents_ GUARDED_BY(mu_);  // charged pages, in both forms
};

// Reads and writes of host files that never wait on a worker: at once if the page cache can, else on the I/O pool.
Result<size_t> host_read(int fd, std::span<std::byte> dst, uint64_t offset, bool in_memory);
Result<size_t> host_write(int fd, std::span<const std::byte> src, uint64_t offset, bool in_memory);

}  // namespace sentry::fs::common
