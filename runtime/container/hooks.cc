// SPDX-License-Identifier: Apache-2.0
// Running one hook: fork, exec, feed, wait.
#include "runtime/container/hooks.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/host/proc.h"
#include "runtime/host/spawn.h"

namespace runtime::container {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;

namespace {

[[noreturn]] void hook_child(const oci::Hook& h, int input, host::Report& report, const std::string& directory, int sandbox) {
  host::reset_signals();
  ::setsid();
  if (sandbox >= 0 && ::syscall(SYS_setns, sandbox, CLONE_NEWNET) != 0) {
    report.fail(base::wrap(sys::from_libc(-1).error(), "join the sandbox's network namespace"));
  }
  if (::chdir(directory.c_str()) != 0 || ::dup2(input, 0) < 0) {
    report.fail(base::wrap(sys::from_libc(-1).error(), "set up"));
  }
  ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  std::vector<char*> argv, envp;
  for (auto& a : h.args) argv.push_back(const_cast<char*>(a.c_str()));
  if (argv.empty()) argv.push_back(const_cast<char*>(h.path.c_str()));
  argv.push_back(nullptr);
  for (auto& e : h.env) envp.push_back(const_cast<char*>(e.c_str()));
  envp.push_back(nullptr);
  ::execve(h.path.c_str(), argv.data(), envp.data());
  report.fail(base::wrap(sys::from_libc(-1).error(), "execute"));
}

ResultX<void> run_hook(const oci::Hook& h, const std::string& state_json, const std::string& directory, int sandbox) {
  // A file, not a pipe: a hook need not read it, and no size of it is too much for nobody reading.
  Fd in(static_cast<int>(TRY_MSG(sys::from_libc(::memfd_create("state", MFD_CLOEXEC)), "make a file for its state")));
  TRY_MSG(sys::write_all(in.get(), state_json.data(), state_json.size()), "write its state");
  TRY_MSG(sys::from_libc(::lseek(in.get(), 0, SEEK_SET)), "write its state");
  host::Report report = TRY_MSG(host::Report::create(), "make a pipe");
  int pid = TRY_MSG(host::clone_process({}), "start a process");
  if (pid == 0) hook_child(h, in.get(), report, directory, sandbox);
  in.reset();
  auto started = report.await(5000, pid);
  if (!started.ok()) {
    host::kill_and_wait(host::process_name(pid), 1000);
    return started.error();
  }
  Fd pidfd = TRY_MSG(sys::pidfd_open(pid), "watch the hook");
  pollfd pf{pidfd.get(), POLLIN, 0};
  int64_t end = host::now_ms() + int64_t{h.timeout_s} * 1000;
  for (;;) {
    int64_t left = h.timeout_s ? std::max<int64_t>(end - host::now_ms(), 0) : 1 << 30;
    int n = ::poll(&pf, 1, static_cast<int>(std::min<int64_t>(left, 1 << 30)));
    if (n > 0) break;
    if (n == 0 && left == 0) {
      IGNORE_ERROR(sys::pidfd_send_signal(pidfd.get(), SIGKILL), "it may have ended this moment");
      host::reap(pid);
      return base::error(base::kETIMEDOUT, "did not end within its timeout of {} s and was killed", h.timeout_s);
    }
  }
  int status = host::reap(pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status)) return base::error(base::kEIO, "ended with exit code {}", WEXITSTATUS(status));
  return base::error(base::kEIO, "was killed by signal {}", WTERMSIG(status));
}

}  // namespace

ResultX<void> run_hooks(const std::vector<oci::Hook>& hooks, const char* kind, const std::string& state_json,
                        const std::string& directory, int sandbox) {
  for (auto& h : hooks) TRY_MSG(run_hook(h, state_json, directory, sandbox), "{} hook {}", kind, h.path);
  return {};
}

}  // namespace runtime::container
