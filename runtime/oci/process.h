// SPDX-License-Identifier: Apache-2.0
// Reading the process object; used by parse_spec() and parse_process().
#pragma once

#include "base/wire/control.h"
#include "runtime/oci/spec.h"
#include "runtime/oci/view.h"

namespace runtime::oci {

base::wire::Process read_process(const View& v);

}  // namespace runtime::oci
