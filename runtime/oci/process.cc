// SPDX-License-Identifier: Apache-2.0
// The process object of the spec: user, arguments, capabilities, limits.
#include "runtime/oci/process.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>

namespace runtime::oci {

namespace {

// By number, from 0.
const std::vector<std::string_view> kCapabilities = {
    "CHOWN",          "DAC_OVERRIDE",  "DAC_READ_SEARCH", "FOWNER",       "FSETID",       "KILL",
    "SETGID",         "SETUID",        "SETPCAP",         "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_ADMIN",      "NET_RAW",       "IPC_LOCK",        "IPC_OWNER",    "SYS_MODULE",   "SYS_RAWIO",
    "SYS_CHROOT",     "SYS_PTRACE",    "SYS_PACCT",       "SYS_ADMIN",    "SYS_BOOT",     "SYS_NICE",
    "SYS_RESOURCE",   "SYS_TIME",      "SYS_TTY_CONFIG",  "MKNOD",        "LEASE",        "AUDIT_WRITE",
    "AUDIT_CONTROL",  "SETFCAP",       "MAC_OVERRIDE",    "MAC_ADMIN",    "SYSLOG",       "WAKE_ALARM",
    "BLOCK_SUSPEND",  "AUDIT_READ",    "PERFMON",         "BPF",          "CHECKPOINT_RESTORE"};

struct LimitName {
  std::string_view name;
  uint32_t number;
};
constexpr LimitName kLimits[] = {
    {"RLIMIT_CPU", RLIMIT_CPU},         {"RLIMIT_FSIZE", RLIMIT_FSIZE},     {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_STACK", RLIMIT_STACK},     {"RLIMIT_CORE", RLIMIT_CORE},       {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_NPROC", RLIMIT_NPROC},     {"RLIMIT_NOFILE", RLIMIT_NOFILE},   {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_AS", RLIMIT_AS},           {"RLIMIT_LOCKS", RLIMIT_LOCKS},     {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},     {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME}};

uint64_t read_capabilities(const View& v) {
  uint64_t mask = 0;
  for (auto& e : v.list()) {
    std::string name = e.text();
    if (name.empty()) continue;
    auto n = capability_number(name);
    if (n) mask |= uint64_t{1} << *n;
    else e.warn(base::format("'{}' is no capability that is known, ignored", name));
  }
  return mask;
}

void read_rlimits(const View& v, base::wire::Process& p) {
  for (auto& e : v.list()) {
    e.only({"type", "hard", "soft"});
    std::string name = e["type"].text();
    auto at = std::find_if(std::begin(kLimits), std::end(kLimits), [&](const LimitName& l) { return l.name == name; });
    if (at == std::end(kLimits)) {
      e["type"].fail(base::format("is '{}', must be a resource such as RLIMIT_NOFILE", name));
      return;
    }
    for (auto& have : p.rlimits) {
      if (have.resource == at->number) e["type"].fail(base::format("names {} a second time", name));
    }
    base::wire::Rlimit l{at->number, e["soft"].natural().value_or(0), e["hard"].natural().value_or(0)};
    if (l.soft > l.hard) e.fail(base::format("has a soft limit {} above its hard limit {}", l.soft, l.hard));
    p.rlimits.push_back(l);
  }
}

void read_scheduler(const View& v, base::wire::Scheduling& s) {
  v.only({"policy", "nice", "priority", "flags", "runtime", "deadline", "period"});
  if (v.empty()) return;
  std::string policy = v["policy"].text();
  static constexpr std::pair<std::string_view, int> kPolicies[] = {{"SCHED_OTHER", SCHED_OTHER}, {"SCHED_BATCH", SCHED_BATCH}, {"SCHED_IDLE", SCHED_IDLE}};
  auto at = std::find_if(std::begin(kPolicies), std::end(kPolicies), [&](auto& p) { return p.first == policy; });
  if (at == std::end(kPolicies)) {
    v["policy"].fail(base::format("is '{}': must be one of SCHED_OTHER, SCHED_BATCH, SCHED_IDLE (the real-time policies are not "
                                  "given to a sandbox)", policy));
    return;
  }
  s.policy = at->second;
  s.nice = static_cast<int32_t>(v["nice"].integer(-20, 19).value_or(0));
  if (v["priority"].integer(INT32_MIN, INT32_MAX).value_or(0) != 0) v["priority"].fail(base::format("is not 0, which {} does not take", policy));
  for (const char* deadline : {"runtime", "deadline", "period"}) {
    if (v[deadline].natural().value_or(0) != 0) v[deadline].fail("is for SCHED_DEADLINE alone");
  }
  v["flags"].unsupported("not supported, ignored");
}

void read_io_priority(const View& v, base::wire::Scheduling& s) {
  v.only({"class", "priority"});
  if (v.empty()) return;
  std::string name = v["class"].text();
  static constexpr std::pair<std::string_view, uint32_t> kClasses[] = {{"IOPRIO_CLASS_RT", 1}, {"IOPRIO_CLASS_BE", 2}, {"IOPRIO_CLASS_IDLE", 3}};
  auto at = std::find_if(std::begin(kClasses), std::end(kClasses), [&](auto& p) { return p.first == name; });
  if (at == std::end(kClasses)) {
    v["class"].fail(base::format("is '{}': must be one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE", name));
    return;
  }
  constexpr int kClassShift = 13;
  s.io_priority = at->second << kClassShift | static_cast<uint32_t>(v["priority"].integer(0, 7).value_or(0));
}

// "0-3,7": the kernel's form of a list of CPUs.
std::optional<std::vector<uint32_t>> parse_cpus(std::string_view list) {
  constexpr uint32_t kMost = 1024;
  std::vector<uint32_t> out;
  auto number = [&]() -> std::optional<uint32_t> {
    uint32_t n = 0;
    size_t digits = 0;
    for (; !list.empty() && list[0] >= '0' && list[0] <= '9' && n < kMost; digits++, list.remove_prefix(1)) {
      n = n * 10 + static_cast<uint32_t>(list[0] - '0');
    }
    if (digits == 0 || n >= kMost) return std::nullopt;
    return n;
  };
  while (!list.empty()) {
    auto first = number();
    if (!first) return std::nullopt;
    auto last = first;
    if (!list.empty() && list[0] == '-') {
      list.remove_prefix(1);
      last = number();
      if (!last || *last < *first) return std::nullopt;
    }
    for (uint32_t n = *first; n <= *last; n++) out.push_back(n);
    if (out.size() > kMost) return std::nullopt;
    if (list.empty()) return out;
    if (list[0] != ',' || list.size() == 1) return std::nullopt;
    list.remove_prefix(1);
  }
  return out;
}

void read_exec_cpus(const View& v, base::wire::Scheduling& s) {
  v.only({"initial", "final"});
  // initial is for the runtime's own steps inside the container, of which there are none.
  for (const char* name : {"initial", "final"}) {
    auto cpus = parse_cpus(v[name].text());
    if (!cpus) v[name].fail(base::format("is '{}': must be a list of CPUs such as 0-3,7", v[name].text()));
    else if (name[0] == 'f') s.cpus = std::move(*cpus);
  }
}

}  // namespace

const std::vector<std::string_view>& capability_names() { return kCapabilities; }

std::optional<int> capability_number(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  std::string_view n = upper;
  if (n.substr(0, 4) == "CAP_") n.remove_prefix(4);
  auto it = std::find(kCapabilities.begin(), kCapabilities.end(), n);
  if (it == kCapabilities.end()) return std::nullopt;
  return static_cast<int>(it - kCapabilities.begin());
}

base::wire::Process read_process(const View& v) {
  base::wire::Process p;
  v.only({"terminal", "consoleSize", "user", "args", "commandLine", "env", "cwd", "capabilities", "rlimits",
          "noNewPrivileges", "apparmorProfile", "oomScoreAdj", "scheduler", "selinuxLabel", "ioPriority",
          "execCPUAffinity"});
  p.terminal = v["terminal"].flag();
  p.rows = static_cast<uint16_t>(v["consoleSize"]["height"].natural(UINT16_MAX).value_or(0));
  p.cols = static_cast<uint16_t>(v["consoleSize"]["width"].natural(UINT16_MAX).value_or(0));
  View user = v["user"];
  user.only({"uid", "gid", "umask", "additionalGids", "username"});
  user["username"].unsupported("is for Windows, ignored");
  p.uid = static_cast<uint32_t>(user["uid"].natural(UINT32_MAX - 1).value_or(0));
  p.gid = static_cast<uint32_t>(user["gid"].natural(UINT32_MAX - 1).value_or(0));
  p.umask = static_cast<uint32_t>(user["umask"].natural(07777).value_or(022)) & 0777;
  for (auto& g : user["additionalGids"].list()) {
    p.groups.push_back(static_cast<uint32_t>(g.natural(UINT32_MAX - 1).value_or(0)));
  }
  if (p.groups.size() > 65536) user["additionalGids"].fail("holds more than 65536 groups");
  p.args = v["args"].texts();
  if (p.args.empty()) v["args"].fail("is empty: it must name the program to run");
  else if (p.args[0].empty()) v["args"].fail("starts with an empty string: it must name the program to run");
  p.env = v["env"].texts();
  p.cwd = v["cwd"].text();
  if (p.cwd.empty() || p.cwd[0] != '/') {
    v["cwd"].fail(base::format("is '{}': it must be an absolute path", p.cwd));
  }
  View caps = v["capabilities"];
  caps.only({"bounding", "effective", "inheritable", "permitted", "ambient"});
  p.cap_bounding = read_capabilities(caps["bounding"]);
  p.cap_effective = read_capabilities(caps["effective"]);
  p.cap_inheritable = read_capabilities(caps["inheritable"]);
  p.cap_permitted = read_capabilities(caps["permitted"]);
  p.cap_ambient = read_capabilities(caps["ambient"]);
  read_rlimits(v["rlimits"], p);
  p.no_new_privs = v["noNewPrivileges"].flag();
  p.oom_score_adj = static_cast<int32_t>(v["oomScoreAdj"].integer(-1000, 1000).value_or(0));
  v["apparmorProfile"].unsupported("AppArmor does not apply inside the sandbox, ignored");
  v["selinuxLabel"].unsupported("SELinux does not apply inside the sandbox, ignored");
  read_scheduler(v["scheduler"], p.scheduling);
  read_io_priority(v["ioPriority"], p.scheduling);
  read_exec_cpus(v["execCPUAffinity"], p.scheduling);
  v["commandLine"].unsupported("is for Windows, ignored");
  return p;
}

}  // namespace runtime::oci
