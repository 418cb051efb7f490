// SPDX-License-Identifier: Apache-2.0
// Running one hook: fork, exec, feed, wait.
#include "runtime/container/hooks.h"

#include <fcntl.h>
#include <linux/close_range.h>
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

[[noreturn]] void hook_child(const oci::Hook& h, const Fd& state, const host::Heard& heard, host::Report& report, const std::string& directory, int sandbox) {
  host::reset_signals();
  ::setsid();
  if (sandbox >= 0 && ::syscall(SYS_setns, sandbox, CLONE_NEWNET) != 0) {
    report.fail(base::wrap(sys::from_libc(-1).error(), "join the sandbox's network namespace"));
  }
  if (::chdir(directory.c_str()) != 0 || ::dup2(state.get(), 0) < 0 || ::dup2(heard.out(), 1) < 0 || ::dup2(heard.err(), 2) < 0) {
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

// A file, not a pipe: a hook need not read its state. It stays as it is.
base::Result<Fd> state_file(const std::string& json) {
  Fd f(static_cast<int>(TRY(sys::from_libc(::memfd_create("hook", MFD_CLOEXEC | MFD_ALLOW_SEALING)))));
  TRY(sys::write_all(f.get(), json.data(), json.size()));
  TRY(sys::from_libc(::lseek(f.get(), 0, SEEK_SET)));
  TRY(sys::from_libc(::fcntl(f.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)));
  return f;
}

ResultX<void> run_hook(const oci::Hook& h, const std::string& state_json, const std::string& directory, int sandbox) {
  Fd state = TRY_MSG(state_file(state_json), "make a file for its state");
  host::Heard heard = TRY_MSG(host::Heard::create(), "make pipes for its output");
  host::Report report = TRY_MSG(host::Report::create(), "make a pipe");
  int pid = TRY_MSG(host::clone_process({}), "start a process");
  if (pid == 0) hook_child(h, state, heard, report, directory, sandbox);
  state.reset();
  heard.close_ends();
  auto started = report.await(5000, pid);
  if (!started.ok()) {
    host::kill_and_wait(host::process_name(pid), 1000);
    return started.error();
  }
  Fd pidfd = TRY_MSG(sys::pidfd_open(pid), "watch the hook");
  if (!heard.until(pidfd.get(), host::now_ms(), h.timeout_s)) {
    IGNORE_ERROR(sys::pidfd_send_signal(pidfd.get(), SIGKILL), "it may have ended this moment");
    host::reap(pid);
    heard.hear();
    return base::error(base::kETIMEDOUT, "did not end within its timeout of {} s and was killed{}", h.timeout_s, heard.words());
  }
  // What it left behind may hold the pipes for ever: nobody waits for their end.
  int status = host::reap(pid);
  heard.hear();
  return judge_hook(status, heard);
}

}  // namespace

ResultX<void> judge_hook(int status, const host::Heard& heard) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status)) return base::error(base::kEIO, "ended with exit code {}{}", WEXITSTATUS(status), heard.words());
  return base::error(base::kEIO, "was killed by signal {}{}", WTERMSIG(status), heard.words());
}

ResultX<void> run_hooks(const std::vector<oci::Hook>& hooks, const char* kind, const std::string& state_json,
                        const std::string& directory, int sandbox) {
  for (auto& h : hooks) TRY_MSG(run_hook(h, state_json, directory, sandbox), "{} hook {}", kind, h.path);
  return {};
}

void run_poststop_hooks(const std::vector<oci::Hook>& hooks, const std::string& state_json, const std::string& directory) {
  for (auto& h : hooks) {
    auto r = run_hooks({h}, "poststop", state_json, directory);
    if (!r.ok()) LOG(warn, "{}", r.error().text());
  }
}

}  // namespace runtime::container
