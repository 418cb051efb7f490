// SPDX-License-Identifier: Apache-2.0
// containerd-shim-caisson-v1: called by containerd for runtime type io.containerd.caisson.v1. docs/shim.md.
#include <stdio.h>

#include "base/sys.h"
#include "shim/command.h"

namespace {

base::ResultX<void> run(const std::vector<std::string>& words) {
  auto a = TRY(shim::parse_arguments(words));
  if (a.version) {
    printf("containerd-shim-caisson-v1:\n  Version: %s\n", shim::kVersion);
    return {};
  }
  if (a.info) return shim::print_info();
  if (a.action == "start") return shim::start(a);
  if (a.action == "delete" || a.action == "serve") TRY(shim::check_names(a));
  if (a.action == "delete") return shim::clean_up(a);
  if (a.action == "serve") return shim::serve(a);
  return base::error(base::kEINVAL, "'{}': containerd calls this program with start or delete; people may with -v", a.action);
}

}  // namespace

int main(int argc, char** argv) {
  base::log_init("caisson-shim", 2, base::LogLevel::warn);
  auto r = run({argv + 1, argv + argc});
  if (r.ok()) return 0;
  std::string line = "containerd-shim-caisson-v1: " + r.error().text() + "\n";
  IGNORE_ERROR(base::sys::write_all(2, line.data(), line.size()), "nobody reads");
  return 1;
}
