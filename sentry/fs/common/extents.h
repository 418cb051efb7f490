// SPDX-License-Identifier: Apache-2.0
// A set of page numbers, kept as ranges.
#pragma once

#include <cstdint>
#include <map>

namespace sentry::fs::common {

class Extents {
 public:
  uint64_t count() const { return count_; }
  // Adds [first, end); how many were not there before.
  uint64_t add(uint64_t first, uint64_t end);
  // Removes [first, end); how many were there.
  uint64_t remove(uint64_t first, uint64_t end);
  // How many of [first, end) are not there.
  uint64_t missing(uint64_t first, uint64_t end) const;
  bool contains(uint64_t page) const;
  // The first page >= `page` that is (not) there; UINT64_MAX: none.
  uint64_t next_present(uint64_t page) const;
  uint64_t next_absent(uint64_t page) const;

 private:
  std::map<uint64_t, uint64_t> ranges_;  // first -> end; neither touching nor overlapping
  uint64_t count_ = 0;
};

}  // namespace sentry::fs::common
