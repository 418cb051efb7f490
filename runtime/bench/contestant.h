// SPDX-License-Identifier: Apache-2.0
// One runtime of the comparison: it makes bundles for it and calls it as an engine would. A plain chroot stands in where there is none.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "runtime/bench/child.h"
#include "runtime/bench/options.h"

namespace runtime::bench {

// A program in a container.
struct Job {
  std::string root;               // directory
  std::vector<std::string> args;
  Cpus cpus;
};

class Contestant {
 public:
  // scratch: a directory for bundles and state, which exists.
  Contestant(RuntimeSpec spec, std::string scratch);
  const std::string& name() const { return spec_.name; }
  // A container from start to end.
  Output run(const Job& job);

  // The life of containers: nothing but for runtimes.
  bool has_life() const { return !spec_.command.empty(); }
  // A bundle's id; its output goes to output(id).
  std::string prepare(const Job& job);
  std::vector<Output> create(const std::vector<std::string>& ids);
  std::vector<Output> begin(const std::vector<std::string>& ids);
  Output exec(const std::string& id, const std::vector<std::string>& args);
  std::vector<Output> remove(const std::vector<std::string>& ids);
  // Starts programs that stay, and waits until each has said "ready"; what went wrong, or "".
  std::string hold(const Job& job, int count, std::vector<std::string>* ids);
  void end(const std::vector<std::string>& ids);
  // Takes away whatever is still there.
  void clean_up();

 private:
  std::vector<std::string> argv(std::vector<std::string> words) const;
  std::vector<Output> each(const std::vector<std::string>& ids, const std::function<std::vector<std::string>(const std::string&)>& words);
  std::string directory(const std::string& id) const { return scratch_ + "/" + id; }
  std::string output(const std::string& id) const { return directory(id) + "/output"; }
  Output chrooted(const Job& job);
  How chroot_how(const Job& job) const;
  void forget(const std::string& id);

  RuntimeSpec spec_;
  std::string scratch_;
  std::set<std::string> there_;
  int count_ = 0;
};

// Groups of ours that a runtime left: one that is busy for a moment may be given up.
void remove_left_groups();

// The config.json of such a container.
std::string bundle_config(const Job& job);

}  // namespace runtime::bench
