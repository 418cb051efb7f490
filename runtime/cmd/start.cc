// SPDX-License-Identifier: Apache-2.0
// start: the program of a created container begins to run.
#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

base::ResultX<int> start(const Globals& g, const Args& args) {
  Flags f("caisson start", "ID", "Runs the program of a created container.");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  std::string id = TRY(only_id(rest, "start"));
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  TRY(d.lock(4000));
  auto s = TRY(d.load());
  TRY(container::start_container(d, s));
  return 0;
}

}  // namespace runtime::cmd
