// SPDX-License-Identifier: Apache-2.0
// The only file that compiles fmt's implementation and spdlog: header-only here, so that the static
// programs (sentry, gofer) need no shared library.
#define FMT_HEADER_ONLY 1
#define SPDLOG_FMT_EXTERNAL 1
#define SPDLOG_HEADER_ONLY 1
#define SPDLOG_NO_EXCEPTIONS 1
#define SPDLOG_NO_TLS 1
#include "base/log.h"

#include <fmt/format.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <memory>
#include <string>

namespace base {
namespace {

// How many bytes the UTF-8 character at the beginning has; 0: it is none.
size_t utf8_length(std::string_view s) {
  auto at = [&](size_t i) -> unsigned { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  const size_t n = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  for (size_t i = 1; i < n; i++)
    if ((at(i) & 0xc0) != 0x80) return 0;
  // Longer than need be, half of a pair, beyond the last.
  if ((first == 0xe0 && at(1) < 0xa0) || (first == 0xed && at(1) > 0x9f) || (first == 0xf0 && at(1) < 0x90) || (first == 0xf4 && at(1) > 0x8f))
    return 0;
  return n;
}

// What is no UTF-8 becomes U+FFFD: a line must be one that every reader of JSON takes.
std::string json_quote(std::string_view s) {
  std::string out = "\"";
  for (size_t i = 0; i < s.size(); i++) {
    const char c = s[i];
    auto u = static_cast<unsigned char>(c);
    if (u >= 0x80) {
      const size_t n = utf8_length(s.substr(i));
      out += n ? s.substr(i, n) : std::string_view("\xef\xbf\xbd");
      i += n ? n - 1 : 0;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (u < 0x20) {
      out += fmt::format("\\u{:04x}", u);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// One write(2) per record: lines of several processes that share the file do not mix.
class FdSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  FdSink(int fd, LogFormat format) : fd_(fd), format_(format) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& msg) override {
    spdlog::memory_buf_t buf;
    formatter_->format(msg, buf);
    std::string line(buf.data(), buf.size());
    if (format_ == LogFormat::json) {
      time_t t = spdlog::log_clock::to_time_t(msg.time);
      struct tm tm;
      gmtime_r(&t, &tm);
      char when[32];
      strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
      const char* level = msg.level == spdlog::level::err    ? "error"
                          : msg.level == spdlog::level::warn ? "warning"
                          : msg.level == spdlog::level::info ? "info"
                                                             : "debug";
      line = fmt::format("{{\"level\":\"{}\",\"msg\":{},\"time\":\"{}\"}}\n", level,
                         json_quote({msg.payload.data(), msg.payload.size()}), when);
    }
    const char* p = line.data();
    size_t n = line.size();
    while (n > 0) {
      ssize_t w = ::write(fd_, p, n);
      if (w <= 0) return;
      p += w;
      n -= static_cast<size_t>(w);
    }
  }
  void flush_() override {}

 private:
  int fd_;
  LogFormat format_;
};

struct Sink {
  std::unique_ptr<FdSink> sink;
  std::string program;
};
// Set once, before threads start; freed with the process.
Sink*& current() {
  static Sink* s = nullptr;
  return s;
}

}  // namespace

void log_init(std::string_view program, int fd, LogLevel level, LogFormat format) {
  auto s = std::make_unique<Sink>();
  s->sink = std::make_unique<FdSink>(fd, format);
  s->sink->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      "%Y-%m-%dT%H:%M:%S.%fZ %n[%P] %^%l%$ %s:%# %v", spdlog::pattern_time_type::utc));
  s->program = program;
  delete current();
  current() = s.release();
  log_level.store(static_cast<int>(level), std::memory_order_relaxed);
}

void log_write(LogLevel level, const char* file, int line, fmt::string_view f, fmt::format_args args) {
  Sink* s = current();
  std::string text = fmt::vformat(f, args);
  if (!s) {  // a program that has not called log_init(): tests
    text += '\n';
    if (::write(2, text.data(), text.size()) < 0) return;
    return;
  }
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                          spdlog::level::warn, spdlog::level::err};
  spdlog::details::log_msg msg(spdlog::source_loc(file, line, ""), s->program,
                               kLevels[static_cast<int>(level) & 3], text);
  s->sink->log(msg);
}

std::string vformat(fmt::string_view f, fmt::format_args args) { return fmt::vformat(f, args); }

}  // namespace base
