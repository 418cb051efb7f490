// SPDX-License-Identifier: Apache-2.0
// What toml++ does not refuse by itself is refused first: control characters, and keys of very many parts, each of which is a table
// in a table, so that to destroy them takes a stack as deep. Its assertions are errors of the file like any other.
#define TOML_IMPLEMENTATION
#include "base/toml/document.h"

#include <algorithm>
#include <stdexcept>

namespace base {
namespace {

bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n') || c == 0x7f; }

// Goes over strings and comments as TOML reads them.
class Scanner {
 public:
  Scanner(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  ResultX<void> check() {
    TRY(check_characters());
    size_t parts = 1;
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == '"' || c == '\'') {
        skip_text(c);
      } else {
        if (c == '.') parts++;
        else if (std::string_view("=,[]{}\n").find(c) != std::string_view::npos) parts = 1;
        if (static_cast<unsigned char>(c) >= 0x80) return error("byte {} of the file ({:#04x}) is no ASCII, which only texts in quotes and comments may have", at_, static_cast<unsigned char>(c));
        if (parts > kMaxTomlKeyParts) return error("a key has more than {} parts", kMaxTomlKeyParts);
        at_++;
      }
    }
    return {};
  }

 private:
  template <typename... A>
  Error error(fmt::format_string<A...> f, A&&... a) const {
    auto line = std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at_), '\n') + 1;
    return TomlPlace{path_, "", static_cast<unsigned>(line)}.error("{}", base::vformat(f, fmt::make_format_args(a...)));
  }
  ResultX<void> check_characters() {
    for (at_ = 0; at_ < text_.size(); at_++) {
      char c = text_[at_];
      bool end_of_line = c == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n';
      if (is_control(c) && !end_of_line)
        return error("byte {} of the file is a control character ({:#04x}), which TOML does not have", at_, static_cast<unsigned char>(c));
    }
    at_ = text_.starts_with("\xEF\xBB\xBF") ? 3 : 0;  // the mark of UTF-8
    return {};
  }
  bool three(char quote) const { return text_.substr(at_, 3) == std::string(3, quote); }
  void skip_text(char quote) {
    const bool lines = three(quote);
    at_ += lines ? 3 : 1;
    while (at_ < text_.size()) {
      if (lines && three(quote)) {
        at_ += 3;
        // One or two quotes before the three that end it are part of the text.
        for (int i = 0; i < 2 && at_ < text_.size() && text_[at_] == quote; i++) at_++;
        return;
      }
      char c = text_[at_];
      if (!lines && (c == '\n' || c == quote)) {
        if (c == quote) at_++;
        return;  // torn by the end of a line: the parser says so
      }
      at_ += c == '\\' && quote == '"' ? 2 : 1;
    }
    at_ = text_.size();
  }

  std::string_view text_;
  const std::string& path_;
  size_t at_ = 0;
};

}  // namespace

void toml_assertion_failed(const char* what) { throw std::logic_error(what); }

ResultX<toml::table> parse_toml(std::string_view text, const std::string& path, size_t limit) {
  if (text.size() > limit) return error(kEFBIG, "{} has {} bytes, and may have {}", path, text.size(), limit);
  TRY(Scanner(text, path).check());
  try {
    return toml::parse(text, path);
  } catch (const toml::parse_error& e) {
    return error(kEINVAL, "{}:{}: {}", path, e.source().begin.line, e.description());
  } catch (const std::exception& e) {
    return error(kEINVAL, "{}: is no TOML that can be read ({}): look for a number, a date or a time that is cut short", path, e.what());
  }
}

}  // namespace base
