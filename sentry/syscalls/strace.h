// SPDX-License-Identifier: Apache-2.0
// One line of --strace: the call as the table declares it, its result, its time.
#pragma once

#include <string>

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

class StraceLine {
 public:
  StraceLine(Task& task, const platform::Call& call);
  void finish(const Result<long>& r);

 private:
  std::string text_;
  sched::Nanos start_;
};

}  // namespace sentry::syscalls
