// SPDX-License-Identifier: Apache-2.0
// The operations that caisson-bench measures, and how: each is warmed up, then run in batches until its time is over, and told as
// one line of JSON with points of the distribution of its batches.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace bench {

struct Operation {
  const char* suite;   // syscall, file
  const char* family;  // a heading of the table
  const char* name;    // short and unchanging
  const char* label;   // for a person
  void (*run)();
  void (*prepare)() = nullptr;  // once, before it is measured; may fail with need()
  int threads = 1;              // that do it at once; each calls prepare_thread first
  void (*prepare_thread)() = nullptr;
};

// Each file of operations adds its own.
void add_call_operations(std::vector<Operation>& all);
void add_process_operations(std::vector<Operation>& all);
void add_file_operations(std::vector<Operation>& all);

// Throws what errno says, unless ok: the operation is then told as one that cannot be done here.
void need(bool ok, const char* what);
double now_ns();
// The program's own path, for those that execute it.
extern const char* self;

struct Budget {
  double ms = 100;        // for each operation
  bool one_stretch = false;  // one mean over the whole time, which a quota's pauses are part of
};
void measure(const Operation& o, const Budget& budget);

// "…" with what JSON wants escaped.
std::string quoted(const std::string& text);
// The line of JSON that tells it; points: sorted by the callee, and thinned out to 21 quantiles.
void print_points(const Operation& o, std::vector<double> points, double mean);

}  // namespace bench
