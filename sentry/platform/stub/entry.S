# SPDX-License-Identifier: Apache-2.0
# The stub's ways in and out of application code, its system call instructions, and the copy loops that may fault.
# GS base points to this thread's slot; the application's vector registers are never touched.
#include "sentry/platform/stub/stub_layout.h"

    .text
    .macro FUNC name
    .globl \name
    .hidden \name
    .type \name, @function
\name:
    .endm
    # FIXUP at, to: a fault at `at` goes on at `to`.
    .macro FIXUP at, to
    .pushsection .rodata.fixups, "a"
    .long \at - ., \to - . + 4
    .popsection
    .endm

    .pushsection .rodata.fixups, "a"
    .globl stub_fixups
    .hidden stub_fixups
stub_fixups:
    .popsection

FUNC _start
    mov %rsp, %rdi
    and $-16, %rsp
    xor %ebp, %ebp
    call zygote_start
    ud2

# ---- Application -> stub ----
# From a patched site, through the slot: rcx = return address, all else as at the call.
FUNC stub_entry
    mov %rsp, %gs:REGS_RSP
    mov %gs:SLOT_STACK, %rsp
    pushfq
    popq %gs:REGS_EFLAGS
# Calls whose result lies in the slot. Only flags, rsp and r11 change before the result is there: a kick goes on at stub_entry_ask.
FUNC stub_answer
    cmp $STUB_MAX_CALLS, %rax
    jae stub_entry_ask
    mov $STUB_ZYGOTE_PAGE, %r11
    movzbl (%r11, %rax), %r11d
    shr $STUB_ANSWER_SHIFT, %r11d
    mov %gs:SLOT_ANSWERS(, %r11, 8), %r11
    bt $STUB_ANSWER_BIT, %r11
    jnc stub_entry_ask
    testl $0x100, %gs:REGS_EFLAGS   # single step
    jnz stub_entry_ask
    cmpl $0, %gs:SLOT_KICKED
    jne stub_entry_ask
    pushq %gs:REGS_EFLAGS
    popfq
    mov %gs:REGS_RSP, %rsp
    mov %r11d, %eax
FUNC stub_answered
    mov %gs:REGS_EFLAGS, %r11
    jmp *%rcx
FUNC stub_entry_ask
    mov %gs:SLOT_STACK, %rsp
    mov %gs:REGS_EFLAGS, %r11
    test $0x40400, %r11d            # direction, alignment check: not for the stub's own code
    jnz 2f
1:
    mov %rax, %gs:REGS_RAX
    mov %rcx, %gs:REGS_RIP
    mov %rcx, %gs:REGS_RCX
    mov %r11, %gs:REGS_R11
    mov %rdi, %gs:REGS_RDI
    mov %rsi, %gs:REGS_RSI
    mov %rdx, %gs:REGS_RDX
    mov %r10, %gs:REGS_R10
    mov %r8, %gs:REGS_R8
    mov %r9, %gs:REGS_R9
    mov %rbx, %gs:REGS_RBX
    mov %rbp, %gs:REGS_RBP
    mov %r12, %gs:REGS_R12
    mov %r13, %gs:REGS_R13
    mov %r14, %gs:REGS_R14
    mov %r15, %gs:REGS_R15
    rdfsbase %rcx
    mov %rcx, %gs:REGS_FS_BASE
    mov %gs:SLOT_SELF, %rdi
    call stub_on_syscall
    test %eax, %eax
    jnz stub_restore_iret
    jmp stub_restore
2:  pushq $2
    popfq
    jmp 1b

# ---- Stub -> application. Idempotent: a kick in here starts it again. ----
FUNC stub_restore
    cmpl $0, %gs:SLOT_KICKED
    jne stub_kick_entry
    mov %gs:SLOT_SELF, %rsp
    add $REGS_EFLAGS, %rsp
    popfq
    mov %gs:REGS_RAX, %rax
    mov %gs:REGS_RCX, %rcx
    mov %gs:REGS_RDX, %rdx
    mov %gs:REGS_RSI, %rsi
    mov %gs:REGS_RDI, %rdi
    mov %gs:REGS_R8, %r8
    mov %gs:REGS_R9, %r9
    mov %gs:REGS_R10, %r10
    mov %gs:REGS_R11, %r11
    mov %gs:REGS_RBX, %rbx
    mov %gs:REGS_RBP, %rbp
    mov %gs:REGS_R12, %r12
    mov %gs:REGS_R13, %r13
    mov %gs:REGS_R14, %r14
    mov %gs:REGS_R15, %r15
    mov %gs:REGS_RSP, %rsp
    jmp *%gs:REGS_RIP
