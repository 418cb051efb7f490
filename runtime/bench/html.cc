// SPDX-License-Identifier: Apache-2.0
// The report as one page: what it comes to, a chart for each table, all figures, the machine. No script, nothing from elsewhere.
#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "runtime/bench/report.h"

namespace runtime::bench {

namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1d2430; --soft: #647084; --line: #dfe3ea; --grid: #eceff4; --paper: #ffffff; --card: #f6f8fb; --good: #14804a; --bad: #b3261e;
  --c0: #8a94a6; --c1: #0b6bcb; --c2: #d97706; --c3: #7c3aed; --c4: #0f9488; --c5: #be185d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf0; --soft: #9aa5b8; --line: #333b49; --grid: #262c37; --paper: #14181f; --card: #1c212b; --good: #4ade80; --bad: #f87171;
  --c0: #8a94a6; --c1: #5aa9f5; --c2: #f5a742; --c3: #a98bfa; --c4: #2dd4bf; --c5: #f472b6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; } h2 { font-size: 19px; margin: 44px 0 2px; }
p { margin: 4px 0 12px; } .soft { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); gap: 12px; margin: 18px 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.card h3 { font-size: 13px; font-weight: 600; color: var(--soft); margin: 0 0 4px; }
.card div { display: flex; justify-content: space-between; align-items: baseline; } .card b { font-size: 22px; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 6px; }
.legend span { margin-right: 18px; white-space: nowrap; }
svg { display: block; width: 100%; height: auto; } svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg .s { fill: var(--soft); font-size: 12px; } svg .f { font-weight: 600; fill: var(--soft); font-size: 12px; } svg .n { font-variant-numeric: tabular-nums; text-anchor: end; font-size: 12px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; } td, th { padding: 3px 8px; text-align: right; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; } details { margin: 10px 0; } summary { cursor: pointer; color: var(--soft); }
.facts td { text-align: left; } .facts td:first-child { color: var(--soft); white-space: nowrap; width: 110px; }
.wide { overflow-x: auto; } .note { border-left: 4px solid var(--bad); padding: 6px 12px; background: var(--card); }
)";

constexpr size_t kColours = 6;
constexpr double kLabels = 300, kPlot = 400, kWidth = 1000, kRow = 22, kTop = 26;

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

std::string colour(size_t contender) { return base::format("var(--c{})", contender % kColours); }
std::string dot(size_t contender) { return base::format("<i class=\"dot\" style=\"background:{}\"></i>", colour(contender)); }
const char* verdict(double x) { return x <= 1.1 ? "good" : x > 2 ? "bad" : ""; }

std::string legend(const Report& r) {
  std::string out = "<p class=\"legend\">";
  for (size_t c = 0; c < r.contenders.size(); c++) out += "<span>" + dot(c) + escaped(r.contenders[c].name) + "</span>";
  return out + "</p>";
}

// Ratios on a logarithmic axis: twice as much and half as much are equally far from 1.
class Axis {
 public:
  explicit Axis(const Report& r, const Table& t) {
    for (auto& row : t.rows) {
      for (size_t c = 0; c < r.contenders.size(); c++) {
        double x = ratio(row, c);
        if (x > 0) low_ = std::min(low_, x / 1.15), high_ = std::max(high_, x * 1.15);
      }
    }
  }
  double at(double x) const { return kLabels + kPlot * std::log(std::clamp(x, low_, high_) / low_) / std::log(high_ / low_); }
  std::vector<double> marks() const {
    std::vector<double> out;
    double last = -1e9;
    for (double x : {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10000.0}) {
      if (x < low_ || x > high_ || (at(x) - last < 34 && x != 1)) continue;
      last = at(x);
      out.push_back(x);
    }
    return out;
  }

 private:
  double low_ = 0.45, high_ = 2.2;
};

std::string chart(const Report& r, const Table& t) {
  Axis axis(r, t);
  size_t families = 0;
  std::string family = "\n";
  for (auto& row : t.rows) {
    if (row.family != family) family = row.family, families++;
  }
  double height = kTop + kRow * static_cast<double>(t.rows.size() + families) + 8, columns = kLabels + kPlot + 18;
  double each = std::min((kWidth - columns) / static_cast<double>(r.contenders.size()), 110.0);
  std::string out = base::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", kWidth, height, escaped(t.title));
  for (double m : axis.marks()) {
    out += base::format("<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"var(--{3})\" stroke-width=\"{4}\"/>"
                        "<text class=\"s\" x=\"{0:.1f}\" y=\"14\" text-anchor=\"middle\">{5:g}x</text>\n",
                        axis.at(m), kTop - 6, height - 4, m == 1 ? "soft" : "grid", m == 1 ? 1.5 : 1, m);
  }
  for (size_t c = 0; c < r.contenders.size(); c++) {
    out += base::format("<text class=\"n\" x=\"{:.1f}\" y=\"14\" style=\"fill:{};font-weight:600\">{}</text>\n", columns + each * static_cast<double>(c + 1), colour(c),
                        escaped(r.contenders[c].name.substr(0, 14)));
  }
  double y = kTop;
  family = "\n";
  for (auto& row : t.rows) {
    if (row.family != family) {
      family = row.family;
      out += base::format("<text class=\"f\" x=\"0\" y=\"{:.1f}\">{}</text>\n", y + 15, escaped(family));
      y += kRow;
    }
    double middle = y + kRow / 2;
    out += base::format("<text x=\"12\" y=\"{:.1f}\">{}</text><line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"var(--grid)\"/>\n", middle + 4.5, escaped(row.label), kLabels,
                        kLabels + kPlot, middle, middle);
    auto first = row.samples.find(0);
    double reference = first == row.samples.end() ? 0 : summarize(first->second).median;
    for (auto& [c, samples] : row.samples) {
      auto s = summarize(samples);
      if (reference > 0 && s.median > 0) {
        out += base::format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"3\" stroke-linecap=\"round\" opacity=\".4\"/>", axis.at(s.q1 / reference),
                            axis.at(s.q3 / reference), middle, middle, colour(c));
        out += base::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"{}\"><title>{}: {} ({}), quartiles {} to {}</title></circle>\n", axis.at(s.median / reference), middle, colour(c),
                            escaped(r.contenders[c].name), human(s.median, row.unit), human_ratio(s.median / reference), human(s.q1, row.unit), human(s.q3, row.unit));
      }
      out += base::format("<text class=\"n\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", columns + each * static_cast<double>(c + 1), middle + 4.5, human(s.median, row.unit));
    }
    y += kRow;
  }
  return out + "</svg>\n";
}

