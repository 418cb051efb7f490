// SPDX-License-Identifier: Apache-2.0
// update: new limits for a container that exists, on the host and inside.
#include <unistd.h>

#include "base/sys.h"
#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"
#include "runtime/container/plan.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/systemd.h"

namespace runtime::cmd {

namespace wire = base::wire;

namespace {

base::ResultX<int64_t> parse_size(const std::string& text, const char* flag) {
  auto n = config::parse_size(text);
  if (!n) return base::error(base::kEINVAL, "update {} {}: must be a number of bytes such as 67108864, 64m or -1", flag, text);
  if (*n < -1) return base::error(base::kERANGE, "update {} {}: too large", flag, text);
  return *n;
}

}  // namespace

base::ResultX<int> update(const Globals& g, const Args& args) {
  std::string resources, cpus, mems, memory, swap, reservation, kernel, kernel_tcp, cache, bandwidth;
  int64_t quota = 0, period = 0, shares = 0, pids = 0, weight = 0, rt_period = 0, rt_runtime = 0, idle = -1, burst = 0;
  Flags f("caisson update", "[flags] ID", "Changes the limits of a container. What is not named stays.");
  f.value("-r,--resources", resources, "file with linux.resources of the spec, or - for standard input");
  f.value("--memory", memory, "bytes, or 64m and such; -1 = none");
  f.value("--memory-swap", swap, "memory and swap together; -1 = none");
  f.value("--memory-reservation", reservation, "soft limit in bytes");
  f.value("--cpu-quota", quota, "microseconds of CPU time per period; -1 = none");
  f.value("--cpu-period", period, "length of the period in microseconds");
  f.value("--cpu-share", shares, "weight against other containers");
  f.value("--cpuset-cpus", cpus, "CPUs, such as 0-3,6");
  f.value("--cpuset-mems", mems, "memory nodes");
  f.value("--blkio-weight", weight, "weight of disk traffic, 10 to 1000");
  f.value("--cpu-burst", burst, "microseconds of CPU time that may be saved up");
  f.value("--cpu-idle", idle, "1 = runs only when nobody else does");
  f.value("--cpu-rt-period", rt_period, "length of the real-time period in microseconds");
  f.value("--cpu-rt-runtime", rt_runtime, "microseconds of real-time CPU time per period");
  f.value("--kernel-memory", kernel, "accepted; counted by --memory");
  f.value("--kernel-memory-tcp", kernel_tcp, "accepted; counted by --memory");
  f.value("--l3-cache-schema", cache, "not supported");
  f.value("--mem-bw-schema", bandwidth, "not supported");
  f.value("--pids-limit", pids, "processes and threads; -1 = no limit");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  std::string id = TRY(only_id(rest, "update"));
  oci::Resources r;
  if (!resources.empty()) {
    auto text = resources == "-" ? base::sys::read_all(0, oci::kMaxConfig) : host::read_file(resources, oci::kMaxConfig);
    if (!text.ok()) return base::wrap(text.error(), "read --resources " + resources);
    r = TRY_MSG(oci::parse_resources(*text), "--resources {}", resources);
  }
  if (!cache.empty() || !bandwidth.empty()) {
    return base::error(base::kEOPNOTSUPP, "update: --l3-cache-schema and --mem-bw-schema are not supported");
  }
  auto size = [&](const std::string& text, const char* flag, std::optional<int64_t>& out) -> base::ResultX<void> {
    if (text.empty()) return {};
    int64_t n = TRY(parse_size(text, flag));
    if (n) out = n;
    return {};
  };
  TRY(size(memory, "--memory", r.memory_limit));
  TRY(size(swap, "--memory-swap", r.memory_swap));
  TRY(size(reservation, "--memory-reservation", r.memory_reservation));
  if (weight && (weight < 10 || weight > 1000)) {
    return base::error(base::kEINVAL, "update: --blkio-weight {}: must be 10 to 1000", weight);
  }
  if (weight) r.io_weight = static_cast<uint64_t>(weight);
  if (burst < 0 || rt_period < 0 || idle > 1) {
    return base::error(base::kEINVAL, "update: --cpu-burst, --cpu-rt-period and --cpu-idle must not be negative");
  }
  if (burst) r.cpu_burst = static_cast<uint64_t>(burst);
  if (rt_period) r.cpu_rt_period = static_cast<uint64_t>(rt_period);
  if (rt_runtime) r.cpu_rt_runtime = rt_runtime;
  if (idle >= 0) r.cpu_idle = idle;
  if (quota) r.cpu_quota = quota;
  if (period < 0 || shares < 0) return base::error(base::kEINVAL, "update: --cpu-period and --cpu-share must be positive");
  if (period) r.cpu_period = static_cast<uint64_t>(period);
  if (shares) r.cpu_shares = static_cast<uint64_t>(shares);
  if (!cpus.empty()) r.cpus = cpus;
  if (!mems.empty()) r.mems = mems;
  if (pids) r.pids_limit = pids;
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  TRY(d.lock(4000));
  auto s = TRY(d.load());
  auto status = container::find_status(d, s);
  if (status == container::Status::stopped || status == container::Status::creating) {
    return base::error(base::kEINVAL, "container '{}' is {}: its limits cannot be changed", id, container::status_name(status));
  }
  TRY(host::Cgroups::apply(s.cgroup_leaves, host::find_hierarchies(), container::host_limits(r)));
  if (!s.unit.empty()) TRY_MSG(host::update_scope(s.unit, container::host_limits(r)), "--systemd-cgroup: change the unit {}", s.unit);
  if (status != container::Status::paused) {
    wire::UpdateRequest q;
    q.id = id;
    q.memory_limit = r.memory_limit.value_or(0);
    q.cpu_quota_us = r.cpu_quota.value_or(0);
    q.cpu_period_us = r.cpu_period.value_or(q.cpu_quota_us ? 100000 : 0);
    q.pids_limit = r.pids_limit.value_or(0);
    q.cpuset = r.cpus;
    auto client = TRY(container::Client::connect(d.fd()));
    TRY(client.call<container::Nothing>(wire::ControlOp::kUpdate, q, 3000));
  }
  return 0;
}

}  // namespace runtime::cmd
