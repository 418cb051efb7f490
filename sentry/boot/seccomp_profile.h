// SPDX-License-Identifier: Apache-2.0
// The OCI profile of a container as a filter program.
#pragma once

#include "base/wire/control.h"
#include "sentry/kernel/seccomp.h"

namespace sentry::boot {

// EINVAL: arguments out of range, or a program that is too long. Names of calls that do not exist are passed over, as libseccomp does.
Result<Ref<kernel::SeccompFilter>> compile_profile(const base::wire::Seccomp& profile);

}  // namespace sentry::boot
