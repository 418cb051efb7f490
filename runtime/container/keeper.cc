// SPDX-License-Identifier: Apache-2.0
// SIGWINCH of the host's terminal to resize requests for the sandbox's.
#include "runtime/container/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/host/spawn.h"
#include "runtime/host/terminal.h"

namespace runtime::container {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;
namespace wire = base::wire;

namespace {

constexpr int kReadyMs = 5000, kClientAt = 3, kSignalsAt = 4;

void pass_size(Client& client, const Kept& k, base::Result<host::Size> size) {
  if (!size.ok()) return;
  IGNORE_ERROR(client.send(wire::ControlOp::kResize, wire::ResizeRequest{k.id, k.pid, size->rows, size->cols}),
               "a size is a courtesy");
}

// Until the program has ended or the sandbox is gone. The engine's hang-up is SIGHUP, which ends the process by itself.
[[noreturn]] void watch(Client& client, const Kept& k, uint64_t end_tag) {
  for (;;) {
    pollfd p[2] = {{client.fd(), POLLIN, 0}, {kSignalsAt, POLLIN, 0}};
    if (::poll(p, 2, -1) < 0) continue;
    if (p[1].revents) {
      signalfd_siginfo info;
      IGNORE_ERROR(sys::read(kSignalsAt, &info, sizeof info), "one that went away needs no answer");
      pass_size(client, k, host::own_terminal_size());
    }
    if (p[0].revents) {
      uint64_t failed = 0;
      auto r = client.receive(1000, &failed);
      if (r.ok() ? r->tag == end_tag : failed == 0 || failed == end_tag) ::_exit(0);
    }
  }
}

ResultX<void> keeper(Kept& k) {
  if (k.cgroups) TRY_MSG(k.cgroups->join_v1(), "join the container's cgroups");
  host::reset_signals();
  TRY_MSG(sys::from_libc(::setsid()), "start a session");
  sigset_t sizes;
  sigemptyset(&sizes);
  sigaddset(&sizes, SIGWINCH);
  ::sigprocmask(SIG_BLOCK, &sizes, nullptr);
  Fd signals(static_cast<int>(TRY_MSG(sys::from_libc(::signalfd(-1, &sizes, SFD_CLOEXEC)), "make a signal descriptor")));
  TRY_MSG(host::take_terminal(k.slave), "take the container's terminal as controlling one");
  uint64_t end_tag = TRY(k.client.send(wire::ControlOp::kWait, wire::WaitRequest{k.id, k.pid}));
  auto now = host::terminal_size(k.slave);
  if (now.ok() && now->rows) pass_size(k.client, k, std::move(now));
  TRY_MSG(host::limit_capabilities(0), "drop capabilities");
  TRY_MSG(host::set_no_new_privileges(), "set no_new_privs");
  Fd null = TRY_MSG(sys::open("/dev/null", O_RDWR), "open /dev/null");
  // The report's descriptor closes with the others: the caller goes on.
  std::vector<host::Placed> keep{{null.get(), 0}, {null.get(), 1}, {null.get(), 2}, {k.client.fd(), kClientAt}, {signals.get(), kSignalsAt}};
  TRY_MSG(host::place_descriptors(keep, null.get(), host::Others::close_now), "place descriptors");
  Client own(Fd(kClientAt), end_tag + 2);
  watch(own, k, end_tag);
}

}  // namespace

ResultX<void> keep_terminal(Kept k) {
  auto report = TRY_MSG(host::Report::create(), "make a pipe");
  int pid = TRY_MSG(host::clone_process({0, k.cgroups ? k.cgroups->v2_leaf() : -1}), "start a process that keeps the terminal");
  if (pid == 0) {
    auto r = keeper(k);
    report.fail(r.ok() ? base::error(base::kEIO, "the keeper of a terminal ended early") : r.error());
  }
  auto ready = report.await(kReadyMs, pid);
  if (!ready.ok()) return base::wrap(ready.error(), "keep the container's terminal");
  return {};
}

}  // namespace runtime::container
