// SPDX-License-Identifier: Apache-2.0
// Names and texts of error numbers.
#include <cstring>

#include "base/result.h"

namespace base {

std::string_view Errno::name() const {
  switch (v_) {
    case 512: return "ERESTARTSYS";
    case 513: return "ERESTARTNOINTR";
    case 514: return "ERESTARTNOHAND";
    case 516: return "ERESTART_RESTARTBLOCK";
    default: break;
  }
  const char* n = strerrorname_np(v_);
  return n ? std::string_view(n) : std::string_view("unknown errno");
}

std::string_view Errno::text() const {
  const char* d = strerrordesc_np(v_);
  return d ? std::string_view(d) : std::string_view("unknown error");
}

}  // namespace base
