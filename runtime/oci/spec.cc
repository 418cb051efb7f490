// SPDX-License-Identifier: Apache-2.0
// The whole config, member by member.
#include "runtime/oci/seccomp.h"
#include "runtime/oci/spec.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/oci/process.h"
#include "runtime/oci/view.h"

namespace runtime::oci {

using base::ResultX;
using nlohmann::json;

namespace {

// Nesting is counted before parsing: no parser should have to be trusted with a million brackets.
bool too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); i++) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') i++;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if (c == '}' || c == ']') {
      depth--;
    }
  }
  return false;
}

ResultX<json> parse_json(std::string_view text) {
  if (text.size() > kMaxConfig) {
    return base::error(base::kEFBIG, "is {} bytes long: at most {} are accepted", text.size(), kMaxConfig);
  }
  if (too_deep(text)) return base::error(base::kEINVAL, "nests deeper than {} levels", kMaxDepth);
  // The library's own words name line, column and what it expected, after a tag in brackets.
  try {
    json j = json::parse(text.begin(), text.end());
    if (!j.is_object()) return base::error(base::kEINVAL, "is a JSON {}, must be an object", j.type_name());
    return j;
  } catch (const json::exception& e) {
    std::string_view what = e.what();
    if (size_t end = what.find("] "); what.substr(0, 1) == "[" && end != what.npos) what.remove_prefix(end + 2);
    return base::error(base::kEINVAL, "is not valid JSON: {}", what.substr(0, 300));
  }
}

std::vector<Resources::DeviceValue> read_device_values(const View& v, const char* member, uint64_t most) {
  std::vector<Resources::DeviceValue> out;
  for (auto& e : v.list()) {
    Resources::DeviceValue d;
    d.major = e["major"].natural(UINT32_MAX).value_or(0);
    d.minor = e["minor"].natural(UINT32_MAX).value_or(0);
    auto value = e[member].natural(most);
    if (!value) continue;
    d.value = *value;
    out.push_back(d);
  }
  return out;
}

void read_block_io(const View& v, Resources& r) {
  v.only({"weight", "leafWeight", "weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice",
          "throttleWriteIOPSDevice"});
  auto weight = [](const View& x) -> std::optional<uint64_t> {
    auto n = x.natural(1000);
    if (n && *n != 0 && *n < 10) x.fail(base::format("is {}: must be 10 to 1000", *n));
    return n && *n == 0 ? std::nullopt : n;
  };
  r.io_weight = weight(v["weight"]);
  r.io_leaf_weight = weight(v["leafWeight"]);
  r.io_device_weights = read_device_values(v["weightDevice"], "weight", 1000);
  r.io_read_bps = read_device_values(v["throttleReadBpsDevice"], "rate", UINT64_MAX);
  r.io_write_bps = read_device_values(v["throttleWriteBpsDevice"], "rate", UINT64_MAX);
  r.io_read_iops = read_device_values(v["throttleReadIOPSDevice"], "rate", UINT64_MAX);
  r.io_write_iops = read_device_values(v["throttleWriteIOPSDevice"], "rate", UINT64_MAX);
}

void read_hugepages(const View& v, Resources& r) {
  for (auto& e : v.list()) {
    e.only({"pageSize", "limit"});
    std::string size = e["pageSize"].text();
    size_t digits = size.find_first_not_of("0123456789");
    std::string unit = digits == std::string::npos ? "" : size.substr(digits);
    if (digits == 0 || size.size() > 16 || (unit != "KB" && unit != "MB" && unit != "GB")) {
      e["pageSize"].fail(base::format("is '{}': must be a size such as 2MB", size));
    }
    r.hugepage_limits.emplace_back(size, e["limit"].natural().value_or(0));
  }
}

void read_network(const View& v, Resources& r) {
  v.only({"classID", "priorities"});
  r.net_class = v["classID"].natural(UINT32_MAX);
  for (auto& e : v["priorities"].list()) {
    e.only({"name", "priority"});
    std::string name = e["name"].text();
    if (name.empty() || name.size() > 15 || name.find_first_of(" \n/") != std::string::npos) {
      e["name"].fail(base::format("is '{}': must be the name of a network interface", name));
    }
    r.net_priorities.emplace_back(name, e["priority"].natural(UINT32_MAX).value_or(0));
  }
}

