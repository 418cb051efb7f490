// SPDX-License-Identifier: Apache-2.0
// open, close, dup, fcntl, locks.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernel/guest.h"

static int make(const char* name, const char* text, mode_t mode = 0644) {
  int fd = open(name, O_CREAT | O_TRUNC | O_RDWR, mode);
  EXPECT(fd >= 0);
  EXPECT_EQ(write(fd, text, strlen(text)), strlen(text));
  EXPECT_EQ(lseek(fd, 0, SEEK_SET), 0);
  return fd;
}
#define FAILS(call, e) do { errno = 0; EXPECT_EQ(call, -1); EXPECT_EQ(errno, e); } while (0)

CASE(open_errors) {
  make("f", "x");
  mkdir("d", 0755);
  symlink("nowhere", "dangling");
  symlink("loop", "loop");
  FAILS(open("none", O_RDONLY), ENOENT);
  FAILS(open("f/x", O_RDONLY), ENOTDIR);
  FAILS(open("f/", O_RDONLY), ENOTDIR);
  FAILS(open("d", O_WRONLY), EISDIR);
  FAILS(open("d", O_CREAT | O_RDONLY, 0644), EISDIR);
  FAILS(open("f", O_CREAT | O_EXCL | O_RDONLY, 0644), EEXIST);
  FAILS(open("dangling", O_CREAT | O_EXCL | O_RDONLY, 0644), EEXIST);
  FAILS(open("dangling", O_RDONLY), ENOENT);
  FAILS(open("dangling", O_RDONLY | O_NOFOLLOW), ELOOP);
  FAILS(open("loop", O_RDONLY), ELOOP);
  FAILS(open("f", O_DIRECTORY | O_RDONLY), ENOTDIR);
  FAILS(open("", O_RDONLY), ENOENT);
  FAILS(open("new/", O_CREAT | O_WRONLY, 0644), EISDIR);
  FAILS(open(nullptr, O_RDONLY), EFAULT);
  FAILS(open("d", O_TMPFILE | O_RDONLY, 0644), EINVAL);
  FAILS(openat(99, "f", O_RDONLY), EBADF);
  FAILS(openat(open("f", O_RDONLY), "f", O_RDONLY), ENOTDIR);
  char longname[300];
  memset(longname, 'a', 256);
  longname[256] = 0;
  FAILS(open(longname, O_RDONLY), ENAMETOOLONG);
  static char longpath[5000];
  memset(longpath, '/', 4999);
  FAILS(open(longpath, O_RDONLY), ENAMETOOLONG);
  longpath[4095] = 0;
  EXPECT(open(longpath, O_RDONLY) >= 0);
}

CASE(open_takes_the_lowest_number) {
  int a = open("/", O_RDONLY), b = open("/", O_RDONLY), c = open("/", O_RDONLY);
  EXPECT(a < b && b < c);
  close(a);
  close(b);
  EXPECT_EQ(open("/", O_RDONLY), a);
  EXPECT_EQ(dup(c), b);
  FAILS(close(1000), EBADF);
  struct rlimit l;
  getrlimit(RLIMIT_NOFILE, &l);
  l.rlim_cur = static_cast<rlim_t>(c) + 1;
  setrlimit(RLIMIT_NOFILE, &l);
  FAILS(open("none", O_RDONLY), EMFILE);
  FAILS(dup2(a, c + 1), EBADF);
  FAILS(fcntl(a, F_DUPFD, c + 1), EINVAL);
}

CASE(umask_and_modes) {
  umask(027);
  struct stat st;
  fstat(make("f", "", 0666), &st);
  EXPECT_EQ(st.st_mode & 07777, 0640);
  mkdir("d", 0777);
  stat("d", &st);
  EXPECT_EQ(st.st_mode & 07777, 0750);
  EXPECT_EQ(umask(0), 027);
}

