// SPDX-License-Identifier: Apache-2.0
// fork, exec, one loop around wait(2), and what /proc tells of processes.
#include "runtime/bench/child.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/sys.h"
#include "runtime/host/proc.h"

namespace runtime::bench {

using base::ResultX;
namespace sys = base::sys;

namespace {

volatile sig_atomic_t stop_asked = 0;
constexpr size_t kMostOutput = 16 << 20;

void on_stop(int) { stop_asked = 1; }
void on_tick(int) {}

// Lets a blocking wait(2) be looked after: it ends with EINTR now and then.
class Ticks {
 public:
  Ticks() { set(100000); }
  ~Ticks() { set(0); }
  Ticks(const Ticks&) = delete;
  Ticks& operator=(const Ticks&) = delete;

 private:
  static void set(long us) {
    itimerval t{{0, us}, {0, us}};
    ::setitimer(ITIMER_REAL, &t, nullptr);
  }
};

void handle(int signal, void (*with)(int)) {
  struct sigaction a{};
  a.sa_handler = with;  // no SA_RESTART
  ::sigaction(signal, &a, nullptr);
}

void first_cpu_only() {
  cpu_set_t may, one;
  if (::sched_getaffinity(0, sizeof may, &may) != 0) return;
  for (int c = 0; c < CPU_SETSIZE; c++) {
    if (!CPU_ISSET(c, &may)) continue;
    CPU_ZERO(&one);
    CPU_SET(c, &one);
    ::sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

std::string take(int fd) {
  std::string text;
  if (fd < 0) return text;
  ::lseek(fd, 0, SEEK_SET);
  auto all = sys::read_all(fd, kMostOutput);
  ::close(fd);
  return all.ok() ? std::move(all).value() : text;
}

}  // namespace

ResultX<void> prepare_process() {
  for (int s : {SIGINT, SIGTERM, SIGHUP}) handle(s, on_stop);
  handle(SIGALRM, on_tick);
  handle(SIGPIPE, SIG_IGN);
  TRY_MSG(sys::from_libc(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)), "become a reaper of orphans");
  TRY_MSG(sys::from_libc(::unshare(CLONE_NEWNS)), "make a mount namespace");
  TRY_MSG(sys::from_libc(::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr)), "detach the mount namespace");
  return {};
}

bool stopped() { return stop_asked != 0; }

double now_ns() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

std::string Output::problem() const {
  std::string text = status < 0 ? "did not end in time" : WIFSIGNALED(status) ? base::format("signal {}", WTERMSIG(status)) : base::format("exit code {}", WEXITSTATUS(status));
  std::string words = err.empty() ? out : err;
  while (!words.empty() && words.back() == '\n') words.pop_back();
  for (char& c : words) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  size_t from = words.size() > 300 ? words.size() - 300 : 0;
  return words.empty() ? text : text + ": " + words.substr(from);
}

Child start(const std::vector<std::string>& words, const How& how) {
  Child c;
  std::string path = how.output.empty() ? "" : how.output;
  int both = -1;
  if (!path.empty()) {
    both = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  } else {
    auto out = sys::memfd_create("out", MFD_CLOEXEC), err = sys::memfd_create("err", MFD_CLOEXEC);
    if (out.ok()) c.out = out->release();
    if (err.ok()) c.err = err->release();
  }
  c.pid = ::fork();
  if (c.pid == 0) {
    // A group of its own: ^C at the terminal is for the benchmark, which then ends what it started, in order.
    ::setpgid(0, 0);
    for (int s : {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGPIPE}) handle(s, SIG_DFL);
    if (how.first_cpu) first_cpu_only();
    int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(null, 0);
    ::dup2(both >= 0 ? both : c.out, 1);
    ::dup2(both >= 0 ? both : c.err, 2);
    const char* failed = how.enter ? how.enter() : nullptr;
    std::vector<char*> argv;
    for (auto& w : words) argv.push_back(const_cast<char*>(w.c_str()));
    argv.push_back(nullptr);
    if (!failed) ::execvp(argv[0], argv.data());
    std::string text = base::format("{}: {}\n", failed ? failed : argv[0], strerror(errno));
    IGNORE_ERROR(sys::write_all(2, text.data(), text.size()), "nobody reads");
    ::_exit(127);
  }
  if (both >= 0) ::close(both);
  return c;
}

std::vector<Output> wait_all(std::vector<Child> children, double began, int patience_s) {
  std::vector<Output> out(children.size());
  Ticks ticks;
  size_t left = 0;
  for (auto& c : children) left += c.pid > 0;
  bool killed = false;
  while (left > 0) {
    int status = 0, pid = ::waitpid(-1, &status, 0);
    double now = now_ns();
    if (pid < 0 && errno == ECHILD) break;
    for (size_t i = 0; pid > 0 && i < children.size(); i++) {
      if (children[i].pid != pid) continue;
      if (!killed) out[i].status = status;
      out[i].ns = now - began;
      left--;
    }
    if (!killed && (stopped() || now - began > patience_s * 1e9)) {
      killed = true;
      for (size_t i = 0; i < children.size(); i++) {
        if (children[i].pid > 0 && out[i].status == -1) ::kill(-children[i].pid, SIGKILL);
      }
    }
  }
  for (size_t i = 0; i < children.size(); i++) {
    out[i].out = take(children[i].out);
    out[i].err = take(children[i].err);
  }
  return out;
}

Output run(const std::vector<std::string>& words, const How& how, int patience_s) {
  double began = now_ns();
  return std::move(wait_all({start(words, how)}, began, patience_s)[0]);
}

void rest(int ms) {
  double end = now_ns() + ms * 1e6;
  while (!stopped() && now_ns() < end) {
    ::poll(nullptr, 0, static_cast<int>(std::clamp((end - now_ns()) / 1e6, 1.0, 50.0)));
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}

std::vector<int> descendants() {
  std::map<int, std::vector<int>> children;
  if (DIR* d = ::opendir("/proc")) {
    while (dirent* e = ::readdir(d)) {
      int pid = atoi(e->d_name);
      if (pid <= 0) continue;
      auto stat = host::read_file(base::format("/proc/{}/stat", pid));
      size_t at = stat.ok() ? stat->rfind(')') : std::string::npos;
      int parent = 0;
      char state = 0;
      if (at != std::string::npos && sscanf(stat->c_str() + at + 1, " %c %d", &state, &parent) == 2 && state != 'Z') children[parent].push_back(pid);
    }
    ::closedir(d);
  }
  std::vector<int> out, todo{::getpid()};
  while (!todo.empty()) {
    int pid = todo.back();
    todo.pop_back();
    for (int c : children[pid]) {
      out.push_back(c);
      todo.push_back(c);
    }
  }
  return out;
}

Use used_by(const std::vector<int>& pids) {
  Use u;
  double tick_ns = 1e9 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  for (int pid : pids) {
    auto stat = host::read_file(base::format("/proc/{}/stat", pid));
    auto maps = host::read_file(base::format("/proc/{}/smaps_rollup", pid));
    if (!stat.ok() || !maps.ok()) continue;  // gone meanwhile
    u.processes++;
    unsigned long user = 0, kernel = 0;
    size_t at = stat->rfind(')');
    if (at != stat->npos && sscanf(stat->c_str() + at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) == 2) {
      u.cpu_ns += static_cast<double>(user + kernel) * tick_ns;
    }
    auto field = [&](const char* name) {
      size_t from = maps->find(name);
      return from == maps->npos ? 0.0 : strtod(maps->c_str() + from + strlen(name), nullptr) * 1024;
    };
    u.pss += field("\nPss:");
    u.private_dirty += field("\nPrivate_Dirty:");
  }
  return u;
}

void end_descendants() {
  for (int i = 0; i < 200; i++) {
    auto pids = descendants();
    for (int pid : pids) ::kill(pid, SIGKILL);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (pids.empty()) return;
    host::sleep_us(10000);
  }
}

}  // namespace runtime::bench
