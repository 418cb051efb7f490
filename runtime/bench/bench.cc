// SPDX-License-Identifier: Apache-2.0
// A plan of small steps, runtimes in turn, so that what disturbs the machine disturbs all of them alike.
#include "runtime/bench/bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "runtime/bench/apps.h"
#include "runtime/bench/contestant.h"
#include "runtime/bench/machine.h"
#include "runtime/container/state.h"
#include "runtime/host/launch.h"
#include "runtime/host/proc.h"

namespace runtime::bench {

using base::ResultX;
namespace sys = base::sys;

namespace {

constexpr const char* kInside = "/caisson-bench";
// Under a quota the whole of a second or so counts, with its pauses; a choice of operations keeps that bearable.
constexpr const char* kStretched =
    "only=getppid,read_zero,stat,open_close,pread_4k,pipe_1b,unix_1b,futex_wake,epoll_wait,mmap_munmap,mmap_touch,fork_wait,vfork_exec,thread,"
    "switch_process,switch_futex";

// How much of everything.
struct Amounts {
  int measure_ms, stretch_ms, runs, lives, app_times, idle_ms;
  std::vector<int> at_once, sandboxes;
};
const Amounts& amounts(bool quick) {
  static const Amounts full{60, 400, 5, 3, 3, 5000, {10, 50}, {1, 10, 100}}, little{15, 250, 3, 1, 1, 1000, {10}, {1, 5}};
  return quick ? little : full;
}

// The directory that everything is made in. It goes with this object.
class Scratch {
 public:
  static ResultX<Scratch> create() {
    const char* tmp = ::getenv("TMPDIR");
    std::string path = std::string(tmp && tmp[0] == '/' ? tmp : "/tmp") + "/caisson-bench.XXXXXX";
    if (!::mkdtemp(path.data())) return base::wrap(sys::from_libc(-1).error(), "make a directory " + path);
    ::chmod(path.c_str(), 0755);
    Scratch s;
    s.path_ = path;
    return s;
  }
  Scratch(Scratch&& o) noexcept : path_(std::exchange(o.path_, "")), mounts_(std::move(o.mounts_)) {}
  Scratch& operator=(Scratch&&) = delete;
  ~Scratch() {
    for (auto m = mounts_.rbegin(); m != mounts_.rend(); ++m) ::umount2(m->c_str(), MNT_DETACH);
    if (!path_.empty()) IGNORE_ERROR(container::remove_tree(AT_FDCWD, path_.c_str()), "a directory in /tmp is left");
  }
  std::string at(const std::string& name) const { return path_ + "/" + name; }
  std::string make(const std::string& name) const {
    IGNORE_ERROR(host::make_directories(at(name), 0755), "whoever uses it says so");
    return at(name);
  }
  ResultX<void> mount(const char* type, const std::string& at, const std::string& options) {
    TRY_MSG(sys::from_libc(::mount(type, at.c_str(), type, 0, options.c_str())), "mount {} at {}", type, at);
    mounts_.push_back(at);
    return {};
  }

 private:
  Scratch() = default;
  std::string path_;
  std::vector<std::string> mounts_;
};

ResultX<void> copy_program(int from, const std::string& to) {
  auto out = TRY_MSG(sys::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0755), "make {}", to);
  char buf[65536];
  for (int64_t at = 0;;) {
    size_t n = TRY_MSG(sys::pread(from, buf, sizeof buf, at), "read caisson-bench");
    if (n == 0) return {};
    TRY_MSG(sys::write_all(out.get(), buf, n), "write {}", to);
    at += static_cast<int64_t>(n);
  }
}

class Bench {
 public:
  Bench(const Options& o, Scratch scratch, host::Program inside) : o_(o), scratch_(std::move(scratch)), inside_(std::move(inside)), a_(amounts(o.quick)) {}
  ResultX<Report> run();

