// SPDX-License-Identifier: Apache-2.0
// Putting the handler into a host's containerd, and the programs where it finds them; and taking both away again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/install/containerd.h"

namespace runtime::install {

// What belongs together. The last ones are not always built.
struct ProgramName {
  const char* name;
  bool needed;
};
const std::vector<ProgramName>& program_names();
inline constexpr const char* kShim = "containerd-shim-caisson-v1";

struct Options {
  std::string host;               // where the root of the host to be changed is seen, "": it is ours
  std::string containerd_config;  // as that host calls it
  Handler handler;
  std::string copy_to;            // directory for the programs, "": they stay where they are
  std::string then;               // command for a shell when containerd's configuration has changed
  bool dry_run = false, force = false;
};

// What was done, a line each. With dry_run: what would be.
using Report = std::vector<std::string>;
base::ResultX<Report> install(const Options& o);
base::ResultX<Report> uninstall(const Options& o);

// The file of that name beside the running program or in ../libexec/caisson, or "" (see host::find_program).
std::string find_beside(const std::string& name);
// Whether containerd finds programs of this directory by name alone.
bool in_usual_path(const std::string& directory);
// Containers of containerd's that are there, as namespace/id.
std::vector<std::string> containers_of_shim(const std::string& host);

}  // namespace runtime::install
