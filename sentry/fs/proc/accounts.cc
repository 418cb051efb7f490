// SPDX-License-Identifier: Apache-2.0
// /proc/PID/{limits,sched,schedstat,children,timers}. Linux: fs/proc/base.c, kernel/sched/debug.c.
#include <sys/resource.h>

#include "sentry/fs/proc/proc_fs.h"

namespace sentry::fs::proc {

using kernel::FactsOf;
using kernel::Task;

namespace {

constexpr struct {
  int resource;
  const char* name;
  const char* unit;
} kLimits[] = {
    {RLIMIT_CPU, "Max cpu time", "seconds"},      {RLIMIT_FSIZE, "Max file size", "bytes"},
    {RLIMIT_DATA, "Max data size", "bytes"},      {RLIMIT_STACK, "Max stack size", "bytes"},
    {RLIMIT_CORE, "Max core file size", "bytes"}, {RLIMIT_RSS, "Max resident set", "bytes"},
    {RLIMIT_NPROC, "Max processes", "processes"}, {RLIMIT_NOFILE, "Max open files", "files"},
    {RLIMIT_MEMLOCK, "Max locked memory", "bytes"}, {RLIMIT_AS, "Max address space", "bytes"},
    {RLIMIT_LOCKS, "Max file locks", "locks"},    {RLIMIT_SIGPENDING, "Max pending signals", "signals"},
    {RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"}, {RLIMIT_NICE, "Max nice priority", ""},
    {RLIMIT_RTPRIO, "Max realtime priority", ""}, {RLIMIT_RTTIME, "Max realtime timeout", "us"},
};

std::string limit_value(uint64_t v) { return v == RLIM64_INFINITY ? "unlimited" : std::to_string(v); }

FactsOf of(const Subject& s) { return s.thread ? FactsOf::thread : FactsOf::process; }

}  // namespace

Result<std::string> limits_text(const Subject& s, Task&) {
  std::string out;
  append(out, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
  for (const auto& l : kLimits) {
    struct rlimit64 r = s.group->get_rlimit(l.resource);
    append(out, "%-25s %-20s %-20s ", l.name, limit_value(r.rlim_cur).c_str(), limit_value(r.rlim_max).c_str());
    if (*l.unit) append(out, "%-10s", l.unit);
    out += "\n";
  }
  return out;
}

Result<std::string> sched_text(const Subject& s, Task& t) {
  const kernel::TaskFacts f = kernel::task_facts(t, *s.fs.pids, of(s));
  std::string out;
  append(out, "%s (%d, #threads: %d)\n", f.name.c_str(), f.tid, f.threads);
  out += "-------------------------------------------------------------------\n";
  auto ms = [&](const char* name, uint64_t ns) {
    append(out, "%-45s:%14llu.%06llu\n", name, static_cast<unsigned long long>(ns / 1'000'000),
           static_cast<unsigned long long>(ns % 1'000'000));
  };
  auto number = [&](const char* name, long long v) { append(out, "%-45s:%21lld\n", name, v); };
  ms("se.exec_start", static_cast<uint64_t>(f.start_ns));
  ms("se.vruntime", f.user_ns + f.system_ns);
  ms("se.sum_exec_runtime", f.user_ns + f.system_ns);
  number("se.nr_migrations", 0);
  number("nr_switches", 0);
  number("nr_voluntary_switches", 0);
  number("nr_involuntary_switches", 0);
  number("se.load.weight", 1048576);
  number("policy", f.policy);
  number("prio", 120 + f.nice);
  number("clock-delta", 0);
  return out;
}

Result<std::string> schedstat_text(const Subject& s, Task& t) {
  const kernel::TaskFacts f = kernel::task_facts(t, *s.fs.pids, of(s));
  std::string out;
  append(out, "%llu 0 0\n", static_cast<unsigned long long>(f.user_ns + f.system_ns));
  return out;
}

Result<std::string> children_text(const Subject& s, Task& t) {
  std::string out;
  // Differs from Linux: the leader shows the children that any thread made.
  if (&t != s.group->leader().get()) return out;
  for (const Ref<kernel::ThreadGroup>& c : s.group->children())
    if (int pid = c->pid_in(*s.fs.pids)) append(out, "%d ", pid);
  return out;
}

Result<std::string> timers_text(const Subject&, Task& t) {
  if (!kernel::may_inspect(reader(), t)) return kEACCES;
  return std::string();
}

}  // namespace sentry::fs::proc
