// SPDX-License-Identifier: Apache-2.0
// Figures of a benchmark: what is told of many samples, and how numbers are written for a person.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace runtime::bench {

struct Summary {
  double min = 0, q1 = 0, median = 0, q3 = 0, max = 0;
  size_t samples = 0;
};
// Quartiles by linear interpolation. No samples: all 0.
Summary summarize(std::vector<double> samples);
// Of values above 0; 0 for none.
double geometric_mean(const std::vector<double>& values);

enum class Unit { ns, bytes };
// Three digits and a unit: "163 ns", "4.78 us", "2.70 MB".
std::string human(double value, Unit unit);
// "0.31x", "1.6x", "14x".
std::string human_ratio(double ratio);

}  // namespace runtime::bench
