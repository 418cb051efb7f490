// SPDX-License-Identifier: Apache-2.0
// A host terminal as the line of one of ours: the host's line discipline is switched off, so that ^C and job control are answered
// inside.
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sys.h"
#include "sentry/fs/tty/core.h"
#include "sentry/fs/tty/tty.h"

namespace sentry::fs::tty {
namespace {

// Linux: TTY_MAJOR_CONSOLE-like number for /dev/console: 5:1.
constexpr uint64_t kConsoleDevice = 5 << 8 | 1;
constexpr size_t kReadChunk = 4096;

class HostLine final : public Port {
 public:
  explicit HostLine(Fd fd)
      : fd_(std::move(fd)), watch_([](void* p, uint32_t events) { static_cast<HostLine*>(p)->ready(events); }, this) {}
  void detach() override { watch_.stop(); }
  // Borrowed: the terminal keeps this line.
  void attach(Terminal& t) { terminal_ = &t; }

  Result<void> start() {
    struct termios raw;
    TRY(sys::raw(SYS_ioctl, fd_.get(), TCGETS, reinterpret_cast<long>(&raw)));
    raw.c_iflag = 0;
    raw.c_oflag = 0;
    raw.c_lflag = 0;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    TRY(sys::raw(SYS_ioctl, fd_.get(), TCSETS, reinterpret_cast<long>(&raw)));
    TRY(sys::set_nonblocking(fd_.get(), true));
    return watch_.start(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLHUP);
  }

  size_t transmit(std::string_view bytes) override {
    auto n = sys::write(fd_.get(), bytes.data(), bytes.size());
    if (n.ok()) return *n;
    if (n.error() == kEAGAIN) {
      full_.store(true);
      return 0;
    }
    return bytes.size();  // the host side is gone: output falls on the floor, as on a hung-up line
  }
  bool has_room() override { return !full_.load(); }
  bool host_size(WindowSize* s) override {
    return sys::raw(SYS_ioctl, fd_.get(), TIOCGWINSZ, reinterpret_cast<long>(s)).ok();
  }
  void set_host_size(const WindowSize& s) override {
    IGNORE_ERROR(sys::raw(SYS_ioctl, fd_.get(), TIOCSWINSZ, reinterpret_cast<long>(&s)), "the size is only advice");
  }

 private:
  void ready(uint32_t events) {
    if (events & EPOLLOUT) {
      full_.store(false);
      terminal_->room_again();
    }
    if (!(events & (EPOLLIN | EPOLLHUP))) return;
    char buf[kReadChunk];
    for (;;) {
      auto n = sys::read(fd_.get(), buf, sizeof buf);
      if (n.ok() && *n > 0) {
        terminal_->receive(std::string_view(buf, *n));
        continue;
      }
      if (!n.ok() && n.error() == kEAGAIN) return;
      terminal_->port_closed();
      return;
    }
  }

  Fd fd_;
  Terminal* terminal_ = nullptr;
  std::atomic<bool> full_{false};
  sched::FdWatch watch_;
};

}  // namespace

Result<Ref<vfs::File>> from_host_terminal(Fd fd, const Ref<auth::Credentials>& cred) {
  auto line = make_ref<HostLine>(std::move(fd));
  auto tty = make_ref<Terminal>(line, kConsoleDevice);
  line->attach(*tty);
  vfs::Path path = vfs::make_anonymous_path("/dev/console", S_IFCHR | 0620, *cred);
  Ref<vfs::File> file = make_ref<TerminalFile>(tty, path, path.inode().get_ref(), O_RDWR, cred);
  TRY(line->start());
  return file;
}

Result<void> set_host_size(vfs::File& file, uint16_t rows, uint16_t cols) {
  auto* f = file.as<TerminalFile>();
  if (!f) return kENOTTY;
  f->terminal().set_size({rows, cols, 0, 0});
  return {};
}

}  // namespace sentry::fs::tty
