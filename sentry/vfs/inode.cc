// SPDX-License-Identifier: Apache-2.0
// Defaults of inodes and file systems, permission bits, write and execution counts. Linux: fs/inode.c, fs/namei.c
// (generic_permission), fs/super.c.
#include "sentry/vfs/inode.h"

#include <sys/sysmacros.h>
#include <unistd.h>

#include "sentry/vfs/dentry_access.h"
#include "sentry/vfs/locks.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/special.h"

namespace sentry::vfs {
namespace {

// Device numbers of file systems: none is that of anonymous shared memory (mm) or of System V segments (kernel/ipc_shm.cc), as
// futexes tell memory apart by device and inode.
std::atomic<uint64_t> g_next_minor{2};
uint64_t next_device() {
  constexpr uint64_t kSegments = 0xfffff;
  uint64_t minor = g_next_minor.fetch_add(1);
  if (minor == kSegments) minor = g_next_minor.fetch_add(1);
  return makedev(0, static_cast<unsigned>(minor));
}
std::atomic<SpecialOpener> g_openers[3];

std::atomic<SpecialOpener>* opener_slot(uint32_t type) {
  switch (type) {
    case S_IFIFO: return &g_openers[0];
    case S_IFCHR: return &g_openers[1];
    case S_IFBLK: return &g_openers[2];
    default: return nullptr;
  }
}

}  // namespace

timespec current_time() {
  timespec t;
  clock_gettime(CLOCK_REALTIME_COARSE, &t);
  return t;
}

Result<void> check_mode(const auth::Credentials& cred, int mask, uint32_t mode, uint32_t uid, uint32_t gid) {
  uint32_t bits = mode;
  if (cred.fsuid == uid) bits >>= 6;
  else if (cred.in_group(gid)) bits >>= 3;
  if ((static_cast<uint32_t>(mask) & ~bits & 7) == 0) return {};
  if (S_ISDIR(mode)) {
    if (!(mask & W_OK) && cred.has_cap_over(uid, gid, CAP_DAC_READ_SEARCH)) return {};
    if (cred.has_cap_over(uid, gid, CAP_DAC_OVERRIDE)) return {};
    return kEACCES;
  }
  if (mask == R_OK && cred.has_cap_over(uid, gid, CAP_DAC_READ_SEARCH)) return {};
  // Execution needs one x bit, even for the mighty.
  if ((!(mask & X_OK) || (mode & 0111)) && cred.has_cap_over(uid, gid, CAP_DAC_OVERRIDE)) return {};
  return kEACCES;
}

Inode::~Inode() {
  destroy_locks(locks_.load(std::memory_order_relaxed));
  destroy_watches(watches_.load(std::memory_order_relaxed));
}

WatchList* Inode::set_watches(WatchList* fresh) {
  WatchList* old = nullptr;
  return watches_.compare_exchange_strong(old, fresh, std::memory_order_acq_rel) ? fresh : old;
}

Result<void> Inode::check_access(const auth::Credentials& cred, int mask) {
  Attributes a = TRY(attributes());
  return check_mode(cred, mask, a.mode, a.uid, a.gid);
}

Result<Path> Inode::jump() { return kENOENT; }

Result<Ref<File>> Attachment::reopen(const Path&, int, const Ref<auth::Credentials>&) { return kENXIO; }

RefOrNull<Attachment> Inode::attachment() const {
  MutexLock l(attachment_mu_);
  return attachment_;
}
Ref<Attachment> Inode::attach(Ref<Attachment> a) {
  MutexLock l(attachment_mu_);
  if (!attachment_) attachment_ = a;
  return attachment_.get_ref();
}
void Inode::detach() {
  RefOrNull<Attachment> gone;
  MutexLock l(attachment_mu_);
  gone = std::move(attachment_);
  attachment_ = nullptr;
}

// write_count_ > 0: so many writers; < 0: so many executions.
Result<void> Inode::get_write_access() {
  int n = write_count_.load(std::memory_order_relaxed);
  do {
    if (n < 0) return kETXTBSY;
  } while (!write_count_.compare_exchange_weak(n, n + 1, std::memory_order_relaxed));
  return {};
}
void Inode::put_write_access() {
  int old = write_count_.fetch_sub(1, std::memory_order_relaxed);
  CHECK(old > 0);
}
Result<void> Inode::deny_write_access() {
  int n = write_count_.load(std::memory_order_relaxed);
  do {
    if (n > 0) return kETXTBSY;
  } while (!write_count_.compare_exchange_weak(n, n - 1, std::memory_order_relaxed));
  return {};
}
void Inode::allow_write_access() {
  int old = write_count_.fetch_add(1, std::memory_order_relaxed);
  CHECK(old < 0);
}

FileSystem::FileSystem()
    : dentries_(std::make_unique<DentryCache>()), device_(next_device()) {}
FileSystem::~FileSystem() = default;

void set_special_opener(uint32_t type, SpecialOpener opener) {
  std::atomic<SpecialOpener>* slot = opener_slot(type);
  CHECK(slot);
  slot->store(opener, std::memory_order_release);
}

Result<Ref<File>> open_special(const Path& where, Inode& inode, int flags, const Ref<auth::Credentials>& cred) {
  std::atomic<SpecialOpener>* slot = opener_slot(inode.type());
  SpecialOpener opener = slot ? slot->load(std::memory_order_acquire) : nullptr;
  if (!opener) return kENXIO;
  uint64_t rdev = 0;
  if (!S_ISFIFO(inode.type())) rdev = TRY(inode.attributes()).rdev;
  return opener(rdev, where, Ref<Inode>(inode), flags, cred);
}

}  // namespace sentry::vfs
