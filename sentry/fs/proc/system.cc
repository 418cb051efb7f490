// SPDX-License-Identifier: Apache-2.0
// Files of the whole system: /proc/meminfo, stat, uptime, loadavg, cpuinfo and the short ones.
#include <time.h>

#include <cmath>

#include "sentry/fs/common/cpu_info.h"
#include "sentry/fs/proc/proc_fs.h"
#include "sentry/kernel/namespaces.h"

namespace sentry::fs::proc {
namespace {

constexpr uint64_t kTick = 10'000'000;  // ns
constexpr int64_t kSecond = 1'000'000'000;

unsigned long long ull(uint64_t v) { return v; }

int64_t uptime_ns(ProcFs& fs) { return std::max<int64_t>(0, sched::now() - fs.kernel.boot_monotonic_ns()); }

// Time spent, never less than what was shown before.
kernel::CpuTotals cpu_totals(ProcFs& fs) {
  kernel::CpuTotals c = kernel::cpu_totals(fs.kernel, *fs.pids);
  MutexLock l(fs.mu);
  fs.shown_user = c.user_ns = std::max(c.user_ns, fs.shown_user);
  fs.shown_system = c.system_ns = std::max(c.system_ns, fs.shown_system);
  return c;
}

uint64_t idle_ns(ProcFs& fs, const kernel::CpuTotals& c, unsigned cpus) {
  uint64_t all = static_cast<uint64_t>(uptime_ns(fs)) * cpus;
  return all - std::min(all, c.user_ns + c.system_ns);
}

struct Counts {
  int threads = 0, running = 0;
};
Counts count_tasks(ProcFs& fs) {
  Counts n;
  for (const Ref<kernel::ThreadGroup>& g : fs.pids->groups())
    for (const Ref<kernel::Task>& t : g->tasks()) {
      n.threads++;
      n.running += t.get() == reader() || kernel::last_call_number(*t) == ~0ull;
    }
  return n;
}

std::string version_text(ProcFs&) {
  return std::string(kernel::kSysname) + " version " + kernel::kRelease + " (caisson@sandbox) (caisson) " + kernel::kVersion +
         "\n";
}
std::string cmdline_system_text(ProcFs&) { return "quiet\n"; }
std::string filesystems_text(ProcFs&) {
  return "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\tmqueue\n"
         "nodev\tramfs\nnodev\toverlay\n";
}
std::string devices_text(ProcFs&) {
  return "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n136 pts\n\nBlock devices:\n";
}
std::string swaps_text(ProcFs&) { return "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"; }
std::string partitions_text(ProcFs&) { return "major minor  #blocks  name\n\n"; }
std::string nothing(ProcFs&) { return {}; }
std::string interrupts_text(ProcFs& fs) {
  std::string out = "           ";
  for (unsigned i = 0; i < cpus_of_reader(fs); i++) append(out, "CPU%-8u", i);
  return out + "\n";
}
std::string softirqs_text(ProcFs& fs) {
  const unsigned cpus = cpus_of_reader(fs);
  std::string out = "                    ";
  for (unsigned i = 0; i < cpus; i++) append(out, "CPU%-8u", i);
  out += '\n';
  for (const char* name : {"HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"}) {
    append(out, "%12s:", name);
    for (unsigned i = 0; i < cpus; i++) append(out, " %10u", 0u);
    out += '\n';
  }
  return out;
}
std::string cgroups_text(ProcFs&) {
  return "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\ncpu\t0\t1\t1\ncpuacct\t0\t1\t1\nmemory\t0\t1\t1\n"
         "pids\t0\t1\t1\n";
}
std::string misc_text(ProcFs&) { return {}; }
std::string execdomains_text(ProcFs&) { return "0-0\tLinux           \t[kernel]\n"; }

constexpr uint32_t kRead = S_IFREG | 0444;
constexpr SystemEntry kSystem[] = {
    {"cgroups", kRead, cgroups_text},
    {"cmdline", kRead, cmdline_system_text},
    {"consoles", kRead, nothing},
    {"cpuinfo", kRead, cpuinfo_text},
    {"crypto", kRead, nothing},
    {"devices", kRead, devices_text},
    {"diskstats", kRead, nothing},
    {"execdomains", kRead, execdomains_text},
    {"filesystems", kRead, filesystems_text},
    {"interrupts", kRead, interrupts_text},
    {"loadavg", kRead, loadavg_text},
    {"locks", kRead, nothing},
    {"meminfo", kRead, meminfo_text},
    {"misc", kRead, misc_text},
    {"modules", kRead, nothing},
    {"partitions", kRead, partitions_text},
    {"softirqs", kRead, softirqs_text},
    {"stat", kRead, system_stat_text},
    {"swaps", kRead, swaps_text},
    {"uptime", kRead, uptime_text},
    {"version", kRead, version_text},
    {"vmstat", kRead, vmstat_text},
};

}  // namespace

std::span<const SystemEntry> system_entries() { return kSystem; }

std::string cpuinfo_text(ProcFs& fs) {
  const common::CpuInfo& c = common::cpu_info();
  const unsigned cpus = cpus_of_reader(fs);
  uint64_t cache = 0;
  for (const common::CpuCache& k : c.caches)
    if (c.is_amd ? k.level == 2 : k.level >= 2) cache = k.bytes;
  std::string out;
  for (unsigned i = 0; i < cpus; i++) {
    append(out, "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %s\nstepping\t: %u\n", i,
           c.vendor.c_str(), c.family, c.model, c.brand.empty() ? "unknown" : c.brand.c_str(), c.stepping);
    append(out, "microcode\t: 0xffffffff\ncpu MHz\t\t: %.3f\ncache size\t: %llu KB\n", c.mhz, ull(cache / 1024));
    append(out, "physical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\ncpu cores\t: %u\napicid\t\t: %u\ninitial apicid\t: %u\n",
           cpus, i, cpus, i, i);
    append(out, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %u\nwp\t\t: yes\nflags\t\t: %s\nbugs\t\t:\n", c.max_leaf,
           c.flags.c_str());
    append(out, "bogomips\t: %.2f\nclflush size\t: %u\ncache_alignment\t: %u\n", 2 * c.mhz, c.clflush, c.clflush);
    append(out, "address sizes\t: %u bits physical, %u bits virtual\npower management:\n\n", c.physical_bits, c.virtual_bits);
  }
  return out;
}

std::string meminfo_text(ProcFs& fs) {
  kernel::MemoryFacts m;
  if (RefOrNull<kernel::Container> c = container_of_reader(fs)) m = kernel::memory_facts(fs.kernel, *c);
  std::string out;
  auto kb = [&](const char* name, uint64_t bytes) {
    append(out, "%-16s%8llu kB\n", (std::string(name) + ":").c_str(), ull(bytes / 1024));
  };
  kb("MemTotal", m.total);
  kb("MemFree", m.free);
  kb("MemAvailable", m.free);
  for (const char* zero : {"Buffers", "Cached", "SwapCached"}) kb(zero, 0);
  kb("Active", m.used);
  kb("Inactive", 0);
  kb("Active(anon)", m.used);
  for (const char* zero : {"Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "SwapTotal",
                           "SwapFree", "Zswap", "Zswapped", "Dirty", "Writeback"})
    kb(zero, 0);
  kb("AnonPages", m.used);
  for (const char* zero : {"Mapped", "Shmem", "KReclaimable", "Slab", "SReclaimable", "SUnreclaim", "KernelStack",
                           "PageTables", "SecPageTables", "NFS_Unstable", "Bounce", "WritebackTmp"})
    kb(zero, 0);
  kb("CommitLimit", m.total);
  kb("Committed_AS", m.used);
  out += "VmallocTotal:   34359738367 kB\n";
  for (const char* zero : {"VmallocUsed", "VmallocChunk", "Percpu", "AnonHugePages", "ShmemHugePages", "ShmemPmdMapped",
                           "FileHugePages", "FilePmdMapped"})
    kb(zero, 0);
  out += "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n";
  kb("Hugepagesize", 2 << 20);
  kb("Hugetlb", 0);
  kb("DirectMap4k", m.total);
  kb("DirectMap2M", 0);
  kb("DirectMap1G", 0);
  return out;
}

std::string system_stat_text(ProcFs& fs) {
  const unsigned cpus = cpus_of_reader(fs);
  const kernel::CpuTotals c = cpu_totals(fs);
  const uint64_t idle = idle_ns(fs, c, cpus);
  std::string out;
  append(out, "cpu  %llu 0 %llu %llu 0 0 0 0 0 0\n", ull(c.user_ns / kTick), ull(c.system_ns / kTick), ull(idle / kTick));
  // Which CPU it was is the host's secret: shared out evenly.
  for (unsigned i = 0; i < cpus; i++)
    append(out, "cpu%u %llu 0 %llu %llu 0 0 0 0 0 0\n", i, ull(c.user_ns / kTick / cpus), ull(c.system_ns / kTick / cpus),
           ull(idle / kTick / cpus));
  append(out, "intr 0\nctxt 0\nbtime %lld\nprocesses %d\nprocs_running %d\nprocs_blocked 0\n",
         static_cast<long long>(fs.kernel.boot_realtime_ns() / kSecond), fs.pids->last_pid(), count_tasks(fs).running);
  out += "softirq 0 0 0 0 0 0 0 0 0 0 0\n";
  return out;
}

std::string uptime_text(ProcFs& fs) {
  const int64_t ahead = reader() ? kernel::clock_offset(*reader(), CLOCK_BOOTTIME) : 0;
  const uint64_t up = static_cast<uint64_t>(std::max<int64_t>(0, uptime_ns(fs) + ahead)), idle = idle_ns(fs, cpu_totals(fs), cpus_of_reader(fs));
  std::string out;
  auto hundredths = [](uint64_t ns) { return static_cast<unsigned>(ns / kTick % 100); };
  append(out, "%llu.%02u %llu.%02u\n", ull(up / kSecond), hundredths(up), ull(idle / kSecond), hundredths(idle));
  return out;
}

// Nobody samples run queues; the averages go on from the CPU time used between two readings.
std::string loadavg_text(ProcFs& fs) {
  const kernel::CpuTotals c = cpu_totals(fs);
  const int64_t now = sched::now();
  const Counts n = count_tasks(fs);
  double average[3];
  {
    MutexLock l(fs.mu);
    ProcFs::Load& load = fs.load;
    if (load.at == 0) load.at = fs.kernel.boot_monotonic_ns();
    const double dt = static_cast<double>(now - load.at) / kSecond;
    if (dt >= 1) {
      const uint64_t all = c.user_ns + c.system_ns;
      const double busy = static_cast<double>(all - std::min(all, load.cpu_ns)) / kSecond / dt;
      constexpr double kSpan[3] = {60, 300, 900};
      for (int i = 0; i < 3; i++) {
        const double keep = std::exp(-dt / kSpan[i]);
        load.average[i] = load.average[i] * keep + busy * (1 - keep);
      }
      load.at = now;
      load.cpu_ns = c.user_ns + c.system_ns;
    }
    std::copy(load.average, load.average + 3, average);
  }
  std::string out;
  append(out, "%.2f %.2f %.2f %d/%d %d\n", average[0], average[1], average[2], n.running, n.threads, fs.pids->last_pid());
  return out;
}

std::string vmstat_text(ProcFs& fs) {
  kernel::MemoryFacts m;
  if (RefOrNull<kernel::Container> c = container_of_reader(fs)) m = kernel::memory_facts(fs.kernel, *c);
  std::string out;
  append(out, "nr_free_pages %llu\n", ull(m.free / 4096));
  append(out, "nr_inactive_anon 0\nnr_active_anon %llu\nnr_inactive_file 0\nnr_active_file 0\nnr_unevictable 0\nnr_mlock 0\n",
         ull(m.used / 4096));
  append(out, "nr_anon_pages %llu\nnr_mapped 0\nnr_file_pages 0\nnr_dirty 0\nnr_writeback 0\nnr_shmem 0\n",
         ull(m.used / 4096));
  out += "pgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\npgfree 0\noom_kill 0\n";
  return out;
}

}  // namespace sentry::fs::proc
