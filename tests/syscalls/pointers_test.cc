// SPDX-License-Identifier: Apache-2.0
// Bad pointers: every call that takes an address, with each address at which nothing can be read or written, answers EFAULT and lives.
// A table of calls, from which a case is made for each kind of address. Passes on Linux first.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <string>

#include "tests/syscalls/checks.h"

namespace {

using Ptr = void*;
constexpr size_t kPage = 4096;

template <typename... A>
long sys(long number, A... a) {
  return syscall(number, a...);
}

// What the calls need that would be in order but for the pointer. Made once in a process.
struct Things {
  int file = -1, dir = -1, in = -1, out = -1, epoll = -1, event = -1, timer = -1, inotify = -1;
  int stream = -1, peer = -1, listener = -1, bound = -1, datagrams = -1;
  int shm = -1, sem = -1, msg = -1, queue = -1;
  int clock_timer = -1;
  std::string path = "/tmp/pointers." + std::to_string(getpid());

  Things() {
    mkdir(path.c_str(), 0755);
    dir = open(path.c_str(), O_RDONLY | O_DIRECTORY);
    file = openat(dir, "file", O_CREAT | O_RDWR, 0644);
    EXPECT_EQ(write(file, "0123456789", 10), 10);
    symlinkat("file", dir, "link");
    sys(SYS_fsetxattr, file, "user.a", "value", 5, 0);
    int p[2], s[2];
    EXPECT_EQ(pipe(p), 0);
    EXPECT_EQ(write(p[1], "0123456789", 10), 10);
    in = p[0], out = p[1];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    stream = s[0], peer = s[1];
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_un name{AF_UNIX, {}};
    EXPECT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t)), 0);
    EXPECT_EQ(listen(listener, 100), 0);
    bound = socket(AF_UNIX, SOCK_DGRAM, 0);
    EXPECT_EQ(bind(bound, reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t)), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, s), 0);
    datagrams = s[0];
    event = eventfd(1, 0);
    epoll = epoll_create1(0);
    epoll_event e{EPOLLIN, {}};
    EXPECT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &e), 0);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    inotify = static_cast<int>(sys(SYS_inotify_init1, 0));
    shm = shmget(IPC_PRIVATE, kPage, 0600);
    sem = semget(IPC_PRIVATE, 3, 0600);
    msg = msgget(IPC_PRIVATE, 0600);
    mq_attr attr{};
    attr.mq_maxmsg = 4;
    attr.mq_msgsize = 64;
    queue = static_cast<int>(sys(SYS_mq_open, path.c_str() + 5, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attr));
    sys(SYS_timer_create, CLOCK_MONOTONIC, nullptr, &clock_timer);
  }
  ~Things() {
    unlinkat(dir, "file", 0);
    unlinkat(dir, "link", 0);
    rmdir(path.c_str());
    shmctl(shm, IPC_RMID, nullptr);
    semctl(sem, 0, IPC_RMID);
    msgctl(msg, IPC_RMID, nullptr);
    sys(SYS_mq_unlink, path.c_str() + 5);
  }
};
Things& t() {
  static Things things;
  return things;
}

// A byte to read wherever one is needed.
int with_data(int from, int to) {
  EXPECT_EQ(write(to, "0123456789", 10), 10);
  return from;
}
int dead_child() {
  const pid_t p = fork();
  if (p == 0) _exit(0);
  siginfo_t info;
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(p), &info, WEXITED | WNOWAIT), 0);
  return p;
}
long reaped(int pid, long result) {
  const int error = errno;
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  errno = error;
  return result;
}
// In a child, as it would be another program, or have another mask, if it went well.
template <typename F>
long elsewhere(F f) {
  const pid_t p = fork();
  if (p == 0) _exit(f() == -1 ? errno : 0);
  int status = 0;
  EXPECT_EQ(waitpid(p, &status, 0), p);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  errno = WEXITSTATUS(status);
  return errno ? -1 : 0;
}
// A pending connection for accept(2).
int with_caller() {
  sockaddr_un name{};
  socklen_t size = sizeof name;
  EXPECT_EQ(getsockname(t().listener, reinterpret_cast<sockaddr*>(&name), &size), 0);
  const int s = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(connect(s, reinterpret_cast<sockaddr*>(&name), size), 0) << strerror(errno);
  close(s);
  return t().listener;
}
const char* path() {
  static const std::string s = t().path + "/file";
  return s.c_str();
}
const char* link_path() {
  static const std::string s = t().path + "/link";
  return s.c_str();
}
uint64_t* mask() {
  static uint64_t m = 0;
  return &m;
}
timespec* no_time() {
  static timespec now{0, 0};
  now = {0, 0};
  return &now;
}
char* room() {
  static char r[kPage];
  return r;
}
iovec* vec(void* p, size_t n = 10) {
  static iovec v[1];
  v[0] = {p, n};
  return v;
}
iovec* good_vec() {
  static iovec v[1];
  v[0] = {room(), 10};
  return v;
}
msghdr* message(void* name, void* data, void* control, iovec* v = nullptr) {
  static msghdr m;
  m = {};
  m.msg_name = name;
  m.msg_namelen = name ? 100 : 0;
  m.msg_iov = v ? v : vec(data);
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = control ? 64 : 0;
  return &m;
}
socklen_t* length() {
  static socklen_t n;
  n = 64;
  return &n;
}
struct Mask {  // the sixth argument of pselect6 and its size
  void* set;
  size_t size;
};
Mask* mask_at(void* p) {
  static Mask m;
  m = {p, 8};
  return &m;
}
char* const* arguments(void* p) {
  static char* a[2];
  a[0] = static_cast<char*>(p);
  return a;
}
__user_cap_header_struct* cap_header() {
  static __user_cap_header_struct h;
  h = {_LINUX_CAPABILITY_VERSION_3, 0};
  return &h;
}

