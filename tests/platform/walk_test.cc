// SPDX-License-Identifier: Apache-2.0
// Attack 2 as measured: every call number, from every `syscall` that the bytes of the blob contain (aligned or not), behind the
// real filter in the real kernel. Each place holds the two bytes where the blob has them, and a trap behind them, so that control
// comes back whatever the blob would do next. The control is the same walk behind no wall.
#include <elf.h>
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "base/bpf/evaluate.h"
#include "seccomp-profiles/install.h"
#include "seccomp-profiles/stub_direct.h"
#include "seccomp-profiles/stub_strict.h"
#include "tests/platform/harness.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER 1
#else
#define UNDER_SANITIZER 0
#endif

namespace platform_test {
namespace {

constexpr uint64_t kText = 0x7fff00000000, kTextLength = 0x10000;
constexpr uint64_t kRestorer = kText + 0xf000;
constexpr long kTrapped = -4000;

std::string blob() {
  std::ifstream in(PLATFORM_TEST_ZYGOTE, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  std::string file = s.str(), text;
  auto* e = reinterpret_cast<const Elf64_Ehdr*>(file.data());
  auto* p = reinterpret_cast<const Elf64_Phdr*>(file.data() + e->e_phoff);
  for (int i = 0; i < e->e_phnum; i++)
    if (p[i].p_type == PT_LOAD) {
      EXPECT_EQ(p[i].p_vaddr, kText);
      text = file.substr(p[i].p_offset, p[i].p_filesz);
    }
  return text;
}

// Addresses of two bytes in the blob.
std::vector<uint64_t> places(unsigned char a, unsigned char b) {
  std::string text = blob();
  std::vector<uint64_t> out;
  for (size_t i = 0; i + 1 < text.size(); i++)
    if (static_cast<unsigned char>(text[i]) == a && static_cast<unsigned char>(text[i + 1]) == b) out.push_back(kText + i);
  return out;
}

// Whatever follows a call, it returns to the caller of walk_call_at().
void come_back(int sig, siginfo_t* info, void* context) {
  auto& r = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (sig == SIGSYS) r[REG_RAX] = kTrapped;
  if (sig == SIGILL || sig == SIGSEGV) r[REG_RAX] = -5000 - sig;
  (void)info;
  if (static_cast<uint64_t>(r[REG_RIP]) >> 16 != kText >> 16) __builtin_trap();  // a mistake of the test itself
  r[REG_RIP] = *reinterpret_cast<greg_t*>(r[REG_RSP]);
  r[REG_RSP] += 8;
}

// long walk_call_at(nr, args, where). In assembly alone: a compiler that sees a body keeps what it finds unchanged in registers.
asm(".text\n.type walk_call_at, @function\nwalk_call_at:\n"
    "mov %rdi, %rax; mov %rdx, %r11; mov %rsi, %rcx\n"
    "mov (%rcx), %rdi; mov 8(%rcx), %rsi; mov 16(%rcx), %rdx; mov 24(%rcx), %r10; mov 32(%rcx), %r8; mov 40(%rcx), %r9\n"
    "jmp *%r11\n");
extern "C" long walk_call_at(uint64_t nr, const uint64_t* args, uint64_t where);

// In a child: the places, the handlers, and then the filter.
void build(const std::vector<uint64_t>& at, const std::vector<uint64_t>& filter) {
  auto* text = static_cast<unsigned char*>(mmap(reinterpret_cast<void*>(kText), kTextLength, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  if (text == MAP_FAILED) _exit(2);
  memset(text, 0xcc, kTextLength);
  for (uint64_t a : at) memcpy(text + (a - kText), "\x0f\x05", 2);
  // mov $15, %eax; jmp to the place that may return from signals.
  uint64_t sigreturn = stub_symbol("stub_ip_sigreturn");
  unsigned char restorer[18] = {0xb8, 15, 0, 0, 0, 0x49, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0xff, 0xe3};
  memcpy(restorer + 7, &sigreturn, 8);
  memcpy(text + (kRestorer - kText), restorer, sizeof restorer);
  if (mprotect(text, kTextLength, PROT_READ | PROT_EXEC) != 0) _exit(3);
  struct {
    void (*handler)(int, siginfo_t*, void*);
    unsigned long flags;
    uint64_t restorer;
    unsigned long mask;
  } action{come_back, SA_SIGINFO | 0x04000000, kRestorer, 0};
  for (int sig : {SIGSYS, SIGTRAP, SIGILL, SIGSEGV})
    if (syscall(SYS_rt_sigaction, sig, &action, nullptr, 8) != 0) _exit(4);
  struct {
    unsigned short length;
    const uint64_t* filter;
  } program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (filter.empty()) return;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) _exit(5);
}

std::vector<uint64_t> words_of(const seccomp_profiles::Program& p) {
  std::vector<uint64_t> out(p.length);
  memcpy(out.data(), p.filter, p.length * 8ul);
  return out;
}

struct Call {
  uint64_t nr, at;
};

// The results of calls with zeroes for arguments, each from its place.
std::vector<long> walk(const std::vector<uint64_t>& at, const std::vector<uint64_t>& filter, const std::vector<Call>& calls) {
  size_t bytes = (calls.size() + 1) * sizeof(long);
  auto* seen = static_cast<long*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const uint64_t leave = filter.empty() ? at[0] : stub_symbol("stub_ip_exit");
  pid_t child = fork();
  if (child == 0) {
    build(at, filter);
    const uint64_t zero[6] = {};
    for (size_t i = 0; i < calls.size(); i++) seen[i] = walk_call_at(calls[i].nr, zero, calls[i].at);
    seen[calls.size()] = 1;
    walk_call_at(SYS_exit, zero, leave);
    __builtin_trap();
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(seen[calls.size()], 1) << "exit status " << WEXITSTATUS(status);
  std::vector<long> out(seen, seen + calls.size());
  munmap(seen, bytes);
  return out;
}

// Whether f in a child is ended by a signal, and by which.
template <typename F>
int end_of(F f) {
  pid_t child = fork();
  if (child == 0) {
    f();
    syscall(SYS_exit_group, 0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(Walk, No2TheBlobsInstructionsAreTheNamedOnes) {
  std::vector<uint64_t> at = places(0x0f, 0x05);
  std::set<uint64_t> named;
  for (uint64_t v : stub_symbols("stub_ip_")) named.insert(v);
  EXPECT_EQ(named.size(), seccomp_profiles::stub_direct::kProgram.site_count);
  size_t other = 0;
  for (uint64_t a : at) other += !named.contains(a);
  EXPECT_EQ(at.size(), named.size() + other);
  EXPECT_LE(other, 1u) << "only the zygote's first thread, before the filter, is made from an instruction without a name";
  for (uint64_t v : named) EXPECT_TRUE(std::find(at.begin(), at.end(), v) != at.end()) << std::hex << v;
  EXPECT_TRUE(places(0xcd, 0x80).empty()) << "int 0x80";
  EXPECT_TRUE(places(0x0f, 0x34).empty()) << "sysenter";
}

TEST(Walk, No2EveryNumberFromEveryInstruction) {
  if (UNDER_SANITIZER) GTEST_SKIP() << "the sanitizer's own calls are not the stub's";
  std::vector<uint64_t> at = places(0x0f, 0x05);
  // uretprobe and uprobe: newer hosts do not show them to filters; from a wrong place they are SIGILL or fail.
  const std::set<uint64_t> probes = {335, 336};
  for (auto* program : {&seccomp_profiles::stub_direct::kProgram, &seccomp_profiles::stub_strict::kProgram}) {
    std::vector<Call> calls;
    for (uint64_t a : at)
      for (uint64_t high : {0ull, 0x40000000ull, 0x80000000ull})
        for (uint64_t nr = 0; nr < 1024; nr++) {
          if (high == 0 && probes.contains(nr)) continue;
          if (high == 0 && nr == SYS_exit && a == stub_symbol("stub_ip_exit")) continue;
          if (high == 0 && nr == SYS_rt_sigreturn && a == stub_symbol("stub_ip_sigreturn")) continue;
          calls.push_back({nr | high, a});
        }
    std::vector<long> seen = walk(at, words_of(*program), calls);
    std::map<uint64_t, std::set<uint64_t>> reached;
    for (size_t i = 0; i < calls.size(); i++) {
      seccomp_data d{};
      d.nr = static_cast<int>(calls[i].nr);
      d.arch = 0xc000003e;
      d.instruction_pointer = calls[i].at + 2;
      auto v = base::bpf::evaluate({program->filter, program->length}, d);
      ASSERT_TRUE(v.ok());
      if (v->action == SECCOMP_RET_TRAP) EXPECT_EQ(seen[i], kTrapped) << calls[i].nr << " at " << std::hex << calls[i].at;
      else if (v->action == SECCOMP_RET_USER_NOTIF) EXPECT_EQ(seen[i], -ENOSYS) << "nobody listens";
      else EXPECT_NE(seen[i], kTrapped) << calls[i].nr;
      if (seen[i] != kTrapped) reached[calls[i].at].insert(calls[i].nr);
    }
    // With zeroes for arguments this is all that may come of it.
    const bool direct = program == &seccomp_profiles::stub_direct::kProgram;
    std::map<uint64_t, std::set<uint64_t>> published;
    auto site = [&](const char* name, std::set<uint64_t> numbers) { published[stub_symbol(name)] = std::move(numbers); };
    site("stub_ip_memory", direct ? std::set<uint64_t>{SYS_munmap, SYS_mprotect, SYS_mremap}
                                  : std::set<uint64_t>{SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap});
    site("stub_ip_wait", {SYS_membarrier, SYS_restart_syscall});
    site("stub_ip_futex", {SYS_restart_syscall});
    site("stub_ip_time", {SYS_sched_yield});
    site("stub_ip_ask", {400});
    site("stub_ip_knock", {400});
    site("stub_ip_sigaltstack", {SYS_sigaltstack});
    EXPECT_EQ(reached, published) << program->name;
  }
}

TEST(Walk, No2ControlWithoutTheWallTheSameInstructionsDoAnything) {
  if (UNDER_SANITIZER) GTEST_SKIP();
  std::vector<uint64_t> at = places(0x0f, 0x05);
  std::vector<Call> calls;
  const uint64_t harmless[] = {SYS_getpid, SYS_getppid, SYS_getuid, SYS_umask, SYS_epoll_create1, SYS_inotify_init1};
  for (uint64_t a : at)
    for (uint64_t nr : harmless) calls.push_back({nr, a});
  std::vector<uint64_t> open = open_filter();
  for (long r : walk(at, open, calls)) EXPECT_GE(r, 0);
  for (long r : walk(at, {}, calls)) EXPECT_GE(r, 0);
}

// i386 calls by int 0x80, and from 32-bit code behind a far return; numbers mean other things there (11 is execve).
long int80(long nr) {
  long r = nr;
  asm volatile("int $0x80" : "+a"(r) : "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory", "r8", "r9", "r10", "r11");
  return r;
}

void from_32_bit_code(uint32_t nr) {
  auto* page = static_cast<unsigned char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
  const unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xcd, 0x80, 0xf4};  // mov $nr, %eax; int $0x80; hlt
  memcpy(page, code, sizeof code);
  memcpy(page + 1, &nr, 4);
  asm volatile("mov %0, %%rax; lea 2048(%%rax), %%rsp; pushq $0x23; pushq %%rax; lretq" : : "r"(page) : "memory", "rax");
}

TEST(Walk, No2CompatibilityCallsEndTheProcess) {
  if (UNDER_SANITIZER) GTEST_SKIP() << "the sanitizer's own calls are not the stub's";
  // The control: they are calls of the host without a filter, or behind one that does not ask for the architecture.
  EXPECT_EQ(end_of([] { if (int80(20) != getpid()) __builtin_trap(); }), 0);
  EXPECT_EQ(end_of([] {
    build({stub_symbol("stub_ip_sigreturn")}, open_filter());
    if (int80(20) <= 0) __builtin_trap();
    int80(1);
  }), 0);
  EXPECT_EQ(end_of([] { from_32_bit_code(1); }), 0) << "exit of i386";
  for (auto* program : {&seccomp_profiles::stub_direct::kProgram, &seccomp_profiles::stub_strict::kProgram}) {
    for (uint32_t nr = 0; nr < 1024; nr += nr < 32 ? 1 : 13) {
      ASSERT_EQ(end_of([&] { build({stub_symbol("stub_ip_sigreturn")}, words_of(*program)); int80(nr); }), SIGSYS) << nr;
    }
    for (uint32_t nr : {1u, 11u, 20u}) {
      ASSERT_EQ(end_of([&] {
        build({stub_symbol("stub_ip_sigreturn")}, {});
        struct { unsigned short length; const void* filter; } p{program->length, program->filter};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        // The page of 32-bit code comes first: nothing is executable later.
        auto* page = static_cast<unsigned char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
        const unsigned char code[] = {0xb8, static_cast<unsigned char>(nr), 0, 0, 0, 0xcd, 0x80, 0xf4};
        memcpy(page, code, sizeof code);
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) != 0) return;
        asm volatile("mov %0, %%rax; lea 2048(%%rax), %%rsp; pushq $0x23; pushq %%rax; lretq" : : "r"(page) : "memory", "rax");
      }), SIGSYS) << nr;
    }
  }
}

}  // namespace
}  // namespace platform_test
