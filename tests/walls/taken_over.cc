// SPDX-License-Identifier: Apache-2.0
// A sentry or gofer in an attacker's hands, by the name it is started under: after the runtime's real set-up it tries calls, each
// in a child, once without and once behind the real filter, and writes a line for each to the log. Started with "control", it
// tries the same where nothing confines it. Lines: "NAME plain=RESULT behind=RESULT"; a result is a number (-errno) or "killed".
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "base/sys.h"
#include "base/wire/control.h"
#include "seccomp-profiles/gofer.h"
#include "seccomp-profiles/install.h"
#include "seccomp-profiles/sentry.h"
#include "seccomp-profiles/sentry_sockets.h"

namespace {

const seccomp_profiles::Program* filter;
int report = 1;
bool control;

int control_socket = -1;

long result(long r) { return r < 0 ? -errno : r; }

// What a child of this process comes to.
template <typename F>
std::string in_child(bool filtered, F f) {
  auto* out = static_cast<long*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t child = fork();
  if (child == 0) {
    if (filtered && !seccomp_profiles::install(*filter, 0).ok()) _exit(99);
    *out = f();
    syscall(SYS_exit_group, 0);
  }
  if (child < 0) return "nofork" + std::to_string(errno);
  int status = 0;
  for (int i = 0; i < 400 && waitpid(child, &status, WNOHANG) == 0; i++) usleep(5000);
  if (kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && !WIFEXITED(status)) return "endless";
  long r = *out;
  munmap(out, 4096);
  if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGSYS ? "killed" : "signal" + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return "exit" + std::to_string(WEXITSTATUS(status));
  return std::to_string(r);
}

void say(const std::string& line) {
  std::string s = line + "\n";
  if (write(report, s.data(), s.size()) < 0) _exit(98);
}

template <typename F>
void probe(const char* name, F f) {
  std::string plain = in_child(false, f), behind = control ? plain : in_child(true, f);
  say(std::string(name) + " plain=" + plain + " behind=" + behind);
}

long entries(const char* path) {
  DIR* d = opendir(path);
  if (!d) return -errno;
  long n = -2;
  while (readdir(d)) n++;
  return n;
}

long other_processes() {
  long n = 0;
  for (int pid = 1; pid < 100000; pid++)
    if (pid != getpid() && pid != getppid() && (kill(pid, 0) == 0 || errno == EPERM)) n++;
  return n;
}

long capabilities() {
  __user_cap_header_struct h{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct d[2]{};
  if (syscall(SYS_capget, &h, d) != 0) return -errno;
  long n = 0;
  for (auto& x : d) n += __builtin_popcount(x.effective | x.permitted | x.inheritable);
  return n;
}

long loopback_is_up() {
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  if (s < 0) return -errno;
  ifreq r{};
  strcpy(r.ifr_name, "lo");
  if (ioctl(s, SIOCGIFFLAGS, &r) != 0) return -errno;
  return (r.ifr_flags & IFF_UP) != 0;
}

long can_make(int family, int type, int protocol) {
  return result(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)) >= 0 ? 0 : -long{errno};
}

sockaddr_un abstract_name() {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  memcpy(a.sun_path + 1, "caisson-walls", 13);
  return a;
}

// Sockets, as a sentry that may have some could want them.
void sockets() {
  probe("tcp_of_its_own", [] { return can_make(AF_INET, SOCK_STREAM, IPPROTO_TCP); });
  probe("udp_of_its_own", [] { return can_make(AF_INET6, SOCK_DGRAM, IPPROTO_UDP); });
  probe("socket_unix", [] { return can_make(AF_UNIX, SOCK_STREAM, 0); });
  probe("socket_netlink", [] { return can_make(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); });
  probe("socket_audit", [] { return can_make(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT); });
  probe("socket_packet", [] { return can_make(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)); });
  probe("socket_raw", [] { return can_make(AF_INET, SOCK_RAW, IPPROTO_ICMP); });
  probe("socket_alg", [] { return can_make(AF_ALG, SOCK_SEQPACKET, 0); });
  probe("socket_pair", [] {
    int v[2];
    return result(socketpair(AF_UNIX, SOCK_DGRAM, 0, v));
  });
  // Behind the filter that lets it have sockets of its own: what it may not do with those.
  auto on_tcp = [](auto f) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    return s < 0 ? -long{errno} : result(f(s));
  };
  probe("attach_filter", [&] {
    return on_tcp([](int s) {
      sock_filter code{BPF_RET | BPF_K, 0, 0, 0xffff};
      sock_fprog p{1, &code};
      return setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p);
    });
  });
  probe("upper_layer", [&] {
    return on_tcp([](int s) { return setsockopt(s, IPPROTO_TCP, 31 /* TCP_ULP */, "tls", 4) == 0 || errno == ENOTCONN ? 0 : -1; });
  });
  probe("list_interfaces", [&] {
    return on_tcp([](int s) {
      ifconf c{};
      return ioctl(s, SIOCGIFCONF, &c);
    });
  });
  // Nor with the sockets that it was given.
  if (control_socket >= 0) {
    probe("given_connect", [] {
      sockaddr_un a = abstract_name();
      return result(connect(control_socket, reinterpret_cast<sockaddr*>(&a), sizeof(sa_family_t) + 14));
    });
    probe("given_bind", [] {
      sockaddr_un a = abstract_name();
      a.sun_path[3] = '!';
      return result(bind(control_socket, reinterpret_cast<sockaddr*>(&a), sizeof(sa_family_t) + 14));
    });
    probe("given_listen", [] { return result(listen(control_socket, 1)); });
  }
}

