// SPDX-License-Identifier: Apache-2.0
// The processor and the calls of the host's kernel. What changes the calling process for good is tried in a child.
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <linux/time_types.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "base/sys.h"
#include "runtime/doctor/doctor.h"
#include "runtime/host/launch.h"
#include "runtime/host/proc.h"
#include "runtime/host/spawn.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

namespace runtime::doctor {

namespace sys = base::sys;

namespace {

constexpr const char* kNewer = "run a kernel of 6.1 or later";

bool answers(long nr, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  auto r = sys::raw(nr, a, b, c, d, e, f);
  return r.ok() || !(r.error() == base::kENOSYS);
}

long ptr(const void* p) { return reinterpret_cast<long>(p); }

// The answer of fn, run in a child of its own: 0, or what went wrong.
int in_child(const std::function<int()>& fn) {
  fflush(stdout);
  auto pid = host::clone_process({});
  if (!pid.ok()) return EAGAIN;
  if (*pid == 0) ::_exit(fn());
  int status = host::reap(*pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

// Bits of what notifications can do here.
enum : int { kNoFilter = 1, kNoListener = 2, kNoAddFd = 4, kNoSyncWakeUp = 8 };

int try_notifications() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return kNoFilter;
  sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program{1, allow};
  auto plain = sys::raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, ptr(&program));
  if (!plain.ok()) return kNoFilter;
  auto listener = sys::raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, ptr(&program));
  if (!listener.ok()) return kNoListener;
  int missing = 0;
  seccomp_notif_addfd add{};
  add.id = 1;  // there is no such notification: ENOENT says that all the rest was understood
  add.flags = SECCOMP_ADDFD_FLAG_SEND;
  add.srcfd = 0;
  if (::ioctl(static_cast<int>(*listener), SECCOMP_IOCTL_NOTIF_ADDFD, &add) == 0 || errno != ENOENT) missing |= kNoAddFd;
  constexpr unsigned long kSyncWakeUp = 1;
  if (::ioctl(static_cast<int>(*listener), SECCOMP_IOCTL_NOTIF_SET_FLAGS, kSyncWakeUp) != 0) missing |= kNoSyncWakeUp;
  return missing;
}

bool action_available(uint32_t action) { return sys::raw(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, ptr(&action)).ok(); }

void look_at_seccomp(Findings& out) {
  std::string missing;
  for (auto [action, name] : {std::pair{SECCOMP_RET_TRAP, "TRAP"}, {SECCOMP_RET_USER_NOTIF, "USER_NOTIF"}, {SECCOMP_RET_ERRNO, "ERRNO"},
                              {SECCOMP_RET_KILL_PROCESS, "KILL_PROCESS"}}) {
    if (!action_available(action)) missing += std::string(missing.empty() ? "" : ", ") + name;
  }
  int no = in_child(try_notifications);
  if (!missing.empty() || (no & (kNoFilter | kNoListener))) {
    out.push_back({"seccomp", Status::fail, "filters with notifications are not possible" + (missing.empty() ? "" : " (actions missing: " + missing + ")"),
                   "run a kernel with CONFIG_SECCOMP_FILTER, and, in a container, under a profile that allows seccomp(2) with a listener"});
  } else if (no & kNoAddFd) {
    out.push_back({"seccomp", Status::fail, "SECCOMP_IOCTL_NOTIF_ADDFD with SECCOMP_ADDFD_FLAG_SEND is missing", kNewer});
  } else {
    out.push_back({"seccomp", Status::ok, "filters, notifications, descriptors by notification", ""});
  }
  bool wakes = !(no & (kNoFilter | kNoListener | kNoSyncWakeUp));
  out.push_back({"seccomp-wake-up", wakes ? Status::ok : Status::warn,
                 wakes ? "notifications wake on the same processor" : "SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP is missing: calls that trap are slower",
                 wakes ? "" : "run a kernel of 6.6 or later for speed"});
}

void look_at_calls(Findings& out) {
  std::string missing;
  auto need = [&](const char* name, bool there) {
    if (!there) missing += std::string(missing.empty() ? "" : ", ") + name;
  };
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  int here = ::open("/", O_PATH | O_CLOEXEC | O_DIRECTORY);
  auto opened = sys::raw(SYS_openat2, here, ptr("."), ptr(&how), sizeof how);
  need("openat2 with RESOLVE_BENEATH", opened.ok());
  if (opened.ok()) ::close(static_cast<int>(*opened));
  ::close(here);
  constexpr unsigned kNowhere = 1u << 30;
  need("close_range", sys::raw(SYS_close_range, kNowhere, kNowhere, 4 /* CLOSE_RANGE_CLOEXEC */).ok());
  int m = ::memfd_create("caisson-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  need("memfd_create with seals (see vm.memfd_noexec)", m >= 0 && ::fcntl(m, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  if (m >= 0) ::close(m);
  auto p = sys::pidfd_open(::getpid());
  need("pidfd_open", p.ok());
  need("pidfd_send_signal", p.ok() && sys::pidfd_send_signal(p->get(), 0).ok());
  need("clone3", answers(SYS_clone3));
  need("fsopen", answers(SYS_fsopen, 0, -1));
  need("fsmount", answers(SYS_fsmount, -1));
  need("open_tree", answers(SYS_open_tree, -1, 0, -1));
  need("move_mount", answers(SYS_move_mount, -1, 0, -1, 0, -1));
  need("mount_setattr", answers(SYS_mount_setattr, -1));
  need("statx", answers(SYS_statx, -1, 0, -1));
  need("renameat2", answers(SYS_renameat2, -1, 0, -1, 0, 64));
  need("membarrier", answers(SYS_membarrier));
  need("process_vm_readv", answers(SYS_process_vm_readv, ::getpid()));
  if (missing.empty()) out.push_back({"system-calls", Status::ok, "all that sentry, gofer and runtime make of the newer ones", ""});
  else out.push_back({"system-calls", Status::fail, "missing or refused: " + missing, base::format("{}; in a container, allow them", kNewer)});
}

}  // namespace

void look_at_kernel(Findings& out) {
  utsname u{};
  ::uname(&u);
  int major = 0, minor = 0;
  sscanf(u.release, "%d.%d", &major, &minor);
  bool new_enough = major > 6 || (major == 6 && minor >= 1);
  out.push_back({"kernel", new_enough ? Status::ok : Status::warn, base::format("{} {}", u.sysname, u.release),
                 new_enough ? "" : "Caisson is made for and tested with 6.1 and later"});

  std::string missing = strcmp(u.machine, "x86_64") == 0 ? "" : base::format("amd64 (this is {})", u.machine);
  constexpr unsigned long kFsGsBase = 2;  // of AT_HWCAP2
  if (!(::getauxval(AT_HWCAP2) & kFsGsBase)) missing += std::string(missing.empty() ? "" : ", ") + "FSGSBASE enabled by the kernel";
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) missing += std::string(missing.empty() ? "" : ", ") + "XSAVE";
  if (missing.empty()) out.push_back({"processor", Status::ok, "amd64 with FSGSBASE and XSAVE", ""});
  else out.push_back({"processor", Status::fail, "missing: " + missing, "use another machine, or, for a virtual one, another CPU model; boot without nofsgsbase"});
  look_at_calls(out);
  look_at_seccomp(out);
}

