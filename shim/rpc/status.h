// SPDX-License-Identifier: Apache-2.0
// How a call ends: gRPC's status codes, which ttrpc uses, and what our errors become in them.
#pragma once

#include "base/error.h"

namespace shim::rpc {

enum class Code : int {
  ok = 0,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  already_exists = 6,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
};

struct Status {
  Code code = Code::ok;
  std::string text;
};

inline Status status_of(const base::Error& e) {
  switch (e.code().value()) {
    case ETIMEDOUT: return {Code::deadline_exceeded, e.text()};
    case EEXIST: return {Code::already_exists, e.text()};
    case EOPNOTSUPP: return {Code::unimplemented, e.text()};
    default: return {Code::unknown, e.text()};
  }
}

}  // namespace shim::rpc
