// SPDX-License-Identifier: Apache-2.0
// The standard streams of a process, as containerd names them. FIFOs go straight to the process: no byte passes through
// the shim. It only holds the far ends, so that a client which comes and goes neither ends the program's input
// nor kills it when it writes.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace shim::task {

struct StdioPaths {
  std::string in, out, err;
  bool terminal = false;
};

struct Stdio {
  base::Fd in, out, err;                 // for the process; invalid: nothing was named
  base::Fd hold_in, hold_out, hold_err;  // the far ends
};

enum class Readers { needed, awaited_no_more };
// A path of a FIFO, of a file to append to, or file:///path. With a terminal `in` and `out` are non-blocking, for the relay,
// and `err` is not opened. ENXIO, if readers are needed: nobody reads a FIFO yet. A client that opens it after the program has
// come and gone would wait for ever, so it is better tried again for a while.
base::ResultX<Stdio> open_stdio(const StdioPaths& paths, Readers readers = Readers::awaited_no_more);
// The same for those of `s` that are not open yet. Those that are stay open when another one fails: a client whose FIFO was opened and closed
// again takes that for the end of the stream.
base::ResultX<void> open_more(const StdioPaths& paths, Readers readers, Stdio& s);

}  // namespace shim::task
