// SPDX-License-Identifier: Apache-2.0
// What a program says on standard output and error: taken from two pipes as it comes, so that the program never waits, and only the end of
// it kept, however much it is.
#pragma once

#include <array>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace runtime::host {

class Heard {
 public:
  static base::Result<Heard> create();
  // The program's ends, until they are closed here.
  int out() const { return streams_[0].end.get(); }
  int err() const { return streams_[1].end.get(); }
  void close_ends();
  // Listens until there is something to read at `fd`; false: not within `timeout_s` seconds from `since` (0: for ever).
  bool until(int fd, int64_t since_ms, int timeout_s);
  // Takes what is there, without waiting.
  void hear();
  // The end of what was said on standard error, else on standard output, as one line: ": words", or nothing.
  std::string words() const;

 private:
  struct Stream {
    base::Fd from, end;
    std::string text;
  };
  std::array<Stream, 2> streams_;
};

}  // namespace runtime::host
