// SPDX-License-Identifier: Apache-2.0
// What may take long (making, freezing, removing a container, hooks) is done by a child of this process that does it
// and ends: the shim itself never waits. A child is a fork of one thread, so it may use everything the shim may.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "shim/rpc/loop.h"

namespace shim::task {

// What a worker hands back: at most kMaxWorkerData bytes and a few descriptors.
struct Outcome {
  std::string data;
  std::vector<base::Fd> fds;
};
inline constexpr size_t kMaxWorkerData = 32 << 10;
inline constexpr size_t kMaxWorkerFds = 8;

class Workers {
 public:
  using Job = std::function<base::ResultX<Outcome>()>;
  using Done = std::function<void(base::ResultX<Outcome>)>;

  explicit Workers(rpc::Loop& loop) : loop_(loop) {}
  // job runs in a child with `stdio` as its descriptors 0, 1, 2 (-1: /dev/null). done runs here, once: with the outcome, or
  // with an error when the job failed, the child died, or did not end in timeout_ms and was killed.
  void run(const char* what, int timeout_ms, const int (&stdio)[3], Job job, Done done);
  size_t running() const { return running_.size(); }

 private:
  struct Running {
    std::string what;
    pid_t pid = 0;
    base::Fd socket;
    uint64_t watch = 0, timer = 0;
    Done done;
  };
  void finish(uint64_t id, base::ResultX<Outcome> outcome);
  void hear(uint64_t id);

  rpc::Loop& loop_;
  uint64_t next_ = 1;
  std::map<uint64_t, Running> running_;
};

}  // namespace shim::task
