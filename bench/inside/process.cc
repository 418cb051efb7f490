// SPDX-License-Identifier: Apache-2.0
// Processes, threads, and switches between them.
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "bench/inside/measure.h"

namespace bench {

namespace {

void reap(pid_t pid) {
  int st;
  need(pid > 0, "fork");
  need(waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 0, "waitpid");
}
void fork_wait() {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  reap(pid);
}
void vfork_wait() {
  pid_t pid = vfork();
  if (pid == 0) _exit(0);
  reap(pid);
}
void exec_with(pid_t pid) {
  if (pid == 0) {
    execl(self, self, "exit", static_cast<char*>(nullptr));
    _exit(127);
  }
  reap(pid);
}
void vfork_exec() {
  pid_t pid = vfork();
  if (pid == 0) {
    execl(self, self, "exit", static_cast<char*>(nullptr));
    _exit(127);
  }
  reap(pid);
}
void fork_exec() { exec_with(fork()); }

constexpr size_t kBig = 16 << 20;
void prepare_big() {
  static char* p = nullptr;
  if (p) return;
  void* m = mmap(nullptr, kBig, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  need(m != MAP_FAILED, "mmap");
  p = static_cast<char*>(m);
  memset(p, 1, kBig);
}

void* nothing(void*) { return nullptr; }
void thread_call() {
  pthread_t t;
  int r = pthread_create(&t, nullptr, nothing, nullptr);
  errno = r;
  need(r == 0, "pthread_create");
  pthread_join(t, nullptr);
}

// A partner that answers each byte: a process or a thread, over two pipes or a pair of sockets.
struct Line {
  int ask[2], answer[2];
};
void serve(int in, int out) {
  char c;
  while (read(in, &c, 1) == 1 && write(out, &c, 1) == 1) {
  }
}
enum class Partner { process, thread };
void start_partner(Line& l, Partner kind) {
  if (kind == Partner::thread) {
    std::thread(serve, l.ask[0], l.answer[1]).detach();
    return;
  }
  pid_t parent = getpid(), pid = fork();
  need(pid >= 0, "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) serve(l.ask[0], l.answer[1]);
    _exit(0);
  }
}
Line by_process, by_thread, by_socket;
void prepare_process_line() {
  need(pipe(by_process.ask) == 0 && pipe(by_process.answer) == 0, "pipe");
  start_partner(by_process, Partner::process);
}
void prepare_thread_line() {
  need(pipe(by_thread.ask) == 0 && pipe(by_thread.answer) == 0, "pipe");
  start_partner(by_thread, Partner::thread);
}
void prepare_socket_line() {
  int p[2];
  need(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
  by_socket = {{p[1], p[0]}, {p[0], p[1]}};
  start_partner(by_socket, Partner::process);
}
void turn(const Line& l) {
  char c = 'x';
  need(write(l.ask[1], &c, 1) == 1, "write");
  need(read(l.answer[0], &c, 1) == 1, "read");
}
void turn_process() { turn(by_process); }
void turn_thread() { turn(by_thread); }
void turn_socket() { turn(by_socket); }

// Two threads that wait for each other's turn in one word.
std::atomic<uint32_t> whose{0};
void wait_while(uint32_t v) {
  while (whose.load() == v) syscall(SYS_futex, &whose, FUTEX_WAIT_PRIVATE, v, nullptr, nullptr, 0);
}
void give(uint32_t v) {
  whose = v;
  syscall(SYS_futex, &whose, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}
void prepare_futex_line() {
  std::thread([] {
    for (;;) {
      wait_while(0);
      give(0);
    }
  }).detach();
}
void turn_futex() {
  give(1);
  wait_while(1);
}

}  // namespace

void add_process_operations(std::vector<Operation>& all) {
  const Operation list[] = {
      {"syscall", "process", "fork_wait", "fork + wait", fork_wait},
      {"syscall", "process", "vfork_wait", "vfork + wait", vfork_wait},
      {"syscall", "process", "vfork_exec", "vfork + exec + wait", vfork_exec},
      {"syscall", "process", "fork_exec", "fork + exec + wait", fork_exec},
      {"syscall", "process", "fork_16m", "fork of 16 MiB + wait", fork_wait, prepare_big},
      {"syscall", "thread", "thread", "thread create + join", thread_call},
      {"syscall", "switch", "switch_process", "2 processes, pipes, there and back", turn_process, prepare_process_line},
      {"syscall", "switch", "switch_socket", "2 processes, socket, there and back", turn_socket, prepare_socket_line},
      {"syscall", "switch", "switch_thread", "2 threads, pipes, there and back", turn_thread, prepare_thread_line},
      {"syscall", "switch", "switch_futex", "2 threads, futex, there and back", turn_futex, prepare_futex_line},
  };
  all.insert(all.end(), std::begin(list), std::end(list));
}

}  // namespace bench
