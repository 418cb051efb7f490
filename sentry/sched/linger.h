// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "sentry/sched/sched.h"

namespace sentry::sched {

// For what can wait a little: requests and other fibers go first until there has been nothing for `quiet`, at most for `most`. Returns at
// once where nobody spins for requests. Preconditions: as yield().
void linger(Nanos quiet, Nanos most);

}  // namespace sentry::sched
