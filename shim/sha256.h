// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), for names of sockets that must not collide whatever ids they are made from.
#pragma once

#include <string>
#include <string_view>

namespace shim {

// 64 hexadecimal digits.
std::string sha256_hex(std::string_view data);

}  // namespace shim
