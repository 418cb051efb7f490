// SPDX-License-Identifier: Apache-2.0
// Which options and ancillary data of sockets are passed on to the host. The filter has the same list (seccomp-profiles/sentry.json).
#pragma once

#include <cstddef>
#include <span>

namespace sentry::net::host {

struct Option {
  int level, name;
  bool set, get;
};
// All of them.
std::span<const Option> options();
bool may_set(int level, int name);
bool may_get(int level, int name);

// A control message of a sender. bytes: its data.
bool may_send_control(int level, int type, size_t bytes);

}  // namespace sentry::net::host
