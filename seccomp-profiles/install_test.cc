// SPDX-License-Identifier: Apache-2.0
// The filters in the kernel itself: a child behind the stub's filter calls from a page where the stub's text would
// be, and must see what the evaluator says; children behind the sentry's and the gofer's live or die as listed.
#include "seccomp-profiles/install.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <thread>

#include "base/sys.h"
#include "seccomp-profiles/filter_test_util.h"
#include "seccomp-profiles/gofer.h"
#include "seccomp-profiles/sentry.h"
#include "seccomp-profiles/stub_direct.h"
#include "seccomp-profiles/stub_strict.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

namespace seccomp_profiles {
namespace {

// Position-independent code in the stub's text: gadget(nr, args, site) loads the registers and jumps to a site, which is a
// `syscall; ret` where the stub has its own; the restorer returns from a signal by the site that may.
constexpr U64 kText = 0x7fff00000000, kTextLength = 0x10000, kGadgetAt = kText + 0xe000, kRestorer = kText + 0xf000;
constexpr unsigned char kGadget[] = {
    0x48, 0x89, 0xf8,        // mov rax, rdi        the number
    0x49, 0x89, 0xd3,        // mov r11, rdx        the site
    0x48, 0x89, 0xf1,        // mov rcx, rsi        the arguments
    0x48, 0x8b, 0x39,        // mov rdi, [rcx]
    0x48, 0x8b, 0x71, 0x08,  // mov rsi, [rcx+8]
    0x48, 0x8b, 0x51, 0x10,  // mov rdx, [rcx+16]
    0x4c, 0x8b, 0x51, 0x18,  // mov r10, [rcx+24]
    0x4c, 0x8b, 0x41, 0x20,  // mov r8, [rcx+32]
    0x4c, 0x8b, 0x49, 0x28,  // mov r9, [rcx+40]
    0x41, 0xff, 0xe3,        // jmp r11
};
constexpr unsigned char kSite[] = {0x0f, 0x05, 0xc3};                                // syscall; ret
constexpr unsigned char kRestorerCode[] = {0xb8, 0x0f, 0, 0, 0, 0x49, 0xbb};         // mov eax, 15; mov r11, imm64
constexpr unsigned char kJumpR11[] = {0x41, 0xff, 0xe3};
using Gadget = long (*)(U64 nr, const U64* args, U64 site);

constexpr long kTrapped = -4000;
enum Observed : int { kNothing, kSawTrap, kSawNotify, kSawAllow };

void on_sigsys(int, siginfo_t*, void* context) {
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = kTrapped;
}

struct Sample {
  U64 nr;
  Args args;
  U64 site;  // in the stub's text, or 0: from here
};

// As gadget(), but from this program's own text.
[[gnu::noinline]] long call_from_here(U64 nr, const U64* a) {
  long r = static_cast<long>(nr);
  register U64 r10 asm("r10") = a[3];
  register U64 r8 asm("r8") = a[4];
  register U64 r9 asm("r9") = a[5];
  asm volatile("syscall" : "+a"(r) : "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return r;
}

// The instruction itself of a site that the filter knows by the address behind it.
U64 instruction(const Program& p, const char* name) { return site_of(p, name) - 2; }

// In a fresh child: the stub's syscall instructions where it has them, and a SIGSYS handler that returns through one.
Gadget become_stub(const Program& p) {
  auto* text = static_cast<unsigned char*>(::mmap(reinterpret_cast<void*>(kText), kTextLength, PROT_READ | PROT_WRITE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  if (text == MAP_FAILED) ::_exit(2);
  auto put = [&](U64 at, const void* code, std::size_t n) { std::memcpy(text + (at - kText), code, n); };
  for (unsigned i = 0; i < p.site_count; ++i) put(p.sites[i].ip - 2, kSite, sizeof kSite);
  const U64 sigreturn = instruction(p, "stub_ip_sigreturn");
  put(kGadgetAt, kGadget, sizeof kGadget);
  put(kRestorer, kRestorerCode, sizeof kRestorerCode);
  put(kRestorer + sizeof kRestorerCode, &sigreturn, 8);
  put(kRestorer + sizeof kRestorerCode + 8, kJumpR11, sizeof kJumpR11);
  if (::mprotect(text, kTextLength, PROT_READ | PROT_EXEC) != 0) ::_exit(3);
  struct {
    void (*handler)(int, siginfo_t*, void*);
    unsigned long flags;
    U64 restorer;
    unsigned long mask;
  } action{on_sigsys, SA_SIGINFO | 0x04000000 /* SA_RESTORER */, kRestorer, 0};
  if (::syscall(SYS_rt_sigaction, SIGSYS, &action, nullptr, 8) != 0) ::_exit(4);
  return reinterpret_cast<Gadget>(kGadgetAt);
}

[[noreturn]] void leave(const Program& p, Gadget gadget) {
  const Args zero{};
  gadget(SYS_exit, zero.data(), instruction(p, "stub_ip_exit"));
  __builtin_trap();
}

// After the filter no call of the C library is possible.
[[noreturn]] void run_behind_stub_filter(const Program& p, const Sample* samples, std::size_t n, Observed* seen) {
  Gadget gadget = become_stub(p);
  if (!install(p, 0).ok()) ::_exit(5);
  for (std::size_t i = 0; i < n; ++i) {
    const Sample& s = samples[i];
    const long r = s.site != 0 ? gadget(s.nr, s.args.data(), s.site) : call_from_here(s.nr, s.args.data());
    // A notification that nobody listens to is ENOSYS. No call of the samples answers that otherwise.
    seen[i] = r == kTrapped ? kSawTrap : r == -ENOSYS ? kSawNotify : kSawAllow;
  }
  leave(p, gadget);
}

// An unused page inside the control zone (this process's stack may lie there too).
U64 map_control_page() {
  for (U64 at = 0x7fff20000000; at < 0x7fff90000000; at += 0x10000000) {
    void* p = ::mmap(reinterpret_cast<void*>(at), 0x1000, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != MAP_FAILED) return at;
  }
  return 0;
}

void expect_kernel_agrees(const Program& p) {
  const U64 control = map_control_page();
  ASSERT_NE(control, 0u);
  std::vector<Sample> samples;
  for (U64 nr = 0; nr < 1024; ++nr) {
    // Linux 6.13 and later let uretprobe and uprobe pass every filter (kernel/seccomp.c, for probes in sandboxed
    // programs); called from anywhere but the kernel's own trampoline they only raise SIGILL or fail.
    constexpr U64 kUretprobe = 335, kUprobe = 336;
    if (nr == kUretprobe || nr == kUprobe) continue;
    samples.push_back({nr, {}, 0});
    for (unsigned i = 0; i < p.site_count; ++i) {
      // Zero arguments do no harm with any allowed call but these two.
      const U64 site = p.sites[i].ip - 2;
      const bool ends = (nr == SYS_exit && site == instruction(p, "stub_ip_exit")) ||
                        (nr == SYS_rt_sigreturn && site == instruction(p, "stub_ip_sigreturn"));
      if (!ends) samples.push_back({nr, {}, site});
      if (nr % 16 == 0) samples.push_back({nr | 0x40000000, {}, site});
    }
  }
  const U64 memory = instruction(p, "stub_ip_memory"), wait = instruction(p, "stub_ip_wait"),
            time = instruction(p, "stub_ip_time"), clone = instruction(p, "stub_ip_clone");
  const U64 anon = MAP_PRIVATE | MAP_ANONYMOUS, minus_one = ~0ull;
  const U64 scratch = 0x200000000000;  // free in every process of this test
  for (const Args& a : {Args{scratch, 0x2000, 3, anon | MAP_FIXED, minus_one, 0}, Args{scratch, 0x2000, 3, anon | 0x100000, 0xffffffff, 0},
                        Args{scratch, 0x2000, 3, anon, minus_one, 0}, Args{scratch, 0x2000, 11, anon | MAP_FIXED, minus_one, 0},
                        Args{0x7ffe00000000, 0x1000, 3, anon | 0x100000, minus_one, 0},
                        Args{0x7ffdfffff000, 0x2000, 3, anon | 0x100000, minus_one, 0},
                        Args{scratch, 0x2000, 3, anon | MAP_FIXED | 1ull << 40, minus_one, 0}}) {
    samples.push_back({SYS_mmap, a, memory});
    samples.push_back({SYS_mmap, a, wait});
    samples.push_back({SYS_mmap, a, 0});
  }
  for (U64 advice : {4, 8, 9, 10, 14, 15, 20, 21, 22, 23, 100}) samples.push_back({SYS_madvise, {scratch, 0x1000, advice, 0, 0, 0}, memory});
  for (U64 prot : {1ull, 3ull, 8ull, 0x100000001ull}) samples.push_back({SYS_mprotect, {scratch, 0x1000, prot, 0, 0, 0}, memory});
  samples.push_back({SYS_munmap, {scratch, 0x2000, 0, 0, 0, 0}, memory});
  samples.push_back({SYS_munmap, {scratch, U64{0} - scratch, 0, 0, 0, 0}, memory});
  samples.push_back({SYS_munmap, {control, 0x1000, 0, 0, 0, 0}, memory});
  for (U64 op : {U64{FUTEX_WAKE}, U64{FUTEX_WAKE | FUTEX_PRIVATE_FLAG}, U64{FUTEX_REQUEUE}, U64{FUTEX_WAKE_BITSET}}) {
    for (U64 site : {wait, instruction(p, "stub_ip_futex"), U64{0}}) samples.push_back({SYS_futex, {control, op, 1, 0, 0, 0}, site});
    samples.push_back({SYS_futex, {kText, op, 1, 0, 0, 0}, wait});
  }
  samples.push_back({SYS_clock_gettime, {3, control, 0, 0, 0, 0}, time});
  samples.push_back({SYS_clock_gettime, {1, control, 0, 0, 0, 0}, time});
  samples.push_back({SYS_clone, {SIGCHLD, 0, 0, 0, 0, 0}, clone});
  samples.push_back({SYS_clone, {0x8011, 0, 0, 0, 0, 0}, clone});
  samples.push_back({SYS_close, {700, 0, 0, 0, 0, 0}, instruction(p, "stub_ip_close")});

  const std::size_t bytes = samples.size() * sizeof(Observed);
  auto* seen = static_cast<Observed*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(seen, MAP_FAILED);
  const pid_t child = ::fork();
  if (child == 0) run_behind_stub_filter(p, samples.data(), samples.size(), seen);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  std::size_t done = 0;
  while (done < samples.size() && seen[done] != kNothing) ++done;
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status) << " at sample " << done << ", call "
                                 << (done < samples.size() ? samples[done].nr : 0) << " from " << std::hex
                                 << (done < samples.size() ? samples[done].site : 0);
  ASSERT_EQ(WEXITSTATUS(status), 0);
  std::size_t allowed = 0, notified = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const Sample& s = samples[i];
    const U64 ip = s.site != 0 ? s.site + 2 : reinterpret_cast<U64>(&call_from_here);
    const seccomp_data d = call_of(static_cast<std::uint32_t>(s.nr), s.args, ip);
    const std::uint32_t a = answer_at(p, d);
    const Observed want = a == kAllow ? kSawAllow : a == kNotify ? kSawNotify : kSawTrap;
    EXPECT_EQ(seen[i], want) << describe(p, d);
    allowed += want == kSawAllow;
    notified += want == kSawNotify;
  }
  EXPECT_GE(allowed, 6u);
  EXPECT_GE(notified, 3u);
  ::munmap(seen, bytes);
  ::munmap(reinterpret_cast<void*>(control), 0x1000);
}

TEST(Install, TheKernelAgreesWithTheEvaluatorOnTheStubsFilter) {
  if (UNDER_SANITIZER) GTEST_SKIP() << "the sanitizer's own calls are not the stub's";
  expect_kernel_agrees(stub_direct::kProgram);
  expect_kernel_agrees(stub_strict::kProgram);
}

// Runs f in a child behind the filter; the wait status.
template <typename F>
int behind(const Program& p, F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    prepare_libc();
    if (&p == &sentry::kProgram) prepare_threads();
    if (!install(p, 0).ok()) ::_exit(100);
    f();
    ::_exit(0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}
bool died(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS; }

#ifdef __x86_64__
TEST(Install, TheCompatEntryEndsTheProcess) {
  for (const Program* p : {&stub_direct::kProgram, &sentry::kProgram, &gofer::kProgram}) {
    EXPECT_TRUE(died(behind(*p, [] {
      long r = 20;  // getpid of i386
      asm volatile("int $0x80" : "+a"(r) : : "memory");
    }))) << p->name;
  }
}
#endif

TEST(Install, AThreadedProgramLivesBehindTheSentrysFilter) {
  if (UNDER_SANITIZER) GTEST_SKIP() << "the sanitizer's own calls are not the sentry's";
  const int status = behind(sentry::kProgram, [] {
    // A second arena that grows and shrinks, a thread's start and end, fstat, and a time of day as text.
    std::thread([] {
      std::vector<void*> blocks;
      for (int i = 0; i < 4000; ++i) {
        blocks.push_back(std::malloc(5000));
        std::memset(blocks.back(), 1, 5000);
      }
      while (!blocks.empty()) {
        std::free(blocks.back());
        blocks.pop_back();
      }
    }).join();
    // Many threads that hold memory at once, each of which wants an arena.
    std::vector<std::thread> many;
    std::atomic<int> have{0};
    for (int i = 0; i < 24; ++i) {
      many.emplace_back([&have] {
        void* volatile mine = std::malloc(3000);  // or the compiler sees no need of it
        have.fetch_add(1);
        while (have.load() < 24) std::this_thread::yield();
        std::free(mine);
      });
    }
    for (auto& t : many) t.join();
    struct stat st{};
    if (!base::sys::fstat(0, &st).ok()) ::_exit(1);
    std::time_t now = 0;
    std::tm tm{};
    if (::gmtime_r(&now, &tm) == nullptr) ::_exit(2);
    if (!base::sys::memfd_create("x", MFD_CLOEXEC).ok()) ::_exit(3);
  });
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Install, TakenOverSentryAndGoferDieByForbiddenCalls) {
  if (UNDER_SANITIZER) GTEST_SKIP() << "the sanitizer's own calls are not the gofer's";
  struct Case { const char* name; long nr; Args args; bool gofer_too; };
  const U64 path = reinterpret_cast<U64>("/");
  const Case cases[] = {
      {"openat", SYS_openat, {U64(AT_FDCWD), path, O_RDONLY, 0, 0, 0}, true},
      {"open", SYS_open, {path, O_RDONLY, 0, 0, 0, 0}, true},
      {"newfstatat", SYS_newfstatat, {U64(AT_FDCWD), path, 0, 0, 0, 0}, true},
      {"execve", SYS_execve, {path, 0, 0, 0, 0, 0}, true},
      {"socket", SYS_socket, {AF_INET, SOCK_STREAM, 0, 0, 0, 0}, true},
      {"kill", SYS_kill, {U64(-1), 0, 0, 0, 0, 0}, true},
      {"prctl", SYS_prctl, {PR_GET_DUMPABLE, 0, 0, 0, 0, 0}, true},
      {"fork", SYS_fork, {}, true},
      {"mmap exec", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, ~0ull, 0}, true},
      {"io_uring_setup", SYS_io_uring_setup, {1, 0, 0, 0, 0, 0}, true},
      {"x32 getpid", 0x40000000 | SYS_getpid, {}, true},
      {"openat2", SYS_openat2, {U64(AT_FDCWD), path, 0, 24, 0, 0}, false},
  };
  for (const Case& c : cases) {
    auto call = [&] { call_from_here(static_cast<U64>(c.nr), c.args.data()); };
    EXPECT_TRUE(died(behind(sentry::kProgram, call))) << c.name;
    const int status = behind(gofer::kProgram, call);
    if (c.gofer_too) EXPECT_TRUE(died(status)) << c.name;
    else EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << c.name;
  }
}

// The child shares its descriptor table, so that the listener that it makes is this process's too.
TEST(Install, TheListenerHearsTheKnockAndAnswersIt) {
  if (UNDER_SANITIZER) GTEST_SKIP() << "the sanitizer's own calls are not the stub's";
  struct Shared {
    std::atomic<int> listener;
    std::atomic<long> answer;
  };
  auto* shared = static_cast<Shared*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  const auto child = static_cast<pid_t>(::syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
  if (child == 0) {
    Gadget gadget = become_stub(stub_direct::kProgram);
    auto listener = install(stub_direct::kProgram, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    if (!listener.ok()) __builtin_trap();
    shared->listener = listener->release();
    const Args token = {1, 2, 3, 4, 5, 0x123456789abcdef0};
    shared->answer = gadget(stub_direct::kKnock, token.data(), instruction(stub_direct::kProgram, "stub_ip_ask"));
    leave(stub_direct::kProgram, gadget);
  }
  ASSERT_GT(child, 0);
  for (int ms = 0; shared->listener == 0 && ms < 5000; ++ms) ::usleep(1000);
  const int listener = shared->listener;
  ASSERT_GT(listener, 0);
  seccomp_notif got{};
  ASSERT_EQ(::ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &got), 0);
  EXPECT_EQ(got.pid, static_cast<std::uint32_t>(child));
  EXPECT_EQ(got.data.nr, 400);
  EXPECT_EQ(got.data.args[5], 0x123456789abcdef0u);
  EXPECT_EQ(got.data.instruction_pointer, site_of(stub_direct::kProgram, "stub_ip_ask"));
  seccomp_notif_resp reply{};
  reply.id = got.id;
  reply.val = 77;
  EXPECT_EQ(::ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(shared->answer, 77);
  ::close(listener);
  ::munmap(shared, 4096);
}

TEST(Describe, NamesTheRuleThatDecided) {
  const std::string allowed = describe(stub_direct::kProgram, at_best_site(stub_direct::kProgram, call_of(SYS_futex, {0x10000, 128, 0, 0, 0, 0})));
  EXPECT_NE(allowed.find("(futex)"), std::string::npos) << allowed;
  EXPECT_NE(allowed.find("allow; rule: allow when op in"), std::string::npos) << allowed;
  const std::string none = describe(sentry::kProgram, call_of(SYS_openat));
  EXPECT_NE(none.find("kill_process; no rule names this call"), std::string::npos) << none;
  const std::string failed = describe(sentry::kProgram, call_of(SYS_mprotect, {0, 0, 7, 0, 0, 0}));
  EXPECT_NE(failed.find("prot <= PROT_READ|PROT_WRITE"), std::string::npos) << failed;
  seccomp_data d = call_of(1);
  d.arch = 0x40000003;
  EXPECT_NE(describe(gofer::kProgram, d).find("not x86-64"), std::string::npos);
}

}  // namespace
}  // namespace seccomp_profiles
