// SPDX-License-Identifier: Apache-2.0
#include "base/words.h"

#include <algorithm>

namespace base {
namespace {

// Edits between the two.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); i++) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); j++) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    for (size_t j = 1; j <= b.size(); j++) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (auto& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

std::string nearest(std::string_view word, const std::vector<std::string>& names) {
  std::string found;
  if (word.size() > 200) return found;
  size_t best = std::max<size_t>(2, word.size() / 3) + 1;
  for (auto& name : names) {
    size_t d = distance(word, name);
    if (d >= best) continue;
    best = d;
    found = name;
  }
  return found;
}

std::string hint(std::string_view word, const std::vector<std::string>& names) {
  std::string near = nearest(word, names);
  return near.empty() ? "known are " + joined(names) : "did you mean " + near + "?";
}

std::string printable(std::string_view text, size_t limit) {
  std::string out(text.substr(0, limit));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e || c == '"' || c == '\'') c = '?';
  }
  if (text.size() > limit) out += "...";
  return out;
}

}  // namespace base
