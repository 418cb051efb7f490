// SPDX-License-Identifier: Apache-2.0
// Mounts, limits and paths of a container.
#include "runtime/container/plan.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>

#include "base/sys.h"
#include "runtime/host/mount_point.h"

namespace runtime::container {

using base::ResultX;
namespace wire = base::wire;

namespace {

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

// A tmpfs of the host that a pod's containers share and nobody else writes: /dev/shm, and a volume emptyDir of medium Memory. It becomes a
// tmpfs of the sandbox, known by the host's number of it; its own contents (subPath directories of the kubelet) do not matter.
bool use_memory_volume(const std::string& source, const struct stat& st, wire::Mount& w) {
  struct statfs fs;
  constexpr long kTmpfs = 0x01021994;
  if (::statfs(source.c_str(), &fs) != 0 || fs.f_type != kTmpfs) return false;
  auto found = host::find_mount(source, st.st_dev);
  if (!found || (w.destination != "/dev/shm" && found->all_points.find("/kubernetes.io~empty-dir/") == std::string::npos)) return false;
  if (!S_ISDIR(st.st_mode)) return false;
  w.type = "tmpfs";
  w.volume = base::format("{}:{}", major(st.st_dev), minor(st.st_dev));
  w.volume_path = found->path;
  w.data = base::format("mode={:o},uid={},gid={}", found->mode, found->uid, found->gid);
  if (fs.f_blocks) w.data += base::format(",size={}", static_cast<uint64_t>(fs.f_blocks) * static_cast<uint64_t>(fs.f_bsize));
  return true;
}

struct HostMounts {
  bool made_private;  // all of them, first: there is none to be a slave of
  std::string mountinfo;
};

ResultX<void> add_mount(const oci::Mount& m, const PlanOptions& options, HostMounts& host_mounts, Plan& plan) {
  oci::MountOptions o = TRY(oci::parse_mount_options(m));
  wire::Mount w;
  w.destination = tidy(m.destination);
  w.flags = o.flags;
  w.propagation = (o.shared ? uint64_t{MS_SHARED} : 0) | (o.unbindable ? uint64_t{MS_UNBINDABLE} : 0);
  w.data = o.data;
  w.copy_up = o.copy_up;
  if (w.destination == "/") {
    return base::error(base::kEINVAL, "a mount at {} would hide the whole root: use root.path", m.destination);
  }
  // The spec's way to say sysfs where the caller may mount none: the host's own is never meant.
  if (o.bind && w.destination == "/sys" && tidy(m.source) == "/sys") {
    o.bind = false;
    w.type = "sysfs";
  } else if (o.bind) {
    if (m.source.empty()) return base::error(base::kEINVAL, "the bind mount at {} has no source", m.destination);
    // Who asks for this mounts inside for others outside: a driver of volumes. Nobody would tell them that it comes to nothing.
    if (o.shared) {
      return base::error(base::kEOPNOTSUPP, "the mount at {} is 'shared' (Kubernetes' Bidirectional), and what is mounted in a sandbox never reaches the "
                         "host: take 'private', or run this container without a sandbox", m.destination);
    }
    std::string source = host_path(options.bundle, m.source);
    struct stat st;
    auto found = base::sys::from_libc(::stat(source.c_str(), &st));
    if (!found.ok()) {
      return base::wrap(found.error(), base::format("source {} of the bind mount at {}", source, m.destination));
    }
    const bool slave = !o.apart && !host_mounts.made_private;
    if (slave && host::shares_mounts(source, &host_mounts.mountinfo)) w.propagation |= MS_SLAVE;
    if (options.pod && use_memory_volume(source, st, w)) {
      plan.wire.mounts.push_back(std::move(w));
      return {};
    }
    w.type = "gofer";
    w.attach = static_cast<uint32_t>(plan.attaches.size());
    w.shared = true;
    plan.attaches.push_back({source, (o.flags & MS_RDONLY) != 0, o.recursive, (o.flags & MS_NOEXEC) != 0, slave, false});
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

namespace {

// What has no name of its own in CgroupLimits: one file each.
void add_settings(const oci::Resources& r, host::CgroupLimits& l) {
  auto number = [](uint64_t n) { return std::to_string(n); };
  auto add = [&](const char* what, const char* v1_controller, const char* v1_file, const char* v2_controller,
                 const char* v2_file, const std::string& v1_value, const std::string& v2_value, bool needed = true) {
    if (v1_file) l.v1.push_back({v1_controller, v1_file, v1_value, what, needed});
    if (v2_file) l.v2.push_back({v2_controller, v2_file, v2_value, what, needed});
  };
  if (r.swappiness) {
    add("linux.resources.memory.swappiness", "memory", "memory.swappiness", nullptr, nullptr, number(*r.swappiness), "", false);
  }
  if (r.no_oom_killer) add("linux.resources.memory.disableOOMKiller", "memory", "memory.oom_control", nullptr, nullptr, "1", "");
  if (r.cpu_burst) {
    add("linux.resources.cpu.burst", "cpu", "cpu.cfs_burst_us", "cpu", "cpu.max.burst", number(*r.cpu_burst), number(*r.cpu_burst));
  }
  if (r.cpu_idle) {
    add("linux.resources.cpu.idle", "cpu", "cpu.idle", "cpu", "cpu.idle", std::to_string(*r.cpu_idle), std::to_string(*r.cpu_idle));
  }
  if (r.cpu_rt_period) {
    add("linux.resources.cpu.realtimePeriod", "cpu", "cpu.rt_period_us", nullptr, nullptr, number(*r.cpu_rt_period), "");
  }
  if (r.cpu_rt_runtime) {
    add("linux.resources.cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", nullptr, nullptr, std::to_string(*r.cpu_rt_runtime), "");
  }
  // A weight is a hint to a scheduler that the host's disks may not use: passed over where there is no file for it.
  if (r.io_weight) {
    const char* what = "linux.resources.blockIO.weight";
    add(what, "blkio", "blkio.bfq.weight", "io", "io.bfq.weight", number(*r.io_weight), number(*r.io_weight), false);
    add(what, "blkio", "blkio.weight", nullptr, nullptr, number(*r.io_weight), "", false);
  }
  if (r.io_leaf_weight) {
    add("linux.resources.blockIO.leafWeight", "blkio", "blkio.leaf_weight", nullptr, nullptr, number(*r.io_leaf_weight), "", false);
  }
  auto per_device = [&](const char* what, const std::vector<oci::Resources::DeviceValue>& list, const char* v1_file,
                        const char* v2_file, const char* v2_key, bool needed) {
    for (auto& d : list) {
      std::string device = base::format("{}:{} ", d.major, d.minor);
      std::string limit = d.value == 0 && v2_key[0] ? "max" : number(d.value);
      add(what, "blkio", v1_file, "io", v2_file, device + number(d.value), device + v2_key + limit, needed);
    }
  };
  per_device("linux.resources.blockIO.weightDevice", r.io_device_weights, "blkio.bfq.weight_device", "io.bfq.weight", "", false);
  per_device("linux.resources.blockIO.throttleReadBpsDevice", r.io_read_bps, "blkio.throttle.read_bps_device", "io.max", "rbps=", true);
  per_device("linux.resources.blockIO.throttleWriteBpsDevice", r.io_write_bps, "blkio.throttle.write_bps_device", "io.max", "wbps=", true);
  per_device("linux.resources.blockIO.throttleReadIOPSDevice", r.io_read_iops, "blkio.throttle.read_iops_device", "io.max", "riops=", true);
  per_device("linux.resources.blockIO.throttleWriteIOPSDevice", r.io_write_iops, "blkio.throttle.write_iops_device", "io.max", "wiops=", true);
  // Of sockets, which version 2 tells apart by other means: what cannot be set is told, see unset_limits().
  if (r.net_class) add("linux.resources.network.classID", "net_cls", "net_cls.classid", nullptr, nullptr, number(*r.net_class), "", false);
  for (auto& [name, priority] : r.net_priorities) {
    add("linux.resources.network.priorities", "net_prio", "net_prio.ifpriomap", nullptr, nullptr, name + " " + number(priority), "", false);
  }
  // The sandbox's kernel has no RDMA either.
  for (auto& d : r.rdma_limits) {
    std::string line = d.device;
    if (d.handles) line += " hca_handle=" + number(*d.handles);
    if (d.objects) line += " hca_object=" + number(*d.objects);
    add("linux.resources.rdma", "rdma", "rdma.max", "rdma", "rdma.max", line, line, false);
  }
  // The sandbox's kernel has no huge pages: without the controller the limit holds all the same.
  for (auto& [size, limit] : r.hugepage_limits) {
    add("linux.resources.hugepageLimits", "hugetlb", ("hugetlb." + size + ".limit_in_bytes").c_str(), "hugetlb",
        ("hugetlb." + size + ".max").c_str(), number(limit), number(limit), false);
  }
}

}  // namespace

void inherit_limits(wire::Process& p) {
  for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
    bool named = std::any_of(p.rlimits.begin(), p.rlimits.end(), [&](auto& l) { return l.resource == static_cast<uint32_t>(resource); });
    rlimit now{};
    if (named || ::getrlimit(static_cast<__rlimit_resource>(resource), &now) != 0) continue;
    p.rlimits.push_back({static_cast<uint32_t>(resource), now.rlim_cur, now.rlim_max});
  }
}

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
  add_settings(r, l);
  return l;
}

bool asks_for_limits(const oci::Resources& r) {
  auto positive = [](const auto& n) { return n && *n > 0; };
  return positive(r.memory_limit) || positive(r.memory_swap) || positive(r.memory_reservation) || positive(r.cpu_quota) || positive(r.cpu_shares) ||
         positive(r.pids_limit) || !r.cpus.empty() || !r.mems.empty() || r.io_weight || !r.io_read_bps.empty() || !r.io_write_bps.empty() ||
         !r.io_read_iops.empty() || !r.io_write_iops.empty() || !r.unified.empty();
}

std::vector<std::string> unset_limits(const oci::Resources& r, const std::vector<host::Hierarchy>& hosts) {
  std::vector<std::string> out;
  auto need = [&](bool given, const char* what, const char* controller) {
    bool there = std::any_of(hosts.begin(), hosts.end(), [&](auto& h) { return !h.v2 && h.has(controller); });
    if (given && !there) out.push_back(base::format("linux.resources.network.{}: this host has no {} cgroup hierarchy, ignored", what, controller));
  };
  need(r.net_class.has_value(), "classID", "net_cls");
  need(!r.net_priorities.empty(), "priorities", "net_prio");
  return out;
}

ResultX<RootWrites> choose_root_writes(const oci::Spec& spec, const std::string& state_root) {
  constexpr RootWrites kLayer{wire::OverlayMode::self, false}, kThrough{wire::OverlayMode::none, false};
  constexpr std::string_view kDocker = "/moby", kNerdctl = "nerdctl/";
  auto told = spec.annotations.find("caisson.overlay");
  if (told != spec.annotations.end()) {
    if (told->second == "self") return kLayer;
    if (told->second == "none") return kThrough;
    return base::error(base::kEINVAL, "the annotation caisson.overlay is '{}': must be self or none", told->second);
  }
  // Its state directory ends in the name of its namespace in containerd. `docker cp` writes while the container runs.
  if (std::string_view(state_root).ends_with(kDocker)) return RootWrites{wire::OverlayMode::none, true};
  auto manager = spec.annotations.find("io.container.manager");
  if (manager != spec.annotations.end() && manager->second == "libpod") return kThrough;
  auto nerdctl = spec.annotations.lower_bound(std::string(kNerdctl));
  if (nerdctl != spec.annotations.end() && nerdctl->first.starts_with(kNerdctl)) return kThrough;
  return kLayer;
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
  bool writes_through = options.writes.overlay == wire::OverlayMode::none && !spec.root_readonly;
  plan.attaches.push_back({plan.rootfs, !writes_through, true, false, false, options.drop_pseudo});

  auto& w = plan.wire;
  w.id = options.id;
  w.hostname = spec.hostname;
  auto* names = spec.find_namespace("uts");
  if (w.hostname.empty() && (!options.pod || !names || names->path.empty())) {
    // A new namespace begins with the names of the old one.
    char host[65] = "";
    if (::gethostname(host, sizeof host) == 0) w.hostname = host;
  }
  w.domainname = spec.domainname;
  w.process = spec.process;
  inherit_limits(w.process);
  w.process.scheduling.cpus.clear();  // execCPUAffinity is not for the first process
  w.root_readonly = spec.root_readonly;
  // Nothing is written to a read-only root but the mount points that it lacks, which nobody needs afterwards.
  w.overlay = writes_through ? wire::OverlayMode::none : wire::OverlayMode::self;
  w.root_shared = options.writes.shared;
  w.masked_paths = spec.masked_paths;
  w.readonly_paths = spec.readonly_paths;
  for (auto& [name, value] : spec.sysctls) w.sysctls.push_back({name, value});
  w.devices = spec.devices;
  w.root_propagation = spec.root_propagation;
  HostMounts host_mounts{spec.root_propagation == (MS_PRIVATE | MS_REC) || spec.root_propagation == (MS_UNBINDABLE | MS_REC), {}};
  for (auto& m : spec.mounts) TRY(add_mount(m, options, host_mounts, plan));
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
