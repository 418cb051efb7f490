// SPDX-License-Identifier: Apache-2.0
#include "runtime/bench/options.h"

#include <stdlib.h>

#include <algorithm>

namespace runtime::bench {

using base::ResultX;

namespace {

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  size_t from = 0;
  for (;;) {
    size_t to = text.find(at, from);
    out.push_back(text.substr(from, to - from));
    if (to == text.npos) return out;
    from = to + 1;
  }
}

}  // namespace

ResultX<RuntimeSpec> parse_runtime(const std::string& text) {
  size_t eq = text.find('=');
  RuntimeSpec r;
  r.name = text.substr(0, eq);
  bool plain = !r.name.empty() && std::all_of(r.name.begin(), r.name.end(), [](unsigned char c) { return isalnum(c) || c == '-' || c == '_' || c == '.'; });
  if (eq == text.npos || !plain || r.name.size() > 20) {
    return base::error(base::kEINVAL, "--runtime {}: must be NAME=PATH[,flag…], with at most 20 letters, digits, '-', '_' and '.' in the name, "
                       "as in runsc=/usr/bin/runsc,--network=none", text);
  }
  r.command = split(text.substr(eq + 1), ',');
  if (r.command[0].empty()) return base::error(base::kEINVAL, "--runtime {}: the path after '=' is empty", text);
  if (r.command[0] == "chroot") {
    if (r.command.size() > 1) return base::error(base::kEINVAL, "--runtime {}: chroot takes no flags", text);
    r.command.clear();
  }
  return r;
}

std::string Cpus::text() const { return kind == Kind::all ? "all" : kind == Kind::one ? "one" : base::format("quota:{:g}", quota); }
std::string Cpus::label() const {
  return kind == Kind::all ? "all CPUs" : kind == Kind::one ? "one CPU" : base::format("a quota of {:g} CPU{}", quota, quota == 1 ? "" : "s");
}

ResultX<Cpus> parse_cpus(const std::string& text) {
  if (text == "all") return Cpus{};
  if (text == "one") return Cpus{Cpus::Kind::one, 0};
  if (text.rfind("quota:", 0) == 0) {
    char* end = nullptr;
    double q = strtod(text.c_str() + 6, &end);
    if (text.size() > 6 && *end == 0 && q >= 0.05 && q <= 1024) return Cpus{Cpus::Kind::quota, q};
  }
  return base::error(base::kEINVAL, "--cpus {}: must be all, one, or quota:N with N CPUs from 0.05 to 1024, as in quota:0.5", text);
}

const std::vector<std::string>& suite_names() {
  static const std::vector<std::string> all = {"syscall", "start", "memory", "file", "app"};
  return all;
}

ResultX<std::vector<std::string>> parse_suites(const std::string& text) {
  auto asked = split(text, ',');
  auto& all = suite_names();
  for (auto& s : asked) {
    if (std::find(all.begin(), all.end(), s) != all.end()) continue;
    std::string known;
    for (auto& k : all) known += (known.empty() ? "" : ", ") + k;
    return base::error(base::kEINVAL, "--suite {}: '{}' is none of {}", text, s, known);
  }
  std::vector<std::string> out;
  for (auto& k : all) {
    if (std::find(asked.begin(), asked.end(), k) != asked.end()) out.push_back(k);
  }
  return out;
}

ResultX<std::vector<std::string>> parse_names(const std::string& text) {
  auto names = split(text, ',');
  for (auto& n : names) {
    bool plain = !n.empty() && std::all_of(n.begin(), n.end(), [](unsigned char c) { return isalnum(c) || c == '_'; });
    if (!plain) return base::error(base::kEINVAL, "--only {}: must be names as --json has them, with ',' between them, as in stat,pipe_1b", text);
  }
  return names;
}

}  // namespace runtime::bench