Resources read_resources(const View& v) {
  Resources r;
  v.only({"memory", "cpu", "pids", "unified", "devices", "blockIO", "hugepageLimits", "network", "rdma"});
  View m = v["memory"];
  m.only({"limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness", "disableOOMKiller", "useHierarchy",
          "checkBeforeUpdate"});
  auto size = [](const View& x) -> std::optional<int64_t> {
    auto n = x.integer(-1, INT64_MAX);
    return n && *n == 0 ? std::nullopt : n;  // 0 is "not set", as in the other runtimes
  };
  r.memory_limit = size(m["limit"]);
  r.memory_swap = size(m["swap"]);
  r.memory_reservation = size(m["reservation"]);
  for (const char* name : {"kernel", "kernelTCP"}) {
    if (auto n = m[name].integer(-1, INT64_MAX); n && *n > 0) m[name].warn("is counted by memory.limit, ignored");
  }
  // (2^64)-1 in some old configs: not set.
  if (auto n = m["swappiness"].natural(); n && *n != UINT64_MAX) {
    if (*n > 100) m["swappiness"].fail(base::format("is {}: must be 0 to 100", *n));
    r.swappiness = n;
  }
  r.no_oom_killer = m["disableOOMKiller"].flag();
  View c = v["cpu"];
  c.only({"shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems", "idle"});
  r.cpu_shares = c["shares"].natural();
  r.cpu_quota = c["quota"].integer(-1, INT64_MAX);
  r.cpu_period = c["period"].natural();
  r.cpus = c["cpus"].text();
  r.mems = c["mems"].text();
  auto set = [](std::optional<uint64_t> n) { return n && *n == 0 ? std::nullopt : n; };
  r.cpu_burst = set(c["burst"].natural());
  r.cpu_rt_period = set(c["realtimePeriod"].natural());
  if (auto n = c["realtimeRuntime"].integer(-1, INT64_MAX); n && *n != 0) r.cpu_rt_runtime = n;
  r.cpu_idle = c["idle"].integer(0, 1);
  auto pids = v["pids"]["limit"].integer(-1, INT64_MAX);
  if (pids && *pids != 0) r.pids_limit = pids;
  for (auto& [name, value] : v["unified"].members()) r.unified.emplace_back(name, value.text());
  read_block_io(v["blockIO"], r);
  read_hugepages(v["hugepageLimits"], r);
  read_network(v["network"], r);
  for (auto& [device, limit] : v["rdma"].members()) {
    limit.only({"hcaHandles", "hcaObjects"});
    r.rdma_limits.push_back({device, limit["hcaHandles"].natural(UINT32_MAX), limit["hcaObjects"].natural(UINT32_MAX)});
    if (device.empty() || device.find_first_of(" \n") != std::string::npos) v["rdma"].fail(base::format("names the device '{}'", device));
  }
  // devices: no program of the container ever opens a device of the host, whatever the list allows.
  IGNORE_ERROR(v["devices"].list().size(), "read for its type alone");
  return r;
}

std::vector<Hook> read_hooks(const View& v) {
  std::vector<Hook> out;
  for (auto& e : v.list()) {
    e.only({"path", "args", "env", "timeout"});
    Hook h;
    h.path = e["path"].text();
    if (h.path.empty() || h.path[0] != '/') e["path"].fail(base::format("is '{}': it must be an absolute path", h.path));
    h.args = e["args"].texts();
    h.env = e["env"].texts();
    auto timeout = e["timeout"].integer(1, INT32_MAX);
    if (timeout) h.timeout_s = static_cast<int>(*timeout);
    out.push_back(std::move(h));
  }
  return out;
}

std::vector<IdMapping> read_mappings(const View& v) {
  std::vector<IdMapping> out;
  for (auto& e : v.list()) {
    e.only({"containerID", "hostID", "size"});
    out.push_back({static_cast<uint32_t>(e["containerID"].natural(UINT32_MAX).value_or(0)),
                   static_cast<uint32_t>(e["hostID"].natural(UINT32_MAX).value_or(0)),
                   static_cast<uint32_t>(e["size"].natural(UINT32_MAX).value_or(0))});
  }
  return out;
}

void read_namespaces(const View& v, Spec& s) {
  static constexpr const char* kTypes[] = {"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"};
  for (auto& e : v.list()) {
    e.only({"type", "path"});
    Namespace n{e["type"].text(), e["path"].text()};
    if (std::none_of(std::begin(kTypes), std::end(kTypes), [&](const char* t) { return n.type == t; })) {
      e["type"].fail(base::format("is '{}': must be one of pid, network, mount, ipc, uts, user, cgroup, time", n.type));
    } else if (s.find_namespace(n.type)) {
      e["type"].fail(base::format("names {} a second time", n.type));
    } else if (!n.path.empty() && n.path[0] != '/') {
      e["path"].fail(base::format("is '{}': it must be an absolute path", n.path));
    } else if (!n.path.empty() && n.type == "user") {
      e["path"].fail("joins a user namespace, which is not supported: remove it");
    }
    s.namespaces.push_back(std::move(n));
  }
}

