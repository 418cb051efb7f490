// SPDX-License-Identifier: Apache-2.0
// timerfd. Linux: fs/timerfd.c, man 2 timerfd_create.
#pragma once

#include <time.h>

#include "sentry/vfs/file.h"

namespace sentry::fs::timerfd {

// clock: CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME and the _ALARM ones. EINVAL.
Result<Ref<vfs::File>> create(int clock, int flags, const Ref<auth::Credentials>& cred);
// EINVAL: no timerfd, or times out of range. flags: TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET.
Result<itimerspec> set(vfs::File& file, int flags, const itimerspec& value);  // the old setting
Result<itimerspec> get(vfs::File& file);

}  // namespace sentry::fs::timerfd