# The same with iretq, for single step: rip, cs, eflags, rsp, ss lie in the registers as it wants them.
FUNC stub_restore_iret
    cmpl $0, %gs:SLOT_KICKED
    jne stub_kick_entry
    mov %gs:SLOT_SELF, %rsp
    add $REGS_RIP, %rsp
    mov %gs:REGS_RAX, %rax
    mov %gs:REGS_RCX, %rcx
    mov %gs:REGS_RDX, %rdx
    mov %gs:REGS_RSI, %rsi
    mov %gs:REGS_RDI, %rdi
    mov %gs:REGS_R8, %r8
    mov %gs:REGS_R9, %r9
    mov %gs:REGS_R10, %r10
    mov %gs:REGS_R11, %r11
    mov %gs:REGS_RBX, %rbx
    mov %gs:REGS_RBP, %rbp
    mov %gs:REGS_R12, %r12
    mov %gs:REGS_R13, %r13
    mov %gs:REGS_R14, %r14
    mov %gs:REGS_R15, %r15
    iretq
FUNC stub_restore_end

# Registers are in the slot already (a handler saved them).
FUNC stub_kick_entry
    mov %gs:SLOT_STACK, %rsp
    cld
    mov %gs:SLOT_SELF, %rdi
    call stub_on_kick
    test %eax, %eax
    jnz stub_restore_iret
    jmp stub_restore
# From the SIGSYS handler, which does not return: sigreturn costs more than what has to be undone. The registers are in
# the slot; rdi: the frame's XSAVE image, rsi: mask.
FUNC stub_trap_entry
    mov %esi, %eax
    mov %rsi, %rdx
    shr $32, %rdx
trap_xrstor_at:
    xrstor64 (%rdi)
trap_go:
    mov %gs:SLOT_STACK, %rsp
    mov %gs:SLOT_SELF, %rdi
    call stub_on_trap
    test %eax, %eax
    jnz stub_restore_iret
    jmp stub_restore
    FIXUP trap_xrstor_at, trap_go
FUNC stub_fault_entry
    mov %gs:SLOT_STACK, %rsp
    cld
    mov %gs:SLOT_SELF, %rdi
    call stub_on_fault
    test %eax, %eax
    jnz stub_restore_iret
    jmp stub_restore

# A fresh thread or child: its first answer is (or will be) in its slot.
FUNC stub_born
    mov %gs:SLOT_STACK, %rsp
    mov %gs:SLOT_SELF, %rdi
    call stub_on_birth
    test %eax, %eax
    jnz stub_restore_iret
    jmp stub_restore

# ---- System calls ----
# Each `syscall` is named, and the filter lets each make its own calls alone (seccomp-profiles/stub.json).
# GATE name, site: long name(long nr, long a0 .. a5); a5 is on the stack.
    .macro GATE name, site
FUNC \name
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 8(%rsp), %r9
    .globl \site
\site:
    syscall
    ret
    .endm
    GATE stub_start_call, stub_ip_start      # the zygote's start: nothing once the filter is there
    GATE stub_memory_call, stub_ip_memory    # the application's memory, as the sentry orders
    GATE stub_wait_call, stub_ip_wait        # sleep for an answer; wake and order the threads of this process
    GATE stub_ask_call, stub_ip_ask          # knock
    GATE stub_time_call, stub_ip_time        # the thread's own clock

# The application's private futex call: a kick that comes before the instruction has run makes it -EINTR.
# long stub_app_futex(uaddr, op, val, timeout, uaddr2, val3)
FUNC stub_app_futex
    mov %rcx, %r10
    mov $202, %eax
FUNC stub_futex_check
    cmpl $0, %gs:SLOT_KICKED
    jne stub_futex_interrupted
FUNC stub_ip_futex
    syscall
    ret
FUNC stub_futex_interrupted
    mov $-4, %rax
    ret

# The handlers' return.
FUNC stub_sigreturn
    mov $15, %eax
    .globl stub_ip_sigreturn
stub_ip_sigreturn:
    syscall
    ud2

# void stub_exit(): registers only.
FUNC stub_exit
    xor %edi, %edi
    mov $60, %eax
    .globl stub_ip_exit
stub_ip_exit:
    syscall
    ud2

# long stub_clone(flags, stack, token): stack != 0 is a thread, whose slot's stack that is. The child has no
# memory of its own until it has told its token; it uses registers only.
FUNC stub_clone
    push %r12
    mov %rdx, %r12
    xor %edx, %edx
    xor %r10d, %r10d
    xor %r8d, %r8d
    xor %r9d, %r9d
    mov $56, %eax
    .globl stub_ip_clone
stub_ip_clone:
    syscall
    test %rax, %rax
    jz 1f
    pop %r12
    test %rsi, %rsi
    jnz 5f
    # A process: the child's control zone may have come through here.
    push %rax
    mov $3, %eax
    mov $STUB_CONTROL_FD, %edi
    .globl stub_ip_close_parent
stub_ip_close_parent:
    syscall
    pop %rax
5:  ret
1:  test %rsi, %rsi
    jz 2f
    lea -STUB_STACK_TOP(%rsp), %rax
    wrgsbase %rax
2:  mov %rsi, %r13
    mov $STUB_KNOCK, %eax
    mov %r12, %rdi
    xor %esi, %esi
    .globl stub_ip_knock
stub_ip_knock:
    syscall
    test %rax, %rax
    js stub_exit
    test %r13, %r13
    jz 3f
    # Thread: its own signal stack, then its first answer.
    mov %gs:SLOT_SELF, %rdi
    add $SLOT_ALTSTACK, %rdi
    xor %esi, %esi
    mov $131, %eax
    .globl stub_ip_sigaltstack
