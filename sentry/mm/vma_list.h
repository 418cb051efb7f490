// SPDX-License-Identifier: Apache-2.0
// A sorted list of mappings without overlaps, equal neighbours merged. Knows nothing of the platform or of locks.
// Linux: mm/vma.c, and the search for unmapped areas of mm/mmap.c.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "sentry/mm/address_space.h"

namespace sentry::mm {

inline constexpr uint64_t kStackGuardGap = 256 * platform::kPageSize;  // below a mapping that grows down
inline constexpr uint64_t kPatchRoom = patch::kRoom;

struct Range {
  uint64_t start = 0, end = 0;
  bool empty() const { return start >= end; }
  bool overlaps(const Range& o) const { return start < o.end && o.start < end; }
};

class VmaList {
 public:
  using Map = std::map<uint64_t, Vma>;

  // The mapping that holds addr, or null.
  const Vma* find(uint64_t addr) const;
  // The first one that ends above addr, or null.
  const Vma* find_from(uint64_t addr) const;
  // The last one that starts below addr, or null.
  const Vma* find_before(uint64_t addr) const;
  bool overlaps(Range r) const;
  // Every byte of r is mapped with at least these rights.
  bool covered(Range r, int prot) const;
  bool any_sealed(Range r) const;

  // Preconditions: v's range is free. May merge with neighbours.
  void insert(Vma v);
  // Takes out all of r; returns the pieces, cut to r.
  std::vector<Vma> remove(Range r);
  // The pieces of r, cut to r.
  std::vector<Vma> copy(Range r) const;
  // Calls f(Vma&) for each piece of r (cut at r's edges), which may change anything but the range; then merges.
  template <typename F>
  void change(Range r, F&& f) {
    cut(r.start);
    cut(r.end);
    for (auto it = map_.lower_bound(r.start); it != map_.end() && it->first < r.end; ++it) {
      discount(it->second);
      f(it->second);
      count(it->second);
    }
    merge_around(r);
  }
  // How many mappings remove(r) or change(r) would add by cutting: 0 to 2.
  size_t cuts(Range r) const;

  // The highest aligned address of a free range of `length` in [low, high) that touches no blocked range and keeps guard
  // gaps and patch room free. Remembers where it found the last one: a series of searches is not quadratic.
  std::optional<uint64_t> find_gap_top_down(uint64_t length, uint64_t align, Range in, std::span<const Range> blocked);
  // The lowest one.
  std::optional<uint64_t> find_gap_bottom_up(uint64_t length, Range in, std::span<const Range> blocked) const;
  // r is free, guard gaps included.
  bool is_gap(Range r) const;

  const Map& map() const { return map_; }
  size_t size() const { return map_.size(); }
  uint64_t total_bytes() const { return total_; }
  uint64_t data_bytes() const { return data_; }      // private and writable, but no stack (RLIMIT_DATA)
  uint64_t locked_bytes() const { return locked_; }

  static bool mergeable(const Vma& low, const Vma& high);
  static bool is_data(const Vma& v) { return !v.shared && (v.prot & PROT_WRITE) && !v.grows_down; }

 private:
  void cut(uint64_t addr);
  void merge_around(Range r);
  Map::iterator merge_with_previous(Map::iterator it);
  void count(const Vma& v);
  void discount(const Vma& v);
  void freed(uint64_t end);

  Map map_;
  uint64_t total_ = 0, data_ = 0, locked_ = 0;
  // No hole larger than skipped_ lies in [hint_, hint_top_): the next larger search below hint_top_ starts at hint_.
  uint64_t hint_top_ = 0, hint_ = 0, skipped_ = 0;
};

}  // namespace sentry::mm
