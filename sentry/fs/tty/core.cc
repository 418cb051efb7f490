// SPDX-License-Identifier: Apache-2.0
// Reading, writing and polling a terminal; opening and hanging up.
#include "sentry/fs/tty/core.h"

#include <signal.h>

#include <algorithm>

#include "sentry/kernel/session.h"

namespace sentry::fs::tty {
namespace {

constexpr size_t kWriteChunk = 2048;
constexpr sched::Nanos kDecisecond = 100000000;

termios default_settings() {  // Linux: tty_std_termios
  termios t{};
  t.c_iflag = ICRNL | IXON;
  t.c_oflag = OPOST | ONLCR;
  t.c_cflag = B38400 | CS8 | CREAD | HUPCL;
  t.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
  constexpr unsigned char kChars[NCCS] = {3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0};
  std::copy(std::begin(kChars), std::end(kChars), t.c_cc);
  return t;
}

}  // namespace

Terminal::Terminal(Ref<Port> port, uint64_t device) : port_(std::move(port)), device_(device), t_(default_settings()) {}

Result<void> Terminal::opened() {
  MutexLock l(mu_);
  if (hung_up_) return kEIO;
  open_count_++;
  ever_opened_ = true;
  return {};
}

void Terminal::closed() {
  {
    MutexLock l(mu_);
    open_count_--;
  }
  port_->notify(0);
  give_up_if_unused();
}

void Terminal::give_up_if_unused() {
  if (!port_->ends_unused()) return;
  {
    MutexLock l(mu_);
    if (open_count_ > 0 || !ever_opened_ || session_ref_) return;
    hung_up_ = true;
  }
  port_->unused();
}

bool Terminal::other_side_seen() const {
  MutexLock l(mu_);
  return open_count_ > 0 || !ever_opened_;
}

termios Terminal::settings() {
  MutexLock l(mu_);
  return t_;
}

Result<size_t> Terminal::read(std::span<std::byte> dst, bool nonblock, uint64_t era) {
  if (dst.empty()) return size_t{0};
  sched::Nanos deadline = sched::kNever;
  bool timed = false;
  size_t done = 0;
  {
    MutexLock l(mu_);
    if (gone(era)) return size_t{0};
  }
  TRY(check_change(SIGTTIN));
  for (;;) {
    bool between = false;  // VTIME counts from the last byte
    bool full = false;
    {
      MutexLock l(mu_);
      if (era != this->era()) return done;
      bool canonical = is(t_.c_lflag, ICANON);
      size_t vmin = canonical ? 1 : t_.c_cc[VMIN];
      unsigned vtime = canonical ? 0 : t_.c_cc[VTIME];
      if (readable_bytes() > 0) {
        size_t n = take(dst.subspan(done));
        done += n;
        // A canonical read is one line; a raw one is satisfied with VMIN bytes.
        full = canonical || done >= vmin || done == dst.size();
        timed = false;
      } else if (hung_up_) {
        return done;
      }
      if (!full && !canonical && vmin == 0 && vtime == 0) return done;
      between = vmin > 0;
      if (vtime && (!between || done > 0) && !timed) {
        deadline = sched::now() + sched::Nanos{vtime} * kDecisecond;
        timed = true;
      }
    }
    if (done > 0) input_changed();
    if (full) return done;
    if (nonblock) {
      if (done > 0) return done;
      return kEAGAIN;
    }
    auto r = sched::wait_for(queue_, [&] {
      MutexLock l(mu_);
      return readable_bytes() > 0 || gone(era);
    }, timed ? deadline : sched::kNever, sched::Interruptible::yes);
    if (!r.ok() && r.error() == kETIMEDOUT) return done;
    if (!r.ok()) {
      if (done > 0) return done;
      return r.error();
    }
  }
}

Result<size_t> Terminal::write(std::span<const std::byte> src, bool nonblock, uint64_t era) {
  {
    MutexLock l(mu_);
    if (gone(era)) return kEIO;
  }
  bool guarded = false;
  {
    MutexLock l(mu_);
    guarded = is(t_.c_lflag, TOSTOP);
  }
  if (guarded) TRY(check_change(SIGTTOU));
  TRY(begin_write(nonblock));
  auto r = write_in_turn(src, nonblock, era);
  end_write();
  return r;
}

// Linux: tty_write_lock(). The one before may wait for ever (^S), so this wait ends with a signal.
Result<void> Terminal::begin_write(bool nonblock) {
  auto take = [&] {
    MutexLock l(mu_);
    return !std::exchange(writing_, true);
  };
  if (take()) return {};
  if (nonblock) return kEAGAIN;
  return sched::wait_for(writers_, take);
}

void Terminal::end_write() {
  {
    MutexLock l(mu_);
    writing_ = false;
  }
  writers_.wake_all();
}

Result<size_t> Terminal::write_in_turn(std::span<const std::byte> src, bool nonblock, uint64_t era) {
  size_t done = 0;
  while (done < src.size()) {
    size_t n = std::min(src.size() - done, kWriteChunk);
    std::string out;
    bool stopped;
    {
      MutexLock l(mu_);
      if (gone(era)) return done ? Result<size_t>(done) : Result<size_t>(kEIO);
      stopped = stopped_;
    }
    if (!stopped && port_->has_room()) {
      {
        MutexLock l(mu_);
        for (std::byte b : src.subspan(done, n)) process_output(static_cast<unsigned char>(b), out);
      }
      std::string_view rest = out;
      while (!rest.empty()) {
        rest.remove_prefix(port_->transmit(rest));
        if (rest.empty()) break;
        // The chunk is ours to finish: part of it is out already.
        auto r = sched::wait_for(queue_, [&] {
          MutexLock l(mu_);
          return gone(era) || port_->has_room();
        }, sched::kNever, sched::Interruptible::yes);
        if (!r.ok()) return done ? Result<size_t>(done) : Result<size_t>(r.error());
        MutexLock l(mu_);
        if (gone(era)) return kEIO;
      }
      done += n;
      continue;
    }
    if (nonblock) {
      if (done > 0) return done;
      return kEAGAIN;
    }
    auto r = sched::wait_for(queue_, [&] {
      MutexLock l(mu_);
      return gone(era) || (!stopped_ && port_->has_room());
    });
    if (!r.ok()) {
      if (done > 0) return done;
      return r.error();
    }
  }
  return done;
}

void Terminal::flush_echo() {
  std::string out;
  {
    MutexLock l(mu_);
    if (stopped_) return;
    out.swap(echo_);
  }
  if (out.empty()) return;
  size_t n = port_->transmit(out);
  if (n == out.size()) return;
  MutexLock l(mu_);
  if (echo_.size() < 4096) echo_.insert(0, out.substr(n));
}

void Terminal::room_again() {
  flush_echo();
  queue_.wake_all(EPOLLOUT | EPOLLWRNORM);
}

// Linux: input_available_p() with poll: without a timer between bytes, fewer than VMIN are none.
bool Terminal::poll_readable() {
  size_t n = readable_bytes();
  if (is(t_.c_lflag, ICANON) || t_.c_cc[VTIME] || t_.c_cc[VMIN] == 0) return n > 0;
  return n >= t_.c_cc[VMIN];
}

uint32_t Terminal::poll_events(uint64_t era) {
  bool room = port_->has_room();
  MutexLock l(mu_);
  if (era != this->era()) {  // Linux: hung_up_tty_poll
    return EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLRDNORM | EPOLLWRNORM;
  }
  uint32_t e = 0;
  if (poll_readable()) e |= EPOLLIN | EPOLLRDNORM;
  if (hung_up_) e |= EPOLLHUP | EPOLLIN | EPOLLRDNORM;
  if (!stopped_ && room && !hung_up_) e |= EPOLLOUT | EPOLLWRNORM;
  return e;
}

void Terminal::port_closed() {
  RefOrNull<kernel::Session> session;
  {
    MutexLock l(mu_);
    if (hung_up_) return;
    hung_up_ = true;
    session = std::move(session_ref_);
    session_ = nullptr;
  }
  queue_.wake_all();
  if (!session) return;
  // The leader, such as a shell, tells its jobs itself.
  if (auto leader = kernel::leader_of(*session)) {
    leader->send_signal(kernel::SignalInfo::kernel(SIGHUP));
    leader->send_signal(kernel::SignalInfo::kernel(SIGCONT));
  }
  session->set_tty(nullptr);
  session->set_foreground(nullptr);
}

// Linux: disassociate_ctty().
void Terminal::leave_session(kernel::Session& session, bool leader_exits) {
  RefOrNull<kernel::Session> keep;
  {
    MutexLock l(mu_);
    if (session_ != &session) return;
    session_ = nullptr;
    keep = std::move(session_ref_);
    if (leader_exits) {  // whoever still has it open holds a hung-up one, and the next owner finds it as new
      era_.fetch_add(1);
      t_ = default_settings();
      discard_input();
      stopped_ = false;
    }
  }
  queue_.wake_all();
  if (auto fg = session.foreground()) {
    fg->send_signal(kernel::SignalInfo::kernel(SIGHUP));
    if (!leader_exits) fg->send_signal(kernel::SignalInfo::kernel(SIGCONT));
  }
  session.set_tty(nullptr);
  session.set_foreground(nullptr);
  input_changed();
  give_up_if_unused();
}

void Terminal::send_foreground(int signo) {
  RefOrNull<kernel::Session> session;
  {
    MutexLock l(mu_);
    session = session_ref_;
  }
  if (!session) return;
  if (auto fg = session->foreground()) fg->send_signal(kernel::SignalInfo::kernel(signo));
}

WindowSize Terminal::size() {
  MutexLock l(mu_);
  return size_;
}

void Terminal::set_size(const WindowSize& s) {
  {
    MutexLock l(mu_);
    if (size_.rows == s.rows && size_.cols == s.cols && size_.xpixel == s.xpixel && size_.ypixel == s.ypixel) return;
    size_ = s;
  }
  send_foreground(SIGWINCH);
}

// ---- TerminalFile ----

TerminalFile::TerminalFile(Ref<Terminal> tty, const vfs::Path& path, Ref<vfs::Inode> inode, int flags,
                           Ref<auth::Credentials> cred)
    : File(kKind, path, std::move(inode), flags, std::move(cred)), tty_(std::move(tty)), era_(tty_->era()) {}
TerminalFile::~TerminalFile() { tty_->closed(); }

Result<Ref<vfs::File>> TerminalFile::open(const Ref<Terminal>& tty, const vfs::Path& path, const Ref<vfs::Inode>& inode,
                                          int flags, const Ref<auth::Credentials>& cred) {
  TRY(tty->opened());
  Ref<vfs::File> f = make_ref<TerminalFile>(tty, path, inode, flags, cred);
  return f;
}

}  // namespace sentry::fs::tty
