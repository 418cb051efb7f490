// SPDX-License-Identifier: Apache-2.0
// mprotect, madvise, msync: calls about ranges that stay mapped. Linux: mm/mprotect.c, madvise.c, msync.c.
#include <algorithm>

#include "sentry/mm/impl.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

namespace sentry::mm {

namespace {

// Each mapping of r in order; says whether there was a hole.
template <typename F>
bool each_mapping(const VmaList& vmas, Range r, F&& f) {
  bool hole = false;
  uint64_t at = r.start;
  for (const Vma* v = vmas.find_from(at); v && v->start < r.end; v = vmas.find_from(v->end)) {
    hole = hole || v->start > at;
    f(*v);
    at = v->end;
  }
  return hole || at < r.end;
}

enum class AdviceKind : uint8_t { refused, nothing, flag, host, remove };

AdviceKind kind_of(int advice) {
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_COLD:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_DONTNEED_LOCKED:
      return AdviceKind::host;
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
      return AdviceKind::flag;
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_PAGEOUT:
    case MADV_MERGEABLE:    // sharing equal pages between tenants would be a side channel
    case MADV_UNMERGEABLE:
      return AdviceKind::nothing;
    case MADV_REMOVE:
      return AdviceKind::remove;
    default:
      return AdviceKind::refused;
  }
}

// Linux: can_madvise_modify(). What a sealed mapping that may not be written holds cannot be thrown away.
bool discards(int advice) {
  switch (advice) {
    case MADV_FREE:
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
    case MADV_REMOVE:
    case MADV_DONTFORK:
    case MADV_WIPEONFORK:
      return true;
    default:
      return false;
  }
}

// Linux: madvise_vma_behavior's checks of one mapping.
Result<void> check_advice(const Vma& v, int advice) {
  if (v.sealed && !v.shared && !(v.prot & PROT_WRITE) && discards(advice)) return kEPERM;
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_COLD:
    case MADV_PAGEOUT:
      if (v.locked) return kEINVAL;
      return {};
    case MADV_FREE:
      if (v.locked || v.file) return kEINVAL;
      return {};
    case MADV_WIPEONFORK:
      if (v.file || v.shared) return kEINVAL;
      return {};
    case MADV_REMOVE:
      if (v.locked || !v.file) return kEINVAL;
      if (!v.shared || !(v.max_prot & PROT_WRITE)) return kEACCES;
      return {};
    default:
      return {};
  }
}

void set_flag(Vma& v, int advice) {
  switch (advice) {
    case MADV_DONTFORK: v.dont_fork = true; break;
    case MADV_DOFORK: v.dont_fork = false; break;
    case MADV_WIPEONFORK: v.wipe_on_fork = true; break;
    case MADV_KEEPONFORK: v.wipe_on_fork = false; break;
    case MADV_DONTDUMP: v.dont_dump = true; break;
    case MADV_DODUMP: v.dont_dump = false; break;
    default: break;
  }
}

}  // namespace

Result<void> AddressSpace::protect(platform::Context& by, uint64_t addr, uint64_t len, int prot) {
  Impl& m = *impl_;
  int grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
  if (grows == (PROT_GROWSDOWN | PROT_GROWSUP)) return kEINVAL;
  prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP);
  if (!page_aligned(addr)) return kEINVAL;
  if (len == 0) return {};
  len = page_up(len);
  uint64_t end = addr + len;
  if (len == 0 || end <= addr) return kENOMEM;
  constexpr int kSem = 8;
  if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | kSem)) return kEINVAL;
  prot &= PROT_READ | PROT_WRITE | PROT_EXEC;
  if (addr < platform::kSharedBase && end > platform::kSharedBase) {
    // Two zones, two kinds of call on the host.
    TRY(protect(by, addr, platform::kSharedBase - addr, prot));
    settle(by);
    return protect(by, platform::kSharedBase, end - platform::kSharedBase, prot);
  }
  uint64_t flight = 0;
  Range done{addr, addr};  // what may be changed before the first obstacle
  int error = 0;
  {
    using Patches = Impl::Started::Patches;
    Impl::Started s(m, by, {addr, end}, {}, prot & PROT_WRITE ? Patches::out : Patches::kept);
    TRY(s.result());
    if (grows == PROT_GROWSDOWN) {
      const Vma* v = m.vmas.find_from(addr);
      if (!v || v->start >= end) return kENOMEM;
      if (!v->grows_down) return kEINVAL;
      if (v->start < addr) addr = v->start;
    } else if (grows != 0) {
      return kEINVAL;
    }
    done = {addr, addr};
    uint64_t more_data = 0;
    bool different = false;
    while (done.end < end) {
      const Vma* v = m.vmas.find(done.end);
      if (!v) {
        error = ENOMEM;
        break;
      }
      if (prot & ~v->max_prot) {
        error = EACCES;
        break;
      }
      if (v->sealed) {
        error = EPERM;
        break;
      }
      uint64_t stop = std::min(v->end, end);
      different = different || v->prot != prot;
      if ((prot & PROT_WRITE) && !v->shared && !v->grows_down && !VmaList::is_data(*v)) more_data += stop - done.end;
      done.end = stop;
    }
    if (done.empty() || !different) {
      if (error) return Errno(error);
      return {};
    }
    TRY(m.check_growth_locked(0, more_data));
    TRY(m.check_count_locked(m.vmas.cuts(done)));
    Flight& f = m.begin_flight_locked(by, done);
    f.restore = m.vmas.copy(done);
    f.drop = done;
    flight = f.id;
    m.vmas.change(done, [&](Vma& v) {
      v.prot = prot;
      v.written = v.written || (v.file && !v.shared && (prot & PROT_WRITE));
    });
  }
  platform::MemoryCall call{};
  call.op = platform::MemoryOp::protect;
  call.address = done.start;
  call.length = done.end - done.start;
  call.prot = prot;
  TRY(m.queue(by, flight, call));
  if (error) return Errno(error);
  return {};
}