std::string figures(const Report& r, const Table& t) {
  std::string out = "<details><summary>All figures</summary><div class=\"wide\"><table><tr><th></th>";
  for (size_t c = 0; c < r.contenders.size(); c++) {
    out += base::format("<th>{}{}</th><th class=\"soft\">min</th><th class=\"soft\">quartiles</th><th class=\"soft\">max</th>", dot(c), escaped(r.contenders[c].name));
    if (c) out += "<th>ratio</th>";
  }
  out += "</tr>\n";
  for (auto& row : t.rows) {
    out += "<tr><td>" + escaped(row.label) + "</td>";
    for (size_t c = 0; c < r.contenders.size(); c++) {
      auto it = row.samples.find(c);
      if (it == row.samples.end()) {
        out += c ? "<td>-</td><td></td><td></td><td></td><td></td>" : "<td>-</td><td></td><td></td><td></td>";
        continue;
      }
      auto s = summarize(it->second);
      out += base::format("<td>{}</td><td class=\"soft\">{}</td><td class=\"soft\">{} - {}</td><td class=\"soft\">{}</td>", human(s.median, row.unit), human(s.min, row.unit), human(s.q1, row.unit),
                          human(s.q3, row.unit), human(s.max, row.unit));
      double x = ratio(row, c);
      if (c) out += base::format("<td class=\"{}\">{}</td>", verdict(x), x > 0 ? human_ratio(x) : "");
    }
    out += "</tr>\n";
  }
  return out + "</table></div></details>\n";
}

std::string list(const char* title, const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  std::string out = base::format("<h2>{}</h2><ul>", title);
  for (auto& l : lines) out += "<li>" + escaped(l) + "</li>";
  return out + "</ul>\n";
}

}  // namespace

std::string as_html(const Report& r) {
  std::string first = escaped(r.contenders[0].name);
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                    "<title>caisson bench</title>\n<style>" + std::string(kStyle) + "</style></head><body>\n<h1>What sandboxing costs here</h1>\n";
  std::string processor, kernel;
  for (auto& [name, words] : r.machine) {
    if (name == "processor") processor = words;
    if (name == "kernel") kernel = words;
  }
  out += base::format("<p class=\"soft\">caisson bench {}, {} · {} · {} · {} round{}{}</p>\n", escaped(r.caisson_version), escaped(r.when), escaped(processor), escaped(kernel), r.rounds,
                      r.rounds == 1 ? "" : "s", r.quick ? ", quick" : "");
  if (r.interrupted) out += "<p class=\"note\">Interrupted: the figures are not complete.</p>\n";
  out += base::format("<p>How many times the cost under {} (geometric mean of each table). Below 1x is cheaper than {}.</p>\n<div class=\"cards\">\n", first, first);
  for (auto& t : r.tables) {
    out += "<div class=\"card\"><h3>" + escaped(t.title) + "</h3>";
    for (size_t c = 1; c < r.contenders.size(); c++) {
      double x = mean_ratio(t, c);
      out += base::format("<div><span>{}{}</span><b class=\"{}\">{}</b></div>", dot(c), escaped(r.contenders[c].name), x > 0 ? verdict(x) : "", x > 0 ? human_ratio(x) : "-");
    }
    out += "</div>\n";
  }
  out += "</div>\n";
  for (auto& t : r.tables) {
    out += base::format("<h2>{}</h2>\n<p class=\"soft\">A dot is the median, as times {}'s; the bar through it holds half of all samples. Left of the line at 1x is cheaper. At the right: medians.</p>\n",
                        escaped(t.title), first);
    out += legend(r) + chart(r, t) + figures(r, t);
  }
  out += list("What broke", r.broken) + list("Skipped", r.skipped);
  out += "<h2>Machine</h2>\n<table class=\"facts\">";
  for (auto& [name, words] : r.machine) out += "<tr><td>" + escaped(name) + "</td><td>" + escaped(words) + "</td></tr>\n";
  for (size_t c = 0; c < r.contenders.size(); c++) {
    auto& x = r.contenders[c];
    out += "<tr><td>" + dot(c) + escaped(x.name) + "</td><td>" + escaped(x.command) + (x.version.empty() ? "" : " (" + escaped(x.version) + ")") + "</td></tr>\n";
  }
  return out + "</table>\n</body></html>\n";
}

}  // namespace runtime::bench
