// SPDX-License-Identifier: Apache-2.0
// Small things about names: patterns, the nearest of several, and hostile text made fit for a log.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cri {

// '*' stands for any text, also for none, '?' for one character. Time: at most the product of the lengths.
bool matches(std::string_view pattern, std::string_view text);

// The one of `names` that is few changes away from `word`, or "".
std::string nearest(std::string_view word, const std::vector<std::string>& names);

// At most `limit` characters; what is not printable ASCII or a quote becomes '?'.
std::string printable(std::string_view text, size_t limit = 128);

}  // namespace cri
