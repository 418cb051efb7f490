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

struct PlanOptions {
  std::string id, bundle;
  base::wire::OverlayMode overlay = base::wire::OverlayMode::self;
  bool drop_pseudo = false;  // the root is the host's own
};

struct Plan {
  base::wire::ContainerSpec wire;
  std::vector<host::Attach> attaches;
  std::string rootfs;  // absolute, with symbolic links resolved
  std::vector<std::string> warnings;
};

base::ResultX<Plan> make_plan(const oci::Spec& spec, const PlanOptions& options);

// The host's limits of a container: the spec's, with room in pids for the sandbox's own threads. The sentry keeps
// the exact count of the container's.
host::CgroupLimits host_limits(const oci::Resources& r);

}  // namespace runtime::container
