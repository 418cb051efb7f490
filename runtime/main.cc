// SPDX-License-Identifier: Apache-2.0
// caisson: the flags before the verb, and how an error reaches a person and the log.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/cmd/command.h"
#include "runtime/host/launch.h"

namespace {

using namespace runtime::cmd;

constexpr int kLogAt = 64;

void print(const std::string& text) { fwrite(text.data(), 1, text.size(), stdout); }

void print_version() {
  print(base::format("caisson version {}\nspec: 1.2.0\n", kVersion));
}

std::string verbs_text() {
  std::string out = "Runs OCI containers on a kernel of their own.\n\nVerbs (caisson VERB --help tells more):\n";
  for (auto& c : commands()) out += base::format("  {:<12}{}\n", c.name, c.synopsis);
  out += "\nFlags before the verb:";
  return out;
}

bool host_root() { return ::geteuid() == 0 && !runtime::host::in_user_namespace(); }

std::string default_root() {
  if (host_root()) return "/run/caisson";
  const char* dir = ::getenv("XDG_RUNTIME_DIR");
  if (dir && dir[0] == '/') return std::string(dir) + "/caisson";
  return base::format("/tmp/caisson-{}", ::geteuid());
}

// A caller may have closed them; a file opened later must not become standard output.
void ensure_stdio() {
  for (int fd = 0; fd < 3; fd++) {
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) < 0) ::_exit(1);
  }
}

base::ResultX<void> open_log(const Globals& g) {
  int fd = 2;
  if (!g.log.empty()) {
    auto f = TRY_MSG(base::sys::open(g.log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644), "open --log {}", g.log);
    // For as long as the program runs, and where --preserve-fds never reaches.
    fd = TRY_MSG(base::sys::dup_cloexec(f.get(), kLogAt), "open --log {}", g.log).release();
  }
  base::log_init("caisson", fd, g.debug ? base::LogLevel::debug : base::LogLevel::warn,
                 g.log_format == "json" ? base::LogFormat::json : base::LogFormat::text);
  return {};
}

int report(const Globals& g, const base::Error& e, int code) {
  // Engines read the last line of the log; a person reads standard error.
  if (!g.log.empty() || g.log_format == "json") LOG(error, "{}", e.text());
  if (!g.log.empty() || g.log_format != "json") {
    std::string line = "caisson: " + e.text() + "\n";
    IGNORE_ERROR(base::sys::write_all(2, line.data(), line.size()), "nobody reads");
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  ensure_stdio();
  Globals g;
  bool version = false;
  std::string rootless, criu;
  Flags f("caisson", "[flags] VERB [flags of the verb] …", verbs_text());
  f.flag("-v,--version", version, "print the version");
  f.value("--config", g.config_path, base::format("configuration file (default: {}, if it is there)", runtime::config::kDefaultPath));
  f.value("--root", g.root, base::format("directory for the state of containers (default: {})", default_root()));
  f.value("--log", g.log, "file for messages of this program (default: standard error)");
  f.choice("--log-format", g.log_format, {"text", "json"}, "text or json");
  f.flag("--debug", g.debug, "tell more");
  f.flag("--systemd-cgroup", g.systemd_cgroup, "let systemd make the cgroup, as a scope; linux.cgroupsPath is slice:prefix:name");
  f.value("--criu", criu, "accepted; checkpoints are not supported");
  f.value("--rootless", rootless, "accepted; whether this runs as root decides");
  add_sandbox_flags(f, g.sandbox);
  Args rest;
  auto parsed = f.parse(Args(argv + 1, argv + argc), &rest, true);
  if (!parsed.ok()) return report(g, parsed.error(), kExitFailure);
  if (!*parsed) return 0;
  if (version) {
    print_version();
    return 0;
  }
  auto config = runtime::config::load_config(g.config_path);
  if (config.ok()) g.config = *config;
  bool root_given = !g.root.empty();
  // The file speaks for the host's root alone.
  if (g.root.empty() && host_root()) g.root = g.config.root;
  if (g.root.empty()) g.root = default_root();
  g.debug = g.debug || g.config.debug;
  if (auto opened = open_log(g); !opened.ok()) {
    g.log.clear();
    return report(g, opened.error(), kExitFailure);
  }
  if (rest.empty()) {
    return report(g, base::error(base::kEINVAL, "a verb is missing, such as run: see caisson --help"), kExitFailure);
  }
  std::string verb = rest.front();
  rest.erase(rest.begin());
  if (verb == "help") {
    IGNORE_ERROR(f.parse({"--help"}, &rest, true), "help is printed");
    return 0;
  }
  for (auto& c : commands()) {
    if (verb != c.name) continue;
    // Whoever knows where a container is can look at it and remove it, whatever became of the file.
    if (!config.ok() && (c.needs == Needs::config || (c.needs == Needs::root && !root_given))) {
      return report(g, config.error(), verb == "exec" ? kExitExecFailure : kExitFailure);
    }
    auto r = c.run(g, rest);
    fflush(stdout);
    if (!r.ok()) return report(g, r.error(), verb == "exec" ? kExitExecFailure : kExitFailure);
    return *r;
  }
  return report(g, base::error(base::kEINVAL, "'{}' is no verb: see caisson --help", verb), kExitNoVerb);
}
