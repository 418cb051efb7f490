// SPDX-License-Identifier: Apache-2.0
// Time-outs and signal masks that several waiting calls take.
#pragma once

#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {

// Negative: never.
inline sched::Nanos deadline_after_ms(int ms) {
  return ms < 0 ? sched::kNever : sched::now() + sched::Nanos{ms} * 1000000;
}
// EINVAL: negative or too many nanoseconds.
inline Result<sched::Nanos> deadline_after(const timespec& t) {
  if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= 1000000000) return kEINVAL;
  sched::Nanos now = sched::now();
  if (t.tv_sec > (sched::kNever - now) / 1000000000 - 1) return sched::kNever;
  return now + t.tv_sec * 1000000000 + t.tv_nsec;
}
// The sigmask argument of ppoll, pselect6 and epoll_pwait: null changes nothing.
inline Result<void> apply_signal_mask(Task& task, UserIn<uint64_t> mask, size_t size) {
  if (mask.is_null()) return {};
  if (size != sizeof(uint64_t)) return kEINVAL;
  task.set_temporary_mask(TRY(mask.copy_in(task.context())));
  return {};
}

}  // namespace sentry::syscalls
