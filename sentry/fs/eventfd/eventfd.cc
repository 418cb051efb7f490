// SPDX-License-Identifier: Apache-2.0
// A counter that can be read, written and waited for.
#include "sentry/fs/eventfd/eventfd.h"

#include <cstring>

namespace sentry::fs::eventfd {
namespace {

constexpr uint64_t kMax = UINT64_MAX - 1;

class EventFile final : public vfs::File {
 public:
  EventFile(uint64_t initial, bool semaphore, const vfs::Path& path, int flags, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::eventfd, path, path.inode().get_ref(), O_RDWR | flags, std::move(cred)),
        count_(initial), semaphore_(semaphore) {}

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override {
    if (dst.size() < 8) return kEINVAL;
    for (;;) {
      uint64_t value = 0;
      {
        MutexLock l(mu_);
        if (count_ > 0) {
          value = semaphore_ ? 1 : count_;
          count_ -= value;
        }
      }
      if (value) {
        queue_.wake_all(EPOLLOUT | EPOLLWRNORM);
        memcpy(dst.data(), &value, sizeof value);
        return sizeof value;
      }
      if (f.nonblock) return kEAGAIN;
      TRY(sched::wait_for(queue_, [&] {
        MutexLock l(mu_);
        return count_ > 0;
      }));
    }
  }

  bool message_oriented() const override { return true; }  // all eight bytes or none
  Result<size_t> write(std::span<const std::byte> src, int64_t*, vfs::IoFlags f) override {
    if (src.size() < 8) return kEINVAL;
    uint64_t value;
    memcpy(&value, src.data(), sizeof value);
    if (value == UINT64_MAX) return kEINVAL;
    for (;;) {
      {
        MutexLock l(mu_);
        if (kMax - count_ >= value) {
          count_ += value;
          break;
        }
      }
      if (f.nonblock) return kEAGAIN;
      TRY(sched::wait_for(queue_, [&] {
        MutexLock l(mu_);
        return kMax - count_ >= value;
      }));
    }
    queue_.wake_all(EPOLLIN | EPOLLRDNORM);
    return sizeof value;
  }

  uint32_t poll_events() override {
    MutexLock l(mu_);
    return (count_ > 0 ? EPOLLIN | EPOLLRDNORM : 0u) | (count_ < kMax ? EPOLLOUT | EPOLLWRNORM : 0u);
  }
  sched::WaitQueue* poll_queue() override { return &queue_; }
  std::string fdinfo() override {
    MutexLock l(mu_);
    return base::format("eventfd-count: {:16x}\n", uint64_t{count_});
  }

 private:
  Mutex mu_{LockRank::kFilePrivate};
  uint64_t count_ GUARDED_BY(mu_);
  const bool semaphore_;
  sched::WaitQueue queue_;
};

}  // namespace

Ref<vfs::File> create(uint64_t initial, int flags, bool semaphore, const Ref<auth::Credentials>& cred) {
  return make_ref<EventFile>(initial, semaphore, vfs::make_anonymous_path("anon_inode:[eventfd]", 0600, *cred),
                             flags & O_NONBLOCK, cred);
}

}  // namespace sentry::fs::eventfd
