// SPDX-License-Identifier: Apache-2.0
// Contents of regular files of the sandbox. Linux: mm/shmem.c for what is observable.
#include "sentry/fs/common/regular_data.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/sys.h"

namespace sentry::fs::common {
namespace {

constexpr uint64_t kMaxSize = INT64_MAX & ~0xfffull;

constexpr uint64_t pages_up(uint64_t bytes) { return (bytes + RegularData::kPage - 1) / RegularData::kPage; }

// fn blocks in the host: on the pool, unless the file is memory.
template <typename F>
auto maybe_blocking(bool in_memory, F fn) -> decltype(fn()) {
  if (in_memory) return fn();
  decltype(fn()) r = kEIO;
  sched::run_blocking([&] { r = fn(); });
  return r;
}

// The contents are about to change, and have changed: what is read in between is neither the old ones nor the new ones.
class Changing {
 public:
  explicit Changing(std::atomic<uint64_t>& n) : n_(n) { n_.fetch_add(1); }
  ~Changing() { n_.fetch_add(1); }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;

 private:
  std::atomic<uint64_t>& n_;
};

Result<void> host_truncate(int fd, uint64_t size, bool in_memory) {
  return maybe_blocking(in_memory, [&] { return sys::ftruncate(fd, static_cast<int64_t>(size)); });
}

}  // namespace

Result<size_t> host_read(int fd, std::span<std::byte> dst, uint64_t offset, bool in_memory) {
  auto at = static_cast<int64_t>(offset);
  if (in_memory) return sys::pread(fd, dst.data(), dst.size(), at);
  size_t done = 0;
  while (done < dst.size()) {
    iovec v{dst.data() + done, dst.size() - done};
    Result<size_t> r = sys::preadv2(fd, &v, 1, at + static_cast<int64_t>(done), RWF_NOWAIT);
    if (!r.ok() && (r.error() == kEAGAIN || r.error() == kEOPNOTSUPP))
      sched::run_blocking([&] { r = sys::pread(fd, v.iov_base, v.iov_len, at + static_cast<int64_t>(done)); });
    if (!r.ok()) {
      if (done) return done;
      return r.error();
    }
    if (*r == 0) break;
    done += *r;
  }
  return done;
}

// A short write to the page cache takes 2 us, the way to the pool and back 20, and ext4 has no RWF_NOWAIT for it. So one at a time is
// made where it is; while the host lets such writes wait (too many dirty pages, a slow disk) they go to the pool. Should one hang, the
// scheduler's monitor gives its worker's place to another.
class WriteHere {
 public:
  explicit WriteHere(size_t bytes)
      : begin_(sched::now()), mine_(bytes <= kMost && begin_ >= slow_until_.load(std::memory_order_relaxed) && !busy_.exchange(true)) {}
  ~WriteHere() {
    if (!mine_) return;
    if (sched::Nanos end = sched::now(); end - begin_ > kSlow) slow_until_.store(end + kPause, std::memory_order_relaxed);
    busy_.store(false);
  }
  WriteHere(const WriteHere&) = delete;
  WriteHere& operator=(const WriteHere&) = delete;
  explicit operator bool() const { return mine_; }

