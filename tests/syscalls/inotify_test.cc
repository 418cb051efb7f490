// SPDX-License-Identifier: Apache-2.0
// inotify(7). Passes on Linux first, then in the sandbox.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/syscalls/checks.h"

namespace {

std::string bits(uint32_t m) {
  static const struct { uint32_t bit; const char* name; } kNames[] = {
      {IN_ACCESS, "access"}, {IN_MODIFY, "modify"}, {IN_ATTRIB, "attrib"}, {IN_CLOSE_WRITE, "close_write"},
      {IN_CLOSE_NOWRITE, "close"}, {IN_OPEN, "open"}, {IN_MOVED_FROM, "from"}, {IN_MOVED_TO, "to"}, {IN_CREATE, "create"},
      {IN_DELETE, "delete"}, {IN_DELETE_SELF, "delete_self"}, {IN_MOVE_SELF, "move_self"}, {IN_UNMOUNT, "unmount"},
      {IN_Q_OVERFLOW, "overflow"}, {IN_IGNORED, "ignored"}, {IN_ISDIR, "dir"}};
  std::string out;
  for (auto& n : kNames)
    if (m & n.bit) out += (out.empty() ? "" : "|") + std::string(n.name);
  return out;
}

class Inotify : public testing::Test {
 protected:
  void SetUp() override {
    char t[] = "/tmp/inotify.XXXXXX";
    ASSERT_TRUE(mkdtemp(t));
    dir = t;
    fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    ASSERT_GE(fd, 0);
  }
  void TearDown() override {
    close(fd);
    std::string cmd = dir;
    for (const char* f : {"a", "b", "c", "sub/x", "sub/y", "l", "h"}) unlink((dir + "/" + f).c_str());
    for (const char* f : {"sub", "sub2", "d"}) rmdir((dir + "/" + f).c_str());
    rmdir(dir.c_str());
  }
  std::string path(const char* name) { return dir + "/" + name; }
  void write_file(const char* name, const char* text) {
    int f = open(path(name).c_str(), O_WRONLY | O_CREAT, 0644);
    ASSERT_GE(f, 0);
    ASSERT_EQ(write(f, text, strlen(text)), static_cast<ssize_t>(strlen(text)));
    close(f);
  }
  // "wd:event:name", one each.
  std::vector<std::string> events() {
    alignas(8) char buf[8192];
    std::vector<std::string> out;
    cookies.clear();
    for (;;) {
      ssize_t n = read(fd, buf, sizeof buf);
      if (n <= 0) return out;
      for (ssize_t at = 0; at < n;) {
        auto* e = reinterpret_cast<inotify_event*>(buf + at);
        EXPECT_EQ(e->len % 16, 0u);
        out.push_back(std::to_string(e->wd) + ":" + bits(e->mask) + ":" + (e->len ? e->name : ""));
        cookies.push_back(e->cookie);
        at += static_cast<ssize_t>(sizeof *e + e->len);
      }
    }
  }
  using V = std::vector<std::string>;
  std::string dir;
  int fd = -1;
  std::vector<uint32_t> cookies;
};

TEST_F(Inotify, CreateWriteClose) {
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ALL_EVENTS), 1);
  write_file("a", "hello");
  EXPECT_EQ(events(), (V{"1:create:a", "1:open:a", "1:modify:a", "1:close_write:a"}));
}

TEST_F(Inotify, ReadAndClose) {
  write_file("a", "hello");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ALL_EVENTS), 1);
  int f = open(path("a").c_str(), O_RDONLY);
  char c;
  EXPECT_EQ(read(f, &c, 1), 1);
  EXPECT_EQ(pread(f, &c, 1, 1), 1);  // coalesced
  EXPECT_EQ(pread(f, &c, 1, 100), 0);  // nothing read
  close(f);
  EXPECT_EQ(events(), (V{"1:open:a", "1:access:a", "1:close:a"}));
}

TEST_F(Inotify, FileAndDirectoryBothTell) {
  write_file("a", "hello");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_OPEN), 1);
  ASSERT_EQ(inotify_add_watch(fd, path("a").c_str(), IN_OPEN | IN_CLOSE), 2);
  close(open(path("a").c_str(), O_RDONLY));
  EXPECT_EQ(events(), (V{"1:open:a", "2:open:", "2:close:"}));
}

TEST_F(Inotify, Truncations) {
  write_file("a", "hello");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ALL_EVENTS), 1);
  int f = open(path("a").c_str(), O_RDWR | O_TRUNC);
  EXPECT_EQ(ftruncate(f, 10), 0);
  close(f);
  EXPECT_EQ(truncate(path("a").c_str(), 3), 0);
  EXPECT_EQ(events(), (V{"1:open:a", "1:modify:a", "1:close_write:a", "1:modify:a"}));
}

