// SPDX-License-Identifier: Apache-2.0
// install and uninstall: Caisson as a handler of containerd's.
#include "runtime/cmd/command.h"
#include "runtime/install/install.h"

namespace runtime::cmd {

namespace {

void add_flags(Flags& f, install::Options& o) {
  o.containerd_config = install::kContainerdConfig;
  f.value("--containerd-config", o.containerd_config, base::format("containerd's configuration (default: {})", install::kContainerdConfig));
  f.value("--handler", o.handler.name, "name of the handler, as a RuntimeClass has it (default: caisson)");
  f.value("--host", o.host, "directory where the root of the host to be changed is mounted (default: the host is this one)");
  f.value("--then", o.then, "command for a shell when containerd's configuration was changed; if it fails, the change is taken back");
  f.flag("--dry-run", o.dry_run, "say what would be done, and do nothing");
}

base::ResultX<int> finish(base::ResultX<install::Report> report) {
  if (!report.ok()) return report.error();
  std::string out;
  for (auto& line : *report) out += line + "\n";
  fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

base::ResultX<void> no_rest(const Args& rest, const char* verb) {
  if (rest.empty()) return {};
  return base::error(base::kEINVAL, "{}: '{}' is one word too many", verb, rest[0]);
}

}  // namespace

base::ResultX<int> install_verb(const Globals&, const Args& args) {
  install::Options o;
  Flags f("caisson install", "[flags]",
          "Adds a handler for Caisson to containerd's configuration (of version 2 or 3), and says what it changed. What is there stays as it is, "
          "comments too, and a copy of it is kept. Run again, it changes nothing.");
  add_flags(f, o);
  f.value("--copy-to", o.copy_to, "copy Caisson's programs to this directory of the host first");
  f.value("--shim", o.handler.shim, base::format("path of {} (default: beside this program, or as --copy-to says)", install::kShim));
  f.value("--config-path", o.handler.config_path,
          base::format("configuration file of this handler's containers (default: {})", config::kDefaultPath));
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  TRY(no_rest(rest, "install"));
  return finish(install::install(o));
}

base::ResultX<int> uninstall_verb(const Globals&, const Args& args) {
  install::Options o;
  Flags f("caisson uninstall", "[flags]", "Takes out of containerd's configuration what `caisson install` put in.");
  add_flags(f, o);
  f.value("--copy-to", o.copy_to, "remove Caisson's programs from this directory of the host");
  f.flag("--force", o.force, "although there are containers of Caisson's");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  TRY(no_rest(rest, "uninstall"));
  return finish(install::uninstall(o));
}

}  // namespace runtime::cmd
