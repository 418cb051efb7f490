// SPDX-License-Identifier: Apache-2.0
// Application code for the platform tests: flat, position independent, without libc. Each function starts with its
// arguments in registers and ends by the call kAppDone.
#include "tests/platform/app.h"

#include <cstdint>

namespace {

constexpr long kDone = 1000;

[[gnu::always_inline]] inline long call(long nr, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long r;
  asm volatile("syscall" : "=a"(r) : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return r;
}
[[noreturn, gnu::always_inline]] inline void done(long v) {
  for (;;) call(kDone, v);
}

}  // namespace

extern "C" {

// n calls of number nr; the sum of the results.
[[noreturn]] void null_calls(long nr, long n) {
  long sum = 0;
  for (long i = 0; i < n; i++) sum += call(nr, i);
  done(sum);
}

// One call with its arguments from memory; checks what a system call must preserve.
[[noreturn]] void call_once(const long* a) {
  long nr = a[0], rcx, r11, flags, rip, r = nr, seen[6];
  register long r10 asm("r10") = a[4];
  register long r8 asm("r8") = a[5];
  register long r9 asm("r9") = a[6];
  long rdi = a[1], rsi = a[2], rdx = a[3], rbx = 0x1234567890;
  asm volatile(
      "stc; pushfq; popq %[flags]\n"
      "lea 1f(%%rip), %[rip]\n"
      "stc; syscall\n"
      "1: mov %%rcx, %[rcx]; mov %%r11, %[r11]\n"
      : "+a"(r), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r10), "+r"(r8), "+r"(r9), "+b"(rbx), [flags] "=&r"(flags),
        [rip] "=&r"(rip), [rcx] "=&r"(rcx), [r11] "=&r"(r11)
      :
      : "rcx", "r11", "memory");
  seen[0] = rdi; seen[1] = rsi; seen[2] = rdx; seen[3] = r10; seen[4] = r8; seen[5] = r9;
  for (int i = 0; i < 6; i++)
    if (seen[i] != a[1 + i]) done(-1000 - i);
  if (rcx != rip) done(-2000);
  if ((r11 ^ flags) & 0xcd5) done(-2001);
  if (rbx != 0x1234567890) done(-2002);
  done(r);
}

// Writes v to every page of [p, p+n).
[[noreturn]] void touch(volatile char* p, long n, long v) {
  for (long i = 0; i < n; i += 4096) p[i] = static_cast<char>(v);
  done(p[0]);
}

[[noreturn]] void spin(volatile long* counter) {
  for (;;) *counter = *counter + 1;
}

// Fills all vector registers from a pattern, makes the call nr with argument a (fork, clone, anything), and tells
// whether they are unchanged. Result: 1000000 + rax, or the number of the first register that differs.
[[noreturn]] void vector_check(long nr, long a, const void* pattern, void* out, long) {
  long r = nr;
  asm volatile(
#define LOAD(i) "vmovdqu64 " #i "*64(%[p]), %%zmm" #i "\n"
#define STORE(i) "vmovdqu64 %%zmm" #i ", " #i "*64(%[o])\n"
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) \
    X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
      ALL(LOAD)
      "kmovq 2048(%[p]), %%k1; kmovq 2056(%[p]), %%k7\n"
      "movl $0x3f80, -8(%%rsp); ldmxcsr -8(%%rsp); movw $0x27f, -8(%%rsp); fldcw -8(%%rsp)\n"
      "syscall\n"
      ALL(STORE)
      "kmovq %%k1, 2048(%[o]); kmovq %%k7, 2056(%[o])\n"
      "movq $0, 2064(%[o]); stmxcsr 2064(%[o]); fnstcw 2068(%[o])\n"
      : "+a"(r) : "D"(a), [p] "r"(pattern), [o] "r"(out) : "rcx", "r11", "memory");
  auto* x = static_cast<const unsigned char*>(pattern);
  auto* y = static_cast<const unsigned char*>(out);
  for (int i = 0; i < 2064; i++)
    if (x[i] != y[i]) done(i / 64);
  if (*reinterpret_cast<const uint32_t*>(y + 2064) != 0x3f80) done(40);
  if (*reinterpret_cast<const uint16_t*>(y + 2068) != 0x27f) done(41);
  done(1000000 + r);
}

