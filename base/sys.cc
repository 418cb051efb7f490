// SPDX-License-Identifier: Apache-2.0
// The one file that reads errno.
#include "base/sys.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

namespace base::sys {
namespace {

template <typename F>
auto retry(F&& f) {
  decltype(f()) r;
  do r = f();
  while (r < 0 && errno == EINTR);
  return r;
}
Errno last() { return Errno(errno > 0 ? errno : EIO); }
Result<size_t> count(ssize_t r) {
  if (r < 0) return last();
  return static_cast<size_t>(r);
}
Result<void> none(long r) {
  if (r < 0) return last();
  return {};
}
Result<Fd> fd(long r) {
  if (r < 0) return last();
  return Fd(static_cast<int>(r));
}
constexpr size_t kMaxFdsPerMessage = 64;

}  // namespace

Result<long> from_libc(long r) {
  if (r < 0) return last();
  return r;
}
Result<long> raw(long nr, long a, long b, long c, long d, long e, long f) {
  return from_libc(syscall(nr, a, b, c, d, e, f));
}

Result<size_t> read(int f, void* buf, size_t n) { return count(retry([&] { return ::read(f, buf, n); })); }
Result<size_t> write(int f, const void* buf, size_t n) {
  return count(retry([&] { return ::write(f, buf, n); }));
}
Result<size_t> pread(int f, void* buf, size_t n, int64_t off) {
  return count(retry([&] { return ::pread(f, buf, n, off); }));
}
Result<size_t> pwrite(int f, const void* buf, size_t n, int64_t off) {
  return count(retry([&] { return ::pwrite(f, buf, n, off); }));
}
Result<size_t> preadv2(int f, const iovec* v, int n, int64_t off, int flags) {
  return count(retry([&] { return ::preadv2(f, v, n, off, flags); }));
}
Result<size_t> pwritev2(int f, const iovec* v, int n, int64_t off, int flags) {
  return count(retry([&] { return ::pwritev2(f, v, n, off, flags); }));
}
Result<void> write_all(int f, const void* buf, size_t n) {
  auto* p = static_cast<const char*>(buf);
  while (n > 0) {
    size_t w = TRY(write(f, p, n));
    p += w;
    n -= w;
  }
  return {};
}
Result<std::string> read_all(int f, size_t limit) {
  std::string out;
  char buf[16384];
  for (;;) {
    size_t n = TRY(read(f, buf, sizeof buf));
    if (n == 0) return out;
    if (out.size() + n > limit) return kEFBIG;
    out.append(buf, n);
  }
}

Result<Fd> open(const char* path, int flags, unsigned mode) { return openat(AT_FDCWD, path, flags, mode); }
Result<Fd> openat(int dir, const char* path, int flags, unsigned mode) {
  return fd(retry([&] { return ::openat(dir, path, flags | O_CLOEXEC, mode); }));
}
Result<Fd> openat2(int dir, const char* path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  open_how how{.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
  // EAGAIN: a rename raced with the walk under RESOLVE_BENEATH; man 2 openat2 says to try again.
  for (int tries = 0;; tries++) {
    long r = syscall(SYS_openat2, dir, path, &how, sizeof how);
    if (r < 0 && (errno == EINTR || (errno == EAGAIN && tries < 32))) continue;
    return fd(r);
  }
}
// The raw call: the C library's fstat is newfstatat with an empty path, which a filter without path calls refuses.
Result<void> fstat(int f, struct stat* st) { return none(::syscall(SYS_fstat, f, st)); }
Result<void> ftruncate(int f, int64_t size) { return none(retry([&] { return ::ftruncate(f, size); })); }
Result<Fd> dup_cloexec(int f, int at_least) { return fd(::fcntl(f, F_DUPFD_CLOEXEC, at_least)); }
Result<Fd> memfd_create(const char* name, unsigned flags) { return fd(::memfd_create(name, flags | MFD_CLOEXEC)); }
Result<void> add_seals(int f, int seals) { return none(::fcntl(f, F_ADD_SEALS, seals)); }
Result<void> set_nonblocking(int f, bool on) {
  int flags = ::fcntl(f, F_GETFL);
  if (flags < 0) return last();
  return none(::fcntl(f, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

Result<void*> mmap(void* addr, size_t len, int prot, int flags, int f, int64_t off) {
  void* p = ::mmap(addr, len, prot, flags, f, off);
  if (p == MAP_FAILED) return last();
  return p;
}
Result<void> munmap(void* addr, size_t len) { return none(::munmap(addr, len)); }

Result<SocketPair> socketpair(int type) {
  int p[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, p) < 0) return last();
  return SocketPair{Fd(p[0]), Fd(p[1])};
}
Result<size_t> sendmsg(int f, const msghdr* m, int flags) {
  return count(retry([&] { return ::sendmsg(f, m, flags | MSG_NOSIGNAL); }));
}
Result<size_t> recvmsg(int f, msghdr* m, int flags) {
  return count(retry([&] { return ::recvmsg(f, m, flags | MSG_CMSG_CLOEXEC); }));
}

Result<void> send_fds(int sock, std::span<const std::byte> data, std::span<const int> fds, int flags) {
  if (fds.size() > kMaxFdsPerMessage) return kEINVAL;
  iovec iov{const_cast<std::byte*>(data.data()), data.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))] = {};
  msghdr m{};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  if (!fds.empty()) {
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  size_t n = TRY(sys::sendmsg(sock, &m, flags));
  if (n != data.size()) return kEMSGSIZE;
  return {};
}

Result<Received> recv_fds(int sock, std::span<std::byte> data, std::span<Fd> fds, int flags) {
  iovec iov{data.data(), data.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))];
  msghdr m{};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  size_t n = TRY(sys::recvmsg(sock, &m, flags));
  Received r{n, 0};
  bool too_many = false;
  for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < k; i++) {
      int one;
      memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof one);
      Fd owned(one);
      if (r.fd_count < fds.size()) fds[r.fd_count++] = std::move(owned);
      else too_many = true;
    }
  }
  if (too_many || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
    for (size_t i = 0; i < r.fd_count; i++) fds[i].reset();
    return kEMSGSIZE;
  }
  return r;
}

Result<Fd> epoll_create() { return fd(::epoll_create1(EPOLL_CLOEXEC)); }
Result<void> epoll_ctl(int ep, int op, int f, epoll_event* ev) { return none(::epoll_ctl(ep, op, f, ev)); }
Result<int> epoll_wait(int ep, epoll_event* ev, int max, int timeout_ms) {
  int r = ::epoll_wait(ep, ev, max, timeout_ms);
  if (r < 0) return last();
  return r;
}
Result<Fd> eventfd(unsigned init) { return fd(::eventfd(init, EFD_CLOEXEC | EFD_NONBLOCK)); }
Result<Fd> timerfd(int clock) { return fd(::timerfd_create(clock, TFD_CLOEXEC | TFD_NONBLOCK)); }

Result<Fd> pidfd_open(int pid) { return fd(syscall(SYS_pidfd_open, pid, 0)); }
Result<void> pidfd_send_signal(int pidfd, int sig) {
  return none(syscall(SYS_pidfd_send_signal, pidfd, sig, nullptr, 0));
}
Result<void> tgkill(int tgid, int tid, int sig) { return none(syscall(SYS_tgkill, tgid, tid, sig)); }

size_t max_open_files() {
  static const size_t limit = [] {
    struct rlimit l;
    return getrlimit(RLIMIT_NOFILE, &l) == 0 ? static_cast<size_t>(l.rlim_cur) : size_t{1024};
  }();
  return limit;
}

}  // namespace base::sys
