// SPDX-License-Identifier: Apache-2.0
// One poll loop: control socket, signals, terminal both ways.
#include "runtime/cmd/foreground.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <optional>

#include "base/sys.h"
#include "base/words.h"
#include "runtime/host/terminal.h"

namespace runtime::cmd {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;
namespace wire = base::wire;

namespace {

class Loop {
 public:
  Loop(const Watched& w, int signals) : w_(w), signals_(signals) {}

  ResultX<int> run() {
    auto tag = w_.client->send(wire::ControlOp::kWait, wire::WaitRequest{w_.id, w_.pid});
    if (!tag.ok()) return explain(tag.error());
    wait_tag_ = *tag;
    std::optional<host::RawMode> raw;
    if (w_.terminal >= 0) {
      if (::isatty(0)) raw.emplace(0);
      IGNORE_ERROR(sys::set_nonblocking(w_.terminal, true), "then a full terminal only blocks us");
    }
    resize();
    for (;;) {
      pollfd p[5] = {{w_.client->fd(), POLLIN, 0},
                     {signals_, POLLIN, 0},
                     {w_.terminal, static_cast<short>(POLLIN | (pending_.empty() ? 0 : POLLOUT)), 0},
                     {w_.terminal >= 0 && input_open_ && pending_.empty() ? 0 : -1, POLLIN, 0},
                     {w_.words, POLLIN, 0}};
      if (::poll(p, 5, -1) < 0) continue;
      if (p[2].revents & (POLLIN | POLLHUP)) relay_output();
      if (p[2].revents & POLLOUT) flush_input();
      if (p[3].revents) read_input();
      if (p[4].revents) hear();
      if (p[1].revents) pass_signals();
      if (p[0].revents) {
        auto done = take_reply();
        if (!done.ok() || *done) {
          drain_output();
          if (!done.ok()) return explain(done.error());
          return status_;
        }
      }
    }
  }

 private:
  // True when the process has ended.
  ResultX<bool> take_reply() {
    uint64_t failed = 0;
    auto r = w_.client->receive(1000, &failed);
    if (!r.ok()) {
      if (failed && failed != wait_tag_) return false;  // a signal that came too late
      return r.error();
    }
    if (r->tag != wait_tag_) return false;
    auto reply = TRY(container::Client::decode_body<wire::WaitReply>(*r));
    status_ = reply.status;
    return true;
  }

  void pass_signals() {
    signalfd_siginfo info;
    auto n = sys::read(signals_, &info, sizeof info);
    if (!n.ok() || *n != sizeof info) return;
    auto signo = static_cast<int>(info.ssi_signo);
    // The other side hung up: the sandbox's own terminal tells the program.
    if (w_.keeps_terminal && signo == SIGHUP && info.ssi_code == SI_KERNEL) return;
    if (signo == SIGWINCH) {
      resize();
      return;
    }
    if (signo == SIGCHLD || signo == SIGPIPE) return;
    auto sent = w_.client->send(wire::ControlOp::kSignal, wire::SignalRequest{w_.id, w_.pid, signo, false});
    if (!sent.ok()) LOG(debug, "signal {} not passed on: {}", signo, sent.error().text());
  }

  void resize() {
    if (w_.terminal < 0 && !w_.keeps_terminal) return;
    auto size = w_.keeps_terminal ? host::own_terminal_size() : host::terminal_size(0);
    if (!size.ok() || !size->rows) return;
    if (w_.terminal >= 0) IGNORE_ERROR(host::set_terminal_size(w_.terminal, *size), "a size is a courtesy");
    IGNORE_ERROR(w_.client->send(wire::ControlOp::kResize, wire::ResizeRequest{w_.id, w_.pid, size->rows, size->cols}),
                 "a size is a courtesy");
  }

  bool relay_output() {
    char buf[32768];
    ssize_t n = ::read(w_.terminal, buf, sizeof buf);
    if (n > 0) {
      IGNORE_ERROR(sys::write_all(1, buf, static_cast<size_t>(n)), "nobody reads any more; the program goes on");
      return true;
    }
    // Nobody has the other side open (EIO): that may change, so do not spin on it.
    if (n == 0 || !(sys::from_libc(-1).error() == base::kEAGAIN)) ::poll(nullptr, 0, 20);
    return false;
  }

  void drain_output() {
    if (w_.terminal < 0) return;
    for (;;) {
      pollfd p{w_.terminal, POLLIN, 0};
      if (::poll(&p, 1, 20) <= 0 || !(p.revents & POLLIN) || !relay_output()) return;
    }
  }

  void read_input() {
    char buf[8192];
    ssize_t n = ::read(0, buf, sizeof buf);
    if (n <= 0) {
      input_open_ = false;
      return;
    }
    pending_.assign(buf, static_cast<size_t>(n));
    flush_input();
  }

  void flush_input() {
    ssize_t n = ::write(w_.terminal, pending_.data(), pending_.size());
    if (n > 0) pending_.erase(0, static_cast<size_t>(n));
    else if (n < 0 && !(sys::from_libc(-1).error() == base::kEAGAIN)) pending_.clear();
  }

  void hear() {
    char buf[4096];
    ssize_t n = ::read(w_.words, buf, sizeof buf);
    if (n <= 0) {
      w_.words = -1;
      return;
    }
    heard_.append(buf, static_cast<size_t>(n));
    if (heard_.size() > 8192) heard_.erase(0, heard_.size() - 8192);
  }

  base::Error explain(const base::Error& e) {
    if (w_.words >= 0) hear();
    std::string line = base::last_line(heard_);
    return base::error(e.code(), "the sandbox of container '{}' ended early: {}", w_.id,
                       line.empty() ? e.text() : line);
  }

  Watched w_;
  int signals_;
  uint64_t wait_tag_ = 0;
  int status_ = 0;
  bool input_open_ = true;
  std::string pending_, heard_;
};

}  // namespace

Fd catch_signals() {
  sigset_t all;
  sigfillset(&all);
  // Those that tell of a fault of our own, or that job control needs to act on us, stay as they are.
  for (int s : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT}) {
    sigdelset(&all, s);
  }
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  return Fd(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
}

ResultX<int> wait_in_foreground(const Watched& w, const Fd& signals) { return Loop(w, signals.get()).run(); }

}  // namespace runtime::cmd
