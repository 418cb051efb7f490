// SPDX-License-Identifier: Apache-2.0
// Hooks of the spec that are programs of the host: each gets the container's state on its standard input.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/host/heard.h"
#include "runtime/oci/spec.h"

namespace runtime::container {

// In order; the first that fails (exit code, signal, time-out) ends the list with an error that names it.
// sandbox: a pidfd of it, for hooks that run in its network namespace (createContainer); -1: where this process is.
base::ResultX<void> run_hooks(const std::vector<oci::Hook>& hooks, const char* kind, const std::string& state_json,
                              const std::string& directory, int sandbox = -1);
// Of a hook that has ended with this wait status, after it said this.
base::ResultX<void> judge_hook(int status, const host::Heard& heard);
// All of them: what fails is logged.
void run_poststop_hooks(const std::vector<oci::Hook>& hooks, const std::string& state_json, const std::string& directory);

}  // namespace runtime::container
