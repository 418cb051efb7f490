// SPDX-License-Identifier: Apache-2.0
// The programs of the app suite: each a fixed piece of work, of which the time is taken.
#pragma once

#include <string>
#include <vector>

namespace runtime::bench {

struct App {
  const char *family, *name, *label;
  std::vector<const char*> programs;  // found in /usr/bin, /bin, /usr/sbin … of the root file system, or given by a path
  const char* before;                 // shell, not measured
  const char* work;                   // shell, measured
};
const std::vector<App>& apps();
// The first of the app's programs that this root file system does not have, or "".
std::string missing_program(const App& app, const std::string& root);

}  // namespace runtime::bench
