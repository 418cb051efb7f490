// SPDX-License-Identifier: Apache-2.0
// The sockets there are, for /proc/net.
#pragma once

namespace sentry::net::host {

class HostSock;
void enlist(HostSock& s);
void delist(HostSock& s);

}  // namespace sentry::net::host
