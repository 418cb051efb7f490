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

std::string without_controls(std::string_view text) {
  std::string out(text);
  for (size_t i = 0; i < out.size(); i++) {
    auto c = static_cast<unsigned char>(out[i]), next = static_cast<unsigned char>(i + 1 < out.size() ? out[i + 1] : 0);
    if (c < 0x20 || c == 0x7f) out[i] = '?';
    if (c == 0xc2 && next >= 0x80 && next < 0xa0) out.replace(i, 2, "?");  // U+0080 to U+009F: some terminals obey them
  }
  return out;
}

std::string last_line(std::string_view text, size_t limit) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return without_controls(text.substr(text.rfind('\n') + 1).substr(0, limit));
}

std::string one_line(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) out += (out.empty() ? "" : "; ") + without_controls(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace base
