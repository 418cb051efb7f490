// SPDX-License-Identifier: Apache-2.0
// A TOML file that a person wrote: read within bounds, with errors that say where. toml++ as all programs include it: its parser is
// compiled once (document.cc). It throws; nothing of that leaves parse_toml().
#pragma once

namespace base {
// Throws: an assertion of the parser's about the text, which is no reason to abort.
[[noreturn]] void toml_assertion_failed(const char* what);
}  // namespace base

#undef NDEBUG  // or the parser takes what it asserts for granted
#define TOML_ASSERT(expr) ((expr) ? static_cast<void>(0) : ::base::toml_assertion_failed(#expr))
#define TOML_HEADER_ONLY 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 16  // arrays and inline tables in each other; our files need three
#include <toml++/toml.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace base {

// Parts of a dotted key, and of the name of a table.
inline constexpr size_t kMaxTomlKeyParts = 16;

// Where in the file, for a person: "/etc/caisson/config.toml:7: sandbox.overlay: ".
struct TomlPlace {
  const std::string& path;
  std::string key;
  unsigned line = 0;
  template <typename... A>
  Error error(fmt::format_string<A...> f, A&&... a) const {
    return base::error(kEINVAL, "{}:{}: {}{}{}", path, line, key, key.empty() ? "" : ": ", base::vformat(f, fmt::make_format_args(a...)));
  }
};

inline unsigned toml_line(const toml::node& n) { return n.source().begin.line; }

// The text of the file `path` (for messages), of at most `limit` bytes. Errors name the line.
ResultX<toml::table> parse_toml(std::string_view text, const std::string& path, size_t limit);

}  // namespace base
