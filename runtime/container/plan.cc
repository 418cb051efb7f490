// SPDX-License-Identifier: Apache-2.0
// Mounts, limits and paths of a container.
#include "runtime/container/plan.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/sys.h"

namespace runtime::container {

using base::ResultX;
namespace wire = base::wire;

namespace {

// Threads of sentry, gofer and zygote, and stubs kept ready, that the container's own limit must not count.
constexpr int64_t kOwnPids = 128;

// "/a//b/../c/" -> "/a/c": for comparing; the sentry walks the path itself, links and all.
std::string tidy(const std::string& path) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (at < path.size()) {
    size_t end = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, end - at);
    at = end + 1;
    if (part == ".." && !parts.empty()) parts.pop_back();
    else if (!part.empty() && part != "." && part != "..") parts.push_back(std::move(part));
  }
  std::string out;
  for (auto& p : parts) out += "/" + p;
  return out.empty() ? "/" : out;
}

std::string host_path(const std::string& bundle, const std::string& p) { return p[0] == '/' ? p : bundle + "/" + p; }

// Types the sentry mounts by itself.
bool known_type(const std::string& t) {
  static constexpr const char* kTypes[] = {"proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs"};
  return std::any_of(std::begin(kTypes), std::end(kTypes), [&](const char* k) { return t == k; });
}

ResultX<void> add_mount(const oci::Mount& m, const PlanOptions& options, Plan& plan) {
  oci::MountOptions o = TRY(oci::parse_mount_options(m));
  wire::Mount w;
  w.destination = tidy(m.destination);
  w.flags = o.flags;
  w.data = o.data;
  if (w.destination == "/") {
    return base::error(base::kEINVAL, "a mount at {} would hide the whole root: use root.path", m.destination);
  }
  if (o.bind) {
    if (m.source.empty()) return base::error(base::kEINVAL, "the bind mount at {} has no source", m.destination);
    std::string source = host_path(options.bundle, m.source);
    struct stat st;
    auto found = base::sys::from_libc(::stat(source.c_str(), &st));
    if (!found.ok()) {
      return base::wrap(found.error(), base::format("source {} of the bind mount at {}", source, m.destination));
    }
    w.type = "gofer";
    w.attach = static_cast<uint32_t>(plan.attaches.size());
    w.shared = true;
    plan.attaches.push_back({source, (o.flags & MS_RDONLY) != 0, o.recursive, (o.flags & MS_NOEXEC) != 0, false});
    if (o.shared) {
      plan.warnings.push_back(base::format("mount at {}: what is mounted in the sandbox never reaches the host; "
                                           "'shared' is taken as 'private'", m.destination));
    }
  } else {
    if (!known_type(m.type)) {
      return base::error(base::kENODEV, "the mount at {} has the type '{}': must be one of bind, proc, sysfs, tmpfs, "
                         "devpts, mqueue, cgroup", m.destination, m.type);
    }
    w.type = m.type == "cgroup2" ? "cgroup" : m.type == "ramfs" ? "tmpfs" : m.type;
    // The spec's /dev is a tmpfs in which the runtime makes the usual devices. That is what devtmpfs is here.
    if (w.destination == "/dev" && w.type == "tmpfs") w.type = "devtmpfs";
  }
  plan.wire.mounts.push_back(std::move(w));
  return {};
}

}  // namespace

host::CgroupLimits host_limits(const oci::Resources& r) {
  host::CgroupLimits l;
  l.memory = r.memory_limit;
  l.memory_swap = r.memory_swap;
  l.memory_reservation = r.memory_reservation;
  l.cpu_shares = r.cpu_shares;
  l.cpu_period = r.cpu_period;
  l.cpu_quota = r.cpu_quota;
  l.cpus = r.cpus;
  l.mems = r.mems;
  if (r.pids_limit) l.pids = *r.pids_limit < 0 ? -1 : std::min(*r.pids_limit, int64_t{1} << 22) + kOwnPids;
  l.unified = r.unified;
  return l;
}

ResultX<Plan> make_plan(const oci::Spec& spec, const PlanOptions& options) {
  Plan plan;
  std::string root = host_path(options.bundle, spec.root_path);
  char resolved[PATH_MAX];
  if (!::realpath(root.c_str(), resolved)) {
    return base::wrap(base::sys::from_libc(-1).error(), base::format("root.path {}", root));
  }
  plan.rootfs = resolved;
  struct stat st;
  TRY_MSG(base::sys::from_libc(::stat(resolved, &st)), "root.path {}", resolved);
  if (!S_ISDIR(st.st_mode)) return base::error(base::kENOTDIR, "root.path {} is not a directory", resolved);
  bool writes_through = options.overlay == wire::OverlayMode::none && !spec.root_readonly;
  plan.attaches.push_back({plan.rootfs, !writes_through, true, false, options.drop_pseudo});

  auto& w = plan.wire;
  w.id = options.id;
  w.hostname = spec.hostname;
  w.domainname = spec.domainname;
  w.process = spec.process;
  w.root_readonly = spec.root_readonly;
  w.overlay = options.overlay;
  w.masked_paths = spec.masked_paths;
  w.readonly_paths = spec.readonly_paths;
  for (auto& m : spec.mounts) TRY(add_mount(m, options, plan));
  bool has_dev = std::any_of(w.mounts.begin(), w.mounts.end(), [](const wire::Mount& m) { return m.destination == "/dev"; });
  if (!has_dev) {
    // The spec promises /dev/null and its like in any case, and devices of the image are never opened.
    wire::Mount dev;
    dev.destination = "/dev";
    dev.type = "devtmpfs";
    dev.flags = MS_NOSUID;
    dev.data = "mode=755";
    w.mounts.insert(w.mounts.begin(), std::move(dev));
  }
  auto& r = spec.resources;
  if (r.memory_limit && *r.memory_limit > 0) w.memory_limit = static_cast<uint64_t>(*r.memory_limit);
  if (r.cpu_quota && *r.cpu_quota > 0) {
    w.cpu_quota_us = static_cast<uint64_t>(*r.cpu_quota);
    w.cpu_period_us = r.cpu_period.value_or(0) ? *r.cpu_period : 100000;
  }
  w.cpuset = r.cpus;
  if (r.pids_limit && *r.pids_limit > 0) w.pids_limit = *r.pids_limit;
  w.seccomp = spec.seccomp;
  return plan;
}

}  // namespace runtime::container
