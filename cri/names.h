// SPDX-License-Identifier: Apache-2.0
// Small things about names: patterns, and hostile text made fit for a log.
#pragma once

#include <string_view>

#include "base/words.h"

namespace cri {

// '*' stands for any text, also for none, '?' for one character. Time: at most the product of the lengths.
bool matches(std::string_view pattern, std::string_view text);

using base::printable;

}  // namespace cri
