// SPDX-License-Identifier: Apache-2.0
// The stack switch for x86-64 and the sanitizers' view of it.
#include "sentry/sched/context.h"

#include <cstdint>

#ifdef SCHED_ASAN
#include <sanitizer/asan_interface.h>
#endif

// The saved frame, from the stack pointer up: MXCSR and control word, r15, r14, r13, r12, rbx, rbp, return address.
// The end is a jump and not a return: the return predictor knows only the other stack's calls.
asm(R"(
  .pushsection .text.sched_switch, "ax", @progbits
  .globl sched_switch
  .hidden sched_switch
  .type sched_switch, @function
  .p2align 5
sched_switch:
  .cfi_startproc
  pushq %rbp
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rbp, 0
  pushq %rbx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rbx, 0
  pushq %r12
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %r12, 0
  pushq %r13
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %r13, 0
  pushq %r14
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %r14, 0
  pushq %r15
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %r15, 0
  subq $8, %rsp
  .cfi_adjust_cfa_offset 8
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  popq %r15
  .cfi_adjust_cfa_offset -8
  .cfi_restore %r15
  popq %r14
  .cfi_adjust_cfa_offset -8
  .cfi_restore %r14
  popq %r13
  .cfi_adjust_cfa_offset -8
  .cfi_restore %r13
  popq %r12
  .cfi_adjust_cfa_offset -8
  .cfi_restore %r12
  popq %rbx
  .cfi_adjust_cfa_offset -8
  .cfi_restore %rbx
  popq %rbp
  .cfi_adjust_cfa_offset -8
  .cfi_restore %rbp
  popq %rcx
  .cfi_adjust_cfa_offset -8
  .cfi_register %rip, %rcx
  jmpq *%rcx
  .cfi_endproc
  .size sched_switch, . - sched_switch

  .globl sched_first_frame
  .hidden sched_first_frame
  .type sched_first_frame, @function
  .p2align 4
sched_first_frame:
  .cfi_startproc
  .cfi_undefined %rip
  movq %r12, %rdi
  callq *%r13
  ud2
  .cfi_endproc
  .size sched_first_frame, . - sched_first_frame
  .popsection
)");

namespace sentry::sched {

extern "C" void sched_first_frame();

void* prepare_stack(char* bottom, size_t size, void (*entry)(void*), void* arg) {
  auto top = (reinterpret_cast<uintptr_t>(bottom) + size) & ~uintptr_t{15};
  auto* frame = reinterpret_cast<uint64_t*>(top) - 8;
  frame[0] = 0x1f80 | (uint64_t{0x037f} << 32);  // MXCSR and control word as the ABI has them at a program's start
  frame[1] = 0;                                  // r15
  frame[2] = 0;                                  // r14
  frame[3] = reinterpret_cast<uint64_t>(entry);  // r13
  frame[4] = reinterpret_cast<uint64_t>(arg);    // r12
  frame[5] = 0;                                  // rbx
  frame[6] = 0;                                  // rbp: the end of the chain of frames
  frame[7] = reinterpret_cast<uint64_t>(&sched_first_frame);
  return frame;
}

#if defined(SCHED_ASAN) || defined(SCHED_TSAN)
void sanitizer_new_stack([[maybe_unused]] SwitchPoint& point, [[maybe_unused]] char* bottom,
                         [[maybe_unused]] size_t size) {
#ifdef SCHED_ASAN
  ASAN_UNPOISON_MEMORY_REGION(bottom, size);
  point.bottom = bottom;
  point.size = size;
  point.fake_stack = nullptr;
#endif
#ifdef SCHED_TSAN
  point.tsan = __tsan_create_fiber(0);
#endif
}

void sanitizer_end_stack([[maybe_unused]] SwitchPoint& point) {
#ifdef SCHED_TSAN
  __tsan_destroy_fiber(point.tsan);
#endif
}

void sanitizer_adopt_thread([[maybe_unused]] SwitchPoint& point) {
#ifdef SCHED_TSAN
  point.tsan = __tsan_get_current_fiber();
#endif
}

void sanitizer_after([[maybe_unused]] SwitchPoint& self, [[maybe_unused]] SwitchPoint& from) {
#ifdef SCHED_ASAN
  __sanitizer_finish_switch_fiber(self.fake_stack, &from.bottom, &from.size);
#endif
}
#endif

}  // namespace sentry::sched
