// SPDX-License-Identifier: Apache-2.0
// mmap(2) and its family, brk(2), memfd_create(2): the checks that need a descriptor or a capability; the rest is sentry/mm.
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "sentry/syscalls/syscalls.h"

#ifndef MAP_UNINITIALIZED
#define MAP_UNINITIALIZED 0x4000000
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#define MFD_EXEC 0x10U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

namespace sentry::syscalls {

namespace {

using Lock = mm::AddressSpace::Lock;

// What MAP_SHARED_VALIDATE knows (include/linux/mman.h, LEGACY_MAP_MASK): MAP_FIXED_NOREPLACE is not among it.
constexpr int kLegacyFlags = MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE | MAP_EXECUTABLE |
                             MAP_UNINITIALIZED | MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK |
                             MAP_STACK | MAP_HUGETLB | MAP_32BIT;

bool may_lock(Task& task) { return task.own_credentials().has_cap(CAP_IPC_LOCK); }

Result<long> done(Result<void> r) {
  if (!r.ok()) return r.error();
  return 0L;
}
Result<long> address(Result<uint64_t> r) {
  if (!r.ok()) return r.error();
  return r.value();
}

// Linux: do_mmap()'s checks of a file.
Result<void> use_file(vfs::File& file, mm::MapRequest& r) {
  const int type = r.flags & MAP_TYPE;
  if (type == MAP_SHARED_VALIDATE && (r.flags & ~(kLegacyFlags | MAP_SHARED_VALIDATE))) return kEOPNOTSUPP;
  if (type != MAP_PRIVATE && (r.prot & PROT_WRITE) && !file.writable()) return kEACCES;
  if (!file.readable()) return kEACCES;
  r.file_noexec = file.path().mount && (file.path().mount->flags() & MS_NOEXEC);
  if (r.file_noexec && (r.prot & PROT_EXEC)) return kEPERM;
  r.file_writable = file.writable();
  r.file = TRY(file.mappable());
  return {};
}

}  // namespace

Result<long> sys_mmap(Task& task, uint64_t addr, uint64_t length, int prot, int flags, int fd, int64_t offset) {
  if (offset & 4095) return kEINVAL;
  const int type = flags & MAP_TYPE;
  mm::MapRequest r;
  r.address = addr;
  r.length = length;
  r.prot = prot;
  r.flags = flags;
  if (flags & MAP_ANONYMOUS) {
    if (type != MAP_SHARED && type != MAP_PRIVATE) return kEINVAL;
    if (length == 0) return kEINVAL;
    if (flags & MAP_HUGETLB) return kENOMEM;  // a pool of huge pages that is always empty
  } else {
    Ref<vfs::File> file = TRY(task.file(fd));
    if (flags & MAP_HUGETLB) return kEINVAL;
    if (length == 0) return kEINVAL;
    if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE) return kEINVAL;
    TRY(use_file(*file, r));
    r.offset = offset;
  }
  r.may_lock = (flags & MAP_LOCKED) && may_lock(task);
  return address(task.mm()->map(task.context(), r));
}

Result<long> sys_munmap(Task& task, uint64_t addr, uint64_t length) {
  return done(task.mm()->unmap(task.context(), addr, length));
}

Result<long> sys_mprotect(Task& task, uint64_t addr, uint64_t length, int prot) {
  return done(task.mm()->protect(task.context(), addr, length, prot));
}

Result<long> sys_mremap(Task& task, uint64_t old_addr, uint64_t old_len, uint64_t new_len, int flags, uint64_t new_addr) {
  return address(task.mm()->remap(task.context(), old_addr, old_len, new_len, flags, new_addr));
}

Result<long> sys_madvise(Task& task, uint64_t addr, uint64_t length, int advice) {
  if ((advice == MADV_HWPOISON || advice == MADV_SOFT_OFFLINE) && !task.own_credentials().has_cap(CAP_SYS_ADMIN)) return kEPERM;
  return done(task.mm()->advise(task.context(), addr, length, advice));
}

Result<long> sys_brk(Task& task, uint64_t addr) { return address(task.mm()->brk(task.context(), addr)); }

Result<long> sys_msync(Task& task, uint64_t addr, uint64_t length, int flags) {
  return done(task.mm()->sync(task.context(), addr, length, flags));
}

Result<long> sys_mincore(Task& task, uint64_t addr, uint64_t length, UserOut<void> vec) {
  constexpr uint64_t kPiece = 64 * 1024 * 4096ull;  // a bounded answer at a time
  if (addr & 4095) return kEINVAL;
  for (uint64_t at = 0;;) {
    const uint64_t piece = std::min(length - at, kPiece);
    auto pages = TRY(task.mm()->mincore(task.context(), addr + at, piece));
    if (!pages.empty())
      TRY(task.context().copy_out(vec.unchecked_address() + at / 4096, pages.data(), pages.size()));
    at += piece;
    if (at >= length) return 0L;
  }
}

Result<long> sys_mlock(Task& task, uint64_t addr, uint64_t length) {
  return done(task.mm()->lock_range(task.context(), addr, length, Lock::now, may_lock(task)));
}

Result<long> sys_mlock2(Task& task, uint64_t addr, uint64_t length, int flags) {
  if (flags & ~MLOCK_ONFAULT) return kEINVAL;
  const Lock how = flags & MLOCK_ONFAULT ? Lock::on_fault : Lock::now;
  return done(task.mm()->lock_range(task.context(), addr, length, how, may_lock(task)));
}

Result<long> sys_munlock(Task& task, uint64_t addr, uint64_t length) {
  return done(task.mm()->lock_range(task.context(), addr, length, Lock::off));
}

Result<long> sys_mlockall(Task& task, int flags) {
  if (flags == 0) return kEINVAL;
  return done(task.mm()->lock_all(task.context(), flags, may_lock(task)));
}

Result<long> sys_munlockall(Task& task) { return done(task.mm()->lock_all(task.context(), 0)); }

Result<long> sys_mseal(Task& task, uint64_t addr, uint64_t length, uint64_t flags) {
  if (flags != 0) return kEINVAL;
  return done(task.mm()->seal(task.context(), addr, length));
}

Result<long> sys_memfd_create(Task& task, UserString name, unsigned flags) {
  constexpr size_t kMaxName = 249;  // NAME_MAX less "memfd:"
  if (flags & MFD_HUGETLB) {
    if (flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_NOEXEC_SEAL | MFD_EXEC | (63u << MFD_HUGE_SHIFT))) return kEINVAL;
    return kENOMEM;
  }
  if (flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC)) return kEINVAL;
  if ((flags & MFD_EXEC) && (flags & MFD_NOEXEC_SEAL)) return kEINVAL;
  auto text = name.copy_in(task.context(), kMaxName + 1);
  if (!text.ok()) return text.error() == kENAMETOOLONG ? kEINVAL : text.error();
  if (text->size() > kMaxName) return kEINVAL;
  kernel::FileSystems* maker = task.container().file_systems();
  if (!maker) return kENOSYS;
  // MFD_NOEXEC_SEAL implies sealing and takes the x bits away (man 2 memfd_create).
  const bool noexec = flags & MFD_NOEXEC_SEAL;
  Ref<vfs::File> file = TRY(maker->make_memfd(*text, noexec || (flags & MFD_ALLOW_SEALING), noexec ? 0666 : 0777, task.credentials()));
  if (noexec) TRY(file->inode().add_seals(F_SEAL_EXEC));
  return task.install(file, flags & MFD_CLOEXEC);
}

}  // namespace sentry::syscalls
