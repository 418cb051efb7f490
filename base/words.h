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

}  // namespace base
