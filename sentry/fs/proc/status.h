// SPDX-License-Identifier: Apache-2.0
// The formats of /proc/PID/{stat,status}, apart from where their numbers come from.
#pragma once

#include <string>
#include <string_view>

#include "sentry/kernel/inspect.h"

namespace sentry::fs::proc {

struct MemorySizes {
  uint64_t total = 0, locked = 0, data = 0, stack = 0, exe = 0, library = 0, page_tables = 0;
};
MemorySizes memory_sizes(mm::AddressSpace& space);

// The 52 fields of /proc/PID/stat that are not all zero. permitted: the reader may see addresses.
struct StatLine {
  kernel::TaskFacts facts;
  bool permitted = false;
  uint64_t virtual_bytes = 0, resident_bytes = 0, resident_limit = 0;
  uint64_t code_start = 0, code_end = 0, stack_start = 0, data_start = 0, data_end = 0, brk_start = 0;
  uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
};
std::string format_stat(const StatLine& l);

// comm with newline and backslash escaped.
std::string escape_name(std::string_view name);
// The CPUs in bits: "5", "1,00000003" and "0,2".
std::string mask_text(uint64_t bits, unsigned cpus);
std::string bit_list(uint64_t bits);

}  // namespace sentry::fs::proc
