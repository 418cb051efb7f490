// SPDX-License-Identifier: Apache-2.0
// Constants are listed when a profile first needs them. Those that the build's headers may lack have their value
// here, from the kernel's uapi headers.
#include "seccomp-profiles/compiler/names.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/ioctl.h>
#include <linux/membarrier.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <map>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#define MFD_EXEC 0x0010U
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

namespace seccomp_profiles::compiler {
namespace {

const std::map<std::string, std::uint64_t>& constants() {
#define C(name) {#name, static_cast<std::uint64_t>(name)},
  static const std::map<std::string, std::uint64_t> table = {
      C(EPERM) C(EACCES) C(ENOSYS) C(EINVAL) C(ENOTTY)
      C(PROT_READ) C(PROT_WRITE) C(PROT_EXEC)
      C(MAP_SHARED) C(MAP_PRIVATE) C(MAP_FIXED) C(MAP_ANONYMOUS) C(MAP_NORESERVE) C(MAP_STACK) C(MAP_POPULATE)
      C(MAP_FIXED_NOREPLACE) C(MAP_HUGETLB)
      C(MADV_NORMAL) C(MADV_RANDOM) C(MADV_SEQUENTIAL) C(MADV_WILLNEED) C(MADV_DONTNEED) C(MADV_FREE)
      C(MADV_HUGEPAGE) C(MADV_NOHUGEPAGE) C(MADV_COLD) C(MADV_POPULATE_READ) C(MADV_POPULATE_WRITE)
      C(MADV_DONTFORK) C(MADV_DONTDUMP)
      C(MREMAP_MAYMOVE) C(MREMAP_FIXED)
      C(FUTEX_WAIT) C(FUTEX_WAKE) C(FUTEX_WAIT_BITSET) C(FUTEX_WAKE_BITSET) C(FUTEX_REQUEUE) C(FUTEX_CMP_REQUEUE)
      C(FUTEX_LOCK_PI) C(FUTEX_UNLOCK_PI) C(FUTEX_PRIVATE_FLAG) C(FUTEX_CLOCK_REALTIME)
      C(MEMBARRIER_CMD_QUERY) C(MEMBARRIER_CMD_PRIVATE_EXPEDITED) C(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
      C(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE) C(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)
      C(CLOCK_REALTIME) C(CLOCK_MONOTONIC) C(CLOCK_BOOTTIME) C(CLOCK_THREAD_CPUTIME_ID)
      C(CLONE_VM) C(CLONE_FS) C(CLONE_FILES) C(CLONE_SIGHAND) C(CLONE_THREAD) C(CLONE_SYSVSEM) C(CLONE_SETTLS)
      C(CLONE_PARENT) C(CLONE_PARENT_SETTID) C(CLONE_CHILD_CLEARTID) C(SIGCHLD) C(SIGABRT)
      C(MFD_CLOEXEC) C(MFD_ALLOW_SEALING) C(MFD_NOEXEC_SEAL) C(MFD_EXEC) C(MFD_HUGETLB)
      C(F_DUPFD) C(F_DUPFD_CLOEXEC) C(F_GETFD) C(F_SETFD) C(F_GETFL) C(F_SETFL) C(F_ADD_SEALS) C(F_GET_SEALS)
      C(F_OFD_GETLK) C(F_OFD_SETLK) C(F_OFD_SETLKW) C(F_GETLK) C(F_SETLK) C(F_SETLKW)
      C(AF_UNIX) C(SOCK_STREAM) C(SOCK_SEQPACKET) C(SOCK_DGRAM) C(SOCK_CLOEXEC) C(SOCK_NONBLOCK)
      C(AT_EMPTY_PATH) C(AT_SYMLINK_NOFOLLOW) C(AT_REMOVEDIR) C(AT_FDCWD)
      C(EFD_CLOEXEC) C(EFD_NONBLOCK) C(EPOLL_CLOEXEC) C(TFD_CLOEXEC) C(TFD_NONBLOCK)
      C(P_PID) C(P_PIDFD) C(WEXITED) C(WNOHANG) C(WNOWAIT)
      C(TCGETS) C(TCSETS) C(TCSETSW) C(TCSETSF) C(TIOCGWINSZ) C(TIOCSWINSZ) C(FIONREAD) C(FIONBIO) C(FIOCLEX)
      C(SECCOMP_IOCTL_NOTIF_RECV) C(SECCOMP_IOCTL_NOTIF_SEND) C(SECCOMP_IOCTL_NOTIF_ID_VALID)
      C(SECCOMP_IOCTL_NOTIF_ADDFD) C(SECCOMP_IOCTL_NOTIF_SET_FLAGS)
  };
#undef C
  return table;
}

}  // namespace

std::optional<std::uint32_t> find_call(const std::string& name) {
  int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name.c_str());
  // Negative numbers are libseccomp's own, for calls that this architecture does not have.
  if (nr < 0) return std::nullopt;
  return static_cast<std::uint32_t>(nr);
}

std::optional<std::uint64_t> find_constant(const std::string& name) {
  auto it = constants().find(name);
  if (it == constants().end()) return std::nullopt;
  return it->second;
}

}  // namespace seccomp_profiles::compiler
