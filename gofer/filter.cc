// SPDX-License-Identifier: Apache-2.0
#include "gofer/filter.h"
namespace gofer {
base::Result<void> install_filter() { return {}; }
}  // namespace gofer
