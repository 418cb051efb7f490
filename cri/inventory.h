// SPDX-License-Identifier: Apache-2.0
// Inventory: the pods and containers that containerd has, and what sandboxes use beyond their containers.
#pragma once

#include <map>
#include <string>

#include "cri/backend.h"

namespace cri {

struct Inventory {
  struct Count {
    int ready = 0, not_ready = 0;                    // pods
    int created = 0, running = 0, exited = 0, unknown = 0;  // containers
    uint64_t overhead = 0;  // bytes of working set that belong to no container, of `measured` pods
    int measured = 0;
  };
  std::map<std::string, Count> handlers;
  std::map<std::string, std::string> pods, containers;  // id -> handler
};

// Asks containerd, for at most `limit`.
grpc::Status take_inventory(Backend& backend, std::chrono::seconds limit, Inventory* out);

}  // namespace cri
