// SPDX-License-Identifier: Apache-2.0
#include "sentry/platform/launch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sys.h"

namespace sentry::platform {
namespace {

constexpr int kSocket = 3;

// In the child: only plain system calls, as other threads of the parent may hold any lock.
[[noreturn]] void become_zygote(int exe, int socket) {
  // Numbers out of the way of 3, then 3 itself; everything else is closed by the exec.
  int program = fcntl(exe, F_DUPFD_CLOEXEC, 10), end = fcntl(socket, F_DUPFD, 10);
  if (program < 0 || end < 0 || dup2(end, kSocket) < 0) _exit(127);
  syscall(SYS_close_range, 0, kSocket - 1, 0);
  syscall(SYS_close_range, kSocket + 1, ~0u, 1u << 2);  // CLOSE_RANGE_CLOEXEC
  // A limit of 1 (not 0) also keeps the host's core-dump helper from being run.
  rlimit core{1, 1};
  setrlimit(RLIMIT_CORE, &core);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  personality(ADDR_NO_RANDOMIZE);
  char name[] = "caisson-stub";
  char* argv[] = {name, nullptr};
  char* envp[] = {nullptr};
  syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH);
  _exit(127);
}

}  // namespace

Result<ZygoteProcess> launch_zygote(int exe) {
  auto pair = TRY(sys::socketpair(SOCK_SEQPACKET));
  long pid = TRY(sys::from_libc(::fork()));
  if (pid == 0) become_zygote(exe, pair.b.get());
  return ZygoteProcess{static_cast<int>(pid), std::move(pair.a)};
}

}  // namespace sentry::platform
