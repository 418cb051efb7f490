// SPDX-License-Identifier: Apache-2.0
// Switching between stacks: the switch itself, the first frame of a new stack, and what sanitizers must be told. Only
// sentry/sched includes this.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SCHED_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SCHED_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define SCHED_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SCHED_TSAN 1
#endif
#endif

#ifdef SCHED_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SCHED_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace sentry::sched {

// Saves the callee-saved registers, MXCSR and the x87 control word on this stack, stores the stack pointer to *save, and
// goes on where `load` was saved. Returns when somebody switches back.
extern "C" void sched_switch(void** save, void* load);

// The stack pointer to give to sched_switch() for a stack that has not run: it calls entry(arg), which must not return.
void* prepare_stack(char* bottom, size_t size, void (*entry)(void*), void* arg);

// One side of a switch, as the sanitizers know it. Empty in normal builds.
struct SwitchPoint {
#ifdef SCHED_ASAN
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
#endif
#ifdef SCHED_TSAN
  void* tsan = nullptr;
#endif
};

// For a new fiber on this memory (recycled memory may still be poisoned).
void sanitizer_new_stack(SwitchPoint& point, char* bottom, size_t size);
void sanitizer_end_stack(SwitchPoint& point);
// For a thread that will switch to fibers.
void sanitizer_adopt_thread(SwitchPoint& point);
// Before a switch from `from` to `to`; last: `from` never runs again. Inlined: it enters on one stack and would leave on
// the other.
inline void sanitizer_before(SwitchPoint& from, SwitchPoint& to, bool last);
// First thing on `self` after a switch that came from `from`.
void sanitizer_after(SwitchPoint& self, SwitchPoint& from);

[[gnu::always_inline]] inline void sanitizer_before([[maybe_unused]] SwitchPoint& from, [[maybe_unused]] SwitchPoint& to,
                                                    [[maybe_unused]] bool last) {
#ifdef SCHED_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.bottom, to.size);
#endif
#ifdef SCHED_TSAN
  __tsan_switch_to_fiber(to.tsan, 0);
#endif
}

#if !defined(SCHED_ASAN) && !defined(SCHED_TSAN)
inline void sanitizer_new_stack(SwitchPoint&, char*, size_t) {}
inline void sanitizer_end_stack(SwitchPoint&) {}
inline void sanitizer_adopt_thread(SwitchPoint&) {}
inline void sanitizer_after(SwitchPoint&, SwitchPoint&) {}
#endif

}  // namespace sentry::sched