stub_ip_sigaltstack:
    syscall
    jmp stub_born
    # Child: the control zone is descriptor 3, inherited or just arrived.
3:  mov $9, %eax
    mov $STUB_ZONE, %rdi
    mov $0x1000, %esi
    mov $1, %edx
    mov $0x100001, %r10d
    mov $STUB_CONTROL_FD, %r8d
    xor %r9d, %r9d
    .globl stub_ip_map_page
stub_ip_map_page:
    syscall
    cmp %rdi, %rax
    jne stub_exit
    mov $9, %eax
    add $0x1000, %rdi
    mov $(STUB_ZONE_SIZE - 0x1000), %esi
    mov $3, %edx
    mov $0x1000, %r9d
    .globl stub_ip_map_zone
stub_ip_map_zone:
    syscall
    cmp %rdi, %rax
    jne stub_exit
    mov $28, %eax
    sub $0x1000, %rdi
    mov $STUB_ZONE_SIZE, %esi
    mov $10, %edx
    .globl stub_ip_dontfork
stub_ip_dontfork:
    syscall
    test %rax, %rax
    jnz stub_exit
    mov $STUB_ZYGOTE_PAGE, %rax
    cmpl $0, STUB_HAVE_MSEAL(%rax)
    je 4f
    mov $462, %eax
    xor %edx, %edx
    .globl stub_ip_mseal
stub_ip_mseal:
    syscall
    test %rax, %rax
    jnz stub_exit
4:  mov $3, %eax
    mov $STUB_CONTROL_FD, %edi
    .globl stub_ip_close
stub_ip_close:
    syscall
    jmp stub_born

# long stub_spawn(flags, stack, clear_tid, arg): the zygote's helper thread, which calls zygote_helper(arg).
FUNC stub_spawn
    mov %rdx, %r10
    mov %rcx, %r9
    xor %edx, %edx
    xor %r8d, %r8d
    mov $56, %eax
    syscall
    test %rax, %rax
    jz 1f
    ret
1:  mov %r9, %rdi
    xor %ebp, %ebp
    call zygote_helper
    ud2
# void stub_switch(stack, arg): zygote_finish(arg) on another stack.
FUNC stub_switch
    mov %rdi, %rsp
    mov %rsi, %rdi
    xor %ebp, %ebp
    call zygote_finish
    ud2

# ---- Copies that may meet a bad address: they end early, and tell how much is left. ----
# size_t stub_copy(dst, src, n): bytes not copied.
FUNC stub_copy
    mov %rdx, %rcx
copy_at:
    rep movsb
copy_done:
    mov %rcx, %rax
    ret
    FIXUP copy_at, copy_done
# size_t stub_zero(dst, n): bytes not written.
FUNC stub_zero
    mov %rsi, %rcx
    xor %eax, %eax
zero_at:
    rep stosb
zero_done:
    mov %rcx, %rax
    ret
    FIXUP zero_at, zero_done
# long stub_copy_string(dst, src, limit): length without NUL; -ENAMETOOLONG; -EFAULT.
FUNC stub_copy_string
    xor %eax, %eax
1:  cmp %rdx, %rax
    jae string_long
string_at:
    movzbl (%rsi, %rax), %ecx
    mov %cl, (%rdi, %rax)
    test %ecx, %ecx
    jz 2f
    inc %rax
    jmp 1b
2:  ret
string_long:
    mov $-36, %rax
    ret
word_fault:
    mov $-14, %rax
    ret
    FIXUP string_at, word_fault
# long stub_load32(p)
FUNC stub_load32
load_at:
    mov (%rdi), %eax
    ret
    FIXUP load_at, word_fault
# long stub_store32(p, v)
FUNC stub_store32
store_at:
    mov %esi, (%rdi)
    xor %eax, %eax
    ret
    FIXUP store_at, word_fault
# long stub_cmpxchg32(p, expected, desired): the old value.
FUNC stub_cmpxchg32
    mov %esi, %eax
cmpxchg_at:
    lock cmpxchg %edx, (%rdi)
    mov %eax, %eax
    ret
    FIXUP cmpxchg_at, word_fault

# ---- Vector state; area, mask ----
FUNC stub_xsave
    mov %esi, %eax
    mov %rsi, %rdx
    shr $32, %rdx
    xsave64 (%rdi)
    orq $3, 512(%rdi)       # a signal handler may change the x87 and SSE state it finds
    ret
# long stub_xrstor(area, mask): a malformed image is -EFAULT.
FUNC stub_xrstor
    mov %esi, %eax
    mov %rsi, %rdx
    shr $32, %rdx
xrstor_at:
    xrstor64 (%rdi)
    xor %eax, %eax
    ret
    FIXUP xrstor_at, word_fault

    .pushsection .rodata.fixups_end, "a"
    .globl stub_fixups_end
    .hidden stub_fixups_end
stub_fixups_end:
    .popsection
    .section .note.GNU-stack, "", @progbits
