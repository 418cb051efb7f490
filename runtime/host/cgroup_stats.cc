// SPDX-License-Identifier: Apache-2.0
// A file says by its presence which kind of hierarchy and which controller a leaf belongs to.
#include "runtime/host/cgroup_stats.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sstream>

#include "runtime/host/proc.h"

namespace runtime::host {

namespace {

constexpr uint64_t kNsPerTick = 10'000'000;  // USER_HZ is 100 on every Linux

uint64_t number(const std::string& path) {
  auto text = read_file(path);
  if (!text.ok()) return 0;
  if (text->rfind("max", 0) == 0) return UINT64_MAX;
  return strtoull(text->c_str(), nullptr, 10);
}

// "name value" lines.
std::map<std::string, uint64_t> table(const std::string& path) {
  std::map<std::string, uint64_t> out;
  auto text = read_file(path);
  if (!text.ok()) return out;
  std::istringstream in(*text);
  std::string name;
  for (uint64_t value; in >> name >> value;) out[name] = value;
  return out;
}

uint64_t find(const std::map<std::string, uint64_t>& t, const char* name) {
  auto it = t.find(name);
  return it == t.end() ? 0 : it->second;
}

bool there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

CgroupStats::Amount v1_amount(const std::string& leaf, const std::string& prefix) {
  return {number(leaf + "/" + prefix + "limit_in_bytes"), number(leaf + "/" + prefix + "usage_in_bytes"),
          number(leaf + "/" + prefix + "max_usage_in_bytes"), number(leaf + "/" + prefix + "failcnt")};
}

// "8:0 Read 4096" lines; totals have no device.
void read_v1_io(const std::string& path, std::vector<CgroupStats::Io>& out) {
  auto text = read_file(path);
  if (!text.ok()) return;
  std::istringstream in(*text);
  for (std::string line; std::getline(in, line);) {
    CgroupStats::Io io;
    char operation[32];
    unsigned long long a, b, c;
    if (sscanf(line.c_str(), "%llu:%llu %31s %llu", &a, &b, operation, &c) != 4) continue;
    io.major = a;
    io.minor = b;
    io.operation = operation;
    io.value = c;
    out.push_back(std::move(io));
  }
}

// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …" lines.
void read_v2_io(const std::string& path, CgroupStats& s) {
  auto text = read_file(path);
  if (!text.ok()) return;
  std::istringstream in(*text);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    unsigned long long a, b;
    std::string word;
    if (!(words >> word) || sscanf(word.c_str(), "%llu:%llu", &a, &b) != 2) continue;
    while (words >> word) {
      size_t eq = word.find('=');
      if (eq == std::string::npos) continue;
      uint64_t value = strtoull(word.c_str() + eq + 1, nullptr, 10);
      std::string key = word.substr(0, eq);
      if (key == "rbytes") s.io_bytes.push_back({a, b, value, "Read"});
      if (key == "wbytes") s.io_bytes.push_back({a, b, value, "Write"});
      if (key == "rios") s.io_operations.push_back({a, b, value, "Read"});
      if (key == "wios") s.io_operations.push_back({a, b, value, "Write"});
    }
  }
}

void read_hugepages(const std::string& leaf, CgroupStats& s) {
  DIR* d = ::opendir(leaf.c_str());
  if (!d) return;
  while (dirent* e = ::readdir(d)) {
    std::string name = e->d_name;
    if (name.rfind("hugetlb.", 0) != 0 || name.find(".rsvd") != std::string::npos) continue;
    std::string size = name.substr(8, name.find('.', 8) - 8);
    std::string stem = leaf + "/hugetlb." + size;
    if (name.ends_with(".usage_in_bytes")) {
      s.hugepages[size] = {0, number(stem + ".usage_in_bytes"), number(stem + ".max_usage_in_bytes"), number(stem + ".failcnt")};
    } else if (name.ends_with(".current")) {
      s.hugepages[size] = {0, number(stem + ".current"), 0, find(table(stem + ".events"), "max")};
    }
  }
  ::closedir(d);
}

void read_v1(const std::string& leaf, CgroupStats& s) {
  if (there(leaf + "/cpuacct.usage")) {
    s.cpu_ns = number(leaf + "/cpuacct.usage");
    auto split = table(leaf + "/cpuacct.stat");
    s.cpu_user_ns = find(split, "user") * kNsPerTick;
    s.cpu_kernel_ns = find(split, "system") * kNsPerTick;
    if (auto each = read_file(leaf + "/cpuacct.usage_percpu"); each.ok()) {
      std::istringstream in(*each);
      for (uint64_t n; in >> n;) s.cpu_each_ns.push_back(n);
    }
  }
  if (there(leaf + "/cpu.cfs_quota_us")) {
    auto t = table(leaf + "/cpu.stat");
    s.periods = find(t, "nr_periods");
    s.throttled_periods = find(t, "nr_throttled");
    s.throttled_ns = find(t, "throttled_time");
  }
  if (there(leaf + "/memory.limit_in_bytes")) {
    s.memory = v1_amount(leaf, "memory.");
    s.memory_swap = v1_amount(leaf, "memory.memsw.");
    s.kernel = v1_amount(leaf, "memory.kmem.");
    s.kernel_tcp = v1_amount(leaf, "memory.kmem.tcp.");
    s.memory_raw = table(leaf + "/memory.stat");
    s.cache = find(s.memory_raw, "cache");
  }
  if (there(leaf + "/blkio.throttle.io_service_bytes_recursive")) {
    read_v1_io(leaf + "/blkio.throttle.io_service_bytes_recursive", s.io_bytes);
    read_v1_io(leaf + "/blkio.throttle.io_serviced_recursive", s.io_operations);
  }
}

void read_v2(const std::string& leaf, CgroupStats& s) {
  if (there(leaf + "/memory.current")) {
    s.memory = {number(leaf + "/memory.max"), number(leaf + "/memory.current"), number(leaf + "/memory.peak"),
                find(table(leaf + "/memory.events"), "max")};
    uint64_t swap = number(leaf + "/memory.swap.max"), used = number(leaf + "/memory.swap.current");
    s.memory_swap = {swap == UINT64_MAX || s.memory.limit == UINT64_MAX ? UINT64_MAX : swap + s.memory.limit,
                     used + s.memory.usage, 0, 0};
    s.memory_raw = table(leaf + "/memory.stat");
    s.cache = find(s.memory_raw, "file");
  }
  if (there(leaf + "/cpu.max") || (there(leaf + "/cpu.stat") && s.cpu_ns == 0)) {
    auto t = table(leaf + "/cpu.stat");
    s.cpu_ns = find(t, "usage_usec") * 1000;
    s.cpu_user_ns = find(t, "user_usec") * 1000;
    s.cpu_kernel_ns = find(t, "system_usec") * 1000;
    s.periods = find(t, "nr_periods");
    s.throttled_periods = find(t, "nr_throttled");
    s.throttled_ns = find(t, "throttled_usec") * 1000;
  }
  read_v2_io(leaf + "/io.stat", s);
}

}  // namespace

CgroupStats read_cgroup_stats(const std::vector<std::string>& leaves) {
  CgroupStats s;
  // On a hybrid host the version 2 leaf has a cpu.stat as well; the controllers of version 1 know more.
  for (auto& leaf : leaves) {
    if (!there(leaf + "/cgroup.controllers")) read_v1(leaf, s);
  }
  for (auto& leaf : leaves) {
    if (there(leaf + "/cgroup.controllers")) read_v2(leaf, s);
    if (there(leaf + "/pids.current")) {
      s.pids = number(leaf + "/pids.current");
      s.pids_limit = number(leaf + "/pids.max");
    }
    read_hugepages(leaf, s);
  }
  s.oom_kills = count_oom_kills(leaves);
  return s;
}

uint64_t count_oom_kills(const std::vector<std::string>& leaves) {
  uint64_t n = 0;
  for (auto& leaf : leaves) {
    n += find(table(leaf + "/memory.oom_control"), "oom_kill");
    n += find(table(leaf + "/memory.events"), "oom_kill");
  }
  return n;
}

}  // namespace runtime::host
