// SPDX-License-Identifier: Apache-2.0
// toml++ as all of the runtime includes it. It throws toml::parse_error, which its callers catch.
#pragma once

#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>
