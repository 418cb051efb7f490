// SPDX-License-Identifier: Apache-2.0
// The flags of one verb. A thin face over CLI11, so that one file alone includes it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"

namespace runtime::cmd {

class Flags {
 public:
  // `usage`: what follows the name in the help line, "[flags] ID".
  Flags(std::string name, std::string usage, std::string description);
  ~Flags();
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;

  // names: "-d,--detach".
  void flag(const std::string& names, bool& v, const std::string& help);
  void value(const std::string& names, std::string& v, const std::string& help);
  void value(const std::string& names, int64_t& v, const std::string& help);
  void choice(const std::string& names, std::string& v, std::vector<std::string> of, const std::string& help);
  // A flag without a value that sets v to `to`.
  void constant(const std::string& names, std::string& v, const std::string& to, const std::string& help);
  // May be given many times, one value each.
  void list(const std::string& names, std::vector<std::string>& v, const std::string& help);

  // Everything that is no flag comes back in `rest`. stop_at_first: what follows the first such word is not looked at
  // (the arguments of a program). False: help was asked for and printed.
  base::ResultX<bool> parse(const std::vector<std::string>& args, std::vector<std::string>* rest, bool stop_at_first);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace runtime::cmd