enum How : int {
  kIn = 0,      // read: a page that may only be read is no bad one
  kOut = 1,     // written
  kWhole = 2,   // what lies before the end of a page is used, or a single byte is all there is: no case at an edge
};
struct Row {
  const char* name;
  int how;
  long (*call)(Ptr p);
};
#define ROW(name, how, ...) Row{#name, how, [](Ptr p) -> long { return __VA_ARGS__; }}

// clang-format off
const Row kFiles[] = {
  ROW(read, kOut | kWhole, sys(SYS_pread64, t().file, p, 10, 0)),
  ROW(read_pipe, kOut | kWhole, sys(SYS_read, with_data(t().in, t().out), p, 5)),
  ROW(write, kIn | kWhole, sys(SYS_pwrite64, t().file, p, 10, 0)),
  ROW(write_pipe, kIn | kWhole, sys(SYS_write, t().out, p, 10)),
  ROW(write_eventfd, kIn, sys(SYS_write, t().event, p, 8)),
  ROW(readv_vector, kIn, sys(SYS_readv, t().file, p, 2)),
  ROW(readv_buffer, kOut | kWhole, sys(SYS_preadv, t().file, vec(p), 1, 0, 0)),
  ROW(writev_vector, kIn, sys(SYS_writev, t().out, p, 2)),
  ROW(writev_buffer, kIn | kWhole, sys(SYS_writev, t().out, vec(p), 1)),
  ROW(preadv_vector, kIn, sys(SYS_preadv, t().file, p, 1, 0, 0)),
  ROW(pwritev_vector, kIn, sys(SYS_pwritev, t().file, p, 1, 0, 0)),
  ROW(preadv2_vector, kIn, sys(SYS_preadv2, t().file, p, 1, 0, 0, 0)),
  ROW(pwritev2_vector, kIn, sys(SYS_pwritev2, t().file, p, 1, 0, 0, 0)),
  ROW(open, kIn, sys(SYS_open, p, O_RDONLY)),
  ROW(openat, kIn, sys(SYS_openat, t().dir, p, O_RDONLY)),
  ROW(creat, kIn, sys(SYS_creat, p, 0600)),
  ROW(openat2_path, kIn, [&] { open_how h{}; return sys(SYS_openat2, t().dir, p, &h, sizeof h); }()),
  ROW(openat2_how, kIn, sys(SYS_openat2, t().dir, "file", p, sizeof(open_how))),
  ROW(stat_path, kIn, sys(SYS_stat, p, room())),
  ROW(stat_answer, kOut, sys(SYS_stat, path(), p)),
  ROW(lstat_path, kIn, sys(SYS_lstat, p, room())),
  ROW(lstat_answer, kOut, sys(SYS_lstat, path(), p)),
  ROW(fstat, kOut, sys(SYS_fstat, t().file, p)),
  ROW(newfstatat_path, kIn, sys(SYS_newfstatat, t().dir, p, room(), 0)),
  ROW(newfstatat_answer, kOut, sys(SYS_newfstatat, t().dir, "file", p, 0)),
  ROW(statx_path, kIn, sys(SYS_statx, t().dir, p, 0, 0xfff, room())),
  ROW(statx_answer, kOut, sys(SYS_statx, t().dir, "file", 0, 0xfff, p)),
  ROW(access, kIn, sys(SYS_access, p, R_OK)),
  ROW(faccessat, kIn, sys(SYS_faccessat, t().dir, p, R_OK)),
  ROW(faccessat2, kIn, sys(SYS_faccessat2, t().dir, p, R_OK, 0)),
  ROW(chdir, kIn, sys(SYS_chdir, p)),
  ROW(chroot, kIn, sys(SYS_chroot, p)),
  ROW(mkdir, kIn, sys(SYS_mkdir, p, 0700)),
  ROW(mkdirat, kIn, sys(SYS_mkdirat, t().dir, p, 0700)),
  ROW(rmdir, kIn, sys(SYS_rmdir, p)),
  ROW(unlink, kIn, sys(SYS_unlink, p)),
  ROW(unlinkat, kIn, sys(SYS_unlinkat, t().dir, p, 0)),
  ROW(rename_old, kIn, sys(SYS_rename, p, "/x")),
  ROW(rename_new, kIn, sys(SYS_rename, path(), p)),
  ROW(renameat_old, kIn, sys(SYS_renameat, t().dir, p, t().dir, "x")),
  ROW(renameat2_new, kIn, sys(SYS_renameat2, t().dir, "file", t().dir, p, 0)),
  ROW(link_old, kIn, sys(SYS_link, p, "/x")),
  ROW(link_new, kIn, sys(SYS_link, path(), p)),
  ROW(linkat_old, kIn, sys(SYS_linkat, t().dir, p, t().dir, "x", 0)),
  ROW(linkat_new, kIn, sys(SYS_linkat, t().dir, "file", t().dir, p, 0)),
  ROW(symlink_target, kIn, sys(SYS_symlink, p, "/tmp/x")),
  ROW(symlink_name, kIn, sys(SYS_symlink, "x", p)),
  ROW(symlinkat_target, kIn, sys(SYS_symlinkat, p, t().dir, "x")),
  ROW(symlinkat_name, kIn, sys(SYS_symlinkat, "x", t().dir, p)),
  ROW(readlink_path, kIn, sys(SYS_readlink, p, room(), 100)),
  ROW(readlink_answer, kOut, sys(SYS_readlink, link_path(), p, 100)),
  ROW(readlinkat_path, kIn, sys(SYS_readlinkat, t().dir, p, room(), 100)),
  ROW(readlinkat_answer, kOut, sys(SYS_readlinkat, t().dir, "link", p, 100)),
  ROW(chmod, kIn, sys(SYS_chmod, p, 0600)),
  ROW(fchmodat, kIn, sys(SYS_fchmodat, t().dir, p, 0600)),
  ROW(chown, kIn, sys(SYS_chown, p, -1, -1)),
  ROW(lchown, kIn, sys(SYS_lchown, p, -1, -1)),
  ROW(fchownat, kIn, sys(SYS_fchownat, t().dir, p, -1, -1, 0)),
  ROW(truncate, kIn, sys(SYS_truncate, p, 0)),
  ROW(utime_path, kIn, sys(SYS_utime, p, nullptr)),
  ROW(utime_times, kIn, sys(SYS_utime, path(), p)),
  ROW(utimes_path, kIn, sys(SYS_utimes, p, nullptr)),
  ROW(utimes_times, kIn, sys(SYS_utimes, path(), p)),
  ROW(futimesat_path, kIn, sys(SYS_futimesat, t().dir, p, nullptr)),
  ROW(futimesat_times, kIn, sys(SYS_futimesat, t().dir, "file", p)),
  ROW(utimensat_path, kIn, sys(SYS_utimensat, t().dir, p, nullptr, 0)),
  ROW(utimensat_times, kIn, sys(SYS_utimensat, t().dir, "file", p, 0)),
  ROW(mknod, kIn, sys(SYS_mknod, p, S_IFIFO | 0600, 0)),
  ROW(mknodat, kIn, sys(SYS_mknodat, t().dir, p, S_IFIFO | 0600, 0)),
  ROW(statfs_path, kIn, sys(SYS_statfs, p, room())),
  ROW(statfs_answer, kOut, sys(SYS_statfs, path(), p)),
  ROW(fstatfs, kOut, sys(SYS_fstatfs, t().file, p)),
  ROW(getcwd, kOut | kWhole, sys(SYS_getcwd, p, 4096)),
  ROW(setxattr_path, kIn, sys(SYS_setxattr, p, "user.b", "v", 1, 0)),
  ROW(setxattr_name, kIn, sys(SYS_setxattr, path(), p, "v", 1, 0)),
  ROW(setxattr_value, kIn, sys(SYS_setxattr, path(), "user.b", p, 10, 0)),
  ROW(lsetxattr_name, kIn, sys(SYS_lsetxattr, path(), p, "v", 1, 0)),
  ROW(fsetxattr_name, kIn, sys(SYS_fsetxattr, t().file, p, "v", 1, 0)),
  ROW(fsetxattr_value, kIn, sys(SYS_fsetxattr, t().file, "user.b", p, 10, 0)),
  ROW(getxattr_path, kIn, sys(SYS_getxattr, p, "user.a", room(), 100)),
  ROW(getxattr_name, kIn, sys(SYS_getxattr, path(), p, room(), 100)),
  ROW(lgetxattr_name, kIn, sys(SYS_lgetxattr, path(), p, room(), 100)),
  ROW(fgetxattr_name, kIn, sys(SYS_fgetxattr, t().file, p, room(), 100)),
  ROW(listxattr_path, kIn, sys(SYS_listxattr, p, room(), 100)),
  ROW(llistxattr_path, kIn, sys(SYS_llistxattr, p, room(), 100)),
  ROW(removexattr_path, kIn, sys(SYS_removexattr, p, "user.b")),
  ROW(removexattr_name, kIn, sys(SYS_removexattr, path(), p)),
  ROW(lremovexattr_name, kIn, sys(SYS_lremovexattr, path(), p)),
  ROW(fremovexattr_name, kIn, sys(SYS_fremovexattr, t().file, p)),
  ROW(inotify_add_watch, kIn, sys(SYS_inotify_add_watch, t().inotify, p, 1)),
  ROW(umount2, kIn, sys(SYS_umount2, p, 0)),
  ROW(mount_type, kIn, sys(SYS_mount, "x", "/tmp", p, 0, nullptr)),
  ROW(mount_source, kIn, sys(SYS_mount, p, "/tmp", "tmpfs", 0, nullptr)),
  ROW(sendfile_offset, kOut, sys(SYS_sendfile, t().out, t().file, p, 1)),
  ROW(splice_offset, kOut, sys(SYS_splice, t().file, p, t().out, nullptr, 1, 0)),
  ROW(vmsplice, kIn, sys(SYS_vmsplice, t().out, p, 1, 0)),
  ROW(copy_file_range_in, kIn, sys(SYS_copy_file_range, t().file, p, t().file, nullptr, 1, 0)),
  ROW(copy_file_range_out, kIn, sys(SYS_copy_file_range, t().file, nullptr, t().file, p, 1, 0)),
  ROW(memfd_create, kIn, sys(SYS_memfd_create, p, 0)),
  ROW(fcntl_getlk, kOut, sys(SYS_fcntl, t().file, F_GETLK, p)),
  ROW(fcntl_setlk, kIn, sys(SYS_fcntl, t().file, F_SETLK, p)),
  ROW(fcntl_ofd_setlk, kIn, sys(SYS_fcntl, t().file, F_OFD_SETLK, p)),
  ROW(fcntl_getown_ex, kOut, sys(SYS_fcntl, t().file, F_GETOWN_EX, p)),
  ROW(fcntl_setown_ex, kIn, sys(SYS_fcntl, t().file, F_SETOWN_EX, p)),
  ROW(ioctl_fionread, kOut, sys(SYS_ioctl, t().in, FIONREAD, p)),
  ROW(ioctl_fionbio, kIn, sys(SYS_ioctl, t().in, FIONBIO, p)),
  ROW(pipe, kOut, sys(SYS_pipe, p)),
  ROW(pipe2, kOut, sys(SYS_pipe2, p, O_CLOEXEC)),
  ROW(poll, kOut, sys(SYS_poll, p, 2, 0)),
  ROW(ppoll_set, kOut, sys(SYS_ppoll, p, 2, no_time(), nullptr, 8)),
  ROW(ppoll_time, kIn, sys(SYS_ppoll, nullptr, 0, p, nullptr, 8)),
  ROW(ppoll_mask, kIn, sys(SYS_ppoll, nullptr, 0, no_time(), p, 8)),
  ROW(select_set, kOut, sys(SYS_select, 64, p, nullptr, nullptr, no_time())),
  ROW(select_time, kIn, sys(SYS_select, 0, nullptr, nullptr, nullptr, p)),
  ROW(pselect6_set, kOut, sys(SYS_pselect6, 64, nullptr, p, nullptr, no_time(), nullptr)),
  ROW(pselect6_time, kIn, sys(SYS_pselect6, 0, nullptr, nullptr, nullptr, p, nullptr)),
  ROW(pselect6_mask, kIn, sys(SYS_pselect6, 0, nullptr, nullptr, nullptr, no_time(), p)),
  ROW(pselect6_mask_inside, kIn, sys(SYS_pselect6, 0, nullptr, nullptr, nullptr, no_time(), mask_at(p))),
  ROW(epoll_ctl, kIn, sys(SYS_epoll_ctl, t().epoll, EPOLL_CTL_MOD, t().event, p)),
  ROW(epoll_wait, kOut, sys(SYS_epoll_wait, t().epoll, p, 1, 0)),
  ROW(epoll_pwait_mask, kIn, sys(SYS_epoll_pwait, t().epoll, room(), 1, 0, p, 8)),
  ROW(epoll_pwait2_time, kIn, sys(SYS_epoll_pwait2, t().epoll, room(), 1, p, nullptr, 8)),
  ROW(signalfd, kIn, sys(SYS_signalfd, -1, p, 8)),
  ROW(signalfd4, kIn, sys(SYS_signalfd4, -1, p, 8, 0)),
  ROW(timerfd_settime_new, kIn, sys(SYS_timerfd_settime, t().timer, 0, p, nullptr)),
  ROW(timerfd_settime_old, kOut, sys(SYS_timerfd_settime, t().timer, 0, room(), p)),
  ROW(timerfd_gettime, kOut, sys(SYS_timerfd_gettime, t().timer, p)),
};
const Row kSockets[] = {
  ROW(socketpair, kOut, sys(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, p)),
  ROW(bind, kIn, sys(SYS_bind, socket(AF_UNIX, SOCK_STREAM, 0), p, 20)),
  ROW(connect, kIn, sys(SYS_connect, t().bound, p, 20)),
  ROW(accept_name, kOut, sys(SYS_accept, with_caller(), p, length())),
  ROW(accept4_length, kOut, sys(SYS_accept4, with_caller(), room(), p, 0)),
  ROW(getsockname_name, kOut, sys(SYS_getsockname, t().bound, p, length())),
  ROW(getsockname_length, kOut, sys(SYS_getsockname, t().bound, room(), p)),
  ROW(getpeername_name, kOut, sys(SYS_getpeername, t().stream, p, length())),
  ROW(getpeername_length, kOut, sys(SYS_getpeername, t().stream, room(), p)),
  ROW(sendto_data, kIn | kWhole, sys(SYS_sendto, t().stream, p, 10, 0, nullptr, 0)),
  ROW(sendto_datagram, kIn, sys(SYS_sendto, t().datagrams, p, 10, 0, nullptr, 0)),
  ROW(write_datagram, kIn, sys(SYS_write, t().datagrams, p, 10)),
  ROW(sendto_name, kIn, sys(SYS_sendto, t().bound, "x", 1, 0, p, 20)),
  ROW(recvfrom_data, kOut | kWhole, sys(SYS_recvfrom, with_data(t().stream, t().peer), p, 10, 0, nullptr, nullptr)),
  ROW(sendmsg_header, kIn, sys(SYS_sendmsg, t().stream, p, 0)),
  ROW(sendmsg_vector, kIn, sys(SYS_sendmsg, t().stream, message(nullptr, nullptr, nullptr, static_cast<iovec*>(p)), 0)),
  ROW(sendmsg_data, kIn | kWhole, sys(SYS_sendmsg, t().stream, message(nullptr, p, nullptr), 0)),
  ROW(sendmsg_name, kIn, sys(SYS_sendmsg, t().bound, message(p, room(), nullptr), 0)),
  ROW(sendmsg_control, kIn, sys(SYS_sendmsg, t().stream, message(nullptr, room(), p), 0)),
  ROW(recvmsg_header, kIn, sys(SYS_recvmsg, with_data(t().stream, t().peer), p, 0)),
  ROW(recvmsg_vector, kIn, sys(SYS_recvmsg, with_data(t().stream, t().peer), message(nullptr, nullptr, nullptr, static_cast<iovec*>(p)), 0)),
  ROW(recvmsg_data, kOut | kWhole, sys(SYS_recvmsg, with_data(t().stream, t().peer), message(nullptr, p, nullptr), 0)),
  ROW(sendmmsg, kIn, sys(SYS_sendmmsg, t().stream, p, 1, 0)),
  ROW(recvmmsg, kIn, sys(SYS_recvmmsg, with_data(t().stream, t().peer), p, 1, 0, nullptr)),
  ROW(recvmmsg_time, kIn, sys(SYS_recvmmsg, with_data(t().stream, t().peer), room(), 1, 0, p)),
  ROW(setsockopt, kIn, sys(SYS_setsockopt, t().stream, SOL_SOCKET, SO_SNDBUF, p, 4)),
  ROW(setsockopt_time, kIn, sys(SYS_setsockopt, t().stream, SOL_SOCKET, SO_RCVTIMEO, p, 16)),
  ROW(getsockopt_value, kOut, sys(SYS_getsockopt, t().stream, SOL_SOCKET, SO_SNDBUF, p, length())),
  ROW(getsockopt_length, kOut, sys(SYS_getsockopt, t().stream, SOL_SOCKET, SO_SNDBUF, room(), p)),
  ROW(getsockopt_peer, kOut, sys(SYS_getsockopt, t().stream, SOL_SOCKET, SO_PEERCRED, p, length())),
};
const Row kProcesses[] = {
  ROW(execve_path, kIn, elsewhere([&] { return sys(SYS_execve, p, arguments(room()), nullptr); })),
  ROW(execve_arguments, kIn, elsewhere([&] { return sys(SYS_execve, "/proc/self/exe", p, nullptr); })),
  ROW(execveat_path, kIn, elsewhere([&] { return sys(SYS_execveat, AT_FDCWD, p, arguments(room()), nullptr, 0); })),
  ROW(wait4_status, kOut, [&] { int c = dead_child(); return reaped(c, sys(SYS_wait4, c, p, 0, nullptr)); }()),
  ROW(wait4_usage, kOut, [&] { int c = dead_child(); return reaped(c, sys(SYS_wait4, c, nullptr, 0, p)); }()),
  ROW(waitid_info, kOut, [&] { int c = dead_child(); return reaped(c, sys(SYS_waitid, P_PID, c, p, WEXITED, nullptr)); }()),
  ROW(waitid_usage, kOut, [&] { int c = dead_child(); return reaped(c, sys(SYS_waitid, P_PID, c, nullptr, WEXITED, p)); }()),
  ROW(clone3, kIn, sys(SYS_clone3, p, 88)),
  ROW(sigaction_new, kIn, sys(SYS_rt_sigaction, SIGUSR1, p, nullptr, 8)),
  ROW(sigaction_old, kOut, sys(SYS_rt_sigaction, SIGUSR1, nullptr, p, 8)),
  ROW(sigprocmask_new, kIn, sys(SYS_rt_sigprocmask, SIG_BLOCK, p, nullptr, 8)),
  ROW(sigprocmask_old, kOut, sys(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, p, 8)),
  ROW(sigpending, kOut, sys(SYS_rt_sigpending, p, 8)),
  ROW(sigsuspend, kIn, sys(SYS_rt_sigsuspend, p, 8)),
  ROW(sigtimedwait_set, kIn, sys(SYS_rt_sigtimedwait, p, nullptr, no_time(), 8)),
  ROW(sigtimedwait_time, kIn, sys(SYS_rt_sigtimedwait, mask(), nullptr, p, 8)),
  ROW(sigqueueinfo, kIn, sys(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, p)),
  ROW(tgsigqueueinfo, kIn, sys(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, p)),
  ROW(sigaltstack_new, kIn, sys(SYS_sigaltstack, p, nullptr)),
  ROW(sigaltstack_old, kOut, sys(SYS_sigaltstack, nullptr, p)),
  ROW(getrlimit, kOut, sys(SYS_getrlimit, RLIMIT_NOFILE, p)),
  ROW(setrlimit, kIn, sys(SYS_setrlimit, RLIMIT_CORE, p)),
  ROW(prlimit64_new, kIn, sys(SYS_prlimit64, 0, RLIMIT_CORE, p, nullptr)),
  ROW(prlimit64_old, kOut, sys(SYS_prlimit64, 0, RLIMIT_CORE, nullptr, p)),
  ROW(getrusage, kOut, sys(SYS_getrusage, RUSAGE_SELF, p)),
  ROW(times, kOut, sys(SYS_times, p)),
  ROW(sysinfo, kOut, sys(SYS_sysinfo, p)),
  ROW(uname, kOut, sys(SYS_uname, p)),
  ROW(gettimeofday_time, kOut, sys(SYS_gettimeofday, p, nullptr)),
  ROW(gettimeofday_zone, kOut, sys(SYS_gettimeofday, nullptr, p)),
  ROW(settimeofday, kIn, sys(SYS_settimeofday, p, nullptr)),
  ROW(time, kOut, sys(SYS_time, p)),
  ROW(clock_gettime, kOut, sys(SYS_clock_gettime, CLOCK_MONOTONIC, p)),
  ROW(clock_gettime_cpu, kOut, sys(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, p)),
  ROW(clock_getres, kOut, sys(SYS_clock_getres, CLOCK_MONOTONIC, p)),
  ROW(clock_settime, kIn, sys(SYS_clock_settime, CLOCK_REALTIME, p)),
  ROW(clock_adjtime, kIn, sys(SYS_clock_adjtime, CLOCK_REALTIME, p)),
  ROW(adjtimex, kIn, sys(SYS_adjtimex, p)),
  ROW(nanosleep, kIn, sys(SYS_nanosleep, p, nullptr)),
  ROW(clock_nanosleep, kIn, sys(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, p, nullptr)),
  ROW(getitimer, kOut, sys(SYS_getitimer, ITIMER_REAL, p)),
  ROW(setitimer_new, kIn, sys(SYS_setitimer, ITIMER_REAL, p, nullptr)),
  ROW(setitimer_old, kOut, sys(SYS_setitimer, ITIMER_REAL, room(), p)),
  ROW(timer_create_event, kIn, sys(SYS_timer_create, CLOCK_MONOTONIC, p, room())),
  ROW(timer_create_id, kOut, sys(SYS_timer_create, CLOCK_MONOTONIC, nullptr, p)),
  ROW(timer_settime_new, kIn, sys(SYS_timer_settime, t().clock_timer, 0, p, nullptr)),
  ROW(timer_settime_old, kOut, sys(SYS_timer_settime, t().clock_timer, 0, room(), p)),
  ROW(timer_gettime, kOut, sys(SYS_timer_gettime, t().clock_timer, p)),
  ROW(getgroups, kOut, elsewhere([&] { gid_t g[2] = {1, 2}; sys(SYS_setgroups, 2, g); return sys(SYS_getgroups, 10, p); })),
  ROW(getresuid_real, kOut, sys(SYS_getresuid, p, room(), room())),
  ROW(getresuid_saved, kOut, sys(SYS_getresuid, room(), room(), p)),
  ROW(getresgid_effective, kOut, sys(SYS_getresgid, room(), p, room())),
  ROW(capget_header, kIn, sys(SYS_capget, p, room())),
  ROW(capget_data, kOut, sys(SYS_capget, cap_header(), p)),
  ROW(capset_header, kIn, sys(SYS_capset, p, room())),
  ROW(capset_data, kIn, sys(SYS_capset, cap_header(), p)),
  ROW(sched_setparam, kIn, sys(SYS_sched_setparam, 0, p)),
  ROW(sched_getparam, kOut, sys(SYS_sched_getparam, 0, p)),
  ROW(sched_setscheduler, kIn, sys(SYS_sched_setscheduler, 0, SCHED_OTHER, p)),
  ROW(sched_setattr, kIn, sys(SYS_sched_setattr, 0, p, 0)),
  ROW(sched_getattr, kOut, sys(SYS_sched_getattr, 0, p, 48, 0)),
  ROW(sched_rr_get_interval, kOut, sys(SYS_sched_rr_get_interval, 0, p)),
  ROW(sched_setaffinity, kIn, sys(SYS_sched_setaffinity, 0, 8, p)),
  ROW(sched_getaffinity, kOut, sys(SYS_sched_getaffinity, 0, 128, p)),
  ROW(getcpu_cpu, kOut, sys(SYS_getcpu, p, nullptr, nullptr)),
  ROW(getcpu_node, kOut, sys(SYS_getcpu, nullptr, p, nullptr)),
  ROW(prctl_set_name, kIn, sys(SYS_prctl, PR_SET_NAME, p, 0, 0, 0)),
  ROW(prctl_get_name, kOut, sys(SYS_prctl, PR_GET_NAME, p, 0, 0, 0)),
  ROW(prctl_get_pdeathsig, kOut, sys(SYS_prctl, PR_GET_PDEATHSIG, p, 0, 0, 0)),
  ROW(prctl_get_subreaper, kOut, sys(SYS_prctl, PR_GET_CHILD_SUBREAPER, p, 0, 0, 0)),
  ROW(prctl_get_tid_address, kOut, sys(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, p)),
  ROW(get_robust_list_head, kOut, sys(SYS_get_robust_list, 0, p, room())),
  ROW(get_robust_list_length, kOut, sys(SYS_get_robust_list, 0, room(), p)),
  ROW(process_vm_readv_local, kIn, sys(SYS_process_vm_readv, getpid(), p, 1, good_vec(), 1, 0)),
  ROW(process_vm_readv_remote, kIn, sys(SYS_process_vm_readv, getpid(), good_vec(), 1, p, 1, 0)),
  ROW(process_vm_writev_local, kIn, sys(SYS_process_vm_writev, getpid(), p, 1, good_vec(), 1, 0)),
  ROW(process_vm_writev_remote, kIn, sys(SYS_process_vm_writev, getpid(), good_vec(), 1, p, 1, 0)),
  ROW(seccomp, kIn, elsewhere([&] { prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); return sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, p); })),
  ROW(futex_wait, kIn | kWhole, sys(SYS_futex, p, FUTEX_WAIT_PRIVATE, 0, no_time(), nullptr, 0)),
  ROW(futex_wait_time, kIn, sys(SYS_futex, mask(), FUTEX_WAIT_PRIVATE, 0, p, nullptr, 0)),
  ROW(futex_wake_op, kOut | kWhole, sys(SYS_futex, mask(), FUTEX_WAKE_OP_PRIVATE, 1, 1, reinterpret_cast<uintptr_t>(p) & ~3ul, 0)),
  ROW(futex_waitv, kIn, sys(SYS_futex_waitv, p, 1, 0, nullptr, CLOCK_MONOTONIC)),
  ROW(getrandom, kOut | kWhole, sys(SYS_getrandom, p, 16, 0)),
  ROW(mincore, kOut | kWhole, sys(SYS_mincore, reinterpret_cast<uintptr_t>(room()) & ~4095ul, 4096, p)),
  ROW(get_mempolicy, kOut, sys(SYS_get_mempolicy, p, nullptr, 0, 0, 0)),
};
const Row kIpc[] = {
  ROW(shmctl_stat, kOut, sys(SYS_shmctl, t().shm, IPC_STAT, p)),
  ROW(shmctl_set, kIn, sys(SYS_shmctl, t().shm, IPC_SET, p)),
  ROW(shmctl_info, kOut, sys(SYS_shmctl, 0, IPC_INFO, p)),
  ROW(semop, kIn, sys(SYS_semop, t().sem, p, 1)),
  ROW(semtimedop_time, kIn, [&] { sembuf b{0, -1, 0}; return sys(SYS_semtimedop, t().sem, &b, 1, p); }()),
  ROW(semctl_stat, kOut, sys(SYS_semctl, t().sem, 0, IPC_STAT, p)),
  ROW(semctl_set, kIn, sys(SYS_semctl, t().sem, 0, IPC_SET, p)),
  ROW(semctl_getall, kOut, sys(SYS_semctl, t().sem, 0, GETALL, p)),
  ROW(semctl_setall, kIn, sys(SYS_semctl, t().sem, 0, SETALL, p)),
  ROW(msgsnd, kIn, sys(SYS_msgsnd, t().msg, p, 10, IPC_NOWAIT)),
  ROW(msgctl_stat, kOut, sys(SYS_msgctl, t().msg, IPC_STAT, p)),
  ROW(msgctl_set, kIn, sys(SYS_msgctl, t().msg, IPC_SET, p)),
  ROW(mq_open_name, kIn, sys(SYS_mq_open, p, O_RDWR, 0, nullptr)),
  ROW(mq_open_attributes, kIn, sys(SYS_mq_open, "pointers", O_CREAT | O_RDWR, 0600, p)),
  ROW(mq_unlink, kIn, sys(SYS_mq_unlink, p)),
  ROW(mq_timedsend, kIn, sys(SYS_mq_timedsend, t().queue, p, 10, 0, nullptr)),
  ROW(mq_timedsend_time, kIn, sys(SYS_mq_timedsend, t().queue, "x", 1, 0, p)),
  ROW(mq_timedreceive_time, kIn, sys(SYS_mq_timedreceive, t().queue, room(), 64, nullptr, p)),
  ROW(mq_getsetattr_new, kIn, sys(SYS_mq_getsetattr, t().queue, p, nullptr)),
  ROW(mq_getsetattr_old, kOut, sys(SYS_mq_getsetattr, t().queue, nullptr, p)),
  ROW(mq_notify, kIn, sys(SYS_mq_notify, t().queue, p)),
  ROW(add_key_type, kIn, sys(SYS_add_key, p, "d", "x", 1, -2)),
  ROW(add_key_description, kIn, sys(SYS_add_key, "user", p, "x", 1, -2)),
  ROW(add_key_payload, kIn, sys(SYS_add_key, "user", "d", p, 10, -2)),
  ROW(request_key_type, kIn, sys(SYS_request_key, p, "d", nullptr, 0)),
  ROW(request_key_description, kIn, sys(SYS_request_key, "user", p, nullptr, 0)),
};
// clang-format on

