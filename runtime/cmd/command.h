// SPDX-License-Identifier: Apache-2.0
// What all verbs share: the flags before the verb, and the shape of a verb.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "runtime/cmd/flags.h"
#include "runtime/config/config.h"

namespace runtime::cmd {

using config::SandboxOptions;

struct Globals {
  std::string root, log, log_format = "text";
  bool debug = false, systemd_cgroup = false;
  // How sandboxes are made; before the verb (where an engine's configuration puts it) or after it.
  SandboxOptions sandbox;
  std::string config_path;  // as --config gave it
  config::Config config;
};

using Args = std::vector<std::string>;

// What a verb takes from the configuration file: nothing; the place of the state, for which --root does as well; or all.
enum class Needs { nothing, root, config };
struct Command {
  const char* name;
  const char* synopsis;
  // The exit code, or what to print.
  base::ResultX<int> (*run)(const Globals& g, const Args& args);
  Needs needs = Needs::root;
};
const std::vector<Command>& commands();

inline constexpr const char* kVersion = "0.1.0";

// Exit codes as runc has them: an exec that cannot be done is 255, everything else 1.
inline constexpr int kExitFailure = 1, kExitNoVerb = 3, kExitExecFailure = 255;

void add_sandbox_flags(Flags& f, SandboxOptions& o);

// Exactly one word: the id.
base::ResultX<std::string> only_id(const Args& rest, const char* verb);
// "KILL", "SIGKILL", "9", "RTMIN+2".
base::ResultX<int> parse_signal(const std::string& text);
// An exit code from a wait(2) status, as a shell would show it.
int exit_code(int wait_status);

// create, start and, unless detached, wait and (unless keep) delete.
base::ResultX<int> run_container(const container::CreateOptions& options, bool detach, bool keep);

base::ResultX<int> create(const Globals&, const Args&);
base::ResultX<int> run(const Globals&, const Args&);
base::ResultX<int> start(const Globals&, const Args&);
base::ResultX<int> state(const Globals&, const Args&);
base::ResultX<int> kill(const Globals&, const Args&);
base::ResultX<int> delete_verb(const Globals&, const Args&);
base::ResultX<int> exec(const Globals&, const Args&);
base::ResultX<int> list(const Globals&, const Args&);
base::ResultX<int> ps(const Globals&, const Args&);
base::ResultX<int> pause(const Globals&, const Args&);
base::ResultX<int> resume(const Globals&, const Args&);
base::ResultX<int> update(const Globals&, const Args&);
base::ResultX<int> events(const Globals&, const Args&);
base::ResultX<int> spec(const Globals&, const Args&);
base::ResultX<int> features(const Globals&, const Args&);
base::ResultX<int> do_verb(const Globals&, const Args&);
base::ResultX<int> checkpoint(const Globals&, const Args&);
base::ResultX<int> restore(const Globals&, const Args&);
base::ResultX<int> install_verb(const Globals&, const Args&);
base::ResultX<int> uninstall_verb(const Globals&, const Args&);
base::ResultX<int> doctor_verb(const Globals&, const Args&);
base::ResultX<int> bench_verb(const Globals&, const Args&);
base::ResultX<int> completion(const Globals&, const Args&);

}  // namespace runtime::cmd
