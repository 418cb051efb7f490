// SPDX-License-Identifier: Apache-2.0
// Mounts by descriptor: fsopen, fsconfig, fsmount, fspick, open_tree, move_mount, mount_setattr; and what mount(2) has in common with
// them. Passes on Linux first, then in the sandbox. Every case is a child with mounts of its own.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include <functional>
#include <string>

#include "tests/syscalls/checks.h"

namespace {

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
constexpr unsigned kRecursive = 0x8000;  // AT_RECURSIVE

int fs_open(const char* type, unsigned flags = 0) { return static_cast<int>(syscall(SYS_fsopen, type, flags)); }
int fs_config(int fd, unsigned cmd, const char* key, const void* value, int aux = 0) {
  return static_cast<int>(syscall(SYS_fsconfig, fd, cmd, key, value, aux));
}
int fs_set(int fd, const char* key, const char* value) { return fs_config(fd, FSCONFIG_SET_STRING, key, value); }
int fs_create(int fd) { return fs_config(fd, FSCONFIG_CMD_CREATE, nullptr, nullptr); }
int fs_mount(int fd, unsigned flags = 0, unsigned attr = 0) { return static_cast<int>(syscall(SYS_fsmount, fd, flags, attr)); }
int fs_pick(int dir, const char* path, unsigned flags = 0) { return static_cast<int>(syscall(SYS_fspick, dir, path, flags)); }
int tree_of(const char* path, unsigned flags) { return static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, path, flags)); }
int move_to(int tree, const char* path) {
  return static_cast<int>(syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH));
}
struct Attr {
  uint64_t set, clear, propagation, userns_fd;
};
int set_attr(int dir, const char* path, unsigned flags, Attr a, size_t size = sizeof(Attr)) {
  return static_cast<int>(syscall(SYS_mount_setattr, dir, path, flags, &a, size));
}
std::string message_of(int fd) {
  char b[200];
  ssize_t n = read(fd, b, sizeof b);
  return n < 0 ? strerror(errno) : std::string(b, static_cast<size_t>(n));
}
bool makes_file(const std::string& path) {
  int fd = open(path.c_str(), O_CREAT | O_WRONLY, 0600);
  if (fd >= 0) close(fd);
  return fd >= 0;
}
bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }
unsigned long statfs_flags(const char* path) {
  struct statfs s = {};
  EXPECT_EQ(statfs(path, &s), 0) << path;
  return static_cast<unsigned long>(s.f_flags) & ~0x20ul;  // ST_VALID
}

// A mount namespace in which nothing leads out, and a tmpfs at kTop of it with directories a and b.
constexpr const char* kTop = "/tmp/mounts_test";
class Mounts : public testing::Test {
 protected:
  void SetUp() override { mkdir(kTop, 0755); }
  void TearDown() override { rmdir(kTop); }
  static void boxed(const std::function<void()>& f) {
    EXPECT_EQ(in_child([&] {
      ASSERT_EQ(unshare(CLONE_NEWNS), 0) << strerror(errno);
      ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
      ASSERT_EQ(mount("none", kTop, "tmpfs", 0, nullptr), 0);
      ASSERT_EQ(chdir(kTop), 0);
      ASSERT_EQ(mkdir("a", 0755), 0);
      ASSERT_EQ(mkdir("b", 0755), 0);
      f();
    }), 0);
  }
  // A detached tmpfs.
  static int detached(unsigned attr = 0) {
    int fs = fs_open("tmpfs", FSOPEN_CLOEXEC);
    EXPECT_GE(fs, 0) << strerror(errno);
    EXPECT_EQ(fs_create(fs), 0) << strerror(errno);
    int m = fs_mount(fs, FSMOUNT_CLOEXEC, attr);
    EXPECT_GE(m, 0) << strerror(errno);
    close(fs);
    return m;
  }
};

