// SPDX-License-Identifier: Apache-2.0
// One container among several of a sandbox: its processes, and what they leave.
#pragma once

#include <vector>

#include "sentry/kernel/kernel.h"

namespace sentry::kernel {

// The container's processes, dead ones that nobody asked for included; others of a shared PID namespace are not.
std::vector<Ref<ThreadGroup>> groups_of(const Container& c);
// Removes those dead ones that wait for a parent in another container. Differs from Linux: a container that is over leaves none
// behind, as each would keep all of it.
void reap_dead(const Container& c);

}  // namespace sentry::kernel
