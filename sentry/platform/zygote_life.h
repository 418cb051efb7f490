// SPDX-License-Identifier: Apache-2.0
// What concerns one zygote among several: its end, its group, its pauses.
#pragma once

#include <functional>

#include "sentry/platform/platform.h"

namespace sentry::platform {

// Called once, on a worker, when the zygote has died though nobody called kill_all(); at once if it has.
void set_death_handler(Zygote& zygote, std::function<void()> handler);
// The host freezes its processes, or has thawed them: meanwhile no deadline runs for them.
void set_paused(Zygote& zygote, bool paused);
// The cgroup.threads file of its group, for the audit, if that is not the sandbox's.
void set_threads_file(Zygote& zygote, Fd file);

}  // namespace sentry::platform
