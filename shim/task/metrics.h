// SPDX-License-Identifier: Apache-2.0
// Figures of a container's groups as the two messages that containerd understands.
#pragma once

#include "runtime/host/cgroup_stats.h"
#include "shim/proto/common.pb.h"

namespace shim::task {

// io.containerd.cgroups.v1.Metrics, or v2 when all of the groups are of version 2.
proto::Any encode_metrics(const runtime::host::CgroupStats& s, bool v2);
// Whether the memory controller, and with it the message, is of version 2.
bool uses_v2(const std::vector<std::string>& leaves);

}  // namespace shim::task
