// SPDX-License-Identifier: Apache-2.0
// Logging. LOG(info, "opened {} in {} us", path, n): fmt's format strings, checked when compiled. A disabled level
// costs one load. The sink is set once by each program; spdlog does the work behind it (base/log.cc).
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <string_view>

namespace base {

enum class LogLevel : int { debug, info, warn, error, off };

enum class LogFormat { text, json };

// Sends records to host descriptor fd (not owned), prefixed with `program`. Text or JSON lines as runc writes them.
void log_init(std::string_view program, int fd, LogLevel level, LogFormat format = LogFormat::text);
void log_write(LogLevel level, const char* file, int line, fmt::string_view f, fmt::format_args args);
inline std::atomic<int> log_level{static_cast<int>(LogLevel::warn)};

inline bool log_enabled(LogLevel l) {
  return static_cast<int>(l) >= log_level.load(std::memory_order_relaxed);
}

template <typename... A>
void log_at(LogLevel level, const char* file, int line, fmt::format_string<A...> f, A&&... a) {
  log_write(level, file, line, f, fmt::make_format_args(a...));
}

// fmt's formatting without its heavy header: for error texts.
std::string vformat(fmt::string_view f, fmt::format_args args);
template <typename... A>
std::string format(fmt::format_string<A...> f, A&&... a) {
  return ::base::vformat(f, fmt::make_format_args(a...));
}

}  // namespace base

#define LOG(level, ...)                                                                  \
  do {                                                                                   \
    if (::base::log_enabled(::base::LogLevel::level))                                    \
      ::base::log_at(::base::LogLevel::level, __FILE__, __LINE__, __VA_ARGS__);          \
  } while (0)
