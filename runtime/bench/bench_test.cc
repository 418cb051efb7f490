// SPDX-License-Identifier: Apache-2.0
#include "runtime/bench/bench.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/bench/apps.h"
#include "runtime/bench/contestant.h"
#include "runtime/bench/machine.h"

namespace runtime::bench {
namespace {

TEST(Stats, QuartilesAreInterpolated) {
  auto s = summarize({4, 1, 3, 2});
  EXPECT_EQ(s.samples, 4u);
  EXPECT_DOUBLE_EQ(s.min, 1);
  EXPECT_DOUBLE_EQ(s.q1, 1.75);
  EXPECT_DOUBLE_EQ(s.median, 2.5);
  EXPECT_DOUBLE_EQ(s.q3, 3.25);
  EXPECT_DOUBLE_EQ(s.max, 4);
  auto one = summarize({7});
  EXPECT_DOUBLE_EQ(one.q1, 7);
  EXPECT_DOUBLE_EQ(one.q3, 7);
  EXPECT_EQ(summarize({}).samples, 0u);
}

TEST(Stats, GeometricMeanPassesOverWhatIsNotThere) {
  EXPECT_DOUBLE_EQ(geometric_mean({0.5, 2}), 1);
  EXPECT_NEAR(geometric_mean({1, 10, 100}), 10, 1e-9);
  EXPECT_DOUBLE_EQ(geometric_mean({0, 4, 0}), 4);
  EXPECT_DOUBLE_EQ(geometric_mean({}), 0);
  EXPECT_DOUBLE_EQ(geometric_mean({std::nan(""), 3}), 3);
}

TEST(Stats, NumbersForPeople) {
  EXPECT_EQ(human(163.4, Unit::ns), "163 ns");
  EXPECT_EQ(human(25.52, Unit::ns), "25.5 ns");
  EXPECT_EQ(human(0, Unit::ns), "0 ns");
  EXPECT_EQ(human(999.4, Unit::ns), "999 ns");
  EXPECT_EQ(human(999.6, Unit::ns), "1.00 us");
  EXPECT_EQ(human(4780, Unit::ns), "4.78 us");
  EXPECT_EQ(human(16.3e6, Unit::ns), "16.3 ms");
  EXPECT_EQ(human(125e9, Unit::ns), "125 s");
  EXPECT_EQ(human(2.7e6, Unit::bytes), "2.70 MB");
  EXPECT_EQ(human(812, Unit::bytes), "812 B");
  EXPECT_EQ(human_ratio(0.314), "0.31x");
  EXPECT_EQ(human_ratio(0.001), "<0.01x");
  EXPECT_EQ(human_ratio(0.996), "1.0x");
  EXPECT_EQ(human_ratio(1.64), "1.6x");
  EXPECT_EQ(human_ratio(9.96), "10x");
  EXPECT_EQ(human_ratio(30.5), "30x");
}

TEST(Options, Runtimes) {
  auto r = parse_runtime("runsc=/usr/bin/runsc,--network=none,--platform=systrap");
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->name, "runsc");
  EXPECT_EQ(r->command, (std::vector<std::string>{"/usr/bin/runsc", "--network=none", "--platform=systrap"}));
  EXPECT_TRUE(parse_runtime("native=chroot")->command.empty());
  // What a flag says may hold '='.
  EXPECT_EQ(parse_runtime("a=b,--x=y=z")->command[1], "--x=y=z");
  for (const char* bad : {"", "runsc", "=x", "a=", "a/b=c", "a b=c", "a=chroot,--x", "a123456789012345678901=x"}) EXPECT_FALSE(parse_runtime(bad).ok()) << bad;
  EXPECT_NE(parse_runtime("runsc").error().text().find("--runtime runsc: must be NAME=PATH"), std::string::npos);
}

TEST(Options, CpusAreReadAsTheyAreWritten) {
  for (const char* text : {"all", "one", "quota:0.5", "quota:1", "quota:12"}) {
    auto c = parse_cpus(text);
    ASSERT_TRUE(c.ok()) << text;
    EXPECT_EQ(c->text(), text);
  }
  EXPECT_EQ(parse_cpus("quota:0.5")->label(), "a quota of 0.5 CPUs");
  EXPECT_EQ(parse_cpus("quota:1")->label(), "a quota of 1 CPU");
  for (const char* bad : {"", "two", "quota", "quota:", "quota:0", "quota:-1", "quota:1x", "quota:nan", "quota:9999"}) EXPECT_FALSE(parse_cpus(bad).ok()) << bad;
}

TEST(Options, SuitesComeInTheirOwnOrderAndOnce) {
  EXPECT_EQ(parse_suites("file,syscall,file").value(), (std::vector<std::string>{"syscall", "file"}));
  for (const char* bad : {"", "syscall,", "calls"}) EXPECT_FALSE(parse_suites(bad).ok()) << bad;
  EXPECT_NE(parse_suites("calls").error().text().find("syscall, start, memory, file, app"), std::string::npos);
}

TEST(Options, Names) {
  EXPECT_EQ(parse_names("stat,pipe_1b").value(), (std::vector<std::string>{"stat", "pipe_1b"}));
  for (const char* bad : {"", "stat,", ",", "a b", "a=b"}) EXPECT_FALSE(parse_names(bad).ok()) << bad;
}

TEST(Lines, OfTheProgramInside) {
  Table t;
  std::vector<std::string> skipped;
  EXPECT_TRUE(take_line(R"({"suite":"syscall","family":"file","name":"stat","label":"stat","points":[1,2,3],"mean":9})", false, 1, t, skipped));
  EXPECT_TRUE(take_line(R"({"suite":"syscall","family":"file","name":"stat","label":"stat","points":[4],"mean":9})", false, 1, t, skipped));
  EXPECT_TRUE(take_line(R"({"suite":"syscall","family":"file","name":"stat","label":"stat","points":[4],"mean":9})", true, 0, t, skipped));
  ASSERT_EQ(t.rows.size(), 1u);
  EXPECT_EQ(t.rows[0].samples[1], (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(t.rows[0].samples[0], std::vector<double>{9});
  EXPECT_TRUE(take_line(R"({"name":"tcp","label":"TCP","skipped":"connect: no"})", false, 1, t, skipped));
  EXPECT_EQ(skipped, std::vector<std::string>{"TCP: connect: no"});
  for (const char* bad : {"", "x", "[]", "{}", "{\"name\":1}", R"({"name":"a","points":[]})", R"({"name":"a","points":["1"]})", R"({"name":"a"})"}) {
    EXPECT_FALSE(take_line(bad, false, 0, t, skipped)) << bad;
  }
  EXPECT_EQ(t.rows.size(), 1u);
}

Report example() {
  Report r;
  r.caisson_version = "1";
  r.when = "today";
  r.rounds = 2;
  r.seconds = 3.4;
  r.machine = {{"processor", "2 x <Some> CPU"}, {"kernel", "Linux 6"}};
  r.contenders = {{"runc", "runc", "runc 1.1"}, {"caisson", "/bin/caisson", "caisson 1"}, {"third", "a plain chroot", ""}};
  Table t{"syscall", "all", "system calls, all CPUs", {}};
  auto& a = t.row("trivial", "getppid", "getppid");
  a.samples[0] = {100, 100, 100};
  a.samples[1] = {200, 200, 230};
  auto& b = t.row("file", "stat", "stat \"x\" & <y>");
  b.samples[0] = {1000};
  b.samples[1] = {500};
  b.samples[2] = {3000};
  auto& idle = t.row("file", "idle", "idle");
  idle.samples[0] = {0};
  idle.samples[1] = {7};
  idle.counted = false;
  r.tables.push_back(t);
  r.skipped = {"suite app: no <rootfs>"};
  return r;
}

TEST(Report, RatiosAreOfMediansToTheFirst) {
  auto r = example();
  EXPECT_DOUBLE_EQ(ratio(r.tables[0].rows[0], 1), 2);
  EXPECT_DOUBLE_EQ(ratio(r.tables[0].rows[0], 2), 0);
  EXPECT_DOUBLE_EQ(ratio(r.tables[0].rows[2], 1), 0);
  EXPECT_DOUBLE_EQ(mean_ratio(r.tables[0], 1), 1);
  EXPECT_DOUBLE_EQ(mean_ratio(r.tables[0], 2), 3);
}

TEST(Report, TextIsATable) {
  auto r = example();
  std::string text = table_as_text(r, r.tables[0]);
  EXPECT_NE(text.find("   getppid                                100 ns    200 ns    2.0x         -\n"), std::string::npos) << text;
  EXPECT_NE(text.find(" geometric mean" + std::string(29, ' ') + "1.0x              1.0x              3.0x\n"), std::string::npos) << text;
  std::string end = as_text(r);
  for (const char* words : {"In short", "processor     2 x <Some> CPU\n", "run           2 rounds, 3 s\n", "skipped       suite app", "third         a plain chroot\n"}) {
    EXPECT_NE(end.find(words), std::string::npos) << words << end;
  }
  r.interrupted = true;
  EXPECT_NE(as_text(r).find("INTERRUPTED"), std::string::npos);
}

TEST(Report, JsonHoldsEveryFigure) {
  auto j = nlohmann::json::parse(as_json(example()));
  EXPECT_EQ(j["machine"]["kernel"], "Linux 6");
  EXPECT_EQ(j["runtimes"][1]["name"], "caisson");
  auto& t = j["tables"][0];
  EXPECT_EQ(t["suite"], "syscall");
  EXPECT_DOUBLE_EQ(t["geometric_mean"]["third"], 3);
  auto& c = t["rows"][0]["results"]["caisson"];
  EXPECT_DOUBLE_EQ(c["median"], 200);
  EXPECT_DOUBLE_EQ(c["q3"], 215);
  EXPECT_DOUBLE_EQ(c["ratio"], 2);
  EXPECT_EQ(c["samples"], 3);
  EXPECT_FALSE(t["rows"][0]["results"].contains("third"));
}

TEST(Report, HtmlIsOnePageWithoutAnythingFromElsewhere) {
  std::string html = as_html(example());
  EXPECT_EQ(html.rfind("<!DOCTYPE html>", 0), 0u);
  for (const char* foreign : {"http:", "https:", "src=", "<script", "<link", "url(", "@import"}) EXPECT_EQ(html.find(foreign), std::string::npos) << foreign;
  EXPECT_NE(html.find("<svg"), std::string::npos);
  EXPECT_NE(html.find("2 x &lt;Some&gt; CPU"), std::string::npos);
  EXPECT_NE(html.find("stat &quot;x&quot; &amp; &lt;y&gt;"), std::string::npos);
  EXPECT_EQ(html.find("<y>"), std::string::npos);
  EXPECT_EQ(html.find("nan"), std::string::npos);
  EXPECT_EQ(html.find("inf\""), std::string::npos);
}

TEST(Machine, MitigationsThatAreActive) {
  EXPECT_EQ(mitigations({{"meltdown", "Not affected"}, {"spectre_v2", "Mitigation: Retpolines; IBPB"}, {"mds", "Vulnerable"}}), "spectre_v2: Retpolines; mds: Vulnerable");
  EXPECT_EQ(mitigations({{"meltdown", "Not affected"}}), "none needed");
  EXPECT_GE(describe_machine().size(), 5u);
}

TEST(Bundle, QuotaIsALimitOfTheSpec) {
  Job job{"/somewhere", {"/p", "x"}, parse_cpus("quota:0.5").value()};
  auto j = nlohmann::json::parse(bundle_config(job));
  EXPECT_EQ(j["linux"]["resources"]["cpu"]["quota"], 50000);
  EXPECT_EQ(j["root"]["path"], "/somewhere");
  job.cpus = {};
  EXPECT_FALSE(nlohmann::json::parse(bundle_config(job))["linux"].contains("resources"));
}

TEST(Apps, NamesAreUniqueAndMissingProgramsAreNamed) {
  std::set<std::string> names;
  for (auto& a : apps()) {
    EXPECT_TRUE(names.insert(a.name).second) << a.name;
    EXPECT_EQ(missing_program(a, "/nowhere-at-all"), a.programs[0]);
  }
}

}  // namespace
}  // namespace runtime::bench
