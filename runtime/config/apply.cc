// SPDX-License-Identifier: Apache-2.0
// From flags, annotations and the file to the options of a container.
#include "runtime/config/config.h"

namespace runtime::config {

using base::ResultX;
using container::CreateOptions;

namespace {

SandboxOptions merged(const SandboxOptions& first, const SandboxOptions& second) {
  SandboxOptions out = first;
  for (auto& k : keys()) {
    if (k.option && (out.*k.option).empty()) out.*k.option = second.*k.option;
  }
  return out;
}

std::string with_id(std::string path, const std::string& id) {
  constexpr std::string_view kMark = "%ID%";
  for (size_t at = 0; (at = path.find(kMark, at)) != path.npos; at += id.size()) path.replace(at, kMark.size(), id);
  return path;
}

void set(const SandboxOptions& s, CreateOptions& o) {
  using namespace base::wire;
  o.overlay.reset();
  if (s.overlay == "none") o.overlay = OverlayMode::none;
  if (s.overlay == "self") o.overlay = OverlayMode::self;
  o.memory_mode = s.memory_mode == "strict" ? MemoryMode::strict : MemoryMode::direct;
  o.patch_calls = s.patch_calls != "off";
  o.network = s.network == "none"   ? container::Network::none
              : s.network == "host" ? container::Network::host
                                    : container::Network::by_spec;
  o.strace = s.strace == "on";
  o.debug_log = with_id(s.debug_log, o.id);
}

}  // namespace

void apply(const Config& c, const SandboxOptions& flags, CreateOptions& o) {
  o.debug = o.debug || c.debug;
  set(merged(flags, c.sandbox), o);
  o.adjust = [c, flags](oci::Spec& spec, container::Role role, CreateOptions& options) -> ResultX<void> {
    SandboxOptions said = TRY(read_annotations(c, spec.annotations));
    set(merged(merged(flags, said), c.sandbox), options);
    // A pod's sandbox container holds the pod's kernel, whose needs are those of all members.
    if (role == container::Role::sandbox) return {};
    auto& r = spec.resources;
    if (c.memory && r.memory_limit.value_or(0) == 0) r.memory_limit = *c.memory;
    if (c.pids && r.pids_limit.value_or(0) == 0) r.pids_limit = *c.pids;
    return {};
  };
}

}  // namespace runtime::config
