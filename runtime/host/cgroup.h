// SPDX-License-Identifier: Apache-2.0
// Control groups of the host: version 1 (each controller mounted apart), version 2, and both side by side. A
// container gets one leaf in every hierarchy; its processes join when they are born.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace runtime::host {

// One mounted hierarchy.
struct Hierarchy {
  bool v2 = false;
  std::vector<std::string> controllers;  // v1: what it carries ("memory", "cpu", "name=systemd"); v2: what it offers
  std::string mount_point;
  std::string own;                       // this process's group, below mount_point ("" is the top)
  bool has(std::string_view controller) const;
};

// Parses /proc/self/mountinfo and /proc/self/cgroup (given as text, so that tests can bring their own).
std::vector<Hierarchy> parse_hierarchies(const std::string& mountinfo, const std::string& own_groups);
std::vector<Hierarchy> find_hierarchies();

// A file of a controller that is written as it is.
struct CgroupSetting {
  const char* controller;
  std::string file, value;
  const char* what;           // the member of the spec, for a person
  bool needed = true;         // an error if no hierarchy of the host has it; else passed over
};

struct CgroupLimits {
  std::optional<int64_t> memory, memory_swap, memory_reservation;  // bytes; -1 = none
  std::optional<uint64_t> cpu_shares, cpu_period;
  std::optional<int64_t> cpu_quota;
  std::string cpus, mems;
  std::optional<int64_t> pids;  // what the host enforces
  std::vector<std::pair<std::string, std::string>> unified;  // version 2 files, as the spec names them
  std::vector<CgroupSetting> v1, v2;  // the rest, for either kind of hierarchy
};

// The groups of one container. The directories outlive this object; remove_cgroups() takes them away.
class Cgroups {
 public:
  // path: the spec's cgroupsPath; an absolute one is below the top of each hierarchy, a relative one (or ""; then it
  // is the name) below the group of this process.
  // required: fail if no hierarchy can be written (root); otherwise go on without (rootless).
  // Every directory is named in `planned` before it is made, so that a crash can be cleaned up.
  static base::ResultX<Cgroups> create(const std::vector<Hierarchy>& hosts, const std::string& path,
                                       const std::string& name, const CgroupLimits& limits, bool required);
  // Sets limits of groups that exist. A failure leaves those set that came before.
  static base::ResultX<void> apply(const std::vector<std::string>& leaves, const std::vector<Hierarchy>& hosts,
                                   const CgroupLimits& limits);

  // Directories that were made, parents before children; leaves(): the container's own.
  const std::vector<std::string>& made() const { return made_; }
  const std::vector<std::string>& leaves() const { return leaves_; }
  // For CLONE_INTO_CGROUP: the leaf of the version 2 hierarchy, or -1.
  int v2_leaf() const { return v2_leaf_.get(); }
  // The calling thread (of a process with one thread) joins the version 1 leaves.
  base::Result<void> join_v1() const;
  // cgroup.threads of the version 2 leaf, or tasks of a version 1 leaf; invalid if there is no leaf.
  base::Result<base::Fd> open_threads() const;

 private:
  std::vector<std::string> made_, leaves_;
  std::vector<base::Fd> v1_tasks_;
  base::Fd v2_leaf_;
  std::string threads_path_;
};

// Where the leaf of each hierarchy would be. The state records it before anything is made.
std::vector<std::string> plan_cgroups(const std::vector<Hierarchy>& hosts, const std::string& path,
                                      const std::string& name);
// Refuses leaves that are the top of a hierarchy or hold processes or groups already: deleting the container would kill them.
base::ResultX<void> check_cgroups_free(const std::vector<Hierarchy>& hosts, const std::vector<std::string>& leaves);
// What these groups and all groups above them let their processes use.
struct CpuShare {
  int cpus = 0;        // members of the cpuset; 0 = not told
  double quota = 0;    // CPUs' worth of time per period, the least of all; 0 = none
};
CpuShare find_cpu_share(const std::vector<Hierarchy>& hosts, const std::vector<std::string>& leaves);
// The version 2 counterpart of cpu.shares.
uint64_t weight_of_shares(uint64_t shares);
// Counts "0-3,8" (4 + 1); 0 for what is no such list.
int count_cpus(const std::string& list);
// Pids in these groups.
std::vector<int> cgroup_pids(const std::vector<std::string>& leaves);
// Kills every process of the groups, again until none is left or the time is up. Answers whether none is left.
bool kill_cgroups(const std::vector<std::string>& leaves, int timeout_ms);
// Removes the directories, children first. A group that is busy is tried until the time is up. Parents that others
// use are left in peace.
base::ResultX<void> remove_cgroups(const std::vector<std::string>& leaves, const std::vector<std::string>& made,
                                   int timeout_ms);

}  // namespace runtime::host
