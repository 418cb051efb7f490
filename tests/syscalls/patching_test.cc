// SPDX-License-Identifier: Apache-2.0
// What a program may see of its own call sites when they are used often enough to be patched in the sandbox: nothing. Passes on
// Linux first, where nothing is patched.
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/syscalls/checks.h"

extern "C" {
extern char __executable_start[], etext[], end[];
// Sites in both forms (sentry/patch/code.h); each is long f(rdi …) with the call's number inside or in rdi.
long mov_site();        // getppid
extern char mov_site_at[];
long pun_site(long number);
extern char pun_site_at[];
long jump_to_mov_site(long number);  // straight to its `syscall`
long read_site(int fd, void* p, size_t n);
// Fills what it is given: see Registers.
long all_registers(uint64_t* out, uint64_t flags);
extern char all_registers_back[];
long red_zone(uint64_t* out);
long across_pages();
extern char across_pages_at[];
}
asm(R"(
    .text
    .p2align 6
mov_site:
    mov $110, %eax
mov_site_at:
    syscall
    ret
    .globl mov_site_at
pun_site:
    mov %rdi, %rax
pun_site_at:
    syscall
    cmp $-4096, %rax
    ret
    .globl pun_site_at
jump_to_mov_site:
    mov %rdi, %rax
    jmp mov_site_at
read_site:
    xor %eax, %eax
    syscall
    cmp $-4096, %rax
    ret

# rdi: out[16], rsi: flags to set. Every register gets a value of its own; what they are afterwards goes to out, then the flags.
all_registers:
    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
    push %rdi
    push %rsi
    mov $0x1111, %ebx
    mov $0x2222, %ebp
    mov $0x3333, %edx
    mov $0x4444, %r8d
    mov $0x5555, %r9d
    mov $0x6666, %r10d
    mov $0x7777, %r12d
    mov $0x8888, %r13d
    mov $0x9999, %r14d
    mov $0xaaaa, %r15d
    mov $0xbbbb, %esi
    movq %rsp, %xmm7
    popfq
    mov $110, %eax
    syscall
all_registers_back:
    pushfq
    cld
    mov 8(%rsp), %rdi
    mov %rbx, (%rdi)
    mov %rbp, 8(%rdi)
    mov %rdx, 16(%rdi)
    mov %r8, 24(%rdi)
    mov %r9, 32(%rdi)
    mov %r10, 40(%rdi)
    mov %r12, 48(%rdi)
    mov %r13, 56(%rdi)
    mov %r14, 64(%rdi)
    mov %r15, 72(%rdi)
    mov %rsi, 80(%rdi)
    mov %rcx, 88(%rdi)
    mov %r11, 96(%rdi)
    popq 104(%rdi)
    movq %xmm7, %rcx
    lea 8(%rsp), %rbx
    mov $0, %edx
    add $8, %rcx
    sub %rsp, %rcx
    mov %rcx, 112(%rdi)
    pushq $0x202
    popfq
    pop %rdi
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
    ret

# 128 bytes below the stack pointer belong to a leaf function: sixteen words, summed up after the call.
red_zone:
    .set i, 1
    .rept 16
    movq $(i * 1000003), (-8 * i)(%rsp)
    .set i, i + 1
    .endr
    mov $110, %eax
    syscall
    xor %eax, %eax
    .set i, 1
    .rept 16
    add (-8 * i)(%rsp), %rax
    .set i, i + 1
    .endr
    ret

# The same site at every place of a cache line.
    .set i, 0
    .rept 64
    .p2align 6
    .skip i
9:  mov $110, %eax
    syscall
    ret
    .pushsection .data.rel.ro.sites, "aw"
    .quad 9b
    .popsection
    .set i, i + 1
    .endr
    .p2align 12
    .skip 4093
across_pages:
    mov $110, %eax
across_pages_at:
    syscall
    ret

    .pushsection .data.rel.ro.sites, "aw"
    .globl at_offset_end
at_offset_end:
    .popsection
)");
extern "C" long (*const at_offset_sites[64])();
asm(R"(
    .pushsection .data.rel.ro.sites, "aw"
    .set at_offset_sites, at_offset_end - 64 * 8
    .globl at_offset_sites
    .popsection
)");

