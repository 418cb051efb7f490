// SPDX-License-Identifier: Apache-2.0
// Requests of NETLINK_ROUTE and their answers, as bytes.
#pragma once

#include <span>
#include <vector>

#include "sentry/base.h"

namespace sentry::net::netlink {

using Datagram = std::vector<std::byte>;

// Answers to one datagram of requests, which may hold several; port: the asker's. Malformed parts end the parse, as Linux
// does. Never fails: errors are messages.
std::vector<Datagram> answer_requests(std::span<const std::byte> requests, uint32_t port);

}  // namespace sentry::net::netlink
