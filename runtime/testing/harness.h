// SPDX-License-Identifier: Apache-2.0
// For tests that run the real caisson with stand-ins for sentry, gofer and zygote: bundles, running a command line,
// and counting what is left on the host.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace runtime::testing {

struct Outcome {
  int code = -1;  // exit code, or 128 + signal
  std::string out, err;
  // The value of a "key=value" line of `out`; "(none)" without one.
  std::string value(const std::string& key) const;
};

// A directory of its own, removed in the end.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  std::string path;
};

// A bundle whose config can be edited before it is written.
struct Bundle {
  explicit Bundle(const Scratch& s, const std::string& name = "bundle");
  void args(std::vector<std::string> a) { config["process"]["args"] = std::move(a); write(); }
  void edit(const std::function<void(nlohmann::json&)>& f) { f(config); write(); }
  void write() const;
  std::string path;
  nlohmann::json config;
};

// What exists on the host that a container could leave behind.
struct Leftovers {
  size_t mounts = 0, processes = 0, cgroups = 0, state_files = 0, stores = 0;
  friend bool operator==(const Leftovers&, const Leftovers&) = default;
  std::string text() const;
};

class Caisson {
 public:
  explicit Caisson(const Scratch& s) : root(s.path + "/state") {}
  // Runs caisson --root ROOT ARGS… to its end. The environment is ours but for `libexec` and `env`.
  Outcome operator()(std::vector<std::string> args, const std::string& input = "") const;
  // Starts it with its output to pipes; finish() waits.
  struct Running {
    int pid = -1, out = -1, err = -1;
  };
  Running start(std::vector<std::string> args, const std::string& input = "") const;
  static Outcome finish(Running r);
  Leftovers leftovers() const;
  std::string status(const std::string& id) const;
  int pid(const std::string& id) const;

  std::string root;
  std::string libexec;                       // default: the stand-ins
  std::vector<std::pair<std::string, std::string>> env;
  int uid = -1;                              // run as this user
};

// Waits until f() or 5 s have passed.
bool eventually(const std::function<bool()>& f);
std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& text);

}  // namespace runtime::testing
