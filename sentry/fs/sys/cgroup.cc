// SPDX-License-Identifier: Apache-2.0
// cgroup2 as a container sees its own group: limits and use, nothing to write. Linux: Documentation/admin-guide/cgroup-v2.rst.
#include "sentry/fs/sys/sysfs.h"
#include "sentry/fs/sys/tree.h"

namespace sentry::fs::sys {
namespace {

using R = Result<std::string>;

unsigned long long ull(uint64_t v) { return v; }
std::string number_or_max(uint64_t v) { return (v ? std::to_string(v) : std::string("max")) + "\n"; }

kernel::ContainerLimits limits(Tree& t) {
  RefOrNull<kernel::Container> c = t.container();
  return c ? c->limits() : kernel::ContainerLimits{};
}
kernel::MemoryFacts memory(Tree& t) {
  RefOrNull<kernel::Container> c = t.container();
  return c ? kernel::memory_facts(t.kernel, *c) : kernel::MemoryFacts{};
}
Ref<kernel::PidNamespace> pids(Tree& t) {
  RefOrNull<kernel::Container> c = t.container();
  return c ? c->pids() : t.pids;
}

R procs(Tree& t) {
  std::string out;
  Ref<kernel::PidNamespace> ns = pids(t);
  for (const Ref<kernel::ThreadGroup>& g : ns->groups())
    if (!g->is_zombie()) append(out, "%d\n", g->pid_in(*ns));
  return out;
}
R threads(Tree& t) {
  std::string out;
  Ref<kernel::PidNamespace> ns = pids(t);
  for (const Ref<kernel::ThreadGroup>& g : ns->groups())
    for (const Ref<kernel::Task>& task : g->tasks()) append(out, "%d\n", task->tid_in(*ns));
  return out;
}
R cpu_max(Tree& t) {
  double cpus = limits(t).cpus;
  if (cpus <= 0) return std::string("max 100000\n");
  std::string out;
  append(out, "%llu 100000\n", ull(static_cast<uint64_t>(cpus * 100000 + 0.5)));
  return out;
}
R cpu_stat(Tree& t) {
  const kernel::CpuTotals c = kernel::cpu_totals(t.kernel, *pids(t));
  std::string out;
  append(out, "usage_usec %llu\nuser_usec %llu\nsystem_usec %llu\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\n"
         "burst_usec 0\n", ull((c.user_ns + c.system_ns) / 1000), ull(c.user_ns / 1000), ull(c.system_ns / 1000));
  return out;
}
R cpus_effective(Tree& t) {
  RefOrNull<kernel::Container> c = t.container();
  return common::cpu_list(c ? kernel::cpu_count(t.kernel, *c) : t.kernel.machine().cpus) + "\n";
}
R memory_max(Tree& t) { return number_or_max(limits(t).memory_bytes); }
R memory_current(Tree& t) { return std::to_string(memory(t).used) + "\n"; }
R memory_stat(Tree& t) {
  std::string out;
  append(out, "anon %llu\n", ull(memory(t).used));
  for (const char* zero : {"file", "kernel", "kernel_stack", "pagetables", "percpu", "sock", "shmem", "file_mapped",
                           "file_dirty", "file_writeback", "swapcached", "anon_thp", "inactive_anon"})
    append(out, "%s 0\n", zero);
  append(out, "active_anon %llu\n", ull(memory(t).used));
  for (const char* zero : {"inactive_file", "active_file", "unevictable", "slab_reclaimable", "slab_unreclaimable", "slab",
                           "pgfault", "pgmajfault"})
    append(out, "%s 0\n", zero);
  return out;
}
R memory_events(Tree&) { return std::string("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"); }
R pids_max(Tree& t) {
  int64_t n = limits(t).pids;
  return number_or_max(n > 0 ? static_cast<uint64_t>(n) : 0);
}
R pids_current(Tree& t) {
  RefOrNull<kernel::Container> c = t.container();
  return std::to_string(c ? kernel::tasks_in(*c) : 0) + "\n";
}

}  // namespace

Ref<vfs::FileSystem> create_cgroup(kernel::Kernel& kernel, const Ref<kernel::Container>& container) {
  constexpr uint32_t kRead = S_IFREG | 0444, kWrite = S_IFREG | 0644;
  std::vector<Node> nodes = {
      {"cgroup.controllers", kRead, "cpuset cpu memory pids\n"},
      {"cgroup.events", kRead, "populated 1\nfrozen 0\n"},
      {"cgroup.freeze", kWrite, "0\n"},
      {"cgroup.max.depth", kWrite, "max\n"},
      {"cgroup.max.descendants", kWrite, "max\n"},
      {"cgroup.procs", kWrite, {}, procs},
      {"cgroup.stat", kRead, "nr_descendants 0\nnr_dying_descendants 0\n"},
      {"cgroup.subtree_control", kWrite, "\n"},
      {"cgroup.threads", kWrite, {}, threads},
      {"cgroup.type", kWrite, "domain\n"},
      {"cpu.max", kWrite, {}, cpu_max},
      {"cpu.stat", kRead, {}, cpu_stat},
      {"cpu.weight", kWrite, "100\n"},
      {"cpuset.cpus", kWrite, "\n"},
      {"cpuset.cpus.effective", kRead, {}, cpus_effective},
      {"cpuset.mems", kWrite, "\n"},
      {"cpuset.mems.effective", kRead, "0\n"},
      {"memory.current", kRead, {}, memory_current},
      {"memory.events", kRead, {}, memory_events},
      {"memory.high", kWrite, "max\n"},
      {"memory.low", kWrite, "0\n"},
      {"memory.max", kWrite, {}, memory_max},
      {"memory.min", kWrite, "0\n"},
      {"memory.stat", kRead, {}, memory_stat},
      {"memory.swap.current", kRead, "0\n"},
      {"memory.swap.max", kWrite, "0\n"},
      {"pids.current", kRead, {}, pids_current},
      {"pids.max", kWrite, {}, pids_max},
  };
  return make_ref<Tree>(kernel, container->pids(), "cgroup2", 0x63677270, std::move(nodes));
}

}  // namespace sentry::fs::sys
