// SPDX-License-Identifier: Apache-2.0
// events: figures of a container at an interval, and a line whenever the host killed a program of it for want of memory.
#include <stdlib.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"
#include "runtime/container/plan.h"
#include "runtime/host/cgroup_stats.h"

namespace runtime::cmd {

namespace wire = base::wire;
using nlohmann::ordered_json;

namespace {

constexpr int kLookMs = 200;

// "5s", "100ms", "1m30s" as Go writes durations; milliseconds.
base::ResultX<int64_t> parse_duration(const std::string& text) {
  double total = 0;
  const char* at = text.c_str();
  bool any = false;
  while (*at) {
    char* end = nullptr;
    double n = strtod(at, &end);
    if (end == at || !(n >= 0)) break;
    std::string unit;
    while (*end && (*end < '0' || *end > '9') && *end != '.') unit += *end++;
    double factor = unit == "ms" ? 1 : unit == "s" ? 1e3 : unit == "m" ? 6e4 : unit == "h" ? 3.6e6 : unit == "us" ? 1e-3 : 0;
    if (factor == 0) break;
    total += n * factor;
    at = end;
    any = true;
  }
  if (!any || *at || total < 1 || total > 1e12) {
    return base::error(base::kEINVAL, "--interval {}: must be a time above 0 such as 5s or 500ms", text);
  }
  return static_cast<int64_t>(total);
}

ordered_json amount(const host::CgroupStats::Amount& a) {
  return {{"limit", a.limit}, {"usage", a.usage}, {"max", a.max}, {"failcnt", a.failures}};
}

ordered_json io_list(const std::vector<host::CgroupStats::Io>& list) {
  auto out = ordered_json::array();
  for (auto& io : list) out.push_back({{"major", io.major}, {"minor", io.minor}, {"op", io.operation}, {"value", io.value}});
  return out;
}

// As runc writes them.
ordered_json figures(const host::CgroupStats& s) {
  ordered_json j;
  auto& usage = j["cpu"]["usage"];
  usage["total"] = s.cpu_ns;
  if (!s.cpu_each_ns.empty()) usage["percpu"] = s.cpu_each_ns;
  if (!s.cpu_each_kernel_ns.empty()) usage["percpu_kernel"] = s.cpu_each_kernel_ns;
  if (!s.cpu_each_user_ns.empty()) usage["percpu_user"] = s.cpu_each_user_ns;
  usage["kernel"] = s.cpu_kernel_ns;
  usage["user"] = s.cpu_user_ns;
  j["cpu"]["throttling"] = {{"periods", s.periods}, {"throttledPeriods", s.throttled_periods}, {"throttledTime", s.throttled_ns}};
  auto& set = j["cpuset"] = ordered_json::object();
  if (!s.cpus.empty()) set["cpus"] = s.cpus;
  if (!s.mems.empty()) set["mems"] = s.mems;
  for (auto& [name, value] : s.cpuset) set[name] = value;
  j["memory"] = {{"cache", s.cache},         {"usage", amount(s.memory)},         {"swap", amount(s.memory_swap)},
                 {"kernel", amount(s.kernel)}, {"kernelTCP", amount(s.kernel_tcp)}, {"raw", s.memory_raw}};
  j["pids"] = {{"current", s.pids}};
  if (s.pids_limit && s.pids_limit != UINT64_MAX) j["pids"]["limit"] = s.pids_limit;
  j["blkio"] = {{"ioServiceBytesRecursive", io_list(s.io_bytes)}, {"ioServicedRecursive", io_list(s.io_operations)}};
  j["hugetlb"] = ordered_json::object();
  for (auto& [size, a] : s.hugepages) j["hugetlb"][size] = {{"usage", a.usage}, {"max", a.max}, {"failcnt", a.failures}};
  j["intel_rdt"] = ordered_json::object();
  j["network_interfaces"] = nullptr;
  return j;
}

void print_event(const std::string& id, const char* type, const ordered_json* data) {
  ordered_json e{{"type", type}, {"id", id}};
  if (data) e["data"] = *data;
  std::string line = e.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  fwrite(line.data(), 1, line.size(), stdout);
  fflush(stdout);
}

// What the sandbox's kernel tells.
std::optional<wire::StatsReply> ask_sentry(const container::Directory& d, const container::State& s) {
  auto client = container::Client::connect(d.fd());
  if (!client.ok()) return std::nullopt;
  auto r = client->call<wire::StatsReply>(wire::ControlOp::kStats, wire::IdRequest{s.id}, 2000);
  if (!r.ok()) return std::nullopt;
  return *r;
}

// Figures that runc does not have.
ordered_json sandbox_figures(const wire::StatsReply& r) {
  return {{"syscalls", r.syscalls},
          {"trapped", r.trapped},
          {"patchedSites", {{"mov", r.patched_mov}, {"pun", r.patched_pun}, {"unfit", r.unfit}}}};
}

}  // namespace

base::ResultX<int> events(const Globals& g, const Args& args) {
  std::string interval = "5s";
  bool once = false;
  Flags f("caisson events", "[flags] ID", "Prints figures of a container at an interval, and when it runs out of memory, as JSON.");
  f.value("--interval", interval, "time between two lines (default: 5s)");
  f.flag("--stats", once, "print the figures once");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  std::string id = TRY(only_id(rest, "events"));
  int64_t period = TRY(parse_duration(interval));
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  auto s = TRY(d.load());
  auto status = container::find_status(d, s);
  if (status == container::Status::stopped || status == container::Status::creating) {
    return base::error(base::kEINVAL, "container '{}' is {}: it has no figures", id, container::status_name(status));
  }
  uint64_t kills = host::count_oom_kills(s.cgroup_leaves);
  for (int64_t next = once ? 0 : host::now_ms() + period;;) {
    if (uint64_t now = host::count_oom_kills(s.cgroup_leaves); now > kills) {
      print_event(id, "oom", nullptr);
      kills = now;
    }
    if (host::now_ms() >= next) {
      auto stats = host::read_cgroup_stats(s.cgroup_leaves);
      host::add_processor_details(s.cgroup_leaves, stats);
      auto inside = ask_sentry(d, s);
      if (inside) {
        // The container's own count of tasks and its limit: the host's group also holds the sandbox's.
        stats.pids = inside->pids;
        constexpr uint64_t kOwn = static_cast<uint64_t>(container::kOwnPids);
        // Less than what is added to every limit: somebody else has set it, by linux.resources.unified for one.
        if (stats.pids_limit > kOwn && stats.pids_limit != UINT64_MAX) stats.pids_limit -= kOwn;
      }
      auto data = figures(stats);
      if (inside) data["sandbox"] = sandbox_figures(*inside);
      print_event(id, "stats", &data);
      next += period;
    }
    if (once || !host::alive(s.told())) return 0;
    host::sleep_us(static_cast<unsigned>(std::min<int64_t>(std::max<int64_t>(next - host::now_ms(), 1), kLookMs)) * 1000);
  }
}

}  // namespace runtime::cmd
