// SPDX-License-Identifier: Apache-2.0
// System V semaphores. Linux: ipc/sem.c.
#pragma once

#include <sys/sem.h>

#include "sentry/kernel/ipc_object.h"

namespace sentry::kernel {

class SemTable {
 public:
  SemTable();
  ~SemTable();
  Result<long> get(Task& t, int32_t key, int count, int flags);
  // deadline: on sched::now()'s clock. Parks.
  Result<long> operate(Task& t, int id, const std::vector<sembuf>& ops, sched::Nanos deadline);
  Result<long> control(Task& t, int id, int num, int command, uint64_t arg);
  // Gives back what an undo list of tasks promised.
  void undo(SemUndo& list, int pid);
  std::string proc_text();  // /proc/sysvipc/sem

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sentry::kernel
