// SPDX-License-Identifier: Apache-2.0
// System V shared memory: segments are memfds that attachments map. Linux: ipc/shm.c.
#pragma once

#include "sentry/kernel/ipc_object.h"

namespace sentry::kernel {

class ShmTable {
 public:
  ShmTable();
  ~ShmTable();
  Result<long> get(Task& t, int32_t key, uint64_t size, int flags);
  Result<long> attach(Task& t, int id, uint64_t addr, int flags);
  Result<long> control(Task& t, int id, int command, uint64_t buf);
  std::string proc_text(const PidNamespace& viewer);  // /proc/sysvipc/shm

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// shmdt(2): of any segment, whatever namespace it is from.
Result<long> shm_detach(Task& t, uint64_t addr);

}  // namespace sentry::kernel
