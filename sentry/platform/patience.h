// SPDX-License-Identifier: Apache-2.0
// How long a stub may be silent.
#pragma once

#include <atomic>
#include <functional>

#include "sentry/base.h"
#include "sentry/sched/sched.h"

namespace sentry::platform {

class Space;

// Whether the host has frozen a zygote's processes, as far as we were told, and when they were thawed last; who wants to hear of its death.
// Held by: the zygote, the spaces that descend from it.
struct Patience : RefCounted<Patience> {
  std::atomic<bool> paused{false};
  std::atomic<sched::Nanos> resumed{0};
  std::function<void()> death_handler;  // of the zygote; guarded by Platform::Impl::mu
};

// Whether a stub thread that was told something at `since`, when its process had used `cpu`, has had its time.
bool overdue(Space& s, sched::Nanos since, uint64_t cpu);

}  // namespace sentry::platform