TEST_F(Inotify, Attributes) {
  write_file("a", "hello");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ALL_EVENTS), 1);
  ASSERT_EQ(inotify_add_watch(fd, path("a").c_str(), IN_ATTRIB), 2);
  chmod(path("a").c_str(), 0600);
  EXPECT_EQ(events(), (V{"1:attrib:a", "2:attrib:"}));
  timespec both[2] = {{1, 0}, {2, 0}}, m[2] = {{0, UTIME_OMIT}, {2, 0}}, a[2] = {{3, 0}, {0, UTIME_OMIT}};
  utimensat(AT_FDCWD, path("a").c_str(), both, 0);
  utimensat(AT_FDCWD, path("a").c_str(), m, 0);
  utimensat(AT_FDCWD, path("a").c_str(), a, 0);
  EXPECT_EQ(events(), (V{"1:attrib:a", "2:attrib:", "1:modify:a", "1:access:a"}));
}

TEST_F(Inotify, Directories) {
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ALL_EVENTS), 1);
  mkdir(path("sub").c_str(), 0755);
  ASSERT_EQ(inotify_add_watch(fd, path("sub").c_str(), IN_ALL_EVENTS), 2);
  rmdir(path("sub").c_str());
  EXPECT_EQ(events(), (V{"1:create|dir:sub", "2:delete_self:", "2:ignored:", "1:delete|dir:sub"}));
}

TEST_F(Inotify, LinksAndSymlinks) {
  write_file("a", "x");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ALL_EVENTS), 1);
  ASSERT_EQ(inotify_add_watch(fd, path("a").c_str(), IN_ALL_EVENTS), 2);
  EXPECT_EQ(link(path("a").c_str(), path("h").c_str()), 0);
  EXPECT_EQ(symlink("a", path("l").c_str()), 0);
  EXPECT_EQ(unlink(path("h").c_str()), 0);
  EXPECT_EQ(unlink(path("l").c_str()), 0);
  EXPECT_EQ(events(), (V{"2:attrib:", "1:create:h", "1:create:l", "2:attrib:", "1:delete:h", "1:delete:l"}));
}

TEST_F(Inotify, UnlinkEndsTheWatch) {
  write_file("a", "x");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_DELETE), 1);
  ASSERT_EQ(inotify_add_watch(fd, path("a").c_str(), IN_ALL_EVENTS), 2);
  unlink(path("a").c_str());
  EXPECT_EQ(events(), (V{"2:attrib:", "2:delete_self:", "2:ignored:", "1:delete:a"}));
  EXPECT_ERRNO(inotify_rm_watch(fd, 2), EINVAL);
}

TEST_F(Inotify, UnlinkedButOpenEndsAtClose) {
  write_file("a", "x");
  int f = open(path("a").c_str(), O_RDWR);
  ASSERT_EQ(inotify_add_watch(fd, path("a").c_str(), IN_ALL_EVENTS), 1);
  unlink(path("a").c_str());
  EXPECT_EQ(events(), (V{"1:attrib:"}));
  EXPECT_EQ(write(f, "y", 1), 1);
  close(f);
  EXPECT_EQ(events(), (V{"1:modify:", "1:close_write:", "1:delete_self:", "1:ignored:"}));
}

TEST_F(Inotify, RenameHasOneCookie) {
  write_file("a", "x");
  mkdir(path("sub").c_str(), 0755);
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_MOVE), 1);
  ASSERT_EQ(inotify_add_watch(fd, path("sub").c_str(), IN_MOVE), 2);
  ASSERT_EQ(inotify_add_watch(fd, path("a").c_str(), IN_MOVE_SELF), 3);
  rename(path("a").c_str(), path("sub/x").c_str());
  EXPECT_EQ(events(), (V{"1:from:a", "2:to:x", "3:move_self:"}));
  ASSERT_EQ(cookies.size(), 3u);
  EXPECT_NE(cookies[0], 0u);
  EXPECT_EQ(cookies[0], cookies[1]);
  EXPECT_EQ(cookies[2], 0u);
  uint32_t first = cookies[0];
  rename(path("sub/x").c_str(), path("b").c_str());
  EXPECT_EQ(events(), (V{"2:from:x", "1:to:b", "3:move_self:"}));
  EXPECT_NE(cookies[0], first);
}

TEST_F(Inotify, RenameOverAFile) {
  write_file("a", "x");
  write_file("b", "y");
  ASSERT_EQ(inotify_add_watch(fd, path("b").c_str(), IN_ALL_EVENTS), 1);
  rename(path("a").c_str(), path("b").c_str());
  EXPECT_EQ(events(), (V{"1:attrib:", "1:delete_self:", "1:ignored:"}));
}

