// SPDX-License-Identifier: Apache-2.0
// CHECK: an invariant of ours. It stays on in release builds and stops the program with a report.
// Nothing that a less trusted side can cause may reach a CHECK: such a thing is an Errno, or the end of
// that process alone.
#pragma once

namespace base {
// Called once before the report ends the program; the sentry prints the current task and call.
using CheckContextHook = void (*)(char* buf, unsigned long size);
void set_check_context_hook(CheckContextHook hook);
[[noreturn, gnu::cold]] void check_failed(const char* expr, const char* file, int line);
}  // namespace base

#define CHECK(cond) (__builtin_expect(!!(cond), 1) ? (void)0 : ::base::check_failed(#cond, __FILE__, __LINE__))
#define UNREACHABLE() ::base::check_failed("unreachable", __FILE__, __LINE__)
#ifdef CAISSON_DEBUG
#define DCHECK(cond) CHECK(cond)
#else
#define DCHECK(cond) ((void)sizeof(!!(cond)))
#endif
