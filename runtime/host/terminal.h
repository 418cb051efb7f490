// SPDX-License-Identifier: Apache-2.0
// Host terminals: a fresh pair, raw mode of our own, sizes, and handing a master to a console socket.
#pragma once

#include <termios.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace runtime::host {

struct Terminal {
  base::Fd master, slave;
  std::string name;  // /dev/pts/N
};
base::ResultX<Terminal> open_terminal();

struct Size {
  uint16_t rows = 0, cols = 0;
};
base::Result<Size> terminal_size(int fd);
base::Result<void> set_terminal_size(int fd, Size s);

// The calling process, a session leader without a terminal, has this one from now on: it gets SIGWINCH when the other side sets a
// size, and SIGHUP when that is closed. No descriptor of it needs to stay open; own_terminal_size() asks for the size then.
base::Result<void> take_terminal(int slave);
base::Result<Size> own_terminal_size();

// Sends the master as runc does: one descriptor, the name as data.
base::ResultX<void> send_terminal(const std::string& socket_path, const Terminal& t);

// Puts a terminal in raw mode while it lives.
class RawMode {
 public:
  RawMode() = default;
  explicit RawMode(int fd);
  RawMode(RawMode&& o) noexcept : fd_(o.fd_), before_(o.before_) { o.fd_ = -1; }
  RawMode& operator=(RawMode&&) = delete;
  ~RawMode();

 private:
  int fd_ = -1;
  termios before_{};
};

}  // namespace runtime::host
