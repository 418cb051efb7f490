// SPDX-License-Identifier: Apache-2.0
// exec: another program in a running container.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/cmd/command.h"
#include "runtime/cmd/foreground.h"
#include "runtime/container/keeper.h"
#include "runtime/container/lifecycle.h"
#include "runtime/container/plan.h"
#include "runtime/host/spawn.h"
#include "runtime/host/terminal.h"

namespace runtime::cmd {

using base::Fd;
using base::ResultX;
namespace wire = base::wire;
namespace sys = base::sys;

namespace {

struct ExecFlags {
  std::string process, cwd, user, pid_file, console_socket, apparmor, process_label;
  std::vector<std::string> env, caps, groups, cgroups;
  bool tty = false, detach = false, no_new_privs = false, ignore_paused = false;
  int64_t preserve_fds = 0;
};

ResultX<uint32_t> parse_number(const std::string& s, const char* flag) {
  char* end = nullptr;
  unsigned long v = strtoul(s.c_str(), &end, 10);
  if (s.empty() || *end || s[0] == '-' || v >= UINT32_MAX) {
    return base::error(base::kEINVAL, "{} {}: must be a number", flag, s);
  }
  return static_cast<uint32_t>(v);
}

ResultX<wire::Process> make_process(const ExecFlags& e, const container::Directory& d, const Args& program) {
  if (!e.process.empty()) {
    auto text = host::read_file(e.process, oci::kMaxConfig);
    if (!text.ok()) return base::wrap(text.error(), "read --process " + e.process);
    std::vector<std::string> warnings;
    auto p = TRY_MSG(oci::parse_process(*text, &warnings), "--process {}", e.process);
    for (auto& w : warnings) LOG(warn, "{}", w);
    if (e.tty) p.terminal = true;
    // Of the container, not of the process.
    p.scheduling.personality = TRY(container::load_saved_spec(d)).process.scheduling.personality;
    return p;
  }
  if (program.empty()) return base::error(base::kEINVAL, "exec: the program to run is missing");
  wire::Process p = TRY(container::load_saved_spec(d)).process;
  p.args = program;
  p.terminal = e.tty;
  if (!e.cwd.empty()) p.cwd = e.cwd;
  if (p.cwd.empty() || p.cwd[0] != '/') return base::error(base::kEINVAL, "--cwd {}: must be an absolute path", p.cwd);
  for (auto& v : e.env) p.env.push_back(v);
  for (auto& c : e.caps) {
    auto n = oci::capability_number(c);
    if (!n) return base::error(base::kEINVAL, "--cap {}: no capability that is known", c);
    uint64_t bit = uint64_t{1} << *n;
    p.cap_bounding |= bit;
    p.cap_effective |= bit;
    p.cap_permitted |= bit;
  }
  if (e.no_new_privs) p.no_new_privs = true;
  if (!e.user.empty()) {
    size_t colon = e.user.find(':');
    p.uid = TRY(parse_number(e.user.substr(0, colon), "--user"));
    if (colon != std::string::npos) p.gid = TRY(parse_number(e.user.substr(colon + 1), "--user"));
  }
  for (auto& gid : e.groups) p.groups.push_back(TRY(parse_number(gid, "--additional-gids")));
  return p;
}

// Engines expect a process of the host whose end is the program's end: it waits, passes signals on, and ends with
// the program's code. The parent gets its pid.
ResultX<int> leave_waiter(const std::string& id, int pid, container::Client& client, const Fd& terminal) {
  Fd signals = catch_signals();
  int child = TRY_MSG(host::clone_process({}), "start a process that waits for the program");
  if (child != 0) return child;
  ::setsid();
  bool keeps = terminal.valid() && host::take_terminal(terminal.get()).ok();
  Fd null = sys::open("/dev/null", O_RDWR).value_or(Fd());
  for (int i = 0; i < 3; i++) ::dup2(null.get(), i);
  // Nothing of the caller stays open but the two descriptors of the wait.
  std::vector<host::Placed> keep{{0, 0}, {1, 1}, {2, 2}, {client.fd(), 3}, {signals.get(), 4}};
  auto placed = host::place_descriptors(keep, null.get(), host::Others::close_now);
  if (!placed.ok()) ::_exit(kExitExecFailure);
  container::Client own{Fd(3)};
  Fd own_signals(4);
  IGNORE_ERROR(host::limit_capabilities(0), "it needs none, and talks to the sandbox");
  IGNORE_ERROR(host::set_no_new_privileges(), "it executes nothing");
  auto status = wait_in_foreground({id, pid, &own, -1, -1, keeps}, own_signals);
  ::_exit(status.ok() ? exit_code(*status) : 137);
}

ResultX<void> write_pid_file(const std::string& path, int pid) {
  if (path.empty()) return {};
  TRY_MSG(host::replace_file(path, std::to_string(pid), 0644), "write --pid-file {}", path);
  return {};
}

ResultX<void> check_preserved(int64_t n) {
  if (n < 0 || n + 3 > static_cast<int64_t>(wire::kMaxRecordFds)) {
    return base::error(base::kEINVAL, "--preserve-fds {}: at most {} can be handed over", n, wire::kMaxRecordFds - 3);
  }
  for (int fd = 3; fd < 3 + n; fd++) {
    if (::fcntl(fd, F_GETFD) < 0) return base::error(base::kEBADF, "--preserve-fds {}: descriptor {} is not open", n, fd);
  }
  return {};
}

ResultX<int> run_exec(const Globals& g, const ExecFlags& e, const Args& rest) {
  if (rest.empty()) return base::error(base::kEINVAL, "exec: the container's id is missing");
  const std::string& id = rest[0];
  TRY(check_preserved(e.preserve_fds));  // before this program opens anything that could be taken for one of them
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  auto s = TRY(d.load());
  auto status = container::find_status(d, s);
  if (status != container::Status::running && status != container::Status::created) {
    return base::error(base::kEINVAL, "container '{}' is {}: a program can only be run in a running one", id,
                       container::status_name(status));
  }
  wire::ExecRequest q;
  q.id = id;
  q.process = TRY(make_process(e, d, Args(rest.begin() + 1, rest.end())));
  container::inherit_limits(q.process);
  q.preserve_fds = static_cast<uint32_t>(e.preserve_fds);
  host::Terminal terminal;
  if (q.process.terminal) {
    if (e.console_socket.empty() && e.detach) {
      return base::error(base::kEINVAL, "a terminal is asked for, but nobody would hold it: give --console-socket, or do not detach");
    }
    terminal = TRY(host::open_terminal());
    if (!q.process.rows && e.console_socket.empty()) {
      if (auto size = host::terminal_size(0); size.ok()) {
        q.process.rows = size->rows;
        q.process.cols = size->cols;
      }
    }
    if (q.process.rows) {
      IGNORE_ERROR(host::set_terminal_size(terminal.master.get(), {q.process.rows, q.process.cols}), "a size is a courtesy");
    }
    if (!e.console_socket.empty()) {
      TRY(host::send_terminal(e.console_socket, terminal));
      terminal.master.reset();
    }
  }
  Fd signals;
  if (!e.detach) signals = catch_signals();
  std::vector<int> fds;
  for (int i = 0; i < 3; i++) fds.push_back(terminal.slave.valid() ? terminal.slave.get() : i);
  for (int i = 0; i < e.preserve_fds; i++) fds.push_back(3 + i);
  auto client = TRY(container::connect_to(d, s));
  auto reply = TRY(client.call<wire::PidReply>(wire::ControlOp::kExec, q, 10000, fds));
  if (e.detach) {
    int waiter = TRY(leave_waiter(id, reply.pid, client, terminal.slave));
    TRY(write_pid_file(e.pid_file, waiter));
    return 0;
  }
  if (terminal.slave.valid() && !terminal.master.valid()) {
    TRY(container::keep_terminal({id, reply.pid, terminal.slave.get(), TRY(container::Client::connect(d.fd()))}));
  }
  terminal.slave.reset();
  TRY(write_pid_file(e.pid_file, ::getpid()));
  int wait_status = TRY(wait_in_foreground(
      {id, reply.pid, &client, terminal.master.valid() ? terminal.master.get() : -1, -1}, signals));
  return exit_code(wait_status);
}

}  // namespace

ResultX<int> exec(const Globals& g, const Args& args) {
  ExecFlags e;
  Flags f("caisson exec", "[flags] ID PROGRAM [ARGUMENT…]",
          "Runs another program in a running container. The exit code is the program's; 255 if it could not be run.");
  f.flag("-t,--tty", e.tty, "give the program a terminal");
  f.flag("-d,--detach", e.detach, "do not wait for the program");
  f.value("-p,--process", e.process, "file with the process object of the OCI spec");
  f.value("--cwd", e.cwd, "working directory");
  f.value("-u,--user", e.user, "UID[:GID]");
  f.list("-e,--env", e.env, "NAME=VALUE; may be repeated");
  f.list("-c,--cap", e.caps, "add a capability; may be repeated");
  f.list("-g,--additional-gids", e.groups, "add a group; may be repeated");
  f.flag("--no-new-privs", e.no_new_privs, "no program gains privileges");
  f.value("--pid-file", e.pid_file, "file to write the pid of a host process to that lives as long as the program");
  f.value("--console-socket", e.console_socket, "unix socket that receives the terminal");
  f.value("--preserve-fds", e.preserve_fds, "how many descriptors after 2 to hand to the program");
  f.value("--apparmor", e.apparmor, "accepted; does not apply inside the sandbox");
  f.value("--process-label", e.process_label, "accepted; does not apply inside the sandbox");
  f.list("--cgroup", e.cgroups, "accepted; the program joins the container's group");
  f.flag("--ignore-paused", e.ignore_paused, "accepted");
  Args rest;
  auto parsed = f.parse(args, &rest, true);
  if (parsed.ok() && !*parsed) return 0;
  auto r = parsed.ok() ? run_exec(g, e, rest) : ResultX<int>(parsed.error());
  // runc's contract: 255, so that it cannot be taken for a code of the program's... as far as that goes.
  if (!r.ok()) return base::Error(r.error().code(), "exec failed: " + r.error().text());
  return r;
}

}  // namespace runtime::cmd
