// SPDX-License-Identifier: Apache-2.0
// System calls that one thread makes by itself, family by family, and some of them by many threads at once.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <string>

#include "bench/inside/measure.h"

namespace bench {

namespace {

constexpr const char *kFile = "/tmp/caisson-bench-file", *kDirectory = "/tmp/caisson-bench-dir";
constexpr size_t kPage = 4096, k64 = 65536;
int zero_fd = -1, null_fd = -1, file_fd = -1, dir_fd = -1, pipe_fds[2] = {-1, -1}, pair[2] = {-1, -1}, tcp[2] = {-1, -1}, udp = -1, event_fd = -1,
    timer_fd = -1, epoll_fd = -1;
char buf[k64];
uint32_t word = 0;

void prepare_file() {
  if (file_fd >= 0) return;
  int fd = open(kFile, O_RDWR | O_CREAT | O_TRUNC, 0644);
  need(fd >= 0, kFile);
  memset(buf, 'x', sizeof buf);
  need(write(fd, buf, sizeof buf) == sizeof buf, "write");
  file_fd = fd;
}
void prepare_zero() { need(zero_fd >= 0 || (zero_fd = open("/dev/zero", O_RDONLY)) >= 0, "/dev/zero"); }
void prepare_null() { need(null_fd >= 0 || (null_fd = open("/dev/null", O_WRONLY)) >= 0, "/dev/null"); }
void prepare_dir() {
  need(mkdir(kDirectory, 0755) == 0 || errno == EEXIST, kDirectory);
  for (int i = 0; i < 20; i++) {
    int fd = open((std::string(kDirectory) + "/file-" + std::to_string(i)).c_str(), O_WRONLY | O_CREAT, 0644);
    need(fd >= 0, kDirectory);
    close(fd);
  }
  need((dir_fd = open(kDirectory, O_RDONLY | O_DIRECTORY)) >= 0, kDirectory);
}
void prepare_pipe() { need(pipe_fds[0] >= 0 || pipe(pipe_fds) == 0, "pipe"); }
void prepare_pair() { need(pair[0] >= 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair"); }
sockaddr_in loopback() {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}
void prepare_tcp() {
  int l = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  need(l >= 0, "socket");
  auto a = loopback();
  socklen_t len = sizeof a;
  need(bind(l, reinterpret_cast<sockaddr*>(&a), len) == 0 && listen(l, 1) == 0, "listen on 127.0.0.1");
  need(getsockname(l, reinterpret_cast<sockaddr*>(&a), &len) == 0, "getsockname");
  tcp[0] = socket(AF_INET, SOCK_STREAM, 0);
  need(connect(tcp[0], reinterpret_cast<sockaddr*>(&a), len) == 0, "connect to 127.0.0.1");
  need((tcp[1] = accept(l, nullptr, nullptr)) >= 0, "accept");
  for (int fd : tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  close(l);
}
void prepare_udp() {
  udp = socket(AF_INET, SOCK_DGRAM, 0);
  auto a = loopback();
  socklen_t len = sizeof a;
  need(udp >= 0 && bind(udp, reinterpret_cast<sockaddr*>(&a), len) == 0, "bind to 127.0.0.1");
  need(getsockname(udp, reinterpret_cast<sockaddr*>(&a), &len) == 0 && connect(udp, reinterpret_cast<sockaddr*>(&a), len) == 0, "connect to itself");
}
void prepare_event() { need(event_fd >= 0 || (event_fd = eventfd(0, 0)) >= 0, "eventfd"); }
void on_signal(int) {}
void prepare_signal() { need(signal(SIGUSR1, on_signal) != SIG_ERR, "signal"); }
void prepare_timer() { need((timer_fd = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0, "timerfd_create"); }
void prepare_epoll() {
  prepare_event();
  uint64_t one = 1;
  need(write(event_fd, &one, sizeof one) == sizeof one, "write");
  epoll_event e{EPOLLIN, {}};
  need((epoll_fd = epoll_create1(0)) >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &e) == 0, "epoll_create1");
}

void getppid_call() { syscall(SYS_getppid); }
void uname_call() {
  utsname u;
  need(uname(&u) == 0, "uname");
}
void clock_call() { now_ns(); }
void yield_call() { syscall(SYS_sched_yield); }
void read_zero() { need(read(zero_fd, buf, 1) == 1, "read"); }
void write_null() { need(write(null_fd, buf, 1) == 1, "write"); }
void lseek_call() { need(lseek(file_fd, 0, SEEK_SET) == 0, "lseek"); }
void fstat_call() {
  struct stat st;
  need(fstat(file_fd, &st) == 0, "fstat");
}
void stat_call() {
  struct stat st;
  need(stat(kFile, &st) == 0, "stat");
}
void access_missing() { need(access("/tmp/caisson-bench-missing", F_OK) != 0, "access"); }
void open_close() {
  int fd = open(kFile, O_RDONLY);
  need(fd >= 0, "open");
  close(fd);
}
void dup_close() {
  int fd = dup(file_fd);
  need(fd >= 0, "dup");
  close(fd);
}
void pread_4k() { need(pread(file_fd, buf, kPage, 0) == kPage, "pread"); }
void pread_64k() { need(pread(file_fd, buf, k64, 0) == k64, "pread"); }
void pwrite_4k() { need(pwrite(file_fd, buf, kPage, 0) == kPage, "pwrite"); }
void getdents_call() {
  need(lseek(dir_fd, 0, SEEK_SET) == 0, "lseek");
  need(syscall(SYS_getdents64, dir_fd, buf, sizeof buf) > 0, "getdents64");
}
void pipe_1b() {
  need(write(pipe_fds[1], buf, 1) == 1, "write");
  need(read(pipe_fds[0], buf, 1) == 1, "read");
}
void pipe_4k() {
  need(write(pipe_fds[1], buf, kPage) == kPage, "write");
  need(read(pipe_fds[0], buf, kPage) == kPage, "read");
}
void pipe_make() {
  int p[2];
  need(pipe(p) == 0, "pipe");
  close(p[0]);
  close(p[1]);
}
void event_call() {
  uint64_t v = 1;
  need(write(event_fd, &v, sizeof v) == sizeof v, "write");
  need(read(event_fd, &v, sizeof v) == sizeof v, "read");
}
void pair_1b() {
  need(send(pair[0], buf, 1, 0) == 1, "send");
  need(recv(pair[1], buf, 1, 0) == 1, "recv");
}
void tcp_1b() {
  need(send(tcp[0], buf, 1, 0) == 1, "send");
  need(recv(tcp[1], buf, 1, 0) == 1, "recv");
}
void udp_1b() {
  need(send(udp, buf, 1, 0) == 1, "send");
  need(recv(udp, buf, 1, 0) == 1, "recv");
}
void socket_make() {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  need(fd >= 0, "socket");
  close(fd);
}
void futex_wake() { need(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0) == 0, "futex"); }
void futex_changed() { need(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, nullptr, nullptr, 0) != 0 && errno == EAGAIN, "futex"); }
void sigaction_call() {
  struct sigaction old;
  need(sigaction(SIGUSR2, nullptr, &old) == 0, "sigaction");
}
void mask_call() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  need(sigprocmask(SIG_BLOCK, &set, nullptr) == 0 && sigprocmask(SIG_UNBLOCK, &set, nullptr) == 0, "sigprocmask");
}
void signal_self() { need(raise(SIGUSR1) == 0, "raise"); }
void timerfd_call() {
  itimerspec t{{0, 0}, {1000, 0}};
  need(timerfd_settime(timer_fd, 0, &t, nullptr) == 0, "timerfd_settime");
}
void itimer_call() {
  itimerval t{{0, 0}, {1000, 0}};
  need(setitimer(ITIMER_REAL, &t, nullptr) == 0, "setitimer");
}
void sleep_call() {
  timespec t{0, 1};
  need(nanosleep(&t, nullptr) == 0, "nanosleep");
}
void epoll_wait_call() {
  epoll_event e;
  need(epoll_wait(epoll_fd, &e, 1, -1) == 1, "epoll_wait");
}
void epoll_ctl_call() {
  epoll_event e{EPOLLIN, {}};
  need(epoll_ctl(epoll_fd, EPOLL_CTL_MOD, event_fd, &e) == 0, "epoll_ctl");
}
void poll_call() {
  pollfd p[10];
  for (auto& f : p) f = {event_fd, POLLIN, 0};
  need(poll(p, 10, -1) == 10, "poll");
}
char* map(size_t n, int fd = -1) {
  void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
  need(p != MAP_FAILED, "mmap");
  return static_cast<char*>(p);
}
void mmap_call() { need(munmap(map(k64), k64) == 0, "munmap"); }
void touch(char* p) {
  for (size_t i = 0; i < k64; i += kPage) p[i] = 1;
  need(munmap(p, k64) == 0, "munmap");
}
void mmap_touch() { touch(map(k64)); }
void mmap_file() { touch(map(k64, file_fd)); }
char* area = nullptr;
void prepare_area() {
  if (!area) area = map(k64);
  for (size_t i = 0; i < k64; i += kPage) area[i] = 1;
}
void mprotect_call() { need(mprotect(area, kPage, PROT_READ) == 0 && mprotect(area, kPage, PROT_READ | PROT_WRITE) == 0, "mprotect"); }
void madvise_call() {
  area[0] = 1;
  need(madvise(area, kPage, MADV_DONTNEED) == 0, "madvise");
}
void brk_call() {
  void* p = sbrk(kPage);
  need(p != reinterpret_cast<void*>(-1) && sbrk(-static_cast<intptr_t>(kPage)) != reinterpret_cast<void*>(-1), "brk");
}

// What each of many threads has for itself.
thread_local int own_file = -1, own_pipe[2] = {-1, -1}, own_epoll = -1;
thread_local uint32_t own_word = 0;
void prepare_own_file() { need((own_file = open(kFile, O_RDONLY)) >= 0, kFile); }
void prepare_own_pipe() { need(pipe(own_pipe) == 0, "pipe"); }
void prepare_own_epoll() {
  int event = eventfd(1, 0);
  epoll_event e{EPOLLIN, {}};
  need(event >= 0 && (own_epoll = epoll_create1(0)) >= 0 && epoll_ctl(own_epoll, EPOLL_CTL_ADD, event, &e) == 0, "epoll_create1");
}
void own_epoll_wait() {
  epoll_event e;
  need(epoll_wait(own_epoll, &e, 1, -1) == 1, "epoll_wait");
}
void own_pread() {
  char b[kPage];
  need(pread(own_file, b, kPage, 0) == kPage, "pread");
}
void own_pipe_1b() {
  char c = 'x';
  need(write(own_pipe[1], &c, 1) == 1, "write");
  need(read(own_pipe[0], &c, 1) == 1, "read");
}
void own_futex() { need(syscall(SYS_futex, &own_word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0) == 0, "futex"); }

}  // namespace

void add_call_operations(std::vector<Operation>& all) {
  const Operation list[] = {
      {"syscall", "trivial", "getppid", "getppid", getppid_call},
      {"syscall", "trivial", "uname", "uname", uname_call},
      {"syscall", "trivial", "clock_gettime", "clock_gettime (vDSO)", clock_call},
      {"syscall", "trivial", "sched_yield", "sched_yield", yield_call},
      {"syscall", "file", "read_zero", "read 1 B of /dev/zero", read_zero, prepare_zero},
      {"syscall", "file", "write_null", "write 1 B to /dev/null", write_null, prepare_null},
      {"syscall", "file", "lseek", "lseek", lseek_call, prepare_file},
      {"syscall", "file", "fstat", "fstat", fstat_call, prepare_file},
      {"syscall", "file", "stat", "stat", stat_call, prepare_file},
      {"syscall", "file", "access_missing", "access, no such file", access_missing},
      {"syscall", "file", "open_close", "open + close", open_close, prepare_file},
      {"syscall", "file", "dup_close", "dup + close", dup_close, prepare_file},
      {"syscall", "file", "pread_4k", "pread 4 KiB", pread_4k, prepare_file},
      {"syscall", "file", "pread_64k", "pread 64 KiB", pread_64k, prepare_file},
      {"syscall", "file", "pwrite_4k", "pwrite 4 KiB", pwrite_4k, prepare_file},
      {"syscall", "file", "getdents", "getdents, 20 names", getdents_call, prepare_dir},
      {"syscall", "pipe", "pipe_1b", "pipe: write + read 1 B", pipe_1b, prepare_pipe},
      {"syscall", "pipe", "pipe_4k", "pipe: write + read 4 KiB", pipe_4k, prepare_pipe},
      {"syscall", "pipe", "pipe_make", "pipe: make + close", pipe_make},
      {"syscall", "pipe", "eventfd", "eventfd: write + read", event_call, prepare_event},
      {"syscall", "socket", "unix_1b", "socketpair: send + recv 1 B", pair_1b, prepare_pair},
      {"syscall", "socket", "tcp_1b", "TCP loopback: send + recv 1 B", tcp_1b, prepare_tcp},
      {"syscall", "socket", "udp_1b", "UDP loopback: send + recv 1 B", udp_1b, prepare_udp},
      {"syscall", "socket", "socket_make", "socket + close", socket_make},
      {"syscall", "futex", "futex_wake", "futex wake, nobody waits", futex_wake},
      {"syscall", "futex", "futex_changed", "futex wait, value changed", futex_changed},
      {"syscall", "signal", "sigaction", "sigaction", sigaction_call},
      {"syscall", "signal", "sigprocmask", "sigprocmask, twice", mask_call},
      {"syscall", "signal", "signal_self", "signal to itself, handled", signal_self, prepare_signal},
      {"syscall", "timer", "timerfd", "timerfd_settime", timerfd_call, prepare_timer},
      {"syscall", "timer", "setitimer", "setitimer", itimer_call},
      {"syscall", "timer", "nanosleep", "nanosleep 1 ns", sleep_call},
      {"syscall", "epoll", "epoll_wait", "epoll_wait, one ready", epoll_wait_call, prepare_epoll},
      {"syscall", "epoll", "epoll_ctl", "epoll_ctl", epoll_ctl_call, prepare_epoll},
      {"syscall", "epoll", "poll_10", "poll, 10 ready", poll_call, prepare_epoll},
      {"syscall", "memory", "mmap_munmap", "mmap + munmap 64 KiB", mmap_call},
      {"syscall", "memory", "mmap_touch", "mmap, 16 touches, munmap", mmap_touch},
      {"syscall", "memory", "mmap_file", "mmap of a file, 16 touches", mmap_file, prepare_file},
      {"syscall", "memory", "mprotect", "mprotect, twice", mprotect_call, prepare_area},
      {"syscall", "memory", "madvise", "touch + madvise DONTNEED", madvise_call, prepare_area},
      {"syscall", "memory", "brk", "brk up + down", brk_call},
  };
  all.insert(all.end(), std::begin(list), std::end(list));
  // Names live as long as the program. 64 threads are more than most machines have processors for: whatever they share shows.
  static std::deque<std::string> names;
  for (int n : {2, 4, 64}) {
    auto add = [&](const char* name, const char* label, void (*run)(), void (*prepare)(), void (*own)()) {
      const char* shown = names.emplace_back(std::string(label) + ", " + std::to_string(n) + " threads").c_str();
      all.push_back({"syscall", "parallel", names.emplace_back(std::string(name) + "_x" + std::to_string(n)).c_str(), shown, run, prepare, n, own});
    };
    add("getppid", "getppid", getppid_call, nullptr, nullptr);
    add("futex_wake", "futex wake", own_futex, nullptr, nullptr);
    add("pread_4k", "pread 4 KiB", own_pread, prepare_file, prepare_own_file);
    add("pipe_1b", "pipe 1 B", own_pipe_1b, nullptr, prepare_own_pipe);
    add("epoll_wait", "epoll_wait", own_epoll_wait, nullptr, prepare_own_epoll);
  }
}

}  // namespace bench
