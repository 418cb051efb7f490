// SPDX-License-Identifier: Apache-2.0
// AF_INET and AF_INET6 as sockets of the host, made in the network namespace that the sentry was started in: TCP, UDP and ICMP
// echo. The application's calls are answered here; the host is asked only for what seccomp-profiles/sentry.json lists. Loopback too
// is the namespace's, so that others in it (probes, port forwards) reach what listens on 127.0.0.1.
#pragma once

#include <string>

#include "sentry/net/common/sock.h"

namespace sentry::net::host {

// From now on inet sockets are the host's. Once, before the first application runs.
void enable();
bool enabled();

// ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM (raw), EACCES (the namespace forbids ICMP echo), ENFILE, ENOBUFS.
Result<Ref<Sock>> create(int family, int type, int protocol);

// Text of /proc/net/tcp, tcp6, udp, udp6, icmp, icmp6: the sockets of this sandbox.
std::string list_text(int family, int protocol);

}  // namespace sentry::net::host
