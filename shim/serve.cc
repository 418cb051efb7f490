// SPDX-License-Identifier: Apache-2.0
// The shim process: one loop, one server, the containers of one pod.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "shim/command.h"
#include "shim/sockets.h"
#include "shim/task/service.h"

namespace shim {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;

namespace {

// A shim to which nobody spoke for so long, and that has no container, was forgotten.
constexpr int64_t kIdleMs = 60000, kLastWordsMs = 5000;

// Containerd reads it into its own log; it may go away and come back, so the far end is held open too.
void open_log(const Arguments& a) {
  auto fd = sys::open("log", O_RDWR | O_NONBLOCK);
  base::log_init("caisson-shim", fd.ok() ? fd->release() : 2, a.debug ? base::LogLevel::debug : base::LogLevel::info);
}

class Shim {
 public:
  explicit Shim(const Arguments& a)
      : socket_(socket_path(a.socket)),
        root_(a.root),
        workers_(loop_),
        publisher_(loop_, events_address(a), a.space),
        host_{loop_, workers_, publisher_, a.space, state_root(a), a.debug, a.config},
        service_(host_, [this] { end(); }),
        server_(loop_, Fd(kListenerFd), [this](rpc::Call c) { service_.handle(std::move(c)); }),
        known_(kKnownFd) {}

  ResultX<void> run() {
    sigset_t set;
    sigemptyset(&set);
    for (int s : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    TRY_MSG(loop_.watch(signals_.get(), EPOLLIN, [this](uint32_t) { on_signal(); }), "watch for signals");
    known_watch_ = TRY_MSG(loop_.watch(known_.get(), EPOLLIN, [this](uint32_t) { on_known(); }), "watch whether somebody knows of this shim");
    look_idle();
    loop_.run();
    return {};
  }

 private:
  static std::string variable(const char* name) {
    const char* v = ::getenv(name);
    return v ? v : "";
  }
  static std::string events_address(const Arguments& a) {
    std::string given = variable("TTRPC_ADDRESS");
    if (given.empty() && !a.address.empty()) given = a.address + ".ttrpc";
    return given.rfind("unix://", 0) == 0 ? socket_path(given) : given;
  }

  void on_signal() {
    signalfd_siginfo info;
    while (true) {
      auto n = sys::read(signals_.get(), &info, sizeof info);
      if (!n.ok() || *n != sizeof info) return;
      if (info.ssi_signo == SIGCHLD) {
        int status = 0;
        for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) service_.reaped(pid, status);
      } else if (info.ssi_signo != SIGHUP && service_.empty()) {
        end();
      } else {
        LOG(info, "signal {} is passed over: there are containers", info.ssi_signo);
      }
    }
  }

  void on_known() {
    char byte;
    auto n = sys::read(known_.get(), &byte, 1);
    loop_.unwatch(known_watch_);
    known_.reset();
    if (n.ok() && *n == 1) return;
    LOG(info, "what started this shim was killed before it could say so: this shim ends");
    end();
  }

  void look_idle() {
    bool idle = service_.empty() && server_.connections() == 0;
    if (idle && was_idle_) return end();
    was_idle_ = idle;
    loop_.after(kIdleMs, [this] { look_idle(); });
  }

  // Nobody finds this shim any more; what was said is still sent.
  void end() {
    if (ending_) return;
    ending_ = true;
    remove_socket(root_, socket_);
    loop_.after(kLastWordsMs, [this] { loop_.stop(); });
    wait_flushed();
  }
  void wait_flushed() {
    if (publisher_.idle() && server_.flushed()) return loop_.stop();
    loop_.after(10, [this] { wait_flushed(); });
  }

  const std::string socket_, root_;
  rpc::Loop loop_;
  task::Workers workers_;
  task::Publisher publisher_;
  task::Host host_;
  task::Service service_;
  rpc::Server server_;
  Fd known_, signals_;
  uint64_t known_watch_ = 0;
  bool ending_ = false, was_idle_ = false;
};

}  // namespace

ResultX<void> serve(const Arguments& a) {
  if (a.root.empty()) return base::error(base::kEINVAL, "serve: there is no -root");
  for (int fd : {kListenerFd, kKnownFd}) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return base::error(base::kEBADF, "serve: descriptor {} is not open; `start` calls this", fd);
  }
  open_log(a);
  IGNORE_ERROR(sys::from_libc(::chdir("/")), "the bundle may go; / does not");
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  Shim shim(a);
  LOG(debug, "the shim of {} runs as pid {}", a.id, ::getpid());
  return shim.run();
}

}  // namespace shim