CASE(status_flags) {
  int fd = open("f", O_CREAT | O_RDWR | O_APPEND | O_TRUNC | O_EXCL, 0644);
  EXPECT_EQ(fcntl(fd, F_GETFL), O_RDWR | O_APPEND | 0100000);
  EXPECT_EQ(fcntl(fd, F_SETFL, O_NONBLOCK | O_WRONLY), 0);
  EXPECT_EQ(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK | 0100000);
  int on = 0;
  EXPECT_EQ(ioctl(fd, FIONBIO, &on), 0);
  EXPECT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(fcntl(fd, F_GETFD), 0);
  EXPECT_EQ(ioctl(fd, FIOCLEX), 0);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(fd, F_SETFD, 0), 0);
  int other = fcntl(fd, F_DUPFD_CLOEXEC, 20);
  EXPECT_EQ(other, 20);
  EXPECT_EQ(fcntl(other, F_GETFD), FD_CLOEXEC);
  int third = dup3(fd, 30, O_CLOEXEC);
  EXPECT_EQ(third, 30);
  FAILS(dup3(fd, fd, 0), EINVAL);
  EXPECT_EQ(dup2(fd, fd), fd);
  FAILS(dup2(99, 99), EBADF);
  FAILS(fcntl(fd, 9999), EINVAL);
  // One description: the position is shared.
  write(fd, "12345", 5);
  EXPECT_EQ(lseek(third, 0, SEEK_CUR), 5);
}

CASE(o_path) {
  make("f", "x");
  int fd = open("f", O_PATH);
  char c;
  FAILS(read(fd, &c, 1), EBADF);
  FAILS(fchmod(fd, 0600), EBADF);
  FAILS(ftruncate(fd, 0), EBADF);
  FAILS(fcntl(fd, F_SETFL, 0), EBADF);
  struct stat st;
  EXPECT_EQ(fstat(fd, &st), 0);
  EXPECT_EQ(fstatat(fd, "", &st, AT_EMPTY_PATH), 0);
  EXPECT_EQ(fcntl(fd, F_GETFL), O_PATH);
  symlink("f", "l");
  int l = open("l", O_PATH | O_NOFOLLOW);
  char buf[10];
  EXPECT_EQ(readlinkat(l, "", buf, sizeof buf), 1);
  int d = open(".", O_PATH | O_DIRECTORY);
  EXPECT(openat(d, "f", O_RDONLY) >= 0);
  EXPECT_EQ(fchdir(d), 0);
}

CASE(tmpfile_is_linked_later) {
  int fd = open(".", O_TMPFILE | O_RDWR, 0640);
  if (fd < 0 && errno == EOPNOTSUPP) return;  // the native file system cannot
  EXPECT(fd >= 0);
  EXPECT_EQ(write(fd, "abc", 3), 3);
  struct stat st;
  fstat(fd, &st);
  EXPECT_EQ(st.st_nlink, 0);
  if (linkat(fd, "", AT_FDCWD, "named", AT_EMPTY_PATH) != 0) return;  // without CAP_DAC_READ_SEARCH
  fstat(fd, &st);
  EXPECT_EQ(st.st_nlink, 1);
  EXPECT_EQ(st.st_mode & 0777, 0640);
}

