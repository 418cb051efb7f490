// SPDX-License-Identifier: Apache-2.0
#include "runtime/bench/machine.h"

#include <dirent.h>
#include <sched.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <algorithm>

#include "base/log.h"
#include "runtime/host/cgroup.h"
#include "runtime/host/proc.h"

namespace runtime::bench {

namespace {

std::string first_line(const std::string& path) {
  auto text = host::read_file(path);
  return text.ok() ? text->substr(0, text->find('\n')) : "";
}

std::string of_cpuinfo(const std::string& text, const std::string& key) {
  size_t at = text.find("\n" + key);
  if (at == text.npos) return "";
  size_t from = text.find(':', at), to = text.find('\n', at + 1);
  return from == text.npos || from > to ? "" : text.substr(std::min(from + 2, to), to - std::min(from + 2, to));
}

}  // namespace

std::string mitigations(const Facts& vulnerabilities) {
  std::string out;
  for (auto& [name, text] : vulnerabilities) {
    if (text.rfind("Not affected", 0) == 0) continue;
    std::string what = text.rfind("Mitigation: ", 0) == 0 ? text.substr(12) : text;
    out += (out.empty() ? "" : "; ") + name + ": " + what.substr(0, what.find(';'));
  }
  return out.empty() ? "none needed" : out;
}

Facts describe_machine() {
  Facts out;
  std::string cpuinfo = "\n" + host::read_file("/proc/cpuinfo", 16 << 20).value_or("");
  cpu_set_t may;
  int online = get_nprocs(), usable = sched_getaffinity(0, sizeof may, &may) == 0 ? CPU_COUNT(&may) : online;
  out.emplace_back("processor", base::format("{} x {}{}", online, of_cpuinfo(cpuinfo, "model name"), usable < online ? base::format(", {} of them usable", usable) : ""));
  utsname u;
  if (uname(&u) == 0) out.emplace_back("kernel", std::string(u.sysname) + " " + u.release + " " + u.machine);
  std::string flags = of_cpuinfo(cpuinfo, "flags") + " ", vendor = first_line("/sys/class/dmi/id/sys_vendor"), product = first_line("/sys/class/dmi/id/product_name");
  bool guest = flags.find(" hypervisor ") != flags.npos;
  std::string machine = vendor + (vendor.empty() || product.empty() ? "" : " ") + product;
  out.emplace_back("hypervisor", !guest ? "none" : machine.empty() ? "yes" : "yes (" + machine + ")");
  Facts vulnerabilities;
  constexpr const char* kDirectory = "/sys/devices/system/cpu/vulnerabilities";
  if (DIR* d = ::opendir(kDirectory)) {
    while (dirent* e = ::readdir(d)) {
      if (e->d_name[0] != '.') vulnerabilities.emplace_back(e->d_name, first_line(std::string(kDirectory) + "/" + e->d_name));
    }
    ::closedir(d);
  }
  std::sort(vulnerabilities.begin(), vulnerabilities.end());
  out.emplace_back("mitigations", vulnerabilities.empty() ? "not told" : mitigations(vulnerabilities));
  std::vector<std::string> own;
  auto hosts = host::find_hierarchies();
  for (auto& h : hosts) own.push_back(h.mount_point + h.own);
  auto share = host::find_cpu_share(hosts, own);
  out.emplace_back("quota", share.quota > 0 ? base::format("{:.2f} CPUs", share.quota) : "none");
  struct sysinfo info;
  if (::sysinfo(&info) == 0) {
    double unit = info.mem_unit ? info.mem_unit : 1;
    out.emplace_back("memory", base::format("{:.1f} GB, {:.1f} GB free", static_cast<double>(info.totalram) * unit / 1e9, static_cast<double>(info.freeram) * unit / 1e9));
  }
  std::string load = first_line("/proc/loadavg");
  out.emplace_back("load", load.substr(0, load.find(' ')) + " when this began");
  std::string governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  if (!governor.empty()) out.emplace_back("governor", governor);
  return out;
}

}  // namespace runtime::bench