TEST_F(Inotify, RenameOfADirectory) {
  mkdir(path("sub").c_str(), 0755);
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ALL_EVENTS), 1);
  ASSERT_EQ(inotify_add_watch(fd, path("sub").c_str(), IN_ALL_EVENTS), 2);
  rename(path("sub").c_str(), path("sub2").c_str());
  EXPECT_EQ(events(), (V{"1:from|dir:sub", "1:to|dir:sub2", "2:move_self:"}));
  // A name that moved tells by its new one.
  close(open(path("sub2").c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(events(), (V{"1:open|dir:sub2", "2:open|dir:", "1:close|dir:sub2", "2:close|dir:"}));
}

TEST_F(Inotify, OneWatchPerInode) {
  write_file("a", "x");
  EXPECT_EQ(link(path("a").c_str(), path("h").c_str()), 0);
  int w = inotify_add_watch(fd, path("a").c_str(), IN_OPEN);
  EXPECT_EQ(inotify_add_watch(fd, path("h").c_str(), IN_CLOSE), w);  // replaces the mask
  close(open(path("a").c_str(), O_RDONLY));
  EXPECT_EQ(events(), (V{"1:close:"}));
  EXPECT_EQ(inotify_add_watch(fd, path("a").c_str(), IN_OPEN | IN_MASK_ADD), w);
  close(open(path("a").c_str(), O_RDONLY));
  EXPECT_EQ(events(), (V{"1:open:", "1:close:"}));
  EXPECT_ERRNO(inotify_add_watch(fd, path("a").c_str(), IN_OPEN | IN_MASK_CREATE), EEXIST);
}

TEST_F(Inotify, NumbersAreNotUsedAgain) {
  EXPECT_EQ(inotify_add_watch(fd, dir.c_str(), IN_OPEN), 1);
  EXPECT_EQ(inotify_rm_watch(fd, 1), 0);
  EXPECT_EQ(events(), (V{"1:ignored:"}));
  EXPECT_EQ(inotify_add_watch(fd, dir.c_str(), IN_OPEN), 2);
  EXPECT_ERRNO(inotify_rm_watch(fd, 1), EINVAL);
}

TEST_F(Inotify, OneShot) {
  write_file("a", "x");
  ASSERT_EQ(inotify_add_watch(fd, path("a").c_str(), IN_OPEN | IN_ONESHOT), 1);
  close(open(path("a").c_str(), O_RDONLY));
  close(open(path("a").c_str(), O_RDONLY));
  EXPECT_EQ(events(), (V{"1:open:", "1:ignored:"}));
}

TEST_F(Inotify, UnlinkedChildrenCanBeLeftOut) {
  write_file("a", "x");
  int f = open(path("a").c_str(), O_RDWR);
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_MODIFY | IN_EXCL_UNLINK), 1);
  EXPECT_EQ(write(f, "y", 1), 1);
  unlink(path("a").c_str());
  EXPECT_EQ(write(f, "y", 1), 1);
  close(f);
  EXPECT_EQ(events(), (V{"1:modify:a"}));
}

TEST_F(Inotify, EqualEventsAreOne) {
  write_file("a", "x");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_MODIFY | IN_ATTRIB), 1);
  int f = open(path("a").c_str(), O_RDWR);
  for (int i = 0; i < 10; i++) EXPECT_EQ(write(f, "y", 1), 1);
  fchmod(f, 0600);
  for (int i = 0; i < 10; i++) EXPECT_EQ(write(f, "y", 1), 1);
  close(f);
  EXPECT_EQ(events(), (V{"1:modify:a", "1:attrib:a", "1:modify:a"}));
}

TEST_F(Inotify, TheQueueOverflows) {
  FILE* limit = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
  int max = 16384;
  if (limit) {
    EXPECT_EQ(fscanf(limit, "%d", &max), 1);
    fclose(limit);
  }
  if (max > 40000) GTEST_SKIP();
  write_file("a", "x");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_OPEN | IN_CLOSE), 1);
  for (int i = 0; i <= max / 2 + 10; i++) close(open(path("a").c_str(), O_RDONLY));
  std::vector<std::string> all = events();
  ASSERT_EQ(all.size(), static_cast<size_t>(max) + 1);
  EXPECT_EQ(all.back(), "-1:overflow:");
}

TEST_F(Inotify, SmallBuffers) {
  char small[sizeof(inotify_event) + 15];
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_CREATE), 1);
  EXPECT_ERRNO(read(fd, small, sizeof small), EAGAIN);
  write_file("a", "x");
  write_file("b", "x");
  EXPECT_ERRNO(read(fd, small, sizeof small), EINVAL);
  int bytes = 0;
  EXPECT_EQ(ioctl(fd, FIONREAD, &bytes), 0);
  EXPECT_EQ(bytes, 64);
  char one[40];
  EXPECT_EQ(read(fd, one, sizeof one), 32);
  EXPECT_EQ(read(fd, one, sizeof one), 32);
  EXPECT_ERRNO(write(fd, one, 1), EBADF);
}

