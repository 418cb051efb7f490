// SPDX-License-Identifier: Apache-2.0
// Hooks of the spec that run in the runtime's own namespaces: each gets the container's state on its standard input.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/oci/spec.h"

namespace runtime::container {

// In order; the first that fails (exit code, signal, time-out) ends the list with an error that names it.
base::ResultX<void> run_hooks(const std::vector<oci::Hook>& hooks, const char* kind, const std::string& state_json,
                              const std::string& directory);

}  // namespace runtime::container
