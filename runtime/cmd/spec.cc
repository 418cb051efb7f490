// SPDX-License-Identifier: Apache-2.0
// spec, features, checkpoint.
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
  nlohmann::ordered_json j;
  j["ociVersionMin"] = "1.0.0";
  j["ociVersionMax"] = "1.2.0";
  j["hooks"] = {"prestart", "createRuntime", "poststart", "poststop"};
  j["mountOptions"] = {"async", "atime", "bind", "dev", "diratime", "dirsync", "exec", "lazytime", "noatime", "nodev",
                       "nodiratime", "noexec", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private",
                       "rbind", "relatime", "ro", "rprivate", "rro", "rslave", "rw", "slave", "strictatime", "suid", "sync"};
  auto& l = j["linux"];
  l["namespaces"] = {"cgroup", "ipc", "mount", "network", "pid", "time", "uts"};
  for (auto name : oci::capability_names()) l["capabilities"].push_back("CAP_" + std::string(name));
  l["cgroup"] = {{"v1", true}, {"v2", true}, {"systemd", false}, {"systemdUser", false}, {"rdma", false}};
  l["seccomp"] = {{"enabled", false}};
  l["apparmor"] = {{"enabled", false}};
  l["selinux"] = {{"enabled", false}};
  l["intelRdt"] = {{"enabled", false}};
  l["mountExtensions"]["idmap"] = {{"enabled", false}};
  std::string text = j.dump(2) + "\n";
  fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

base::ResultX<int> checkpoint(const Globals&, const Args&) {
  return base::error(base::kEOPNOTSUPP, "checkpoint is not supported: stop the container and start a new one");
}

}  // namespace runtime::cmd
