// SPDX-License-Identifier: Apache-2.0
// AF_INET and AF_INET6 in a sandbox without a network: TCP and UDP over loopback, inside the sentry. No packets are made:
// a connection is two queues. Everything that is not loopback is ENETUNREACH.
#pragma once

#include "sentry/net/common/sock.h"

namespace sentry::net::inet {

// ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM (raw).
Result<Ref<Sock>> create(int family, int type, int protocol, const auth::Credentials& cred);

}  // namespace sentry::net::inet
