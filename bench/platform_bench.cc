// SPDX-License-Identifier: Apache-2.0
// The platform's primitives without a kernel: a call handed over (spinning, sleeping, on one CPU), fork and exit, memory
// calls, the trap. Prints minimum and median of several rounds: hand-off figures are bimodal on virtual machines.
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "tests/platform/harness.h"

using namespace platform_test;

namespace {

int g_rounds = 9;

double now_ns() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

// fn(n) does n operations; prints ns per operation.
template <typename F>
void measure(const char* what, int n, F fn) {
  std::vector<double> t;
  for (int r = 0; r < g_rounds; r++) {
    double start = now_ns();
    fn(n);
    t.push_back((now_ns() - start) / n);
  }
  std::sort(t.begin(), t.end());
  printf("%-58s %10.0f %10.0f\n", what, t.front(), t[t.size() / 2]);
  fflush(stdout);
}

// The entry without its trap: the application jumps to where the SIGSYS handler would send it (as patched sites will).
uint64_t entry_of_stub() { return stub_symbol("stub_entry"); }

void null_calls(World& w, const char* trapping, const char* direct, int n) {
  on_fiber([&] {
    Guest g(w);
    measure(trapping, n, [&](int k) { g.call_and_run(App::null_calls, {kNull, static_cast<uint64_t>(k)}); });
    measure(direct, n * 4, [&](int k) {
      if (g.call_and_run(App::direct_calls, {entry_of_stub(), kNull, static_cast<uint64_t>(k)}) != k) abort();
    });
    auto s = w.platform().stats();
    printf("  of %lu calls so far %lu knocked\n", s.calls, s.knocks);
  });
}

void memory(World& w, const char* what, int n) {
  on_fiber([&] {
    Guest g(w);
    measure(what, n, [&](int k) {
      g.call(App::mmap_cost, {static_cast<uint64_t>(k)});
      g.run([](Context& c, const platform::Call& call) {
        MemoryCall m{.op = call.number == 9 ? MemoryOp::map_anonymous : MemoryOp::unmap, .address = 0x70000000,
                     .length = 65536, .prot = 3, .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE};
        if (!c.queue_memory_call(m, nullptr).ok()) abort();
        c.set_result(call.number == 9 ? 0x70000000 : 0);
      });
    });
  });
}

void copies(World& w) {
  on_fiber([&] {
    Guest g(w);
    g.call(App::null_calls, {kNull, 1ull << 40});
    for (size_t size : {size_t{64}, size_t{4096}, size_t{65536}}) {
      char name[64];
      snprintf(name, sizeof name, "call that receives %zu bytes", size);
      measure(name, 2000, [&](int k) {
        for (int i = 0; i < k; i++) {
          if (g->resume() != EventKind::syscall) abort();
          auto window = g->out_window(size);
          memset(window.data(), i, size);
          if (!g->commit_out(kData, window, size).ok()) abort();
          g->set_result(0);
        }
      });
    }
  });
}

void forks(World& w) {
  on_fiber([&] {
    Guest g(w);
    g.call(App::null_calls, {kNull, 1});
    if (g->resume() != EventKind::syscall) abort();
    measure("fork, first call of the child, its end", 100, [&](int k) {
      for (int i = 0; i < k; i++) {
        auto c = g->fork();
        if (!c.ok()) abort();
        Guest child(w, std::move(*c));
        child->set_fiber(sched::current());
        child->set_result(0);
        if (child->resume() != EventKind::syscall) abort();
      }
    });
    measure("thread, its first call, its end", 100, [&](int k) {
      for (int i = 0; i < k; i++) {
        auto c = g->clone_thread();
        if (!c.ok()) abort();
        Guest t(w, std::move(*c));
        t->set_fiber(sched::current());
        t->set_result(0);
        if (t->resume() != EventKind::syscall) abort();
        t->exit_thread(0);
      }
    });
    measure("vfork by borrowing: save, other registers, restore", 2000, [&](int k) {
      for (int i = 0; i < k; i++) {
        auto s = g->save_thread();
        if (!s.ok()) abort();
        g->restore_thread(std::move(*s));
        if (!g->load32(kData).ok()) abort();
      }
    });
  });
}

void natively() {
  measure("native getppid", 200000, [](int k) { for (int i = 0; i < k; i++) syscall(SYS_getppid); });
  measure("native mmap + munmap of 64 KiB", 5000, [](int k) {
    for (int i = 0; i < k; i++) munmap(mmap(nullptr, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
  });
  measure("native fork + exit + wait", 100, [](int k) {
    for (int i = 0; i < k; i++) {
      pid_t p = fork();
      if (p == 0) _exit(0);
      waitpid(p, nullptr, 0);
    }
  });
}

void pin(unsigned cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (unsigned i = 0; i < cpus; i++) CPU_SET(i, &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) g_rounds = std::max(1, atoi(argv[1]));
  auto cpus = static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN));
  enter_pid_namespace();
  base::log_init("platform_bench", 2, getenv("CAISSON_TEST_DEBUG") ? base::LogLevel::debug : base::LogLevel::error);
  printf("%-58s %10s %10s\n", "ns per operation", "minimum", "median");
  natively();
  if (cpus > 1) {
    World w({.cpus = cpus});
    null_calls(w, "null call, trapping, spinning", "null call, without the trap, spinning", 20000);
    memory(w, "mmap + munmap of 64 KiB, direct, spinning", 2000);
    copies(w);
    forks(w);
  }
  {
    World w({.may_spin = false, .cpus = cpus});
    null_calls(w, "null call, trapping, sleeping", "null call, without the trap, sleeping", 500);
    memory(w, "mmap + munmap of 64 KiB, direct, sleeping", 300);
  }
  if (cpus > 1) {
    World w({.mode = platform::Mode::strict, .cpus = cpus});
    memory(w, "mmap + munmap of 64 KiB, strict, spinning", 500);
  }
  pin(1);
  {
    World w({.cpus = 1});
    null_calls(w, "null call, trapping, one CPU", "null call, without the trap, one CPU", 1000);
    memory(w, "mmap + munmap of 64 KiB, direct, one CPU", 500);
    forks(w);
  }
  return 0;
}
