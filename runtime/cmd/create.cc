// SPDX-License-Identifier: Apache-2.0
// create and run.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/cmd/command.h"
#include "runtime/cmd/foreground.h"
#include "runtime/container/hooks.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

using base::ResultX;
using container::CreateOptions;

namespace {

// The flags of both verbs.
struct CreateFlags {
  std::string bundle, pid_file, console_socket;
  int64_t preserve_fds = 0;
  bool detach = false, keep = false, no_pivot = false, no_new_keyring = false, no_subreaper = false;
  SandboxOptions sandbox;
};

void add_flags(Flags& f, CreateFlags& c) {
  f.value("-b,--bundle", c.bundle, "directory that holds config.json (default: the current one)");
  f.value("--pid-file", c.pid_file, "file to write the host's pid of the sandbox to");
  f.value("--console-socket", c.console_socket, "unix socket that receives the container's terminal");
  f.value("--preserve-fds", c.preserve_fds, "how many descriptors after 2 to hand to the program");
  f.flag("--no-pivot", c.no_pivot, "accepted; the container never sees a host root");
  f.flag("--no-new-keyring", c.no_new_keyring, "accepted; the sandbox has no keyring of the host");
  add_sandbox_flags(f, c.sandbox);
}

CreateOptions options_of(const Globals& g, const CreateFlags& c, const std::string& id) {
  CreateOptions o;
  o.root = g.root;
  o.id = id;
  o.bundle = c.bundle;
  o.console_socket = c.console_socket;
  o.pid_file = c.pid_file;
  o.preserve_fds = static_cast<int>(std::min<int64_t>(std::max<int64_t>(c.preserve_fds, -1), 1000));
  // Sockets that a service manager passes come first, as in the other runtimes: to this process, not to one it was started by.
  const char *n = ::getenv("LISTEN_FDS"), *pid = ::getenv("LISTEN_PID");
  if (n && pid && atoi(pid) == ::getpid()) o.listen_fds = std::max(0, std::min(atoi(n), 1000));
  o.preserve_fds += o.preserve_fds >= 0 ? o.listen_fds : 0;
  o.debug = g.debug;
  o.systemd_cgroup = g.systemd_cgroup;
  config::apply(g.config, c.sandbox, o);
  return o;
}

}  // namespace

ResultX<int> create(const Globals& g, const Args& args) {
  CreateFlags c;
  c.sandbox = g.sandbox;
  Flags f("caisson create", "[flags] ID", "Makes a container from a bundle. `start` runs its program.");
  add_flags(f, c);
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  std::string id = TRY(only_id(rest, "create"));
  TRY(container::create_container(options_of(g, c, id)));
  return 0;
}

ResultX<int> run(const Globals& g, const Args& args) {
  CreateFlags c;
  c.sandbox = g.sandbox;
  Flags f("caisson run", "[flags] ID",
          "Makes a container and runs its program. The exit code is the program's (128 + n for signal n).");
  add_flags(f, c);
  f.flag("-d,--detach", c.detach, "do not wait for the program");
  f.flag("--keep", c.keep, "keep the container when its program has ended");
  f.flag("--no-subreaper", c.no_subreaper, "accepted; no reaper is needed");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  std::string id = TRY(only_id(rest, "run"));
  CreateOptions o = options_of(g, c, id);
  o.foreground = !c.detach;
  return run_container(o, c.detach, c.keep);
}

ResultX<int> run_container(const CreateOptions& options, bool detach, bool keep) {
  CreateOptions o = options;
  o.starts = true;
  base::Fd signals;
  if (!detach) signals = catch_signals();
  auto made = TRY(container::create_container(o));
  auto started = container::start_container(made.directory, made.state, &made.client);
  if (started.ok() && detach) return 0;
  LOG(debug, "container '{}' is started", o.id);
  if (started.ok()) made.directory.unlock();  // others may pause, change or delete it while this one waits
  ResultX<int> result = started.ok()
                            ? wait_in_foreground({o.id, 0, &made.client, made.terminal.valid() ? made.terminal.get() : -1,
                                                  made.sentry_words.get()},
                                                 signals)
                            : ResultX<int>(started.error());
  // Who is told that it ended may delete it: its sandbox, which told the end, ends too.
  if (started.ok() && keep && !made.state.member()) {
    pollfd gone{made.sentry_pidfd.get(), POLLIN, 0};
    constexpr int kGoneMs = 4000;
    ::poll(&gone, 1, kGoneMs);
  }
  auto locked = started.ok() && !keep ? made.directory.lock(4000) : ResultX<void>();
  if (!locked.ok()) {
    // Another command has removed it, and all its processes were killed.
    if (locked.error().code() == base::kENOENT) return result.ok() ? exit_code(*result) : 128 + SIGKILL;
    LOG(error, "removing container '{}': {}", o.id, locked.error().text());
  } else if (!keep || !started.ok()) {
    auto spec = container::load_saved_spec(made.directory);
    auto removed = container::destroy_container(made.root, made.directory, made.state);
    if (!removed.ok()) LOG(error, "removing container '{}': {}", o.id, removed.error().text());
    if (spec.ok()) {
      container::run_poststop_hooks(spec->hooks.poststop, container::state_json(made.state, container::Status::stopped),
                                    made.state.bundle);
    }
  }
  if (!result.ok()) return result.error();
  return exit_code(*result);
}

}  // namespace runtime::cmd
