// SPDX-License-Identifier: Apache-2.0
// "#!" lines. Linux: fs/binfmt_script.c.
#pragma once

#include <string>
#include <string_view>

#include "sentry/base.h"

namespace sentry::kernel {

inline constexpr size_t kScriptHead = 256;  // BINPRM_BUF_SIZE: what of the file counts

struct ScriptLine {
  std::string interpreter; // may be empty (a NUL came first): execve answers EACCES
  std::string argument;    // everything after the interpreter, inner blanks included
  bool has_argument = false;
};

// head: the file's first bytes (more than kScriptHead are ignored). ENOEXEC: not a script, no interpreter, or its name is cut off.
Result<ScriptLine> parse_script(std::string_view head);

}  // namespace sentry::kernel