void look_at_namespaces(Findings& out) {
  bool root = ::geteuid() == 0;
  std::string missing;
  struct {
    const char* name;
    unsigned long flag;
  } const kinds[] = {{"mnt", CLONE_NEWNS}, {"pid", CLONE_NEWPID}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
                     {"net", CLONE_NEWNET}, {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME}};
  int user = in_child([] { return sys::raw(SYS_unshare, CLONE_NEWUSER).ok() ? 0 : errno ? errno : EPERM; });
  if (user != 0) {
    auto limit = host::read_file("/proc/sys/user/max_user_namespaces");
    auto debian = host::read_file("/proc/sys/kernel/unprivileged_userns_clone");
    auto armor = host::read_file("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    std::string advice = "allow them: sysctl user.max_user_namespaces=65536";
    if (debian.ok() && debian->front() == '0' && !root) advice += ", kernel.unprivileged_userns_clone=1";
    if (armor.ok() && armor->front() == '1' && !root) advice += ", kernel.apparmor_restrict_unprivileged_userns=0";
    out.push_back({"user-namespaces", Status::fail,
                   base::format("cannot be made: {}{}", strerror(user), limit.ok() ? " (user.max_user_namespaces = " + limit->substr(0, limit->find('\n')) + ")" : ""), advice});
  } else {
    out.push_back({"user-namespaces", Status::ok, "can be made", ""});
  }
  for (auto& k : kinds) {
    int e = in_child([&] {
      if (!root && !sys::raw(SYS_unshare, CLONE_NEWUSER).ok()) return EPERM;
      return sys::raw(SYS_unshare, static_cast<long>(k.flag)).ok() ? 0 : errno ? errno : EPERM;
    });
    if (e) missing += base::format("{}{} ({})", missing.empty() ? "" : ", ", k.name, strerror(e));
  }
  if (missing.empty()) out.push_back({"namespaces", Status::ok, "mnt, pid, ipc, uts, net, cgroup and time can be made", ""});
  else out.push_back({"namespaces", Status::fail, "cannot be made: " + missing, "raise max_*_namespaces in /proc/sys/user; in a container, give CAP_SYS_ADMIN"});
  if (!root) {
    out.push_back({"privileges", Status::warn, "not run as root: what follows is true of runs without root", "run `caisson doctor` as root to look at a node of a cluster"});
    return;
  }
  auto status = host::read_file("/proc/self/status");
  uint64_t have = 0;
  if (status.ok()) {
    size_t at = status->find("CapEff:");
    if (at != status->npos) have = strtoull(status->c_str() + at + 7, nullptr, 16);
  }
  struct {
    int number;
    const char* name;
  } const needed[] = {{0, "CHOWN"}, {1, "DAC_OVERRIDE"}, {2, "DAC_READ_SEARCH"}, {3, "FOWNER"}, {4, "FSETID"}, {5, "KILL"}, {6, "SETGID"},
                      {7, "SETUID"}, {18, "SYS_CHROOT"}, {21, "SYS_ADMIN"}, {31, "SETFCAP"}};
  std::string lacking;
  for (auto& n : needed) {
    if (!(have >> n.number & 1)) lacking += std::string(lacking.empty() ? "" : ", ") + "CAP_" + n.name;
  }
  constexpr int kSysResource = 24;
  if (!lacking.empty()) out.push_back({"privileges", Status::fail, "root without " + lacking, "run as full root (in a container: privileged)"});
  else if (host::in_user_namespace()) out.push_back({"privileges", Status::warn, "root of a user namespace: containers run under its own ids, without ids of their own", ""});
  else if (!(have >> kSysResource & 1)) out.push_back({"privileges", Status::warn, "root without CAP_SYS_RESOURCE: the sentry cannot be kept from the out-of-memory killer", "give CAP_SYS_RESOURCE (for containerd: or set restrict_oom_score_adj)"});
  else out.push_back({"privileges", Status::ok, "root with all that is needed", ""});
}

}  // namespace runtime::doctor
