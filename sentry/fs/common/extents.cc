// SPDX-License-Identifier: Apache-2.0
// A set of page numbers, kept as ranges.
#include "sentry/fs/common/extents.h"

#include <algorithm>

namespace sentry::fs::common {

uint64_t Extents::missing(uint64_t first, uint64_t end) const {
  if (first >= end) return 0;
  uint64_t present = 0;
  auto it = ranges_.upper_bound(first);
  if (it != ranges_.begin()) --it;
  for (; it != ranges_.end() && it->first < end; ++it) {
    uint64_t a = std::max(first, it->first), b = std::min(end, it->second);
    if (a < b) present += b - a;
  }
  return end - first - present;
}

uint64_t Extents::add(uint64_t first, uint64_t end) {
  if (first >= end) return 0;
  uint64_t fresh = missing(first, end);
  auto it = ranges_.upper_bound(first);
  if (it != ranges_.begin() && std::prev(it)->second >= first) --it;
  while (it != ranges_.end() && it->first <= end) {
    first = std::min(first, it->first);
    end = std::max(end, it->second);
    it = ranges_.erase(it);
  }
  ranges_.emplace(first, end);
  count_ += fresh;
  return fresh;
}

uint64_t Extents::remove(uint64_t first, uint64_t end) {
  if (first >= end) return 0;
  uint64_t gone = 0;
  auto it = ranges_.upper_bound(first);
  if (it != ranges_.begin()) --it;
  while (it != ranges_.end() && it->first < end) {
    uint64_t a = it->first, b = it->second;
    if (b <= first) {
      ++it;
      continue;
    }
    it = ranges_.erase(it);
    if (a < first) ranges_.emplace(a, first);
    if (b > end) ranges_.emplace(end, b);
    gone += std::min(b, end) - std::max(a, first);
  }
  count_ -= gone;
  return gone;
}

bool Extents::contains(uint64_t page) const {
  auto it = ranges_.upper_bound(page);
  return it != ranges_.begin() && std::prev(it)->second > page;
}

uint64_t Extents::next_present(uint64_t page) const {
  if (contains(page)) return page;
  auto it = ranges_.lower_bound(page);
  return it == ranges_.end() ? UINT64_MAX : it->first;
}

uint64_t Extents::next_absent(uint64_t page) const {
  auto it = ranges_.upper_bound(page);
  if (it == ranges_.begin() || std::prev(it)->second <= page) return page;
  return std::prev(it)->second;
}

}  // namespace sentry::fs::common
