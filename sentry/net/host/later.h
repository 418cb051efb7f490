// SPDX-License-Identifier: Apache-2.0
// What is sent a little later than the application is told: decision 0004.
#pragma once

#include "sentry/net/host/host_sock.h"

namespace sentry::net::host {

// Its flush() will be called soon, on a fiber. False: there is no memory for that.
bool flush_later(HostSock& s);
bool nothing_waits();  // for tests

}  // namespace sentry::net::host
