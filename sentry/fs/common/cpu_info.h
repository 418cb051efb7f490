// SPDX-License-Identifier: Apache-2.0
// The processor as the cpuid instruction tells it, for /proc/cpuinfo and /sys/devices/system/cpu.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sentry::fs::common {

struct CpuCache {
  unsigned level = 0;
  char type = 'U';  // D data, I instructions, U both
  uint64_t bytes = 0;
  unsigned line = 64, ways = 0, sets = 0, shared_by = 1;
};

struct CpuInfo {
  std::string vendor, brand, flags;  // flags in Linux's names and order, blanks between
  unsigned family = 0, model = 0, stepping = 0, max_leaf = 0;
  unsigned physical_bits = 40, virtual_bits = 48, clflush = 64;
  double mhz = 0;
  bool is_amd = false;
  std::vector<CpuCache> caches;
};

// Read once. Only what an unprivileged program sees by the instruction itself.
const CpuInfo& cpu_info();

}  // namespace sentry::fs::common
