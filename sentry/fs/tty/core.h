// SPDX-License-Identifier: Apache-2.0
// A terminal: settings, line discipline, job control. Bytes come from and go to a Port (the other side of a pty, or a
// host terminal). Linux: drivers/tty/n_tty.c, tty_io.c, tty_jobctrl.c; man 3 termios, man 4 tty_ioctl.
#pragma once

#include <asm/termbits.h>

#include <deque>
#include <string>

#include "sentry/kernel/task.h"

namespace sentry::fs::tty {

struct WindowSize {
  uint16_t rows = 0, cols = 0, xpixel = 0, ypixel = 0;
};

// Where output goes. Called without the terminal's lock. Held by: its terminal.
class Port : public RefCounted<Port> {
 public:
  // The terminal is going: no call into it after this returns.
  virtual void detach() {}
  // Takes as much as it has room for (0: none now; the port wakes the terminal's queue when there is room).
  virtual size_t transmit(std::string_view bytes) = 0;
  virtual bool has_room() = 0;
  // Settings or flow control changed; for packet mode (TIOCPKT_* bits).
  virtual void notify(unsigned /*packet_bits*/) {}
  // A host terminal keeps its own size; others answer null.
  virtual bool host_size(WindowSize*) { return false; }
  virtual void set_host_size(const WindowSize&) {}

 protected:
  friend class RefCounted<Port>;
  virtual ~Port() = default;
};

// Held by: open files, its pty, the session it controls.
class Terminal final : public kernel::TtyLink {
 public:
  Terminal(Ref<Port> port, uint64_t device);

  // ---- the application's side ----
  Result<size_t> read(std::span<std::byte> dst, bool nonblock);
  Result<size_t> write(std::span<const std::byte> src, bool nonblock);
  uint32_t poll_events();
  sched::WaitQueue& queue() { return queue_; }
  // The tty ioctls; ENOTTY for others. file_readable: TIOCSCTTY asks.
  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg);
  void opened();
  void closed();

  // ---- the port's side ----
  void receive(std::string_view bytes);  // typed input
  void port_closed();                    // hang up: SIGHUP to the session, reads end, writes EIO
  void room_again();                     // the port takes output again
  WindowSize size();
  void set_size(const WindowSize& s);    // SIGWINCH to the foreground when it changes
  termios settings();
  bool other_side_seen() const;          // some application side is open

  Port& port() { return *port_; }

  // ---- kernel::TtyLink ----
  uint64_t device() const override { return device_; }
  void session_leader_exited(kernel::Session& session) override;
  // The first terminal a session leader without one opens becomes its own (Linux: tty_open_proc_set_tty).
  void maybe_adopt(int open_flags);

 private:
  ~Terminal() override { port_->detach(); }
  void input_char(unsigned char c) REQUIRES(mu_);
  bool signal_char(unsigned char c) REQUIRES(mu_);
  void edit_char(unsigned char c) REQUIRES(mu_);
  void erase_one() REQUIRES(mu_);
  void end_line() REQUIRES(mu_);
  void echo(unsigned char c) REQUIRES(mu_);
  void echo_raw(std::string_view s) REQUIRES(mu_) { echo_ += s; }
  void process_output(unsigned char c, std::string& out) REQUIRES(mu_);
  size_t readable_bytes() REQUIRES(mu_);
  size_t take(std::span<std::byte> dst) REQUIRES(mu_);
  void flush_echo();
  void mode_changed(const termios& old) REQUIRES(mu_);
  void send_foreground(int signo);
  Result<void> check_change(int signo);
  Result<long> set_termios(platform::Context& c, uint32_t command, uint64_t arg);
  Result<long> job_ioctl(platform::Context& c, uint32_t command, uint64_t arg);
  Result<long> make_controlling(bool steal);
  Result<void> drain();
  bool is(tcflag_t kernel_flag_set, tcflag_t bit) const { return (kernel_flag_set & bit) != 0; }

  const Ref<Port> port_;
  const uint64_t device_;
  sched::WaitQueue queue_;
  sched::SleepMutex writing_;  // one write at a time: output does not mix
  Mutex mu_{LockRank::kTty};
  termios t_ GUARDED_BY(mu_){};
  WindowSize size_ GUARDED_BY(mu_);
  std::deque<std::string> lines_ GUARDED_BY(mu_);  // canonical input, a line each; an empty one is end of file
  std::string raw_ GUARDED_BY(mu_);                // input while not canonical
  std::string edit_ GUARDED_BY(mu_);               // the line being typed
  std::string echo_ GUARDED_BY(mu_);               // echoes that wait for the port
  bool literal_next_ GUARDED_BY(mu_) = false;
  bool stopped_ GUARDED_BY(mu_) = false;           // ^S
  bool hung_up_ GUARDED_BY(mu_) = false;
  unsigned column_ GUARDED_BY(mu_) = 0;
  int open_count_ GUARDED_BY(mu_) = 0;
  bool ever_opened_ GUARDED_BY(mu_) = false;
  kernel::Session* session_ GUARDED_BY(mu_) = nullptr;  // whose controlling terminal it is; cleared when the leader exits
  RefOrNull<kernel::Session> session_ref_ GUARDED_BY(mu_);
  std::vector<int> pending_signals_ GUARDED_BY(mu_);    // sent after the lock is gone
};

// An application's description of a terminal.
class TerminalFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::tty;
  TerminalFile(Ref<Terminal> tty, const vfs::Path& path, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred);
  ~TerminalFile() override;
  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override { return tty_->read(dst, f.nonblock); }
  Result<size_t> write(std::span<const std::byte> src, int64_t*, vfs::IoFlags f) override {
    return tty_->write(src, f.nonblock);
  }
  uint32_t poll_events() override { return tty_->poll_events(); }
  sched::WaitQueue* poll_queue() override { return &tty_->queue(); }
  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override {
    return tty_->ioctl(c, command, arg);
  }
  Terminal& terminal() { return *tty_; }

 private:
  Ref<Terminal> tty_;
};

}  // namespace sentry::fs::tty