// Keeps live zmm registers, red-zone data and r10 through a loop that makes no calls until *stop is set; then the number of
// mismatches.
[[noreturn]] void vector_spin(volatile long* stop, const void* pattern, volatile long* rounds) {
  long bad = 0;
  while (*stop == 0) {
    *rounds = *rounds + 1;
    uint64_t a, b, c, z;
    asm volatile(
        "vmovdqu64 320(%[p]), %%zmm5; vmovdqu64 1280(%[p]), %%zmm20\n"
        "movabs $0x1122334455667788, %%r10; mov %%r10, -64(%%rsp); mov %%r10, -128(%%rsp)\n"
        "mov $300, %%ecx\n1: pause; dec %%ecx; jnz 1b\n"
        "vpxorq 320(%[p]), %%zmm5, %%zmm5; vpxorq 1280(%[p]), %%zmm20, %%zmm20; vporq %%zmm5, %%zmm20, %%zmm5\n"
        "vptestmq %%zmm5, %%zmm5, %%k1; kmovq %%k1, %[z]\n"
        "mov -64(%%rsp), %[a]; mov -128(%%rsp), %[b]; mov %%r10, %[c]\n"
        : [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [z] "=&r"(z) : [p] "r"(pattern) : "rcx", "r10", "memory");
    if (a != 0x1122334455667788 || b != a || c != a || z != 0) bad++;
  }
  done(bad);
}

// A signal handler with Linux's frame: dirties vector registers, counts, and returns through the restorer.
[[gnu::naked]] void handler() {
  asm volatile(
      "vpternlogq $0xff, %zmm5, %zmm5, %zmm5; vpternlogq $0xff, %zmm20, %zmm20, %zmm20; vzeroupper\n"
      "mov 16(%rsi), %rax\n"   // siginfo.si_value or address: where to count
      "test %rax, %rax; jz 1f; lock incq (%rax)\n"
      "1: mov $15, %eax; add $8, %rsp; syscall\n");
}

// A private futex wait of the application.
[[noreturn]] void futex_wait(volatile int* p, long expected, const long* timeout) {
  done(call(202, reinterpret_cast<long>(p), 128, expected, reinterpret_cast<long>(timeout)));
}

// n times: store, and call nr with i.
[[noreturn]] void store_loop(volatile long* p, long n, long nr) {
  for (long i = 0; i < n; i++) {
    *p = i;
    if (call(nr, i) != i) done(-1 - i);
    if (*p != i) done(-1000000 - i);
  }
  done(n);
}

[[noreturn]] void raw_call(const long* a) { done(call(a[0], a[1], a[2], a[3], a[4], a[5], a[6])); }

// Calls nr(i) for ever, counting.
[[noreturn]] void count_calls(volatile long* counter, long nr) {
  for (;;) {
    call(nr, *counter);
    *counter = *counter + 1;
  }
}

// Hostile: blocks every signal for this thread by a host rt_sigreturn of its own making, then spins. `sigreturn` is the
// stub's gadget (mov $15; syscall).
[[noreturn]] void block_signals(void* sigreturn, volatile long* counter, char* frame) {
  auto* uc = reinterpret_cast<uint64_t*>(frame);
  for (int i = 0; i < 38; i++) uc[i] = 0;
  uint64_t rip, rsp;
  asm volatile("lea 1f(%%rip), %0; mov %%rsp, %1\n" : "=r"(rip), "=r"(rsp));
  uc[0] = 6;                // UC_SIGCONTEXT_SS | STRICT
  uc[5 + 8] = reinterpret_cast<uint64_t>(counter);  // rdi
  uc[5 + 15] = rsp;
  uc[5 + 16] = rip;
  uc[5 + 17] = 0x202;
  uc[5 + 18] = 0x002b000000000033;
  uc[37] = ~0ull;           // uc_sigmask
  asm volatile(
      "mov %0, %%rsp; jmp *%1\n"
      "1: incq (%%rdi); jmp 1b\n"
      : : "r"(uc), "r"(sigreturn) : "memory");
  __builtin_unreachable();
}

// kind 0: int3; 1: division by zero; 2: ud2; 3: read of address arg; 4: write; 5: single step over a call
[[noreturn]] void trap(long kind, volatile char* arg) {
  switch (kind) {
    case 0: asm volatile("int3"); break;
    case 1: asm volatile("xor %%edx, %%edx; xor %%ecx, %%ecx; mov $1, %%eax; div %%ecx" : : : "rax", "rcx", "rdx"); break;
    case 2: asm volatile("ud2"); break;
    case 3: (void)*arg; break;
    case 4: *arg = 1; break;
    default: break;
  }
  done(77);
}

[[noreturn]] void jump(void (*where)(), long a, long b, long c) {
  asm volatile("jmp *%0" : : "r"(where), "D"(a), "S"(b), "d"(c));
  __builtin_unreachable();
}

// Hostile: makes calls through one of the stub's own `syscall` instructions and takes control back from whatever follows
// it, by the stack: for gadgets that end in `ret`. a: ip, nr, six arguments; results to out.
[[noreturn]] void gadget(const long* a) {
  long r;
  register long r10 asm("r10") = a[5];
  register long r8 asm("r8") = a[6];
  register long r9 asm("r9") = a[7];
  asm volatile("lea 1f(%%rip), %%r12; push %%r12; jmp *%[ip]\n1:"
               : "=a"(r) : "0"(a[1]), "D"(a[2]), "S"(a[3]), "d"(a[4]), "r"(r10), "r"(r8), "r"(r9), [ip] "r"(a[0])
               : "rcx", "r11", "r12", "memory");
  done(r);
}

// Hostile: writes rubbish over memory [p, p+n), except [skip, skip+skip_n), for ever, with a pause between the rounds.
[[noreturn]] void scramble(volatile uint64_t* p, long n, long seed, volatile uint64_t* rounds) {
  auto x = static_cast<uint64_t>(seed);
  for (;;) {
    for (long i = 0; i < n / 8; i++) {
      x ^= x << 13; x ^= x >> 7; x ^= x << 17;
      p[i] = x;
    }
    *rounds = *rounds + 1;
  }
}

[[noreturn]] void int80(long nr) {
  long r = nr;
  asm volatile("int $0x80" : "+a"(r) : "b"(0) : "memory");
  done(r);
}

// Hostile: clones through a stub's `syscall; ret`, and the child never says who it is.
[[noreturn]] void rogue_clone(const void* ip, unsigned long flags, unsigned long stack) {
  long r = 56;
  register long r10 asm("r10") = 0;
  register long r8 asm("r8") = 0;
  register long r9 asm("r9") = 0;
  // A child thread starts on another stack; its return address lies there already.
  asm volatile("lea 1f(%%rip), %%r12; push %%r12; test %%rsi, %%rsi; jz 2f; mov %%r12, (%%rsi); 2: jmp *%[ip]\n"
               "1: test %%rax, %%rax; jnz 4f; 3: jmp 3b; 4:"
               : "+a"(r) : "D"(flags), "S"(stack), "d"(0), "r"(r10), "r"(r8), "r"(r9), [ip] "r"(ip)
               : "rcx", "r11", "r12", "memory");
  done(r);
}

// n calls of number nr straight to the stub's entry, as a patched site makes them.
[[noreturn]] void direct_calls(void* entry, long nr, long n) {
  for (long i = 0; i < n; i++) {
    long r = nr;
    asm volatile("lea 1f(%%rip), %%rcx; pushfq; popq %%r11; jmp *%[e]\n1:"
                 : "+a"(r) : [e] "r"(entry), "D"(i) : "rcx", "r11", "memory");
    if (r != i) done(-1);
  }
  done(n);
}

// n times mmap and munmap of 64 KiB through calls 9 and 11.
[[noreturn]] void mmap_cost(long n) {
  for (long i = 0; i < n; i++) {
    long p = call(9, 0, 65536);
    if (p < 0) done(p);
    if (call(11, p, 65536) != 0) done(-1);
  }
  done(n);
}

// Hostile: writes v to n words, `step` bytes apart, for ever.
[[noreturn]] void forge(volatile char* p, long step, long n, long v) {
  for (;;)
    for (long i = 0; i < n; i++) *reinterpret_cast<volatile long*>(p + i * step) = v;
}

// The same for gadgets that pop one word first.
[[noreturn]] void gadget2(const long* a) {
  long r;
  register long r10 asm("r10") = a[5];
  register long r8 asm("r8") = a[6];
  register long r9 asm("r9") = a[7];
  asm volatile("lea 1f(%%rip), %%r12; push %%r12; push %%r12; push %%r12; jmp *%[ip]\n1:"
               : "=a"(r) : "0"(a[1]), "D"(a[2]), "S"(a[3]), "d"(a[4]), "r"(r10), "r"(r8), "r"(r9), [ip] "r"(a[0])
               : "rcx", "r11", "r12", "memory");
  done(r);
}

// Hostile: n clones (or what else `nr` is) from `ip`, token in r12. How many there were; a child that comes back spins.
[[noreturn]] void clone_loop(const long* a) {
  long ip = a[0], nr = a[1], flags = a[2], stack = a[3], n = a[4], token = a[5], made = 0;
  for (long i = 0; i < n; i++) {
    long r = nr, rdi;
    register long r10 asm("r10") = 0;
    register long r8 asm("r8") = 0;
    register long r9 asm("r9") = 0;
    asm volatile("mov %%rsp, %%r13; sub $256, %%rsp; lea 1f(%%rip), %%r14; push %%r14; push %%r14; push %%r14; mov %[token], %%r12\n"
                 "cmp $4096, %%rsi; jb 2f; mov %%r14, (%%rsi)\n2: jmp *%[ip]\n"
                 "1: test %%rax, %%rax; jnz 4f; 3: jmp 3b; 4: mov %%r13, %%rsp"
                 : "+a"(r), "=D"(rdi) : "1"(flags), "S"(stack), "d"(0), "r"(r10), "r"(r8), "r"(r9), [ip] "r"(ip), [token] "r"(token)
                 : "rcx", "r11", "r12", "r13", "r14", "memory");
    made += r > 0;
  }
  done(made);
}

// Hostile: speaks the stub's protocol itself, so that it holds control when the sentry has ordered a clone, and makes the call with
// a stack on which the stub's way back faults: what lies behind the clone is never done.
[[noreturn]] void own_clone(volatile unsigned* slot, long ask, long clone, long flags) {
  __atomic_exchange_n(slot, 1, 5);  // a request
  long r = 400;
  register long r10 asm("r10") = 0;
  register long r8 asm("r8") = 0;
  register long r9 asm("r9") = 0;
  asm volatile("lea 1f(%%rip), %%r12; push %%r12; jmp *%[ip]\n1:"
               : "+a"(r) : "D"(0), "S"(0), "d"(0), "r"(r10), "r"(r8), "r"(r9), [ip] "r"(ask) : "rcx", "r11", "r12", "memory");
  while ((__atomic_load_n(slot, 5) & 0xff) != 2) asm volatile("pause");
  long token = *reinterpret_cast<volatile long*>(reinterpret_cast<volatile char*>(slot) + 0x400 + 24);
  asm volatile("mov %[token], %%r12; mov $8, %%rsp; jmp *%[ip]"
               : : "a"(56l), "D"(flags), "S"(0), "d"(0), "r"(r10), "r"(r8), "r"(r9), [ip] "r"(clone), [token] "r"(token)
               : "rcx", "r11", "r12", "memory");
  __builtin_unreachable();
}

}  // extern "C"

#define F(name) ".long " #name "\n"
asm(".section .table,\"a\"\n" APP_FUNCTIONS(F) ".text\n");