 private:
  struct Step {
    std::string what;
    std::function<void()> run;
    const Table* ends = nullptr;  // the table that is whole after it
  };
  ResultX<void> make_roots();
  std::string app_root(size_t contender, size_t rootfs);
  Table& table(const std::string& suite, const std::string& cpus, const std::string& title) {
    report_.tables.push_back({suite, cpus, title, {}});
    return report_.tables.back();
  }
  template <typename F>
  void plan(Table& t, int rounds, const std::string& what, F f);
  void plan_inside(const std::string& suite, const std::string& title, const std::vector<Cpus>& cpus);
  void plan_start();
  void plan_memory();
  void plan_apps();
  void inside(Table& t, size_t c, const Cpus& cpus);
  void life(Table& t, size_t c);
  void at_once(Table& t, size_t c, int n);
  void memory(Table& t, size_t c, int n, const char* what);
  void more(Table& t, size_t c);
  void app(Table& t, size_t c, const App& a, size_t rootfs, const Cpus& cpus);
  void add(Table& t, size_t c, const char* family, const std::string& name, const std::string& label, double v, Unit unit = Unit::ns, bool counted = true) {
    auto& row = t.row(family, name, label, unit);
    row.samples[c].push_back(v);
    row.counted = counted;
  }
  void broke(size_t c, const std::string& what, const std::string& problem) {
    if (!stopped()) note(report_.broken, o_.runtimes[c].name + ": " + what + ": " + problem);
  }
  static void note(std::vector<std::string>& list, const std::string& text) {
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
  }
  std::string root(size_t c) const { return scratch_.at("root-" + std::to_string(c)); }
  void run_steps();

  const Options& o_;
  Scratch scratch_;
  host::Program inside_;
  const Amounts& a_;
  std::vector<Contestant> contestants_;
  std::vector<Step> steps_;
  Report report_;
};

// Progress on standard error: one line that is written over on a terminal, else a line each.
class Progress {
 public:
  Progress() : terminal_(::isatty(2)) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void tell(size_t at, size_t of, const std::string& what) {
    std::string line = base::format("[{}/{}] {}", at, of, what);
    line = terminal_ ? "\r" + line.substr(0, 78) + "\x1b[K" : line + "\n";
    IGNORE_ERROR(sys::write_all(2, line.data(), line.size()), "nobody reads");
    shown_ = terminal_;
  }
  void clear() {
    if (shown_) IGNORE_ERROR(sys::write_all(2, "\r\x1b[K", 4), "nobody reads");
    shown_ = false;
  }

