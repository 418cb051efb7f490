// SPDX-License-Identifier: Apache-2.0
// A terminal: settings, line discipline, job control. Bytes come from and go to a Port (the other side of a pty, or a
// host terminal). Linux: drivers/tty/n_tty.c, tty_io.c, tty_jobctrl.c; man 3 termios, man 4 tty_ioctl.
#pragma once

#include <asm/ioctls.h>
#include <asm/termbits.h>

#include <atomic>
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
  // The terminal takes input again after it took less than it was given.
  virtual void input_wanted() {}
  // Output that nobody has read yet is of no use any more (^C, TCFLSH).
  virtual void discard_output() {}
  // Nobody may open the application's side yet (TIOCSPTLCK).
  virtual bool locked() { return false; }
  // The number is this line's for as long as somebody uses it; then unused() gives the line up and the terminal is hung up for good.
  virtual bool ends_unused() const { return false; }
  virtual void unused() {}

 protected:
  friend class RefCounted<Port>;
  virtual ~Port() = default;
};

// Held by: open files, its pty, the session it controls.
class Terminal final : public kernel::TtyLink {
 public:
  Terminal(Ref<Port> port, uint64_t device);

  // ---- the application's side ----
  // era: which of its lives the description belongs to; one of an earlier life is hung up (Linux: hung_up_tty_fops).
  Result<size_t> read(std::span<std::byte> dst, bool nonblock, uint64_t era);
  Result<size_t> write(std::span<const std::byte> src, bool nonblock, uint64_t era);
  uint32_t poll_events(uint64_t era);
  uint64_t era() const { return era_.load(std::memory_order_acquire); }
  sched::WaitQueue& queue() { return queue_; }
  // The tty ioctls; ENOTTY for others.
  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg);
  // EIO: the line is gone. Every success is followed by closed().
  Result<void> opened();
  void closed();

  // ---- the port's side ----
  // Typed input; returns how much was taken. input_wanted() tells when there is room for the rest.
  size_t receive(std::string_view bytes);
  bool takes_input();
  void port_closed();                    // hang up: SIGHUP to the session, reads end, writes EIO
  void room_again();                     // the port takes output again
  WindowSize size();
  void set_size(const WindowSize& s);    // SIGWINCH to the foreground when it changes
  termios settings();
  bool other_side_seen() const;          // some application side is open

  Port& port() { return *port_; }
  void send_foreground(int signo);
  // TIOCGPGRP and TIOCGSID as the other side of a pty asks them.
  Result<long> ids_for_master(platform::Context& c, uint32_t command, uint64_t arg);

  // ---- kernel::TtyLink ----
  uint64_t device() const override { return device_; }
  void session_leader_exited(kernel::Session& session) override { leave_session(session, true); }
  // The session has it no more; leader_exits: and everybody's descriptions of it are dead.
  void leave_session(kernel::Session& session, bool leader_exits);
  // The first terminal a session leader without one opens becomes its own (Linux: tty_open_proc_set_tty).
  void maybe_adopt(int open_flags);

 private:
  ~Terminal() override { port_->detach(); }
  void pump() REQUIRES(mu_);           // incoming_ through the line discipline, as far as there is room
  bool has_input_room() REQUIRES(mu_);
  void after_input();
  void input_changed();                // after the application took input: more may come in
  void discard_input() REQUIRES(mu_);
  void give_up_if_unused();
  bool gone(uint64_t era) REQUIRES(mu_) { return hung_up_ || era != era_.load(std::memory_order_relaxed); }
  void input_char(unsigned char c) REQUIRES(mu_);
  bool signal_char(unsigned char c) REQUIRES(mu_);
  void edit_char(unsigned char c) REQUIRES(mu_);
  void erase_one() REQUIRES(mu_);
  void end_line() REQUIRES(mu_);
  void echo(unsigned char c) REQUIRES(mu_);
  void echo_raw(std::string_view s) REQUIRES(mu_);
  void process_output(unsigned char c, std::string& out) REQUIRES(mu_);
  size_t readable_bytes() REQUIRES(mu_);
  bool poll_readable() REQUIRES(mu_);
  size_t take(std::span<std::byte> dst) REQUIRES(mu_);
  void flush_echo();
  void mode_changed(const termios& old) REQUIRES(mu_);
  Result<void> check_change(int signo);
  Result<long> set_termios(platform::Context& c, uint32_t command, uint64_t arg);
  Result<long> job_ioctl(platform::Context& c, uint32_t command, uint64_t arg);
  Result<long> make_controlling(bool steal);
  Result<void> drain();
  Result<void> begin_write(bool nonblock);
  void end_write();
  Result<size_t> write_in_turn(std::span<const std::byte> src, bool nonblock, uint64_t era);
  bool is(tcflag_t kernel_flag_set, tcflag_t bit) const { return (kernel_flag_set & bit) != 0; }

  const Ref<Port> port_;
  const uint64_t device_;
  sched::WaitQueue queue_;
  sched::WaitQueue writers_;   // those that wait for their turn
  mutable Mutex mu_{LockRank::kTty};
  termios t_ GUARDED_BY(mu_){};
  WindowSize size_ GUARDED_BY(mu_);
  std::deque<std::string> lines_ GUARDED_BY(mu_);  // canonical input, a line each; an empty one is end of file
  size_t line_bytes_ GUARDED_BY(mu_) = 0;          // in lines_
  std::string raw_ GUARDED_BY(mu_);                // input while not canonical
  std::string incoming_ GUARDED_BY(mu_);           // received, but the buffers above are full (Linux: the flip buffer)
  std::string edit_ GUARDED_BY(mu_);               // the line being typed
  std::string echo_ GUARDED_BY(mu_);               // echoes that wait for the port
  bool writing_ GUARDED_BY(mu_) = false;           // one write at a time: output does not mix
  bool literal_next_ GUARDED_BY(mu_) = false;
  bool stopped_ GUARDED_BY(mu_) = false;           // ^S
  bool hung_up_ GUARDED_BY(mu_) = false;
  unsigned column_ GUARDED_BY(mu_) = 0;
  int open_count_ GUARDED_BY(mu_) = 0;
  bool ever_opened_ GUARDED_BY(mu_) = false;
  std::atomic<uint64_t> era_{0};                   // written with mu_ held; grows when the session's leader exits
  kernel::Session* session_ GUARDED_BY(mu_) = nullptr;  // whose controlling terminal it is; cleared when the leader exits
  RefOrNull<kernel::Session> session_ref_ GUARDED_BY(mu_);
  std::vector<int> pending_signals_ GUARDED_BY(mu_);    // sent after the lock is gone
  unsigned pending_packet_ GUARDED_BY(mu_) = 0;         // TIOCPKT_* likewise
};

// An application's description of a terminal.
class TerminalFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::tty;
  static Result<Ref<vfs::File>> open(const Ref<Terminal>& tty, const vfs::Path& path, const Ref<vfs::Inode>& inode, int flags,
                                     const Ref<auth::Credentials>& cred);
  // Preconditions: tty->opened() succeeded for it.
  TerminalFile(Ref<Terminal> tty, const vfs::Path& path, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred);
  ~TerminalFile() override;
  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override {
    return tty_->read(dst, f.nonblock, era_);
  }
  Result<size_t> write(std::span<const std::byte> src, int64_t*, vfs::IoFlags f) override {
    return tty_->write(src, f.nonblock, era_);
  }
  uint32_t poll_events() override { return tty_->poll_events(era_); }
  sched::WaitQueue* poll_queue() override { return &tty_->queue(); }
  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override {
    if (era_ != tty_->era()) return command == TIOCSPGRP ? kENOTTY : kEIO;  // Linux: hung_up_tty_ioctl
    return tty_->ioctl(c, command, arg);
  }
  const Ref<Terminal>& terminal() { return tty_; }

 private:
  Ref<Terminal> tty_;
  const uint64_t era_;
};

}  // namespace sentry::fs::tty
