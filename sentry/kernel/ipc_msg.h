// SPDX-License-Identifier: Apache-2.0
// System V message queues. Linux: ipc/msg.c.
#pragma once

#include "sentry/kernel/ipc_object.h"

namespace sentry::kernel {

class MsgTable {
 public:
  MsgTable();
  ~MsgTable();
  Result<long> get(Task& t, int32_t key, int flags);
  Result<long> send(Task& t, int id, uint64_t buf, uint64_t size, int flags);     // parks
  Result<long> receive(Task& t, int id, uint64_t buf, uint64_t size, int64_t type, int flags);  // parks
  Result<long> control(Task& t, int id, int command, uint64_t buf);
  std::string proc_text(const PidNamespace& viewer);  // /proc/sysvipc/msg

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sentry::kernel
