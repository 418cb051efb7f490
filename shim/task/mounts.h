// SPDX-License-Identifier: Apache-2.0
// A container's root file system, as containerd's snapshotters describe it: mounted below the bundle and taken away again.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace shim::task {

struct RootMount {
  std::string type, source, target;
  std::vector<std::string> options;
};

// In order, each on bundle/rootfs (or the target below it). May change the working directory: for a worker. On failure nothing
// stays mounted.
base::ResultX<void> mount_root(const std::string& bundle, const std::vector<RootMount>& mounts);
// Whatever is mounted on bundle/rootfs.
void unmount_root(const std::string& bundle);

// Layers of an overlay by names relative to the directory that all of them share: mount(2) takes one page of options. The
// directory, or "" when there is nothing to win. Changes the options.
std::string shorten_layers(std::vector<std::string>& options);

}  // namespace shim::task
