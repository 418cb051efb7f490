// SPDX-License-Identifier: Apache-2.0
// The configuration file of `caisson` and of the shim: what it may say (one table, from which the flags and the man page come too),
// and how flags, the annotations of a container and the file become the options of a container. docs/config.md.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "runtime/container/create.h"

namespace runtime::config {

inline constexpr const char* kDefaultPath = "/etc/caisson/config.toml";
inline constexpr const char* kPathVariable = "CAISSON_CONFIG";
inline constexpr std::string_view kAnnotationPrefix = "dev.caisson.";
inline constexpr size_t kMaxFile = 1 << 20;

// How sandboxes are made. "" means that nothing is said here, and who comes next decides.
struct SandboxOptions {
  std::string overlay, memory_mode, patch_calls, network, strace, debug_log;
};

struct Config {
  std::string path;  // "": there is no file
  std::string root;
  bool debug = false;
  SandboxOptions sandbox;
  // For containers whose spec names none.
  std::optional<int64_t> memory, pids;
  std::vector<std::string> allowed;  // annotations, by their whole names
  std::string shim_root;
  int shim_version = 0;
};

enum class Kind { choice, on_off, path, size, count, names };
struct Value {
  std::string text;  // as SandboxOptions have it
  int64_t number = 0;
  bool on = false;
  std::vector<std::string> names;
};
// One key of the file.
struct Key {
  const char* table;  // "": before all tables
  const char* name;
  Kind kind;
  std::vector<std::string> values;  // of a choice
  const char* fallback;             // what holds when nobody says anything, for a person
  const char* help;
  void (*set)(Config& c, const Value& v);
  std::string SandboxOptions::*option = nullptr;  // it is a flag too: --name, with - for _
  bool annotation = false;                        // and may be allowed as an annotation: dev.caisson.name, with - for _
};
const std::vector<Key>& keys();
// memory_mode -> memory-mode
std::string dashed(std::string_view name);

// Errors name the file, the line, what is known, and the nearest name.
base::ResultX<Config> parse_config(std::string_view text, const std::string& path);
// path "": the file that CAISSON_CONFIG names, else the default one, which need not be there. The file must belong to root (or to the
// caller), and nobody else may write it.
base::ResultX<Config> load_config(const std::string& path);

// Options of the containers that this config makes; flags come first, then a container's annotations, then the file.
void apply(const Config& c, const SandboxOptions& flags, container::CreateOptions& o);
// What a container's annotations say, checked against the names that are allowed.
base::ResultX<SandboxOptions> read_annotations(const Config& c, const std::map<std::string, std::string>& annotations);

// "512m", "2GiB", "1048576", "-1"; 1024 to the step, as engines write sizes. Nothing: it is no such text; -2: too large.
std::optional<int64_t> parse_size(const std::string& text);

}  // namespace runtime::config
