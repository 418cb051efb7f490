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

// The end of what a hook has said on standard error, else on standard output, as one line.
std::string said_by(const Fd& err, const Fd& out) {
  for (const Fd* f : {&err, &out}) {
    constexpr int64_t kMost = 1000;
    auto size = sys::from_libc(::lseek(f->get(), 0, SEEK_END));
    if (!size.ok() || *size == 0) continue;
    std::string text(static_cast<size_t>(std::min<int64_t>(*size, kMost)), '\0');
    ssize_t n = ::pread(f->get(), text.data(), text.size(), *size - static_cast<int64_t>(text.size()));
    text.resize(n > 0 ? static_cast<size_t>(n) : 0);
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    std::string line;
    for (char c : text) {
      if (c == '\n') line += "; ";
      else line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    }
    if (!line.empty()) return ": " + line;
  }
  return "";
}

struct HookFiles {
  Fd in, out, err;
};

[[noreturn]] void hook_child(const oci::Hook& h, const HookFiles& files, host::Report& report, const std::string& directory, int sandbox) {
  host::reset_signals();
  ::setsid();
  if (sandbox >= 0 && ::syscall(SYS_setns, sandbox, CLONE_NEWNET) != 0) {
    report.fail(base::wrap(sys::from_libc(-1).error(), "join the sandbox's network namespace"));
  }
  if (::chdir(directory.c_str()) != 0 || ::dup2(files.in.get(), 0) < 0 || ::dup2(files.out.get(), 1) < 0 || ::dup2(files.err.get(), 2) < 0) {
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
  // Files, not pipes: a hook need not read its state, and what it starts and leaves behind may hold its output for ever.
  HookFiles files;
  for (Fd* f : {&files.in, &files.out, &files.err}) {
    *f = Fd(static_cast<int>(TRY_MSG(sys::from_libc(::memfd_create("hook", MFD_CLOEXEC)), "make a file for its state or output")));
  }
  TRY_MSG(sys::write_all(files.in.get(), state_json.data(), state_json.size()), "write its state");
  TRY_MSG(sys::from_libc(::lseek(files.in.get(), 0, SEEK_SET)), "write its state");
  host::Report report = TRY_MSG(host::Report::create(), "make a pipe");
  int pid = TRY_MSG(host::clone_process({}), "start a process");
  if (pid == 0) hook_child(h, files, report, directory, sandbox);
  files.in.reset();
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
      return base::error(base::kETIMEDOUT, "did not end within its timeout of {} s and was killed{}", h.timeout_s, said_by(files.err, files.out));
    }
  }
  int status = host::reap(pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  std::string said = said_by(files.err, files.out);
  if (WIFEXITED(status)) return base::error(base::kEIO, "ended with exit code {}{}", WEXITSTATUS(status), said);
  return base::error(base::kEIO, "was killed by signal {}{}", WTERMSIG(status), said);
}

}  // namespace

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
