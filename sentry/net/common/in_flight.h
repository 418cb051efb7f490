// SPDX-License-Identifier: Apache-2.0
// Sockets that are on their way in messages, and the search for circles of them that nobody can reach any more.
// Linux: net/unix/garbage.c.
#pragma once

#include "sentry/net/common/message.h"

namespace sentry::net {

// Looks for unreachable sockets and empties their queues; cheap when no socket is in flight. Preconditions: no lock held.
void collect_garbage();
// A descriptor of this file is being closed: if it is a socket in flight, a circle may have just lost its last way in. Looks a
// moment later, when the reference has gone.
void closing(vfs::File& file);
// Returns when no search is under way that could have missed a reference just taken out of a queue (MSG_PEEK).
void settle_with_collector();
// Sockets in flight; for tests.
size_t sockets_in_flight();

}  // namespace sentry::net
