// SPDX-License-Identifier: Apache-2.0
// Host user ids for sandboxes: each gets a range of its own, so that no host right is shared between two pods.
#pragma once

#include <string>

#include "base/error.h"
#include "runtime/host/launch.h"

namespace runtime::host {

inline constexpr uint32_t kIdsPerSandbox = 16;

// Takes a free range and notes it as a symbolic link <root>/.ids/<number> -> id. Creating the link is the lock: only
// one can succeed. The number goes into the state and, at the end, to release_ids().
struct IdLease {
  uint32_t slot = 0;
  IdRange range() const;
};
base::ResultX<IdLease> lease_ids(int root_dir, const std::string& id);
// Gives back the slot if it is this id's.
void release_ids(int root_dir, uint32_t slot, const std::string& id);
// Gives back every slot of this id: for a container whose making was cut short before its slot was noted.
void release_ids_of(int root_dir, const std::string& id);

}  // namespace runtime::host
