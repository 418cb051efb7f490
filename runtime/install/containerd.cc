// SPDX-License-Identifier: Apache-2.0
#include "runtime/install/containerd.h"

#include <optional>

#include "base/toml/document.h"

namespace runtime::install {

using base::ResultX;

namespace {

constexpr const char* kCri2 = "io.containerd.grpc.v1.cri";
constexpr const char* kCri3 = "io.containerd.cri.v1.runtime";
constexpr const char* kOptPlugin = "io.containerd.internal.v1.opt";

std::string begin_mark(const std::string& name) { return "# BEGIN caisson handler " + name + " (caisson uninstall takes it out)\n"; }
std::string end_mark(const std::string& name) { return "# END caisson handler " + name + "\n"; }

constexpr size_t kMaxFile = 4 << 20;

ResultX<toml::table> parse(std::string_view text, const std::string& path) { return base::parse_toml(text, path, kMaxFile); }

// A string in quotes, as TOML reads it back.
std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string handler_text(const Handler& h, int version) {
  std::string table = base::format("plugins.\"{}\".containerd.runtimes.{}", version >= 3 ? kCri3 : kCri2, h.name);
  std::string out = begin_mark(h.name) + "[" + table + "]\n" +
                    "  runtime_type = " + quoted(kRuntimeType) + "\n";
  if (!h.shim.empty()) out += "  runtime_path = " + quoted(h.shim) + "\n";
  out += "  pod_annotations = [\"dev.caisson.*\"]\n";
  if (!h.config_path.empty()) {
    out += "  [" + table + ".options]\n    TypeUrl = " + quoted(std::string(kRuntimeType) + ".options") + "\n    ConfigPath = " +
           quoted(h.config_path) + "\n";
  }
  return out + end_mark(h.name);
}

// The part between the marks, with them; nothing if they are not there.
struct Part {
  size_t from = 0, to = 0;
};
std::optional<Part> find_part(const std::string& text, const std::string& name) {
  std::string begin = begin_mark(name), end = end_mark(name);
  size_t from = text.rfind(begin);
  while (from != text.npos && from > 0 && text[from - 1] != '\n') from = from ? text.rfind(begin, from - 1) : text.npos;
  if (from == text.npos) return std::nullopt;
  size_t to = text.find("\n" + end, from);
  if (to == text.npos) return std::nullopt;
  return Part{from, to + 1 + end.size()};
}

void add_lines(Edit& e, char sign, const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    e.lines.push_back(sign + text.substr(at, end - at));
    at = end + 1;
  }
}

const char* cri_of(int version) { return version >= 3 ? kCri3 : kCri2; }

toml::table* runtimes_of(toml::table& t, int version) {
  toml::node* n = &t;
  for (const char* key : {"plugins", cri_of(version), "containerd", "runtimes"}) {
    toml::table* here = n->as_table();
    n = here ? here->get(key) : nullptr;
    if (!n) return nullptr;
  }
  return n->as_table();
}

// Takes the handler and the tables that hold nothing else away, so that two files can be compared without it.
toml::table without(toml::table t, int version, const std::string& name) {
  if (toml::table* r = runtimes_of(t, version)) r->erase(name);
  const std::vector<const char*> path{"plugins", cri_of(version), "containerd", "runtimes"};
  for (size_t depth = path.size(); depth > 0; depth--) {
    toml::table* at = &t;
    for (size_t i = 0; at && i + 1 < depth; i++) {
      toml::node* n = at->get(path[i]);
      at = n ? n->as_table() : nullptr;
    }
    toml::node* last = at ? at->get(path[depth - 1]) : nullptr;
    if (last && last->is_table() && last->as_table()->empty()) at->erase(path[depth - 1]);
  }
  return t;
}

ResultX<View> view_of(const toml::table& parsed, std::string_view text, const std::string& path) {
  toml::table t = parsed;
  View v;
  if (t.empty()) return v;
  v.version = static_cast<int>(t["version"].value_or<int64_t>(1));
  if (v.version != 2 && v.version != 3) {
    return base::error(base::kEOPNOTSUPP, "{} is of version {}: needs to be of version 2 or 3 (`containerd config migrate` of containerd 1.7 and "
                       "later prints it in a newer one; a file without the line `version = 2` is of version 1)", path, v.version);
  }
  v.opt = t["plugins"][kOptPlugin]["path"].value_or(v.opt);
  if (const toml::array* off = t["disabled_plugins"].as_array()) {
    for (auto& e : *off) {
      std::string name = e.value_or<std::string>("");
      if (name == kOptPlugin) v.opt = "";
      if (name == "cri" || name == cri_of(v.version)) v.cri_disabled = true;
    }
  }
  toml::table* runtimes = runtimes_of(t, v.version);
  if (!runtimes) return v;
  for (auto& [key, node] : *runtimes) {
    const toml::table* r = node.as_table();
    if (!r) continue;
    View::Runtime out;
    out.type = (*r)["runtime_type"].value_or<std::string>("");
    out.path = (*r)["runtime_path"].value_or<std::string>("");
    out.config_path = (*r)["options"]["ConfigPath"].value_or<std::string>("");
    if (const toml::array* list = (*r)["pod_annotations"].as_array()) {
      for (auto& e : *list) {
        if (e.value_or<std::string>("") == "dev.caisson.*") out.passes_annotations = true;
      }
    }
    out.marked = find_part(std::string(text), std::string(key.str())).has_value();
    v.runtimes.emplace(std::string(key.str()), std::move(out));
  }
  return v;
}

// The new text must say the same as the old one but for the handler.
ResultX<toml::table> verify(const toml::table& before, const std::string& text, const std::string& path, int version,
                            const std::string& name) {
  auto after = parse(text, path + " (as changed)");
  if (!after.ok()) return after.error();
  if (without(before, version, name) != without(*after, version, name)) {
    return base::error(base::kEIO, "{}: the changed text would change more than the handler", path);
  }
  return after;
}

}  // namespace