TEST_F(Mounts, AFileSystemInSteps) {
  boxed([] {
    int fs = fs_open("tmpfs", FSOPEN_CLOEXEC);
    ASSERT_GE(fs, 0) << strerror(errno);
    EXPECT_EQ(fcntl(fs, F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(fs_set(fs, "source", "mine"), 0) << strerror(errno);
    EXPECT_EQ(fs_set(fs, "mode", "0711"), 0) << strerror(errno);
    EXPECT_EQ(fs_set(fs, "size", "1m"), 0) << strerror(errno);
    EXPECT_EQ(fs_create(fs), 0) << strerror(errno);
    int m = fs_mount(fs, 0, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME);
    ASSERT_GE(m, 0) << strerror(errno);
    EXPECT_EQ(fcntl(m, F_GETFD), 0);
    EXPECT_EQ(fcntl(m, F_GETFL) & O_PATH, O_PATH);
    // It is there before it is anywhere.
    int f = openat(m, "early", O_CREAT | O_WRONLY, 0600);
    EXPECT_GE(f, 0) << strerror(errno);
    close(f);
    ASSERT_EQ(move_to(m, "a"), 0) << strerror(errno);
    EXPECT_TRUE(exists("a/early"));
    struct stat st;
    EXPECT_EQ(stat("a", &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0711u);
    EXPECT_EQ(statfs_flags("a"), static_cast<unsigned long>(MS_NODEV | MS_NOEXEC | MS_NOATIME));
    close(m);
    close(fs);
    EXPECT_TRUE(exists("a/early"));  // attached: no descriptor keeps it
    EXPECT_EQ(umount("a"), 0) << strerror(errno);
    EXPECT_FALSE(exists("a/early"));
  });
}

TEST_F(Mounts, WhatGoesWrongIsToldInWords) {
  boxed([] {
    EXPECT_ERRNO(fs_open("no_such_type"), ENODEV);
    EXPECT_ERRNO(fs_open(nullptr), EFAULT);
    EXPECT_ERRNO(fs_open("tmpfs", 2), EINVAL);
    int fs = fs_open("tmpfs");
    ASSERT_GE(fs, 0);
    EXPECT_EQ(message_of(fs), strerror(ENODATA));
    EXPECT_ERRNO(fs_set(fs, "what", "ever"), EINVAL);
    EXPECT_EQ(message_of(fs), "e tmpfs: Unknown parameter 'what'\n");
    EXPECT_ERRNO(fs_set(fs, "size", "many"), EINVAL);
    EXPECT_EQ(message_of(fs), "e tmpfs: Bad value for 'size'\n");
    EXPECT_EQ(message_of(fs), strerror(ENODATA));
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_FLAG, "what", nullptr), EINVAL);
    char small[4];
    EXPECT_ERRNO(read(fs, small, sizeof small), EMSGSIZE);
    EXPECT_EQ(fs_set(fs, "source", "one"), 0);
    EXPECT_ERRNO(fs_set(fs, "source", "two"), EINVAL);
    EXPECT_ERRNO(write(fs, small, 1), EINVAL);
    EXPECT_EQ(fs_create(fs), 0);  // none of that did it harm
    close(fs);
  });
}

TEST_F(Mounts, ArgumentsOfFsconfigGoWithItsCommand) {
  boxed([] {
    int fs = fs_open("tmpfs");
    ASSERT_GE(fs, 0);
    EXPECT_ERRNO(fs_config(-1, FSCONFIG_CMD_CREATE, nullptr, nullptr), EINVAL);
    EXPECT_ERRNO(fs_config(999, FSCONFIG_CMD_CREATE, nullptr, nullptr), EBADF);
    EXPECT_ERRNO(fs_config(0, FSCONFIG_CMD_CREATE, nullptr, nullptr), EINVAL);
    EXPECT_ERRNO(fs_config(fs, 99, nullptr, nullptr), EOPNOTSUPP);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_CMD_CREATE, "key", nullptr), EINVAL);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 1), EINVAL);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_FLAG, nullptr, nullptr), EINVAL);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_FLAG, "ro", "value"), EINVAL);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_STRING, "size", nullptr), EINVAL);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_STRING, "size", "1m", 1), EINVAL);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_BINARY, "size", "1m", 0), EINVAL);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_FD, "size", nullptr, -1), EINVAL);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_STRING, reinterpret_cast<const char*>(1), "1m"), EFAULT);
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_SET_STRING, "size", reinterpret_cast<const char*>(1)), EFAULT);
    EXPECT_ERRNO(fs_set(fs, std::string(300, 'k').c_str(), "1m"), EINVAL);
    EXPECT_ERRNO(fs_set(fs, "", "1m"), EINVAL);
    close(fs);
  });
}

