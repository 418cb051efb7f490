// SPDX-License-Identifier: Apache-2.0
// Settings of the host, its control groups, and the programs.
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "base/words.h"
#include "runtime/doctor/doctor.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/launch.h"
#include "runtime/host/proc.h"
#include "runtime/install/install.h"

namespace runtime::doctor {

using base::joined;

namespace {

std::optional<long> number(const char* path) {
  auto text = host::read_file(path);
  if (!text.ok()) return std::nullopt;
  return strtol(text->c_str(), nullptr, 10);
}

}  // namespace

void look_at_limits(Findings& out) {
  auto yama = number("/proc/sys/kernel/yama/ptrace_scope");
  if (yama.value_or(0) >= 2) {
    out.push_back({"yama", Status::warn, base::format("kernel.yama.ptrace_scope = {}: the sentry cannot read its programs' memory from outside, so ptrace and "
                                                      "/proc/PID/cmdline of other processes do not work in sandboxes", *yama),
                   "sysctl kernel.yama.ptrace_scope=1"});
  } else {
    out.push_back({"yama", Status::ok, yama ? base::format("kernel.yama.ptrace_scope = {}", *yama) : "not there", ""});
  }
  long lowest = number("/proc/sys/vm/mmap_min_addr").value_or(0);
  constexpr long kLowest = 65536, kMaps = 65530, kFiles = 4096;
  if (lowest > kLowest) {
    out.push_back({"mmap-min-addr", Status::fail, base::format("vm.mmap_min_addr = {}: programs' memory begins at {}", lowest, kLowest), "sysctl vm.mmap_min_addr=65536"});
  }
  long maps = number("/proc/sys/vm/max_map_count").value_or(kMaps);
  if (maps < kMaps) {
    out.push_back({"max-map-count", Status::warn, base::format("vm.max_map_count = {}: programs with many mappings fail earlier than elsewhere", maps),
                   "sysctl vm.max_map_count=262144"});
  }
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < kFiles) {
    out.push_back({"open-files", Status::warn, base::format("at most {} open files: all files of a container are open in one gofer", files.rlim_max),
                   "raise the hard limit (LimitNOFILE= of containerd's unit)"});
  } else {
    out.push_back({"open-files", Status::ok, base::format("up to {} per container", files.rlim_max), ""});
  }
  if (number("/proc/sys/vm/overcommit_memory").value_or(0) == 2) {
    out.push_back({"overcommit", Status::warn, "vm.overcommit_memory = 2: address space that nobody uses counts", "sysctl vm.overcommit_memory=0"});
  }
}

void look_at_cgroups(Findings& out) {
  auto all = host::find_hierarchies();
  bool v1 = false, v2 = false;
  std::vector<std::string> missing, refused;
  for (auto& h : all) {
    bool named_only = !h.v2 && h.controllers.size() == 1 && h.controllers[0].rfind("name=", 0) == 0;
    (h.v2 ? v2 : v1) = true;
    if (named_only) continue;
  }
  for (const char* c : {"cpu", "memory", "pids", "cpuset"}) {
    if (std::none_of(all.begin(), all.end(), [&](auto& h) { return h.has(c); })) missing.push_back(c);
  }
  bool freezer = v2 || std::any_of(all.begin(), all.end(), [](auto& h) { return h.has("freezer"); });
  if (!freezer) missing.push_back("freezer");
  std::string layout = v1 && v2 ? "version 1 and 2 side by side" : v2 ? "version 2" : v1 ? "version 1" : "none";
  // Whether groups can be made is only told by making one.
  int made = 0;
  for (auto& h : all) {
    std::string own = h.mount_point + (h.own.empty() || h.own == "/" ? "" : "/" + h.own);
    std::string group = base::format("{}/caisson-doctor.{}", own, ::getpid());
    if (::mkdir(group.c_str(), 0755) == 0) {
      ::rmdir(group.c_str());
      made++;
    } else {
      refused.push_back(own);
    }
  }
  std::string found = layout + (missing.empty() ? "" : "; without " + joined(missing));
  if (made == 0) {
    out.push_back({"cgroups", ::geteuid() == 0 ? Status::fail : Status::warn, found + "; no group can be made",
                   ::geteuid() == 0 ? "mount /sys/fs/cgroup writable" : "have a group delegated to this user (systemd: Delegate=yes) for limits and pause"});
  } else if (!missing.empty() || !refused.empty()) {
    std::string more = refused.empty() ? "" : "; no group can be made in " + joined(refused);
    out.push_back({"cgroups", Status::warn, found + more, missing.empty() ? "make them writable" : "limits of these kinds are not enforced by the host: boot with the controllers enabled"});
  } else {
    out.push_back({"cgroups", Status::ok, found + "; cpu, memory, pids, cpuset and freezing", ""});
  }
}

std::string version_mark(std::string_view program) {
  constexpr std::string_view kMark = "caisson-version:";
  for (size_t at = 0; (at = program.find(kMark, at)) != program.npos;) {
    at += kMark.size();
    size_t end = at;
    while (end < program.size() && end - at < 40 && program[end] > ' ' && program[end] < 0x7f) end++;
    if (end > at && isdigit(static_cast<unsigned char>(program[at]))) return std::string(program.substr(at, end - at));
  }
  return "";
}

void look_at_programs(Findings& out) {
  constexpr size_t kMaxProgram = 256 << 20;
  std::vector<std::string> problems, versions, where;
  for (auto& p : install::program_names()) {
    std::string path = install::find_beside(p.name);
    const char* libexec = ::getenv("CAISSON_LIBEXEC");
    bool jailed = p.name != std::string_view("caisson") && p.name != std::string_view(install::kShim) && p.name != std::string_view("caisson-cri");
    if (jailed) {
      auto found = host::find_program(p.name);
      if (!found.ok()) {
        if (p.needed) problems.push_back(found.error().text());
        continue;
      }
      if (libexec && *libexec) path = found->path;
    }
    if (path.empty()) {
      if (p.needed) problems.push_back(base::format("{} is not beside this program", p.name));
      continue;
    }
    auto text = host::read_file(path, kMaxProgram);
    std::string version = text.ok() ? version_mark(*text) : "";
    if (version.empty()) problems.push_back(path + " tells no version");
    if (!version.empty() && std::find(versions.begin(), versions.end(), version) == versions.end()) versions.push_back(version);
    struct statvfs fs;
    if (::statvfs(path.c_str(), &fs) == 0 && (fs.f_flag & ST_NOEXEC)) problems.push_back(path + " is on a file system mounted noexec");
    std::string directory = path.substr(0, path.rfind('/'));
    if (std::find(where.begin(), where.end(), directory) == where.end()) where.push_back(directory);
  }
  if (versions.size() > 1) problems.push_back("they are of different versions: " + joined(versions));
  if (problems.empty()) out.push_back({"programs", Status::ok, base::format("version {} in {}", joined(versions), joined(where)), ""});
  else out.push_back({"programs", Status::fail, joined(problems), "install all programs of one build, readable and executable by everybody"});
}

}  // namespace runtime::doctor
