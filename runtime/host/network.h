// SPDX-License-Identifier: Apache-2.0
// What a network namespace holds: interfaces, addresses, routes.
#pragma once

#include "base/error.h"
#include "base/wire/control.h"

namespace runtime::host {

// Asked in a child that enters the namespace of that process; pidfd -1: in this process's own namespace. What is more than a sandbox is
// told of (kMost… in network.cc) is left out.
base::ResultX<base::wire::Network> describe_network(int pidfd);

}  // namespace runtime::host
