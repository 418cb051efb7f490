// SPDX-License-Identifier: Apache-2.0
// Many processes and threads that signal, wake, stop, kill and replace one another for some time. Plain Linux C++.
//   stress_guest SECONDS PROCESSES THREADS     exit 0: all moved to the end, and all were reaped
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <vector>

namespace {

struct Slot {
  std::atomic<int> pid;
  std::atomic<uint64_t> beats;  // rounds of its threads
  std::atomic<uint32_t> word;   // a futex of all
};
struct Shared {
  std::atomic<bool> end;
  std::atomic<uint64_t> handled, children, failures;
  Slot slots[1];
};
Shared* g;
int g_processes, g_threads_each, g_mine;

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}
void nap(long us) {
  timespec t{0, us * 1000};
  nanosleep(&t, nullptr);
}
void failed(const char* what) {
  if (g->failures.fetch_add(1) < 10) fprintf(stderr, "%d: %s: %s\n", getpid(), what, strerror(errno));
}

void on_signal(int, siginfo_t*, void*) { g->handled.fetch_add(1, std::memory_order_relaxed); }

unsigned rnd(unsigned* seed, unsigned n) { return static_cast<unsigned>(rand_r(seed)) % n; }

// EAGAIN of what is limited is no failure, and nobody is a failure either: everybody may die at any time.
void one(unsigned* seed) {
  Slot& other = g->slots[rnd(seed, static_cast<unsigned>(g_processes))];
  Slot& mine = g->slots[g_mine];
  const int pid = other.pid.load();
  switch (rnd(seed, 12)) {
    case 0:
      if (pid > 1) kill(pid, SIGUSR1);
      break;
    case 1:
      if (pid > 1) {
        sigval v{};
        sigqueue(pid, SIGRTMIN + static_cast<int>(rnd(seed, 8)), v);
      }
      break;
    case 2:
      syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2);
      break;
    case 3:
      other.word.fetch_add(1);
      syscall(SYS_futex, &other.word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
      break;
    case 4: {
      timespec t{0, 2'000'000};
      syscall(SYS_futex, &mine.word, FUTEX_WAIT, mine.word.load(), &t, nullptr, 0);
      break;
    }
    case 5: {
      int p[2];
      if (pipe2(p, O_CLOEXEC) != 0) break;
      char b[64] = {};
      if (write(p[1], b, sizeof b) == sizeof b && read(p[0], b, sizeof b) < 0 && errno != EINTR) failed("read of a pipe");
      close(p[0]);
      close(p[1]);
      break;
    }
    case 6: {
      void* m = mmap(nullptr, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (m == MAP_FAILED) break;
      memset(m, 1, 64 << 10);
      munmap(m, 64 << 10);
      break;
    }
    case 7: {
      int t = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
      if (t < 0) break;
      itimerspec s{{0, 0}, {0, 1'000'000}};
      timerfd_settime(t, 0, &s, nullptr);
      pollfd p{t, POLLIN, 0};
      poll(&p, 1, 50);
      close(t);
      break;
    }
    case 8: {
      if (rnd(seed, 4) != 0) break;
      pid_t c = fork();
      if (c == 0) _exit(42);
      if (c < 0) break;
      int status = 0;
      while (waitpid(c, &status, 0) < 0)
        if (errno != EINTR) return failed("waitpid");
      // Somebody may have taken its number from a slot that was free for a moment: only signals of ours end it early.
      if (!WIFSIGNALED(status) && !(WIFEXITED(status) && WEXITSTATUS(status) == 42)) failed("a child's status");
      g->children.fetch_add(1, std::memory_order_relaxed);
      break;
    }
    case 9: {
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, SIGRTMIN + 1);
      timespec t{0, 1'000'000};
      sigtimedwait(&set, nullptr, &t);
      break;
    }
    case 10:
      nap(static_cast<long>(rnd(seed, 5000)));
      break;
    case 11:
      sched_yield();
      break;
  }
  mine.beats.fetch_add(1, std::memory_order_relaxed);
}

