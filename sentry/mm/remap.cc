// SPDX-License-Identifier: Apache-2.0
// mremap. Linux: mm/mremap.c.
#include <algorithm>

#include "sentry/mm/impl.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

namespace sentry::mm {

namespace {

platform::MemoryCall remap_call(uint64_t old_addr, uint64_t old_len, uint64_t new_addr, uint64_t new_len) {
  platform::MemoryCall c{};
  c.op = platform::MemoryOp::remap;
  c.address = old_addr;
  c.length = old_len;
  c.new_address = new_addr;
  c.new_length = new_len;
  return c;
}

// A host call that maps again what v says (its range), e.g. at the place that DONTUNMAP keeps.
platform::MemoryCall map_call(const Vma& v, const MapFd& fd, int placement) {
  platform::MemoryCall c{};
  c.op = v.file ? platform::MemoryOp::map_file : platform::MemoryOp::map_anonymous;
  c.address = v.start;
  c.length = v.length();
  c.prot = v.prot;
  c.flags = (v.shared ? MAP_SHARED : MAP_PRIVATE) | placement;
  if (v.file) {
    c.host_fd = fd.fd;
    c.file_key = fd.key;
    c.offset = v.offset + fd.host_offset;
  } else if (v.noreserve) {
    c.flags |= MAP_NORESERVE;
  }
  return c;
}

bool wants_writable_fd(const Vma& v) { return v.shared && (v.max_prot & PROT_WRITE); }

}  // namespace

Result<uint64_t> AddressSpace::remap(platform::Context& by, uint64_t old_addr, uint64_t old_len, uint64_t new_len, int flags,
                                     uint64_t new_addr) {
  Impl& m = *impl_;
  if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) return kEINVAL;
  bool fixed = flags & MREMAP_FIXED, may_move = flags & MREMAP_MAYMOVE, keep_old = flags & MREMAP_DONTUNMAP;
  if (fixed && !may_move) return kEINVAL;
  if (keep_old && (!may_move || old_len != new_len)) return kEINVAL;
  if (!page_aligned(old_addr)) return kEINVAL;
  old_len = page_up(old_len);
  new_len = page_up(new_len);
  if (new_len == 0) return kEINVAL;
  if (old_addr >= platform::kAppLimit || old_len > platform::kAppLimit - old_addr) return kEFAULT;
  Range target{};
  if (fixed) {
    if (!page_aligned(new_addr) || new_len > platform::kAppLimit || new_addr > platform::kAppLimit - new_len) return kEINVAL;
    if (new_addr < platform::kMinAddress) return kEPERM;
    target = {new_addr, new_addr + new_len};
    if (target.overlaps({old_addr, old_addr + old_len})) return kEINVAL;
  }
  if (new_len > platform::kAppLimit) return kENOMEM;

  // Shrinking is unmapping the tail (and, with FIXED, moving what is left).
  if (old_len > new_len && !keep_old) {
    {
      MutexLock l(m.mu);
      const Vma* v = m.vmas.find(old_addr);
      if (!v) return kEFAULT;
      if (v->sealed) return kEPERM;
    }
    TRY(unmap(by, old_addr + new_len, old_len - new_len));
    if (!fixed) return old_addr;
    settle(by);
    old_len = new_len;
  }

  // A second mapping of shared memory (old_len 0) and what DONTUNMAP leaves behind need the file's descriptor, which may
  // take a park: get it first, look again under the lock.
  RefOrNull<Mappable> file;
  MapFd fd{-1, 0, 0};
  if (keep_old || old_len == 0) {
    bool writable = false;
    {
      MutexLock l(m.mu);
      const Vma* v = m.vmas.find(old_addr);
      if (!v) return kEFAULT;
      file = v->file;
      writable = wants_writable_fd(*v);
    }
    if (file) fd = TRY(file->map_fd(writable));
  }

