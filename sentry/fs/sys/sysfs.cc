// SPDX-License-Identifier: Apache-2.0
// sysfs: the CPUs, one memory node, the network devices, and the empty places that programs look into. Linux:
// Documentation/ABI/testing/sysfs-devices-system-cpu.
#include "sentry/fs/sys/sysfs.h"

#include "sentry/fs/common/cpu_info.h"
#include "sentry/fs/sys/tree.h"

namespace sentry::fs::sys {
namespace {

constexpr uint32_t kRead = S_IFREG | 0444, kWrite = S_IFREG | 0644, kDir = S_IFDIR | 0555, kLink = S_IFLNK | 0777;

struct Builder {
  std::vector<Node> nodes;
  void file(std::string path, std::string text, uint32_t mode = kRead) {
    nodes.push_back({std::move(path), mode, std::move(text) + "\n"});
  }
  void directory(std::string path) { nodes.push_back({std::move(path), kDir, {}}); }
  void link(std::string path, std::string target) { nodes.push_back({std::move(path), kLink, std::move(target)}); }
};

void add_caches(Builder& b, const std::string& cpu, unsigned index, unsigned cpus) {
  unsigned n = 0;
  for (const common::CpuCache& k : common::cpu_info().caches) {
    const std::string at = cpu + "/cache/index" + std::to_string(n++) + "/";
    // A cache that the host shares among several is shown as shared by all, else as the CPU's own.
    const bool shared = k.level >= 3 && cpus > 1;
    b.file(at + "id", shared ? "0" : std::to_string(index));
    b.file(at + "level", std::to_string(k.level));
    b.file(at + "type", k.type == 'D' ? "Data" : k.type == 'I' ? "Instruction" : "Unified");
    b.file(at + "size", std::to_string(k.bytes / 1024) + "K");
    b.file(at + "coherency_line_size", std::to_string(k.line));
    b.file(at + "ways_of_associativity", std::to_string(k.ways));
    b.file(at + "number_of_sets", std::to_string(k.sets));
    b.file(at + "physical_line_partition", "1");
    b.file(at + "shared_cpu_list", shared ? common::cpu_list(cpus) : std::to_string(index));
    std::string own;
    append(own, "%x", 1u << index % 32);
    for (unsigned i = 0; i < index / 32; i++) own += ",00000000";
    b.file(at + "shared_cpu_map", shared ? common::cpu_mask(cpus) : own);
  }
}

// One socket, one thread a core.
void add_cpus(Builder& b, unsigned cpus) {
  const std::string all = common::cpu_list(cpus), mask = common::cpu_mask(cpus), top = "devices/system/cpu";
  for (const char* name : {"online", "possible", "present"}) b.file(top + "/" + name, all);
  b.file(top + "/offline", "");
  b.file(top + "/isolated", "");
  b.file(top + "/kernel_max", "8191");
  b.file(top + "/smt/active", "0");
  b.file(top + "/smt/control", "notsupported");
  b.directory(top + "/vulnerabilities");
  for (unsigned i = 0; i < cpus; i++) {
    const std::string cpu = top + "/cpu" + std::to_string(i);
    std::string own;
    append(own, "%x", 1u << i % 32);
    for (unsigned w = 0; w < i / 32; w++) own += ",00000000";
    b.file(cpu + "/topology/physical_package_id", "0");
    b.file(cpu + "/topology/die_id", "0");
    b.file(cpu + "/topology/core_id", std::to_string(i));
    for (const char* name : {"core_cpus", "thread_siblings"}) b.file(cpu + "/topology/" + name, own);
    for (const char* name : {"core_cpus_list", "thread_siblings_list"}) b.file(cpu + "/topology/" + name, std::to_string(i));
    for (const char* name : {"core_siblings", "package_cpus", "die_cpus"}) b.file(cpu + "/topology/" + name, mask);
    for (const char* name : {"core_siblings_list", "package_cpus_list", "die_cpus_list"})
      b.file(cpu + "/topology/" + name, all);
    if (i > 0) b.file(cpu + "/online", "1");
    b.link(cpu + "/node0", "../../node/node0");
    add_caches(b, cpu, i, cpus);
  }
}

Result<std::string> node_meminfo(Tree& t) {
  kernel::MemoryFacts m;
  if (RefOrNull<kernel::Container> c = t.container()) m = kernel::memory_facts(t.kernel, *c);
  std::string out;
  auto kb = [&](const char* name, uint64_t bytes) {
    append(out, "Node 0 %-15s%8llu kB\n", (std::string(name) + ":").c_str(), static_cast<unsigned long long>(bytes / 1024));
  };
  kb("MemTotal", m.total);
  kb("MemFree", m.free);
  kb("MemUsed", m.used);
  return out;
}

void add_memory(Builder& b, unsigned cpus) {
  const std::string node = "devices/system/node";
  for (const char* name : {"online", "possible", "has_cpu", "has_memory", "has_normal_memory"}) b.file(node + "/" + name, "0");
  b.file(node + "/node0/cpulist", common::cpu_list(cpus));
  b.file(node + "/node0/cpumap", common::cpu_mask(cpus));
  b.file(node + "/node0/distance", "10");
  b.nodes.push_back({node + "/node0/meminfo", kRead, {}, node_meminfo});
  b.directory(node + "/node0/hugepages");
  b.directory("devices/system/memory");
  b.file("devices/system/clocksource/clocksource0/available_clocksource", "tsc");
  b.file("devices/system/clocksource/clocksource0/current_clocksource", "tsc");
  const std::string thp = "kernel/mm/transparent_hugepage";
  b.file(thp + "/enabled", "always [madvise] never", kWrite);
  b.file(thp + "/defrag", "always defer defer+madvise [madvise] never", kWrite);
  b.file(thp + "/shmem_enabled", "always within_size advise [never] deny force", kWrite);
  b.file(thp + "/hpage_pmd_size", "2097152");
  b.file(thp + "/use_zero_page", "1", kWrite);
  b.directory("kernel/mm/hugepages");
}

std::string hardware_address(const std::string& bytes) {
  std::string out;
  for (char c : bytes) append(out, "%s%02x", out.empty() ? "" : ":", static_cast<uint8_t>(c));
  return out;
}

// One physical kind for all: what a sandbox's interfaces hang on is none of its business.
void add_device(Builder& b, const NetDevice& d) {
  const std::string at = "devices/virtual/net/" + d.name;
  b.link("class/net/" + d.name, "../../" + at);
  constexpr const char* kStates[] = {"unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"};
  std::string flags;
  append(flags, "0x%x", d.flags & 0xffbfu);  // without IFF_RUNNING, which is no setting
  const std::pair<const char*, std::string> files[] = {
      {"addr_assign_type", "0"}, {"addr_len", std::to_string(d.address.size())}, {"address", hardware_address(d.address)},
      {"broadcast", hardware_address(d.broadcast)}, {"carrier", d.flags & 0x10000 ? "1" : "0"}, {"dev_id", "0x0"}, {"flags", flags},
      {"ifalias", ""}, {"ifindex", std::to_string(d.index)}, {"iflink", std::to_string(d.index)}, {"link_mode", "0"},
      {"mtu", std::to_string(d.mtu)}, {"operstate", kStates[d.operstate < std::size(kStates) ? d.operstate : 0]},
      {"tx_queue_len", std::to_string(d.tx_queue)}, {"type", std::to_string(d.type)},
      {"uevent", "INTERFACE=" + d.name + "\nIFINDEX=" + std::to_string(d.index)}};
  for (const auto& [name, text] : files) b.file(at + "/" + name, text);
  for (const char* name : {"collisions", "multicast", "rx_bytes", "rx_dropped", "rx_errors", "rx_packets", "tx_bytes",
                           "tx_dropped", "tx_errors", "tx_packets"})
    b.file(at + "/statistics/" + name, "0");
  b.link(at + "/subsystem", "../../../../class/net");
}

}  // namespace

Ref<vfs::FileSystem> create(kernel::Kernel& kernel, const Ref<kernel::Container>& container, std::span<const NetDevice> devices) {
  const unsigned cpus = kernel::cpu_count(kernel, *container);
  Builder b;
  add_cpus(b, cpus);
  add_memory(b, cpus);
  for (const NetDevice& d : devices) add_device(b, d);
  for (const char* empty : {"block", "bus", "class/block", "class/tty", "dev/block", "dev/char", "devices/platform", "firmware",
                            "fs/cgroup", "hypervisor", "kernel/debug", "kernel/security", "kernel/tracing", "module", "power"})
    b.directory(empty);
  return make_ref<Tree>(kernel, container->pids(), "sysfs", 0x62656572, std::move(b.nodes));
}

}  // namespace sentry::fs::sys
