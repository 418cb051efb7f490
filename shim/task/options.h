// SPDX-License-Identifier: Apache-2.0
// What containerd's configuration says to the runtime: the table `options` of a handler, as it travels.
#pragma once

#include <string>

#include "runtime/config/config.h"
#include "shim/proto/common.pb.h"

namespace shim::task {

// ConfigPath of the options, or "" when there are none, or none that this shim knows.
std::string config_path_of(const proto::Any& options);
// What the shim's own environment says of sandboxes; it comes before annotations and the file.
runtime::config::SandboxOptions environment_options();

}  // namespace shim::task
