// SPDX-License-Identifier: Apache-2.0
// The config that `caisson spec` writes: a shell on a terminal in ./rootfs.
#include <nlohmann/json.hpp>

#include "runtime/oci/spec.h"

namespace runtime::oci {

using nlohmann::ordered_json;

namespace {

ordered_json mount(const char* destination, const char* type, const char* source, std::vector<std::string> options) {
  ordered_json m{{"destination", destination}, {"type", type}, {"source", source}};
  if (!options.empty()) m["options"] = std::move(options);
  return m;
}

}  // namespace

std::string default_spec(bool rootless, uint32_t uid, uint32_t gid) {
  const std::vector<std::string> caps{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  ordered_json s;
  s["ociVersion"] = "1.0.2";
  auto& p = s["process"];
  p["terminal"] = true;
  p["user"] = {{"uid", 0}, {"gid", 0}};
  p["args"] = {"sh"};
  p["env"] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  p["cwd"] = "/";
  for (const char* set : {"bounding", "effective", "permitted", "ambient"}) p["capabilities"][set] = caps;
  p["rlimits"] = ordered_json::array({{{"type", "RLIMIT_NOFILE"}, {"hard", 1024}, {"soft", 1024}}});
  p["noNewPrivileges"] = true;
  s["root"] = {{"path", "rootfs"}, {"readonly", true}};
  s["hostname"] = "caisson";
  std::vector<std::string> pts{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  if (!rootless) pts.push_back("gid=5");
  s["mounts"] = {
      mount("/proc", "proc", "proc", {}),
      mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      mount("/dev/pts", "devpts", "devpts", pts),
      mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
      mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
      mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
      mount("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}),
  };
  auto& l = s["linux"];
  if (rootless) {
    l["uidMappings"] = ordered_json::array({{{"containerID", 0}, {"hostID", uid}, {"size", 1}}});
    l["gidMappings"] = ordered_json::array({{{"containerID", 0}, {"hostID", gid}, {"size", 1}}});
  } else {
    l["resources"]["devices"] = ordered_json::array({{{"allow", false}, {"access", "rwm"}}});
  }
  l["namespaces"] = ordered_json::array();
  for (const char* type : {"pid", "network", "ipc", "uts", "mount", "cgroup"}) l["namespaces"].push_back({{"type", type}});
  if (rootless) l["namespaces"].push_back({{"type", "user"}});
  l["maskedPaths"] = {"/proc/acpi",       "/proc/asound",      "/proc/kcore",       "/proc/keys",    "/proc/latency_stats",
                      "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"};
  l["readonlyPaths"] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return s.dump(2) + "\n";
}

}  // namespace runtime::oci
