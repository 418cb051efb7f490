// SPDX-License-Identifier: Apache-2.0
// The line discipline: what typed characters become, and what is echoed.
#include <signal.h>

#include <algorithm>
#include <cstring>

#include "sentry/fs/tty/core.h"

namespace sentry::fs::tty {
namespace {

constexpr size_t kMaxInput = 4095;
constexpr size_t kMaxIncoming = 64 << 10;
constexpr size_t kMaxEcho = 64 << 10;  // of what cannot go out (^S): more is lost (Linux: ECHO_BUF)
constexpr unsigned char kDisabled = 0;  // _POSIX_VDISABLE

bool is_char(const termios& t, int index, unsigned char c) { return t.c_cc[index] != kDisabled && t.c_cc[index] == c; }

// The bytes of one character at the end of s: one, or a UTF-8 sequence (IUTF8).
size_t last_character(const std::string& s, bool utf8) {
  size_t n = 1;
  while (utf8 && n < s.size() && n < 4 && (static_cast<unsigned char>(s[s.size() - n]) & 0xc0) == 0x80) n++;
  return n;
}

}  // namespace

// Linux: n_tty_receive_buf_common(): a full buffer stops the line, but one without a whole line in it could never be read, so what
// is too much for that is lost.
bool Terminal::has_input_room() {
  if (!is(t_.c_lflag, ICANON)) return raw_.size() < kMaxInput;
  return lines_.empty() || line_bytes_ + edit_.size() < kMaxInput;
}

void Terminal::pump() {
  size_t n = 0;
  while (n < incoming_.size() && has_input_room()) input_char(static_cast<unsigned char>(incoming_[n++]));
  incoming_.erase(0, n);
}

size_t Terminal::receive(std::string_view bytes) {
  size_t n;
  {
    MutexLock l(mu_);
    if (hung_up_) return bytes.size();
    n = std::min(bytes.size(), kMaxIncoming - incoming_.size());
    incoming_ += bytes.substr(0, n);
    pump();
  }
  after_input();
  return n;
}

bool Terminal::takes_input() {
  MutexLock l(mu_);
  return hung_up_ || incoming_.size() < kMaxIncoming;
}

// What pump() left to be done without the lock.
void Terminal::after_input() {
  std::vector<int> signals;
  unsigned packet;
  {
    MutexLock l(mu_);
    signals.swap(pending_signals_);
    packet = std::exchange(pending_packet_, 0);
  }
  if (packet & TIOCPKT_FLUSHWRITE) port_->discard_output();
  if (packet) port_->notify(packet);
  flush_echo();
  for (int s : signals) send_foreground(s);
  queue_.wake_all();
}

void Terminal::input_changed() {
  bool more;
  {
    MutexLock l(mu_);
    more = !incoming_.empty();
    if (more) pump();
  }
  if (!more) return;
  after_input();
  port_->input_wanted();
}

void Terminal::discard_input() {
  lines_.clear();
  line_bytes_ = 0;
  raw_.clear();
  edit_.clear();
}

void Terminal::input_char(unsigned char c) {
  if (literal_next_) {
    literal_next_ = false;
    if (is(t_.c_lflag, ICANON)) edit_char(c);
    else if (raw_.size() < kMaxInput) raw_ += static_cast<char>(c);
    return;
  }
  if (is(t_.c_iflag, ISTRIP)) c &= 0x7f;
  if (c == '\r') {
    if (is(t_.c_iflag, IGNCR)) return;
    if (is(t_.c_iflag, ICRNL)) c = '\n';
  } else if (c == '\n' && is(t_.c_iflag, INLCR)) {
    c = '\r';
  }
  if (is(t_.c_iflag, IUCLC) && is(t_.c_lflag, IEXTEN)) c = static_cast<unsigned char>(tolower(c));
  if (is(t_.c_iflag, IXON)) {
    if (is_char(t_, VSTOP, c) && !stopped_) {
      stopped_ = true;
      pending_packet_ |= TIOCPKT_STOP;
      return;
    }
    bool start = is_char(t_, VSTART, c);
    if (start || (stopped_ && is(t_.c_iflag, IXANY))) {
      if (stopped_) pending_packet_ |= TIOCPKT_START;
      stopped_ = false;
      if (start) return;
    }
    if (is_char(t_, VSTOP, c)) return;
  }
  if (is(t_.c_lflag, ISIG) && signal_char(c)) return;
  if (is(t_.c_lflag, IEXTEN) && is_char(t_, VLNEXT, c)) {
    literal_next_ = true;
    if (is(t_.c_lflag, ECHO) && is(t_.c_lflag, ECHOCTL)) echo_raw("^\b");
    return;
  }
  if (!is(t_.c_lflag, ICANON)) {
    if (raw_.size() < kMaxInput) raw_ += static_cast<char>(c);
    if (is(t_.c_lflag, ECHO)) echo(c);
    return;
  }
  if (is_char(t_, VERASE, c)) {
    erase_one();
  } else if (is_char(t_, VKILL, c)) {
    if (is(t_.c_lflag, ECHOKE) && is(t_.c_lflag, ECHOE)) {
      while (!edit_.empty()) erase_one();
    } else {
      edit_.clear();
      if (is(t_.c_lflag, ECHO)) echo(c);
      if (is(t_.c_lflag, ECHOK) && is(t_.c_lflag, ECHO)) echo_raw("\r\n");
    }
  } else if (is(t_.c_lflag, IEXTEN) && is_char(t_, VWERASE, c)) {
    while (!edit_.empty() && isspace(static_cast<unsigned char>(edit_.back()))) erase_one();
    while (!edit_.empty() && !isspace(static_cast<unsigned char>(edit_.back()))) erase_one();
  } else if (is(t_.c_lflag, IEXTEN) && is(t_.c_lflag, ECHO) && is_char(t_, VREPRINT, c)) {
    echo(c);
    echo_raw("\r\n");
    for (char e : edit_) echo(static_cast<unsigned char>(e));
  } else if (is_char(t_, VEOF, c)) {
    end_line();
  } else if (c == '\n' || is_char(t_, VEOL, c) || (is(t_.c_lflag, IEXTEN) && is_char(t_, VEOL2, c))) {
    if (is(t_.c_lflag, ECHO) || (c == '\n' && is(t_.c_lflag, ECHONL))) echo(c);
    edit_ += static_cast<char>(c);
    end_line();
  } else {
    edit_char(c);
  }
}

bool Terminal::signal_char(unsigned char c) {
  int s = is_char(t_, VINTR, c) ? SIGINT : is_char(t_, VQUIT, c) ? SIGQUIT : is_char(t_, VSUSP, c) ? SIGTSTP : 0;
  if (!s) return false;
  if (!is(t_.c_lflag, NOFLSH)) {
    discard_input();
    echo_.clear();
    pending_packet_ |= TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE;
  }
  stopped_ = false;
  if (is(t_.c_lflag, ECHO)) echo(c);
  pending_signals_.push_back(s);
  return true;
}

void Terminal::edit_char(unsigned char c) {
  if (line_bytes_ + edit_.size() >= kMaxInput) {
    if (is(t_.c_iflag, IMAXBEL)) echo_raw("\a");
    return;
  }
  edit_ += static_cast<char>(c);
  if (is(t_.c_lflag, ECHO)) echo(c);
}

void Terminal::erase_one() {
  if (edit_.empty()) return;
  size_t n = last_character(edit_, is(t_.c_iflag, IUTF8));
  auto c = static_cast<unsigned char>(edit_.back());
  edit_.resize(edit_.size() - n);
  if (!is(t_.c_lflag, ECHO)) return;
  if (!is(t_.c_lflag, ECHOE)) {
    echo(t_.c_cc[VERASE]);
    return;
  }
  bool two_wide = n == 1 && is(t_.c_lflag, ECHOCTL) && (c < 0x20 || c == 0x7f) && c != '\t';
  echo_raw(two_wide ? "\b \b\b \b" : "\b \b");
}

void Terminal::end_line() {
  line_bytes_ += edit_.size();
  lines_.push_back(std::exchange(edit_, {}));
}

void Terminal::echo_raw(std::string_view s) {
  if (echo_.size() < kMaxEcho) echo_ += s;
}

void Terminal::echo(unsigned char c) {
  bool control = (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f;
  if (control && is(t_.c_lflag, ECHOCTL)) {
    char two[2] = {'^', static_cast<char>(c ^ 0x40)};
    echo_raw(std::string_view(two, 2));
    return;
  }
  if (echo_.size() < kMaxEcho) process_output(c, echo_);
}

// Linux: do_output_char().
void Terminal::process_output(unsigned char c, std::string& out) {
  if (!is(t_.c_oflag, OPOST)) {
    out += static_cast<char>(c);
    return;
  }
  switch (c) {
    case '\n':
      if (is(t_.c_oflag, ONLCR)) out += '\r';
      if (is(t_.c_oflag, ONLCR) || is(t_.c_oflag, ONLRET)) column_ = 0;
      out += '\n';
      return;
    case '\r':
      if (is(t_.c_oflag, ONOCR) && column_ == 0) return;
      if (is(t_.c_oflag, OCRNL)) {
        out += '\n';
        return;
      }
      column_ = 0;
      out += '\r';
      return;
    case '\t': {
      unsigned spaces = 8 - column_ % 8;
      column_ += spaces;
      if ((t_.c_oflag & TABDLY) == XTABS) out.append(spaces, ' ');
      else out += '\t';
      return;
    }
    case '\b':
      if (column_ > 0) column_--;
      break;
    default:
      if (is(t_.c_oflag, OLCUC)) c = static_cast<unsigned char>(toupper(c));
      if (c >= 0x20 && (c & 0xc0) != 0x80) column_++;
  }
  out += static_cast<char>(c);
}

size_t Terminal::readable_bytes() {
  if (is(t_.c_lflag, ICANON)) return lines_.empty() ? 0 : std::max<size_t>(lines_.front().size(), 1);
  return raw_.size();
}

size_t Terminal::take(std::span<std::byte> dst) {
  std::string* from = &raw_;
  bool canonical = is(t_.c_lflag, ICANON);
  if (canonical) from = &lines_.front();
  size_t n = std::min(dst.size(), from->size());
  memcpy(dst.data(), from->data(), n);
  from->erase(0, n);
  if (canonical) line_bytes_ -= n;
  if (canonical && from->empty()) lines_.pop_front();
  return n;
}

void Terminal::mode_changed(const termios& old) {
  bool was = is(old.c_lflag, ICANON), now = is(t_.c_lflag, ICANON);
  if (was && !now) {  // everything typed can be read
    for (auto& l : lines_) raw_ += l;
    raw_ += edit_;
    lines_.clear();
    line_bytes_ = 0;
    edit_.clear();
  } else if (!was && now && !raw_.empty()) {
    line_bytes_ = raw_.size();
    lines_.push_back(std::exchange(raw_, {}));
  }
  if (!is(t_.c_iflag, IXON)) stopped_ = false;
}

}  // namespace sentry::fs::tty
