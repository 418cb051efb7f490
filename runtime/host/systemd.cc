// SPDX-License-Identifier: Apache-2.0
// Calls of systemd's manager interface by way of busctl.
#include "runtime/host/systemd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/sys.h"
#include "base/words.h"
#include "runtime/host/spawn.h"

namespace runtime::host {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;

namespace {

constexpr int kCallMs = 4500, kStopMs = 1000;

bool runs_systemd() {
  struct stat st;
  return ::lstat("/run/systemd/system", &st) == 0 && S_ISDIR(st.st_mode);
}

// Runs busctl to its end; on failure the error is its last line.
ResultX<void> call_manager(const std::string& method, const std::vector<std::string>& signature_and_arguments,
                           int timeout_ms = kCallMs) {
  std::vector<std::string> args{"busctl", "--system", "--quiet", "--timeout=4", "--", "call", "org.freedesktop.systemd1",
                                "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", method};
  args.insert(args.end(), signature_and_arguments.begin(), signature_and_arguments.end());
  int p[2];
  TRY_MSG(sys::from_libc(::pipe2(p, O_CLOEXEC)), "make a pipe");
  Fd in(p[0]), out(p[1]);
  Fd null = TRY_MSG(sys::open("/dev/null", O_RDWR), "open /dev/null");
  int pid = TRY_MSG(clone_process({}), "start busctl");
  if (pid == 0) {
    reset_signals();
    ::dup2(null.get(), 0);
    ::dup2(null.get(), 1);
    ::dup2(out.get(), 2);
    ::syscall(SYS_close_range, 3U, ~0U, 0);
    std::vector<char*> argv;
    for (auto& a : args) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    for (const char* path : {"/usr/bin/busctl", "/bin/busctl"}) ::execv(path, argv.data());
    dprintf(2, "busctl cannot be executed: %s\n", ::strerrordesc_np(sys::from_libc(-1).error().value()));
    ::_exit(127);
  }
  out.reset();
  std::string words;
  int64_t end = now_ms() + timeout_ms;
  for (;;) {
    pollfd pf{in.get(), POLLIN, 0};
    int n = ::poll(&pf, 1, static_cast<int>(std::max<int64_t>(end - now_ms(), 0)));
    if (n < 0) continue;
    if (n == 0) {
      kill_and_wait(process_name(pid), 1000);
      return base::error(base::kETIMEDOUT, "systemd did not answer {} within {} ms", method, timeout_ms);
    }
    char buf[1024];
    auto got = sys::read(in.get(), buf, sizeof buf);
    if (!got.ok() || *got == 0) break;
    if (words.size() < 16384) words.append(buf, *got);
  }
  int status = reap(pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  std::string line = base::last_line(words);
  return base::error(base::kEIO, "systemd refuses {}: {}", method, line.empty() ? "no reason is told" : line);
}

// "a(sv)": how many, then all of them.
void add_properties(std::vector<std::string>& args, size_t count, const std::vector<std::string>& flat) {
  args.push_back(std::to_string(count));
  args.insert(args.end(), flat.begin(), flat.end());
}

size_t count_properties(const std::vector<std::string>& flat) { return flat.size() / 3; }

bool pure_v2() {
  auto all = find_hierarchies();
  return std::all_of(all.begin(), all.end(), [](const Hierarchy& h) { return h.v2; });
}

}  // namespace

std::string ScopeName::path() const {
  // "a-b-c.slice" is a.slice/a-b.slice/a-b-c.slice; "-.slice" is the top.
  std::string out, stem = slice.substr(0, slice.size() - 6);
  if (stem != "-") {
    for (size_t at = stem.find('-');; at = stem.find('-', at + 1)) {
      out += "/" + stem.substr(0, at) + ".slice";
      if (at == std::string::npos) break;
    }
  }
  return out + "/" + unit;
}

ResultX<ScopeName> parse_scope_name(const std::string& cgroups_path, const std::string& id) {
  std::string text = cgroups_path.empty() ? "system.slice:caisson:" + id : cgroups_path;
  auto wrong = [&](const char* why) {
    return base::error(base::kEINVAL, "linux.cgroupsPath is '{}': with --systemd-cgroup it must be slice:prefix:name, such as "
                       "system.slice:caisson:{} ({})", cgroups_path.substr(0, 200), id, why);
  };
  size_t a = text.find(':'), b = a == std::string::npos ? a : text.find(':', a + 1);
  if (b == std::string::npos || text.find(':', b + 1) != std::string::npos) return wrong("it must have two colons");
  std::string slice = text.substr(0, a), prefix = text.substr(a + 1, b - a - 1), name = text.substr(b + 1);
  if (slice.empty()) slice = "system.slice";
  auto fine = [](const std::string& s) {
    return std::all_of(s.begin(), s.end(), [](unsigned char c) { return isalnum(c) || c == '_' || c == '-' || c == '.' || c == '\\' || c == '@'; });
  };
  if (!fine(slice) || !fine(prefix) || !fine(name)) return wrong("only letters, digits and _ - . \\ @ may be in it");
  bool top = slice == "-.slice";
  std::string stem = slice.size() > 6 ? slice.substr(0, slice.size() - 6) : "";
  if (stem.empty() || slice.compare(stem.size(), 6, ".slice") != 0) return wrong("the first part must end with .slice");
  if (!top && (stem.front() == '-' || stem.back() == '-' || stem.find("--") != std::string::npos || stem.find('.') != std::string::npos)) {
    return wrong("no such slice can be");
  }
  if (name.empty()) return wrong("the name is empty");
  std::string unit = (prefix.empty() ? name : prefix + "-" + name) + ".scope";
  if (unit.size() > 255 || unit.front() == '.') return wrong("no unit can have that name");
  return ScopeName{slice, unit};
}

std::vector<std::string> scope_properties(const CgroupLimits& l, bool v2) {
  std::vector<std::string> out;
  auto add = [&](const char* name, uint64_t value) {
    out.insert(out.end(), {name, "t", std::to_string(value)});
  };
  auto or_infinite = [](int64_t n) { return n < 0 ? UINT64_MAX : static_cast<uint64_t>(n); };
  if (l.memory && *l.memory) add(v2 ? "MemoryMax" : "MemoryLimit", or_infinite(*l.memory));
  if (l.cpu_shares && *l.cpu_shares) {
    if (v2) add("CPUWeight", weight_of_shares(*l.cpu_shares));
    else add("CPUShares", std::clamp<uint64_t>(*l.cpu_shares, 2, 262144));
  }
  if (l.cpu_quota && *l.cpu_quota) {
    // Microseconds of processor time per second; systemd counts in steps of 10 ms and would round down.
    uint64_t period = l.cpu_period.value_or(0) ? *l.cpu_period : 100000;
    uint64_t per_second = UINT64_MAX;
    if (*l.cpu_quota > 0) {
      auto exact = static_cast<__uint128_t>(*l.cpu_quota) * 1000000 / period;
      per_second = exact > UINT64_MAX / 2 ? UINT64_MAX : (static_cast<uint64_t>(exact) + 9999) / 10000 * 10000;
    }
    add("CPUQuotaPerSecUSec", per_second);
  }
  if (l.pids && *l.pids) add("TasksMax", or_infinite(*l.pids));
  return out;
}

Scope& Scope::operator=(Scope&& o) noexcept {
  if (this != &o) {
    release();
    path_ = std::move(o.path_);
    keeper_ = std::exchange(o.keeper_, 0);
  }
  return *this;
}

void Scope::release() {
  if (!keeper_) return;
  kill_and_wait(process_name(keeper_), 1000);
  keeper_ = 0;
}

ResultX<Scope> Scope::create(const ScopeName& name, const std::string& description, const CgroupLimits& limits) {
  if (!runs_systemd()) {
    return base::error(base::kEOPNOTSUPP, "--systemd-cgroup: no systemd runs on this host (/run/systemd/system is missing): leave "
                       "the flag out, and set the engine's cgroup manager to cgroupfs");
  }
  Scope s;
  // systemd starts no scope without a process.
  s.keeper_ = TRY_MSG(clone_process({}), "start a process");
  if (s.keeper_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    reset_signals();
    ::syscall(SYS_close_range, 0U, ~0U, 0);
    for (;;) ::pause();
  }
  std::vector<std::string> properties = scope_properties(limits, pure_v2());
  size_t count = count_properties(properties) + 5;
  properties.insert(properties.end(), {"Description", "s", description, "Slice", "s", name.slice, "Delegate", "b", "true",
                                       "DefaultDependencies", "b", "false", "PIDs", "au", "1", std::to_string(s.keeper_)});
  std::vector<std::string> args{"ssa(sv)a(sa(sv))", name.unit, "fail"};
  add_properties(args, count, properties);
  args.push_back("0");
  auto started = call_manager("StartTransientUnit", args);
  if (!started.ok() && started.error().text().find("already") != std::string::npos) {
    // A unit of this name that has failed is remembered until somebody says that he knows.
    IGNORE_ERROR(call_manager("ResetFailedUnit", {"s", name.unit}), "the first error is the one to tell");
    started = call_manager("StartTransientUnit", args);
  }
  if (!started.ok()) return base::wrap(started.error(), base::format("--systemd-cgroup: make the unit {}", name.unit));
  TRY(s.await_group(name.unit));
  return s;
}

ResultX<void> Scope::await_group(const std::string& unit) {
  auto mounts = read_file("/proc/self/mountinfo", 16 << 20);
  if (!mounts.ok()) return base::wrap(mounts.error(), "read /proc/self/mountinfo");
  for (int64_t end = now_ms() + kCallMs; now_ms() < end; sleep_us(1000)) {
    auto groups = read_file(base::format("/proc/{}/cgroup", keeper_));
    if (!groups.ok()) break;
    for (auto& h : parse_hierarchies(*mounts, *groups)) {
      size_t cut = h.own.rfind('/');
      if (cut == std::string::npos || h.own.compare(cut + 1, std::string::npos, unit) != 0) continue;
      path_ = h.own;
      return {};
    }
  }
  stop_scope(unit);
  return base::error(base::kETIMEDOUT, "--systemd-cgroup: systemd did not put a process into {} within {} ms", unit, kCallMs);
}

ResultX<void> update_scope(const std::string& unit, const CgroupLimits& limits) {
  auto properties = scope_properties(limits, pure_v2());
  if (properties.empty()) return {};
  std::vector<std::string> args{"sba(sv)", unit, "true"};
  add_properties(args, count_properties(properties), properties);
  return call_manager("SetUnitProperties", args);
}

void stop_scope(const std::string& unit) {
  IGNORE_ERROR(call_manager("StopUnit", {"ss", unit, "replace"}, kStopMs), "a scope ends by itself with its last process");
  IGNORE_ERROR(call_manager("ResetFailedUnit", {"s", unit}, kStopMs), "it has not failed");
}

}  // namespace runtime::host
