// SPDX-License-Identifier: Apache-2.0
// pause and resume: the freezer holds the sandbox's own processes as well, so nothing runs at all. Of a container of a pod it holds
// what is that container's alone.
#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

namespace {

base::ResultX<int> freeze(const Globals& g, const Args& args, bool on) {
  const char* verb = on ? "pause" : "resume";
  Flags f(base::format("caisson {}", verb), "ID", on ? "Stops all processes of a container from running."
                                                    : "Lets the processes of a paused container run again.");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  std::string id = TRY(only_id(rest, verb));
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  TRY(d.lock(4000));
  auto s = TRY(d.load());
  auto status = container::find_status(d, s);
  bool fits = on ? status == container::Status::running || status == container::Status::created
                 : status == container::Status::paused;
  if (!fits) {
    return base::error(base::kEINVAL, "container '{}' cannot be {}d: it is {}", id, verb, container::status_name(status));
  }
  TRY(container::freeze_container(d, s, on));
  return 0;
}

}  // namespace

base::ResultX<int> pause(const Globals& g, const Args& args) { return freeze(g, args, true); }
base::ResultX<int> resume(const Globals& g, const Args& args) { return freeze(g, args, false); }

}  // namespace runtime::cmd
