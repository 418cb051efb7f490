// SPDX-License-Identifier: Apache-2.0
// linux.seccomp of config.json: checked here, made a filter and applied by the sentry.
#pragma once

#include "base/wire/control.h"
#include "runtime/oci/view.h"

namespace runtime::oci {

base::wire::Seccomp read_seccomp(const View& v);

}  // namespace runtime::oci
