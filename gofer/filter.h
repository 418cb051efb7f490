// SPDX-License-Identifier: Apache-2.0
// The gofer's seccomp filter, from seccomp-profiles/gofer.json.
#pragma once

#include "base/result.h"

namespace gofer {
// For this process, from now on. Everything that opens more than the protocol's requests do must be done.
base::Result<void> install_filter();
}  // namespace gofer
