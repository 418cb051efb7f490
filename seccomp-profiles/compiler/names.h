// SPDX-License-Identifier: Apache-2.0
// Names that a profile may use: system calls (libseccomp knows them) and constants of the Linux headers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace seccomp_profiles::compiler {

// The x86-64 number of a call, or nothing if libseccomp does not know the name.
std::optional<std::uint32_t> find_call(const std::string& name);
// The value of a constant such as "MAP_FIXED" or "ENOSYS".
std::optional<std::uint64_t> find_constant(const std::string& name);

}  // namespace seccomp_profiles::compiler