 private:
  static constexpr size_t kMost = 64 * 1024;
  static constexpr sched::Nanos kSlow = 500'000, kPause = 100'000'000;
  static inline std::atomic<bool> busy_{false};
  static inline std::atomic<sched::Nanos> slow_until_{0};
  const sched::Nanos begin_;
  const bool mine_;
};

Result<size_t> host_write(int fd, std::span<const std::byte> src, uint64_t offset, bool in_memory) {
  auto at = static_cast<int64_t>(offset);
  if (in_memory) return sys::pwrite(fd, src.data(), src.size(), at);
  size_t done = 0;
  while (done < src.size()) {
    iovec v{const_cast<std::byte*>(src.data()) + done, src.size() - done};
    Result<size_t> r = sys::pwritev2(fd, &v, 1, at + static_cast<int64_t>(done), RWF_NOWAIT);
    if (!r.ok() && r.error() == kEOPNOTSUPP)
      if (WriteHere here(v.iov_len); here) r = sys::pwrite(fd, v.iov_base, v.iov_len, at + static_cast<int64_t>(done));
    if (!r.ok() && (r.error() == kEAGAIN || r.error() == kEOPNOTSUPP))
      sched::run_blocking([&] { r = sys::pwrite(fd, v.iov_base, v.iov_len, at + static_cast<int64_t>(done)); });
    if (!r.ok()) {
      if (done) return done;
      return r.error();
    }
    if (*r == 0) break;
    done += *r;
  }
  return done;
}

Ref<RegularData> RegularData::create(std::shared_ptr<BackingSource> source, RefOrNull<PageBudget> budget) {
  return adopt_ref(new RegularData(std::move(source), std::move(budget)));
}

RegularData::RegularData(std::shared_ptr<BackingSource> source, RefOrNull<PageBudget> budget)
    : source_(std::move(source)), budget_(std::move(budget)) {}

RegularData::~RegularData() { uncharge(extents_.count()); }

Result<void> RegularData::charge(uint64_t pages) {
  if (!budget_ || pages == 0) return {};
  return budget_->charge(pages);
}
void RegularData::uncharge(uint64_t pages) {
  if (budget_ && pages) budget_->uncharge(pages);
}

uint64_t RegularData::size() const {
  MutexLock l(mu_);
  return size_;
}
uint64_t RegularData::allocated_bytes() const {
  MutexLock l(mu_);
  return extents_.count() * kPage;
}

Result<size_t> RegularData::read(std::span<std::byte> dst, uint64_t offset) {
  size_t n;
  {
    MutexLock l(mu_);
    if (offset >= size_) return size_t{0};
    n = std::min<uint64_t>(dst.size(), size_ - offset);
    if (!backed_.load(std::memory_order_relaxed)) {
      for (size_t done = 0; done < n;) {
        uint64_t at = offset + done;
        size_t in_page = at % kPage, len = std::min<size_t>(n - done, kPage - in_page);
        uint64_t i = at / kPage;
        if (i < pages_.size() && pages_[i]) memcpy(dst.data() + done, pages_[i]->data() + in_page, len);
        else memset(dst.data() + done, 0, len);
        done += len;
      }
      return n;
    }
  }
  return host_read(host_.ro.get(), dst.first(n), offset, host_.in_memory);
}

Result<size_t> RegularData::read_directly(platform::Context& c, uint64_t addr, size_t n, uint64_t offset) {
  if (budget_) return kEOPNOTSUPP;
  if (!backed_.load(std::memory_order_acquire)) {
    sched::SleepLock change(change_);
    if (!backed_.load(std::memory_order_relaxed)) TRY(move_to_host());
  }
  {
    MutexLock l(mu_);
    if (offset >= size_) return size_t{0};
    n = std::min<uint64_t>(n, size_ - offset);
  }
  return c.read_host(host_.ro.get(), ro_key_, addr, n, offset);
}

Result<size_t> RegularData::write(std::span<const std::byte> src, uint64_t* offset, bool append) {
  sched::SleepLock change(change_);
  Changing changing(changes_);
  if (append) *offset = size();
  if (src.empty()) return size_t{0};
  if (*offset >= kMaxSize) return kEFBIG;
  src = src.first(std::min<uint64_t>(src.size(), kMaxSize - *offset));
  if (!backed_.load(std::memory_order_relaxed)) {
    if (*offset + src.size() <= kHeapMax) return write_heap(src, *offset);
    TRY(move_to_host());
  }
  return write_host(src, *offset);
}

Result<size_t> RegularData::write_heap(std::span<const std::byte> src, uint64_t offset) {
  size_t done = 0;
  while (done < src.size()) {
    uint64_t at = offset + done, i = at / kPage;
    size_t in_page = at % kPage, len = std::min<size_t>(src.size() - done, kPage - in_page);
    std::unique_ptr<Page> fresh;
    bool present;
    {
      MutexLock l(mu_);
      present = i < pages_.size() && pages_[i];
    }
    if (!present) {
      Result<void> c = charge(1);
      if (!c.ok()) {
        if (done) break;
        return c.error();
      }
      fresh = std::make_unique<Page>();  // zeros
    }
    MutexLock l(mu_);
    if (fresh) {
      if (i >= pages_.size()) pages_.resize(i + 1);
      pages_[i] = std::move(fresh);
      extents_.add(i, i + 1);
    }
    memcpy(pages_[i]->data() + in_page, src.data() + done, len);
    done += len;
    size_ = std::max(size_, offset + done);
  }
  return done;
}

Result<size_t> RegularData::write_host(std::span<const std::byte> src, uint64_t offset) {
  uint64_t first = offset / kPage, need;
  {
    MutexLock l(mu_);
    need = extents_.missing(first, pages_up(offset + src.size()));
  }
  // What does not fit is cut off page by page; the application sees a short count, then ENOSPC.
  for (;;) {
    Result<void> c = charge(need);
    if (c.ok()) break;
    uint64_t last = (offset + src.size() - 1) / kPage;
    if (last == first) return c.error();
    src = src.first(last * kPage - offset);
    MutexLock l(mu_);
    need = extents_.missing(first, pages_up(offset + src.size()));
  }
  Result<size_t> r = host_write(host_.rw.get(), src, offset, host_.in_memory);
  size_t n = r.ok() ? *r : 0;
  uint64_t added = 0;
  {
    MutexLock l(mu_);
    if (n) {
      added = extents_.add(first, pages_up(offset + n));
      if (mapped_ && offset > size_) {
        // The gap is charged as well, with or without room: refusing after the write would be worse.
        uint64_t gap = extents_.add(0, pages_up(offset));
        if (gap && budget_) IGNORE_ERROR(budget_->charge(gap), "the next charge will fail instead");
      }
      size_ = std::max(size_, offset + n);
    }
  }
  uncharge(need - std::min(need, added));
  return r;
}

Result<void> RegularData::move_to_host() {
  BackingFds fds = TRY(source_->create());
  std::vector<std::unique_ptr<Page>> pages;
  uint64_t size;
  {
    MutexLock l(mu_);
    size = size_;
    for (auto& p : pages_) pages.push_back(p ? std::make_unique<Page>(*p) : nullptr);
  }
  TRY(host_truncate(fds.rw.get(), size, fds.in_memory));
  for (size_t i = 0; i < pages.size(); i++) {
    if (!pages[i] || i * kPage >= size) continue;
    size_t len = std::min<uint64_t>(kPage, size - i * kPage);
    size_t n = TRY(host_write(fds.rw.get(), {pages[i]->data(), len}, i * kPage, fds.in_memory));
    if (n != len) return kENOSPC;
  }
  host_ = std::move(fds);
  MutexLock l(mu_);
  pages_.swap(pages);
  pages_.clear();
  backed_.store(true, std::memory_order_release);
  return {};
}

Result<void> RegularData::truncate(uint64_t size) {
  if (size > kMaxSize) return kEFBIG;
  sched::SleepLock change(change_);
  Changing changing(changes_);
  return set_size(size);
}

Result<void> RegularData::set_size(uint64_t size) {
  uint64_t old, gone = 0;
  {
    MutexLock l(mu_);
    old = size_;
  }
  if (size == old) return {};
  if (mapped_ && pages_up(size) > pages_up(old)) TRY(charge(pages_up(size) - pages_up(old)));
  if (backed_.load(std::memory_order_relaxed)) {
    Result<void> r = host_truncate(host_.rw.get(), size, host_.in_memory);
    if (!r.ok()) {
      if (mapped_ && pages_up(size) > pages_up(old)) uncharge(pages_up(size) - pages_up(old));
      return r;
    }
  }
  std::vector<std::unique_ptr<Page>> dropped;
  {
    MutexLock l(mu_);
    uint64_t keep = pages_up(size);
    if (mapped_ && keep > pages_up(old)) gone = keep - pages_up(old) - extents_.add(0, keep);  // some were preallocated
    gone += extents_.remove(keep, UINT64_MAX);
    for (size_t i = keep; i < pages_.size(); i++) dropped.push_back(std::move(pages_[i]));
    if (keep < pages_.size()) pages_.resize(keep);
    if (size < old && size % kPage && keep - 1 < pages_.size() && pages_[keep - 1])
      memset(pages_[keep - 1]->data() + size % kPage, 0, kPage - size % kPage);
    size_ = size;
  }
  uncharge(gone);
  return {};
}

Result<void> RegularData::allocate(int mode, int64_t offset, int64_t length) {
  if (offset < 0 || length <= 0) return kEINVAL;
  if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) return kEOPNOTSUPP;
  if (static_cast<uint64_t>(offset) > kMaxSize || static_cast<uint64_t>(length) > kMaxSize - static_cast<uint64_t>(offset))
    return kEFBIG;
  auto start = static_cast<uint64_t>(offset);
  uint64_t end = start + static_cast<uint64_t>(length);
  sched::SleepLock change(change_);
  Changing changing(changes_);
  if (mode & FALLOC_FL_PUNCH_HOLE) {
    if (!(mode & FALLOC_FL_KEEP_SIZE)) return kEOPNOTSUPP;
    return punch(start, end);
  }
  if (!backed_.load(std::memory_order_relaxed) && end > kHeapMax) TRY(move_to_host());
  uint64_t first = start / kPage, past = pages_up(end), need;
  {
    MutexLock l(mu_);
    need = extents_.missing(first, past);
  }
  TRY(charge(need));
  {
    MutexLock l(mu_);
    extents_.add(first, past);
    if (!backed_.load(std::memory_order_relaxed)) {
      if (pages_.size() < past) pages_.resize(past);
      for (uint64_t i = first; i < past; i++)
        if (!pages_[i]) pages_[i] = std::make_unique<Page>();
    }
  }
  if (!(mode & FALLOC_FL_KEEP_SIZE) && end > size()) return set_size(end);
  return {};
}

