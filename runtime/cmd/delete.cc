// SPDX-License-Identifier: Apache-2.0
// delete: processes, cgroups, mounts, files, all of it.
#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

base::ResultX<int> delete_verb(const Globals& g, const Args& args) {
  bool force = false;
  Flags f("caisson delete", "[flags] ID", "Removes a container that is stopped (or was never started).");
  f.flag("-f,--force", force, "a running one too; one that does not exist is no failure");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  std::string id = TRY(only_id(rest, "delete"));
  auto root = TRY(container::Root::open(g.root));
  TRY(container::delete_container(root, id, force));
  return 0;
}

}  // namespace runtime::cmd