void read_time_offsets(const View& v, Spec& s) {
  v.only({"monotonic", "boottime"});
  if (v.empty()) return;
  if (!s.find_namespace("time")) {
    v.fail("need a namespace of the type 'time' in linux.namespaces");
    return;
  }
  auto read = [&](const char* clock) {
    v[clock].only({"secs", "nanosecs"});
    constexpr int64_t kMostSeconds = int64_t{1} << 40;
    return TimeOffset{v[clock]["secs"].integer(-kMostSeconds, kMostSeconds).value_or(0),
                      static_cast<uint32_t>(v[clock]["nanosecs"].natural(999999999).value_or(0))};
  };
  s.time_offsets = TimeOffsets{read("monotonic"), read("boottime")};
}

std::vector<std::string> read_paths(const View& v) {
  std::vector<std::string> out;
  for (auto& e : v.list()) {
    std::string p = e.text();
    if (p.empty() || p[0] != '/') e.fail(base::format("is '{}': it must be an absolute path", p));
    out.push_back(std::move(p));
  }
  return out;
}

void read_devices(const View& v, Spec& s) {
  constexpr uint64_t kMost = (1u << 20) - 1;
  for (auto& e : v.list()) {
    e.only({"type", "path", "major", "minor", "fileMode", "uid", "gid"});
    base::wire::Device d;
    d.path = e["path"].text();
    std::string type = e["type"].text();
    if (d.path.empty() || d.path[0] != '/') e["path"].fail(base::format("is '{}': it must be an absolute path", d.path));
    if (type == "c" || type == "u") d.mode = S_IFCHR;
    else if (type == "b") d.mode = S_IFBLK;
    else if (type == "p") d.mode = S_IFIFO;
    else e["type"].fail(base::format("is '{}': must be one of c, b, u, p", type));
    d.mode |= static_cast<uint32_t>(e["fileMode"].natural().value_or(0666)) & 07777;
    d.major = static_cast<uint32_t>(e["major"].natural(kMost).value_or(0));
    d.minor = static_cast<uint32_t>(e["minor"].natural(kMost).value_or(0));
    d.uid = static_cast<uint32_t>(e["uid"].natural(UINT32_MAX - 1).value_or(0));
    d.gid = static_cast<uint32_t>(e["gid"].natural(UINT32_MAX - 1).value_or(0));
    constexpr uint32_t kMemory = 1, kTerminal = 5;  // null, zero … and tty, ptmx
    if (type != "p" && !(d.mode & S_IFCHR && (d.major == kMemory || d.major == kTerminal))) {
      e.warn(base::format("{} is made, but devices of the host are not given to a sandbox: it cannot be opened", d.path));
    }
    s.devices.push_back(std::move(d));
  }
}

void read_root_propagation(const View& v, Spec& s) {
  static constexpr std::pair<std::string_view, uint64_t> kKnown[] = {
      {"", 0}, {"shared", MS_SHARED}, {"slave", MS_SLAVE}, {"private", MS_PRIVATE}, {"unbindable", MS_UNBINDABLE}};
  const std::string text = v.text();
  const bool recursive = text.size() > 1 && text[0] == 'r';
  for (auto& [name, flag] : kKnown) {
    if (text.substr(recursive) != name) continue;
    s.root_propagation = flag | (recursive ? uint64_t{MS_REC} : 0);
    if (flag == MS_SHARED) v.warn("mounts made in the sandbox never reach the host: it is shared inside only");
    return;
  }
  v.fail(base::format("is '{}': must be one of shared, slave, private, unbindable", text));
}

void read_linux(const View& v, Spec& s) {
  v.only({"namespaces", "uidMappings", "gidMappings", "devices", "cgroupsPath", "resources", "rootfsPropagation",
          "seccomp", "sysctl", "maskedPaths", "readonlyPaths", "mountLabel", "intelRdt", "personality", "timeOffsets",
          "netDevices", "memoryPolicy"});
  read_namespaces(v["namespaces"], s);
  s.uid_mappings = read_mappings(v["uidMappings"]);
  s.gid_mappings = read_mappings(v["gidMappings"]);
  s.cgroups_path = v["cgroupsPath"].text();
  s.resources = read_resources(v["resources"]);
  s.masked_paths = read_paths(v["maskedPaths"]);
  s.readonly_paths = read_paths(v["readonlyPaths"]);
  read_devices(v["devices"], s);
  s.seccomp = read_seccomp(v["seccomp"]);
  for (auto& [name, value] : v["sysctl"].members()) {
    bool plain = !name.empty() && name.find_first_of("\n ") == std::string::npos && name.find("..") == std::string::npos &&
                 name[0] != '/' && name[0] != '.';
    if (!plain) v["sysctl"].fail(base::format("names '{}': it must be a name such as net.core.somaxconn", name));
    s.sysctls.emplace_back(name, value.text());
  }
  v["mountLabel"].unsupported("SELinux does not apply inside the sandbox, ignored");
  if (!v["intelRdt"].empty()) v["intelRdt"].fail("is not supported: remove it");
  read_time_offsets(v["timeOffsets"], s);
  v["netDevices"].unsupported("not supported yet, ignored");
  v["memoryPolicy"].unsupported("not supported yet, ignored");
  std::string domain = v["personality"]["domain"].text("LINUX");
  constexpr uint32_t kPerLinux32 = 8;
  if (domain == "LINUX32") s.process.scheduling.personality = kPerLinux32;
  else if (domain != "LINUX") v["personality"]["domain"].fail(base::format("is '{}': must be LINUX or LINUX32", domain));
  if (!v["personality"]["flags"].empty()) v["personality"]["flags"].fail("holds flags, of which none is supported: remove it");
  read_root_propagation(v["rootfsPropagation"], s);
}

