// SPDX-License-Identifier: Apache-2.0
// What was measured, and the three forms in which it is told.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/bench/stats.h"

namespace runtime::bench {

// One operation: samples by the number of the runtime. Less is better, always.
struct Row {
  std::string family, name, label;
  Unit unit = Unit::ns;
  std::map<size_t, std::vector<double>> samples;
  // Whether its ratios count in the mean of the suite.
  bool counted = true;
};

struct Table {
  std::string suite, cpus, title;
  std::vector<Row> rows;
  Row& row(const std::string& family, const std::string& name, const std::string& label, Unit unit = Unit::ns);
};

struct Contender {
  std::string name, command, version;
};

using Facts = std::vector<std::pair<std::string, std::string>>;  // name, words; in this order

struct Report {
  std::string caisson_version, when;
  Facts machine;
  std::vector<Contender> contenders;
  std::vector<Table> tables;
  std::vector<std::string> skipped, broken;
  double seconds = 0;
  int rounds = 0;
  bool quick = false, interrupted = false;
};

// Of one row: the ratio of medians to the first runtime's; 0 where one of the two is missing.
double ratio(const Row& r, size_t contender);
// Geometric mean of the ratios of a table's rows; 0 if there is none.
double mean_ratio(const Table& t, size_t contender);

std::string as_text(const Report& r);
std::string table_as_text(const Report& r, const Table& t);
std::string as_json(const Report& r);
std::string as_html(const Report& r);

}  // namespace runtime::bench
