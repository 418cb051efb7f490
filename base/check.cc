// SPDX-License-Identifier: Apache-2.0
// The end of a program whose own invariant broke.
#include "base/check.h"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace base {
namespace {
CheckContextHook context_hook = nullptr;
}  // namespace

void set_check_context_hook(CheckContextHook hook) { context_hook = hook; }

void check_failed(const char* expr, const char* file, int line) {
  char context[512] = "";
  if (context_hook) context_hook(context, sizeof context);
  char text[1024];
  int n = snprintf(text, sizeof text, "caisson: broken invariant: %s at %s:%d%s%s\n", expr, file, line,
                   context[0] ? "; " : "", context);
  if (n > 0 && write(2, text, static_cast<size_t>(n) < sizeof text ? static_cast<size_t>(n) : sizeof text - 1) < 0) {
  }
  abort();
}
}  // namespace base
