// SPDX-License-Identifier: Apache-2.0
// Parsing of "#!" lines.
#include "sentry/kernel/loader/script.h"

#include <algorithm>

namespace sentry::kernel {

namespace {

constexpr std::string_view kBlanks = " \t";

}  // namespace

Result<ScriptLine> parse_script(std::string_view head) {
  if (head.size() < 2 || head[0] != '#' || head[1] != '!') return kENOEXEC;
  // A short file is followed by zeroes.
  std::string buffer(head.substr(0, kScriptHead));
  buffer.resize(kScriptHead, '\0');
  std::string_view line = std::string_view(buffer).substr(2);
  size_t end = line.find('\n');
  if (end == std::string_view::npos) {
    // No end of line within the buffer: fine as long as the interpreter's name has an end.
    size_t name = line.find_first_not_of(kBlanks);
    if (name == std::string_view::npos) return kENOEXEC;
    if (line.find_first_of(std::string_view(" \t\0", 3), name) == std::string_view::npos) return kENOEXEC;
    end = line.size() - 1;
  }
  line = line.substr(0, end);
  size_t last = line.find_last_not_of(kBlanks);
  line = last == std::string_view::npos ? std::string_view() : line.substr(0, last + 1);
  size_t name = line.find_first_not_of(kBlanks);
  if (name == std::string_view::npos) return kENOEXEC;
  line.remove_prefix(name);
  ScriptLine s;
  size_t separator = line.find_first_of(std::string_view(" \t\0", 3));
  s.interpreter = std::string(line.substr(0, separator));
  if (separator != std::string_view::npos && line[separator] != '\0') {
    size_t argument = line.find_first_not_of(kBlanks, separator);
    if (argument != std::string_view::npos) {
      std::string_view rest = line.substr(argument);
      s.argument = std::string(rest.substr(0, rest.find('\0')));
      s.has_argument = true;
    }
  }
  return s;
}

}  // namespace sentry::kernel
