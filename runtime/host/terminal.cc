// SPDX-License-Identifier: Apache-2.0
// Pseudo terminals of the host.
#include "runtime/host/terminal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <span>

#include "base/sys.h"

namespace runtime::host {

using base::Fd;
using base::Result;
using base::ResultX;
namespace sys = base::sys;

ResultX<Terminal> open_terminal() {
  Terminal t;
  t.master = TRY_MSG(sys::open("/dev/ptmx", O_RDWR | O_NOCTTY), "open /dev/ptmx for the container's terminal");
  int zero = 0, number = 0;
  TRY_MSG(sys::from_libc(::ioctl(t.master.get(), TIOCSPTLCK, &zero)), "unlock a terminal");
  TRY_MSG(sys::from_libc(::ioctl(t.master.get(), TIOCGPTN, &number)), "ask for a terminal's number");
  // By descriptor: the path may be another file system's by now.
  long peer = TRY_MSG(sys::from_libc(::ioctl(t.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)),
                      "open the container's side of a terminal");
  t.slave = Fd(static_cast<int>(peer));
  // Lines, echo and ^C are the sandbox's own; the sentry may not change the settings of a terminal of the host.
  termios raw{};
  TRY_MSG(sys::from_libc(::tcgetattr(t.slave.get(), &raw)), "read the settings of a terminal");
  ::cfmakeraw(&raw);
  TRY_MSG(sys::from_libc(::tcsetattr(t.slave.get(), TCSANOW, &raw)), "make a terminal raw");
  t.name = "/dev/pts/" + std::to_string(number);
  return t;
}

Result<Size> terminal_size(int fd) {
  winsize w{};
  TRY(sys::from_libc(::ioctl(fd, TIOCGWINSZ, &w)));
  return Size{w.ws_row, w.ws_col};
}

Result<void> set_terminal_size(int fd, Size s) {
  winsize w{};
  w.ws_row = s.rows;
  w.ws_col = s.cols;
  TRY(sys::from_libc(::ioctl(fd, TIOCSWINSZ, &w)));
  return {};
}

Result<void> take_terminal(int slave) {
  TRY(sys::from_libc(::ioctl(slave, TIOCSCTTY, 0)));
  return {};
}

Result<Size> own_terminal_size() {
  Fd tty = TRY(sys::open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK));
  return terminal_size(tty.get());
}

ResultX<void> send_terminal(const std::string& socket_path, const Terminal& t) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  Fd dir;
  std::string address = socket_path;
  if (address.size() >= sizeof a.sun_path) {
    size_t cut = address.rfind('/') + 1;  // 0: a name in the working directory
    std::string where = cut ? address.substr(0, cut) : ".";
    dir = TRY_MSG(sys::open(where.c_str(), O_PATH | O_DIRECTORY), "console socket {}", socket_path);
    address = "/proc/self/fd/" + std::to_string(dir.get()) + "/" + address.substr(cut);
  }
  if (address.size() >= sizeof a.sun_path) return base::wrap(base::kENAMETOOLONG, "console socket " + socket_path);
  memcpy(a.sun_path, address.c_str(), address.size());
  Fd s(static_cast<int>(TRY_MSG(sys::from_libc(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), "make a socket")));
  TRY_MSG(sys::from_libc(::connect(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof a)), "connect to console socket {}",
          socket_path);
  int fds[] = {t.master.get()};
  TRY_MSG(sys::send_fds(s.get(), std::as_bytes(std::span(t.name)), fds), "send the terminal to console socket {}",
          socket_path);
  return {};
}

RawMode::RawMode(int fd) {
  if (::tcgetattr(fd, &before_) != 0) return;
  termios raw = before_;
  ::cfmakeraw(&raw);
  if (::tcsetattr(fd, TCSADRAIN, &raw) == 0) fd_ = fd;
}

RawMode::~RawMode() {
  if (fd_ >= 0) ::tcsetattr(fd_, TCSADRAIN, &before_);
}

}  // namespace runtime::host
