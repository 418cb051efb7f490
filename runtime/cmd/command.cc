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
      {"create", "make a container from a bundle; its program does not run yet", create, Needs::config},
      {"start", "run the program of a created container", start},
      {"run", "create and start a container, and wait for its end unless detached", run, Needs::config},
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
      {"spec", "write a config.json to start from", spec, Needs::nothing},
      {"do", "run a command in a throw-away sandbox over the host's root; what it writes is discarded", do_verb, Needs::config},
      {"features", "print what this runtime supports as JSON", features, Needs::nothing},
      {"checkpoint", "not supported", checkpoint, Needs::nothing},
      {"restore", "not supported", restore, Needs::nothing},
      {"doctor", "look whether this host can run sandboxes, and say what to do", doctor_verb, Needs::nothing},
      {"bench", "measure what sandboxing costs on this machine, beside runc and other runtimes", bench_verb, Needs::nothing},
      {"install", "make Caisson a handler of containerd's", install_verb, Needs::nothing},
      {"uninstall", "take that out again", uninstall_verb, Needs::nothing},
      {"completion", "print shell completion for bash", completion, Needs::nothing},
  };
  return all;
}

void add_sandbox_flags(Flags& f, SandboxOptions& o) {
  for (auto& k : config::keys()) {
    if (!k.option) continue;
    std::string name = "--" + config::dashed(k.name), &value = o.*k.option;
    if (k.kind == config::Kind::choice) f.choice(name, value, k.values, k.help);
    else if (k.kind != config::Kind::on_off) f.value(name, value, k.help);
    else if (std::string_view(k.fallback) == "false") f.constant(name, value, "on", k.help);
    else f.choice(name, value, {"on", "off"}, k.help);
  }
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
    if (n >= 0 && n <= 64) return static_cast<int>(n);
    return base::error(base::kEINVAL, "signal {} is not between 0 and 64", text);
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
