// SPDX-License-Identifier: Apache-2.0
// From a checked spec to what the three programs are told: the sentry's ContainerSpec, the gofer's attaches, the
// host's limits.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/wire/control.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/mount.h"
#include "runtime/oci/spec.h"

namespace runtime::container {

// Threads of sentry, gofer and zygote, and stubs kept ready, that the container's own limit must not count.
inline constexpr int64_t kOwnPids = 128;

struct RootWrites {
  base::wire::OverlayMode overlay = base::wire::OverlayMode::self;
  bool shared = false;  // others change the root while the container runs
};
// Where writes to the root go when no flag says so (docs/decisions/0005): what the annotation caisson.overlay says, else through
// to the root for engines that run a container again on the same root and show it, else to a layer of the sandbox's.
base::ResultX<RootWrites> choose_root_writes(const oci::Spec& spec, const std::string& state_root);

struct PlanOptions {
  std::string id, bundle;
  RootWrites writes;
  bool drop_pseudo = false;  // the root is the host's own
  bool pod = false;          // its memory volumes are the sandbox's
};

struct Plan {
  base::wire::ContainerSpec wire;
  std::vector<host::Attach> attaches;
  std::string rootfs;  // absolute, with symbolic links resolved
  std::vector<std::string> warnings;
};

// Limits of the calling process, for those that the spec does not name: a program inherits them, as it would on the host.
void inherit_limits(base::wire::Process& p);

base::ResultX<Plan> make_plan(const oci::Spec& spec, const PlanOptions& options);

// The host's limits of a container: the spec's, with room in pids for the sandbox's own threads. The sentry keeps
// the exact count of the container's.
host::CgroupLimits host_limits(const oci::Resources& r);
// Whether any limit is given that a cgroup would have to hold.
bool asks_for_limits(const oci::Resources& r);
// What this host has no means for, in words: limits without which a container runs all the same.
std::vector<std::string> unset_limits(const oci::Resources& r, const std::vector<host::Hierarchy>& hosts);

}  // namespace runtime::container
