// SPDX-License-Identifier: Apache-2.0
// The report as text for a terminal, and as JSON.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "runtime/bench/report.h"

namespace runtime::bench {

using nlohmann::ordered_json;

namespace {

constexpr size_t kNarrowest = 38, kValue = 10, kRatio = 8;

std::string left(std::string s, size_t width) { return s.size() < width ? s + std::string(width - s.size(), ' ') : s; }
std::string right(const std::string& s, size_t width) { return s.size() < width ? std::string(width - s.size(), ' ') + s : s; }

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

Row& Table::row(const std::string& family, const std::string& name, const std::string& label, Unit unit) {
  for (auto& r : rows) {
    if (r.name == name) return r;
  }
  rows.push_back({family, name, label, unit, {}, true});
  return rows.back();
}

double ratio(const Row& r, size_t contender) {
  auto first = r.samples.find(0), it = r.samples.find(contender);
  if (first == r.samples.end() || it == r.samples.end()) return 0;
  double reference = summarize(first->second).median;
  return reference > 0 ? summarize(it->second).median / reference : 0;
}

double mean_ratio(const Table& t, size_t contender) {
  std::vector<double> ratios;
  for (auto& r : t.rows) {
    if (r.counted) ratios.push_back(ratio(r, contender));
  }
  return geometric_mean(ratios);
}

std::string table_as_text(const Report& r, const Table& t) {
  size_t width = kNarrowest;
  for (auto& row : t.rows) width = std::max(width, row.label.size() + 3);
  std::string out = "\n" + t.title + "\n";
  std::string head = left(base::format("median, and times {}'s", r.contenders[0].name), width);
  for (size_t c = 0; c < r.contenders.size(); c++) head += right(r.contenders[c].name, kValue + (c ? kRatio : 0));
  out += trimmed(head);
  std::string family;
  for (auto& row : t.rows) {
    if (row.family != family) out += " " + (family = row.family) + "\n";
    std::string line = left("   " + row.label, width);
    for (size_t c = 0; c < r.contenders.size(); c++) {
      auto it = row.samples.find(c);
      line += right(it == row.samples.end() ? "-" : human(summarize(it->second).median, row.unit), kValue);
      double x = ratio(row, c);
      if (c) line += right(x > 0 ? human_ratio(x) : "", kRatio);
    }
    out += trimmed(line);
  }
  std::string line = left(" geometric mean", width) + right("1.0x", kValue);
  for (size_t c = 1; c < r.contenders.size(); c++) {
    double x = mean_ratio(t, c);
    line += right(x > 0 ? human_ratio(x) : "-", kValue + kRatio);
  }
  return out + trimmed(line);
}

std::string as_text(const Report& r) {
  std::string out = "\nIn short: how many times the cost under " + r.contenders[0].name + " (geometric means; below 1x is cheaper)\n";
  std::string head = left("", kNarrowest);
  for (size_t c = 1; c < r.contenders.size(); c++) head += right(r.contenders[c].name, kValue + kRatio);
  out += trimmed(head);
  for (auto& t : r.tables) {
    std::string line = left("   " + t.title, kNarrowest);
    for (size_t c = 1; c < r.contenders.size(); c++) {
      double x = mean_ratio(t, c);
      line += right(x > 0 ? human_ratio(x) : "-", kValue + kRatio);
    }
    out += trimmed(line);
  }
  out += "\n";
  for (auto& [name, words] : r.machine) out += left(name, 14) + words + "\n";
  for (auto& c : r.contenders) out += left(c.name, 14) + c.command + (c.version.empty() ? "" : " (" + c.version + ")") + "\n";
  out += base::format("{:<14}{} round{}{}, {:.0f} s{}\n", "run", r.rounds, r.rounds == 1 ? "" : "s", r.quick ? ", quick" : "", r.seconds,
                      r.interrupted ? ", INTERRUPTED: the figures are not complete" : "");
  for (auto& s : r.skipped) out += left("skipped", 14) + s + "\n";
  for (auto& s : r.broken) out += left("BROKEN", 14) + s + "\n";
  return out;
}

std::string as_json(const Report& r) {
  ordered_json j;
  j["format"] = 1;
  j["caisson"] = r.caisson_version;
  j["when"] = r.when;
  j["seconds"] = r.seconds;
  j["rounds"] = r.rounds;
  j["quick"] = r.quick;
  j["interrupted"] = r.interrupted;
  j["machine"] = ordered_json::object();
  for (auto& [name, words] : r.machine) j["machine"][name] = words;
  j["runtimes"] = ordered_json::array();
  for (auto& c : r.contenders) j["runtimes"].push_back({{"name", c.name}, {"command", c.command}, {"version", c.version}});
  j["tables"] = ordered_json::array();
  for (auto& t : r.tables) {
    ordered_json table{{"suite", t.suite}, {"cpus", t.cpus}, {"title", t.title}};
    table["geometric_mean"] = ordered_json::object();
    for (size_t c = 0; c < r.contenders.size(); c++) {
      if (double x = mean_ratio(t, c); x > 0) table["geometric_mean"][r.contenders[c].name] = x;
    }
    table["rows"] = ordered_json::array();
    for (auto& row : t.rows) {
      ordered_json one{{"family", row.family}, {"name", row.name}, {"label", row.label}, {"unit", row.unit == Unit::ns ? "ns" : "bytes"}};
      one["results"] = ordered_json::object();
      for (auto& [c, samples] : row.samples) {
        auto s = summarize(samples);
        ordered_json result{{"min", s.min}, {"q1", s.q1}, {"median", s.median}, {"q3", s.q3}, {"max", s.max}, {"samples", s.samples}};
        if (double x = ratio(row, c); x > 0) result["ratio"] = x;
        one["results"][r.contenders[c].name] = std::move(result);
      }
      table["rows"].push_back(std::move(one));
    }
    j["tables"].push_back(std::move(table));
  }
  j["skipped"] = r.skipped;
  j["broken"] = r.broken;
  return j.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace runtime::bench
