// SPDX-License-Identifier: Apache-2.0
// config.json of an OCI bundle, checked and reduced to what the runtime acts on. The bytes are hostile: size and depth
// are bounded, every type is checked, and an error names the member. null, empty and absent mean the same.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/wire/control.h"

namespace runtime::oci {

inline constexpr size_t kMaxConfig = 4 << 20;
inline constexpr int kMaxDepth = 64;

struct Mount {
  std::string destination, type, source;
  std::vector<std::string> options;
};

// What a mount's options mean.
struct MountOptions {
  uint64_t flags = 0;        // MS_* of mount(2), the bind bits not among them
  bool bind = false, recursive = false;
  bool apart = false;        // private or unbindable: what the host mounts later is not seen
  bool shared = false, unbindable = false;
  bool copy_up = false;      // tmpcopyup
  std::string data;          // the rest, comma separated
};
base::ResultX<MountOptions> parse_mount_options(const Mount& m);
std::vector<std::string_view> mount_option_names();  // in order

struct Namespace {
  std::string type;  // pid network mount ipc uts user cgroup time
  std::string path;  // empty: a new one
};

struct IdMapping {
  uint32_t container = 0, host = 0, size = 0;
};

struct Hook {
  std::string path;
  std::vector<std::string> args, env;
  int timeout_s = 0;  // 0: none
};
struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
};

struct Resources {
  std::optional<int64_t> memory_limit, memory_swap, memory_reservation;
  std::optional<uint64_t> cpu_shares, cpu_period;
  std::optional<int64_t> cpu_quota;
  std::string cpus, mems;
  std::optional<int64_t> pids_limit;
  std::optional<uint64_t> cpu_burst, swappiness, cpu_rt_period;
  std::optional<int64_t> cpu_idle, cpu_rt_runtime;
  bool no_oom_killer = false;
  std::optional<uint64_t> io_weight, io_leaf_weight;
  struct DeviceValue {
    uint64_t major = 0, minor = 0, value = 0;
  };
  std::vector<DeviceValue> io_device_weights, io_read_bps, io_write_bps, io_read_iops, io_write_iops;
  std::vector<std::pair<std::string, uint64_t>> hugepage_limits;  // "2MB", bytes
  std::vector<std::pair<std::string, std::string>> unified;
  std::optional<uint64_t> net_class;
  std::vector<std::pair<std::string, uint64_t>> net_priorities;  // by interface
  struct Rdma {
    std::string device;
    std::optional<uint64_t> handles, objects;
  };
  std::vector<Rdma> rdma_limits;
};

struct TimeOffset {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
};
struct TimeOffsets {
  TimeOffset monotonic, boottime;  // to be added to the host's clocks
};

struct Spec {
  std::string version;
  base::wire::Process process;
  std::string root_path;
  bool root_readonly = false;
  uint64_t root_propagation = 0;  // MS_SHARED and its kin, with MS_REC; 0: not said
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  std::map<std::string, std::string> annotations;
  Hooks hooks;
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::string cgroups_path;
  Resources resources;
  std::vector<std::string> masked_paths, readonly_paths;
  std::vector<base::wire::Device> devices;
  std::vector<std::pair<std::string, std::string>> sysctls;
  base::wire::Seccomp seccomp;
  std::optional<TimeOffsets> time_offsets;
  // What the spec asks for and does not get, in words.
  std::vector<std::string> warnings;

  const Namespace* find_namespace(std::string_view type) const;
};

base::ResultX<Spec> parse_spec(std::string_view text);
// The process object alone, as `exec --process FILE` brings it. Warnings are appended.
base::ResultX<base::wire::Process> parse_process(std::string_view text, std::vector<std::string>* warnings);
// What `update --resources FILE` brings.
base::ResultX<Resources> parse_resources(std::string_view text);

// "CAP_CHOWN", "chown" … to its number.
std::optional<int> capability_number(std::string_view name);
const std::vector<std::string_view>& capability_names();

// The config that `spec` writes.
std::string default_spec(bool rootless, uint32_t uid, uint32_t gid);

}  // namespace runtime::oci
