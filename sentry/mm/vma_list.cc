// SPDX-License-Identifier: Apache-2.0
// VmaList: cutting, merging, and the search for free ranges.
#include "sentry/mm/vma_list.h"

#include <algorithm>

namespace sentry::mm {

namespace {

uint64_t room_after(const Vma& v) { return v.patch_room ? kPatchRoom : 0; }

uint64_t guarded_start(const Vma& v) {
  if (!v.grows_down) return v.start;
  return v.start > kStackGuardGap ? v.start - kStackGuardGap : 0;
}

// The first blocked range that r touches, or null.
const Range* find_blocked(Range r, std::span<const Range> blocked) {
  for (const Range& b : blocked)
    if (b.overlaps(r)) return &b;
  return nullptr;
}

// The part of v from `start` on (the low part is cut off).
void trim_start(Vma& v, uint64_t start) {
  if (v.file) v.offset += static_cast<int64_t>(start - v.start);
  v.start = start;
}

}  // namespace

const Vma* VmaList::find_from(uint64_t addr) const {
  auto it = map_.upper_bound(addr);
  if (it != map_.begin()) {
    auto before = std::prev(it);
    if (before->second.end > addr) return &before->second;
  }
  return it == map_.end() ? nullptr : &it->second;
}

const Vma* VmaList::find(uint64_t addr) const {
  const Vma* v = find_from(addr);
  return v && v->start <= addr ? v : nullptr;
}

const Vma* VmaList::find_before(uint64_t addr) const {
  auto it = map_.lower_bound(addr);
  return it == map_.begin() ? nullptr : &std::prev(it)->second;
}

bool VmaList::overlaps(Range r) const {
  const Vma* v = find_from(r.start);
  return v && v->start < r.end;
}

bool VmaList::covered(Range r, int prot) const {
  uint64_t at = r.start;
  while (at < r.end) {
    const Vma* v = find(at);
    if (!v || (v->prot & prot) != prot) return false;
    at = v->end;
  }
  return true;
}

bool VmaList::any_sealed(Range r) const {
  for (const Vma* v = find_from(r.start); v && v->start < r.end; v = find_from(v->end))
    if (v->sealed) return true;
  return false;
}

void VmaList::count(const Vma& v) {
  total_ += v.length();
  if (is_data(v)) data_ += v.length();
  if (v.locked) locked_ += v.length();
}

void VmaList::discount(const Vma& v) {
  total_ -= v.length();
  if (is_data(v)) data_ -= v.length();
  if (v.locked) locked_ -= v.length();
}

bool VmaList::mergeable(const Vma& a, const Vma& b) {
  return a.end == b.start && a.prot == b.prot && a.max_prot == b.max_prot && a.shared == b.shared &&
         a.grows_down == b.grows_down && a.locked == b.locked && a.lock_on_fault == b.lock_on_fault && a.sealed == b.sealed && a.dont_fork == b.dont_fork &&
         a.wipe_on_fork == b.wipe_on_fork && a.noreserve == b.noreserve && a.dont_dump == b.dont_dump &&
         a.patch_room == b.patch_room && a.written == b.written && a.file.get() == b.file.get() &&
         (!a.file || a.offset + static_cast<int64_t>(a.length()) == b.offset) && a.name == b.name;
}

VmaList::Map::iterator VmaList::merge_with_previous(Map::iterator it) {
  if (it == map_.begin()) return it;
  auto before = std::prev(it);
  if (!mergeable(before->second, it->second)) return it;
  before->second.end = it->second.end;
  map_.erase(it);
  return before;
}

void VmaList::merge_around(Range r) {
  auto it = map_.lower_bound(r.start);
  while (it != map_.end() && it->first <= r.end) it = std::next(merge_with_previous(it));
}

void VmaList::insert(Vma v) {
  DCHECK(v.start < v.end && !overlaps({v.start, v.end}));
  count(v);
  auto next = map_.lower_bound(v.end);
  if (next != map_.begin()) {
    auto before = std::prev(next);
    if (mergeable(before->second, v)) {  // the usual case for a heap: no new node
      before->second.end = v.end;
      if (next != map_.end()) merge_with_previous(next);
      return;
    }
  }
  uint64_t start = v.start;
  auto it = map_.emplace_hint(next, start, std::move(v));
  if (next != map_.end()) merge_with_previous(next);
  (void)it;
}

void VmaList::cut(uint64_t addr) {
  auto it = map_.lower_bound(addr);
  if (it == map_.begin()) return;
  Vma& low = std::prev(it)->second;
  if (low.end <= addr) return;
  Vma high = low;
  trim_start(high, addr);
  low.end = addr;
  map_.emplace_hint(it, addr, std::move(high));
}

std::vector<Vma> VmaList::remove(Range r) {
  std::vector<Vma> out;
  cut(r.start);
  cut(r.end);
  auto it = map_.lower_bound(r.start);
  while (it != map_.end() && it->first < r.end) {
    discount(it->second);
    out.push_back(std::move(it->second));
    it = map_.erase(it);
  }
  if (!out.empty()) freed(r.end);
  return out;
}

std::vector<Vma> VmaList::copy(Range r) const {
  std::vector<Vma> out;
  for (const Vma* v = find_from(r.start); v && v->start < r.end; v = find_from(v->end)) {
    out.push_back(*v);
    if (out.back().start < r.start) trim_start(out.back(), r.start);
    out.back().end = std::min(out.back().end, r.end);
  }
  return out;
}

size_t VmaList::cuts(Range r) const {
  size_t n = 0;
  const Vma* a = find(r.start);
  if (a && a->start < r.start) n++;
  const Vma* b = find(r.end);
  if (b && b->start < r.end) n++;
  return n;
}

// The hole that ends at or above `end` has grown: a search may find it again.
void VmaList::freed(uint64_t end) {
  if (end <= hint_) {
    // A hole below the hint: not passed over yet.
    const Vma* above = find_from(end);
    if (!above || above->start > hint_) hint_ = std::max(hint_, above ? above->start : hint_top_);
    return;
  }
  const Vma* above = find_from(end);
  hint_ = above ? above->start : hint_top_;
}

bool VmaList::is_gap(Range r) const {
  if (overlaps(r)) return false;
  const Vma* above = find_from(r.end);
  return !above || guarded_start(*above) >= r.end;
}

std::optional<uint64_t> VmaList::find_gap_top_down(uint64_t length, uint64_t align, Range in,
                                                   std::span<const Range> blocked) {
  bool cached = align == platform::kPageSize;
  if (cached && hint_top_ != in.end) {
    hint_top_ = hint_ = in.end;
    skipped_ = 0;
  }
  uint64_t from = in.end;
  uint64_t skipped = 0;
  if (cached && length > skipped_ && hint_ < in.end) {
    from = hint_;
    skipped = skipped_;
  }
  auto it = map_.lower_bound(from);
  uint64_t high = from;
  if (it != map_.end()) high = std::min(high, guarded_start(it->second));
  for (;;) {
    const Vma* below = it == map_.begin() ? nullptr : &std::prev(it)->second;
    uint64_t low = below ? std::max(in.start, below->end + room_after(*below)) : in.start;
    uint64_t top = high;
    while (top > low && top - low >= length) {
      uint64_t at = (top - length) & ~(align - 1);
      if (at < low) break;
      const Range* b = find_blocked({at, at + length}, blocked);
      if (!b) {
        if (cached) {
          // What lies above in this hole was blocked: it may be free the next time.
          hint_ = at + length < high ? high : at;
          skipped_ = skipped;
        }
        return at;
      }
      top = b->start;
    }
    if (high > low) skipped = std::max(skipped, high - low);
    if (!below || below->start <= in.start) return std::nullopt;
    --it;
    high = guarded_start(*below);
  }
}

std::optional<uint64_t> VmaList::find_gap_bottom_up(uint64_t length, Range in, std::span<const Range> blocked) const {
  uint64_t low = in.start;
  const Vma* v = find_from(low);
  if (v && v->start < low) {
    low = v->end + room_after(*v);
    v = find_from(v->end);
  }
  for (;;) {
    uint64_t high = std::min(in.end, v ? guarded_start(*v) : in.end);
    uint64_t at = low;
    while (at < high && high - at >= length) {
      const Range* b = find_blocked({at, at + length}, blocked);
      if (!b) return at;
      at = b->end;
    }
    if (!v || v->end >= in.end) return std::nullopt;
    low = std::max(low, v->end + room_after(*v));
    v = find_from(v->end);
  }
}

}  // namespace sentry::mm
