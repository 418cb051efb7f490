// SPDX-License-Identifier: Apache-2.0
// Sockets that are on their way in messages, and the search for circles of them that nobody can reach any more.
// Linux: net/unix/garbage.c.
#pragma once

#include "sentry/net/common/message.h"

namespace sentry::net {

// Looks for unreachable sockets and empties their queues; cheap when no socket is in flight. Preconditions: no lock held.
void collect_garbage();
// Returns when no search is under way that could have missed a reference just taken out of a queue (MSG_PEEK).
void settle_with_collector();
// Sockets in flight; for tests.
size_t sockets_in_flight();

}  // namespace sentry::net
