// SPDX-License-Identifier: Apache-2.0
// do: a command in a sandbox that lasts as long as it does, over the host's root, which it cannot change.
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "runtime/cmd/command.h"

namespace runtime::cmd {

namespace {

// What a program needs to behave as it does outside. The rest of the environment may hold secrets.
bool keep_variable(std::string_view name) {
  static constexpr std::string_view kNames[] = {"PATH", "HOME", "TERM", "COLORTERM", "LANG", "LANGUAGE",
                                                "USER", "LOGNAME", "SHELL", "TZ", "PWD", "EDITOR", "PAGER"};
  for (auto n : kNames) {
    if (n == name) return true;
  }
  return name.substr(0, 3) == "LC_";
}

std::vector<std::string> trimmed_environment() {
  std::vector<std::string> out;
  for (char** e = environ; *e; e++) {
    std::string_view v = *e;
    if (keep_variable(v.substr(0, v.find('=')))) out.emplace_back(v);
  }
  return out;
}

std::string fresh_id() {
  uint32_t n = 0;
  while (::getrandom(&n, sizeof n, 0) != sizeof n) {
  }
  return base::format("do-{}-{:08x}", ::getpid(), n);
}

}  // namespace

base::ResultX<int> do_verb(const Globals& g, const Args& args) {
  SandboxOptions sandbox = g.sandbox;
  std::string cwd;
  std::vector<std::string> env;
  bool no_tty = false;
  Flags f("caisson do", "[flags] COMMAND [ARGUMENT…]",
          "Runs a command in a throw-away sandbox whose root is the host's. It sees the host's files and changes none: "
          "what it writes is gone when it ends.");
  f.value("--cwd", cwd, "working directory (default: the current one)");
  f.list("-e,--env", env, "NAME=VALUE; may be repeated");
  f.flag("-T,--no-tty", no_tty, "no terminal of its own, even when this is run on one");
  add_sandbox_flags(f, sandbox);
  Args rest;
  if (!TRY(f.parse(args, &rest, true))) return 0;
  if (rest.empty()) return base::error(base::kEINVAL, "do: the command to run is missing");
  if (sandbox.overlay == "none") {
    return base::error(base::kEINVAL, "do --overlay={}: what `do` writes is always discarded", sandbox.overlay);
  }
  if (cwd.empty()) {
    char here[4096];
    cwd = ::getcwd(here, sizeof here) && here[0] == '/' ? here : "/";
  }
  if (cwd[0] != '/') return base::error(base::kEINVAL, "--cwd {}: must be an absolute path", cwd);

  oci::Spec s;
  s.version = "1.0.2";
  s.root_path = "/";
  s.hostname = "caisson";
  auto& p = s.process;
  p.args = rest;
  p.env = trimmed_environment();
  for (auto& e : env) p.env.push_back(e);
  p.cwd = cwd;
  p.terminal = !no_tty && ::isatty(0) && ::isatty(1);
  uint64_t all = (uint64_t{1} << oci::capability_names().size()) - 1;
  p.cap_bounding = p.cap_effective = p.cap_permitted = all;
  s.mounts = {{"/proc", "proc", "proc", {"nosuid", "nodev", "noexec"}},
              {"/dev", "tmpfs", "tmpfs", {"nosuid", "mode=755"}},
              {"/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
              {"/dev/shm", "tmpfs", "shm", {"nosuid", "nodev", "noexec", "mode=1777"}},
              {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "nodev", "noexec"}},
              {"/sys", "sysfs", "sysfs", {"nosuid", "nodev", "noexec", "ro"}}};

  if (sandbox.network != "host") s.namespaces.push_back({"network", ""});  // host: the caller's

  container::CreateOptions o;
  o.root = g.root;
  o.id = fresh_id();
  o.bundle = "/";
  o.foreground = true;
  o.debug = g.debug;
  o.spec = &s;
  // What it writes is discarded, whatever the file says.
  config::Config config = g.config;
  config.sandbox.overlay.clear();
  config::apply(config, sandbox, o);
  return run_container(o, false, false);
}

}  // namespace runtime::cmd