Result<void> AddressSpace::advise(platform::Context& by, uint64_t addr, uint64_t len, int advice) {
  Impl& m = *impl_;
  AdviceKind kind = kind_of(advice);
  if (kind == AdviceKind::refused) return kEINVAL;
  if (!page_aligned(addr)) return kEINVAL;
  uint64_t rounded = page_up(len);
  if (len != 0 && rounded == 0) return kEINVAL;
  uint64_t end = addr + rounded;
  if (end < addr) return kEINVAL;
  if (end == addr) return {};
  Range range{addr, end};
  uint64_t flight = 0;
  bool hole = false;
  int error = 0;
  std::vector<Vma> pieces;
  {
    // Contents only: no range changes hands, so nothing is blocked; but a fork must not pass by.
    Impl::Started s(m, by, kind == AdviceKind::flag ? range : Range{});
    TRY(s.result());
    uint64_t stop = range.start;
    hole = each_mapping(m.vmas, range, [&](const Vma& v) {
      if (error) return;
      auto r = check_advice(v, advice);
      if (!r.ok()) error = r.error().value();
      else stop = std::min(v.end, range.end);
    });
    range.end = stop;  // Linux goes on up to the first refusal, and over holes
    if (!range.empty()) {
      if (kind == AdviceKind::flag) {
        TRY(m.check_count_locked(m.vmas.cuts(range)));
        m.vmas.change(range, [&](Vma& v) { set_flag(v, advice); });
      } else if (kind == AdviceKind::host) {
        if (hole) pieces = m.vmas.copy(range);
        Flight& f = m.begin_flight_locked(by, {});
        f.synchronous = hole;
        flight = f.id;
      } else if (kind == AdviceKind::remove) {
        pieces = m.vmas.copy(range);
      }
    }
  }
  if (kind == AdviceKind::remove) {
    for (const Vma& v : pieces) TRY(v.file->punch_hole(v.offset, v.length()));
  } else if (flight != 0) {
    platform::MemoryCall call{};
    call.op = platform::MemoryOp::advise;
    call.flags = advice == MADV_DONTNEED_LOCKED ? MADV_DONTNEED : advice;
    call.address = range.start;
    call.length = range.end - range.start;
    if (!hole) {
      TRY(m.queue(by, flight, call));
    } else {
      bool populates = advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
      uint64_t at = range.start;
      for (const Vma& v : pieces) {
        if (populates && v.start > at) break;  // these stop at the first hole
        call.address = v.start;
        call.length = v.length();
        auto r = by.memory_call(call);
        if (!r.ok() && error == 0) error = r.error().value();
        at = v.end;
      }
      m.finish(flight);
    }
  }
  if (error) return Errno(error);
  if (hole) return kENOMEM;
  return {};
}

Result<void> AddressSpace::sync(platform::Context&, uint64_t addr, uint64_t len, int flags) {
  Impl& m = *impl_;
  if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) return kEINVAL;
  if (!page_aligned(addr)) return kEINVAL;
  if ((flags & MS_ASYNC) && (flags & MS_SYNC)) return kEINVAL;
  uint64_t rounded = page_up(len);
  uint64_t end = addr + rounded;
  if (end < addr) return kENOMEM;
  if (end == addr) return {};
  Range range{addr, end};
  std::vector<Vma> pieces;
  bool hole;
  {
    MutexLock l(m.mu);
    bool busy = false;
    hole = each_mapping(m.vmas, range, [&](const Vma& v) { busy = busy || v.locked; });
    if (busy && (flags & MS_INVALIDATE)) return kEBUSY;
    if (flags & MS_SYNC) pieces = m.vmas.copy(range);
  }
  for (const Vma& v : pieces)
    if (v.shared && v.file) TRY(v.file->sync_range(v.offset, v.length()));
  if (hole) return kENOMEM;
  return {};
}

}  // namespace sentry::mm
