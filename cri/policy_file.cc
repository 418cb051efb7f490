// SPDX-License-Identifier: Apache-2.0
// Reading a policy file.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/sys.h"
#include "base/toml/document.h"
#include "base/words.h"
#include "cri/policy.h"

namespace cri {

using base::hint;
using base::joined;
using base::printable;
using base::ResultX;
using Place = base::TomlPlace;

namespace {

constexpr size_t kMaxFile = 1 << 20;
constexpr size_t kMaxRules = 256;    // each is a label of the metrics
constexpr size_t kMaxList = 1024;
constexpr size_t kMaxText = 1024;

ResultX<std::string> take_text(const toml::node& n, const Place& at, bool may_be_empty = false) {
  if (!n.is_string()) return at.error("must be a text in quotes");
  const std::string& s = n.as_string()->get();
  if (s.empty() && !may_be_empty) return at.error("must not be empty");
  if (s.size() > kMaxText || s.find('\0') != s.npos) return at.error("must have at most {} characters, and no zero", kMaxText);
  return std::string(s);
}

ResultX<std::vector<std::string>> take_list(const toml::node& n, const Place& at) {
  std::vector<std::string> out;
  if (n.is_string()) {
    out.push_back(TRY(take_text(n, at, true)));
    return out;
  }
  if (!n.is_array()) return at.error("must be a text or a list of texts");
  if (n.as_array()->size() > kMaxList) return at.error("must have at most {} entries", kMaxList);
  // An empty list would match nothing or everything, as one reads it.
  if (n.as_array()->empty()) return at.error("must not be empty; leave the key out");
  for (auto& e : *n.as_array()) out.push_back(TRY(take_text(e, at, true)));
  return out;
}

ResultX<std::vector<Danger>> take_dangers(const toml::node& n, const Place& at) {
  std::vector<Danger> out;
  if (n.is_array() && n.as_array()->empty()) return out;
  std::vector<std::string> known(kDangers.begin(), kDangers.end());
  for (auto& word : TRY(take_list(n, at))) {
    auto i = std::find(known.begin(), known.end(), word);
    if (i == known.end()) return at.error("'{}' is not known: {}", printable(word), hint(word, known));
    out.push_back(static_cast<Danger>(i - known.begin()));
  }
  return out;
}

ResultX<bool> take_bool(const toml::node& n, const Place& at) {
  if (!n.is_boolean()) return at.error("must be true or false (without quotes)");
  return bool(n.as_boolean()->get());
}

ResultX<std::string> take_path(const toml::node& n, const Place& at) {
  std::string p = TRY(take_text(n, at));
  while (p.size() > 1 && p.back() == '/') p.pop_back();
  if (p[0] != '/' || p == "/" || (p + "/").find("/../") != p.npos || (p + "/").find("/./") != p.npos || p.find("//") != p.npos)
    return at.error("'{}' must be an absolute path other than /, without . and ..", printable(p));
  return p;
}

ResultX<std::string> take_handler(const toml::node& n, const Place& at, bool may_be_empty = false) {
  std::string h = TRY(take_text(n, at, may_be_empty));
  bool good = h.size() <= 63 && std::all_of(h.begin(), h.end(), [](char c) { return isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_'; });
  if (!good) return at.error("'{}' is no name of a handler: letters, digits, '-', '.', '_', at most 63", printable(h));
  return h;
}

}  // namespace

struct PolicyReader {
  const std::string& path;
  Policy policy;

  Place at(const std::string& key, const toml::node& n) const { return {path, key, base::toml_line(n)}; }

  ResultX<void> read(const toml::table& t) {
    static const std::vector<std::string> kKnown = {"default_handler", "service_account_key", "sandbox", "rule"};
    for (auto& [k, n] : t) {
      std::string key(k.str());
      auto here = at(printable(key), n);
      if (key == "default_handler") policy.default_handler_ = TRY(take_handler(n, here, true));
      else if (key == "service_account_key") policy.account_key_ = TRY(take_text(n, here));
      else if (key == "sandbox") TRY(read_sandbox(n, here));
      else if (key == "rule") TRY(read_rules(n, here));
      else return here.error("there is no such key; {}", hint(key, kKnown));
    }
    return {};
  }

  ResultX<void> read_sandbox(const toml::node& node, const Place& place) {
    static const std::vector<std::string> kKnown = {"handlers", "runtime_type", "refuse", "host_paths", "kubelet_dir"};
    if (!node.is_table()) return place.error("must be a table: write [sandbox]");
    for (auto& [k, n] : *node.as_table()) {
      std::string key(k.str());
      auto here = at("sandbox." + printable(key), n);
      if (key == "handlers") {
        policy.handlers_.clear();
        if (!n.is_array() || n.as_array()->empty() || n.as_array()->size() > 16) return here.error("must be a list of 1 to 16 handlers, such as [\"caisson\"]");
        for (auto& e : *n.as_array()) policy.handlers_.push_back(TRY(take_handler(e, here)));
      } else if (key == "runtime_type") {
        policy.runtime_type_ = TRY(take_text(n, here));
      } else if (key == "refuse") {
        policy.refuse_ = TRY(take_dangers(n, here));
      } else if (key == "host_paths") {
        if (!n.is_array() || n.as_array()->size() > kMaxList) return here.error("must be a list of at most {} paths", kMaxList);
        for (auto& e : *n.as_array()) policy.host_paths_.push_back(TRY(take_path(e, here)));
      } else if (key == "kubelet_dir") {
        policy.kubelet_dir_ = TRY(take_path(n, here));
      } else {
        return here.error("there is no such key; {}", hint(key, kKnown));
      }
    }
    return {};
  }

  ResultX<void> read_rules(const toml::node& node, const Place& place) {
    auto* list = node.as_array();
    if (!list || !list->is_homogeneous<toml::table>()) return place.error("must be written as [[rule]], once for each rule");
    if (list->size() > kMaxRules) return place.error("there are {} rules, and may be {}", list->size(), kMaxRules);
    for (auto& n : *list) {
      Rule r = TRY(read_rule(*n.as_table(), at("rule", n)));
      for (auto& other : policy.rules_) {
        if (other.name == r.name) return at("rule.name", n).error("two rules are called '{}'", r.name);
      }
      policy.rules_.push_back(std::move(r));
    }
    return {};
  }

  ResultX<void> read_pairs(const toml::node& node, const Place& place, std::vector<std::pair<std::string, std::vector<std::string>>>& out) {
    if (!node.is_table() || node.as_table()->empty()) return place.error("must be a table of keys and values, such as {{ tier = \"untrusted\" }}");
    for (auto& [k, n] : *node.as_table()) {
      std::string key(k.str());
      out.emplace_back(key, TRY(take_list(n, at(place.key + "." + printable(key), n))));
    }
    return {};
  }

  ResultX<Rule> read_rule(const toml::table& t, const Place& place) {
    static const std::vector<std::string> kKnown = {"name",       "namespaces", "labels",       "annotations", "service_accounts", "images", "privileged",
                                                    "host_network", "host_pid",   "host_ipc",     "handler",     "named",            "refuse", "allow"};
    Rule r;
    bool named_given = false;
    for (auto& [k, n] : t) {
      std::string key(k.str());
      auto here = at("rule." + printable(key), n);
      if (key == "name") {
        r.name = TRY(take_text(n, here));
        if (r.name.size() > 64 || r.name != printable(r.name)) return here.error("must have at most 64 plain characters");
      } else if (key == "namespaces") {
        r.namespaces = TRY(take_list(n, here));
      } else if (key == "labels") {
        TRY(read_pairs(n, here, r.labels));
      } else if (key == "annotations") {
        TRY(read_pairs(n, here, r.annotations));
      } else if (key == "service_accounts") {
        r.service_accounts = TRY(take_list(n, here));
      } else if (key == "images") {
        r.images = TRY(take_list(n, here));
      } else if (key == "privileged") {
        r.privileged = TRY(take_bool(n, here));
      } else if (key == "host_network") {
        r.host_network = TRY(take_bool(n, here));
      } else if (key == "host_pid") {
        r.host_pid = TRY(take_bool(n, here));
      } else if (key == "host_ipc") {
        r.host_ipc = TRY(take_bool(n, here));
      } else if (key == "handler") {
        r.handler = TRY(take_handler(n, here));
      } else if (key == "refuse") {
        r.refuse = TRY(take_text(n, here));
      } else if (key == "allow") {
        r.allow = TRY(take_dangers(n, here));
      } else if (key == "named") {
        static const std::vector<std::string> kNamed = {"refuse", "keep", "replace"};
        std::string word = TRY(take_text(n, here));
        auto i = std::find(kNamed.begin(), kNamed.end(), word);
        if (i == kNamed.end()) return here.error("'{}' is not known: must be one of {}", printable(word), joined(kNamed));
        r.named = static_cast<Rule::Named>(i - kNamed.begin());
        named_given = true;
      } else {
        return here.error("there is no such key; {}", hint(key, kKnown));
      }
    }
    if (r.name.empty()) return place.error("needs a name");
    if (r.name == "default" || r.name == "named") return place.error("'{}' is what a decision without a rule is called: choose another name", r.name);
    if (!r.refuse.empty() && (!r.handler.empty() || named_given || !r.allow.empty()))
      return place.error("'{}' both refuses and chooses: give it refuse, or handler, named and allow", r.name);
    if (r.refuse.empty() && r.handler.empty() && r.allow.empty())
      return place.error("'{}' does nothing: give it handler = \"…\", refuse = \"why\" or allow = […]", r.name);
    if (named_given && r.handler.empty()) return place.error("'{}': named needs a handler", r.name);
    if (!r.images.empty() && named_given && r.named != Rule::Named::refuse)
      return place.error("'{}': an image is known when the pod runs already, so named can only be \"refuse\" beside images", r.name);
    return r;
  }
};

ResultX<Policy> Policy::parse(std::string_view text, const std::string& path) {
  toml::table t = TRY(base::parse_toml(text, path, kMaxFile));
  PolicyReader reader{path, {}};
  TRY(reader.read(t));
  return std::move(reader.policy);
}

ResultX<Policy> Policy::load(const std::string& path) {
  auto fd = TRY_MSG(base::sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK), "open policy {}", path);
  struct stat st;
  TRY_MSG(base::sys::fstat(fd.get(), &st), "look at policy {}", path);
  if (!S_ISREG(st.st_mode)) return base::error(base::kEINVAL, "policy {} is no regular file", path);
  if (st.st_mode & (S_IWGRP | S_IWOTH))
    return base::error(base::kEPERM, "policy {} may be written by others than its owner (mode {:o}): chmod go-w {}", path, st.st_mode & 07777, path);
  if (st.st_uid != 0 && st.st_uid != ::geteuid())
    return base::error(base::kEPERM, "policy {} belongs to user {}: it must be root's or that of caisson-cri", path, st.st_uid);
  auto text = TRY_MSG(base::sys::read_all(fd.get(), kMaxFile + 1), "read policy {}", path);
  return parse(text, path);
}

}  // namespace cri
