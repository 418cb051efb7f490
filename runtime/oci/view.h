// SPDX-License-Identifier: Apache-2.0
// A reader's view of hostile JSON: every member is asked for by name and type, null counts as absent, and the first
// thing that is wrong is kept with its path ("process.rlimits[2].soft"). Inside this room only.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace runtime::oci {

struct Problems {
  std::optional<base::Error> first;     // later ones follow from it or wait for the next run
  std::vector<std::string> warnings;
  void fail(std::string text);
  void warn(std::string text);
};

class View {
 public:
  View(const nlohmann::json* j, std::string path, Problems* problems)
      : j_(j), path_(std::move(path)), problems_(problems) {}

  const std::string& path() const { return path_; }
  // Null, absent, or empty (object, list, string).
  bool empty() const;
  bool present() const { return j_ != nullptr; }
  // A member of an object; absent if this is absent. Not an object: an error.
  View operator[](const char* name) const;
  // Strings may not hold NUL: the kernel would see another string than the check did.
  std::string text(std::string_view otherwise = "") const;
  bool flag() const;
  std::optional<int64_t> integer(int64_t least, int64_t most) const;
  std::optional<uint64_t> natural(uint64_t most = UINT64_MAX) const;
  std::vector<View> list() const;
  std::vector<std::string> texts() const;
  std::vector<std::pair<std::string, View>> members() const;
  // Warns of members with other names: nothing in a config is passed over in silence.
  void only(std::initializer_list<const char*> names) const;
  // Warns if this is there and not empty.
  void unsupported(std::string_view why) const;
  void fail(std::string_view what) const;
  void warn(std::string_view what) const;

 private:
  const nlohmann::json* j_;  // null: absent
  std::string path_;
  Problems* problems_;
};

}  // namespace runtime::oci
