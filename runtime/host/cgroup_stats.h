// SPDX-License-Identifier: Apache-2.0
// What a container's groups have used, from either kind of hierarchy.
#pragma once

#include <map>
#include <set>

#include "runtime/host/cgroup.h"

namespace runtime::host {

struct CgroupStats {
  struct Amount {
    uint64_t limit = 0, usage = 0, max = 0, failures = 0;
  };
  struct Io {
    uint64_t major = 0, minor = 0, value = 0;
    std::string operation;  // "Read", "Write" …
  };
  uint64_t cpu_ns = 0, cpu_user_ns = 0, cpu_kernel_ns = 0;
  std::vector<uint64_t> cpu_each_ns, cpu_each_user_ns, cpu_each_kernel_ns;  // version 1 alone
  std::vector<uint16_t> cpus, mems;                                         // those that it may use
  std::map<std::string, int64_t> cpuset;                                    // other settings: "mem_hardwall" ...
  uint64_t periods = 0, throttled_periods = 0, throttled_ns = 0;
  Amount memory, memory_swap, kernel, kernel_tcp;
  uint64_t cache = 0;
  std::map<std::string, uint64_t> memory_raw;
  uint64_t oom_kills = 0;
  uint64_t pids = 0, pids_limit = 0;
  std::vector<Io> io_bytes, io_operations;
  std::map<std::string, Amount> hugepages;  // by page size, "2MB"
};

// Reads a container's figures again and again: which files there are is looked up once. Files that are not there leave their figures 0.
class CgroupReader {
 public:
  explicit CgroupReader(const std::vector<std::string>& leaves);
  CgroupStats read() const;

 private:
  struct Leaf {
    std::string path;
    std::set<std::string, std::less<>> files;  // those of interest
  };
  std::vector<Leaf> leaves_;
};

CgroupStats read_cgroup_stats(const std::vector<std::string>& leaves);
// cpu_each_user_ns, cpu_each_kernel_ns, cpus, mems, cpuset: many files that few ask for.
void add_processor_details(const std::vector<std::string>& leaves, CgroupStats& s);
// Programs of the group that the host killed for want of memory.
uint64_t count_oom_kills(const std::vector<std::string>& leaves);

}  // namespace runtime::host