ResultX<View> look(std::string_view text, const std::string& path) { return view_of(TRY(parse(text, path)), text, path); }

ResultX<Edit> add_handler(const std::string& text, const std::string& path, const Handler& h) {
  toml::table before = TRY(parse(text, path));
  View v = TRY(view_of(before, text, path));
  Edit e;
  e.text = text;
  if (v.version == 0) {
    e.text += (text.empty() || text.back() == '\n' ? "" : "\n") + std::string("version = 2\n");
    e.lines.push_back("+version = 2");
    before.insert("version", int64_t{2});
    v.version = 2;
  }
  std::string wanted = handler_text(h, v.version);
  auto part = find_part(e.text, h.name);
  auto there = v.runtimes.find(h.name);
  if (!part && there != v.runtimes.end()) {
    if (there->second.type != kRuntimeType) {
      return base::error(base::kEEXIST, "{}: there is a handler {} of runtime_type \"{}\": take it out, or give another name with --handler", path,
                         h.name, there->second.type);
    }
    if (there->second.path == h.shim && there->second.config_path == h.config_path) return e;
    return base::error(base::kEEXIST, "{}: there is a handler {} that was written by hand, with other values: take it out, or change it to\n{}",
                       path, h.name, wanted);
  }
  if (part) {
    std::string old = e.text.substr(part->from, part->to - part->from);
    if (old == wanted) return e;
    add_lines(e, '-', old);
    e.text.replace(part->from, part->to - part->from, wanted);
  } else {
    if (!e.text.empty() && e.text.back() != '\n') e.text += '\n';
    e.text += "\n" + wanted;
  }
  add_lines(e, '+', wanted);
  auto after = verify(before, e.text, path, v.version, h.name);
  if (!after.ok()) {
    return base::error(base::kEOPNOTSUPP, "{}; write this where it belongs by hand:\n{}", after.error().text(), wanted);
  }
  View now = TRY(view_of(*after, e.text, path));
  auto& r = now.runtimes[h.name];
  if (r.type != kRuntimeType || r.path != h.shim || r.config_path != h.config_path || !r.passes_annotations || !r.marked) {
    return base::error(base::kEIO, "{}: the handler {} does not come out as it was meant; write it by hand:\n{}", path, h.name, wanted);
  }
  e.changed = true;
  return e;
}

ResultX<Edit> remove_handler(const std::string& text, const std::string& path, const std::string& name) {
  toml::table before = TRY(parse(text, path));
  Edit e;
  e.text = text;
  auto part = find_part(text, name);
  if (!part) {
    View v = TRY(view_of(before, text, path));
    if (!v.runtimes.count(name)) return e;
    return base::error(base::kEEXIST, "{}: the handler {} was not put in by `caisson install`: take it out by hand", path, name);
  }
  std::string old = text.substr(part->from, part->to - part->from);
  add_lines(e, '-', old);
  // With the empty line that came with it.
  size_t from = part->from;
  if (from >= 2 && text[from - 1] == '\n' && text[from - 2] == '\n') from--;
  e.text.erase(from, part->to - from);
  View v = TRY(view_of(before, text, path));
  auto after = verify(before, e.text, path, v.version, name);
  if (!after.ok()) return after.error();
  if (TRY(look(e.text, path)).runtimes.count(name)) {
    return base::error(base::kEIO, "{}: the handler {} is there twice: take it out by hand", path, name);
  }
  e.changed = true;
  return e;
}

}  // namespace runtime::install
