// SPDX-License-Identifier: Apache-2.0
// What a figure depends on: processor, kernel, its mitigations, hypervisor, quota, load.
#pragma once

#include "runtime/bench/report.h"

namespace runtime::bench {

Facts describe_machine();
// "retpolines, IBPB" and the like, from the files of /sys/devices/system/cpu/vulnerabilities (name, text): those with a mitigation that costs.
std::string mitigations(const Facts& vulnerabilities);

}  // namespace runtime::bench
