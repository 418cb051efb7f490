// SPDX-License-Identifier: Apache-2.0
// Names, directories, attributes, extended attributes, mounts.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include "tests/kernel/guest.h"

#define FAILS(call, e) do { errno = 0; EXPECT_EQ(call, -1); EXPECT_EQ(errno, e); } while (0)

static void put(const char* name, const char* text = "x") {
  int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0644);
  EXPECT(fd >= 0);
  EXPECT_EQ(write(fd, text, strlen(text)), strlen(text));
  close(fd);
}
static bool there(const char* name) {
  struct stat st;
  return lstat(name, &st) == 0;
}
static int in_child(int (*f)()) {
  pid_t pid = fork();
  if (pid == 0) _exit(f());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

CASE(make_and_remove) {
  EXPECT_EQ(mkdir("d", 0755), 0);
  FAILS(mkdir("d", 0755), EEXIST);
  FAILS(mkdir("none/x", 0755), ENOENT);
  EXPECT_EQ(mkdir("d/e/", 0755), 0);
  put("f");
  FAILS(mkdir("f/x", 0755), ENOTDIR);
  FAILS(rmdir("d"), ENOTEMPTY);
  FAILS(rmdir("f"), ENOTDIR);
  FAILS(rmdir("d/."), EINVAL);
  FAILS(rmdir("d/.."), ENOTEMPTY);
  FAILS(rmdir("/"), EBUSY);
  FAILS(unlink("d"), EISDIR);
  FAILS(unlink("f/"), ENOTDIR);
  FAILS(unlink("none"), ENOENT);
  FAILS(unlinkat(AT_FDCWD, "f", 5), EINVAL);
  EXPECT_EQ(unlinkat(AT_FDCWD, "d/e", AT_REMOVEDIR), 0);
  EXPECT_EQ(rmdir("d"), 0);
  EXPECT_EQ(unlink("f"), 0);
  EXPECT(!there("f"));
}

CASE(links_and_symlinks) {
  put("f", "12345");
  EXPECT_EQ(link("f", "g"), 0);
  struct stat a, b;
  stat("f", &a);
  stat("g", &b);
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(b.st_nlink, 2);
  FAILS(link("f", "g"), EEXIST);
  FAILS(link("none", "h"), ENOENT);
  mkdir("d", 0755);
  FAILS(link("d", "h"), EPERM);
  EXPECT_EQ(symlink("f", "l"), 0);
  FAILS(symlink("", "m"), ENOENT);
  FAILS(symlink("f", "l"), EEXIST);
  char buf[100];
  memset(buf, '#', sizeof buf);
  EXPECT_EQ(readlink("l", buf, sizeof buf), 1);
  EXPECT_EQ(buf[1], '#');
  FAILS(readlink("f", buf, sizeof buf), EINVAL);
  FAILS(readlink("l", buf, 0), EINVAL);
  lstat("l", &a);
  EXPECT(S_ISLNK(a.st_mode));
  EXPECT_EQ(a.st_size, 1);
  EXPECT_EQ(link("l", "hard_to_symlink"), 0);
  lstat("hard_to_symlink", &b);
  EXPECT(S_ISLNK(b.st_mode));
  EXPECT_EQ(linkat(AT_FDCWD, "l", AT_FDCWD, "hard_to_file", AT_SYMLINK_FOLLOW), 0);
  lstat("hard_to_file", &b);
  EXPECT(S_ISREG(b.st_mode));
}

CASE(rename_rules) {
  mkdir("d", 0755);
  mkdir("d/sub", 0755);
  mkdir("e", 0755);
  put("f", "f");
  put("g", "g");
  FAILS(rename("d", "d/sub/x"), EINVAL);
  FAILS(rename("d/sub", "d"), ENOTEMPTY);
  FAILS(rename("f", "e"), EISDIR);
  FAILS(rename("e", "f"), ENOTDIR);
  FAILS(rename("none", "x"), ENOENT);
  FAILS(rename("d/.", "x"), EBUSY);
  FAILS(rename("f", "x/"), ENOTDIR);
  FAILS(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", RENAME_NOREPLACE), EEXIST);
  EXPECT_EQ(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "d", RENAME_EXCHANGE), 0);
  struct stat st;
  stat("f", &st);
  EXPECT(S_ISDIR(st.st_mode));
  stat("f/sub", &st);
  stat("d", &st);
  EXPECT(S_ISREG(st.st_mode));
  FAILS(syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", 99), EINVAL);
  EXPECT_EQ(rename("d", "e/moved"), 0);
  EXPECT_EQ(rename("g", "e/moved"), 0);
  EXPECT(!there("g"));
  EXPECT_EQ(rename("f/", "h"), 0);
  EXPECT(there("h/sub"));
}

CASE(getdents) {
  mkdir("d", 0755);
  char name[20];
  for (int i = 0; i < 500; i++) {
    snprintf(name, sizeof name, "d/%d", i);
    put(name, "");
  }
  mkdir("d/dir", 0755);
  symlink("x", "d/link");
  DIR* d = opendir("d");
  EXPECT(d != nullptr);
  int files = 0, dots = 0;
  while (dirent* e = readdir(d)) {
    if (e->d_name[0] == '.') {
      dots++;
      EXPECT_EQ(e->d_type, DT_DIR);
    } else if (strcmp(e->d_name, "dir") == 0) {
      EXPECT_EQ(e->d_type, DT_DIR);
    } else if (strcmp(e->d_name, "link") == 0) {
      EXPECT_EQ(e->d_type, DT_LNK);
    } else {
      EXPECT_EQ(e->d_type, DT_REG);
      struct stat st;
      EXPECT_EQ(fstatat(dirfd(d), e->d_name, &st, 0), 0);
      EXPECT_EQ(st.st_ino, e->d_ino);
      files++;
      unlinkat(dirfd(d), e->d_name, 0);  // removing while reading loses nobody
    }
  }
  EXPECT_EQ(files, 500);
  EXPECT_EQ(dots, 2);
  rewinddir(d);
  files = 0;
  while (readdir(d)) files++;
  EXPECT_EQ(files, 4);
  char small[16];
  int fd = open("d", O_RDONLY);
  FAILS(syscall(SYS_getdents64, fd, small, sizeof small), EINVAL);
  put("file");
  FAILS(syscall(SYS_getdents64, open("file", O_RDONLY), small, sizeof small), ENOTDIR);
  unlink("d/link");
  rmdir("d/dir");
  EXPECT_EQ(rmdir("d"), 0);
  FAILS(syscall(SYS_getdents64, fd, name, sizeof name), ENOENT);
}

CASE(cwd_and_chroot) {
  char top[200], buf[300];
  EXPECT(getcwd(top, sizeof top) != nullptr);
  mkdir("d", 0755);
  EXPECT_EQ(chdir("d"), 0);
  EXPECT(getcwd(buf, sizeof buf) != nullptr);
  EXPECT_EQ(strncmp(buf, top, strlen(top)), 0);
  EXPECT_EQ(strcmp(buf + strlen(top), "/d"), 0);
  FAILS(syscall(SYS_getcwd, buf, 3), ERANGE);
  FAILS(chdir("none"), ENOENT);
  put("f");
  FAILS(chdir("f"), ENOTDIR);
  unlink("f");
  EXPECT_EQ(rmdir("../d"), 0);
  FAILS(syscall(SYS_getcwd, buf, sizeof buf), ENOENT);
  FAILS(open("new", O_CREAT | O_WRONLY, 0644), ENOENT);
  EXPECT_EQ(chdir(top), 0);
  if (getuid() != 0) return;
  mkdir("root", 0755);
  put("root/inside");
  EXPECT_EQ(chroot("root"), 0);
  EXPECT(there("/inside"));
  EXPECT_EQ(chdir("/"), 0);
  EXPECT(there("../../inside"));
  EXPECT(getcwd(buf, sizeof buf) != nullptr);
  EXPECT_EQ(strcmp(buf, "/"), 0);
}

CASE(chmod_chown_access) {
  put("f");
  struct stat st;
  EXPECT_EQ(chmod("f", 04755), 0);
  stat("f", &st);
  EXPECT_EQ(st.st_mode & 07777, 04755);
  symlink("f", "l");
  FAILS(syscall(452 /* fchmodat2 */, AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
  EXPECT_EQ(access("f", R_OK | W_OK | X_OK), 0);
  FAILS(access("f", 8), EINVAL);
  FAILS(access("none", F_OK), ENOENT);
  if (getuid() != 0) return;
  EXPECT_EQ(chown("f", 1000, 1001), 0);
  stat("f", &st);
  EXPECT_EQ(st.st_uid, 1000);
  EXPECT_EQ(st.st_gid, 1001);
  EXPECT_EQ(st.st_mode & 07777, 0755);
  EXPECT_EQ(lchown("l", 7, static_cast<gid_t>(-1)), 0);
  lstat("l", &st);
  EXPECT_EQ(st.st_uid, 7);
  chmod("f", 0);
  FAILS(access("f", X_OK), EACCES);
  EXPECT_EQ(access("f", R_OK), 0);
  chmod(".", 0755);
  EXPECT_EQ(in_child([] {
    if (setresuid(0, 1000, 0)) return 1;
    if (faccessat(AT_FDCWD, "f", R_OK, 0) != 0) return 2;  // the real user is root, which may all
    if (syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS) != -1 || errno != EACCES) return 3;
    if (open("f", O_RDONLY) != -1 || errno != EACCES) return 4;
    if (chmod("f", 0400) != 0) return 5;  // the owner
    if (open("f", O_RDONLY) < 0) return 6;
    if (chown("f", 0, 0) != -1 || errno != EPERM) return 7;
    if (unlink("f") != -1 || errno != EACCES) return 8;
    return 0;
  }), 0);
}

CASE(sticky_directories) {
  if (getuid() != 0) return;
  chmod(".", 01777);
  put("roots");
  EXPECT_EQ(in_child([] {
    if (setresuid(1000, 1000, 1000)) return 1;
    if (unlink("roots") != -1 || errno != EPERM) return 2;
    if (rename("roots", "x") != -1 || errno != EPERM) return 3;
    put("mine");
    return unlink("mine") == 0 ? 0 : 4;
  }), 0);
}

CASE(times) {
  put("f");
  struct timespec t[2] = {{1000, 5}, {2000, 6}};
  struct stat st;
  EXPECT_EQ(utimensat(AT_FDCWD, "f", t, 0), 0);
  stat("f", &st);
  EXPECT_EQ(st.st_atim.tv_sec, 1000);
  EXPECT_EQ(st.st_atim.tv_nsec, 5);
  EXPECT_EQ(st.st_mtim.tv_sec, 2000);
  t[0].tv_nsec = UTIME_OMIT;
  t[1].tv_nsec = UTIME_NOW;
  EXPECT_EQ(utimensat(AT_FDCWD, "f", t, 0), 0);
  stat("f", &st);
  EXPECT_EQ(st.st_atim.tv_sec, 1000);
  EXPECT(st.st_mtim.tv_sec > 1000000);
  t[1].tv_nsec = UTIME_OMIT;
  EXPECT_EQ(utimensat(AT_FDCWD, "none", t, 0), 0);  // nothing to do, nothing looked at
  t[0].tv_nsec = 1000000000;
  FAILS(utimensat(AT_FDCWD, "f", t, 0), EINVAL);
  struct utimbuf u = {11, 12};
  EXPECT_EQ(utime("f", &u), 0);
  stat("f", &st);
  EXPECT_EQ(st.st_mtim.tv_sec, 12);
  struct timeval v[2] = {{21, 1}, {22, 2}};
  EXPECT_EQ(syscall(SYS_utimes, "f", v), 0);
  stat("f", &st);
  EXPECT_EQ(st.st_mtim.tv_nsec, 2000);
  int fd = open("f", O_WRONLY);
  EXPECT_EQ(futimens(fd, nullptr), 0);
  time_t before = st.st_mtim.tv_sec;
  write(fd, "x", 1);
  fstat(fd, &st);
  EXPECT(st.st_mtim.tv_sec > before);
  symlink("f", "l");
  t[0] = t[1] = {77, 0};
  EXPECT_EQ(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW), 0);
  lstat("l", &st);
  EXPECT_EQ(st.st_mtim.tv_sec, 77);
}

CASE(statx_and_statfs) {
  put("f", "123");
  struct statx x;
  EXPECT_EQ(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x), 0);
  struct stat st;
  stat("f", &st);
  EXPECT_EQ(x.stx_ino, st.st_ino);
  EXPECT_EQ(x.stx_size, 3);
  EXPECT_EQ(makedev(x.stx_dev_major, x.stx_dev_minor), st.st_dev);
  EXPECT_EQ((x.stx_mask & STATX_BASIC_STATS), STATX_BASIC_STATS);
  FAILS(syscall(SYS_statx, AT_FDCWD, "f", 0, 1u << 31, &x), EINVAL);
  FAILS(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0, &x), EINVAL);
  FAILS(statx(AT_FDCWD, "", 0, 0, &x), ENOENT);
  EXPECT_EQ(statx(AT_FDCWD, "", AT_EMPTY_PATH, 0, &x), 0);
  EXPECT(S_ISDIR(x.stx_mode));
  FAILS(stat("f", reinterpret_cast<struct stat*>(16)), EFAULT);
  FAILS(fstatat(AT_FDCWD, "f", &st, 1 << 20), EINVAL);
  struct statfs fs;
  EXPECT_EQ(statfs("f", &fs), 0);
  EXPECT_EQ(fs.f_namelen, 255);
  int p[2];
  pipe(p);
  EXPECT_EQ(fstatfs(p[0], &fs), 0);
  EXPECT_EQ(fstat(p[0], &st), 0);
  EXPECT(S_ISFIFO(st.st_mode));
}

