// SPDX-License-Identifier: Apache-2.0
// Makes the names of base/ visible in the sentry.
#pragma once

#include "base/check.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/ref.h"
#include "base/result.h"

namespace sentry {
using namespace base;  // one program, one namespace (docs/STYLE.md)
}
