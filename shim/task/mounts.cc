// SPDX-License-Identifier: Apache-2.0
#include "shim/task/mounts.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "runtime/oci/spec.h"

namespace shim::task {

using base::ResultX;
namespace sys = base::sys;

namespace {

constexpr size_t kPage = 4096;
constexpr std::string_view kLower = "lowerdir=";

std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> out(1);
  for (char c : text) {
    if (c == by) out.emplace_back();
    else out.back() += c;
  }
  return out;
}

ResultX<void> mount_one(const std::string& root, const RootMount& m) {
  std::string target = root;
  if (!m.target.empty()) {
    if (m.target.find("..") != std::string::npos) return base::error(base::kEINVAL, "mount target {}: must stay below the root", m.target);
    target += "/" + m.target;
  }
  RootMount used = m;
  if (m.type == "overlay") {
    size_t length = 0;
    for (auto& o : m.options) length += o.size() + 1;
    if (length >= kPage) {
      std::string base = shorten_layers(used.options);
      if (!base.empty()) TRY_MSG(sys::from_libc(::chdir(base.c_str())), "enter {}", base);
    }
  }
  runtime::oci::Mount spec{target, used.type, used.source, used.options};
  auto o = TRY_MSG(runtime::oci::parse_mount_options(spec), "mount {} on {}", used.source, target);
  if (o.data.size() >= kPage) {
    return base::error(base::kE2BIG, "the root file system has too many layers: its options take {} bytes, {} fit", o.data.size(), kPage - 1);
  }
  bool bind = o.bind || m.type == "bind";
  unsigned long flags = bind ? MS_BIND | (o.recursive ? MS_REC : 0) : static_cast<unsigned long>(o.flags);
  TRY_MSG(sys::from_libc(::mount(used.source.c_str(), target.c_str(), bind ? nullptr : used.type.c_str(), flags,
                                 bind || o.data.empty() ? nullptr : o.data.c_str())),
          "mount {} ({}) on {}", used.source, used.type, target);
  if (bind && o.flags != 0) {
    TRY_MSG(sys::from_libc(::mount(nullptr, target.c_str(), nullptr, MS_REMOUNT | MS_BIND | static_cast<unsigned long>(o.flags), nullptr)),
            "set the options of {}", target);
  }
  return {};
}

}  // namespace

std::string shorten_layers(std::vector<std::string>& options) {
  for (auto& o : options) {
    if (o.rfind(kLower, 0) != 0) continue;
    auto layers = split(o.substr(kLower.size()), ':');
    if (layers.size() < 2) return "";
    std::string base = layers[0].substr(0, layers[0].rfind('/') + 1);
    for (auto& l : layers) {
      if (l.find('\\') != std::string::npos) return "";
      while (!base.empty() && l.compare(0, base.size(), base) != 0) {
        base.pop_back();
        base.erase(base.rfind('/') == std::string::npos ? 0 : base.rfind('/') + 1);
      }
    }
    if (base.size() < 2 || base[0] != '/') return "";
    o = kLower;
    for (size_t i = 0; i < layers.size(); i++) o += (i ? ":" : "") + layers[i].substr(base.size());
    return base;
  }
  return "";
}

ResultX<void> mount_root(const std::string& bundle, const std::vector<RootMount>& mounts) {
  std::string root = bundle + "/rootfs";
  if (::mkdir(root.c_str(), 0711) != 0 && errno != EEXIST) {
    return base::wrap(sys::from_libc(-1).error(), "make " + root);
  }
  for (auto& m : mounts) {
    auto r = mount_one(root, m);
    if (!r.ok()) {
      unmount_root(bundle);
      return r.error();
    }
  }
  return {};
}

void unmount_root(const std::string& bundle) {
  std::string root = bundle + "/rootfs";
  // One on the other: as many as there are, but not for ever.
  for (int i = 0; i < 64; i++) {
    if (::umount2(root.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) return;
  }
}

}  // namespace shim::task