TEST_F(Mounts, StepsHaveAnOrder) {
  boxed([] {
    int fs = fs_open("tmpfs");
    EXPECT_ERRNO(fs_mount(fs), EINVAL);  // nothing to mount yet
    EXPECT_ERRNO(fs_config(fs, FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr), EBUSY);
    EXPECT_EQ(fs_create(fs), 0);
    EXPECT_ERRNO(fs_create(fs), EBUSY);
    EXPECT_ERRNO(fs_set(fs, "mode", "700"), EBUSY);
    EXPECT_ERRNO(fs_mount(fs, 2), EINVAL);
    EXPECT_ERRNO(fs_mount(fs, 0, 0x40000000), EINVAL);
    EXPECT_ERRNO(fs_mount(fs, 0, MOUNT_ATTR_STRICTATIME | MOUNT_ATTR_NOATIME), EINVAL);
    EXPECT_ERRNO(fs_mount(0), EINVAL);
    EXPECT_ERRNO(fs_mount(999), EBADF);
    int m = fs_mount(fs);
    EXPECT_GE(m, 0) << strerror(errno);
    EXPECT_ERRNO(fs_mount(fs), EBUSY);
    close(m);
    close(fs);
  });
}

TEST_F(Mounts, ReadOnlyOfTheWholeFileSystem) {
  boxed([] {
    int fs = fs_open("tmpfs");
    EXPECT_EQ(fs_config(fs, FSCONFIG_SET_FLAG, "ro", nullptr), 0) << strerror(errno);
    EXPECT_EQ(fs_create(fs), 0);
    int m = fs_mount(fs);
    ASSERT_EQ(move_to(m, "a"), 0) << strerror(errno);
    EXPECT_FALSE(makes_file("a/x"));
    EXPECT_EQ(errno, EROFS);
    EXPECT_TRUE(statfs_flags("a") & MS_RDONLY);
    // The same descriptor changes it from now on, and so does one that picks the mount.
    EXPECT_EQ(fs_config(fs, FSCONFIG_SET_FLAG, "rw", nullptr), 0) << strerror(errno);
    EXPECT_EQ(fs_config(fs, FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr), 0) << strerror(errno);
    EXPECT_TRUE(makes_file("a/x"));
    ASSERT_EQ(mount("a", "b", nullptr, MS_BIND, nullptr), 0);
    int picked = fs_pick(AT_FDCWD, "a", FSPICK_CLOEXEC);
    ASSERT_GE(picked, 0) << strerror(errno);
    EXPECT_EQ(fcntl(picked, F_GETFD), FD_CLOEXEC);
    EXPECT_ERRNO(fs_create(picked), EBUSY);
    EXPECT_EQ(fs_config(picked, FSCONFIG_SET_FLAG, "ro", nullptr), 0);
    EXPECT_TRUE(makes_file("a/y"));  // not until it is said
    EXPECT_EQ(fs_config(picked, FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr), 0) << strerror(errno);
    EXPECT_FALSE(makes_file("a/z"));
    EXPECT_FALSE(makes_file("b/z"));  // through every mount
    EXPECT_ERRNO(fs_pick(AT_FDCWD, "a/x"), EINVAL);  // no mount's root
    EXPECT_ERRNO(fs_pick(AT_FDCWD, "none"), ENOENT);
    EXPECT_ERRNO(fs_pick(AT_FDCWD, "a", 0x100), EINVAL);
  });
}