CASE(extended_attributes) {
  put("f");
  if (setxattr("f", "user.one", "1", 1, XATTR_CREATE) && errno == EOPNOTSUPP) return;  // the native file system cannot
  FAILS(setxattr("f", "user.one", "1", 1, XATTR_CREATE), EEXIST);
  FAILS(setxattr("f", "user.two", "1", 1, XATTR_REPLACE), ENODATA);
  FAILS(setxattr("f", "none.x", "1", 1, 0), EOPNOTSUPP);
  FAILS(setxattr("f", "", "1", 1, 0), ERANGE);
  FAILS(setxattr("f", "user.x", "1", 1, 77), EINVAL);
  char buf[10];
  EXPECT_EQ(getxattr("f", "user.one", nullptr, 0), 1);
  EXPECT_EQ(getxattr("f", "user.one", buf, sizeof buf), 1);
  FAILS(getxattr("f", "user.none", buf, sizeof buf), ENODATA);
  EXPECT_EQ(setxattr("f", "user.one", "longer", 6, 0), 0);
  FAILS(getxattr("f", "user.one", buf, 3), ERANGE);
  int fd = open("f", O_RDONLY);
  EXPECT(flistxattr(fd, nullptr, 0) >= 9);
  symlink("f", "l");
  FAILS(lsetxattr("l", "user.x", "1", 1, 0), EPERM);
  EXPECT_EQ(removexattr("f", "user.one"), 0);
  FAILS(removexattr("f", "user.one"), ENODATA);
  if (getuid() == 0) {
    EXPECT_EQ(setxattr("f", "trusted.t", "1", 1, 0), 0);
    chmod(".", 0755);
    chmod("f", 0666);
    EXPECT_EQ(in_child([] {
      if (setresuid(1000, 1000, 1000)) return 1;
      char b[10];
      if (getxattr("f", "trusted.t", b, 10) != -1 || errno != ENODATA) return 2;
      if (setxattr("f", "trusted.u", "1", 1, 0) != -1 || errno != EPERM) return 3;
      return 0;
    }), 0);
  }
}