enum Where { kUnmapped, kForbidden, kEdge, kKernel, kHole, kReadOnly, kWheres };
constexpr const char* kNames[] = {"unmapped", "forbidden", "edge", "kernel", "hole", "readonly"};

// Two pages, of which the second may not be touched; and one that may be read.
void* address(Where w) {
  static char* pages = [] {
    void* m = mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_EQ(mprotect(static_cast<char*>(m) + kPage, kPage, PROT_NONE), 0);
    return static_cast<char*>(m);
  }();
  static void* read_only = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  switch (w) {
    case kUnmapped: return reinterpret_cast<void*>(64);
    case kForbidden: return pages + kPage;
    case kEdge:
      pages[kPage - 1] = 'x';  // whatever was written there
      return pages + kPage - 1;
    case kKernel: return reinterpret_cast<void*>(0xffff888000000000);
    case kHole: return reinterpret_cast<void*>(0x0000900000000000);
    default: return read_only;
  }
}

class Pointer : public testing::Test {
 public:
  Pointer(const Row& row, Where where) : row_(row), where_(where) {}
  void TestBody() override {
    errno = 0;
    EXPECT_EQ(row_.call(address(where_)), -1);
    EXPECT_EQ(errno, EFAULT) << strerror(errno);
  }

 private:
  const Row& row_;
  const Where where_;
};

template <size_t N>
void add(const char* suite, const Row (&rows)[N]) {
  for (const Row& row : rows) {
    for (int w = 0; w < kWheres; w++) {
      if ((w == kReadOnly && !(row.how & kOut)) || (w == kEdge && (row.how & kWhole))) continue;
      testing::RegisterTest(suite, (std::string(row.name) + "_" + kNames[w]).c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [&row, w]() -> Pointer* { return new Pointer(row, static_cast<Where>(w)); });
    }
  }
}

[[maybe_unused]] const bool g_added = [] {
  add("FilePointers", kFiles);
  add("SocketPointers", kSockets);
  add("ProcessPointers", kProcesses);
  add("IpcPointers", kIpc);
  return true;
}();

}  // namespace
