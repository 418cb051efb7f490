// SPDX-License-Identifier: Apache-2.0
// mmap, munmap, brk: placement and the checks of Linux's mm/mmap.c (do_mmap, __do_munmap, brk).
#include <algorithm>

#include "sentry/mm/impl.h"

namespace sentry::mm {

namespace {

constexpr uint64_t kHugePage = 2 << 20;
constexpr int kProtMask = PROT_READ | PROT_WRITE | PROT_EXEC;
constexpr Range kLow2G{0x40000000, 0x80000000};  // MAP_32BIT

uint64_t saved(uint64_t what, uint64_t off) { return what > off ? what - off : 0; }

}  // namespace

Result<uint64_t> AddressSpace::Impl::place_locked(const platform::Context& by, uint64_t hint, uint64_t length, bool shared,
                                                  bool low_2g, bool patch_room, uint64_t align) {
  Range zone = shared ? Range{platform::kSharedBase, layout.shared_top} : Range{platform::kMinAddress, layout.private_top};
  Range wide = shared ? Range{platform::kSharedBase, platform::kAppLimit}
                      : Range{platform::kMinAddress, platform::kSharedBase};
  std::vector<Range> blocked = blocked_locked(by);
  if (hint != 0) {
    uint64_t at = std::max(page_down(hint), platform::kMinAddress);
    if (at < platform::kAppLimit && platform::kAppLimit - at >= length) {
      Range r{at, at + length};
      bool taken = std::any_of(blocked.begin(), blocked.end(), [&](const Range& b) { return b.overlaps(r); });
      if (!taken && vmas.is_gap(r)) return at;
    }
  }
  if (low_2g) {
    auto at = vmas.find_gap_bottom_up(length, kLow2G, blocked);
    if (!at) return kENOMEM;
    return *at;
  }
  std::optional<uint64_t> at;
  if (patch_room) at = vmas.find_gap_top_down(length + kPatchRoom, align, zone, blocked);
  if (!at && align > platform::kPageSize) at = vmas.find_gap_top_down(length, align, zone, blocked);
  if (!at) at = vmas.find_gap_top_down(length, platform::kPageSize, zone, blocked);
  if (!at) at = vmas.find_gap_bottom_up(length, wide, blocked);
  if (!at) return kENOMEM;
  return *at;
}

Result<uint64_t> AddressSpace::find_free(platform::Context& by, uint64_t hint, uint64_t length, uint64_t align,
                                         bool patch_room) {
  MutexLock l(impl_->mu);
  return impl_->place_locked(by, hint, length, false, false, patch_room, align);
}

Result<uint64_t> AddressSpace::map(platform::Context& by, const MapRequest& r) {
  Impl& m = *impl_;
  if (r.length == 0) return kEINVAL;
  uint64_t length = page_up(r.length);
  if (length == 0 || length > platform::kAppLimit) return kENOMEM;
  if (r.file && (!page_aligned(static_cast<uint64_t>(r.offset)) || r.offset < 0)) return kEINVAL;
  if (r.file && static_cast<uint64_t>(INT64_MAX) - static_cast<uint64_t>(r.offset) < length) return kEOVERFLOW;

  bool shared = (r.flags & MAP_TYPE) != MAP_PRIVATE;
  bool no_replace = r.flags & MAP_FIXED_NOREPLACE;
  bool fixed = (r.flags & MAP_FIXED) || no_replace;
  bool grows_down = r.flags & MAP_GROWSDOWN;
  if (fixed) {
    if (!page_aligned(r.address)) return kEINVAL;
    if (r.address >= platform::kAppLimit || platform::kAppLimit - r.address < length) return kENOMEM;
    if (r.address < platform::kMinAddress) return kEPERM;
  }

  Vma v{};
  v.prot = r.prot & kProtMask;
  v.shared = shared;
  v.grows_down = grows_down;
  v.noreserve = r.flags & MAP_NORESERVE;
  v.name = r.name;
  v.file = r.file;
  v.offset = r.file ? r.offset : 0;
  v.written = r.file && !shared && (v.prot & PROT_WRITE);
  if (shared && !r.file) {
    if (grows_down) return kEINVAL;
    v.file = TRY(create_shared_memory(length, "dev/zero"));
  } else if (r.file) {
    if (grows_down) return kEINVAL;
    if (r.file_noexec) {
      if (v.prot & PROT_EXEC) return kEPERM;
      v.max_prot &= ~PROT_EXEC;
    }
    if (shared && !r.file_writable) {
      if (v.prot & PROT_WRITE) return kEACCES;
      v.max_prot &= ~PROT_WRITE;
    }
  }
  // The application's own right decides which descriptor its process sees: a private mapping never needs a writable one.
  bool own_memory = shared && !r.file;
  MapFd fd{-1, 0, 0};
  if (v.file) fd = TRY(v.file->map_fd(shared && (own_memory || r.file_writable)));

  bool populate = r.flags & (MAP_POPULATE | MAP_LOCKED) && !(r.flags & MAP_NONBLOCK) && v.prot != PROT_NONE;
  bool replaces = false;
  uint64_t addr = r.address, flight = 0;
  {
    Impl::Started s(m, by, fixed ? Range{addr, addr + length} : Range{});
    TRY(s.result());
    TRY(m.check_count_locked(1));
    if (!fixed) {
      bool text_like = r.file && !shared &&
                       ((v.prot & PROT_EXEC) || (r.flags & MAP_DENYWRITE) || (r.offset == 0 && v.prot == PROT_READ && length >= 128 * 1024));
      v.patch_room = r.patch_room || text_like;
      uint64_t align = !v.file && length % kHugePage == 0 && !grows_down ? kHugePage : platform::kPageSize;
      addr = TRY(m.place_locked(by, r.address, length, shared, r.flags & MAP_32BIT, v.patch_room, align));
    } else {
      v.patch_room = r.patch_room;
    }
    Range range{addr, addr + length};
    if (no_replace && m.vmas.overlaps(range)) return kEEXIST;
    if (fixed && m.vmas.any_sealed(range)) return kEPERM;
    Sizes old = fixed ? sizes_of(m.vmas, range) : Sizes{};
    replaces = old.total != 0;
    TRY(m.check_growth_locked(saved(length, old.total), VmaList::is_data(v) ? saved(length, old.data) : 0));
    v.locked = m.lock_future || (r.flags & MAP_LOCKED);
    v.lock_on_fault = m.lock_future && m.future_on_fault && !(r.flags & MAP_LOCKED);
    populate = populate || (v.locked && !v.lock_on_fault && v.prot != PROT_NONE);
    if (v.locked && !r.may_lock && m.limits.memlock != RLIM_INFINITY) {
      if (r.flags & MAP_LOCKED && m.limits.memlock == 0) return kEPERM;
      if (saved(length, old.locked) > saved(m.limits.memlock, m.vmas.locked_bytes())) return kEAGAIN;
    }
    if (replaces) {
      TRY(m.check_count_locked(1 + m.vmas.cuts(range)));
      std::vector<Vma> gone = m.vmas.remove(range);
      for (const Vma& g : gone) v.patch_room = v.patch_room || g.patch_room;
      s.bury(std::move(gone));
    }
    v.start = range.start;
    v.end = range.end;
    Flight& f = m.begin_flight_locked(by, range);
    f.drop = range;
    f.replaces = replaces;
    f.keep = v.file;
    flight = f.id;
    m.vmas.insert(v);
    m.note_stack_locked(by.stack_pointer());
  }

  platform::MemoryCall call{};
  call.op = v.file ? platform::MemoryOp::map_file : platform::MemoryOp::map_anonymous;
  call.address = addr;
  call.length = length;
  call.prot = v.prot;
  call.flags = (shared ? MAP_SHARED : MAP_PRIVATE) | (replaces ? MAP_FIXED : MAP_FIXED_NOREPLACE);
  if (v.file) {
    call.host_fd = fd.fd;
    call.file_key = fd.key;
    call.offset = v.offset + fd.host_offset;
  } else {
    if (v.noreserve) call.flags |= MAP_NORESERVE;
    if (grows_down || (r.flags & MAP_STACK)) call.flags |= MAP_STACK;
  }
  if (v.file && !shared && (v.prot & PROT_EXEC) && m.adopts(addr)) {
    TRY(m.call_now(by, flight, call));
    m.adopt(by, {&addr, 1});
    return addr;
  }
  if (!populate) {
    TRY(m.queue(by, flight, call));
    return addr;
  }
  TRY(m.call_now(by, flight, call));
  IGNORE_ERROR(m.populate(by, {addr, addr + length}, Impl::Refusal::ends), "man 2 mmap: mmap() doesn't fail if the mapping cannot be populated");
  return addr;
}

Result<void> AddressSpace::unmap(platform::Context& by, uint64_t addr, uint64_t len) {
  Impl& m = *impl_;
  if (!page_aligned(addr) || addr > platform::kAppLimit || len > platform::kAppLimit - addr) return kEINVAL;
  len = page_up(len);
  if (len == 0) return kEINVAL;
  if (len > platform::kAppLimit - addr) return kEINVAL;
  Range range{addr, addr + len};
  uint64_t flight = 0;
  bool shares = false;
  {
    Impl::Started s(m, by, range);
    TRY(s.result());
    if (!m.vmas.overlaps(range)) return {};
    if (m.vmas.any_sealed(range)) return kEPERM;
    if (m.vmas.cuts(range) == 2 && m.vmas.find(addr) == m.vmas.find(range.end)) TRY(m.check_count_locked(1));
    std::vector<Vma> gone = m.vmas.remove(range);
    for (const Vma& g : gone) shares = shares || g.shared;
    Flight& f = m.begin_flight_locked(by, range);
    f.restore = std::move(gone);
    flight = f.id;
  }
  platform::MemoryCall call{};
  call.op = platform::MemoryOp::unmap;
  call.address = addr;
  call.length = len;
  // A queued call's mappings are held until its thread is back. Of shared memory that would show: seals, pages that stay.
  return shares ? m.call_now(by, flight, call) : m.queue(by, flight, call);
}

Result<uint64_t> AddressSpace::brk(platform::Context& by, uint64_t new_end) {
  Impl& m = *impl_;
  for (;;) {
    uint64_t seen, from, to, flight = 0;
    {
      MutexLock l(m.mu);
      seen = m.brk_end;
      if (new_end < m.brk_start || new_end >= platform::kSharedBase) return seen;
      if (m.limits.data != RLIM_INFINITY && new_end - m.brk_start > m.limits.data) return seen;
      from = page_up(seen);
      to = page_up(new_end);
      if (from == to) {
        m.brk_end = new_end;
        return new_end;
      }
    }
    bool grow = to > from, populate = false;
    Range range = grow ? Range{from, to} : Range{to, from};
    platform::MemoryCall call{};
    call.address = range.start;
    call.length = range.end - range.start;
    {
      Impl::Started s(m, by, range);
      if (!s.result().ok()) return seen;
      if (m.brk_end != seen) continue;
      if (grow) {
        // Linux: one page must stay free above the heap.
        if (!m.vmas.is_gap({range.start, range.end + platform::kPageSize})) return seen;
        if (!m.check_growth_locked(call.length, call.length).ok() || !m.check_count_locked(1).ok()) return seen;
        Vma v{};
        v.start = range.start;
        v.end = range.end;
        v.prot = PROT_READ | PROT_WRITE;
        v.name = "[heap]";
        v.locked = m.lock_future;
        v.lock_on_fault = m.future_on_fault;
        populate = v.locked && !v.lock_on_fault;
        if (v.locked && call.length > saved(m.limits.memlock, m.vmas.locked_bytes())) return seen;
        Flight& f = m.begin_flight_locked(by, range);
        f.drop = range;
        f.old_brk = seen;
        flight = f.id;
        m.vmas.insert(std::move(v));
        call.op = platform::MemoryOp::map_anonymous;
        call.prot = PROT_READ | PROT_WRITE;
        call.flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
      } else {
        if (m.vmas.any_sealed(range)) return seen;
        std::vector<Vma> gone = m.vmas.remove(range);
        Flight& f = m.begin_flight_locked(by, range);
        f.restore = std::move(gone);
        f.old_brk = seen;
        flight = f.id;
        call.op = platform::MemoryOp::unmap;
      }
      m.brk_end = new_end;
      m.note_stack_locked(by.stack_pointer());
    }
    if (!populate) return m.queue(by, flight, call).ok() ? new_end : seen;
    if (!m.call_now(by, flight, call).ok()) return seen;
    IGNORE_ERROR(m.populate(by, range, Impl::Refusal::ends), "man 2 mlockall says nothing of it, and Linux does not");
    return new_end;
  }
}

}  // namespace sentry::mm
