// SPDX-License-Identifier: Apache-2.0
// The table of verbs and what they share.
#include "runtime/cmd/command.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

namespace runtime::cmd {

using base::ResultX;

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      {"create", "make a container from a bundle; its program does not run yet", create},
      {"start", "run the program of a created container", start},
      {"run", "create and start a container, and wait for its end unless detached", run},
      {"exec", "run another program in a running container", exec},
      {"state", "print the state of a container as JSON", state},
      {"kill", "send a signal to a container's program", kill},
      {"delete", "remove a container and everything that belongs to it", delete_verb},
      {"list", "list containers", list},
      {"ps", "list the processes in a container", ps},
      {"pause", "stop all processes of a container from running", pause},
      {"resume", "let the processes of a paused container run again", resume},
      {"update", "change the limits of a container", update},
      {"events", "print figures of a container, and when it runs out of memory", events},
      {"spec", "write a config.json to start from", spec},
      {"do", "run a command in a throw-away sandbox over the host's root; what it writes is discarded", do_verb},
      {"features", "print what this runtime supports as JSON", features},
      {"checkpoint", "not supported", checkpoint},
      {"restore", "not supported", restore},
      {"completion", "print shell completion for bash", completion},
  };
  return all;
}

void add_sandbox_flags(Flags& f, SandboxOptions& o) {
  f.choice("--overlay", o.overlay, {"auto", "self", "none"},
           "where writes to the root go: self = a layer of the sandbox, gone with it; none = through to the root; auto = through for "
           "engines that keep and show the root (podman, Docker, nerdctl), else the layer");
  f.choice("--memory-mode", o.memory_mode, {"direct", "strict"},
           "direct = programs ask the host for their own memory; strict = each such call is checked first");
  f.choice("--patch-calls", o.patch_calls, {"on", "off"},
           "on = programs' often used system calls are patched in memory so that they need no trap; off = each one traps");
  f.choice("--network", o.network, {"auto", "host", "none"},
           "auto = sockets of the host in the spec's network namespace, none in a new one; host = in a new one too; none = loopback only");
  f.flag("--strace", o.strace, "log every system call of the container (to --debug-log)");
  f.value("--debug-log", o.debug_log, "file to which the sandbox's own programs log");
}

void apply_sandbox_options(const SandboxOptions& o, container::CreateOptions& c) {
  using namespace base::wire;
  if (o.overlay != "auto") c.overlay = o.overlay == "none" ? OverlayMode::none : OverlayMode::self;
  c.memory_mode = o.memory_mode == "strict" ? MemoryMode::strict : MemoryMode::direct;
  c.patch_calls = o.patch_calls == "on";
  c.network = o.network == "none"   ? container::Network::none
              : o.network == "host" ? container::Network::host
                                    : container::Network::by_spec;
  c.strace = o.strace;
  c.debug_log = o.debug_log;
}

ResultX<std::string> only_id(const Args& rest, const char* verb) {
  if (rest.empty()) return base::error(base::kEINVAL, "{}: the container's id is missing", verb);
  if (rest.size() > 1) return base::error(base::kEINVAL, "{}: '{}' is one word too many: only the container's id is wanted", verb, rest[1]);
  return rest[0];
}

ResultX<int> parse_signal(const std::string& text) {
  char* end = nullptr;
  long n = strtol(text.c_str(), &end, 10);
  if (!text.empty() && *end == 0) {
    if (n >= 1 && n <= 64) return static_cast<int>(n);
    return base::error(base::kEINVAL, "signal {} is not between 1 and 64", text);
  }
  std::string name = text;
  for (char& c : name) c = static_cast<char>(toupper(static_cast<unsigned char>(c)));
  if (name.rfind("SIG", 0) == 0) name = name.substr(3);
  if (name == "IOT") name = "ABRT";
  if (name == "POLL") name = "IO";
  if (name == "CLD") name = "CHLD";
  for (int s = 1; s < 32; s++) {
    const char* abbreviation = ::sigabbrev_np(s);
    if (abbreviation && name == abbreviation) return s;
  }
  // The kernel's real-time signals are 32 to 64; libc keeps two, so RTMIN is 34, as kill -l has it.
  for (auto [base_name, from, sign] : {std::tuple{"RTMIN", 34, 1}, std::tuple{"RTMAX", 64, -1}}) {
    size_t len = strlen(base_name);
    if (name.compare(0, len, base_name) != 0) continue;
    long off = 0;
    if (name.size() > len) {
      if (name[len] != (sign > 0 ? '+' : '-')) continue;
      off = strtol(name.c_str() + len + 1, &end, 10);
      if (*end) continue;
    }
    long s = from + sign * off;
    if (s >= 34 && s <= 64) return static_cast<int>(s);
  }
  return base::error(base::kEINVAL, "signal '{}' is not known: give a name such as TERM or a number from 1 to 64",
                     text.substr(0, 40));
}

int exit_code(int wait_status) {
  if (WIFSIGNALED(wait_status)) return 128 + WTERMSIG(wait_status);
  return WEXITSTATUS(wait_status);
}

}  // namespace runtime::cmd