CASE(bind_mounts) {
  if (getuid() != 0) return;
  if (unshare(CLONE_NEWNS) != 0) return;
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
  mkdir("a", 0755);
  put("a/f", "text");
  mkdir("b", 0755);
  EXPECT_EQ(mount("a", "b", nullptr, MS_BIND, nullptr), 0);
  EXPECT(there("b/f"));
  FAILS(rename("b/f", "f"), EXDEV);
  FAILS(rmdir("b"), EBUSY);
  EXPECT_EQ(mount(nullptr, "b", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), 0);
  FAILS(open("b/f", O_WRONLY), EROFS);
  FAILS(open("b/new", O_CREAT | O_WRONLY, 0644), EROFS);
  FAILS(unlink("b/f"), EROFS);
  FAILS(chmod("b/f", 0600), EROFS);
  FAILS(access("b/f", W_OK), EROFS);
  EXPECT(open("a/f", O_WRONLY) >= 0);
  struct statfs fs;
  statfs("b", &fs);
  EXPECT(fs.f_flags & MS_RDONLY);
  int busy = open("b/f", O_RDONLY);
  FAILS(umount("b"), EBUSY);
  FAILS(umount("a"), EINVAL);
  FAILS(umount2("b", 1 << 20), EINVAL);
  EXPECT_EQ(umount2("b", MNT_DETACH), 0);
  char c;
  EXPECT_EQ(read(busy, &c, 1), 1);
  EXPECT(!there("b/f"));
  FAILS(mount("none", "b", "nosuchfs", 0, nullptr), ENODEV);
  FAILS(mount("none", "none", "tmpfs", 0, nullptr), ENOENT);
}

CASE(device_nodes) {
  if (getuid() == 0 && mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0) {
    struct stat st;
    stat("null", &st);
    EXPECT_EQ(st.st_rdev, makedev(1, 3));
  }
  EXPECT_EQ(mknod("plain", 0600, 0), 0);
  EXPECT_EQ(mknod("sock", S_IFSOCK | 0600, 0), 0);
  FAILS(open("sock", O_RDWR), ENXIO);
  FAILS(mknod("dir", S_IFDIR | 0700, 0), EPERM);
  FAILS(mknod("what", 0170000, 0), EINVAL);
  EXPECT_EQ(mkfifo("fifo", 0600), 0);
}
