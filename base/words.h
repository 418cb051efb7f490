// SPDX-License-Identifier: Apache-2.0
// Words that people write and read: lists of them, the nearest of several, and hostile text made fit for a message.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace base {

// "a, b, c"
std::string joined(const std::vector<std::string>& words);

// The one of `names` that is few changes away from `word`, or "": two neighbours that changed places are one change.
std::string nearest(std::string_view word, const std::vector<std::string>& names);

// For a word that is none of `names`: "did you mean overlay?", or "known are a, b, c" when none is near.
std::string hint(std::string_view word, const std::vector<std::string>& names);

// At most `limit` characters; what is not printable ASCII or a quote becomes '?'.
std::string printable(std::string_view text, size_t limit = 128);

// For a terminal or a log: control characters become '?', those that UTF-8 writes as two bytes too; other letters stay.
std::string without_controls(std::string_view text);

// Of a program's output: the last line that says something, without controls, at most `limit` bytes of it.
std::string last_line(std::string_view text, size_t limit = 500);

// The same of several lines: "one; two".
std::string one_line(std::string_view text);

}  // namespace base
