// SPDX-License-Identifier: Apache-2.0
// A file says by its presence which kind of hierarchy and which controller a leaf belongs to.
#include "runtime/host/cgroup_stats.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <sstream>

#include "base/sys.h"
#include "runtime/host/proc.h"

namespace runtime::host {

namespace {

constexpr uint64_t kNsPerTick = 10'000'000;  // USER_HZ is 100 on every Linux

// A file of a group. They are small and made at once, so one read is nearly always all.
std::string text_of(const std::string& path) {
  std::string out;
  auto fd = base::sys::open(path.c_str(), O_RDONLY);
  if (!fd.ok()) return out;
  char buf[8192];
  for (;;) {
    auto n = base::sys::read(fd->get(), buf, sizeof buf);
    if (!n.ok()) return out;
    out.append(buf, *n);
    if (*n < sizeof buf / 2) return out;
  }
}

uint64_t to_number(const std::string& text) {
  return text.rfind("max", 0) == 0 ? UINT64_MAX : strtoull(text.c_str(), nullptr, 10);
}

// "name value" lines.
std::map<std::string, uint64_t> table(const std::string& path) {
  std::map<std::string, uint64_t> out;
  std::string text = text_of(path);
  for (const char* at = text.c_str(); *at;) {
    const char* end = strchrnul(at, '\n');
    auto* space = static_cast<const char*>(memchr(at, ' ', static_cast<size_t>(end - at)));
    if (space) out.emplace_hint(out.end(), std::string(at, space), strtoull(space + 1, nullptr, 10));
    at = *end ? end + 1 : end;
  }
  return out;
}

uint64_t find(const std::map<std::string, uint64_t>& t, const char* name) {
  auto it = t.find(name);
  return it == t.end() ? 0 : it->second;
}

// "8:0 Read 4096" lines; totals have no device.
void read_v1_io(const std::string& path, std::vector<CgroupStats::Io>& out) {
  std::istringstream in(text_of(path));
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
  std::istringstream in(text_of(path));
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

// The files of one leaf.
struct Files {
  const std::string& path;
  const std::set<std::string, std::less<>>& names;

  bool has(std::string_view name) const { return names.find(name) != names.end(); }
  std::string at(std::string_view name) const { return base::format("{}/{}", path, name); }
  uint64_t number(const std::string& name) const { return has(name) ? to_number(text_of(at(name))) : 0; }
  std::map<std::string, uint64_t> numbers(const char* name) const {
    return has(name) ? table(at(name)) : std::map<std::string, uint64_t>();
  }
};

CgroupStats::Amount v1_amount(const Files& f, const std::string& prefix) {
  return {f.number(prefix + "limit_in_bytes"), f.number(prefix + "usage_in_bytes"), f.number(prefix + "max_usage_in_bytes"),
          f.number(prefix + "failcnt")};
}

void read_hugepages(const Files& f, CgroupStats& s) {
  for (auto it = f.names.lower_bound("hugetlb."); it != f.names.end() && it->rfind("hugetlb.", 0) == 0; ++it) {
    const std::string& name = *it;
    std::string size = name.substr(8, name.find('.', 8) - 8), stem = "hugetlb." + size;
    if (name.ends_with(".usage_in_bytes")) {
      s.hugepages[size] = {0, f.number(name), f.number(stem + ".max_usage_in_bytes"), f.number(stem + ".failcnt")};
    } else if (name.ends_with(".current")) {
      s.hugepages[size] = {0, f.number(name), 0, find(table(f.at(stem + ".events")), "max")};
    }
  }
}

void read_v1(const Files& f, CgroupStats& s) {
  if (f.has("cpuacct.usage")) {
    s.cpu_ns = f.number("cpuacct.usage");
    auto split = f.numbers("cpuacct.stat");
    s.cpu_user_ns = find(split, "user") * kNsPerTick;
    s.cpu_kernel_ns = find(split, "system") * kNsPerTick;
    std::istringstream in(text_of(f.at("cpuacct.usage_percpu")));
    for (uint64_t n; in >> n;) s.cpu_each_ns.push_back(n);
  }
  if (f.has("cpu.cfs_quota_us")) {
    auto t = f.numbers("cpu.stat");
    s.periods = find(t, "nr_periods");
    s.throttled_periods = find(t, "nr_throttled");
    s.throttled_ns = find(t, "throttled_time");
  }
  if (f.has("memory.limit_in_bytes")) {
    s.memory = v1_amount(f, "memory.");
    s.memory_swap = v1_amount(f, "memory.memsw.");
    s.kernel = v1_amount(f, "memory.kmem.");
    s.kernel_tcp = v1_amount(f, "memory.kmem.tcp.");
    s.memory_raw = f.numbers("memory.stat");
    s.cache = find(s.memory_raw, "cache");
  }
  if (f.has("blkio.throttle.io_service_bytes_recursive")) {
    read_v1_io(f.at("blkio.throttle.io_service_bytes_recursive"), s.io_bytes);
    read_v1_io(f.at("blkio.throttle.io_serviced_recursive"), s.io_operations);
  }
}

void read_v2(const Files& f, CgroupStats& s) {
  if (f.has("memory.current")) {
    s.memory = {f.number("memory.max"), f.number("memory.current"), f.number("memory.peak"), find(f.numbers("memory.events"), "max")};
    uint64_t swap = f.number("memory.swap.max"), used = f.number("memory.swap.current");
    s.memory_swap = {swap == UINT64_MAX || s.memory.limit == UINT64_MAX ? UINT64_MAX : swap + s.memory.limit,
                     used + s.memory.usage, 0, 0};
    s.memory_raw = f.numbers("memory.stat");
    s.cache = find(s.memory_raw, "file");
  }
  if (f.has("cpu.max") || (f.has("cpu.stat") && s.cpu_ns == 0)) {
    auto t = f.numbers("cpu.stat");
    s.cpu_ns = find(t, "usage_usec") * 1000;
    s.cpu_user_ns = find(t, "user_usec") * 1000;
    s.cpu_kernel_ns = find(t, "system_usec") * 1000;
    s.periods = find(t, "nr_periods");
    s.throttled_periods = find(t, "nr_throttled");
    s.throttled_ns = find(t, "throttled_usec") * 1000;
  }
  if (f.has("io.stat")) read_v2_io(f.at("io.stat"), s);
}

bool of_interest(std::string_view name) {
  for (const char* start : {"cpu.", "cpuacct.", "memory.", "pids.", "blkio.throttle.io_serv", "io.stat", "cgroup.controllers"}) {
    if (name.rfind(start, 0) == 0) return true;
  }
  return name.rfind("hugetlb.", 0) == 0 && name.find(".rsvd") == std::string_view::npos;
}

}  // namespace

CgroupReader::CgroupReader(const std::vector<std::string>& leaves) {
  for (auto& path : leaves) {
    Leaf leaf{path, {}};
    if (DIR* d = ::opendir(path.c_str())) {
      while (dirent* e = ::readdir(d)) {
        if (of_interest(e->d_name)) leaf.files.insert(e->d_name);
      }
      ::closedir(d);
    }
    if (!leaf.files.empty()) leaves_.push_back(std::move(leaf));
  }
}

CgroupStats CgroupReader::read() const {
  CgroupStats s;
  // On a hybrid host the version 2 leaf has a cpu.stat as well; the controllers of version 1 know more.
  for (auto& leaf : leaves_) {
    Files f{leaf.path, leaf.files};
    if (!f.has("cgroup.controllers")) read_v1(f, s);
  }
  for (auto& leaf : leaves_) {
    Files f{leaf.path, leaf.files};
    if (f.has("cgroup.controllers")) read_v2(f, s);
    if (f.has("pids.current")) {
      s.pids = f.number("pids.current");
      s.pids_limit = f.number("pids.max");
    }
    read_hugepages(f, s);
    s.oom_kills += find(f.numbers("memory.oom_control"), "oom_kill") + find(f.numbers("memory.events"), "oom_kill");
  }
  return s;
}

CgroupStats read_cgroup_stats(const std::vector<std::string>& leaves) { return CgroupReader(leaves).read(); }

namespace {

// "0-3,7".
std::vector<uint16_t> number_list(const std::string& text) {
  std::vector<uint16_t> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    unsigned first = 0, last = 0;
    int n = sscanf(part.c_str(), "%u-%u", &first, &last);
    if (n < 1) break;
    if (n < 2) last = first;
    for (unsigned i = first; i <= last && i <= UINT16_MAX; i++) out.push_back(static_cast<uint16_t>(i));
  }
  return out;
}

}  // namespace

void add_processor_details(const std::vector<std::string>& leaves, CgroupStats& s) {
  static constexpr const char* kSettings[] = {"cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
                                              "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level"};
  for (auto& leaf : leaves) {
    std::istringstream all(text_of(leaf + "/cpuacct.usage_all"));
    std::string header;
    std::getline(all, header);  // "cpu user system"
    for (uint64_t cpu, user, system; all >> cpu >> user >> system;) {
      s.cpu_each_user_ns.push_back(user);
      s.cpu_each_kernel_ns.push_back(system);
    }
    for (const char* kind : {"", ".effective"}) {
      if (s.cpus.empty()) s.cpus = number_list(text_of(leaf + "/cpuset.cpus" + kind));
      if (s.mems.empty()) s.mems = number_list(text_of(leaf + "/cpuset.mems" + kind));
    }
    for (const char* name : kSettings) {
      std::string text = text_of(leaf + "/cpuset." + name);
      if (!text.empty()) s.cpuset[name] = strtoll(text.c_str(), nullptr, 10);
    }
  }
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