  Range old_range{old_addr, old_addr + old_len};
  Range grown{old_range.end, std::max(old_range.end, old_addr + new_len)};
  uint64_t flight = 0;
  platform::MemoryCall call{};
  std::optional<platform::MemoryCall> again;  // DONTUNMAP: fresh memory at the old place
  bool replaces = false, populate = false;
  uint64_t result = old_addr;
  {
    Impl::Started s(m, by, fixed ? old_range : Range{old_range.start, std::max(old_range.end, grown.end)}, target);
    TRY(s.result());
    const Vma* found = m.vmas.find(old_addr);
    if (!found) return kEFAULT;
    Vma v = *found;
    if (v.sealed || (fixed && m.vmas.any_sealed(target))) return kEPERM;
    if (file && v.file.get() != file.get()) return kEFAULT;
    if (old_len == 0 && !v.shared) return kEINVAL;
    if (old_len > v.end - old_addr) return kEFAULT;
    uint64_t more = new_len > old_len ? new_len - old_len : 0;
    if (v.file && new_len > static_cast<uint64_t>(INT64_MAX) - static_cast<uint64_t>(v.offset) - (old_addr - v.start))
      return kEINVAL;
    if (more != 0 && v.locked && m.limits.memlock != RLIM_INFINITY &&
        (m.vmas.locked_bytes() > m.limits.memlock || more > m.limits.memlock - m.vmas.locked_bytes()))
      return kEAGAIN;
    populate = more != 0 && v.locked && !v.lock_on_fault && !keep_old;
    uint64_t added = keep_old ? new_len : more;
    TRY(m.check_growth_locked(added, VmaList::is_data(v) ? added : 0));
    if (old_len == new_len && !fixed && !keep_old) return old_addr;

    Vma moved = v;  // the mapping as it is at old_addr, with its new length
    if (moved.file) moved.offset += static_cast<int64_t>(old_addr - v.start);
    moved.start = old_addr;
    moved.end = old_addr + new_len;

    // In place: only a mapping that ends where the old range ends, with room behind it.
    uint64_t zone_end = old_addr < platform::kSharedBase ? platform::kSharedBase : platform::kAppLimit;
    if (!fixed && !keep_old && old_len != 0 && old_range.end == v.end && grown.end <= zone_end && m.vmas.is_gap(grown)) {
      Vma tail = moved;
      if (tail.file) tail.offset += static_cast<int64_t>(old_len);
      tail.start = grown.start;
      tail.end = grown.end;
      Flight& f = m.begin_flight_locked(by, {old_range.start, grown.end});
      f.drop = grown;
      f.keep = v.file;
      flight = f.id;
      m.vmas.insert(std::move(tail));
      call = remap_call(old_addr, old_len, old_addr, new_len);
    } else {
      if (!may_move) return kENOMEM;
      TRY(m.check_count_locked(4));
      if (!fixed) {
        uint64_t at = TRY(m.place_locked(by, keep_old ? new_addr : 0, new_len, v.shared, false, v.patch_room, platform::kPageSize));
        target = {at, at + new_len};
        if (target.overlaps(old_range)) return kENOMEM;
      }
      result = target.start;
      replaces = m.vmas.overlaps(target);
      if (replaces) s.bury(m.vmas.remove(target));
      Flight& f = m.begin_flight_locked(by, target);
      f.drop = target;
      f.replaces = replaces;
      f.keep = v.file;
      flight = f.id;
      if (old_len != 0) {
        f.second = old_range;
        f.restore = m.vmas.remove(old_range);
      }
      Vma at_target = moved;
      at_target.start = target.start;
      at_target.end = target.end;
      if (old_len == 0) {
        call = map_call(at_target, fd, replaces ? MAP_FIXED : MAP_FIXED_NOREPLACE);
      } else {
        call = remap_call(old_addr, old_len, target.start, new_len);
      }
      if (keep_old) {
        Vma left = moved;
        left.end = old_range.end;
        left.locked = at_target.locked = left.lock_on_fault = at_target.lock_on_fault = false;  // Linux: VM_LOCKED stays with neither
        again = map_call(left, fd, MAP_FIXED_NOREPLACE);
        m.vmas.insert(std::move(left));
      }
      m.vmas.insert(std::move(at_target));
    }
  }
  if (!again && !replaces && !populate) {
    TRY(m.queue(by, flight, call));
    return result;
  }
  TRY(m.call_now(by, flight, call));
  if (again) {
    auto r = by.memory_call(*again);
    if (!r.ok()) {
      // The old place is empty now; say so.
      std::vector<Vma> gone;
      MutexLock l(m.mu);
      gone = m.vmas.remove(old_range);
      return r.error();
    }
  }
  if (populate) IGNORE_ERROR(m.populate(by, {result + old_len, result + new_len}, Impl::Refusal::ends), "as Linux does");
  return result;
}

}  // namespace sentry::mm
