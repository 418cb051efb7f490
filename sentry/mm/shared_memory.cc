// SPDX-License-Identifier: Apache-2.0
// Anonymous shared memory: a memfd of fixed size that its mappings keep alive. Linux: shmem_zero_setup().
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/sys.h"
#include "sentry/mm/address_space.h"

namespace sentry::mm {

namespace {

std::atomic<uint64_t> g_next_inode{1};
std::atomic<uint64_t> g_next_key{1};

class SharedMemory final : public Mappable {
 public:
  SharedMemory(Fd fd, const char* name) : fd_(std::move(fd)), path_(std::string("/") + name + " (deleted)") {}
  // Whoever has it mapped may write it (mprotect included): there is one access mode.
  Result<MapFd> map_fd(bool) override { return MapFd{fd_.get(), key_, 0}; }
  uint64_t device() const override { return makedev(0, 1); }
  uint64_t inode_number() const override { return inode_; }
  std::string path() const override { return path_; }
  Result<void> punch_hole(int64_t offset, uint64_t length) override {
    TRY(sys::raw(SYS_fallocate, fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, static_cast<long>(length)));
    return {};
  }

 private:
  Fd fd_;
  const std::string path_;
  const uint64_t inode_ = g_next_inode.fetch_add(1, std::memory_order_relaxed);
  const uint64_t key_ = new_map_key();
};

}  // namespace

uint64_t new_map_key() { return g_next_key.fetch_add(1, std::memory_order_relaxed); }

Result<Ref<Mappable>> create_shared_memory(uint64_t bytes, const char* name) {
  if (bytes > static_cast<uint64_t>(INT64_MAX)) return kENOMEM;
  Fd fd = TRY(sys::memfd_create(name, MFD_CLOEXEC));
  TRY(sys::ftruncate(fd.get(), static_cast<int64_t>(bytes)));
  return Ref<Mappable>(make_ref<SharedMemory>(std::move(fd), name));
}

}  // namespace sentry::mm
