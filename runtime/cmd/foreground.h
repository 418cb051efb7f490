// SPDX-License-Identifier: Apache-2.0
// Waiting for a process of a container in the foreground: its end, our signals, its terminal.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "runtime/container/client.h"

namespace runtime::cmd {

// Blocks every signal that a foreground command passes on; to be done before anything is started. Children that exec
// through runtime/host start with nothing blocked.
base::Fd catch_signals();

struct Watched {
  std::string id;
  int pid = 0;               // inside; 0 = init
  container::Client* client;
  int terminal = -1;         // master to relay, or -1
  int words = -1;            // the sandbox's standard error, or -1
  bool keeps_terminal = false;  // the controlling terminal of this process is the program's: its size is passed on
};

// The wait(2) status of the process. EPIPE: the sandbox ended without telling (its last words are in the text).
base::ResultX<int> wait_in_foreground(const Watched& w, const base::Fd& signals);

}  // namespace runtime::cmd
