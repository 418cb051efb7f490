// SPDX-License-Identifier: Apache-2.0
// What a terminal asks of a session.
#pragma once

#include "sentry/kernel/task.h"

namespace sentry::kernel {

// Null once it has been reaped.
RefOrNull<ThreadGroup> leader_of(Session& s);

}  // namespace sentry::kernel
