// SPDX-License-Identifier: Apache-2.0
#include "runtime/bench/stats.h"

#include <algorithm>
#include <cmath>

#include "base/log.h"

namespace runtime::bench {

namespace {

double quantile(const std::vector<double>& sorted, double q) {
  double at = q * static_cast<double>(sorted.size() - 1);
  auto low = static_cast<size_t>(at);
  size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - static_cast<double>(low));
}

std::string three_digits(double v) { return v < 9.995 ? base::format("{:.2f}", v) : v < 99.95 ? base::format("{:.1f}", v) : base::format("{:.0f}", v); }

}  // namespace

Summary summarize(std::vector<double> samples) {
  Summary s;
  s.samples = samples.size();
  if (samples.empty()) return s;
  std::sort(samples.begin(), samples.end());
  s.min = samples.front();
  s.q1 = quantile(samples, 0.25);
  s.median = quantile(samples, 0.5);
  s.q3 = quantile(samples, 0.75);
  s.max = samples.back();
  return s;
}

double geometric_mean(const std::vector<double>& values) {
  double sum = 0;
  size_t n = 0;
  for (double v : values) {
    if (!(v > 0)) continue;
    sum += std::log(v);
    n++;
  }
  return n ? std::exp(sum / static_cast<double>(n)) : 0;
}

std::string human(double value, Unit unit) {
  static constexpr const char* kTimes[] = {"ns", "us", "ms", "s"};
  static constexpr const char* kBytes[] = {"B", "kB", "MB", "GB"};
  size_t i = 0;
  double v = value;
  while (i < 3 && std::fabs(v) >= 999.5) v /= 1000, i++;
  std::string number = i == 0 && (unit == Unit::bytes || v >= 99.95 || v == std::floor(v)) ? base::format("{:.0f}", v) : three_digits(v);
  return number + " " + (unit == Unit::ns ? kTimes[i] : kBytes[i]);
}

std::string human_ratio(double ratio) {
  if (ratio > 0 && ratio < 0.005) return "<0.01x";
  return (ratio < 0.995 ? base::format("{:.2f}", ratio) : ratio < 9.95 ? base::format("{:.1f}", ratio) : base::format("{:.0f}", ratio)) + "x";
}

}  // namespace runtime::bench
