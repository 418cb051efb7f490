// SPDX-License-Identifier: Apache-2.0
// The filters of sentry and gofer against tables of allowed and refused calls.
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <map>
#include <set>

#include "seccomp-profiles/filter_test_util.h"
#include "seccomp-profiles/gofer.h"
#include "seccomp-profiles/sentry.h"
#include "seccomp-profiles/sentry_sockets.h"

#ifndef MFD_EXEC
#define MFD_NOEXEC_SEAL 8U
#define MFD_EXEC 0x10U
#endif

namespace seccomp_profiles {
namespace {

constexpr const Program& kSentry = sentry::kProgram;
constexpr const Program& kSockets = sentry_sockets::kProgram;
constexpr const Program& kGofer = gofer::kProgram;
constexpr U64 kAny = 0x7f0000001000;
const Args kTuples[] = {{}, {1, 1, 1, 1, 1, 1}, {2, kAny, 3, 0x22, ~0ull, 0}, {~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull},
                        {kAny, kAny, kAny, kAny, kAny, kAny}, {U64(AT_FDCWD), kAny, 0, 0, AT_EMPTY_PATH, 0}};

// Calls that take a path, make or open an object of the host by name, or change what the process is.
const unsigned kByPath[] = {
    SYS_open, SYS_openat, SYS_creat, SYS_stat, SYS_lstat, SYS_access, SYS_faccessat, SYS_execve, SYS_execveat, SYS_mkdir,
    SYS_rmdir, SYS_unlink, SYS_rename, SYS_renameat, SYS_link, SYS_symlink, SYS_readlink, SYS_chmod, SYS_chown, SYS_lchown,
    SYS_mknod, SYS_chdir, SYS_chroot, SYS_pivot_root, SYS_mount, SYS_umount2, SYS_truncate, SYS_statfs, SYS_utime,
    SYS_utimes, SYS_futimesat, SYS_setxattr, SYS_getxattr, SYS_listxattr, SYS_removexattr, SYS_name_to_handle_at,
    SYS_open_by_handle_at, SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fspick, SYS_inotify_add_watch, SYS_fanotify_mark,
    SYS_swapon, SYS_acct, SYS_uselib, SYS_quotactl, SYS_socket, SYS_bind, SYS_connect, SYS_listen, SYS_ptrace, SYS_bpf,
    SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter, SYS_keyctl, SYS_add_key, SYS_init_module,
    SYS_finit_module, SYS_kexec_load, SYS_unshare, SYS_setns, SYS_fork, SYS_vfork, SYS_prctl, SYS_seccomp, SYS_arch_prctl,
    SYS_setuid, SYS_setgid, SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_capset, SYS_kill, SYS_tkill, SYS_reboot,
    SYS_splice, SYS_vmsplice, SYS_tee, SYS_sendfile, SYS_shmget, SYS_msgget, SYS_semget, SYS_pidfd_getfd, SYS_kcmp,
    SYS_personality, SYS_syslog, SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_pkey_mprotect, SYS_remap_file_pages,
    SYS_memfd_secret, SYS_setrlimit, SYS_clock_settime, SYS_settimeofday, SYS_adjtimex};

TEST(SentryFilter, NoCallByPathAndNoneThatChangesTheProcess) {
  std::vector<unsigned> refused(std::begin(kByPath), std::end(kByPath));
  for (unsigned nr : {SYS_openat2, SYS_newfstatat, SYS_statx, SYS_readlinkat, SYS_mkdirat, SYS_unlinkat, SYS_linkat, SYS_symlinkat,
                      SYS_mknodat, SYS_fchmodat, SYS_fchownat, SYS_utimensat, SYS_renameat2, SYS_faccessat2, SYS_getdents64,
                      SYS_fchdir, SYS_llistxattr}) {
    refused.push_back(nr);
  }
  for (unsigned nr : refused) {
    for (const Args& a : kTuples) expect(kSentry, kKill, nr, a);
  }
}

TEST(SentryFilter, EveryNumberWithoutARuleEndsTheProcess) {
  for (const Program* p : {&kSentry, &kGofer}) {
    std::set<unsigned> named;
    for (unsigned i = 0; i < p->rule_count; ++i) named.insert(p->rules[i].number);
    EXPECT_LE(named.size(), 60u) << p->name << ": a wall of this many calls is none";
    for (unsigned nr = 0; nr < 1024; ++nr) {
      for (const Args& a : kTuples) {
        if (!named.count(nr)) expect(*p, kKill, nr, a);
        expect(*p, kKill, nr | 0x40000000u, a);
        seccomp_data d = call_of(nr, a);
        d.arch = 0x40000003;
        ASSERT_EQ(answer(*p, d), kKill);
      }
    }
  }
}

TEST(SentryFilter, NothingBecomesExecutable) {
  for (const Program* p : {&kSentry, &kGofer}) {
    for (U64 prot = 0; prot < 64; ++prot) {
      expect(*p, prot <= 3 ? kAllow : kKill, SYS_mmap, {0, 0x1000, prot, MAP_PRIVATE | MAP_ANONYMOUS, ~0ull, 0});
      expect(*p, prot <= 3 ? kAllow : kKill, SYS_mprotect, {kAny, 0x1000, prot, 0, 0, 0});
    }
    expect_both_halves(*p, kAllow, kKill, SYS_mmap, {0, 0x1000, 3, MAP_PRIVATE | MAP_ANONYMOUS, ~0ull, 0}, 0b1100);
    expect_both_halves(*p, kAllow, kKill, SYS_mprotect, {kAny, 0x1000, 3, 0, 0, 0}, 0b100);
    expect(*p, kKill, SYS_mmap, {0, 0x1000, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, ~0ull, 0});
    expect(*p, kKill, SYS_mmap, {0, 0x1000, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, ~0ull, 0});
  }
  expect(kSentry, kAllow, SYS_mmap, {0, 0x1000, 3, MAP_SHARED, 9, 0});
  expect(kSentry, kKill, SYS_mmap, {kAny, 0x1000, 3, MAP_SHARED | MAP_FIXED, 9, 0});
  expect(kGofer, kKill, SYS_mmap, {kAny, 0x1000, 3, MAP_SHARED, 9, 0});
}

TEST(SentryFilter, ThreadsButNoProcesses) {
  constexpr U64 kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS |
                          CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  expect_both_halves(kSentry, kAllow, kKill, SYS_clone, {kThread, kAny, kAny, kAny, kAny, 0}, 0b1);
  for (unsigned bit = 0; bit < 32; ++bit) expect(kSentry, kKill, SYS_clone, {kThread ^ U64{1} << bit, kAny, kAny, kAny, kAny, 0});
  expect(kSentry, kKill, SYS_clone, {SIGCHLD, 0, 0, 0, 0, 0});
  expect(kSentry, SECCOMP_RET_ERRNO | ENOSYS, SYS_clone3, {kAny, 88, 0, 0, 0, 0});
  expect(kGofer, kKill, SYS_clone, {kThread, kAny, kAny, kAny, kAny, 0});
  expect(kGofer, kKill, SYS_clone3, {kAny, 88, 0, 0, 0, 0});
}

// The sentry's whole list. Whoever adds to it says here what for; it does not grow by accident.
TEST(SentryFilter, ThePublishedListIsComplete) {
  const std::set<unsigned> published = {
      SYS_read, SYS_write, SYS_pread64, SYS_pwrite64, SYS_preadv2, SYS_pwritev2, SYS_close, SYS_fstat, SYS_lseek, SYS_ftruncate,
      SYS_fallocate, SYS_fsync, SYS_fdatasync, SYS_fcntl, SYS_ioctl,                           // files it was given
      SYS_memfd_create, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_brk, SYS_mremap, SYS_madvise,  // memory
      SYS_futex, SYS_epoll_pwait, SYS_epoll_ctl, SYS_poll, SYS_timerfd_settime, SYS_restart_syscall, SYS_sched_yield,
      SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_clock_gettime,                         // waiting
      SYS_clone, SYS_clone3, SYS_set_robust_list, SYS_rseq, SYS_exit, SYS_exit_group, SYS_rt_sigprocmask, SYS_rt_sigreturn,
      SYS_getpid, SYS_gettid,                                                                  // its own threads
      SYS_sendmsg, SYS_recvmsg, SYS_accept4,                                                   // gofers and the runtime
      SYS_tgkill, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_waitid, SYS_process_vm_readv, SYS_process_vm_writev,  // stubs
      SYS_move_pages,                                                                          // which pages are resident
      SYS_getrandom, SYS_getrusage};
  std::set<unsigned> named;
  for (unsigned i = 0; i < kSentry.rule_count; ++i) named.insert(kSentry.rules[i].number);
  EXPECT_EQ(named, published);
  // What a simpler call of the list replaces, and what only the start needs, which comes before the filter.
  for (unsigned nr : {SYS_dup, SYS_dup2, SYS_dup3, SYS_readv, SYS_writev, SYS_recvfrom, SYS_sendto, SYS_ppoll, SYS_epoll_wait,
                      SYS_epoll_pwait2, SYS_wait4, SYS_nanosleep, SYS_clock_nanosleep, SYS_sigaltstack, SYS_rt_sigaction,
                      SYS_uname, SYS_prlimit64, SYS_membarrier, SYS_flock, SYS_fadvise64, SYS_sync_file_range, SYS_socketpair,
                      SYS_eventfd2, SYS_timerfd_create, SYS_timerfd_gettime, SYS_epoll_create1, 462 /* mseal */}) {
    for (const Args& a : kTuples) expect(kSentry, kKill, nr, a);
  }
}

TEST(SentryFilter, ClosedListsOfCommands) {
  const std::set<U64> fcntls = {F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, F_ADD_SEALS};
  for (U64 cmd = 0; cmd < 2048; ++cmd) {
    expect(kSentry, fcntls.count(cmd) ? kAllow : kKill, SYS_fcntl, {4, cmd, 0, 0, 0, 0});
    expect(kSentry, kKill, SYS_fcntl, {4, cmd | 1ull << 32, 0, 0, 0, 0});
  }
  for (U64 request : {0xc0502100ull, 0xc0182101ull, 0x40082102ull, 0x40182103ull, 0x40082104ull, 0x5401ull, 0x541bull}) {
    expect_both_halves(kSentry, kAllow, kKill, SYS_ioctl, {5, request, kAny, 0, 0, 0}, 0b10);
  }
  for (U64 request : {0x5412ull /* TIOCSTI */, 0x541cull /* TIOCLINUX */, 0x540eull /* TIOCSCTTY */, 0x540full, 0x5410ull,
                      0x5402ull, 0x5403ull, 0x5404ull, 0x5413ull, 0x5414ull /* settings and size of terminals */,
                      0x5422ull /* TIOCNOTTY */, 0x5423ull, 0xae00ull, 0x9409ull /* FICLONE */, 0x8912ull /* SIOCGIFCONF */,
                      0x400454caull /* TUNSETIFF */, 0ull}) {
    expect(kSentry, kKill, SYS_ioctl, {5, request, kAny, 0, 0, 0});
    expect(kGofer, kKill, SYS_ioctl, {5, request, kAny, 0, 0, 0});
  }
  for (U64 advice = 0; advice < 128; ++advice) {
    const std::set<U64> ok = {4, 8, 15, 102 /* MADV_GUARD_INSTALL */};
    expect(kSentry, ok.count(advice) ? kAllow : kKill, SYS_madvise, {kAny, 0x1000, advice, 0, 0, 0});
  }
  const std::set<U64> futexes = {FUTEX_WAIT, FUTEX_WAKE, 128, 129, 137, 265, 393};
  for (U64 op = 0; op < 1024; ++op) {
    expect(kSentry, futexes.count(op) ? kAllow : kKill, SYS_futex, {kAny, op, 0, 0, 0, 0});
    expect(kSentry, kKill, SYS_futex, {kAny, op | 1ull << 32, 0, 0, 0, 0});
  }
  const U64 anon = MAP_PRIVATE | MAP_ANONYMOUS;
  for (U64 flags = 0; flags < 0x200000; flags = flags < 0x100 ? flags + 1 : flags + 0x20) {
    const bool ok = flags == MAP_SHARED || flags == (MAP_SHARED | MAP_NORESERVE) ||
                    (flags & ~U64{MAP_NORESERVE | MAP_STACK}) == anon;
    expect(kSentry, ok ? kAllow : kKill, SYS_mmap, {0, 0x1000, 3, flags, 9, 0});
  }
  for (U64 flags = 0; flags < 16; ++flags) expect(kSentry, flags < 2 ? kAllow : kKill, SYS_mremap, {kAny, 1, 1, flags, 0, 0});
}

TEST(SentryFilter, ReachesItsOwnStubsOnly) {
  expect_both_halves(kSentry, kAllow, kKill, SYS_pidfd_open, {7, 0, 0, 0, 0, 0}, 0b10);
  expect(kSentry, kKill, SYS_pidfd_open, {7, 0x800, 0, 0, 0, 0});
  expect_both_halves(kSentry, kAllow, kKill, SYS_pidfd_send_signal, {7, 9, 0, 0, 0, 0}, 0b1100);
  expect(kSentry, kKill, SYS_pidfd_send_signal, {7, 9, kAny, 0, 0, 0});
  expect(kSentry, kKill, SYS_pidfd_send_signal, {7, 9, 0, 4 /* the process group */, 0, 0});
  for (U64 type = 0; type < 8; ++type) expect(kSentry, type == 3 ? kAllow : kKill, SYS_waitid, {type, 7, kAny, 4, 0, 0});
  expect(kSentry, kAllow, SYS_sched_setaffinity, {kAny, 128, kAny, 0, 0, 0});  // of whatever its PID namespace holds
  expect_both_halves(kSentry, kAllow, kKill, SYS_sched_getaffinity, {0, 128, kAny, 0, 0, 0}, 0b1);
  expect_both_halves(kSentry, kAllow, kKill, SYS_process_vm_readv, {7, kAny, 1, kAny, 1, 0}, 0b100000);
  expect_both_halves(kSentry, kAllow, kKill, SYS_process_vm_writev, {7, kAny, 1, kAny, 1, 0}, 0b100000);
  // It asks where pages are, and moves none.
  expect_both_halves(kSentry, kAllow, kKill, SYS_move_pages, {7, kAny, kAny, 0, kAny, 0}, 0b101000);
  for (U64 who : {U64{0}, U64{0xffffffff}, ~U64{0}}) expect(kSentry, kAllow, SYS_getrusage, {who, kAny, 0, 0, 0, 0});
  for (U64 who : {U64{1}, U64{2}, ~U64{1}}) expect(kSentry, kKill, SYS_getrusage, {who, kAny, 0, 0, 0, 0});
}

TEST(SentryFilter, SocketsGoNowhereElse) {
  for (unsigned nr : {SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_sendto, SYS_sendmmsg, SYS_setsockopt}) {
    for (const Args& a : kTuples) expect(kSentry, kKill, nr, a);
  }
  expect_both_halves(kSentry, kAllow, kKill, SYS_memfd_create, {kAny, MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0, 0, 0}, 0b10);
  for (U64 flags : {MFD_HUGETLB, MFD_EXEC, MFD_NOEXEC_SEAL}) expect(kSentry, kKill, SYS_memfd_create, {kAny, flags, 0, 0, 0, 0});
}

// A sandbox with sockets of the host: what its sentry may ask besides.
TEST(SocketsFilter, ThePublishedListIsComplete) {
  std::set<unsigned> alone, with;
  for (unsigned i = 0; i < kSentry.rule_count; ++i) alone.insert(kSentry.rules[i].number);
  for (unsigned i = 0; i < kSockets.rule_count; ++i) with.insert(kSockets.rules[i].number);
  for (unsigned nr : alone) EXPECT_TRUE(with.erase(nr)) << nr;
  EXPECT_EQ(with, (std::set<unsigned>{SYS_socket, SYS_bind, SYS_connect, SYS_listen, SYS_shutdown, SYS_getsockname, SYS_getpeername,
                                      SYS_setsockopt, SYS_getsockopt}));
  for (unsigned nr : {SYS_open, SYS_openat, SYS_execve, SYS_mount, SYS_unshare, SYS_setns, SYS_fork, SYS_ptrace, SYS_kill, SYS_socketpair,
                      SYS_sendto, SYS_recvfrom, SYS_sendmmsg, SYS_recvmmsg, SYS_accept, SYS_splice, SYS_sendfile, SYS_io_uring_setup}) {
    for (const Args& a : kTuples) expect(kSockets, kKill, nr, a);
  }
}

TEST(SocketsFilter, TcpUdpAndEchoAlone) {
  constexpr U64 kFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const std::set<std::array<U64, 3>> allowed = {
      {AF_INET, SOCK_STREAM, IPPROTO_TCP}, {AF_INET6, SOCK_STREAM, IPPROTO_TCP}, {AF_INET, SOCK_DGRAM, IPPROTO_UDP},
      {AF_INET6, SOCK_DGRAM, IPPROTO_UDP}, {AF_INET, SOCK_DGRAM, IPPROTO_ICMP}, {AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6}};
  for (U64 family = 0; family < 50; ++family) {
    for (U64 type = 0; type < 16; ++type) {
      for (U64 protocol = 0; protocol < 300; ++protocol) {
        const bool ok = allowed.count({family, type, protocol}) != 0;
        expect(kSockets, ok ? kAllow : kKill, SYS_socket, {family, type | kFlags, protocol, 0, 0, 0});
        if (!ok) continue;
        // One that could make a worker wait, or that a program would inherit, is none of ours.
        for (U64 flags : {U64{0}, U64{SOCK_NONBLOCK}, U64{SOCK_CLOEXEC}, kFlags | 0x1000})
          expect(kSockets, kKill, SYS_socket, {family, type | flags, protocol, 0, 0, 0});
        expect_both_halves(kSockets, kAllow, kKill, SYS_socket, {family, type | kFlags, protocol, 0, 0, 0}, 0b111);
      }
    }
  }
}

TEST(SocketsFilter, OptionsByList) {
  using Options = std::map<U64, std::set<U64>>;
  const Options set = {
      {SOL_SOCKET, {SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_BROADCAST, SO_OOBINLINE, SO_SNDBUF, SO_RCVBUF,
        SO_RCVLOWAT, SO_DONTROUTE, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW, SO_RXQ_OVFL,
        SO_NO_CHECK, SO_PRIORITY, SO_BINDTODEVICE, SO_LINGER, SO_MAX_PACING_RATE}},
      {IPPROTO_IP, {IP_TOS, IP_TTL, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_RECVTOS, IP_FREEBIND,
        IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP, IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP,
        IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE, IP_UNBLOCK_SOURCE, MCAST_JOIN_GROUP,
        MCAST_LEAVE_GROUP, MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP, IP_MULTICAST_ALL, IP_UNICAST_IF,
        IP_BIND_ADDRESS_NO_PORT, IP_RECVORIGDSTADDR, IP_MINTTL, 25, 51}},
      {IPPROTO_IPV6, {IPV6_V6ONLY, IPV6_UNICAST_HOPS, IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP,
        IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP, MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP, MCAST_JOIN_SOURCE_GROUP,
        MCAST_LEAVE_SOURCE_GROUP, IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR, IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT,
        IPV6_RECVTCLASS, IPV6_TCLASS, IPV6_DONTFRAG, 70, 72, 73, 74, 76, 77, 78, 29}},
      {IPPROTO_TCP, {TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT, TCP_LINGER2,
        TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_QUICKACK, TCP_CONGESTION, TCP_THIN_LINEAR_TIMEOUTS, TCP_USER_TIMEOUT,
        TCP_FASTOPEN, TCP_NOTSENT_LOWAT, TCP_SAVE_SYN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE, TCP_INQ, 37}},
      {IPPROTO_UDP, {UDP_CORK, UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX, 103, 104}},
  };
  const Options get = {
      {SOL_SOCKET, {SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_BROADCAST, SO_OOBINLINE, SO_SNDBUF, SO_RCVBUF,
        SO_RCVLOWAT, SO_DONTROUTE, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW, SO_RXQ_OVFL,
        SO_NO_CHECK, SO_PRIORITY, SO_BINDTODEVICE, SO_MAX_PACING_RATE, SO_ERROR, SO_ACCEPTCONN, SO_INCOMING_CPU, SO_MEMINFO}},
      {IPPROTO_IP, {IP_TOS, IP_TTL, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_RECVTOS, IP_MTU, IP_FREEBIND,
        IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP, IP_MULTICAST_ALL, IP_UNICAST_IF, IP_BIND_ADDRESS_NO_PORT,
        IP_RECVORIGDSTADDR, IP_MINTTL, 25, 51}},
      {IPPROTO_IPV6, {IPV6_V6ONLY, IPV6_UNICAST_HOPS, IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP,
        IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR, IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_TCLASS,
        IPV6_DONTFRAG, 70, 72, 73, 74, 76, 77, 78, 29}},
      {IPPROTO_TCP, {TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT, TCP_LINGER2,
        TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_INFO, TCP_QUICKACK, TCP_CONGESTION, TCP_THIN_LINEAR_TIMEOUTS,
        TCP_USER_TIMEOUT, TCP_FASTOPEN, TCP_NOTSENT_LOWAT, TCP_CC_INFO, TCP_SAVE_SYN, TCP_SAVED_SYN, TCP_FASTOPEN_CONNECT,
        TCP_FASTOPEN_NO_COOKIE, TCP_INQ, 37}},
      {IPPROTO_UDP, {UDP_CORK, UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX, 103, 104}},
  };
  for (const auto& [nr, list] : {std::pair<unsigned, const Options&>{SYS_setsockopt, set}, {SYS_getsockopt, get}}) {
    for (U64 level = 0; level < 300; ++level) {
      auto of = list.find(level);
      for (U64 name = 0; name < 256; ++name) {
        const bool ok = of != list.end() && of->second.count(name) != 0;
        expect(kSockets, ok ? kAllow : kKill, nr, {9, level, name, kAny, 4, 0});
        if (ok) expect_both_halves(kSockets, kAllow, kKill, nr, {9, level, name, kAny, 4, 0}, 0b110);
      }
    }
  }
  for (U64 request : {0x5411ull /* SIOCOUTQ */, 0x8905ull /* SIOCATMARK */}) {
    expect_both_halves(kSockets, kAllow, kKill, SYS_ioctl, {5, request, kAny, 0, 0, 0}, 0b10);
    expect(kSentry, kKill, SYS_ioctl, {5, request, kAny, 0, 0, 0});
  }
  for (U64 request = 0x8906; request < 0x8a00; ++request) expect(kSockets, kKill, SYS_ioctl, {5, request, kAny, 0, 0, 0});
}

// The gofer's whole list, as above.
TEST(GoferFilter, ThePublishedListIsComplete) {
  const std::set<unsigned> published = {
      SYS_recvmsg, SYS_sendmsg, SYS_write, SYS_writev,                                          // its sentry, its log
      SYS_openat2, SYS_statx, SYS_fstatfs, SYS_getdents64, SYS_lseek, SYS_readlinkat, SYS_close, SYS_fcntl,   // looking
      SYS_mkdirat, SYS_symlinkat, SYS_mknodat, SYS_linkat, SYS_unlinkat, SYS_renameat2,         // names
      452 /* fchmodat2 */, SYS_fchmod, SYS_fchownat, SYS_utimensat, SYS_ftruncate, SYS_fsync, SYS_fdatasync,  // attributes
      SYS_fgetxattr, SYS_fsetxattr, SYS_flistxattr, SYS_fremovexattr, SYS_fchdir, SYS_llistxattr,
      SYS_mmap, SYS_mprotect, SYS_munmap, SYS_brk, SYS_mremap, SYS_madvise, SYS_futex,          // the C and C++ libraries
      SYS_exit_group, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall, SYS_getpid, SYS_gettid,
      SYS_tgkill, SYS_clock_gettime};
  std::set<unsigned> named;
  for (unsigned i = 0; i < kGofer.rule_count; ++i) named.insert(kGofer.rules[i].number);
  EXPECT_EQ(named, published);
  for (unsigned nr : {SYS_read, SYS_pread64, SYS_newfstatat, SYS_fstat, SYS_exit, SYS_getrandom, SYS_dup, SYS_dup2, SYS_dup3, SYS_poll,
                      SYS_ppoll, SYS_openat, SYS_fchmodat, SYS_fchown, SYS_fallocate, SYS_copy_file_range, SYS_ioctl, SYS_flock}) {
    for (const Args& a : kTuples) expect(kGofer, kKill, nr, a);
  }
}

TEST(GoferFilter, OpensInOneWayAndMakesNoDevices) {
  for (unsigned nr : kByPath) {
    for (const Args& a : kTuples) expect(kGofer, kKill, nr, a);
  }
  expect(kGofer, kAllow, SYS_openat2, {5, kAny, kAny, 24, 0, 0});
  for (U64 type = 0; type < 16; ++type) {
    const bool device = (type & 2) != 0;
    expect(kGofer, device ? kKill : kAllow, SYS_mknodat, {5, kAny, type << 12 | 0644, 0x103, 0, 0});
    expect(kGofer, device && type != 2 /* a whiteout */ ? kKill : kAllow, SYS_mknodat, {5, kAny, type << 12 | 0644, 0, 0, 0});
  }
  expect_both_halves(kGofer, kAllow, kKill, SYS_mknodat, {5, kAny, 0x8000 | 0600, 0, 0, 0}, 0b100);
  for (U64 flags : {0x1000ull, 0x1100ull, 0x1800ull}) {
    expect(kGofer, kAllow, SYS_statx, {5, kAny, flags, 0xfff, kAny, 0});
  }
  for (U64 flags : {0ull, 0x100ull, 0x100000000ull}) {
    expect(kGofer, flags == 0x100 ? kAllow : kKill, SYS_statx, {5, kAny, flags, 0xfff, kAny, 0});
  }
  expect_both_halves(kGofer, kAllow, kKill, 452 /* fchmodat2 */, {5, kAny, 0644, 0x1000, 0, 0}, 0b1000);
  expect(kGofer, kKill, 452, {5, kAny, 0644, 0, 0, 0});
  expect(kGofer, kAllow, SYS_linkat, {5, kAny, 6, kAny, 0x1000, 0});
  expect(kGofer, kKill, SYS_linkat, {5, kAny, 6, kAny, 0x400, 0});
  for (U64 flags : {1ull, 2ull, 4ull, 5ull}) expect(kGofer, kAllow, SYS_renameat2, {5, kAny, 6, kAny, flags, 0});
  for (U64 flags : {6ull, 7ull, 8ull}) expect(kGofer, kKill, SYS_renameat2, {5, kAny, 6, kAny, flags, 0});
  expect_both_halves(kGofer, kAllow, kKill, SYS_write, {2, kAny, 10, 0, 0, 0}, 0b1);
  for (U64 fd : {0ull, 1ull, 3ull, 100ull}) expect(kGofer, kKill, SYS_write, {fd, kAny, 10, 0, 0, 0});
}

}  // namespace
}  // namespace seccomp_profiles
