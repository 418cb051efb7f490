// SPDX-License-Identifier: Apache-2.0
// state: one container as JSON. Takes no lock, so it answers while the container is being made.
#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

base::ResultX<int> state(const Globals& g, const Args& args) {
  Flags f("caisson state", "ID", "Prints the state of a container as JSON.");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  std::string id = TRY(only_id(rest, "state"));
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  auto s = TRY(d.load());
  std::string json = container::state_json(s, container::find_status(d, s)) + "\n";
  fwrite(json.data(), 1, json.size(), stdout);
  return 0;
}

}  // namespace runtime::cmd
