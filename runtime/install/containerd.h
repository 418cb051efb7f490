// SPDX-License-Identifier: Apache-2.0
// A handler in containerd's config.toml: looked at, put in and taken out as text, so that comments and order survive; what comes out is
// parsed again and must say what was meant and nothing else.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace runtime::install {

inline constexpr const char* kContainerdConfig = "/etc/containerd/config.toml";
inline constexpr const char* kRuntimeType = "io.containerd.caisson.v1";

struct Handler {
  std::string name = "caisson";
  std::string shim;         // runtime_path, which containerd 1.6 takes no notice of; "": containerd looks for the shim in its PATH
  std::string config_path;  // "": the default one
};

// What the file says that concerns us.
struct View {
  struct Runtime {
    std::string type, path, config_path;
    bool passes_annotations = false;  // pod_annotations has dev.caisson.*
    bool marked = false;              // was put in by `caisson install`
  };
  int version = 0;  // 0: the file says nothing at all
  bool cri_disabled = false;
  std::string opt = "/opt/containerd";  // containerd looks for programs in its bin before its PATH; "": it does not
  std::map<std::string, Runtime> runtimes;
};
base::ResultX<View> look(std::string_view text, const std::string& path);

struct Edit {
  std::string text;
  bool changed = false;
  std::vector<std::string> lines;  // "-…" and "+…": what goes and what comes
};
// Errors say what to write by hand where the text cannot be extended.
base::ResultX<Edit> add_handler(const std::string& text, const std::string& path, const Handler& h);
base::ResultX<Edit> remove_handler(const std::string& text, const std::string& path, const std::string& name);

}  // namespace runtime::install
