// SPDX-License-Identifier: Apache-2.0
// What `caisson bench` is asked to do.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace runtime::bench {

// A runtime to be measured. No command: no runtime but a plain chroot, natively.
struct RuntimeSpec {
  std::string name;
  std::vector<std::string> command;
  bool operator==(const RuntimeSpec&) const = default;
};
// "NAME=PATH[,flag…]"; the path "chroot" has no command.
base::ResultX<RuntimeSpec> parse_runtime(const std::string& text);

// Which processors the programs get: all, the first alone, or so much time of all of them.
struct Cpus {
  enum class Kind { all, one, quota } kind = Kind::all;
  double quota = 0;
  std::string text() const;   // as it is given: "quota:0.5"
  std::string label() const;  // "a quota of 0.5 CPUs"
  bool operator==(const Cpus&) const = default;
};
base::ResultX<Cpus> parse_cpus(const std::string& text);

// Known suites, in the order in which they run.
const std::vector<std::string>& suite_names();
// "syscall,start"; answers them in that order, each once.
base::ResultX<std::vector<std::string>> parse_suites(const std::string& text);

// "a,b": words that are not empty.
base::ResultX<std::vector<std::string>> parse_names(const std::string& text);

struct Options {
  std::vector<std::string> suites;
  std::vector<RuntimeSpec> runtimes;  // the first is what the others are compared with
  std::vector<Cpus> cpus;             // for syscall, file and app
  std::vector<std::string> only;      // names of operations and programs of syscall, file and app; empty: all
  std::vector<std::string> rootfs;    // for app: directories with programs
  int rounds = 3;
  bool quick = false;
  bool drop_caches = false;
};

}  // namespace runtime::bench
