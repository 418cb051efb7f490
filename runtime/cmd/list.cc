// SPDX-License-Identifier: Apache-2.0
// list: all containers of the state directory.
#include <nlohmann/json.hpp>

#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

base::ResultX<int> list(const Globals& g, const Args& args) {
  std::string format = "table";
  bool quiet = false;
  Flags f("caisson list", "[flags]", "Lists containers.");
  f.choice("-f,--format", format, {"table", "json"}, "table or json");
  f.flag("-q,--quiet", quiet, "ids only");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  if (!rest.empty()) return base::error(base::kEINVAL, "list: '{}' is one word too many", rest[0]);
  auto root = TRY(container::Root::open(g.root));
  std::vector<std::vector<std::string>> rows{{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  auto all = nlohmann::ordered_json::array();
  std::string out;
  for (auto& id : root.ids()) {
    auto d = container::Directory::open(root, id);
    if (!d.ok()) continue;  // deleted this moment
    auto s = d->load();
    if (!s.ok()) continue;
    auto j = nlohmann::ordered_json::parse(container::state_json(*s, container::find_status(*d, *s)), nullptr, false);
    if (quiet) out += id + "\n";
    rows.push_back({id, std::to_string(j.value("pid", 0)), j.value("status", ""), s->bundle, s->created, j.value("owner", "")});
    all.push_back(std::move(j));
  }
  if (format == "json" && !quiet) {
    out = all.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  } else if (!quiet) {
    for (auto& row : rows) {
      for (size_t c = 0; c < row.size(); c++) {
        size_t width = 0;
        for (auto& other : rows) width = std::max(width, other[c].size());
        out += row[c];
        if (c + 1 < row.size()) out.append(std::max<size_t>(width, 10) - row[c].size() + 2, ' ');
      }
      out += "\n";
    }
  }
  fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

}  // namespace runtime::cmd
