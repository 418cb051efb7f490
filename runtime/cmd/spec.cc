// SPDX-License-Identifier: Apache-2.0
// spec, features, checkpoint, restore.
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "runtime/cmd/command.h"

namespace runtime::cmd {

base::ResultX<int> spec(const Globals&, const Args& args) {
  std::string bundle = ".";
  bool rootless = false;
  Flags f("caisson spec", "[flags]", "Writes a config.json that runs a shell in ./rootfs.");
  f.value("-b,--bundle", bundle, "directory to write it to");
  f.flag("--rootless", rootless, "for a run without root");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  if (!rest.empty()) return base::error(base::kEINVAL, "spec: '{}' is one word too many", rest[0]);
  std::string path = bundle + "/config.json";
  auto file = base::sys::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (!file.ok()) {
    if (file.error() == base::kEEXIST) return base::error(base::kEEXIST, "{} exists already: remove it first", path);
    return base::wrap(file.error(), "write " + path);
  }
  std::string text = oci::default_spec(rootless, ::geteuid(), ::getegid());
  TRY_MSG(base::sys::write_all(file->get(), text.data(), text.size()), "write {}", path);
  return 0;
}

base::ResultX<int> features(const Globals&, const Args& args) {
  Flags f("caisson features", "", "Prints what this runtime supports, as the OCI spec's features document.");
  Args rest;
  if (!TRY(f.parse(args, &rest, false))) return 0;
  if (!rest.empty()) return base::error(base::kEINVAL, "features: '{}' is one word too many", rest[0]);
  nlohmann::ordered_json j;
  j["ociVersionMin"] = "1.0.0";
  j["ociVersionMax"] = "1.2.0";
  j["hooks"] = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};
  j["mountOptions"] = oci::mount_option_names();
  auto& l = j["linux"];
  l["namespaces"] = {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"};
  for (auto name : oci::capability_names()) l["capabilities"].push_back("CAP_" + std::string(name));
  l["cgroup"] = {{"v1", true}, {"v2", true}, {"systemd", true}, {"systemdUser", false}, {"rdma", true}};
  l["seccomp"] = {{"enabled", true},
                  {"actions", {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                               "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"}},
                  {"operators", {"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                                 "SCMP_CMP_NE"}},
                  {"archs", nlohmann::ordered_json::array({"SCMP_ARCH_X86_64"})}};
  l["apparmor"] = {{"enabled", false}};
  l["selinux"] = {{"enabled", false}};
  l["intelRdt"] = {{"enabled", false}};
  l["mountExtensions"]["idmap"] = {{"enabled", false}};
  j["annotations"] = {{"caisson.checkpoint.enabled", "false"}};
  j["potentiallyUnsafeConfigAnnotations"] = nlohmann::ordered_json::array();
  std::string text = j.dump(2) + "\n";
  fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

base::ResultX<int> checkpoint(const Globals&, const Args&) {
  return base::error(base::kEOPNOTSUPP, "checkpoint is not supported: stop the container and start a new one");
}

base::ResultX<int> restore(const Globals&, const Args&) {
  return base::error(base::kEOPNOTSUPP, "restore is not supported, as no checkpoint is: run a new container");
}

}  // namespace runtime::cmd
