// SPDX-License-Identifier: Apache-2.0
// Warm-up, batches, quantiles. A batch is long enough that reading the clock does not count, and short enough that a disturbance
// spoils one batch of many.
#include "bench/inside/measure.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <thread>

namespace bench {

const char* self = nullptr;

namespace {

constexpr double kBatchNs = 50e3;
constexpr int kLongestBatch = 1000, kPoints = 21;
// A sandbox may change how it answers a call after some hundreds of them; a program that runs for a while sees the latter.
constexpr int kWarmRuns = 400;
constexpr size_t kFewestSamples = 5;

// Mean cost of the latest runs, after enough of them.
double warm_up(const Operation& o, double ns) {
  double begin = now_ns(), last = begin;
  int runs = 0;
  for (;;) {
    double from = now_ns();
    int n = std::max(1, runs / 2);
    for (int i = 0; i < n; i++) o.run();
    runs += n;
    last = now_ns();
    bool enough_time = last - begin > ns, enough_runs = runs >= kWarmRuns;
    if ((enough_time && enough_runs) || last - begin > 4 * ns) return (last - from) / n;
  }
}

void measure_alone(const Operation& o, const Budget& budget) {
  double ns = budget.ms * 1e6;
  double each = warm_up(o, ns / 4);
  int batch = std::clamp(static_cast<int>(kBatchNs / std::max(each, 1.0)), 1, kLongestBatch);
  std::vector<double> samples;
  double begin = now_ns(), end = begin;
  size_t runs = 0;
  while (end - begin < ns || (samples.size() < kFewestSamples && end - begin < 4 * ns)) {
    double from = now_ns();
    for (int i = 0; i < batch; i++) o.run();
    end = now_ns();
    runs += static_cast<size_t>(batch);
    samples.push_back((end - from) / batch);
  }
  double mean = (end - begin) / static_cast<double>(runs);
  if (budget.one_stretch) samples = {mean};
  print_points(o, std::move(samples), mean);
}

struct alignas(128) Counter {
  std::atomic<long> runs{0};
};

// All threads run it for as long as they are let; what one run costs is the time over the runs of all.
void measure_together(const Operation& o, const Budget& budget) {
  constexpr int kWindows = 20, kWarmWindows = 5, kStep = 16, kFewest = 5;
  constexpr double kPatienceNs = 30e9;  // on a machine where they hardly ever run
  auto counters = std::make_unique<Counter[]>(static_cast<size_t>(o.threads));
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < o.threads; t++) {
    threads.emplace_back([&, t] {
      auto& mine = counters[static_cast<size_t>(t)];
      try {
        if (o.prepare_thread) o.prepare_thread();
        while (!stop.load(std::memory_order_relaxed)) {
          for (int i = 0; i < kStep; i++) o.run();
          mine.runs.store(mine.runs.load(std::memory_order_relaxed) + kStep, std::memory_order_relaxed);
        }
      } catch (const std::exception&) {
        failed = errno;
      }
    });
  }
  auto total = [&] {
    long n = 0;
    for (int t = 0; t < o.threads; t++) n += counters[static_cast<size_t>(t)].runs.load(std::memory_order_relaxed);
    return n;
  };
  std::vector<double> samples;
  double begin = 0, from = 0;
  long at_begin = 0, before = 0;
  auto window = std::chrono::nanoseconds(static_cast<long>(budget.ms * 1e6 / kWindows));
  double until = now_ns() + kPatienceNs;
  for (int w = 0; !failed && now_ns() < until && (w <= kWarmWindows + kWindows || samples.size() < kFewest); w++) {
    std::this_thread::sleep_for(window);
    double now = now_ns();
    long runs = total();
    if (w == 0 || runs == before) continue;  // a window in which none ran goes into the next one
    if (begin == 0 && w >= kWarmWindows) begin = now, at_begin = runs;
    else if (begin > 0) samples.push_back((now - from) / static_cast<double>(runs - before));
    from = now, before = runs;
  }
  stop = true;
  for (auto& t : threads) t.join();
  if (failed) {
    errno = failed;
    need(false, "in a thread");
  }
  if (samples.empty()) throw std::runtime_error("the threads did not run once in the given time");
  double mean = (from - begin) / static_cast<double>(std::max(before - at_begin, 1L));
  if (budget.one_stretch) samples = {mean};
  print_points(o, std::move(samples), mean);
}

std::string head(const Operation& o) {
  return "{\"suite\":" + quoted(o.suite) + ",\"family\":" + quoted(o.family) + ",\"name\":" + quoted(o.name) + ",\"label\":" + quoted(o.label);
}

}  // namespace

void need(bool ok, const char* what) {
  if (ok) return;
  throw std::runtime_error(std::string(what) + ": " + strerror(errno));
}

double now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + '"';
}

void print_points(const Operation& o, std::vector<double> points, double mean) {
  std::sort(points.begin(), points.end());
  std::string line = head(o) + ",\"points\":[";
  size_t n = std::min<size_t>(points.size(), kPoints);
  for (size_t i = 0; i < n; i++) {
    size_t at = n == 1 ? points.size() / 2 : i * (points.size() - 1) / (n - 1);
    char number[32];
    snprintf(number, sizeof number, "%s%.1f", i ? "," : "", points[at]);
    line += number;
  }
  char tail[48];
  snprintf(tail, sizeof tail, "],\"mean\":%.1f}", mean);
  puts((line + tail).c_str());
  fflush(stdout);
}

void measure(const Operation& o, const Budget& budget) {
  try {
    if (o.prepare) o.prepare();
    if (o.threads == 1) measure_alone(o, budget);
    else measure_together(o, budget);
  } catch (const std::exception& e) {
    puts((head(o) + ",\"skipped\":" + quoted(e.what()) + "}").c_str());
    fflush(stdout);
  }
}

}  // namespace bench
