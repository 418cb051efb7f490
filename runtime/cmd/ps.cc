// SPDX-License-Identifier: Apache-2.0
// ps: the processes inside, with the pids they have there.
#include <nlohmann/json.hpp>

#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

namespace wire = base::wire;

base::ResultX<int> ps(const Globals& g, const Args& args) {
  std::string format = "table";
  Flags f("caisson ps", "[flags] ID", "Lists the processes in a container, by the pids they have inside.");
  f.choice("-f,--format", format, {"table", "json"}, "table or json");
  Args rest;
  if (!TRY(f.parse(args, &rest, true))) return 0;
  if (rest.size() > 1) rest.resize(1);  // flags of ps(1), which some callers add
  std::string id = TRY(only_id(rest, "ps"));
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  auto s = TRY(d.load());
  auto status = container::find_status(d, s);
  if (status != container::Status::running && status != container::Status::created) {
    return base::error(base::kEINVAL, "container '{}' is {}", id, container::status_name(status));
  }
  auto client = TRY(container::connect_to(d, s));
  auto reply = TRY(client.call<wire::ProcessesReply>(wire::ControlOp::kProcesses, wire::IdRequest{id}, 3000));
  std::string out;
  if (format == "json") {
    auto pids = nlohmann::json::array();
    for (auto& p : reply.list) pids.push_back(p.pid);
    out = pids.dump() + "\n";
  } else {
    out = base::format("{:>8} {:>8} {:>8} {:>7}  {}\n", "UID", "PID", "PPID", "THREADS", "CMD");
    for (auto& p : reply.list) {
      std::string command;
      for (char c : p.command) command += static_cast<unsigned char>(c) >= 0x20 && c != 0x7f ? c : '?';
      out += base::format("{:>8} {:>8} {:>8} {:>7}  {}\n", p.uid, p.pid, p.ppid, p.threads, command);
    }
  }
  fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

}  // namespace runtime::cmd