namespace {

constexpr int kHot = 1000;  // several times what it takes

void make_hot() {
  for (int i = 0; i < kHot; i++) {
    ASSERT_EQ(mov_site(), getppid());
    ASSERT_EQ(pun_site(SYS_getppid), getppid());
  }
}
bool in_own_text(uint64_t ip) {
  return ip >= reinterpret_cast<uint64_t>(__executable_start) && ip < reinterpret_cast<uint64_t>(etext);
}
bool in_vdso(uint64_t ip) { return ip - getauxval(AT_SYSINFO_EHDR) < 0x4000; }
char* page_of(const void* p) { return reinterpret_cast<char*>(reinterpret_cast<uint64_t>(p) & ~4095ull); }

TEST(Patching, OftenUsedSitesAnswerAsBefore) {
  make_hot();
  for (int i = 0; i < kHot; i++) ASSERT_EQ(pun_site(SYS_getpid), getpid());
  EXPECT_EQ(pun_site(100000), -ENOSYS);
}

TEST(Patching, AJumpToTheInstructionMakesTheCallThatItNames) {
  make_hot();
  for (int i = 0; i < kHot; i++) ASSERT_EQ(jump_to_mov_site(SYS_getpid), getpid());
  EXPECT_EQ(mov_site(), getppid());
}

TEST(Patching, EveryPlaceInALine) {
  for (int round = 0; round < kHot; round++) {
    for (long (*f)() : at_offset_sites) ASSERT_EQ(f(), getppid());
    ASSERT_EQ(across_pages(), getppid());
  }
}

TEST(Patching, RegistersAndFlags) {
  const uint64_t want[] = {0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666, 0x7777, 0x8888, 0x9999, 0xaaaa, 0xbbbb};
  for (uint64_t flags : {0x202ul, 0x203ul, 0x2d7ul /* arithmetic ones */, 0x602ul /* direction */}) {
    for (int i = 0; i < kHot; i++) {
      uint64_t out[16] = {};
      ASSERT_EQ(all_registers(out, flags) & 0xffff, getppid() & 0xffff);
      for (int r = 0; r < 11; r++) ASSERT_EQ(out[r], want[r]) << r;
      ASSERT_EQ(out[11], reinterpret_cast<uint64_t>(all_registers_back));  // rcx
      ASSERT_EQ(out[12], flags);                                           // r11
      ASSERT_EQ(out[13], flags);
      ASSERT_EQ(out[14], 0u);                                              // the stack pointer
    }
  }
}

TEST(Patching, TheRedZoneIsKept) {
  uint64_t sum = 0;
  for (uint64_t i = 1; i <= 16; i++) sum += i * 1000003;
  for (int i = 0; i < kHot; i++) ASSERT_EQ(static_cast<uint64_t>(red_zone(nullptr)), sum);
}

std::atomic<int> g_signals, g_strange;
std::atomic<uint64_t> g_where;
void on_timer(int, siginfo_t*, void* context) {
  auto ip = static_cast<uint64_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
  g_signals++;
  if (!in_own_text(ip) && !in_vdso(ip)) {
    g_strange++;
    g_where = ip;
  }
}

TEST(Patching, SignalsNeverSeeAnotherPlace) {
  make_hot();
  struct sigaction sa{};
  sa.sa_sigaction = on_timer;
  sa.sa_flags = SA_SIGINFO | SA_RESTART;
  ASSERT_EQ(sigaction(SIGALRM, &sa, nullptr), 0);
  g_signals = g_strange = 0;
  itimerval t{{0, 100}, {0, 100}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &t, nullptr), 0);
  for (int i = 0; g_signals < 2000 && i < 20'000'000; i++) {
    ASSERT_EQ(mov_site(), getppid());
    ASSERT_EQ(pun_site(SYS_getpid), getpid());
  }
  t = {};
  setitimer(ITIMER_REAL, &t, nullptr);
  signal(SIGALRM, SIG_DFL);
  EXPECT_GE(g_signals, 2000);
  EXPECT_EQ(g_strange, 0) << std::hex << g_where;
}

void nothing(int) {}

