// SPDX-License-Identifier: Apache-2.0
// Hosts whose cgroups systemd manages: a container's group is made as a transient scope, so that systemd knows it and leaves what is
// below it alone. systemd is asked through its own client, busctl.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/proc.h"

namespace runtime::host {

// linux.cgroupsPath as engines write it for systemd, "slice:prefix:name"; "" is "system.slice:caisson:ID".
struct ScopeName {
  std::string slice, unit;
  // Below the top of each hierarchy: a-b.slice is a directory in a.slice.
  std::string path() const;
};
base::ResultX<ScopeName> parse_scope_name(const std::string& cgroups_path, const std::string& id);

// Properties of the unit, so that systemd does not take back what is written to the group's files. v2: for a pure version 2 host.
std::vector<std::string> scope_properties(const CgroupLimits& limits, bool v2);

// A scope and the process that keeps it while it has no other.
class Scope {
 public:
  // EOPNOTSUPP where no systemd runs. Waits until the scope's group is there.
  static base::ResultX<Scope> create(const ScopeName& name, const std::string& description, const CgroupLimits& limits);
  Scope() = default;
  Scope(Scope&& o) noexcept : path_(std::move(o.path_)), keeper_(std::exchange(o.keeper_, 0)) {}
  Scope& operator=(Scope&& o) noexcept;
  ~Scope() { release(); }
  // Where the group is, below the top of each hierarchy.
  const std::string& path() const { return path_; }
  // Others are in it now.
  void release();

 private:
  base::ResultX<void> await_group(const std::string& unit);
  std::string path_;
  int keeper_ = 0;
};

base::ResultX<void> update_scope(const std::string& unit, const CgroupLimits& limits);
// Its processes are gone already; a unit that systemd does not know any more is no failure.
void stop_scope(const std::string& unit);

}  // namespace runtime::host