Result<void> RegularData::punch(uint64_t offset, uint64_t end) {
  uint64_t first = pages_up(offset), past = end / kPage;  // whole pages
  if (backed_.load(std::memory_order_relaxed)) {
    TRY(maybe_blocking(host_.in_memory, [&]() -> Result<void> {
      TRY(sys::raw(SYS_fallocate, host_.rw.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<long>(offset),
                   static_cast<long>(end - offset)));
      return {};
    }));
  }
  uint64_t gone = 0;
  {
    MutexLock l(mu_);
    for (uint64_t at = offset; at < std::min(end, pages_.size() * kPage);) {
      uint64_t i = at / kPage, stop = std::min(end, (i + 1) * kPage);
      if (pages_[i]) {
        if (stop - at == kPage) pages_[i] = nullptr;
        else memset(pages_[i]->data() + at % kPage, 0, stop - at);
      }
      at = stop;
    }
    if (!mapped_ && first < past) gone = extents_.remove(first, past);
  }
  uncharge(gone);
  return {};
}

Result<int64_t> RegularData::seek(int64_t offset, int whence) const {
  MutexLock l(mu_);
  if (offset < 0 || static_cast<uint64_t>(offset) >= size_) return kENXIO;
  auto at = static_cast<uint64_t>(offset);
  uint64_t page = whence == SEEK_DATA ? extents_.next_present(at / kPage) : extents_.next_absent(at / kPage);
  if (whence == SEEK_DATA && (page == UINT64_MAX || page * kPage >= size_)) return kENXIO;
  return static_cast<int64_t>(std::min(size_, std::max(at, page * kPage)));
}

std::optional<patch::ContentId> RegularData::content_id() const {
  const uint64_t changes = changes_.load();
  if (mapped_for_writing_.load() || changes % 2 != 0) return std::nullopt;
  return patch::ContentId{UINT64_MAX, ro_key_, changes, 0};
}

Result<mm::MapFd> RegularData::map_fd(bool writable) {
  sched::SleepLock change(change_);
  if (writable) mapped_for_writing_.store(true);
  if (!backed_.load(std::memory_order_relaxed)) TRY(move_to_host());
  if (!mapped_) {
    uint64_t all, need;
    {
      MutexLock l(mu_);
      all = pages_up(size_);
      need = extents_.missing(0, all);
    }
    if (!charge(need).ok()) return kENOMEM;
    MutexLock l(mu_);
    extents_.add(0, all);
    mapped_ = true;
  }
  return mm::MapFd{writable ? host_.rw.get() : host_.ro.get(), writable ? rw_key_ : ro_key_, 0};
}

}  // namespace sentry::fs::common
