// SPDX-License-Identifier: Apache-2.0
// strace lines go to the log at level info, whatever its level is.
#include "sentry/syscalls/strace.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kShown = 64;  // bytes of a string

std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (size_t i = 0; i < s.size() && i < kShown; i++) {
    auto c = static_cast<unsigned char>(s[i]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c >= 0x20 && c < 0x7f) {
      out += static_cast<char>(c);
    } else {
      out += base::format("\\x{:02x}", c);
    }
  }
  out += '"';
  if (s.size() > kShown) out += "...";
  return out;
}

void write_line(const std::string& text) {
  base::log_at(LogLevel::error, "strace", 0, "{}", text);
}

}  // namespace

StraceLine::StraceLine(Task& task, const platform::Call& call) : start_(sched::now()) {
  const Row* row = find_row(call.number);
  text_ = base::format("{}:{} {} ", task.group().pid(), task.tid(), task.name());
  if (!row) {
    text_ += base::format("syscall_{}({:#x}, {:#x}, {:#x}, {:#x}, {:#x}, {:#x})", call.number, call.args[0],
                          call.args[1], call.args[2], call.args[3], call.args[4], call.args[5]);
  } else {
    text_ += row->name;
    text_ += '(';
    for (int i = 0; i < row->args; i++) {
      if (i) text_ += ", ";
      uint64_t v = call.args[i];
      switch (row->kinds[i]) {
        case ArgKind::integer: text_ += base::format("{}", static_cast<int64_t>(static_cast<int>(v))); break;
        case ArgKind::string: {
          auto s = task.context().copy_in_string(v, 4096);
          text_ += s.ok() ? quoted(s.value()) : base::format("{:#x}", v);
          break;
        }
        default: text_ += base::format("{:#x}", v);
      }
    }
    text_ += ')';
  }
  // Calls that may not come back are shown when they start.
  if (call.number == 60 || call.number == 231 || call.number == 59 || call.number == 15) write_line(text_);
}

void StraceLine::finish(const Result<long>& r) {
  int64_t us = (sched::now() - start_) / 1000;
  if (r.ok()) {
    long v = r.value();
    text_ += v > 0xffff || v < -4096 ? base::format(" = {:#x}", static_cast<unsigned long>(v)) : base::format(" = {}", v);
  } else {
    text_ += base::format(" = -1 {}", r.error().name());
  }
  write_line(text_ + base::format(" ({} us)", us));
}

}  // namespace sentry::syscalls