void* thread(void* arg) {
  auto seed = static_cast<unsigned>(reinterpret_cast<uintptr_t>(arg));
  while (!g->end) {
    one(&seed);
    // So many on a few processors: each has its turn some times a second.
    nap(1000L * (g_processes * g_threads_each) / 20);
  }
  return nullptr;
}

[[noreturn]] void process(int slot, unsigned seed) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  g_mine = slot;
  struct sigaction a = {};
  a.sa_sigaction = on_signal;
  a.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGUSR1, &a, nullptr);
  sigaction(SIGUSR2, &a, nullptr);
  for (int s = SIGRTMIN; s < SIGRTMIN + 8; s++) sigaction(s, &a, nullptr);
  g->slots[slot].pid = getpid();
  std::vector<pthread_t> all;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 128 << 10);
  for (int i = 1; i < g_threads_each; i++) {
    pthread_t t;
    if (pthread_create(&t, &attr, thread, reinterpret_cast<void*>(uintptr_t{seed + static_cast<unsigned>(i)})) == 0) all.push_back(t);
  }
  thread(reinterpret_cast<void*>(uintptr_t{seed}));
  for (pthread_t t : all) pthread_join(t, nullptr);
  exit(0);
}

pid_t start(int slot, unsigned* seed) {
  const auto own = static_cast<unsigned>(rand_r(seed));
  g->slots[slot].pid = 0;
  pid_t p = fork();
  if (p == 0) process(slot, own);
  return p;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return fprintf(stderr, "usage: stress_guest SECONDS PROCESSES THREADS\n"), 2;
  const double seconds = atof(argv[1]);
  g_processes = atoi(argv[2]);
  g_threads_each = atoi(argv[3]) / g_processes;
  if (g_processes < 1 || g_threads_each < 1) return fprintf(stderr, "no thread for each process\n"), 2;
  const size_t bytes = sizeof(Shared) + sizeof(Slot) * static_cast<size_t>(g_processes);
  void* m = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) return perror("mmap"), 2;
  g = static_cast<Shared*>(m);
  unsigned seed = 1;
  std::vector<pid_t> pids;
  for (int i = 0; i < g_processes; i++) pids.push_back(start(i, &seed));
  int replaced = 0, stopped = 0;
  const double until = now() + seconds;
  while (now() < until) {
    nap(5000);
    const auto i = static_cast<size_t>(rnd(&seed, static_cast<unsigned>(g_processes)));
    if (pids[i] <= 0) continue;
    if (rnd(&seed, 4) == 0) {
      kill(pids[i], SIGSTOP);
      nap(1000);
      kill(pids[i], SIGCONT);
      stopped++;
    } else if (rnd(&seed, 4) == 0) {
      kill(pids[i], SIGKILL);
      int status = 0;
      if (waitpid(pids[i], &status, 0) != pids[i]) failed("waitpid of a process");
      pids[i] = start(static_cast<int>(i), &seed);
      replaced++;
    }
  }
  // Whoever lives moves: each slot's count goes on.
  std::vector<uint64_t> then;
  for (int i = 0; i < g_processes; i++) then.push_back(g->slots[i].beats);
  int still = 0;
  for (int tries = 0; tries < 6000; tries++) {
    still = 0;
    for (int i = 0; i < g_processes; i++) still += pids[static_cast<size_t>(i)] > 0 && g->slots[i].beats == then[static_cast<size_t>(i)];
    if (still == 0) break;
    nap(20000);
  }
  g->end = true;
  int left = 0;
  for (pid_t p : pids) left += p > 0;
  int odd = 0;
  while (left > 0) {
    int status = 0;
    pid_t p = wait(&status);
    if (p < 0) break;
    left--;
    odd += status != 0;
  }
  uint64_t beats = 0;
  for (int i = 0; i < g_processes; i++) beats += g->slots[i].beats;
  printf("%llu rounds, %llu signals handled, %llu children, %d replaced, %d stopped; %d did not move, %d not reaped, %d ended oddly, %llu failures\n",
         static_cast<unsigned long long>(beats), static_cast<unsigned long long>(g->handled), static_cast<unsigned long long>(g->children), replaced,
         stopped, still, left, odd, static_cast<unsigned long long>(g->failures));
  return still || left || odd || g->failures;
}
