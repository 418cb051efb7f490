// SPDX-License-Identifier: Apache-2.0
// Text as the kernel prints it.
#include "sentry/fs/common/text.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace sentry::fs::common {

void append(std::string& out, const char* format, ...) {
  char small[256];
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(small, sizeof small, format, args);
  va_end(args);
  if (n >= 0 && static_cast<size_t>(n) < sizeof small) {
    out.append(small, static_cast<size_t>(n));
  } else if (n > 0) {
    size_t at = out.size();
    out.resize(at + static_cast<size_t>(n) + 1);
    vsnprintf(out.data() + at, static_cast<size_t>(n) + 1, format, again);
    out.pop_back();
  }
  va_end(again);
}

std::string cpu_list(unsigned count) { return count <= 1 ? "0" : "0-" + std::to_string(count - 1); }

std::string cpu_mask(unsigned count) {
  std::string out;
  append(out, "%x", count % 32 == 0 ? 0xffffffffu : (1u << count % 32) - 1);
  for (unsigned left = (count - 1) / 32; left > 0; left--) out += ",ffffffff";
  return out;
}

std::string_view trim(std::string_view t) {
  constexpr std::string_view kSpace(" \t\n\r\0", 5);
  size_t a = t.find_first_not_of(kSpace);
  if (a == t.npos) return {};
  return t.substr(a, t.find_last_not_of(kSpace) - a + 1);
}

Result<int64_t> parse_number(std::string_view text) {
  std::string t(trim(text));
  if (t.empty()) return kEINVAL;
  char* end;
  errno = 0;
  long long v = strtoll(t.c_str(), &end, 0);
  if (*end != '\0' || errno != 0) return kEINVAL;
  return static_cast<int64_t>(v);
}

}  // namespace sentry::fs::common