 private:
  bool terminal_, shown_ = false;
};

ResultX<void> Bench::make_roots() {
  for (size_t c = 0; c < o_.runtimes.size(); c++) {
    for (const char* d : {"/proc", "/dev", "/tmp", "/sys", "/etc"}) scratch_.make("root-" + std::to_string(c) + d);
    TRY(copy_program(inside_.fd.get(), root(c) + kInside));
    contestants_.emplace_back(o_.runtimes[c], scratch_.make("runtime-" + std::to_string(c)));
  }
  return {};
}

// The user's directory with a layer of this runtime's own above it, as engines give it to runtimes; "" if there can be none.
std::string Bench::app_root(size_t c, size_t rootfs) {
  std::string name = base::format("app-{}-{}", c, rootfs), merged = scratch_.at(name + "/merged");
  if (::access((merged + kInside).c_str(), X_OK) == 0) return merged;
  scratch_.make(name + "/merged");
  std::string problem;
  // A scratch directory that is an overlay itself cannot be the upper layer of another; memory can.
  for (bool in_memory : {false, true}) {
    if (in_memory) {
      auto m = scratch_.mount("tmpfs", scratch_.make(name + "/memory"), "mode=755");
      if (!m.ok()) continue;
    }
    std::string layer = name + (in_memory ? "/memory/" : "/");
    auto m = scratch_.mount("overlay", merged, base::format("lowerdir={},upperdir={},workdir={}", o_.rootfs[rootfs], scratch_.make(layer + "upper"), scratch_.make(layer + "work")));
    if (!m.ok()) {
      problem = m.error().text();
      continue;
    }
    auto copied = copy_program(inside_.fd.get(), merged + kInside);
    if (copied.ok()) return merged;
    problem = copied.error().text();
  }
  note(report_.broken, base::format("a layer above {}: {}", o_.rootfs[rootfs], problem));
  return "";
}

template <typename F>
void Bench::plan(Table& t, int rounds, const std::string& what, F f) {
  for (int r = 0; r < rounds; r++) {
    for (size_t i = 0; i < contestants_.size(); i++) {
      size_t c = (i + static_cast<size_t>(r)) % contestants_.size();  // nobody is always the first
      std::string text = what + (rounds > 1 ? base::format(", round {}/{}", r + 1, rounds) : "") + ": " + o_.runtimes[c].name;
      steps_.push_back({text, [f, c, &t] { f(t, c); }, nullptr});
    }
  }
}

void Bench::plan_inside(const std::string& suite, const std::string& title, const std::vector<Cpus>& cpus) {
  for (auto& set : cpus) {
    Table& t = table(suite, set.text(), title + ", " + set.label());
    plan(t, o_.rounds, t.title, [this, set](Table& to, size_t c) { inside(to, c, set); });
    steps_.back().ends = &t;
  }
}

void Bench::inside(Table& t, size_t c, const Cpus& cpus) {
  bool stretch = cpus.kind == Cpus::Kind::quota;
  Job job{root(c), {kInside, "measure", t.suite, std::to_string(stretch ? a_.stretch_ms : a_.measure_ms)}, cpus};
  if (cpus.kind == Cpus::Kind::one) job.args.push_back("pin");
  if (stretch) job.args.push_back("stretch");
  if (!o_.only.empty()) {
    std::string names;
    for (auto& n : o_.only) names += (names.empty() ? "only=" : ",") + n;
    job.args.push_back(names);
  } else if (stretch && t.suite == "syscall") {
    job.args.push_back(kStretched);
  }
  auto out = contestants_[c].run(job);
  if (!out.ok()) broke(c, t.title, out.problem());
  std::vector<std::string> skipped;
  for (size_t at = 0; at < out.out.size();) {
    size_t end = std::min(out.out.find('\n', at), out.out.size());
    if (!take_line(out.out.substr(at, end - at), stretch, c, t, skipped)) broke(c, t.title, "said '" + out.out.substr(at, std::min<size_t>(end - at, 200)) + "'");
    at = end + 1;
  }
  for (auto& s : skipped) note(report_.skipped, o_.runtimes[c].name + ": " + s);
}

void Bench::plan_start() {
  Table& t = table("start", "all", "start");
  if (o_.drop_caches) {
    plan(t, o_.rounds, "start, files not in memory", [this](Table& to, size_t c) {
      ::sync();
      if (!host::write_file("/proc/sys/vm/drop_caches", "3").ok()) return note(report_.skipped, "start with files not in memory: /proc/sys/vm/drop_caches cannot be written");
      auto out = contestants_[c].run({root(c), {kInside, "exit"}, {}});
      if (!out.ok()) return broke(c, "run", out.problem());
      add(to, c, "one", "run_cold", "run to its end, files not in memory", out.ns);
    });
  } else {
    report_.skipped.push_back("start with files not in memory: needs --drop-caches, which empties this machine's page cache");
  }
  plan(t, o_.rounds, "start", [this](Table& to, size_t c) { life(to, c); });
  for (int n : a_.at_once) plan(t, std::max(o_.rounds / 2, 1), base::format("start, {} at once", n), [this, n](Table& to, size_t c) { at_once(to, c, n); });
  steps_.back().ends = &t;
}

void Bench::life(Table& t, size_t c) {
  auto& who = contestants_[c];
  for (int i = 0; i < a_.runs && !stopped(); i++) {
    auto out = who.run({root(c), {kInside, "exit"}, {}});
    if (!out.ok()) return broke(c, "run", out.problem());
    add(t, c, "one", "run", "run to its end", out.ns);
  }
  if (!who.has_life()) return;
  for (int i = 0; i < a_.lives && !stopped(); i++) {
    std::string id = who.prepare({root(c), {kInside, "hold", "0", "0"}, {}});
    auto created = std::move(who.create({id})[0]);
    if (!created.ok()) return broke(c, "create", created.problem());
    auto started = std::move(who.begin({id})[0]);
    if (!started.ok()) return broke(c, "start", started.problem());
    add(t, c, "one", "create", "create", created.ns, Unit::ns, false);
    add(t, c, "one", "start", "start", started.ns, Unit::ns, false);
    add(t, c, "one", "create_start", "create + start", created.ns + started.ns);
    for (int e = 0; e < 3; e++) {
      auto done = who.exec(id, {kInside, "exit"});
      if (!done.ok()) return broke(c, "exec", done.problem());
      add(t, c, "one", "exec", "exec of a program to its end", done.ns);
    }
    auto removed = std::move(who.remove({id})[0]);
    if (!removed.ok()) return broke(c, "delete --force", removed.problem());
    add(t, c, "one", "delete", "delete --force", removed.ns);
  }
}

void Bench::at_once(Table& t, size_t c, int n) {
  auto& who = contestants_[c];
  if (!who.has_life()) return;
  std::vector<std::string> ids;
  for (int i = 0; i < n; i++) ids.push_back(who.prepare({root(c), {kInside, "hold", "0", "0"}, {}}));
  std::string problem;
  auto longest = [&](std::vector<Output> out) {
    double ns = 0;
    for (auto& o : out) {
      ns = std::max(ns, o.ns);
      if (!o.ok()) problem = o.problem();
    }
    return ns;
  };
  double made = longest(who.create(ids));
  if (problem.empty()) made += longest(who.begin(ids));
  double removed = longest(who.remove(ids));
  if (!problem.empty()) return broke(c, base::format("{} at once", n), problem);
  add(t, c, "at once", base::format("create_start_{}", n), base::format("create + start of {}, all", n), made);
  add(t, c, "at once", base::format("delete_{}", n), base::format("delete --force of {}, all", n), removed);
}

void Bench::plan_memory() {
  Table& t = table("memory", "all", "memory");
  for (int n : a_.sandboxes) {
    plan(t, 1, base::format("memory, {} container{}", n, n == 1 ? "" : "s"), [this, n](Table& to, size_t c) {
      memory(to, c, n, n == 1 ? "of one idle container" : "of each of them");
    });
  }
  plan(t, 1, "memory, processes and threads", [this](Table& to, size_t c) { more(to, c); });
  steps_.back().ends = &t;
}

void Bench::memory(Table& t, size_t c, int n, const char*) {
  std::vector<std::string> ids;
  auto problem = contestants_[c].hold({root(c), {kInside, "hold", "0", "0"}, {}}, n, &ids);
  if (!problem.empty()) {
    broke(c, base::format("{} idle containers", n), problem);
    return contestants_[c].end(ids);
  }
  rest(1000);
  auto before = used_by(descendants());
  const char* family = "idle";
  std::string of = n == 1 ? "" : base::format(", each of {}", n);
  add(t, c, family, base::format("pss_{}", n), "PSS of a container" + of, before.pss / n, Unit::bytes);
  add(t, c, family, base::format("dirty_{}", n), "private dirty" + of, before.private_dirty / n, Unit::bytes);
  if (n == 1) {
    rest(a_.idle_ms);
    double busy = used_by(descendants()).cpu_ns - before.cpu_ns;
    add(t, c, family, "cpu_idle", "CPU time of one in 10 s", std::max(busy, 0.0) * 10000 / a_.idle_ms, Unit::ns, false);
  }
  contestants_[c].end(ids);
}

// What one more process, and one more thread, holds.
void Bench::more(Table& t, size_t c) {
  constexpr int kProcesses = 20, kThreads = 100;
  double pss[3], dirty[3];
  const std::pair<int, int> with[] = {{0, 0}, {kProcesses, 0}, {0, kThreads}};
  for (int i = 0; i < 3; i++) {
    std::vector<std::string> ids;
    auto problem = contestants_[c].hold({root(c), {kInside, "hold", std::to_string(with[i].first), std::to_string(with[i].second)}, {}}, 1, &ids);
    rest(1000);
    auto used = used_by(descendants());
    pss[i] = used.pss, dirty[i] = used.private_dirty;
    contestants_[c].end(ids);
    if (!problem.empty()) return broke(c, "a container with processes and threads", problem);
  }
  add(t, c, "inside", "pss_process", "PSS of one more process", std::max(pss[1] - pss[0], 0.0) / kProcesses, Unit::bytes);
  add(t, c, "inside", "dirty_process", "private dirty of one more process", std::max(dirty[1] - dirty[0], 0.0) / kProcesses, Unit::bytes);
  add(t, c, "inside", "dirty_thread", "private dirty of one more thread", std::max(dirty[2] - dirty[0], 0.0) / kThreads, Unit::bytes);
}

void Bench::plan_apps() {
  if (o_.rootfs.empty()) {
    report_.skipped.push_back("suite app: needs --rootfs DIR, a root file system with programs");
    return;
  }
  std::vector<Cpus> all{Cpus{}};
  for (auto& set : o_.cpus.empty() ? all : o_.cpus) {
    Table& t = table("app", set.text(), "programs, " + set.label());
    size_t before = steps_.size();
    for (auto& a : apps()) {
      if (!o_.only.empty() && std::find(o_.only.begin(), o_.only.end(), a.name) == o_.only.end()) continue;
      std::string missing;
      size_t at = 0;
      for (; at < o_.rootfs.size(); at++) {
        std::string m = missing_program(a, o_.rootfs[at]);
        if (m.empty()) break;
        missing = missing.empty() ? m : missing;
      }
      if (at == o_.rootfs.size()) {
        note(report_.skipped, base::format("{}: no {} in {}", a.name, missing, at == 1 ? o_.rootfs[0] : "any root file system"));
        continue;
      }
      plan(t, o_.rounds, t.title + ": " + a.name, [this, &a, at, set](Table& to, size_t c) { app(to, c, a, at, set); });
    }
    if (steps_.size() > before) steps_.back().ends = &t;
    else report_.tables.pop_back();
  }
}

void Bench::app(Table& t, size_t c, const App& a, size_t rootfs, const Cpus& cpus) {
  std::string at = app_root(c, rootfs);
  if (at.empty()) return;
  std::string script = base::format("({}\n) >/tmp/caisson-bench.log 2>&1 </dev/null || {{ tail -n 5 /tmp/caisson-bench.log >&2; exit 1; }}\nexec \"$0\" time {} /bin/sh -c \"$1\"",
                                    *a.before ? a.before : ":", a_.app_times);
  auto out = contestants_[c].run({at, {"/bin/sh", "-c", script, kInside, a.work}, cpus});
  if (!out.ok()) return broke(c, a.name, out.problem());
  Table taken;
  std::vector<std::string> skipped;
  take_line(out.out.substr(0, out.out.find('\n')), false, c, taken, skipped);
  if (taken.rows.empty()) return broke(c, a.name, "said '" + out.out.substr(0, 200) + "'");
  auto& row = t.row(a.family, a.name, a.label);
  auto& from = taken.rows[0].samples[c];
  row.samples[c].insert(row.samples[c].end(), from.begin(), from.end());
}

void Bench::run_steps() {
  Progress progress;
  size_t shown = 0;
  auto show = [&](const Table& t) {
    shown++;
    if (t.rows.empty()) return;
    progress.clear();
    std::string text = table_as_text(report_, t);
    fwrite(text.data(), 1, text.size(), stdout);
    fflush(stdout);
  };
  for (size_t i = 0; i < steps_.size() && !stopped(); i++) {
    progress.tell(i + 1, steps_.size(), steps_[i].what);
    steps_[i].run();
    if (steps_[i].ends && !stopped()) show(*steps_[i].ends);
  }
  // Cut short: what is known so far.
  while (shown < report_.tables.size()) show(report_.tables[shown]);
}

ResultX<Report> Bench::run() {
  double began = now_ns();
  TRY(make_roots());
  report_.machine = describe_machine();
  report_.rounds = o_.rounds;
  report_.quick = o_.quick;
  time_t t = ::time(nullptr);
  tm parts{};
  char when[40];
  ::gmtime_r(&t, &parts);
  strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", &parts);
  report_.when = when;
  for (auto& r : o_.runtimes) {
    Contender c{r.name, "", ""};
    for (auto& w : r.command) c.command += (c.command.empty() ? "" : " ") + w;
    if (r.command.empty()) {
      c.command = "a plain chroot";
    } else {
      auto version = bench::run({r.command[0], "--version"}, {}, 20);
      c.version = version.out.substr(0, version.out.find('\n'));
      if (!version.ok()) return base::error(base::kENOENT, "--runtime {}: {} --version: {}", r.name, r.command[0], version.problem());
    }
    report_.contenders.push_back(std::move(c));
  }
  report_.tables.reserve(64);  // steps point into it
  for (auto& s : o_.suites) {
    std::vector<Cpus> all{Cpus{}}, syscall{Cpus{}, {Cpus::Kind::one, 0}};
    if (!o_.quick) syscall.insert(syscall.end(), {{Cpus::Kind::quota, 1}, {Cpus::Kind::quota, 0.5}});
    if (s == "syscall") plan_inside(s, "system calls", o_.cpus.empty() ? syscall : o_.cpus);
    if (s == "start") plan_start();
    if (s == "memory") plan_memory();
    if (s == "file") plan_inside(s, "files", o_.cpus.empty() ? all : o_.cpus);
    if (s == "app") plan_apps();
  }
  run_steps();
  for (auto& c : contestants_) c.clean_up();
  end_descendants();
  remove_left_groups();
  report_.interrupted = stopped();
  std::erase_if(report_.tables, [](auto& x) { return x.rows.empty(); });
  report_.seconds = (now_ns() - began) / 1e9;
  return std::move(report_);
}

}  // namespace

bool take_line(const std::string& line, bool stretch, size_t contender, Table& table, std::vector<std::string>& skipped) {
  auto j = nlohmann::json::parse(line, nullptr, false);
  auto text = [&](const char* key) { return j.contains(key) && j[key].is_string() ? j[key].get<std::string>() : std::string(); };
  if (!j.is_object() || text("name").empty()) return false;
  if (j.contains("skipped")) {
    skipped.push_back(text("label") + ": " + text("skipped"));
    return true;
  }
  std::vector<double> points;
  if (stretch && j.contains("mean") && j["mean"].is_number()) points.push_back(j["mean"]);
  if (!stretch && j.contains("points") && j["points"].is_array()) {
    for (auto& p : j["points"]) {
      if (p.is_number()) points.push_back(p);
    }
  }
  if (points.empty()) return false;
  auto& to = table.row(text("family"), text("name"), text("label")).samples[contender];
  to.insert(to.end(), points.begin(), points.end());
  return true;
}

ResultX<Report> measure(const Options& o) {
  auto inside = TRY(host::find_program("caisson-bench"));
  TRY(prepare_process());
  auto scratch = TRY(Scratch::create());
  return Bench(o, std::move(scratch), std::move(inside)).run();
}

}  // namespace runtime::bench
