// SPDX-License-Identifier: Apache-2.0
// How an Error chains its words.
#include "base/error.h"

namespace base {

Error wrap(Errno e, std::string_view outer) {
  std::string text(outer);
  text += ": ";
  text += e.text();
  return Error(e, std::move(text));
}

Error wrap(const Error& e, std::string_view outer) {
  std::string text(outer);
  text += ": ";
  text += e.text();
  return Error(e.code(), std::move(text));
}

}  // namespace base