CASE(openat2_resolves_within) {
  mkdir("jail", 0755);
  mkdir("jail/d", 0755);
  close(make("jail/d/f", "x"));
  symlink("/etc", "jail/abs");
  symlink("..", "jail/d/up");
  int jail = open("jail", O_PATH);
  auto try_open = [&](const char* path, unsigned long resolve, unsigned long flags = O_RDONLY) {
    struct open_how how = {};
    how.flags = flags;
    how.resolve = resolve;
    errno = 0;
    long r = syscall(SYS_openat2, jail, path, &how, sizeof how);
    return r >= 0 ? 0 : errno;
  };
  EXPECT_EQ(try_open("d/f", RESOLVE_BENEATH), 0);
  EXPECT_EQ(try_open("d/up/d/f", RESOLVE_BENEATH), 0);
  EXPECT_EQ(try_open("../jail", RESOLVE_BENEATH), EXDEV);
  EXPECT_EQ(try_open("abs", RESOLVE_BENEATH), EXDEV);
  EXPECT_EQ(try_open("/d/f", RESOLVE_BENEATH), EXDEV);
  EXPECT_EQ(try_open("/d/f", RESOLVE_IN_ROOT), 0);
  EXPECT_EQ(try_open("../../d/f", RESOLVE_IN_ROOT), 0);
  EXPECT_EQ(try_open("abs", RESOLVE_IN_ROOT), ENOENT);
  EXPECT_EQ(try_open("d/up/d/f", RESOLVE_NO_SYMLINKS), ELOOP);
  EXPECT_EQ(try_open("d/f", 1ul << 40), EINVAL);
  EXPECT_EQ(try_open("d/f", RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
  EXPECT_EQ(try_open("d/f", 0, 1ul << 40), EINVAL);
  struct { struct open_how how; unsigned long more; } big = {};
  EXPECT(syscall(SYS_openat2, jail, "d/f", &big, sizeof big) >= 0);
  big.more = 1;
  FAILS(syscall(SYS_openat2, jail, "d/f", &big, sizeof big), E2BIG);
  FAILS(syscall(SYS_openat2, jail, "d/f", &big, 8), EINVAL);
}

CASE(close_range_closes_and_marks) {
  int fd = open("/", O_RDONLY);
  EXPECT_EQ(dup2(fd, 50), 50);
  EXPECT_EQ(dup2(fd, 51), 51);
  EXPECT_EQ(dup2(fd, 60), 60);
  EXPECT_EQ(syscall(SYS_close_range, 50, 55, 4 /* CLOEXEC */), 0);
  EXPECT_EQ(fcntl(50, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(syscall(SYS_close_range, 50, 55, 0), 0);
  FAILS(fcntl(50, F_GETFD), EBADF);
  EXPECT_EQ(fcntl(60, F_GETFD), 0);
  FAILS(syscall(SYS_close_range, 5, 4, 0), EINVAL);
  FAILS(syscall(SYS_close_range, 5, 6, 64), EINVAL);
}

CASE(posix_locks) {
  int fd = make("f", "0123456789");
  struct flock l = {};
  l.l_type = F_WRLCK;
  l.l_whence = SEEK_SET;
  l.l_start = 2;
  l.l_len = 3;
  EXPECT_EQ(fcntl(fd, F_SETLK, &l), 0);
  pid_t parent = getpid();
  int looked[2];
  EXPECT_EQ(pipe(looked), 0);
  pid_t pid = fork();
  if (pid == 0) {
    struct flock c = {};
    c.l_type = F_RDLCK;
    EXPECT_EQ(fcntl(fd, F_GETLK, &c), 0);
    EXPECT_EQ(c.l_type, F_WRLCK);
    EXPECT_EQ(c.l_start, 2);
    EXPECT_EQ(c.l_len, 3);
    EXPECT_EQ(c.l_pid, parent);
    c = {};
    c.l_type = F_RDLCK;
    FAILS(fcntl(fd, F_SETLK, &c), EAGAIN);
    c.l_len = 2;
    EXPECT_EQ(fcntl(fd, F_SETLK, &c), 0);
    c.l_len = 0;
    c.l_type = F_WRLCK;
    EXPECT_EQ(write(looked[1], "x", 1), 1);
    EXPECT_EQ(fcntl(fd, F_SETLKW, &c), 0);  // until the parent lets go
    _exit(0);
  }
  char x;
  EXPECT_EQ(read(looked[0], &x, 1), 1);
  usleep(10000);
  int again = open("f", O_RDONLY);
  close(again);  // any close of the file by the owner drops its locks
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  int ro = open("f", O_RDONLY);
  l.l_type = F_WRLCK;
  FAILS(fcntl(ro, F_SETLK, &l), EBADF);
}

CASE(lock_wait_is_interrupted) {
  int fd = make("f", "x");
  EXPECT_EQ(flock(fd, LOCK_EX), 0);
  pid_t pid = fork();
  if (pid == 0) {
    int mine = open("f", O_RDWR);
    struct sigaction sa = {};
    sa.sa_handler = [](int) {};
    sigaction(SIGALRM, &sa, nullptr);
    ualarm(20000, 0);
    FAILS(flock(mine, LOCK_SH), EINTR);
    FAILS(flock(mine, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    FAILS(flock(mine, 77), EINVAL);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

CASE(ofd_locks) {
  int a = make("f", "x"), b = open("f", O_RDWR);
  struct flock l = {};
  l.l_type = F_WRLCK;
  EXPECT_EQ(fcntl(a, F_OFD_SETLK, &l), 0);
  FAILS(fcntl(b, F_OFD_SETLK, &l), EAGAIN);
  EXPECT_EQ(fcntl(b, F_OFD_GETLK, &l), 0);
  EXPECT_EQ(l.l_pid, -1);
  l.l_pid = 0;
  close(a);
  EXPECT_EQ(fcntl(b, F_OFD_SETLK, &l), 0);
  l.l_pid = 5;
  FAILS(fcntl(b, F_OFD_SETLK, &l), EINVAL);
}
