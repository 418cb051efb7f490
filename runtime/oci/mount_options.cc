// SPDX-License-Identifier: Apache-2.0
// Mount options as fstab(5) and the OCI spec write them, to mount(2) flags and data.
#include <sys/mount.h>

#include <algorithm>

#include "runtime/oci/spec.h"

namespace runtime::oci {

namespace {

struct Option {
  std::string_view name;
  uint64_t set, clear;
};
constexpr uint64_t kNoSymFollow = 256;
constexpr uint64_t kAtime = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
constexpr Option kOptions[] = {
    {"defaults", 0, 0},
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"suid", 0, MS_NOSUID},
    {"nosuid", MS_NOSUID, 0},
    {"dev", 0, MS_NODEV},
    {"nodev", MS_NODEV, 0},
    {"exec", 0, MS_NOEXEC},
    {"noexec", MS_NOEXEC, 0},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0},
    {"mand", MS_MANDLOCK, 0},
    {"nomand", 0, MS_MANDLOCK},
    {"atime", 0, MS_NOATIME},
    {"noatime", MS_NOATIME, kAtime},
    {"diratime", 0, MS_NODIRATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"relatime", MS_RELATIME, kAtime},
    {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, kAtime},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"silent", MS_SILENT, 0},
    {"loud", 0, MS_SILENT},
    {"iversion", MS_I_VERSION, 0},
    {"noiversion", 0, MS_I_VERSION},
    {"lazytime", MS_LAZYTIME, 0},
    {"nolazytime", 0, MS_LAZYTIME},
    {"symfollow", 0, kNoSymFollow},
    {"nosymfollow", kNoSymFollow, 0},
    // The recursive forms: a mount of ours has nothing below it that would keep other attributes.
    {"rro", MS_RDONLY, 0},
    {"rrw", 0, MS_RDONLY},
    {"rsuid", 0, MS_NOSUID},
    {"rnosuid", MS_NOSUID, 0},
    {"rdev", 0, MS_NODEV},
    {"rnodev", MS_NODEV, 0},
    {"rexec", 0, MS_NOEXEC},
    {"rnoexec", MS_NOEXEC, 0},
    {"ratime", 0, MS_NOATIME},
    {"rnoatime", MS_NOATIME, kAtime},
    {"rdiratime", 0, MS_NODIRATIME},
    {"rnodiratime", MS_NODIRATIME, 0},
    {"rrelatime", MS_RELATIME, kAtime},
    {"rnorelatime", 0, MS_RELATIME},
    {"rstrictatime", MS_STRICTATIME, kAtime},
    {"rnostrictatime", 0, MS_STRICTATIME},
    {"rsymfollow", 0, kNoSymFollow},
    {"rnosymfollow", kNoSymFollow, 0},
};

constexpr std::string_view kPropagations[] = {"shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"};

// In the order of the options, as the calls of mount(2) would be. A mount of ours has nothing below it, so the recursive forms are the same.
bool take_propagation(std::string_view o, MountOptions& out) {
  if (std::find(std::begin(kPropagations), std::end(kPropagations), o) == std::end(kPropagations)) return false;
  if (o[0] == 'r') o.remove_prefix(1);
  out.shared = o == "shared";
  out.apart |= o == "private" || o == "unbindable";  // a slave of nobody is private
  if (o != "slave") out.unbindable = o == "unbindable";
  return true;
}

}  // namespace

std::vector<std::string_view> mount_option_names() {
  std::vector<std::string_view> names{"bind", "rbind", "tmpcopyup"};
  names.insert(names.end(), std::begin(kPropagations), std::end(kPropagations));
  for (auto& o : kOptions) names.push_back(o.name);
  std::sort(names.begin(), names.end());
  return names;
}

base::ResultX<MountOptions> parse_mount_options(const Mount& m) {
  MountOptions out;
  out.bind = m.type == "bind" || m.type == "rbind";
  out.recursive = m.type == "rbind";
  for (auto& o : m.options) {
    if (o == "bind" || o == "rbind") {
      out.bind = true;
      out.recursive |= o == "rbind";
      continue;
    }
    if (take_propagation(o, out)) continue;
    if (o == "idmap" || o == "ridmap" || o == "remount" || o == "move") {
      return base::error(base::kEOPNOTSUPP, "the option '{}' of the mount at {} is not supported", o, m.destination);
    }
    if (o == "tmpcopyup") {
      if (m.type != "tmpfs") {
        return base::error(base::kEINVAL, "the option 'tmpcopyup' of the mount at {} is for a tmpfs alone", m.destination);
      }
      out.copy_up = true;
      continue;
    }
    auto at = std::find_if(std::begin(kOptions), std::end(kOptions), [&](const Option& k) { return k.name == o; });
    if (at != std::end(kOptions)) {
      out.flags = (out.flags & ~at->clear) | at->set;
      continue;
    }
    if (o.empty()) continue;
    if (o.find(',') != std::string::npos && out.bind) {
      return base::error(base::kEINVAL, "the option '{}' of the mount at {} holds a comma", o, m.destination);
    }
    out.data += (out.data.empty() ? "" : ",") + o;
  }
  if (out.bind && !out.data.empty()) {
    return base::error(base::kEINVAL, "the options '{}' of the bind mount at {} are not known: a bind mount takes only "
                       "general options such as ro", out.data, m.destination);
  }
  return out;
}

}  // namespace runtime::oci
