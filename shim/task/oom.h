// SPDX-License-Identifier: Apache-2.0
// Being told when the host kills a program of a container for want of memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "shim/rpc/loop.h"

namespace shim::task {

class OomWatch {
 public:
  // The groups' directories. killed: each time there were more kills than before.
  OomWatch(rpc::Loop& loop, std::vector<std::string> leaves, std::function<void()> killed);
  ~OomWatch();
  OomWatch(const OomWatch&) = delete;
  OomWatch& operator=(const OomWatch&) = delete;
  // Looks now: an end may be heard of before its cause.
  void look();

 private:
  void watch_v1(const std::string& leaf);
  void watch_v2(const std::string& leaf);
  void add(base::Fd fd);

  rpc::Loop& loop_;
  const std::vector<std::string> leaves_;
  std::function<void()> killed_;
  uint64_t seen_ = 0, later_ = 0;
  std::vector<base::Fd> fds_;
  std::vector<uint64_t> watches_;
};

}  // namespace shim::task
