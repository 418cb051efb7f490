// SPDX-License-Identifier: Apache-2.0
// AF_UNIX datagram sockets, for the room's own files.
#pragma once

#include <utility>

#include "sentry/net/common/sock.h"

namespace sentry::net::local {

Ref<Sock> make_datagram();
std::pair<Ref<Sock>, Ref<Sock>> make_datagram_pair();

}  // namespace sentry::net::local
