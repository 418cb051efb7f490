// SPDX-License-Identifier: Apache-2.0
// Host system calls as functions that answer a Result. errno is read in base/sys.cc alone. A call is added here
// when its first user comes. EINTR is retried where a retry is right (never for close or for waits that a
// signal must end).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

struct stat;
struct iovec;
struct msghdr;
struct epoll_event;

namespace base::sys {

// The result of a libc call that answers -1 and errno.
Result<long> from_libc(long r);
// A raw system call; for what has no wrapper below.
Result<long> raw(long nr, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0);

Result<size_t> read(int fd, void* buf, size_t n);
Result<size_t> write(int fd, const void* buf, size_t n);
Result<size_t> pread(int fd, void* buf, size_t n, int64_t off);
Result<size_t> pwrite(int fd, const void* buf, size_t n, int64_t off);
// RWF_NOWAIT and friends; a position of -1 uses the file's own.
Result<size_t> preadv2(int fd, const iovec* v, int n, int64_t off, int flags);
Result<size_t> pwritev2(int fd, const iovec* v, int n, int64_t off, int flags);
// Writes everything, or fails.
Result<void> write_all(int fd, const void* buf, size_t n);
Result<std::string> read_all(int fd, size_t limit);

Result<Fd> open(const char* path, int flags, unsigned mode = 0);
Result<Fd> openat(int dir, const char* path, int flags, unsigned mode = 0);
// openat2(2): flags, mode, RESOLVE_* bits.
Result<Fd> openat2(int dir, const char* path, uint64_t flags, uint64_t mode, uint64_t resolve);
Result<void> fstat(int fd, struct stat* st);
Result<void> ftruncate(int fd, int64_t size);
Result<Fd> dup_cloexec(int fd, int at_least = 0);
Result<Fd> memfd_create(const char* name, unsigned flags);
Result<void> add_seals(int fd, int seals);
Result<void> set_nonblocking(int fd, bool on);

// Protection and flags as mmap(2). Unmapping is the caller's.
Result<void*> mmap(void* addr, size_t len, int prot, int flags, int fd, int64_t off);
Result<void> munmap(void* addr, size_t len);

struct SocketPair { Fd a, b; };
Result<SocketPair> socketpair(int type);
Result<size_t> sendmsg(int fd, const msghdr* m, int flags);
Result<size_t> recvmsg(int fd, msghdr* m, int flags);
// One record with descriptors (SCM_RIGHTS).
Result<void> send_fds(int sock, std::span<const std::byte> data, std::span<const int> fds, int flags = 0);
struct Received {
  size_t size = 0;    // bytes stored
  size_t fd_count = 0;
};
// Receives one record and at most fds.size() descriptors; a truncated record or too many descriptors is
// EMSGSIZE, and whatever arrived is closed. size 0 and no descriptor: the peer closed.
Result<Received> recv_fds(int sock, std::span<std::byte> data, std::span<Fd> fds, int flags = 0);

Result<Fd> epoll_create();
Result<void> epoll_ctl(int ep, int op, int fd, epoll_event* ev);
Result<int> epoll_wait(int ep, epoll_event* ev, int max, int timeout_ms);
Result<Fd> eventfd(unsigned init);
Result<Fd> timerfd(int clock);

Result<Fd> pidfd_open(int pid);
Result<void> pidfd_send_signal(int pidfd, int sig);
Result<void> tgkill(int tgid, int tid, int sig);

// RLIMIT_NOFILE of this process as it was at the first call: a filter may not let it be asked later.
size_t max_open_files();

}  // namespace base::sys
