// SPDX-License-Identifier: Apache-2.0
// Reading the file.
#include "runtime/config/config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/sys.h"
#include "base/toml/document.h"
#include "base/words.h"
#include "runtime/host/launch.h"

namespace runtime::config {

using base::hint;
using base::joined;
using base::printable;
using base::ResultX;
using Place = base::TomlPlace;

namespace {

std::vector<std::string> annotation_names() {
  std::vector<std::string> out;
  for (auto& k : keys()) {
    if (k.annotation) out.push_back(std::string(kAnnotationPrefix) + dashed(k.name));
  }
  return out;
}

ResultX<std::vector<std::string>> take_names(const toml::node& n, const Place& at) {
  const toml::array* list = n.as_array();
  if (!list) return at.error("must be a list of names of annotations, such as [\"dev.caisson.network\"]");
  std::vector<std::string> out, known = annotation_names();
  for (auto& e : *list) {
    if (!e.is_string()) return at.error("must hold strings only");
    std::string name = e.as_string()->get();
    if (name == "dev.caisson.*") {
      out.insert(out.end(), known.begin(), known.end());
    } else if (std::find(known.begin(), known.end(), name) != known.end()) {
      out.push_back(name);
    } else {
      return at.error("there is no annotation {}: {}", printable(name), hint(name, known));
    }
  }
  return out;
}

ResultX<Value> take(const Key& k, const toml::node& n, const Place& at) {
  Value v;
  switch (k.kind) {
    case Kind::choice: {
      if (n.is_string()) v.text = n.as_string()->get();
      else if (n.is_integer()) v.text = std::to_string(n.as_integer()->get());
      if (std::find(k.values.begin(), k.values.end(), v.text) == k.values.end()) {
        return at.error("'{}' is not known: must be one of {}", printable(v.text), joined(k.values));
      }
      return v;
    }
    case Kind::on_off:
      if (!n.is_boolean()) return at.error("must be true or false (without quotes)");
      v.on = n.as_boolean()->get();
      v.text = v.on ? "on" : "off";
      return v;
    case Kind::path:
      if (n.is_string()) v.text = n.as_string()->get();
      if (v.text.empty() || v.text[0] != '/' || v.text.find('\0') != v.text.npos) {
        return at.error("'{}' is no path: must begin with /", printable(v.text));
      }
      return v;
    case Kind::size: {
      auto bytes = n.is_integer()  ? std::optional<int64_t>(n.as_integer()->get())
                   : n.is_string() ? parse_size(n.as_string()->get())
                                   : std::nullopt;
      constexpr int64_t kLeast = 1 << 20;
      if (!bytes || *bytes < kLeast) return at.error("must be a number of bytes or a size such as \"512m\", at least 1m");
      v.number = *bytes;
      return v;
    }
    case Kind::count:
      if (!n.is_integer() || n.as_integer()->get() < 1) return at.error("must be a number, 1 or more");
      v.number = n.as_integer()->get();
      return v;
    case Kind::names:
      v.names = TRY(take_names(n, at));
      return v;
  }
  return v;
}

// The keys of one table; "" is the top.
ResultX<void> take_table(const toml::table& t, const std::string& name, Config& c) {
  std::vector<std::string> here, tables;
  for (auto& k : keys()) {
    if (name == k.table) here.push_back(k.name);
    if (*k.table && std::find(tables.begin(), tables.end(), k.table) == tables.end()) tables.push_back(k.table);
  }
  for (auto& [key, node] : t) {
    std::string word(key.str());
    Place at{c.path, (name.empty() ? "" : name + ".") + printable(word), base::toml_line(node)};
    if (name.empty() && std::find(tables.begin(), tables.end(), word) != tables.end()) {
      if (!node.is_table()) return at.error("must be a table: write [{}]", word);
      TRY(take_table(*node.as_table(), word, c));
      continue;
    }
    auto k = std::find_if(keys().begin(), keys().end(), [&](const Key& x) { return name == x.table && word == x.name; });
    if (k == keys().end()) {
      std::vector<std::string> names = here;
      if (name.empty()) names.insert(names.end(), tables.begin(), tables.end());
      // A key in the wrong table is told where it belongs.
      for (auto& other : keys()) {
        if (word == other.name) return at.error("there is no such key here; it belongs into {}", *other.table ? base::format("[{}]", other.table) : "the top of the file");
      }
      return at.error("there is no such key; {}", hint(word, names));
    }
    Value v = TRY(take(*k, node, at));
    k->set(c, v);
  }
  return {};
}

ResultX<void> check_owner(int fd, const std::string& path) {
  struct stat st;
  TRY_MSG(base::sys::fstat(fd, &st), "look at {}", path);
  if (!S_ISREG(st.st_mode)) return base::error(base::kEINVAL, "{} is no regular file", path);
  // Host root is nobody in a user namespace.
  constexpr uid_t kOverflow = 65534;
  bool ours = st.st_uid == 0 || st.st_uid == ::geteuid() || (st.st_uid == kOverflow && host::in_user_namespace());
  if (ours && !(st.st_mode & 022)) return {};
  return base::error(base::kEPERM, "{} belongs to user {} and has mode {:04o}: it must belong to root and be writable by its owner alone "
                     "(chown root {}; chmod 644 {})", path, st.st_uid, st.st_mode & 07777, path, path);
}

}  // namespace

std::string dashed(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

ResultX<Config> parse_config(std::string_view text, const std::string& path) {
  Config c;
  c.path = path;
  toml::table t = TRY(base::parse_toml(text, path, kMaxFile));
  TRY(take_table(t, "", c));
  return c;
}

ResultX<Config> load_config(const std::string& given) {
  std::string path = given;
  const char* named = ::getenv(kPathVariable);
  if (path.empty() && named) path = named;
  bool asked = !path.empty();
  if (!asked) path = kDefaultPath;
  auto fd = base::sys::open(path.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK);
  if (!fd.ok() && !asked && fd.error() == base::kENOENT) return Config();
  if (!fd.ok()) return base::wrap(fd.error(), "open the configuration " + path);
  TRY(check_owner(fd->get(), path));
  auto text = base::sys::read_all(fd->get(), kMaxFile);
  if (!text.ok()) return base::wrap(text.error(), "read the configuration " + path);
  return parse_config(*text, path);
}

std::optional<int64_t> parse_size(const std::string& text) {
  if (text == "-1") return int64_t{-1};
  char* end = nullptr;
  double v = strtod(text.c_str(), &end);
  std::string unit = end;
  for (char& c : unit) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  while (!unit.empty() && unit[0] == ' ') unit.erase(0, 1);
  if (!unit.empty() && unit.back() == 'b') unit.pop_back();
  if (!unit.empty() && unit.back() == 'i') unit.pop_back();
  static constexpr std::string_view kUnits = "kmgtp";
  int steps = 0;
  if (unit.size() == 1 && kUnits.find(unit[0]) != kUnits.npos) steps = static_cast<int>(kUnits.find(unit[0])) + 1;
  else if (!unit.empty()) steps = -1;
  if (text.empty() || end == text.c_str() || steps < 0 || !(v >= 0) || v > 1e18) return std::nullopt;
  for (int i = 0; i < steps; i++) v *= 1024;
  if (v > 9e18) return int64_t{-2};
  return static_cast<int64_t>(v);
}

ResultX<SandboxOptions> read_annotations(const Config& c, const std::map<std::string, std::string>& annotations) {
  SandboxOptions out;
  for (auto& [name, value] : annotations) {
    if (name.compare(0, kAnnotationPrefix.size(), kAnnotationPrefix) != 0) continue;
    std::string own = name.substr(kAnnotationPrefix.size());
    auto k = std::find_if(keys().begin(), keys().end(), [&](const Key& x) { return x.annotation && own == dashed(x.name); });
    if (k == keys().end()) return base::error(base::kEINVAL, "there is no annotation {}: {}", printable(name), hint(name, annotation_names()));
    if (std::find(c.allowed.begin(), c.allowed.end(), name) == c.allowed.end()) {
      return base::error(base::kEPERM, "annotation {} is not allowed on this host: remove it, or have it named in [annotations] allow of {}",
                         name, c.path.empty() ? kDefaultPath : c.path);
    }
    std::vector<std::string> values = k->kind == Kind::on_off ? std::vector<std::string>{"on", "off"} : k->values;
    std::string text = k->kind != Kind::on_off ? value : value == "true" ? "on" : value == "false" ? "off" : value;
    if (std::find(values.begin(), values.end(), text) == values.end()) {
      return base::error(base::kEINVAL, "annotation {}: '{}' is not known: must be one of {}", name, printable(value, 80), joined(values));
    }
    out.*k->option = text;
  }
  return out;
}

}  // namespace runtime::config
