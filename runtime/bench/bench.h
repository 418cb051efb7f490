// SPDX-License-Identifier: Apache-2.0
// The suites: what is done, how often, in which order.
#pragma once

#include "runtime/bench/options.h"
#include "runtime/bench/report.h"

namespace runtime::bench {

// Does all of it, tells on standard error how far it is, and takes away what it made. The text of each table goes to
// standard output as soon as it is whole. An error: nothing could be measured. What broke on the way is in the report.
base::ResultX<Report> measure(const Options& o);

// One line of the program inside, put into the table; what it skipped into `skipped`. False: it is no such line.
bool take_line(const std::string& line, bool stretch, size_t contender, Table& table, std::vector<std::string>& skipped);

}  // namespace runtime::bench
