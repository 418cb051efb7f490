// SPDX-License-Identifier: Apache-2.0
// The command line of caisson-cri.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/error.h"

namespace cri {

inline constexpr const char* kVersion = "0.1.0";

struct Options {
  std::string listen = "/run/caisson/cri.sock";
  std::string backend = "/run/containerd/containerd.sock";
  std::string policy;       // empty: --no-policy
  std::string metrics;      // address for /metrics and /healthz; empty: none
  std::string check;        // only look at this file
  mode_t mode = 0660;
  uid_t owner = uid_t(-1);
  gid_t group = gid_t(-1);
  int grace = 20;           // seconds for calls that run when the program is to stop
  std::string log_level = "info";
  bool json_log = false;
};

// No value: help or the version was asked for and printed.
base::ResultX<std::optional<Options>> parse_options(int argc, char** argv);

}  // namespace cri
