// SPDX-License-Identifier: Apache-2.0
// mlock and its family, mseal, mincore: what is said of ranges, and whether their pages are there. Linux: mm/mlock.c, mseal.c, mincore.c.
#include <algorithm>

#include "sentry/mm/impl.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace sentry::mm {

namespace {

constexpr uint64_t kFilledAtOnce = 64 << 20;  // some 50 ms, in which the thread hears of no signal

}  // namespace

Result<void> AddressSpace::Impl::populate(platform::Context& by, Range r, Refusal refusal) {
  std::vector<Vma> pieces;
  {
    MutexLock l(mu);
    pieces = vmas.copy(r);
    for (Vma& v : pieces) v.start = shown_start_locked(v);
  }
  for (const Vma& v : pieces) {
    if (v.lock_on_fault) continue;
    if (v.prot == PROT_NONE) {
      if (refusal == Refusal::ends) return kEFAULT;
      continue;
    }
    platform::MemoryCall fill{};
    fill.op = platform::MemoryOp::advise;
    // A private mapping of a file that is only read stays the file's pages.
    fill.flags = (v.prot & PROT_WRITE) && !(v.file && !v.shared) ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    for (fill.address = v.start; fill.address < v.end; fill.address += fill.length) {
      fill.length = std::min(v.end - fill.address, kFilledAtOnce);
      auto done = by.memory_call(fill);
      if (done.ok()) continue;
      if (refusal == Refusal::ends || space->gone()) return done.error();
      break;
    }
  }
  return {};
}

Result<void> AddressSpace::lock_range(platform::Context& by, uint64_t addr, uint64_t len, Lock how, bool may_lock) {
  Impl& m = *impl_;
  const bool lock = how != Lock::off;
  uint64_t rounded = page_up(len + (addr & kPageMask));
  addr = page_down(addr);
  uint64_t end = addr + rounded;
  {
    Impl::Started s(m, by, {addr, std::max(addr, end)}, {}, Impl::Started::Patches::kept);
    TRY(s.result());
    const uint64_t limit = may_lock ? RLIM_INFINITY : m.limits.memlock;
    if (lock && limit == 0) return kEPERM;
    if (end < addr) return kEINVAL;
    if (end == addr) return {};
    Range range{addr, end};
    if (lock && limit != RLIM_INFINITY) {
      uint64_t others = m.vmas.locked_bytes() - sizes_of(m.vmas, range).locked;
      if (rounded > limit || others > limit - rounded) return kENOMEM;
    }
    TRY(m.check_count_locked(m.vmas.cuts(range)));
    // Linux stops at the first hole, with what lies below it done.
    uint64_t stop = addr;
    while (stop < end) {
      const Vma* v = m.vmas.find(stop);
      if (!v) break;
      stop = std::min(v->end, end);
    }
    if (stop > addr) {
      m.vmas.change({addr, stop}, [&](Vma& v) {
        v.locked = lock;
        v.lock_on_fault = how == Lock::on_fault;
      });
    }
    if (stop < end) return kENOMEM;
  }
  if (how != Lock::now) return {};
  Result<void> r = m.populate(by, {addr, end}, Impl::Refusal::ends);
  if (r.ok()) return {};
  // Linux: __mlock_posix_error_return()
  return r.error() == kENOMEM ? kEAGAIN : kENOMEM;
}

Result<void> AddressSpace::lock_all(platform::Context& by, int flags, bool may_lock) {
  Impl& m = *impl_;
  constexpr int kOnFault = 4;  // MCL_ONFAULT
  if (flags & ~(MCL_CURRENT | MCL_FUTURE | kOnFault) || flags == kOnFault) return kEINVAL;
  const bool on_fault = flags & kOnFault;
  {
    MutexLock l(m.mu);
    if (flags != 0) {
      const uint64_t limit = may_lock ? RLIM_INFINITY : m.limits.memlock;
      if (limit == 0) return kEPERM;
      if ((flags & MCL_CURRENT) && limit != RLIM_INFINITY && m.vmas.total_bytes() > limit) return kENOMEM;
    }
    m.lock_future = flags & MCL_FUTURE;
    m.future_on_fault = m.lock_future && on_fault;
    if (flags == 0 || (flags & MCL_CURRENT)) {
      m.vmas.change({0, platform::kAppLimit}, [&](Vma& v) {
        v.locked = flags != 0;
        v.lock_on_fault = on_fault;
      });
    }
  }
  if ((flags & MCL_CURRENT) && !on_fault)
    IGNORE_ERROR(m.populate(by, {0, platform::kAppLimit}, Impl::Refusal::ignored), "Linux: mm_populate() tells nobody");
  return {};
}

Result<void> AddressSpace::seal(platform::Context& by, uint64_t addr, uint64_t len) {
  Impl& m = *impl_;
  if (!page_aligned(addr)) return kEINVAL;
  const uint64_t rounded = page_up(len), end = addr + rounded;
  if ((len != 0 && rounded == 0) || end < addr) return kEINVAL;
  if (end == addr) return {};
  Impl::Started s(m, by, {addr, end}, {}, Impl::Started::Patches::kept);
  TRY(s.result());
  if (!m.vmas.covered({addr, end}, 0)) return kENOMEM;
  TRY(m.check_count_locked(m.vmas.cuts({addr, end})));
  m.vmas.change({addr, end}, [](Vma& v) { v.sealed = true; });
  return {};
}

Result<std::vector<unsigned char>> AddressSpace::mincore(platform::Context& by, uint64_t addr, uint64_t len) {
  Impl& m = *impl_;
  if (!page_aligned(addr)) return kEINVAL;
  if (addr > platform::kAppLimit || len > platform::kAppLimit - addr) return kENOMEM;
  const uint64_t rounded = page_up(len), end = addr + rounded;
  settle(by);  // what this thread has queued is there as well
  // What is mapped of files is said to be there: what the host has in memory tells about other tenants.
  std::vector<unsigned char> out(rounded / platform::kPageSize, 1);
  std::vector<uint64_t> asked;
  {
    MutexLock l(m.mu);
    if (!m.vmas.covered({addr, end}, 0)) return kENOMEM;
    for (const Vma& v : m.vmas.copy({addr, end}))
      for (uint64_t at = v.start; !v.file && at < v.end; at += platform::kPageSize) asked.push_back(at);
  }
  if (asked.empty()) return out;
  auto present = std::make_unique<bool[]>(asked.size());
  TRY(m.space->pages_present(asked, {present.get(), asked.size()}, platform::ZeroPage::is_there));
  for (size_t i = 0; i < asked.size(); i++) out[(asked[i] - addr) / platform::kPageSize] = present[i];
  return out;
}

}  // namespace sentry::mm
