// SPDX-License-Identifier: Apache-2.0
// Extended attributes kept in the sentry's memory: user., trusted., security. Who may do what is the VFS's.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sentry/base.h"

namespace sentry::fs::common {

class XattrStore {
 public:
  Result<std::string> get(const std::string& name) const;
  // flags: XATTR_CREATE, XATTR_REPLACE. ENOSPC past 128 KiB for one file.
  Result<void> set(const std::string& name, std::string_view value, int flags);
  std::vector<std::string> list() const;
  Result<void> remove(const std::string& name);

 private:
  static bool supported(const std::string& name);
  struct State {
    std::map<std::string, std::string> values;
    size_t bytes = 0;
  };
  Guarded<State> state_{LockRank::kFilePrivate};
};

}  // namespace sentry::fs::common
