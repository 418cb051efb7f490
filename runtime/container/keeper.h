// SPDX-License-Identifier: Apache-2.0
// The keeper of a terminal that an engine holds: a small process of the host that has it as its controlling terminal, so that the
// host tells it of every size that the engine sets on the other side. It passes them on and ends with the terminal's program, with
// the sandbox, or when the engine hangs up. It keeps no descriptor of the terminal open: that would hide its end from the engine.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "runtime/container/client.h"
#include "runtime/host/cgroup.h"

namespace runtime::container {

struct Kept {
  std::string id;
  int pid = 0;                             // inside, of the program that was started on it; 0 = init
  int slave = -1;                          // the container's side; the caller still closes its own
  Client client;                           // a connection of its own
  const host::Cgroups* cgroups = nullptr;  // where it lives, or null: where the caller does
};
// Once this returns, no size is missed.
base::ResultX<void> keep_terminal(Kept k);

}  // namespace runtime::container
