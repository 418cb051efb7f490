// SPDX-License-Identifier: Apache-2.0
// update: new limits for a container that exists, on the host and inside.
#include <unistd.h>

#include "base/sys.h"
#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"
#include "runtime/container/plan.h"
#include "runtime/host/cgroup.h"

namespace runtime::cmd {

namespace wire = base::wire;

base::ResultX<int> update(const Globals& g, const Args& args) {
  std::string resources, cpus, mems;
  int64_t memory = 0, swap = 0, reservation = 0, quota = 0, period = 0, shares = 0, pids = 0;
  Flags f("caisson update", "[flags] ID", "Changes the limits of a container. What is not named stays.");
  f.value("-r,--resources", resources, "file with linux.resources of the spec, or - for standard input");
  f.value("--memory", memory, "bytes; -1 = none");
  f.value("--memory-swap", swap, "memory and swap together; -1 = none");
  f.value("--memory-reservation", reservation, "soft limit in bytes");
  f.value("--cpu-quota", quota, "microseconds of CPU time per period; -1 = none");
  f.value("--cpu-period", period, "length of the period in microseconds");
  f.value("--cpu-share", shares, "weight against other containers");
  f.value("--cpuset-cpus", cpus, "CPUs, such as 0-3,6");
  f.value("--cpuset-mems", mems, "memory nodes");
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
  if (memory) r.memory_limit = memory;
  if (swap) r.memory_swap = swap;
  if (reservation) r.memory_reservation = reservation;
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
  if (status != container::Status::paused) {
    wire::UpdateRequest q;
    q.id = id;
    if (r.memory_limit && *r.memory_limit > 0) q.memory_limit = static_cast<uint64_t>(*r.memory_limit);
    if (r.cpu_quota && *r.cpu_quota > 0) q.cpu_quota_us = static_cast<uint64_t>(*r.cpu_quota);
    q.cpu_period_us = r.cpu_period.value_or(q.cpu_quota_us ? 100000 : 0);
    q.pids_limit = r.pids_limit.value_or(0);
    q.cpuset = r.cpus;
    auto client = TRY(container::Client::connect(d.fd()));
    TRY(client.call<container::Nothing>(wire::ControlOp::kUpdate, q, 3000));
  }
  return 0;
}

}  // namespace runtime::cmd
