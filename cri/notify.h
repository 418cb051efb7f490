// SPDX-License-Identifier: Apache-2.0
// Tells the service manager (systemd, Type=notify) how this program fares.
#pragma once

#include <string_view>

namespace cri {

// One message as sd_notify(3) describes it: "READY=1". Nothing happens when no manager asked.
void notify_manager(std::string_view state);

}  // namespace cri