TEST_F(Mounts, ATreeThatHangsNowhereGoesWithItsDescriptor) {
  boxed([] {
    int m = detached();
    int same = dup(m);
    ASSERT_EQ(mkdirat(m, "d", 0755), 0);
    int inside = openat(m, "d", O_DIRECTORY);
    close(m);
    EXPECT_EQ(move_to(same, "a"), 0) << strerror(errno);  // dup is the same description
    EXPECT_TRUE(exists("a/d"));
    EXPECT_EQ(umount2("a", MNT_DETACH), 0);
    EXPECT_ERRNO(move_to(same, "a"), EINVAL);  // what is unmounted is not mounted again
    close(same);
    EXPECT_EQ(faccessat(inside, ".", F_OK, 0), 0);  // whoever is in it stays in it
    close(inside);
    // One that was never moved: its descriptor's end is its end.
    m = detached();
    inside = openat(m, ".", O_DIRECTORY | O_PATH);
    EXPECT_EQ(syscall(SYS_move_mount, m, "", AT_FDCWD, "b", 0), -1);
    EXPECT_EQ(errno, ENOENT);  // an empty path without the flag
    close(m);
    EXPECT_ERRNO(move_to(inside, "b"), EINVAL);
  });
}

TEST_F(Mounts, AClonedTree) {
  boxed([] {
    ASSERT_TRUE(makes_file("a/under"));
    ASSERT_EQ(mount("none", "b", "tmpfs", 0, nullptr), 0);
    ASSERT_TRUE(makes_file("b/in_b"));
    int one = tree_of(kTop, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    ASSERT_GE(one, 0) << strerror(errno);
    EXPECT_EQ(fcntl(one, F_GETFD), FD_CLOEXEC);
    int all = tree_of(kTop, OPEN_TREE_CLONE | kRecursive);
    ASSERT_GE(all, 0) << strerror(errno);
    EXPECT_EQ(faccessat(one, "b/in_b", F_OK, 0), -1);
    EXPECT_EQ(faccessat(all, "b/in_b", F_OK, 0), 0);
    EXPECT_EQ(faccessat(all, "a/under", F_OK, 0), 0);
    ASSERT_EQ(umount("b"), 0);
    EXPECT_EQ(faccessat(all, "b/in_b", F_OK, 0), 0);  // a copy
    ASSERT_EQ(move_to(all, "a"), 0) << strerror(errno);
    EXPECT_TRUE(exists("a/b/in_b"));
    EXPECT_TRUE(exists("a/a/under"));
    EXPECT_ERRNO(umount("a"), EBUSY);  // b is still in it
    close(all);
    EXPECT_EQ(umount("a/b"), 0) << strerror(errno);
    EXPECT_EQ(umount("a"), 0) << strerror(errno);
    // A subdirectory, and a file.
    int sub = tree_of("a", OPEN_TREE_CLONE);
    ASSERT_EQ(move_to(sub, "b"), 0) << strerror(errno);
    EXPECT_TRUE(exists("b/under"));
    int file = tree_of("a/under", OPEN_TREE_CLONE);
    ASSERT_GE(file, 0);
    EXPECT_ERRNO(move_to(file, "a"), EINVAL);  // a file over a directory
    ASSERT_TRUE(makes_file("f"));
    EXPECT_EQ(move_to(file, "f"), 0) << strerror(errno);
    EXPECT_EQ(umount("f"), -1);  // the descriptor is in it
    close(file);
    EXPECT_EQ(umount("f"), 0) << strerror(errno);
  });
}

TEST_F(Mounts, OpenTreeWithoutACloneIsOPath) {
  boxed([] {
    int d = tree_of("a", 0);
    ASSERT_GE(d, 0) << strerror(errno);
    EXPECT_EQ(fcntl(d, F_GETFL) & O_PATH, O_PATH);
    EXPECT_EQ(faccessat(d, ".", F_OK, 0), 0);
    EXPECT_ERRNO(tree_of("a", kRecursive), EINVAL);
    EXPECT_ERRNO(tree_of("a", 2), EINVAL);
    EXPECT_ERRNO(tree_of("none", 0), ENOENT);
    EXPECT_ERRNO(tree_of("", 0), ENOENT);
    EXPECT_ERRNO(tree_of(reinterpret_cast<const char*>(1), 0), EFAULT);
    ASSERT_EQ(symlink("none", "link"), 0);
    EXPECT_ERRNO(tree_of("link", 0), ENOENT);
    EXPECT_GE(tree_of("link", AT_SYMLINK_NOFOLLOW), 0) << strerror(errno);
    EXPECT_GE(syscall(SYS_open_tree, d, "", AT_EMPTY_PATH), 0) << strerror(errno);
    // Not a mount's root, so nothing to move.
    EXPECT_ERRNO(move_to(d, "b"), EINVAL);
  });
}

TEST_F(Mounts, MovingWhatIsMounted) {
  boxed([] {
    ASSERT_EQ(mount("none", "a", "tmpfs", 0, nullptr), 0);
    ASSERT_TRUE(makes_file("a/x"));
    ASSERT_EQ(mkdir("a/in", 0755), 0);
    auto move_names = [](const char* from, const char* to, unsigned flags = 0) { return syscall(SYS_move_mount, AT_FDCWD, from, AT_FDCWD, to, flags); };
    EXPECT_ERRNO(move_names("a", "a/in"), ELOOP);
    EXPECT_ERRNO(move_names("a", "a/x"), EINVAL);
    EXPECT_ERRNO(move_names("b", "a"), EINVAL);
    EXPECT_ERRNO(move_names("a", "none"), ENOENT);
    EXPECT_ERRNO(move_names("a", "b", 0x1000), EINVAL);
    EXPECT_EQ(move_names("a", "b"), 0) << strerror(errno);
    EXPECT_TRUE(exists("b/x"));
    EXPECT_FALSE(exists("a/x"));
    EXPECT_ERRNO(mount("b", "b/x", nullptr, MS_MOVE, nullptr), EINVAL);  // mount(2) says the same of a file
    EXPECT_ERRNO(mount("b", "b/x", nullptr, MS_BIND, nullptr), ENOTDIR);
  });
}

TEST_F(Mounts, AttributesOfOneAndOfAll) {
  boxed([] {
    ASSERT_EQ(mount("none", "a", "tmpfs", 0, nullptr), 0);
    ASSERT_EQ(mkdir("a/in", 0755), 0);
    ASSERT_EQ(mount("none", "a/in", "tmpfs", 0, nullptr), 0);
    EXPECT_EQ(set_attr(AT_FDCWD, "a", 0, {MOUNT_ATTR_RDONLY, 0, 0, 0}), 0) << strerror(errno);
    EXPECT_FALSE(makes_file("a/x"));
    EXPECT_TRUE(makes_file("a/in/x"));
    EXPECT_EQ(set_attr(AT_FDCWD, "a", kRecursive, {MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOSYMFOLLOW, 0, 0, 0}), 0) << strerror(errno);
    EXPECT_FALSE(makes_file("a/in/y"));
    EXPECT_EQ(errno, EROFS);
    EXPECT_EQ(set_attr(AT_FDCWD, "a", kRecursive, {MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY, 0, 0}), 0) << strerror(errno);
    EXPECT_TRUE(makes_file("a/in/y"));
    EXPECT_EQ(statfs_flags("a/in") & (MS_NOSUID | MS_NODEV | MS_RDONLY), static_cast<unsigned long>(MS_NOSUID | MS_NODEV));
    // Access times are one choice: cleared as a whole, then set.
    EXPECT_ERRNO(set_attr(AT_FDCWD, "a", 0, {MOUNT_ATTR_NOATIME, 0, 0, 0}), EINVAL);
    EXPECT_ERRNO(set_attr(AT_FDCWD, "a", 0, {MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, 0, 0}), EINVAL);
    EXPECT_EQ(set_attr(AT_FDCWD, "a", 0, {MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0, 0}), 0) << strerror(errno);
    EXPECT_EQ(statfs_flags("a") & MS_NOATIME, static_cast<unsigned long>(MS_NOATIME));
    EXPECT_EQ(set_attr(AT_FDCWD, "a", 0, {0, MOUNT_ATTR__ATIME, 0, 0}), 0) << strerror(errno);
    EXPECT_EQ(statfs_flags("a") & MS_NOATIME, 0u);
    EXPECT_EQ(set_attr(AT_FDCWD, "a", kRecursive, {0, 0, MS_PRIVATE, 0}), 0) << strerror(errno);
  });
}

TEST_F(Mounts, AttributesThatCannotBe) {
  boxed([] {
    EXPECT_ERRNO(set_attr(AT_FDCWD, "a", 0, {MOUNT_ATTR_RDONLY, 0, 0, 0}), EINVAL);  // no mount's root
    EXPECT_EQ(set_attr(AT_FDCWD, "none", 0, {0, 0, 0, 0}), 0);                        // nothing to do: not even looked at
    EXPECT_ERRNO(set_attr(AT_FDCWD, "none", 0, {MOUNT_ATTR_RDONLY, 0, 0, 0}), ENOENT);
    EXPECT_ERRNO(set_attr(AT_FDCWD, kTop, 0x10, {MOUNT_ATTR_RDONLY, 0, 0, 0}), EINVAL);
    EXPECT_ERRNO(set_attr(AT_FDCWD, kTop, 0, {1ull << 40, 0, 0, 0}), EINVAL);
    EXPECT_ERRNO(set_attr(AT_FDCWD, kTop, 0, {0, 0, 1, 0}), EINVAL);
    EXPECT_ERRNO(set_attr(AT_FDCWD, kTop, 0, {0, 0, MS_PRIVATE | MS_SHARED, 0}), EINVAL);
    EXPECT_ERRNO(set_attr(AT_FDCWD, kTop, 0, {MOUNT_ATTR_RDONLY, 0, 0, 0}, 16), EINVAL);
    EXPECT_ERRNO(set_attr(AT_FDCWD, kTop, 0, {MOUNT_ATTR_RDONLY, 0, 0, 0}, 5000), E2BIG);
    EXPECT_ERRNO(set_attr(AT_FDCWD, kTop, 0, {MOUNT_ATTR_IDMAP, 0, 0, 999}), EBADF);
    EXPECT_ERRNO(syscall(SYS_mount_setattr, AT_FDCWD, kTop, 0, 1, sizeof(Attr)), EFAULT);
    struct {
      Attr a;
      uint64_t more;
    } longer = {{MOUNT_ATTR_NODEV, 0, 0, 0}, 1};
    EXPECT_ERRNO(syscall(SYS_mount_setattr, AT_FDCWD, kTop, 0, &longer, sizeof longer), E2BIG);
    longer.more = 0;
    EXPECT_EQ(syscall(SYS_mount_setattr, AT_FDCWD, kTop, 0, &longer, sizeof longer), 0) << strerror(errno);
    // A detached mount has attributes too.
    int m = detached(MOUNT_ATTR_RDONLY);
    EXPECT_EQ(openat(m, "x", O_CREAT | O_WRONLY, 0600), -1);
    EXPECT_EQ(set_attr(m, "", AT_EMPTY_PATH, {0, MOUNT_ATTR_RDONLY, 0, 0}), 0) << strerror(errno);
    EXPECT_GE(openat(m, "x", O_CREAT | O_WRONLY, 0600), 0) << strerror(errno);
  });
}

TEST_F(Mounts, OnlyWhoMayMountMay) {
  boxed([] {
    int m = detached();
    EXPECT_EQ(in_child([&] {
      ASSERT_EQ(setresuid(12345, 12345, 12345), 0);
      EXPECT_ERRNO(fs_open("tmpfs"), EPERM);
      EXPECT_ERRNO(fs_pick(AT_FDCWD, kTop), EPERM);
      EXPECT_ERRNO(fs_mount(999), EPERM);
      EXPECT_ERRNO(tree_of("a", OPEN_TREE_CLONE), EPERM);
      EXPECT_GE(tree_of("a", 0), 0) << strerror(errno);
      EXPECT_ERRNO(move_to(m, "a"), EPERM);
      EXPECT_ERRNO(set_attr(AT_FDCWD, kTop, 0, {MOUNT_ATTR_RDONLY, 0, 0, 0}), EPERM);
      // In a user namespace of its own it may, but the flags that its mounts came with stay.
      ASSERT_EQ(unshare(CLONE_NEWUSER | CLONE_NEWNS), 0) << strerror(errno);
      int own = detached();
      EXPECT_EQ(move_to(own, "a"), 0) << strerror(errno);
      EXPECT_ERRNO(tree_of("/", OPEN_TREE_CLONE), EINVAL);  // would show what is mounted over
      EXPECT_GE(tree_of("/", OPEN_TREE_CLONE | kRecursive), 0) << strerror(errno);
      EXPECT_EQ(move_to(m, "b"), 0) << strerror(errno);  // whoever has the descriptor
    }), 0);
  });
}

}  // namespace
