// SPDX-License-Identifier: Apache-2.0
// Error: what the programs that talk to people answer with (runtime/, shim/, cri/): an errno and a chained text
// "outer: inner", as in "open config.json: No such file or directory: --bundle must name the directory that holds it".
#pragma once

#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"

namespace base {

class [[nodiscard]] Error {
 public:
  Error(Errno code, std::string text) : code_(code), text_(std::move(text)) {}
  Errno code() const { return code_; }
  const std::string& text() const { return text_; }

 private:
  Errno code_;
  std::string text_;
};

// An error of our own finding; the text stands alone (the errno's words are not added).
template <typename... A>
Error error(Errno code, fmt::format_string<A...> f, A&&... a) {
  return Error(code, ::base::vformat(f, fmt::make_format_args(a...)));
}

// "outer: No such file or directory" and "outer: inner text".
Error wrap(Errno e, std::string_view outer);
Error wrap(const Error& e, std::string_view outer);

template <typename T>
using ResultX = Result<T, Error>;

}  // namespace base

// TRY_MSG(expr, "opening {}", path): the value of a Result, or return its error with words in front.
#define TRY_MSG(expr, ...) TRY_MSG_IMPL_(BASE_CAT(try_result_, __COUNTER__), expr, __VA_ARGS__)
#define TRY_MSG_IMPL_(tmp, expr, ...)                                              \
  __extension__({                                                                  \
    auto tmp = (expr);                                                             \
    if (!tmp.ok()) return ::base::wrap(tmp.error(), ::base::format(__VA_ARGS__));  \
    std::move(tmp).value();                                                        \
  })
