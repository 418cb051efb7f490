// SPDX-License-Identifier: Apache-2.0
// Programs that the benchmark starts and waits for. Everything they leave behind becomes a child of ours, so that it can be counted and
// taken away.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace runtime::bench {

// This process gets the orphans of its children, a mount namespace of its own, and is told of ^C (see stopped()) instead of being ended.
base::ResultX<void> prepare_process();
// Whether somebody wants this to end.
bool stopped();

struct Child {
  int pid = -1;
  int out = -1, err = -1;  // what it writes; -1: elsewhere
};
struct How {
  bool first_cpu = false;              // on one processor alone
  std::string output;                  // file for both streams, instead of keeping them apart for us
  std::function<const char*()> enter;  // in the child, before the program; what failed, or nullptr
};
struct Output {
  int status = -1;  // as wait(2) tells it; -1 if it did not end in time
  std::string out, err;
  double ns = 0;    // from before its birth to after its end; of many: to the end of the last
  bool ok() const { return status == 0; }
  // "exit code 3: the last words on standard error".
  std::string problem() const;
};

Child start(const std::vector<std::string>& words, const How& how);
// Waits for all of them, and reaps whatever else ends. Those not ended after patience_s, or when this is stopped(), are killed.
std::vector<Output> wait_all(std::vector<Child> children, double began, int patience_s);
Output run(const std::vector<std::string>& words, const How& how = {}, int patience_s = 300);
double now_ns();
// Sleeps, reaping; shorter when stopped.
void rest(int ms);

// What lives below this process.
std::vector<int> descendants();
struct Use {
  double pss = 0, private_dirty = 0, cpu_ns = 0;
  int processes = 0;
};
Use used_by(const std::vector<int>& pids);
// Kills all that lives below this process, and waits for it.
void end_descendants();

}  // namespace runtime::bench
