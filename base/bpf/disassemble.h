// SPDX-License-Identifier: Apache-2.0
// Filters as text, for listings and reports.
#pragma once

#include <string>

#include "base/bpf/program.h"

namespace base::bpf {

// "allow", "trap", "kill_process", "notify", "errno 38", ...
std::string action_text(std::uint32_t action);
// One instruction at index pc, without a line end: "jeq 0xca, 12, 14" with absolute targets.
std::string insn_text(const Insn& in, std::size_t pc);
// One line for each instruction, numbered.
std::string disassemble(ProgramView program);

}  // namespace base::bpf
