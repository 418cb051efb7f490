// SPDX-License-Identifier: Apache-2.0
// Starting a zygote. Before the sentry locks itself down, or in whoever starts things for it.
#pragma once

#include "sentry/base.h"

namespace sentry::platform {

struct ZygoteProcess {
  int pid = 0;  // a child of the caller (and so will all stubs be)
  Fd socket;    // for Platform::adopt_zygote
};

// Executes the program caisson-zygote (exe: an open descriptor of it) without address randomisation, with nothing
// but its socket, as a child of the calling thread's process, in its cgroup and namespaces.
Result<ZygoteProcess> launch_zygote(int exe);

}  // namespace sentry::platform
