// SPDX-License-Identifier: Apache-2.0
// Finding the hierarchies of the host, and making, filling and removing groups.
#include "runtime/host/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "base/sys.h"
#include "runtime/host/proc.h"

namespace runtime::host {

using base::Error;
using base::Fd;
using base::Result;
using base::ResultX;

namespace {

std::vector<std::string> split(const std::string& s, char by) {
  std::vector<std::string> out;
  std::istringstream in(s);
  for (std::string w; std::getline(in, w, by);) {
    if (!w.empty()) out.push_back(w);
  }
  return out;
}

constexpr const char* kV1Controllers[] = {"cpu",     "cpuacct",  "cpuset",   "memory",     "devices", "freezer", "blkio",
                                          "pids",    "net_cls",  "net_prio", "perf_event", "hugetlb", "rdma",    "misc"};

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(const std::string& s) {
  std::string out;
  for (size_t i = 0; i < s.size(); i++) {
    if (s[i] == '\\' && i + 3 < s.size() && isdigit(s[i + 1])) {
      out += static_cast<char>((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + (s[i + 3] - '0'));
      i += 3;
    } else {
      out += s[i];
    }
  }
  return out;
}

std::string clean(const std::string& path) {
  std::string out;
  for (auto& part : split(path, '/')) {
    if (part == "." || part == "..") continue;
    out += "/" + part;
  }
  return out;
}

std::string leaf_of(const Hierarchy& h, const std::string& path, const std::string& name) {
  std::string rel = path.empty() ? name : path;
  if (rel[0] == '/') return h.mount_point + clean(rel);
  std::string own = h.own;
  if (h.v2 && !h.controllers.empty()) {
    // This group holds processes, so a version 2 controller cannot be handed to its children: use its parent.
    size_t cut = own.rfind('/');
    own = cut == std::string::npos ? "" : own.substr(0, cut);
  }
  return h.mount_point + clean(own) + clean(rel);
}

Result<void> set(const std::string& dir, const char* file, const std::string& value) {
  return write_file(dir + "/" + file, value);
}

// A new cpuset group has no CPU and takes no process until it gets its parent's.
Result<void> inherit_cpuset(const std::string& dir, const char* file) {
  std::string have = TRY(read_file(dir + "/" + file));
  if (have.find_first_not_of(" \n") != std::string::npos) return {};
  std::string up = TRY(read_file(dir + "/../" + file));
  return set(dir, file, up);
}

std::string max_or(int64_t v) { return v < 0 ? "max" : std::to_string(v); }

#define SET_LIMIT(dir, file, value)                                                                             \
  do {                                                                                                          \
    std::string v_ = (value);                                                                                   \
    auto r_ = set(dir, file, v_);                                                                               \
    if (!r_.ok()) return base::wrap(r_.error(), base::format("set {} of cgroup {} to {}", file, dir, v_));      \
  } while (0)

ResultX<void> apply_settings(const Hierarchy& h, const std::string& dir, const std::vector<CgroupSetting>& settings) {
  for (auto& s : settings) {
    if (!h.has(s.controller)) continue;
    std::string file = dir + "/" + s.file;
    if (!s.needed && ::access(file.c_str(), F_OK) != 0) continue;
    auto r = write_file(file, s.value);
    if (!r.ok()) return base::wrap(r.error(), base::format("{}: write '{}' to {}", s.what, s.value, file));
  }
  return {};
}

ResultX<void> apply_v1(const Hierarchy& h, const std::string& dir, const CgroupLimits& l) {
  if (h.has("memory")) {
    // The limit of memory plus swap may never be below that of memory: raise it first, lower it last.
    bool swap = ::access((dir + "/memory.memsw.limit_in_bytes").c_str(), F_OK) == 0;
    if (swap && l.memory_swap && *l.memory_swap < 0) SET_LIMIT(dir, "memory.memsw.limit_in_bytes", "-1");
    if (l.memory) {
      auto r = set(dir, "memory.limit_in_bytes", std::to_string(*l.memory));
      if (!r.ok() && swap && l.memory_swap) {
        SET_LIMIT(dir, "memory.memsw.limit_in_bytes", std::to_string(*l.memory_swap));
        r = set(dir, "memory.limit_in_bytes", std::to_string(*l.memory));
      }
      if (!r.ok()) {
        return base::wrap(r.error(), base::format("set memory.limit_in_bytes of cgroup {} to {}", dir, *l.memory));
      }
    }
    if (swap && l.memory_swap && *l.memory_swap > 0) {
      SET_LIMIT(dir, "memory.memsw.limit_in_bytes", std::to_string(*l.memory_swap));
    }
    if (l.memory_reservation) {
      SET_LIMIT(dir, "memory.soft_limit_in_bytes", std::to_string(*l.memory_reservation));
    }
  }
  if (h.has("cpu")) {
    if (l.cpu_shares && *l.cpu_shares) SET_LIMIT(dir, "cpu.shares", std::to_string(*l.cpu_shares));
    if (l.cpu_period && *l.cpu_period) SET_LIMIT(dir, "cpu.cfs_period_us", std::to_string(*l.cpu_period));
    if (l.cpu_quota && *l.cpu_quota) SET_LIMIT(dir, "cpu.cfs_quota_us", std::to_string(*l.cpu_quota));
  }
  if (h.has("cpuset")) {
    if (!l.cpus.empty()) SET_LIMIT(dir, "cpuset.cpus", l.cpus);
    if (!l.mems.empty()) SET_LIMIT(dir, "cpuset.mems", l.mems);
  }
  if (h.has("pids") && l.pids) SET_LIMIT(dir, "pids.max", max_or(*l.pids));
  return apply_settings(h, dir, l.v1);
}

ResultX<void> apply_v2(const Hierarchy& h, const std::string& dir, const CgroupLimits& l) {
  if (h.has("memory")) {
    if (l.memory) SET_LIMIT(dir, "memory.max", max_or(*l.memory));
    if (l.memory_reservation) SET_LIMIT(dir, "memory.low", max_or(*l.memory_reservation));
    if (l.memory_swap && ::access((dir + "/memory.swap.max").c_str(), F_OK) == 0) {
      // The spec counts memory plus swap, version 2 swap alone.
      int64_t swap = *l.memory_swap;
      if (swap > 0 && l.memory && *l.memory > 0) swap = std::max<int64_t>(swap - *l.memory, 0);
      SET_LIMIT(dir, "memory.swap.max", max_or(swap));
    }
  }
  if (h.has("cpu")) {
    if (l.cpu_shares && *l.cpu_shares) SET_LIMIT(dir, "cpu.weight", std::to_string(weight_of_shares(*l.cpu_shares)));
    if ((l.cpu_quota && *l.cpu_quota) || (l.cpu_period && *l.cpu_period)) {
      std::string quota = l.cpu_quota && *l.cpu_quota > 0 ? std::to_string(*l.cpu_quota) : "max";
      SET_LIMIT(dir, "cpu.max", quota + " " + std::to_string(l.cpu_period.value_or(0) ? *l.cpu_period : 100000));
    }
  }
  if (h.has("cpuset")) {
    if (!l.cpus.empty()) SET_LIMIT(dir, "cpuset.cpus", l.cpus);
    if (!l.mems.empty()) SET_LIMIT(dir, "cpuset.mems", l.mems);
  }
  if (h.has("pids") && l.pids) SET_LIMIT(dir, "pids.max", max_or(*l.pids));
  TRY(apply_settings(h, dir, l.v2));
  for (auto& [file, value] : l.unified) {
    if (file.empty() || file.find('/') != std::string::npos || file[0] == '.' || file.rfind("cgroup.", 0) == 0) {
      return base::error(base::kEINVAL,
                         "linux.resources.unified names '{}': it must be a file of a controller such as memory.high",
                         file);
    }
    SET_LIMIT(dir, file.c_str(), value);
  }
  return {};
}

const Hierarchy* hierarchy_of(const std::vector<Hierarchy>& hosts, const std::string& dir) {
  const Hierarchy* best = nullptr;
  for (auto& h : hosts) {
    if (dir.compare(0, h.mount_point.size(), h.mount_point) == 0 &&
        (!best || h.mount_point.size() > best->mount_point.size())) {
      best = &h;
    }
  }
  return best;
}

// Limits that the spec asks for but no hierarchy of this host can set.
ResultX<void> check_supported(const std::vector<Hierarchy>& usable, const CgroupLimits& l) {
  auto need = [&](bool wanted, const char* controller, const char* what) -> ResultX<void> {
    if (!wanted) return {};
    for (auto& h : usable) {
      if (h.has(controller)) return {};
    }
    return base::error(base::kEOPNOTSUPP, "{} is asked for, but the host's {} cgroup controller cannot be used: mount "
                       "or delegate it, or remove the limit", what, controller);
  };
  auto missing = [](const CgroupSetting& s) {
    return base::error(base::kEOPNOTSUPP, "{} is asked for, but the host's {} cgroup controller cannot be used: mount or "
                       "delegate it, or remove the limit", s.what, s.controller);
  };
  TRY(need(l.memory && *l.memory > 0, "memory", "linux.resources.memory.limit"));
  TRY(need(l.cpu_quota && *l.cpu_quota > 0, "cpu", "linux.resources.cpu.quota"));
  TRY(need(l.pids && *l.pids > 0, "pids", "linux.resources.pids.limit"));
  TRY(need(!l.cpus.empty(), "cpuset", "linux.resources.cpu.cpus"));
  TRY(need(!l.mems.empty(), "cpuset", "linux.resources.cpu.mems"));
  // What both kinds of hierarchy can say stands in both lists.
  auto can = [&](const CgroupSetting& s, bool v2) {
    return std::any_of(usable.begin(), usable.end(), [&](auto& h) { return h.v2 == v2 && h.has(s.controller); });
  };
  auto same = [](const CgroupSetting& a, const CgroupSetting& b) { return strcmp(a.what, b.what) == 0; };
  for (auto& s : l.v1) {
    bool by_v2 = std::any_of(l.v2.begin(), l.v2.end(), [&](auto& t) { return same(s, t) && can(t, true); });
    if (s.needed && !by_v2 && !can(s, false)) return missing(s);
  }
  for (auto& s : l.v2) {
    bool by_v1 = std::any_of(l.v1.begin(), l.v1.end(), [&](auto& t) { return same(s, t); });
    if (s.needed && !by_v1 && !can(s, true)) return missing(s);
  }
  if (!l.unified.empty()) {
    bool v2 = false;
    for (auto& h : usable) v2 |= h.v2;
    if (!v2) {
      return base::error(base::kEOPNOTSUPP,
                         "linux.resources.unified is set, but this host has no version 2 cgroup hierarchy");
    }
  }
  return {};
}

}  // namespace

// By the kernel's own documentation of both ranges.
uint64_t weight_of_shares(uint64_t shares) {
  if (shares == 0) return 0;
  shares = std::clamp<uint64_t>(shares, 2, 262144);
  return 1 + ((shares - 2) * 9999) / 262142;
}

bool Hierarchy::has(std::string_view controller) const {
  return std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
}

std::vector<Hierarchy> parse_hierarchies(const std::string& mountinfo, const std::string& own_groups) {
  std::vector<Hierarchy> out;
  for (auto& line : split(mountinfo, '\n')) {
    size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    auto left = split(line.substr(0, dash), ' ');
    auto right = split(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (right[0] != "cgroup" && right[0] != "cgroup2") continue;
    Hierarchy h;
    h.v2 = right[0] == "cgroup2";
    std::string root = unescape(left[3]);
    h.mount_point = unescape(left[4]);
    if (!h.v2) {
      for (auto& option : split(right[2], ',')) {
        bool known = option.rfind("name=", 0) == 0;
        for (const char* c : kV1Controllers) known |= option == c;
        if (known) h.controllers.push_back(option);
      }
    }
    // A later mount of the same hierarchy adds nothing.
    bool seen = false;
    for (auto& o : out) seen |= o.v2 == h.v2 && o.controllers == h.controllers;
    if (seen) continue;
    for (auto& own : split(own_groups, '\n')) {
      size_t a = own.find(':'), b = own.find(':', a + 1);
      if (a == std::string::npos || b == std::string::npos) continue;
      std::string names = own.substr(a + 1, b - a - 1);
      bool match = h.v2 ? names.empty() && own.substr(0, a) == "0" : false;
      for (auto& n : split(names, ',')) match |= !h.v2 && h.has(n);
      if (!match) continue;
      std::string group = own.substr(b + 1);
      // A mount of a part of the hierarchy: paths start at that part.
      if (root != "/" && group.compare(0, root.size(), root) == 0) group = group.substr(root.size());
      h.own = clean(group);
    }
    out.push_back(std::move(h));
  }
  return out;
}

std::vector<Hierarchy> find_hierarchies() {
  auto mounts = read_file("/proc/self/mountinfo", 16 << 20);
  auto own = read_file("/proc/self/cgroup");
  if (!mounts.ok() || !own.ok()) return {};
  auto out = parse_hierarchies(*mounts, *own);
  for (auto& h : out) {
    if (!h.v2) continue;
    auto offered = read_file(h.mount_point + "/cgroup.controllers");
    if (!offered.ok()) continue;
    offered->erase(std::remove(offered->begin(), offered->end(), '\n'), offered->end());
    h.controllers = split(*offered, ' ');
  }
  return out;
}

std::vector<std::string> plan_cgroups(const std::vector<Hierarchy>& hosts, const std::string& path,
                                      const std::string& name) {
  std::vector<std::string> out;
  for (auto& h : hosts) out.push_back(leaf_of(h, path, name));
  return out;
}

namespace {

// The name of some group below this one, or "".
std::string find_child_group(const std::string& group) {
  DIR* d = ::opendir(group.c_str());
  if (!d) return "";
  std::string found;
  while (dirent* e = ::readdir(d)) {
    if (e->d_type == DT_DIR && e->d_name[0] != '.') found = e->d_name;
  }
  ::closedir(d);
  return found;
}

}  // namespace

ResultX<void> check_cgroups_free(const std::vector<Hierarchy>& hosts, const std::vector<std::string>& leaves) {
  for (auto& leaf : leaves) {
    for (auto& h : hosts) {
      if (leaf == h.mount_point) {
        return base::error(base::kEINVAL, "linux.cgroupsPath names the top of the hierarchy {}: it must name a group "
                           "of the container's own", leaf);
      }
    }
    auto pids = cgroup_pids({leaf});
    if (!pids.empty()) {
      return base::error(base::kEBUSY, "cgroup {} already holds {} processes (pid {} first): give the container a "
                         "linux.cgroupsPath of its own", leaf, pids.size(), pids[0]);
    }
    if (std::string below = find_child_group(leaf); !below.empty()) {
      return base::error(base::kEBUSY, "cgroup {} already holds the group {}: give the container a linux.cgroupsPath of its own",
                         leaf, below);
    }
  }
  return {};
}

ResultX<Cgroups> Cgroups::create(const std::vector<Hierarchy>& hosts, const std::string& path, const std::string& name,
                                 const CgroupLimits& limits, bool required) {
  Cgroups c;
  std::vector<Hierarchy> usable;
  auto undo = [&](Error e) {
    IGNORE_ERROR(remove_cgroups(c.leaves_, c.made_, 500), "the first error is the one to tell");
    return e;
  };
  for (auto& h : hosts) {
    std::string leaf = leaf_of(h, path, name);
    std::string at = h.mount_point;
    bool failed = false;
    for (auto& part : split(leaf.substr(h.mount_point.size()), '/')) {
      std::string up = at;
      at += "/" + part;
      auto made = base::sys::from_libc(::mkdir(at.c_str(), 0755));
      if (!made.ok() && made.error() != base::kEEXIST) {
        if (required && !h.controllers.empty() && made.error() != base::kEROFS) {
          return undo(base::wrap(made.error(), base::format("make cgroup {}", at)));
        }
        failed = true;
        break;
      }
      if (made.ok()) c.made_.push_back(at);
      if (h.v2) {
        for (auto& controller : h.controllers) {
          IGNORE_ERROR(set(up, "cgroup.subtree_control", "+" + controller),
                       "a controller that stays off is told when a limit needs it");
        }
      } else if (h.has("cpuset")) {
        for (const char* f : {"cpuset.cpus", "cpuset.mems"}) {
          auto r = inherit_cpuset(at, f);
          if (!r.ok()) return undo(base::wrap(r.error(), base::format("set {} of cgroup {}", f, at)));
        }
      }
    }
    if (failed) continue;
    c.leaves_.push_back(leaf);
    Hierarchy use = h;
    if (h.v2) {
      auto here = read_file(leaf + "/cgroup.controllers");
      if (here.ok()) {
        here->erase(std::remove(here->begin(), here->end(), '\n'), here->end());
        use.controllers = split(*here, ' ');
      }
      auto dir = base::sys::open(leaf.c_str(), O_RDONLY | O_DIRECTORY);
      if (!dir.ok()) return undo(base::wrap(dir.error(), base::format("open cgroup {}", leaf)));
      c.v2_leaf_ = std::move(dir).value();
      c.threads_path_ = leaf + "/cgroup.threads";
    } else {
      auto tasks = base::sys::open((leaf + "/tasks").c_str(), O_WRONLY);
      if (!tasks.ok()) return undo(base::wrap(tasks.error(), base::format("open {}/tasks", leaf)));
      c.v1_tasks_.push_back(std::move(tasks).value());
      if (c.threads_path_.empty()) c.threads_path_ = leaf + "/tasks";
    }
    auto applied = h.v2 ? apply_v2(use, leaf, limits) : apply_v1(use, leaf, limits);
    if (!applied.ok()) return undo(applied.error());
    usable.push_back(std::move(use));
  }
  if (required) {
    auto supported = check_supported(usable, limits);
    if (!supported.ok()) return undo(supported.error());
  }
  return c;
}

ResultX<void> Cgroups::apply(const std::vector<std::string>& leaves, const std::vector<Hierarchy>& hosts,
                             const CgroupLimits& limits) {
  std::vector<Hierarchy> usable;
  for (auto& leaf : leaves) {
    const Hierarchy* h = hierarchy_of(hosts, leaf);
    if (!h) continue;
    usable.push_back(*h);
    if (auto here = read_file(leaf + "/cgroup.controllers"); h->v2 && here.ok()) {
      here->erase(std::remove(here->begin(), here->end(), '\n'), here->end());
      usable.back().controllers = split(*here, ' ');
    }
  }
  TRY(check_supported(usable, limits));
  for (auto& leaf : leaves) {
    const Hierarchy* h = hierarchy_of(hosts, leaf);
    if (!h) continue;
    auto r = h->v2 ? apply_v2(*h, leaf, limits) : apply_v1(*h, leaf, limits);
    if (!r.ok()) return r.error();
  }
  return {};
}

Result<void> Cgroups::join_v1() const {
  // "tasks" with 0 moves the calling thread alone and takes no global lock; cgroup.procs costs 10 ms.
  for (auto& f : v1_tasks_) TRY(base::sys::write(f.get(), "0", 1));
  return {};
}

Result<Fd> Cgroups::open_threads() const {
  if (threads_path_.empty()) return Fd();
  return base::sys::open(threads_path_.c_str(), O_RDONLY);
}

int count_cpus(const std::string& list) {
  int n = 0;
  for (auto& part : split(list, ',')) {
    char* end = nullptr;
    long a = strtol(part.c_str(), &end, 10), b = a;
    if (end == part.c_str()) return 0;
    if (*end == '-') {
      const char* from = end + 1;
      b = strtol(from, &end, 10);
      if (end == from) return 0;
    }
    if (a < 0 || b < a || b > 65535 || (*end && *end != '\n')) return 0;
    n += static_cast<int>(b - a + 1);
  }
  return n;
}

CpuShare find_cpu_share(const std::vector<Hierarchy>& hosts, const std::vector<std::string>& leaves) {
  CpuShare share;
  for (auto& leaf : leaves) {
    const Hierarchy* h = hierarchy_of(hosts, leaf);
    if (!h) continue;
    if (h->has("cpuset")) {
      auto cpus = read_file(leaf + (h->v2 ? "/cpuset.cpus.effective" : "/cpuset.effective_cpus"));
      if (cpus.ok() && count_cpus(*cpus)) share.cpus = count_cpus(*cpus);
    }
    if (!h->has("cpu")) continue;
    for (std::string at = leaf; at.size() > h->mount_point.size(); at.resize(at.rfind('/'))) {
      double quota = 0, period = 0;
      if (h->v2) {
        auto max = read_file(at + "/cpu.max");
        if (!max.ok() || sscanf(max->c_str(), "%lf %lf", &quota, &period) != 2) continue;  // "max 100000"
      } else {
        auto q = read_file(at + "/cpu.cfs_quota_us"), p = read_file(at + "/cpu.cfs_period_us");
        if (!q.ok() || !p.ok()) continue;
        quota = strtod(q->c_str(), nullptr);
        period = strtod(p->c_str(), nullptr);
      }
      if (quota > 0 && period > 0 && (share.quota == 0 || quota / period < share.quota)) share.quota = quota / period;
    }
  }
  return share;
}

std::vector<int> cgroup_pids(const std::vector<std::string>& leaves) {
  std::vector<int> out;
  for (auto& leaf : leaves) {
    auto text = read_file(leaf + "/cgroup.procs");
    if (!text.ok()) continue;
    for (auto& w : split(*text, '\n')) {
      int pid = atoi(w.c_str());
      if (pid > 0 && std::find(out.begin(), out.end(), pid) == out.end()) out.push_back(pid);
    }
  }
  return out;
}

bool kill_cgroups(const std::vector<std::string>& leaves, int timeout_ms) {
  int64_t end = now_ms() + timeout_ms;
  for (unsigned wait = 200;; wait = std::min(wait * 2, 20000u)) {
    auto pids = cgroup_pids(leaves);
    if (pids.empty()) return true;
    bool by_group = false;
    for (auto& leaf : leaves) by_group |= write_file(leaf + "/cgroup.kill", "1").ok();
    // Processes that were not in the version 2 leaf (or that has no cgroup.kill): one by one, each held by a pidfd
    // and looked up again, so that a reused pid is not hit.
    for (int pid : pids) {
      auto fd = base::sys::pidfd_open(pid);
      if (!fd.ok()) continue;
      auto again = by_group ? cgroup_pids(leaves) : pids;
      if (std::find(again.begin(), again.end(), pid) == again.end()) continue;
      IGNORE_ERROR(base::sys::pidfd_send_signal(fd->get(), SIGKILL), "it may have ended by itself");
    }
    if (now_ms() >= end) return cgroup_pids(leaves).empty();
    sleep_us(wait);
  }
}

ResultX<void> remove_cgroups(const std::vector<std::string>& leaves, const std::vector<std::string>& made,
                             int timeout_ms) {
  int64_t end = now_ms() + timeout_ms;
  for (auto& leaf : leaves) {
    for (unsigned wait = 100;; wait = std::min(wait * 2, 20000u)) {
      auto r = base::sys::from_libc(::rmdir(leaf.c_str()));
      if (r.ok() || r.error() == base::kENOENT) break;
      if (r.error() != base::kEBUSY || now_ms() >= end) {
        return base::wrap(r.error(), base::format("remove cgroup {}", leaf));
      }
      sleep_us(wait);
    }
  }
  for (auto it = made.rbegin(); it != made.rend(); ++it) {
    if (std::find(leaves.begin(), leaves.end(), *it) == leaves.end()) ::rmdir(it->c_str());
  }
  return {};
}

}  // namespace runtime::host