TEST(Patching, AnInterruptedCallIsMadeAgain) {
  int p[2];
  char c = 0;
  ASSERT_EQ(pipe(p), 0);
  for (int i = 0; i < kHot; i++) {
    ASSERT_EQ(write(p[1], "x", 1), 1);
    ASSERT_EQ(read_site(p[0], &c, 1), 1);
  }
  struct sigaction sa{};
  sa.sa_handler = nothing;
  sa.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &sa, nullptr);
  pid_t writer = child([&] {
    usleep(150'000);
    EXPECT_EQ(write(p[1], "y", 1), 1);
  });
  itimerval t{{0, 20'000}, {0, 20'000}};
  setitimer(ITIMER_REAL, &t, nullptr);
  EXPECT_EQ(read_site(p[0], &c, 1), 1);
  EXPECT_EQ(c, 'y');
  sa.sa_flags = 0;
  sigaction(SIGALRM, &sa, nullptr);
  EXPECT_EQ(read_site(p[0], &c, 1), -EINTR);
  t = {};
  setitimer(ITIMER_REAL, &t, nullptr);
  signal(SIGALRM, SIG_DFL);
  EXPECT_EQ(status_of(writer), 0);
  close(p[0]);
  close(p[1]);
}

std::vector<uint64_t>* g_steps;
void on_step(int, siginfo_t* info, void* context) {
  auto* c = static_cast<ucontext_t*>(context);
  auto ip = static_cast<uint64_t>(c->uc_mcontext.gregs[REG_RIP]);
  if (g_steps->size() < g_steps->capacity()) g_steps->push_back(ip);
  if (reinterpret_cast<uint64_t>(info->si_addr) != ip) g_strange++;
}
// The places that a program which steps through `f` sees, from its first instruction to its return.
template <typename F>
std::vector<uint64_t> steps_of(F f) {
  std::vector<uint64_t> out;
  out.reserve(4096);
  g_steps = &out;
  struct sigaction sa{};
  sa.sa_sigaction = on_step;
  sa.sa_flags = SA_SIGINFO;
  sigaction(SIGTRAP, &sa, nullptr);
  asm volatile("pushfq; orq $0x100, (%%rsp); popfq" : : : "cc", "memory");
  f();
  asm volatile("pushfq; andq $~0x100, (%%rsp); popfq" : : : "cc", "memory");
  signal(SIGTRAP, SIG_DFL);
  return out;
}
void expect_steps(const std::vector<uint64_t>& steps, const std::vector<const char*>& want) {
  size_t next = 0;
  for (uint64_t ip : steps) {
    EXPECT_TRUE(in_own_text(ip)) << std::hex << ip;
    if (next < want.size() && ip == reinterpret_cast<uint64_t>(want[next])) next++;
  }
  EXPECT_EQ(next, want.size());
}

TEST(Patching, WhoStepsThroughItselfSeesItsOwnInstructions) {
  EXPECT_EQ(in_child([] {
              make_hot();
              g_strange = 0;
              expect_steps(steps_of([] { pun_site(SYS_getppid); }),
                           {reinterpret_cast<char*>(pun_site), pun_site_at, pun_site_at + 8});
              expect_steps(steps_of([] { mov_site(); }),
                           {reinterpret_cast<char*>(mov_site), mov_site_at});
              EXPECT_EQ(g_strange, 0);
            }),
            0);
}

