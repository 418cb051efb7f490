// SPDX-License-Identifier: Apache-2.0
// A container's processes held by the host's freezer. Of the first container of a pod only its programs are: its sentry serves the pod's other
// containers too.
#pragma once

#include "runtime/container/state.h"

namespace runtime::container {

// Also while it is being frozen.
bool is_frozen(const State& s);
// Waits until it is so; what cannot be frozen altogether is thawed again.
base::ResultX<void> freeze_groups(const State& s, bool frozen);
// What a freeze that was cut short left below the container's group.
void remove_held(const State& s);

}  // namespace runtime::container
