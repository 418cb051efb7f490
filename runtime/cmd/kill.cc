// SPDX-License-Identifier: Apache-2.0
// kill: a signal to the container's program, or to all its processes.
#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

base::ResultX<int> kill(const Globals& g, const Args& args) {
  bool all = false;
  Flags f("caisson kill", "[flags] ID [SIGNAL]", "Sends a signal (TERM if none is named) to a container's program.");
  f.flag("-a,--all", all, "to every process of the container");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  if (rest.size() > 2) return base::error(base::kEINVAL, "kill: '{}' is one word too many", rest[2]);
  int signo = TRY(parse_signal(rest.size() == 2 ? rest[1] : "TERM"));
  if (rest.size() == 2) rest.pop_back();
  std::string id = TRY(only_id(rest, "kill"));
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  auto s = TRY(d.load());
  TRY(container::signal_container(d, s, signo, all));
  return 0;
}

}  // namespace runtime::cmd
