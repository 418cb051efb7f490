// SPDX-License-Identifier: Apache-2.0
#include "shim/task/options.h"

#include <stdlib.h>

#include "shim/proto/runtime.pb.h"

namespace shim::task {

std::string config_path_of(const proto::Any& options) {
  // With or without a host name before it.
  constexpr std::string_view kType = "runtimeoptions.v1.Options";
  const std::string& type = options.type_url();
  if (type.substr(type.rfind('/') + 1) != kType) return "";
  proto::RuntimeOptions o;
  return o.ParseFromString(options.value()) ? o.config_path() : "";
}

runtime::config::SandboxOptions environment_options() {
  runtime::config::SandboxOptions out;
  const char* log = ::getenv("CAISSON_SHIM_DEBUG_LOG");
  const char* strace = ::getenv("CAISSON_SHIM_STRACE");
  if (log) out.debug_log = log;
  if (strace && *strace) out.strace = "on";
  return out;
}

}  // namespace shim::task
