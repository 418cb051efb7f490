// SPDX-License-Identifier: Apache-2.0
// doctor: what this host lacks, and what to do about it.
#include "runtime/cmd/command.h"
#include "runtime/doctor/doctor.h"
#include "runtime/install/containerd.h"

namespace runtime::cmd {

base::ResultX<int> doctor_verb(const Globals& g, const Args& args) {
  doctor::Options o;
  o.config_path = g.config_path;
  o.containerd_config = install::kContainerdConfig;
  o.handler = "caisson";
  std::string format = "text";
  bool no_trial = false;
  Flags f("caisson doctor", "[flags]",
          "Looks whether this host can run sandboxes: processor, kernel, namespaces, control groups, settings, Caisson's own programs and "
          "configuration, containerd; and runs a program in a sandbox. Exit code 1 when a check failed.");
  f.choice("-f,--format", format, {"text", "json"}, "text or json");
  f.value("--containerd-config", o.containerd_config, base::format("containerd's configuration (default: {})", install::kContainerdConfig));
  f.value("--handler", o.handler, "name of the handler in it (default: caisson)");
  f.flag("--no-trial", no_trial, "do not run a sandbox");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  if (!rest.empty()) return base::error(base::kEINVAL, "doctor: '{}' is one word too many", rest[0]);
  o.trial = !no_trial;
  auto findings = doctor::examine(o);
  std::string text = format == "json" ? doctor::as_json(findings) : doctor::as_text(findings);
  fwrite(text.data(), 1, text.size(), stdout);
  return doctor::exit_code(findings);
}

}  // namespace runtime::cmd
