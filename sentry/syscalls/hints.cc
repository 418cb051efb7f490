// SPDX-License-Identifier: Apache-2.0
// Calls that set what only the host could act on: I/O priorities, memory nodes, advice to other processes. They are checked as Linux
// checks them; what is kept is answered, what is a mere hint is dropped.
#include <linux/ioprio.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>

#include <algorithm>

#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/syscalls/transfer.h"

namespace sentry::syscalls {
namespace {

// ---- I/O priorities ----

Result<std::vector<Ref<Task>>> io_targets(Task& task, int which, int who) {
  std::vector<Ref<Task>> list;
  kernel::PidNamespace& ns = task.group().pid_namespace();
  switch (which) {
    case IOPRIO_WHO_PROCESS: {
      RefOrNull<Task> t = who == 0 ? RefOrNull<Task>(Ref<Task>(task)) : ns.find_task(who);
      if (t) list.push_back(t.get_ref());
      break;
    }
    case IOPRIO_WHO_PGRP: {
      RefOrNull<kernel::ProcessGroup> pg = task.group().process_group();
      if (who != 0) pg = ns.find_process_group(who);
      if (!pg) break;
      for (const Ref<kernel::ThreadGroup>& g : kernel::members_of(*pg))
        for (const Ref<Task>& t : g->tasks()) list.push_back(t);
      break;
    }
    case IOPRIO_WHO_USER: {
      const auth::Credentials& me = task.own_credentials();
      const uint32_t uid = who == 0 ? me.uid : auth::kernel_uid(me.user_ns.get(), static_cast<uint32_t>(who));
      for (const Ref<kernel::ThreadGroup>& g : ns.groups())
        for (const Ref<Task>& t : g->tasks())
          if (t->credentials()->uid == uid) list.push_back(t);
      break;
    }
    default: return kEINVAL;
  }
  if (list.empty()) return kESRCH;
  return list;
}

// ---- Memory policy: one node, number 0 ----

// The nodes of a mask that has `bits` bits; EINVAL: others than node 0.
Result<bool> has_node0(Task& task, uint64_t mask, uint64_t bits) {
  constexpr uint64_t kMostBits = 4096 * 8;
  if (bits == 0 || mask == 0) return false;
  bits--;  // Linux: get_nodes() counts one less
  if (bits > kMostBits) return kEINVAL;
  if (bits == 0) return false;
  auto words = TRY(UserIn<uint64_t>(mask).copy_in_array(task.context(), (bits + 63) / 64));
  if (bits % 64) words.back() &= (uint64_t{1} << bits % 64) - 1;
  bool first = words[0] & 1;
  words[0] &= ~uint64_t{1};
  if (std::any_of(words.begin(), words.end(), [](uint64_t w) { return w != 0; })) return kEINVAL;
  return first;
}

Result<void> check_policy(int mode_and_flags, bool node0) {
  constexpr int kFlags = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | (1 << 13) /* MPOL_F_NUMA_BALANCING */;
  const int flags = mode_and_flags & kFlags, mode = mode_and_flags & ~kFlags;
  if (mode < 0 || mode > 6 || ((flags & MPOL_F_STATIC_NODES) && (flags & MPOL_F_RELATIVE_NODES))) return kEINVAL;
  switch (mode) {
    case MPOL_DEFAULT: return node0 || flags ? Result<void>(kEINVAL) : Result<void>();
    case MPOL_PREFERRED: return !node0 && flags ? Result<void>(kEINVAL) : Result<void>();
    case MPOL_LOCAL: return node0 || flags ? Result<void>(kEINVAL) : Result<void>();
    default: return node0 ? Result<void>() : Result<void>(kEINVAL);
  }
}

}  // namespace

Result<long> sys_ioprio_set(Task& task, int which, int who, int value) {
  const int io_class = value >> IOPRIO_CLASS_SHIFT, level = value & 7;
  const auth::Credentials& c = task.own_credentials();
  switch (io_class) {
    case IOPRIO_CLASS_RT:
      if (!c.has_cap(CAP_SYS_ADMIN) && !c.has_cap(CAP_SYS_NICE)) return kEPERM;
      break;
    case IOPRIO_CLASS_BE:
    case IOPRIO_CLASS_IDLE: break;
    case IOPRIO_CLASS_NONE:
      if (level != 0) return kEINVAL;
      break;
    default: return kEINVAL;
  }
  for (const Ref<Task>& t : TRY(io_targets(task, which, who))) {
    Ref<auth::Credentials> theirs = t->credentials();
    if (theirs->uid != c.euid && theirs->uid != c.uid && !c.has_cap_in(theirs->user_ns.get(), CAP_SYS_NICE)) return kEPERM;
    t->impl().io_priority = value;
  }
  return 0L;
}

Result<long> sys_ioprio_get(Task& task, int which, int who) {
  long best = -1;
  for (const Ref<Task>& t : TRY(io_targets(task, which, who))) {
    long p = t->impl().io_priority.load();
    // Of one process what was set; of several what counts: by nice, when nothing was.
    if (which != IOPRIO_WHO_PROCESS && p >> IOPRIO_CLASS_SHIFT == IOPRIO_CLASS_NONE)
      p = IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT | (t->impl().nice.load() + 20) / 5;
    best = best < 0 ? p : std::min(best, p);
  }
  return best;
}

Result<long> sys_set_mempolicy(Task& task, int mode, uint64_t mask, uint64_t bits) {
  TRY(check_policy(mode, TRY(has_node0(task, mask, bits))));
  return 0L;
}

Result<long> sys_mbind(Task& task, uint64_t addr, uint64_t length, int mode, uint64_t mask, uint64_t bits, unsigned flags) {
  constexpr unsigned kKnown = MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL;
  if (flags & ~kKnown) return kEINVAL;
  if ((flags & MPOL_MF_MOVE_ALL) && !task.own_credentials().has_cap(CAP_SYS_NICE)) return kEPERM;
  TRY(check_policy(mode, TRY(has_node0(task, mask, bits))));
  if (addr % platform::kPageSize) return kEINVAL;
  length = (length + platform::kPageSize - 1) & ~(platform::kPageSize - 1);
  if (addr + length < addr) return kEINVAL;
  if (length == 0) return 0L;
  for (uint64_t at = addr; at < addr + length;) {
    std::optional<mm::Vma> v = task.mm()->find(at);
    if (!v) return kEFAULT;
    at = v->end;
  }
  return 0L;
}

Result<long> sys_get_mempolicy(Task& task, UserOut<int> mode, UserOut<void> mask, uint64_t bits, uint64_t addr, unsigned flags) {
  if (flags & ~static_cast<unsigned>(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED)) return kEINVAL;
  if (!mask.is_null() && bits < 1) return kEINVAL;
  uint64_t nodes = 0;
  if (flags & MPOL_F_MEMS_ALLOWED) {
    if (flags & (MPOL_F_NODE | MPOL_F_ADDR)) return kEINVAL;
    nodes = 1;
  } else if (flags & MPOL_F_ADDR) {
    if (!task.mm()->find(addr)) return kEFAULT;
  } else if (addr != 0) {
    return kEINVAL;
  } else if (flags & MPOL_F_NODE) {
    return kEINVAL;  // only with an interleaving policy
  }
  if (!mode.is_null()) TRY(mode.copy_out(task.context(), 0));  // MPOL_DEFAULT, or node 0
  if (!mask.is_null()) {
    const size_t bytes = (std::min<uint64_t>(bits, 4096 * 8) + 63) / 64 * 8;
    std::vector<uint64_t> out(bytes / 8);
    out[0] = nodes;
    TRY(mask.copy_bytes_out(task.context(), out.data(), bytes));
  }
  return 0L;
}

// For other processes these are hints, which the sandbox does not pass on.
Result<long> sys_process_madvise(Task& task, int pidfd, UserIn<struct iovec> vec, size_t count, int advice, unsigned flags) {
  constexpr int kCollapse = 25;
  if (flags != 0) return kEINVAL;
  if (count > 1024) return kEINVAL;
  auto list = TRY(vec.copy_in_array(task.context(), count));
  for (size_t sum = 0; iovec& v : list) {  // Linux: import_iovec()
    if (static_cast<ssize_t>(v.iov_len) < 0) return kEINVAL;
    v.iov_len = std::min(v.iov_len, kMaxTransfer - sum);
    sum += v.iov_len;
  }
  Ref<vfs::File> f = TRY(task.file(pidfd));
  Ref<kernel::ThreadGroup> g = TRY(kernel::process_of_pidfd(*f));
  const bool own = g.get() == &task.group();
  if (!own) {
    if (advice != MADV_COLD && advice != MADV_PAGEOUT && advice != MADV_WILLNEED && advice != kCollapse) return kEINVAL;
    RefOrNull<Task> leader = g->leader();
    if (!leader) return kESRCH;
    if (!kernel::may_inspect(&task, *leader, false) || !task.own_credentials().has_cap(CAP_SYS_NICE)) return kEPERM;
  }
  long total = 0;
  for (const iovec& v : list) {
    auto addr = reinterpret_cast<uint64_t>(v.iov_base);
    if (addr % platform::kPageSize) return total ? Result<long>(total) : Result<long>(kEINVAL);
    if (own) {
      Result<void> r = task.mm()->advise(task.context(), addr, v.iov_len, advice);
      if (!r.ok()) return total ? Result<long>(total) : Result<long>(r.error());
    }
    total += static_cast<long>(v.iov_len);
  }
  return total;
}

// Linux: mm/filemap.c. The pages of a file are the host's to cache.
Result<long> sys_cachestat(Task& task, int fd, UserIn<void> range, UserOut<void> stat, unsigned flags) {
  struct Range {
    uint64_t offset, length;
  } r;
  struct Answer {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
  } a{};
  Ref<vfs::File> f = TRY(task.file(fd));
  TRY(range.copy_bytes_in(task.context(), &r, sizeof r));
  const vfs::Attributes now = TRY(f->inode().attributes());
  if (!f->writable() && !task.own_credentials().owns_or(now.uid, CAP_FOWNER) &&
      !f->inode().check_access(task.own_credentials(), W_OK).ok())
    return kEPERM;
  if (flags != 0) return kEINVAL;
  constexpr uint64_t kPage = 4096;
  if (f->inode().is_regular()) {
    const uint64_t end = (now.size + kPage - 1) / kPage, first = std::min(r.offset / kPage, end);
    const uint64_t last = r.length == 0 || r.offset + r.length < r.offset ? end : std::min(end, (r.offset + r.length + kPage - 1) / kPage);
    a.cached = std::min(last > first ? last - first : 0, (now.blocks + 7) / 8);
  }
  TRY(stat.copy_bytes_out(task.context(), &a, sizeof a));
  return 0L;
}

// The memory of a process that is being killed: it goes as fast as it can anyway. Linux: mm/oom_kill.c.
Result<long> sys_process_mrelease(Task& task, int pidfd, unsigned flags) {
  if (flags != 0) return kEINVAL;
  Ref<vfs::File> f = TRY(task.file(pidfd));
  Ref<kernel::ThreadGroup> g = TRY(kernel::process_of_pidfd(*f));
  RefOrNull<Task> alive;
  for (const Ref<Task>& t : g->tasks())
    if (t->find_mm()) alive = t;
  if (!alive) return kESRCH;
  MutexLock l(g->impl().mu);
  return g->impl().exiting ? Result<long>(0L) : Result<long>(kEINVAL);
}

}  // namespace sentry::syscalls