TEST_F(Inotify, WaitsAndPolls) {
  int blocking = inotify_init();
  ASSERT_EQ(inotify_add_watch(blocking, dir.c_str(), IN_CREATE), 1);
  pollfd p{blocking, POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  int ep = epoll_create1(0);
  epoll_event ev{EPOLLIN, {}}, got{};
  EXPECT_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, blocking, &ev), 0);
  std::thread t([&] {
    usleep(30000);
    write_file("a", "x");
  });
  char buf[256];
  EXPECT_EQ(read(blocking, buf, sizeof buf), 32);
  t.join();
  unlink(path("a").c_str());
  write_file("a", "x");
  EXPECT_EQ(epoll_wait(ep, &got, 1, 1000), 1);
  close(ep);
  close(blocking);
}

TEST_F(Inotify, OtherProcessesTell) {
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_CREATE), 1);
  pid_t pid = fork();
  if (pid == 0) {
    mkdir(path("d").c_str(), 0755);
    _exit(0);
  }
  waitpid(pid, nullptr, 0);
  EXPECT_EQ(events(), (V{"1:create|dir:d"}));
}

TEST_F(Inotify, Readdir) {
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ACCESS), 1);
  write_file("a", "x");
  int d = open(dir.c_str(), O_RDONLY | O_DIRECTORY);
  char buf[1024];
  EXPECT_GT(syscall(SYS_getdents64, d, buf, sizeof buf), 0);
  close(d);
  EXPECT_EQ(events(), (V{"1:access|dir:"}));
}

TEST_F(Inotify, SendfileTells) {
  write_file("a", "hello");
  write_file("b", "");
  ASSERT_EQ(inotify_add_watch(fd, dir.c_str(), IN_ACCESS | IN_MODIFY), 1);
  int in = open(path("a").c_str(), O_RDONLY), out = open(path("b").c_str(), O_WRONLY);
  EXPECT_EQ(sendfile(out, in, nullptr, 5), 5);
  close(in);
  close(out);
  EXPECT_EQ(events(), (V{"1:access:a", "1:modify:b"}));
}

TEST_F(Inotify, Errors) {
  EXPECT_ERRNO(inotify_init1(1), EINVAL);
  EXPECT_ERRNO(inotify_add_watch(fd, dir.c_str(), 0), EINVAL);
  EXPECT_ERRNO(inotify_add_watch(fd, dir.c_str(), 1u << 20), EINVAL);
  EXPECT_ERRNO(inotify_add_watch(fd, dir.c_str(), IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE), EINVAL);
  EXPECT_ERRNO(inotify_add_watch(-1, dir.c_str(), IN_OPEN), EBADF);
  EXPECT_ERRNO(inotify_add_watch(0, dir.c_str(), IN_OPEN), EINVAL);
  EXPECT_ERRNO(inotify_add_watch(fd, path("none").c_str(), IN_OPEN), ENOENT);
  EXPECT_ERRNO(inotify_add_watch(fd, nullptr, IN_OPEN), EFAULT);
  write_file("a", "x");
  EXPECT_ERRNO(inotify_add_watch(fd, path("a").c_str(), IN_OPEN | IN_ONLYDIR), ENOTDIR);
  EXPECT_ERRNO(inotify_rm_watch(-1, 1), EBADF);
  EXPECT_ERRNO(inotify_rm_watch(0, 1), EINVAL);
  EXPECT_ERRNO(inotify_rm_watch(fd, 7), EINVAL);
}

TEST_F(Inotify, SymlinksAreFollowedUnlessNot) {
  write_file("a", "x");
  EXPECT_EQ(symlink("a", path("l").c_str()), 0);
  int a = inotify_add_watch(fd, path("a").c_str(), IN_OPEN);
  EXPECT_EQ(inotify_add_watch(fd, path("l").c_str(), IN_OPEN), a);
  EXPECT_NE(inotify_add_watch(fd, path("l").c_str(), IN_OPEN | IN_DONT_FOLLOW), a);
}

TEST_F(Inotify, InstancesAreLimited) {
  std::vector<int> fds;
  for (int i = 0; i < 2000; i++) {
    int f = inotify_init1(0);
    if (f < 0) break;
    fds.push_back(f);
  }
  EXPECT_LT(fds.size(), 1500u);
  EXPECT_EQ(errno, EMFILE);
  for (int f : fds) close(f);
  int f = inotify_init1(0);
  EXPECT_GE(f, 0);
  close(f);
}

}  // namespace