void both_roles() {
  probe("ptrace", [] { return result(ptrace(PTRACE_SEIZE, 1, 0, 0)); });
  probe("mount", [] {
    if (unshare(CLONE_NEWNS) != 0) return -long{errno};
    return result(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  });
  probe("unshare_user", [] { return result(unshare(CLONE_NEWUSER)); });
  probe("unshare_pid", [] { return result(unshare(CLONE_NEWPID)); });
  probe("chroot", [] { return result(chroot("/")); });
  probe("setns", [] { return result(syscall(SYS_setns, 0, 0)); });
  probe("exec", [] {
    char name[] = "true";
    char* argv[] = {name, nullptr};
    return result(execve("/bin/true", argv, nullptr));
  });
  probe("fork", [] {
    pid_t p = static_cast<pid_t>(syscall(SYS_fork));
    if (p == 0) syscall(SYS_exit_group, 0);
    return result(p > 0 ? 0 : p);
  });
  probe("socket_inet", [] { return result(socket(AF_INET, SOCK_STREAM, 0)) >= 0 ? 0 : -long{errno}; });
  probe("kill_all", [] { return result(kill(-1, 0)); });
  probe("setuid_other", [] { return result(syscall(SYS_setuid, 1)); });
  probe("memory_executable", [] {
    return mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -long{errno} : 0;
  });
  probe("io_uring", [] { return result(syscall(SYS_io_uring_setup, 1, nullptr)); });
}

// Each number that has no rule, and x32 and i386 besides.
void every_number() {
  std::set<unsigned> named;
  for (unsigned i = 0; i < filter->rule_count; i++) named.insert(filter->rules[i].number);
  long killed = 0, wrong = 0;
  for (unsigned nr = 0; nr < 480; nr++) {
    if (named.contains(nr) || nr == 335 || nr == 336) continue;  // uretprobe, uprobe: not shown to filters
    std::string r = in_child(true, [nr] { return syscall(nr, 0, 0, 0, 0, 0, 0); });
    if (r == "killed") killed++;
    else wrong++, say("unexpected number " + std::to_string(nr) + " " + r);
  }
  for (unsigned nr : named)
    if (in_child(true, [nr] { return syscall(0x40000000l | nr, 0, 0, 0, 0, 0, 0); }) != "killed") wrong++;
  for (long nr : {1, 3, 4, 5, 11, 20, 102, 120})
    if (in_child(true, [nr] {
          long r = nr;
          asm volatile("int $0x80" : "+a"(r) : "b"(0), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
          return r;
        }) != "killed") wrong++;
  say("numbers killed=" + std::to_string(killed) + " wrong=" + std::to_string(wrong) + " named=" + std::to_string(named.size()));
}

void sentry() {
  probe("open_passwd", [] { return result(open("/etc/passwd", O_RDONLY)) >= 0 ? 0 : -long{errno}; });
  probe("root_entries", [] { return entries("/"); });
  probe("proc_entries", [] { return entries("/proc"); });
  probe("create_file", [] {
    long r = result(open("/caisson-walls-probe", O_CREAT | O_WRONLY, 0600));
    if (r >= 0) unlink("/caisson-walls-probe");
    return r >= 0 ? 0 : r;
  });
  probe("capabilities", capabilities);
  probe("other_processes", other_processes);
  probe("loopback_is_up", loopback_is_up);
  probe("host_abstract_socket", [] {
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un a = abstract_name();
    return result(connect(s, reinterpret_cast<sockaddr*>(&a), sizeof(sa_family_t) + 14));
  });
  probe("sysv_shm", [] { return result(shmget(0xca155, 4096, 0)) >= 0 ? 0 : -long{errno}; });
}

long open_plainly(const char* path, uint64_t flags) {
  struct { uint64_t flags, mode, resolve; } how{flags, 0, 0};  // an attacker asks for no RESOLVE_BENEATH
  long r = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
  return r < 0 ? -errno : 0;
}

void gofer(const char* tree) {
  auto at = [tree](const char* name) { return std::string(tree) + name; };
  static std::string inside = at("/inside"), absolute = at("/absolute"), up = at("/up"), device = at("/null"),
                     made = at("/made"), back = at("/../../../../../../../../tmp/caisson-walls-secret");
  probe("open_inside", [] { return open_plainly(inside.c_str(), O_RDONLY); });
  probe("open_absolute_link", [] { return open_plainly(absolute.c_str(), O_RDONLY); });
  probe("open_link_up", [] { return open_plainly(up.c_str(), O_RDONLY); });
  probe("open_dotdot", [] { return open_plainly(back.c_str(), O_RDONLY); });
  probe("open_secret", [] { return open_plainly("/tmp/caisson-walls-secret", O_RDONLY); });
  probe("open_proc_fd", [] { return open_plainly("/proc/self/fd/0", O_PATH); });
  probe("open_proc_exe", [] { return open_plainly("/proc/self/exe", O_PATH); });
  probe("open_device", [] { return open_plainly(device.c_str(), O_RDWR); });
  probe("open_dev_null", [] { return open_plainly("/dev/null", O_RDWR); });
  probe("make_device", [] { return result(mknodat(AT_FDCWD, made.c_str(), S_IFCHR | 0600, makedev(1, 3))); });
  probe("old_open", [] { return result(syscall(SYS_openat, AT_FDCWD, inside.c_str(), O_RDONLY)) >= 0 ? 0 : -long{errno}; });
}

// The descriptor of the log comes with the boot message.
void take_boot_message(int fd) {
  std::vector<std::byte> buf(base::wire::kMaxRecord);
  std::vector<base::Fd> fds(base::wire::kMaxRecordFds);
  auto got = base::sys::recv_fds(fd, buf, fds);
  if (!got.ok()) _exit(97);
  auto boot = base::wire::decode<base::wire::Boot>(std::span(buf).first(got->size));
  if (!boot.ok() || !boot->has_log || got->fd_count < 2) _exit(96);
  report = fds[1].release();
  control_socket = fd;
  if (boot->host_sockets) filter = &seccomp_profiles::sentry_sockets::kProgram;
}

}  // namespace

int main(int argc, char** argv) {
  std::string name = argv[0];
  name = name.substr(name.rfind('/') + 1);
  if (argc > 2 && strcmp(argv[1], "control") == 0) {
    control = true;
    name = argv[2];
  }
  const bool is_sentry = name == "caisson-sentry";
  filter = is_sentry ? &seccomp_profiles::sentry::kProgram : &seccomp_profiles::gofer::kProgram;
  if (!control && is_sentry) take_boot_message(atoi(argv[1]));
  if (!control && !is_sentry) report = atoi(argv[2]);
  seccomp_profiles::prepare_libc();
  say("begin " + name);
  if (is_sentry) sentry(), sockets();
  else gofer(control ? argv[3] : "/0");
  both_roles();
  if (!control) every_number();
  say("end " + name);
  return 70;
}
