// SPDX-License-Identifier: Apache-2.0
// Clang's thread-safety annotations (clang.llvm.org, "Thread Safety Analysis"); nothing under GCC.
#pragma once

#if defined(__clang__)
#define TSA(x) __attribute__((x))
#else
#define TSA(x)
#endif
#define CAPABILITY(x) TSA(capability(x))
#define SCOPED_CAPABILITY TSA(scoped_lockable)
#define GUARDED_BY(x) TSA(guarded_by(x))
#define PT_GUARDED_BY(x) TSA(pt_guarded_by(x))
#define ACQUIRED_AFTER(...) TSA(acquired_after(__VA_ARGS__))
#define REQUIRES(...) TSA(requires_capability(__VA_ARGS__))
#define ACQUIRE(...) TSA(acquire_capability(__VA_ARGS__))
#define RELEASE(...) TSA(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) TSA(try_acquire_capability(__VA_ARGS__))
#define EXCLUDES(...) TSA(locks_excluded(__VA_ARGS__))
#define ASSERT_CAPABILITY(x) TSA(assert_capability(x))
#define RETURN_CAPABILITY(x) TSA(lock_returned(x))
#define NO_THREAD_SAFETY_ANALYSIS TSA(no_thread_safety_analysis)
