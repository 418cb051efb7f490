// SPDX-License-Identifier: Apache-2.0
// See world.h.
#include "runtime/testing/world.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace {

void add(std::string& out, const char* key, long long v) { out += std::string(key) + "=" + std::to_string(v) + "\n"; }
void add(std::string& out, const char* key, const std::string& v) { out += std::string(key) + "=" + v + "\n"; }

std::string list_directory(const char* path) {
  DIR* d = ::opendir(path);
  if (!d) return "errno " + std::to_string(errno);
  std::vector<std::string> names;
  while (dirent* e = ::readdir(d)) {
    std::string n = e->d_name;
    if (n != "." && n != "..") names.push_back(n);
  }
  ::closedir(d);
  std::sort(names.begin(), names.end());
  std::string out;
  for (auto& n : names) out += (out.empty() ? "" : ",") + n;
  return out;
}

}  // namespace

std::string describe_world(int argc, char** argv) {
  std::string out;
  std::string args;
  for (int i = 0; i < argc; i++) args += (i ? " " : "") + std::string(argv[i]);
  add(out, "argv", args);
  int vars = 0;
  for (char** e = environ; *e; e++) vars++;
  add(out, "env", vars);
  add(out, "uid", ::getuid());
  add(out, "gid", ::getgid());
  add(out, "pid", ::getpid());
  add(out, "ppid", ::getppid());
  add(out, "groups", ::getgroups(0, nullptr));
  __user_cap_header_struct h{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct d[2] = {};
  ::syscall(SYS_capget, &h, d);
  add(out, "cap_permitted", static_cast<long long>(d[0].permitted | uint64_t{d[1].permitted} << 32));
  add(out, "cap_effective", static_cast<long long>(d[0].effective | uint64_t{d[1].effective} << 32));
  unsigned long long bounding = 0;
  for (int c = 0; c < 64; c++) {
    if (::prctl(PR_CAPBSET_READ, c) == 1) bounding |= 1ULL << c;
  }
  add(out, "cap_bounding", static_cast<long long>(bounding));
  add(out, "no_new_privs", ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  add(out, "dumpable", ::prctl(PR_GET_DUMPABLE));
  rlimit l{};
  ::getrlimit(RLIMIT_CORE, &l);
  add(out, "core", std::to_string(l.rlim_cur) + "/" + std::to_string(l.rlim_max));
  ::getrlimit(RLIMIT_NOFILE, &l);
  add(out, "nofile", std::to_string(l.rlim_cur) + "/" + std::to_string(l.rlim_max));
  std::string fds;
  for (int i = 0; i < 1024; i++) {
    if (::fcntl(i, F_GETFD) >= 0) fds += (fds.empty() ? "" : ",") + std::to_string(i);
  }
  add(out, "fds", fds);
  add(out, "root", list_directory("/"));
  ::close(::open("/probe", O_CREAT | O_WRONLY, 0600));
  int fd = ::open("/probe", O_CREAT | O_WRONLY, 0600);
  add(out, "root_write_errno", fd < 0 ? errno : 0);
  timespec ts{};
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  add(out, "monotonic", ts.tv_sec);
  ::clock_gettime(CLOCK_BOOTTIME, &ts);
  add(out, "boottime", ts.tv_sec);
  add(out, "personality", ::personality(0xffffffff));
  sigset_t s;
  ::sigprocmask(SIG_SETMASK, nullptr, &s);
  int blocked = 0;
  for (int i = 1; i < 65; i++) blocked += sigismember(&s, i) == 1;
  add(out, "blocked", blocked);
  struct sigaction pipe_action{};
  ::sigaction(SIGPIPE, nullptr, &pipe_action);
  add(out, "sigpipe_ignored", pipe_action.sa_handler == SIG_IGN);
  return out;
}
