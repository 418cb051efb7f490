// SPDX-License-Identifier: Apache-2.0
// Text as the kernel prints it: printf to the end of a string.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sentry/base.h"

namespace sentry::fs::common {

[[gnu::format(printf, 2, 3)]] void append(std::string& out, const char* format, ...);

// "[begin, end) of bits" as Linux prints a list of CPUs: "0-3", "0"; as a mask: "f", "ffffffff,ffffffff".
std::string cpu_list(unsigned count);
std::string cpu_mask(unsigned count);

// A number as strtol takes it (base 0: 0x…, 0…) with white space around it; EINVAL.
Result<int64_t> parse_number(std::string_view text);
std::string_view trim(std::string_view text);

}  // namespace sentry::fs::common
