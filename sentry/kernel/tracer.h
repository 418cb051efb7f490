// SPDX-License-Identifier: Apache-2.0
// What others may know of a task's tracer, and do as one: for procfs.
#pragma once

#include "sentry/kernel/kernel.h"

namespace sentry::kernel {

int tracer_pid(Task& t, const PidNamespace& ns);  // 0: none

// Writes of another process's memory, as a debugger does: pages that it may only read are written as well when the current task
// traces a thread of it that is stopped. Parks.
Result<size_t> write_as_debugger(mm::AddressSpace& space, uint64_t addr, const void* src, size_t n);

}  // namespace sentry::kernel