Spec read_spec(const View& v) {
  Spec s;
  v.only({"ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "annotations", "linux",
          "solaris", "windows", "vm", "zos", "freebsd"});
  s.version = v["ociVersion"].text();
  if (s.version.empty()) v["ociVersion"].fail("is missing: it must be 1.x, such as 1.0.2");
  else if (s.version.substr(0, 2) != "1.") v["ociVersion"].fail(base::format("is '{}': only 1.x is supported", s.version));
  if (v["process"].present()) s.process = read_process(v["process"]);
  else v["process"].fail("is missing: it must say which program to run");
  View root = v["root"];
  root.only({"path", "readonly"});
  s.root_path = root["path"].text();
  if (s.root_path.empty()) root["path"].fail("is missing: it must name the directory of the container's root");
  s.root_readonly = root["readonly"].flag();
  s.hostname = v["hostname"].text();
  s.domainname = v["domainname"].text();
  if (s.hostname.size() > 64) v["hostname"].fail("is longer than 64 characters");
  if (s.domainname.size() > 64) v["domainname"].fail("is longer than 64 characters");
  for (auto& e : v["mounts"].list()) {
    e.only({"destination", "type", "source", "options", "uidMappings", "gidMappings"});
    Mount m{e["destination"].text(), e["type"].text(), e["source"].text(), e["options"].texts()};
    if (m.destination.empty()) e["destination"].fail("is missing");
    if (!e["uidMappings"].empty() || !e["gidMappings"].empty()) e.fail("is an id-mapped mount, which is not supported");
    // The spec wants absolute paths; older configs have relative ones, which count from the root.
    if (m.destination[0] != '/') m.destination = "/" + m.destination;
    s.mounts.push_back(std::move(m));
  }
  for (auto& [name, value] : v["annotations"].members()) {
    if (name.empty()) v["annotations"].fail("has an empty name");
    s.annotations.emplace(name, value.text());
  }
  View hooks = v["hooks"];
  hooks.only({"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"});
  s.hooks.prestart = read_hooks(hooks["prestart"]);
  s.hooks.create_runtime = read_hooks(hooks["createRuntime"]);
  s.hooks.poststart = read_hooks(hooks["poststart"]);
  s.hooks.poststop = read_hooks(hooks["poststop"]);
  s.hooks.create_container = read_hooks(hooks["createContainer"]);
  s.hooks.start_container = read_hooks(hooks["startContainer"]);
  read_linux(v["linux"], s);
  for (const char* other : {"solaris", "windows", "vm", "zos", "freebsd"}) v[other].unsupported("is for other systems, ignored");
  return s;
}

// Runs fn on the parsed document; its first problem is the error.
template <typename T, typename F>
ResultX<T> read_with(std::string_view text, std::vector<std::string>* warnings, F&& fn) {
  json j = TRY(parse_json(text));
  Problems problems;
  T out = fn(View(&j, "", &problems));
  if (problems.first) return *problems.first;
  if (warnings) warnings->insert(warnings->end(), problems.warnings.begin(), problems.warnings.end());
  return out;
}

}  // namespace

const Namespace* Spec::find_namespace(std::string_view type) const {
  for (auto& n : namespaces) {
    if (n.type == type) return &n;
  }
  return nullptr;
}

ResultX<Spec> parse_spec(std::string_view text) {
  std::vector<std::string> warnings;
  Spec s = TRY(read_with<Spec>(text, &warnings, read_spec));
  for (auto& m : s.mounts) TRY(parse_mount_options(m));
  s.warnings = std::move(warnings);
  return s;
}

ResultX<base::wire::Process> parse_process(std::string_view text, std::vector<std::string>* warnings) {
  return read_with<base::wire::Process>(text, warnings, read_process);
}

ResultX<Resources> parse_resources(std::string_view text) {
  return read_with<Resources>(text, nullptr, read_resources);
}

}  // namespace runtime::oci