// Programs that change their own code find it as their file has it.
TEST(Patching, CodeThatIsMadeWritable) {
  EXPECT_EQ(in_child([] {
              make_hot();
              auto* code = reinterpret_cast<unsigned char*>(mov_site);
              ASSERT_EQ(mprotect(page_of(code), 8192, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
              const unsigned char file[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};
              EXPECT_EQ(memcmp(code, file, sizeof file), 0);
              EXPECT_EQ(memcmp(pun_site_at, "\x0f\x05\x48\x3d", 4), 0);
              code[1] = SYS_getpid;
              EXPECT_EQ(mov_site(), getpid());
              ASSERT_EQ(mprotect(page_of(code), 8192, PROT_READ | PROT_EXEC), 0);
              for (int i = 0; i < kHot; i++) ASSERT_EQ(mov_site(), getpid());
              EXPECT_EQ(code[1], SYS_getpid);
            }),
            0);
  for (int i = 0; i < kHot; i++) ASSERT_EQ(mov_site(), getppid());
}

TEST(Patching, AFixedMappingBehindTheImageIsTheProgramsOwn) {
  EXPECT_EQ(in_child([] {
              constexpr size_t kLength = 23 << 20;
              // Linux puts the heap anywhere in the gigabyte behind the image, so once in forty runs it lies here.
              const char* heap_end = static_cast<char*>(sbrk(0));
              if (heap_end > end && heap_end - (4 << 20) < page_of(end) + 4096 + kLength) return;
              for (int round = 0; round < 3; round++) {
                make_hot();
                char* behind = page_of(end) + 4096;
                void* m = mmap(behind, kLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
                ASSERT_EQ(m, behind) << strerror(errno);
                for (size_t i = 0; i < kLength; i += 4096) {
                  ASSERT_EQ(behind[i], 0);
                  behind[i] = '\xcc';
                }
                make_hot();
                ASSERT_EQ(munmap(behind, kLength), 0);
              }
              make_hot();
            }),
            0);
}

// Where nothing more fits behind the code.
TEST(Patching, AtTheTopOfTheAddressSpace) {
  EXPECT_EQ(in_child([] {
              // mov $110,%eax; syscall; ret
              const unsigned char code[] = {0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3};
              char name[] = "/tmp/top-XXXXXX";
              int fd = mkstemp(name);
              ASSERT_GE(fd, 0);
              unlink(name);
              ASSERT_EQ(ftruncate(fd, 2 * 4096), 0);
              ASSERT_EQ(pwrite(fd, code, sizeof code, 4096 + 64), static_cast<ssize_t>(sizeof code));
              auto* at = reinterpret_cast<char*>(0x7ffe00000000 - 2 * 4096);
              void* m = mmap(at, 2 * 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0);
              if (m != at) return;  // natively the stack may be there
              auto* f = reinterpret_cast<long (*)()>(at + 4096 + 64);
              for (int i = 0; i < kHot; i++) ASSERT_EQ(f(), getppid());
            }),
            0);
}

TEST(Patching, MappingsElsewhereAndTheHeapDoNotMeetIt) {
  EXPECT_EQ(in_child([] {
              make_hot();
              void* before = sbrk(0);
              ASSERT_NE(sbrk(64 << 20), reinterpret_cast<void*>(-1));
              memset(before, 1, 64 << 20);
              for (int i = 0; i < 200; i++) {
                void* m = mmap(page_of(end) + 4096 * (1 + i * 30), 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                ASSERT_NE(m, MAP_FAILED);
                memset(m, 0xcc, 64 << 10);
              }
              make_hot();
            }),
            0);
}

TEST(Patching, ChildrenAndThreads) {
  make_hot();
  for (int i = 0; i < 20; i++) {
    EXPECT_EQ(in_child([] {
                for (int k = 0; k < 50; k++) ASSERT_EQ(mov_site(), getppid());
                std::vector<std::thread> threads;
                for (int t = 0; t < 3; t++)
                  threads.emplace_back([] {
                    for (int k = 0; k < kHot; k++) ASSERT_EQ(pun_site(SYS_getppid), getppid());
                  });
                for (auto& t : threads) t.join();
              }),
              0);
  }
}

// Threads in the middle of calls while their code is made writable.
TEST(Patching, CodeThatIsMadeWritableUnderThreads) {
  for (int round = 0; round < 5; round++)
    EXPECT_EQ(in_child([] {
                make_hot();
                std::atomic<bool> stop{false};
                std::vector<std::thread> threads;
                for (int t = 0; t < 3; t++)
                  threads.emplace_back([&] {
                    while (!stop) {
                      ASSERT_EQ(mov_site(), getppid());
                      ASSERT_EQ(pun_site(SYS_getpid), getpid());
                    }
                  });
                usleep(20'000);
                ASSERT_EQ(mprotect(page_of(reinterpret_cast<void*>(mov_site)), 8192, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
                usleep(20'000);
                stop = true;
                for (auto& t : threads) t.join();
              }),
              0);
}

TEST(Patching, AnotherProgramStartsAnew) {
  make_hot();
  for (int i = 0; i < 3; i++) {
    pid_t p = vfork();
    if (p == 0) {
      execl(reinterpret_cast<const char*>(getauxval(AT_EXECFN)), "x", "--gtest_filter=Patching.Often*", nullptr);
      _exit(127);
    }
    EXPECT_EQ(status_of(p), 0);
  }
}

}  // namespace
