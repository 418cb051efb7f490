// SPDX-License-Identifier: Apache-2.0
// bench: what sandboxing costs on this machine.
#include <stdio.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/bench/bench.h"
#include "runtime/cmd/command.h"
#include "runtime/host/launch.h"
#include "runtime/host/proc.h"

namespace runtime::cmd {

namespace {

using bench::RuntimeSpec;

bool in_path(const std::string& name) {
  const char* path = ::getenv("PATH");
  std::string all = path ? path : "/usr/sbin:/usr/bin:/sbin:/bin";
  for (size_t at = 0; at <= all.size();) {
    size_t end = std::min(all.find(':', at), all.size());
    if (::access((all.substr(at, end - at) + "/" + name).c_str(), X_OK) == 0) return true;
    at = end + 1;
  }
  return false;
}

// The native one first, then this program, then what is asked for; a name given again takes the earlier one's place.
base::ResultX<std::vector<RuntimeSpec>> runtimes(const Globals& g, const std::vector<std::string>& asked) {
  char self[4096];
  ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  RuntimeSpec own{"caisson", {n > 0 ? std::string(self, static_cast<size_t>(n)) : "caisson"}};
  if (!g.config_path.empty()) own.command.insert(own.command.end(), {"--config", g.config_path});
  bool runc = in_path("runc");
  std::vector<RuntimeSpec> out{runc ? RuntimeSpec{"runc", {"runc"}} : RuntimeSpec{"native", {}}, own};
  for (auto& text : asked) {
    auto r = TRY(bench::parse_runtime(text));
    auto same = std::find_if(out.begin(), out.end(), [&](auto& x) { return x.name == r.name || (r.name == "native" && &x == &out[0]); });
    if (same != out.end()) *same = r;
    else out.push_back(r);
  }
  return out;
}

base::ResultX<void> write_report(const std::string& path, const std::string& text, const char* flag) {
  if (path.empty()) return {};
  TRY_MSG(host::replace_file(path, text, 0644), "write {} {}", flag, path);
  return {};
}

}  // namespace

base::ResultX<int> bench_verb(const Globals& g, const Args& args) {
  std::string suites, only, json, html;
  std::vector<std::string> asked, cpus;
  int64_t rounds = 0;
  bench::Options o;
  Flags f("caisson bench", "[flags]",
          "Measures what sandboxing costs on this machine: the same programs under runc (or in a plain chroot, where there is no runc), under Caisson and "
          "under other OCI runtimes, in turns. Prints medians and how many times the first one's they are; --html writes a report with charts. Needs root. "
          "Exit code 1 only when something could not be run.");
  f.value("--suite", suites, "what to measure: some of syscall,start,memory,file,app (default: all; app needs --rootfs)");
  f.list("--runtime", asked, "NAME=PATH[,flag…]: another runtime, such as runsc=/usr/bin/runsc,--network=none; may be repeated. The name of one that is measured "
         "anyway (native, runc, caisson) takes its place; the path chroot is a plain chroot");
  f.flag("--quick", o.quick, "less of everything: under a minute for two runtimes");
  f.list("--cpus", cpus, "all, one, or quota:N CPUs; may be repeated. For syscall, file and app (default: all; for syscall also one, quota:1 and quota:0.5)");
  f.value("--rounds", rounds, "how often each runtime has its turn (default: 3, with --quick 1)");
  f.list("--rootfs", o.rootfs, "directory with a root file system for suite app, which stays as it is; may be repeated");
  f.flag("--drop-caches", o.drop_caches, "measure the start with cold files too: empties this machine's page cache");
  f.value("--only", only, "of syscall, file and app only these operations and programs, by their names in --json: stat,pipe_1b,git");
  f.value("--json", json, "file for all figures as JSON");
  f.value("--html", html, "file for a report with charts, one page without anything from elsewhere");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  if (!rest.empty()) return base::error(base::kEINVAL, "bench: '{}' is one word too many", rest[0]);
  o.suites = suites.empty() ? bench::suite_names() : TRY(bench::parse_suites(suites));
  if (!only.empty()) o.only = TRY(bench::parse_names(only));
  o.runtimes = TRY(runtimes(g, asked));
  for (auto& c : cpus) o.cpus.push_back(TRY(bench::parse_cpus(c)));
  if (rounds < 0 || rounds > 1000) return base::error(base::kEINVAL, "--rounds {}: must be from 1 to 1000", rounds);
  o.rounds = rounds ? static_cast<int>(rounds) : o.quick ? 1 : 3;
  for (auto& r : o.rootfs) {
    char* real = ::realpath(r.c_str(), nullptr);
    if (!real || ::access((std::string(real) + "/bin/sh").c_str(), X_OK) != 0) {
      ::free(real);
      return base::error(base::kENOENT, "--rootfs {}: must be a directory with a root file system, with a /bin/sh", r);
    }
    r = real;
    ::free(real);
  }
  if (::geteuid() != 0 || host::in_user_namespace()) return base::error(base::kEPERM, "bench: needs to be root, to start containers under every runtime alike");
  // Nobody waits for minutes to learn this.
  for (auto [path, flag] : {std::pair{&json, "--json"}, std::pair{&html, "--html"}}) TRY(write_report(*path, "", flag));

  auto report = TRY(bench::measure(o));
  report.caisson_version = kVersion;
  std::string text = bench::as_text(report);
  fwrite(text.data(), 1, text.size(), stdout);
  TRY(write_report(json, bench::as_json(report), "--json"));
  TRY(write_report(html, bench::as_html(report), "--html"));
  if (report.interrupted) return 130;
  return report.broken.empty() ? 0 : kExitFailure;
}

}  // namespace runtime::cmd
