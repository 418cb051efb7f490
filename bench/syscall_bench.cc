// SPDX-License-Identifier: Apache-2.0
// Costs of system calls, measured from inside: one line per operation, "name minimum median" in ns. The same
// static program runs natively and under every runtime (bench/compare).
//   syscall_bench [SECONDS_PER_OPERATION] [NAME...]
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr const char* kFile = "/tmp/caisson-bench-file";
const char* self = nullptr;
int zero_fd, file_fd, pipe_fds[2];
char buf[65536];

double now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}
void need(bool ok, const char* what) {
  if (ok) return;
  perror(what);
  _exit(1);
}

void op_getppid() { syscall(SYS_getppid); }
void op_read_zero() { need(read(zero_fd, buf, 1) == 1, "read"); }
void op_fstat() {
  struct stat st;
  need(fstat(file_fd, &st) == 0, "fstat");
}
void op_pread_4k() { need(pread(file_fd, buf, 4096, 0) == 4096, "pread"); }
void op_pread_64k() { need(pread(file_fd, buf, 65536, 0) == 65536, "pread"); }
void op_stat() {
  struct stat st;
  need(stat(kFile, &st) == 0, "stat");
}
void op_open_close() {
  int fd = open(kFile, O_RDONLY);
  need(fd >= 0, "open");
  close(fd);
}
void op_pipe() {
  need(write(pipe_fds[1], "x", 1) == 1, "write");
  need(read(pipe_fds[0], buf, 1) == 1, "read");
}
void op_mmap() {
  void* p = mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  need(p != MAP_FAILED, "mmap");
  need(munmap(p, 65536) == 0, "munmap");
}
void op_mmap_touch() {
  char* p = static_cast<char*>(mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  need(p != MAP_FAILED, "mmap");
  for (int i = 0; i < 16; i++) p[i * 4096] = 1;
  need(munmap(p, 65536) == 0, "munmap");
}
void reap(pid_t pid) {
  int st;
  need(pid > 0, "fork");
  need(waitpid(pid, &st, 0) == pid, "waitpid");
}
void op_fork() {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  reap(pid);
}
void op_vfork() {
  pid_t pid = vfork();
  if (pid == 0) _exit(0);
  reap(pid);
}
void op_exec() {
  pid_t pid = vfork();
  if (pid == 0) {
    execl(self, self, "--exit", static_cast<char*>(nullptr));
    _exit(127);
  }
  reap(pid);
}
void* nothing(void*) { return nullptr; }
void op_thread() {
  pthread_t t;
  need(pthread_create(&t, nullptr, nothing, nullptr) == 0, "pthread_create");
  pthread_join(t, nullptr);
}
int ping[2], pong[2];
void start_partner() {
  need(pipe(ping) == 0 && pipe(pong) == 0, "pipe");
  if (fork() == 0) {
    char c;
    close(ping[1]);
    while (read(ping[0], &c, 1) == 1) need(write(pong[1], &c, 1) == 1, "write");
    _exit(0);
  }
}
void op_ping_pong() {
  need(write(ping[1], "x", 1) == 1, "write");
  need(read(pong[0], buf, 1) == 1, "read");
}

struct Operation {
  const char* name;
  void (*run)();
  int batch;
};
constexpr Operation kOperations[] = {
    {"getppid", op_getppid, 1000},     {"read_zero", op_read_zero, 1000}, {"fstat", op_fstat, 1000},
    {"pread_4k", op_pread_4k, 500},    {"pread_64k", op_pread_64k, 100},  {"stat", op_stat, 500},
    {"open_close", op_open_close, 200}, {"pipe_1b", op_pipe, 500},        {"mmap_munmap", op_mmap, 200},
    {"mmap_touch_16", op_mmap_touch, 50}, {"fork_wait", op_fork, 10},     {"vfork_wait", op_vfork, 20},
    {"exec_wait", op_exec, 5},         {"thread", op_thread, 20},         {"ping_pong", op_ping_pong, 200},
};

void measure(const Operation& o, double seconds) {
  std::vector<double> samples;
  o.run();
  double end = now_ns() + seconds * 1e9;
  while (now_ns() < end || samples.size() < 3) {
    double t = now_ns();
    for (int i = 0; i < o.batch; i++) o.run();
    samples.push_back((now_ns() - t) / o.batch);
  }
  std::sort(samples.begin(), samples.end());
  printf("%s %.0f %.0f\n", o.name, samples.front(), samples[samples.size() / 2]);
  fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && !strcmp(argv[1], "--exit")) return 0;
  self = argv[0];
  double seconds = argc > 1 ? atof(argv[1]) : 0.3;
  zero_fd = open("/dev/zero", O_RDONLY);
  need(zero_fd >= 0, "/dev/zero");
  int fd = open(kFile, O_RDWR | O_CREAT | O_TRUNC, 0644);
  need(fd >= 0, kFile);
  memset(buf, 'x', sizeof buf);
  need(write(fd, buf, sizeof buf) == sizeof buf, "write");
  close(fd);
  file_fd = open(kFile, O_RDONLY);
  need(file_fd >= 0 && pipe(pipe_fds) == 0, "set-up");
  start_partner();
  for (const Operation& o : kOperations) {
    bool wanted = argc <= 2;
    for (int i = 2; i < argc; i++) wanted |= !strcmp(argv[i], o.name);
    if (wanted) measure(o, seconds);
  }
  return 0;
}
