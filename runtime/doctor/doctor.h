// SPDX-License-Identifier: Apache-2.0
// Whether this host can run sandboxes: each thing that sentry, gofer and runtime need of it, tried where it can be tried.
#pragma once

#include <string>
#include <vector>

#include "runtime/config/config.h"

namespace runtime::doctor {

// warn: it works, but something is slower, weaker or missing. fail: sandboxes do not work, or not as asked.
enum class Status { ok, warn, fail };
struct Finding {
  std::string check;   // a short name that stays
  Status status = Status::ok;
  std::string found;
  std::string advice;  // what to do; "" when all is well
};
using Findings = std::vector<Finding>;

struct Options {
  std::string config_path;        // as --config gave it
  std::string containerd_config;
  std::string handler;
  bool trial = true;              // run a sandbox
};

Findings examine(const Options& o);
int exit_code(const Findings& f);
std::string as_text(const Findings& f);
std::string as_json(const Findings& f);

// The parts of it.
void look_at_kernel(Findings& out);       // processor, release, calls
void look_at_namespaces(Findings& out);   // and capabilities
void look_at_limits(Findings& out);       // yama, sysctls
void look_at_cgroups(Findings& out);
void look_at_programs(Findings& out);
void look_at_config(const Options& o, Findings& out);
void look_at_containerd(const Options& o, Findings& out);
void try_a_sandbox(const Options& o, Findings& out);

// Of what `containerd --version` says: Debian's words have 1.6.20, upstream's v1.6.20.
bool is_containerd_1_6(std::string_view version);

// The version in a program's text, "" if there is none.
std::string version_mark(std::string_view program);

}  // namespace runtime::doctor
