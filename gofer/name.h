// SPDX-License-Identifier: Apache-2.0
// Name: one path component that has been checked. Only tree.cc turns it into a path for the host.
#pragma once

#include <string>

#include "base/result.h"
#include "base/wire/gofer.h"

namespace gofer {

namespace wire = base::wire::gofer;

// Borrows the string it was made of.
class Name {
 public:
  // ENAMETOOLONG, or EINVAL for a name that is empty, "." or "..", or holds '/' or NUL.
  static base::Result<Name> check(const std::string& s) {
    if (s.size() > wire::kMaxName) return base::kENAMETOOLONG;
    if (!wire::valid_name(s)) return base::kEINVAL;
    return Name(s.c_str());
  }
  const char* c_str() const { return s_; }

 private:
  explicit Name(const char* s) : s_(s) {}
  const char* s_;
};

}  // namespace gofer
