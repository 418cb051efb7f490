// SPDX-License-Identifier: Apache-2.0
// What containerd says of its runtime handlers, in the answer to a verbose Status.
#pragma once

#include <string>

#include "base/error.h"
#include "cri/proto/cri.pb.h"


namespace cri {

namespace msg = ::caisson::cri;

// The handler is there and, when runtime_type is not empty, is of that type. Errors: ENOENT it is not there, EINVAL it is of another
// type, ENODATA containerd does not tell.
base::ResultX<void> check_handler(const msg::StatusResponse& status, const std::string& handler, const std::string& runtime_type);

// linux.security_context.privileged of the sandbox, from the verbose answer; `otherwise` when it does not tell.
bool sandbox_privileged(const msg::PodSandboxStatusResponse& status, bool otherwise);

}  // namespace cri
