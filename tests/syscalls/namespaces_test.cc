// SPDX-License-Identifier: Apache-2.0
// User namespaces and those that they own: maps of ids, capabilities, setns(2), files of /proc/PID/ns. Passes on Linux first, then in
// the sandbox. Every case is a child, so that the test's own process stays where it is.
#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/utsname.h>

#include <string>

#include "tests/syscalls/checks.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

namespace {

std::string read_file(const std::string& path) {
  std::string s(4096, '\0');
  int fd = open(path.c_str(), O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read(fd, s.data(), s.size());
  if (fd >= 0) close(fd);
  s.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return s;
}
// 0 or the errno.
int write_file(const std::string& path, const std::string& text) {
  int fd = open(path.c_str(), O_WRONLY);
  if (fd < 0) return errno;
  ssize_t n = write(fd, text.data(), text.size());
  int e = n == static_cast<ssize_t>(text.size()) ? 0 : errno;
  close(fd);
  return e;
}
std::string link_of(const std::string& path) {
  char b[100];
  ssize_t n = readlink(path.c_str(), b, sizeof b);
  return n < 0 ? "" : std::string(b, static_cast<size_t>(n));
}
std::string ns_of(pid_t p, const char* kind) { return "/proc/" + std::to_string(p) + "/ns/" + kind; }

uint64_t effective() {
  __user_cap_header_struct h{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct d[2] = {};
  syscall(SYS_capget, &h, d);
  return d[0].effective | static_cast<uint64_t>(d[1].effective) << 32;
}

// A pipe on which one process waits for another.
struct Gate {
  int ends[2];
  Gate() { EXPECT_EQ(pipe(ends), 0); }
  ~Gate() {
    close(ends[0]);
    close(ends[1]);
  }
  void open() { EXPECT_EQ(write(ends[1], "x", 1), 1); }
  void pass() {
    char c;
    EXPECT_EQ(read(ends[0], &c, 1), 1);
  }
};

class Namespaces : public testing::Test {
 protected:
  // Whatever the test is run as: root in the namespace it starts in.
  void SetUp() override {
    if (access("/proc/self/ns", F_OK) != 0) {
      chmod("/tmp", 01777);
      mkdir("/proc", 0555);
      ASSERT_EQ(mount("proc", "/proc", "proc", 0, nullptr), 0) << strerror(errno);
    }
  }
};
using Maps = Namespaces;

void become(uid_t id) {
  EXPECT_EQ(setgroups(0, nullptr), 0);
  EXPECT_EQ(setresgid(id, id, id), 0);
  EXPECT_EQ(setresuid(id, id, id), 0);
  EXPECT_EQ(prctl(PR_SET_DUMPABLE, 1), 0);  // so that its files in /proc are its own
}
// A user namespace of its own with one id mapped to `inside`.
void own_namespace(uid_t id, int flags = 0, uid_t inside = 0) {
  ASSERT_EQ(unshare(CLONE_NEWUSER | flags), 0) << strerror(errno);
  EXPECT_EQ(write_file("/proc/self/setgroups", "deny"), 0);
  EXPECT_EQ(write_file("/proc/self/uid_map", std::to_string(inside) + " " + std::to_string(id) + " 1"), 0);
  EXPECT_EQ(write_file("/proc/self/gid_map", std::to_string(inside) + " " + std::to_string(id) + " 1"), 0);
}

TEST_F(Maps, EndAtANul) {
  EXPECT_EQ(in_child([] {
    ASSERT_EQ(unshare(CLONE_NEWUSER), 0) << strerror(errno);
    EXPECT_EQ(write_file("/proc/self/uid_map", std::string("\0 0 0 1", 8)), EINVAL);
    EXPECT_EQ(write_file("/proc/self/uid_map", std::string("0 0 1\n\0what", 11)), 0);
    EXPECT_EQ(write_file("/proc/self/setgroups", "deny"), 0);
    EXPECT_EQ(write_file("/proc/self/gid_map", std::string("0 0 1\0", 6)), 0);
    EXPECT_EQ(getuid(), 0u);
    EXPECT_EQ(getgid(), 0u);
  }), 0);
}

TEST_F(Maps, OfTheFirstNamespaceIsWhole) {
  EXPECT_EQ(in_child([] {
    EXPECT_EQ(read_file("/proc/self/setgroups"), "allow\n");
    EXPECT_EQ(write_file("/proc/self/uid_map", "0 0 1"), EPERM);
  }), 0);
}

TEST_F(Maps, WithoutOneEverybodyIsNobody) {
  EXPECT_EQ(in_child([] {
    become(1000);
    EXPECT_EQ(effective(), 0u);
    ASSERT_EQ(unshare(CLONE_NEWUSER), 0) << strerror(errno);
    EXPECT_EQ(getuid(), 65534u);
    EXPECT_EQ(getegid(), 65534u);
    EXPECT_EQ(effective() & (1ull << CAP_SYS_ADMIN), 1ull << CAP_SYS_ADMIN);
    EXPECT_EQ(read_file("/proc/self/uid_map"), "");
    // No id has a meaning.
    EXPECT_ERRNO(setuid(0), EINVAL);
    EXPECT_ERRNO(setgid(1000), EINVAL);
    EXPECT_ERRNO(setgroups(0, nullptr), EPERM);
    struct stat s;
    ASSERT_EQ(stat("/", &s), 0);
    EXPECT_EQ(s.st_uid, 65534u);
    EXPECT_ERRNO(chown("/", 0, 0), EINVAL);
  }), 0);
}

TEST_F(Maps, OneIdWithoutPrivileges) {
  EXPECT_EQ(in_child([] {
    become(1000);
    ASSERT_EQ(unshare(CLONE_NEWUSER), 0);
    // Groups only after it has given up setgroups(2).
    EXPECT_EQ(write_file("/proc/self/gid_map", "0 1000 1"), EPERM);
    EXPECT_EQ(write_file("/proc/self/setgroups", "deny"), 0);
    EXPECT_EQ(write_file("/proc/self/setgroups", "allow"), EPERM);
    EXPECT_EQ(write_file("/proc/self/gid_map", "0 1000 1"), 0);
    // Only its own id, and only one.
    EXPECT_EQ(write_file("/proc/self/uid_map", "0 1001 1"), EPERM);
    EXPECT_EQ(write_file("/proc/self/uid_map", "0 1000 2"), EPERM);
    EXPECT_EQ(write_file("/proc/self/uid_map", "0 1000 1\n1 1001 1"), EPERM);
    EXPECT_EQ(write_file("/proc/self/uid_map", "7 1000 1\n"), 0);
    EXPECT_EQ(write_file("/proc/self/uid_map", "7 1000 1\n"), EPERM) << "only once";
    EXPECT_EQ(read_file("/proc/self/uid_map"), "         7       1000          1\n");
    EXPECT_EQ(getuid(), 7u);
    EXPECT_EQ(getgid(), 0u);
    EXPECT_ERRNO(setgroups(0, nullptr), EPERM);
    EXPECT_EQ(setuid(7), 0);
    EXPECT_ERRNO(setuid(1000), EINVAL);
  }), 0);
}

TEST_F(Maps, BadOnes) {
  EXPECT_EQ(in_child([] {
    ASSERT_EQ(unshare(CLONE_NEWUSER), 0);
    for (const char* bad : {"0", "0 0", "x 0 1", "0 0 0", "0 0 1 1", "4294967295 0 1", "0 4294967290 10", "0 0 5\n4 10 1", "0 0 5\n10 4 1"})
      EXPECT_EQ(write_file("/proc/self/uid_map", bad), EINVAL) << bad;
    EXPECT_EQ(write_file("/proc/self/setgroups", "perhaps"), EINVAL);
    EXPECT_EQ(write_file("/proc/self/setgroups", "denyx"), EINVAL);
    EXPECT_EQ(write_file("/proc/self/setgroups", "deny \n"), 0);
    EXPECT_EQ(read_file("/proc/self/setgroups"), "deny\n");
  }), 0);
}

// A privileged parent gives its child many ids; what is not in the map is the overflow id.
TEST_F(Maps, ManyByThePrivilegedParent) {
  Gate ready, go;
  pid_t p = child([&] {
    ASSERT_EQ(unshare(CLONE_NEWUSER), 0);
    ready.open();
    go.pass();
    EXPECT_EQ(setresgid(0, 0, 0), 0);
    EXPECT_EQ(setresuid(0, 0, 0), 0);
    EXPECT_EQ(getuid(), 0u);
    gid_t groups[] = {5, 9};
    EXPECT_EQ(setgroups(2, groups), 0);
    gid_t back[4];
    EXPECT_EQ(getgroups(4, back), 2);
    EXPECT_EQ(back[1], 9u);
    EXPECT_ERRNO(setuid(10), EINVAL);
    // Seen from inside and from outside.
    EXPECT_EQ(read_file("/proc/self/uid_map"), "         0     100000         10\n");
    pid_t q = child([] { EXPECT_EQ(setuid(3), 0); });
    EXPECT_EQ(status_of(q), 0);
    int fd = open("/tmp/ns_owner", O_CREAT | O_EXCL | O_WRONLY, 0600);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(fchown(fd, 4, 5), 0);
    EXPECT_ERRNO(fchown(fd, 10, 5), EINVAL);
    struct stat s;
    EXPECT_EQ(fstat(fd, &s), 0);
    EXPECT_EQ(s.st_uid, 4u);
    EXPECT_EQ(s.st_gid, 5u);
    ready.open();
    go.pass();
  });
  ready.pass();
  EXPECT_EQ(write_file("/proc/" + std::to_string(p) + "/uid_map", "0 100000 10"), 0);
  EXPECT_EQ(write_file("/proc/" + std::to_string(p) + "/gid_map", "0 200000 10"), 0);
  go.open();
  ready.pass();
  struct stat s;
  EXPECT_EQ(stat("/tmp/ns_owner", &s), 0);
  EXPECT_EQ(s.st_uid, 100004u);
  EXPECT_EQ(s.st_gid, 200005u);
  EXPECT_EQ(stat(("/proc/" + std::to_string(p)).c_str(), &s), 0);
  std::string status = read_file("/proc/" + std::to_string(p) + "/status");
  EXPECT_NE(status.find("Uid:\t100000\t100000\t100000\t100000"), std::string::npos) << status;
  go.open();
  EXPECT_EQ(status_of(p), 0);
  unlink("/tmp/ns_owner");
}

// Capabilities count over what belongs to the namespace, not over anything else.
TEST_F(Namespaces, CapabilitiesReachNoFurther) {
  EXPECT_EQ(in_child([] {
    umask(0);
    int fd = open("/tmp/ns_secret", O_CREAT | O_WRONLY | O_TRUNC, 0600);
    close(fd);
    become(1000);
    own_namespace(1000);
    EXPECT_EQ(getuid(), 0u);
    EXPECT_ERRNO(open("/tmp/ns_secret", O_RDONLY), EACCES);
    EXPECT_ERRNO(chmod("/tmp/ns_secret", 0666), EPERM);
    EXPECT_ERRNO(sethostname("x", 1), EPERM);
    EXPECT_ERRNO(mount("none", "/tmp", "tmpfs", 0, nullptr), EPERM);
    EXPECT_ERRNO(kill(getppid(), 0), EPERM);
    EXPECT_ERRNO(mknod("/tmp/ns_node", S_IFCHR | 0600, 0x103), EPERM);
    EXPECT_ERRNO(setpriority(PRIO_PROCESS, static_cast<id_t>(getppid()), 1), EPERM);
    EXPECT_EQ(chroot("/"), 0) << "of its own";
    // What its own namespaces hold is its own.
    ASSERT_EQ(unshare(CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP), 0) << strerror(errno);
    EXPECT_EQ(sethostname("inside", 6), 0);
    utsname u;
    uname(&u);
    EXPECT_STREQ(u.nodename, "inside");
    EXPECT_EQ(mount("none", "/tmp", "tmpfs", 0, nullptr), 0) << strerror(errno);
    struct stat s;
    EXPECT_EQ(stat("/tmp", &s), 0);
    EXPECT_EQ(s.st_uid, 0u);
    int made = open("/tmp/a", O_CREAT | O_RDWR, 0600);
    EXPECT_GE(made, 0) << strerror(errno);
    EXPECT_EQ(fchown(made, 0, 0), 0);
    EXPECT_ERRNO(mknod("/tmp/ns_node", S_IFCHR | 0600, 0x103), EPERM);
  }), 0);
  unlink("/tmp/ns_secret");
}

// Mounts that came from a more privileged namespace stay as they are.
TEST_F(Namespaces, LockedMounts) {
  EXPECT_EQ(in_child([] {
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    mkdir("/tmp/ns_locked", 0755);
    ASSERT_EQ(mount("none", "/tmp/ns_locked", "tmpfs", 0, nullptr), 0);
    mkdir("/tmp/ns_locked/over", 0777);
    mkdir("/tmp/ns_locked/to", 0777);
    ASSERT_EQ(mount("none", "/tmp/ns_locked/over", "tmpfs", MS_RDONLY | MS_NODEV, nullptr), 0);
    become(1000);
    own_namespace(1000, CLONE_NEWNS);
    EXPECT_ERRNO(umount("/tmp/ns_locked/over"), EINVAL);
    EXPECT_ERRNO(mount("none", "/tmp/ns_locked/over", nullptr, MS_REMOUNT | MS_BIND | MS_NODEV, nullptr), EPERM);
    EXPECT_ERRNO(mount("none", "/tmp/ns_locked/over", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), EPERM);
    EXPECT_EQ(mount("none", "/tmp/ns_locked/over", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOEXEC, nullptr), 0)
        << strerror(errno);
    EXPECT_ERRNO(mount("/tmp/ns_locked", "/tmp/ns_locked/to", nullptr, MS_BIND, nullptr), EINVAL);  // would show what is under it
    EXPECT_EQ(mount("/tmp/ns_locked", "/tmp/ns_locked/to", nullptr, MS_BIND | MS_REC, nullptr), 0) << strerror(errno);
    EXPECT_ERRNO(umount("/tmp/ns_locked/to/over"), EINVAL);
    EXPECT_EQ(umount2("/tmp/ns_locked/to", MNT_DETACH), 0) << strerror(errno);
    EXPECT_ERRNO(mount("none", "/tmp/ns_locked/to", "ext4", 0, nullptr), EPERM);
  }), 0);
  rmdir("/tmp/ns_locked");
}

TEST_F(Namespaces, NestedAsDeepAsAllowed) {
  EXPECT_EQ(in_child([] {
    int depth = 0;
    while (depth < 40 && unshare(CLONE_NEWUSER) == 0) {
      EXPECT_EQ(write_file("/proc/self/setgroups", "deny"), 0);
      EXPECT_EQ(write_file("/proc/self/uid_map", "0 0 1"), 0);
      EXPECT_EQ(write_file("/proc/self/gid_map", "0 0 1"), 0);
      depth++;
    }
    int e = errno;
    EXPECT_GE(depth, 25);
    EXPECT_LE(depth, 33);
    EXPECT_EQ(e, ENOSPC);
  }), 0);
}

TEST_F(Namespaces, NotWithThreadsOrSharedRoots) {
  EXPECT_EQ(in_child([] {
    EXPECT_ERRNO(syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
    EXPECT_ERRNO(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
    EXPECT_ERRNO(unshare(0x1000), EINVAL);
    // Root is elsewhere.
    mkdir("/tmp/ns_root", 0755);
    EXPECT_EQ(chroot("/tmp/ns_root"), 0);
    EXPECT_ERRNO(unshare(CLONE_NEWUSER), EPERM);
  }), 0);
  rmdir("/tmp/ns_root");
}

// clone(2) with everything at once, by somebody without privileges.
TEST_F(Namespaces, AllByOneClone) {
  EXPECT_EQ(in_child([] {
    become(1000);
    long p = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP | SIGCHLD,
                     0, 0, 0, 0);
    if (p == 0) {
      EXPECT_EQ(getpid(), 1);
      EXPECT_EQ(getuid(), 65534u);
      EXPECT_EQ(write_file("/proc/self/uid_map", "0 1000 1"), 0) << "it has a number in this /proc as well";
      _exit(testing::Test::HasFailure());
    }
    ASSERT_GT(p, 0) << strerror(errno);
    EXPECT_EQ(status_of(static_cast<pid_t>(p)), 0);
  }), 0);
}

TEST_F(Namespaces, WithoutPrivilegesOnlyUnderAUserNamespace) {
  EXPECT_EQ(in_child([] {
    become(1000);
    for (int f : {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWCGROUP, CLONE_NEWPID, CLONE_NEWTIME})
      EXPECT_ERRNO(unshare(f), EPERM);
  }), 0);
}

// ---- Files of namespaces ----

TEST_F(Namespaces, FilesTellWhatTheyAre) {
  EXPECT_EQ(in_child([] {
    ASSERT_EQ(unshare(CLONE_NEWUTS), 0);
    struct { const char* name; int type; } kinds[] = {{"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS}, {"uts", CLONE_NEWUTS}, {"ipc", CLONE_NEWIPC},
        {"pid", CLONE_NEWPID}, {"net", CLONE_NEWNET}, {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME}};
    for (auto& k : kinds) {
      int fd = open(ns_of(getpid(), k.name).c_str(), O_RDONLY | O_CLOEXEC);
      ASSERT_GE(fd, 0) << k.name;
      EXPECT_EQ(ioctl(fd, NS_GET_NSTYPE), k.type);
      struct stat s;
      EXPECT_EQ(fstat(fd, &s), 0);
      EXPECT_EQ(link_of(ns_of(getpid(), k.name)), std::string(k.name) + ":[" + std::to_string(s.st_ino) + "]");
      struct stat other;
      EXPECT_EQ(stat(ns_of(getppid(), k.name).c_str(), &other), 0);
      EXPECT_EQ(s.st_dev, other.st_dev);
      EXPECT_EQ(s.st_ino == other.st_ino, k.type != CLONE_NEWUTS) << k.name;
      if (k.type != CLONE_NEWUSER && k.type != CLONE_NEWPID) EXPECT_ERRNO(ioctl(fd, NS_GET_PARENT), EINVAL);
      if (k.type != CLONE_NEWUSER) EXPECT_ERRNO(ioctl(fd, NS_GET_OWNER_UID, &s), EINVAL);
      close(fd);
    }
    EXPECT_ERRNO(ioctl(0, NS_GET_NSTYPE), ENOTTY);
  }), 0);
}

TEST_F(Namespaces, OwnersAndParents) {
  EXPECT_EQ(in_child([] {
    struct stat first;
    ASSERT_EQ(stat(ns_of(getpid(), "user").c_str(), &first), 0);
    Gate ready, go;
    pid_t p = child([&] {
      become(1000);
      own_namespace(1000, CLONE_NEWUTS);
      // Nothing above is to be seen from here.
      int mine = open("/proc/self/ns/user", O_RDONLY);
      EXPECT_ERRNO(ioctl(mine, NS_GET_PARENT), EPERM);
      EXPECT_ERRNO(ioctl(mine, NS_GET_USERNS), EPERM);
      uid_t owner = 9;
      EXPECT_EQ(ioctl(mine, NS_GET_OWNER_UID, &owner), 0);
      EXPECT_EQ(owner, 0u);
      ready.open();
      go.pass();
    });
    ready.pass();
    int user = open(ns_of(p, "user").c_str(), O_RDONLY), uts = open(ns_of(p, "uts").c_str(), O_RDONLY);
    ASSERT_GE(user, 0);
    ASSERT_GE(uts, 0);
    uid_t owner = 9;
    EXPECT_EQ(ioctl(user, NS_GET_OWNER_UID, &owner), 0);
    EXPECT_EQ(owner, 1000u);
    int up = ioctl(user, NS_GET_PARENT);
    ASSERT_GE(up, 0) << strerror(errno);
    struct stat s, t;
    EXPECT_EQ(fstat(up, &s), 0);
    EXPECT_EQ(s.st_ino, first.st_ino);
    EXPECT_EQ(s.st_dev, first.st_dev);
    int owning = ioctl(uts, NS_GET_USERNS);
    ASSERT_GE(owning, 0);
    EXPECT_EQ(fstat(owning, &s), 0);
    EXPECT_EQ(fstat(user, &t), 0);
    EXPECT_EQ(s.st_ino, t.st_ino);
    EXPECT_TRUE(fcntl(owning, F_GETFD) & FD_CLOEXEC);
    go.open();
    EXPECT_EQ(status_of(p), 0);
  }), 0);
}

TEST_F(Namespaces, SetnsByFile) {
  EXPECT_EQ(in_child([] {
    Gate ready, go;
    pid_t p = child([&] {
      ASSERT_EQ(unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWNS), 0);
      EXPECT_EQ(sethostname("there", 5), 0);
      ready.open();
      go.pass();
    });
    ready.pass();
    int back = open("/proc/self/ns/uts", O_RDONLY);
    utsname before, u;
    uname(&before);
    for (const char* kind : {"uts", "ipc", "net", "cgroup", "mnt"}) {
      int fd = open(ns_of(p, kind).c_str(), O_RDONLY);
      ASSERT_GE(fd, 0);
      if (std::string(kind) != "mnt") EXPECT_ERRNO(setns(fd, CLONE_NEWNS), EINVAL);
      EXPECT_EQ(setns(fd, 0), 0) << kind << ": " << strerror(errno);
      EXPECT_EQ(link_of(ns_of(getpid(), kind)), link_of(ns_of(p, kind)));
      close(fd);
    }
    uname(&u);
    EXPECT_STREQ(u.nodename, "there");
    EXPECT_EQ(setns(back, CLONE_NEWUTS), 0);
    uname(&u);
    EXPECT_STREQ(u.nodename, before.nodename);
    EXPECT_ERRNO(setns(ready.ends[0], 0), EINVAL);
    EXPECT_ERRNO(setns(999, 0), EBADF);
    // The one it is in already.
    int user = open("/proc/self/ns/user", O_RDONLY);
    EXPECT_ERRNO(setns(user, 0), EINVAL);
    become(1000);
    EXPECT_ERRNO(setns(back, CLONE_NEWUTS), EPERM);
    go.open();
    EXPECT_EQ(status_of(p), 0);
  }), 0);
}

TEST_F(Namespaces, SetnsByPidfdTakesSeveral) {
  EXPECT_EQ(in_child([] {
    Gate ready, go;
    become(1000);
    pid_t p = child([&] {
      own_namespace(1000, CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET);
      EXPECT_EQ(sethostname("there", 5), 0);
      ready.open();
      go.pass();
    });
    ready.pass();
    int fd = static_cast<int>(syscall(SYS_pidfd_open, p, 0));
    ASSERT_GE(fd, 0);
    EXPECT_ERRNO(setns(fd, 0), EINVAL);
    EXPECT_ERRNO(setns(fd, CLONE_VM), EINVAL);
    EXPECT_ERRNO(setns(fd, CLONE_NEWUTS), EPERM);  // not without its user namespace
    EXPECT_EQ(setns(fd, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET), 0) << strerror(errno);
    EXPECT_EQ(getuid(), 0u);
    EXPECT_NE(effective(), 0u);
    utsname u;
    uname(&u);
    EXPECT_STREQ(u.nodename, "there");
    go.open();
    EXPECT_EQ(status_of(p), 0);
  }), 0);
}

TEST_F(Namespaces, PidForChildren) {
  EXPECT_EQ(in_child([] {
    ASSERT_EQ(unshare(CLONE_NEWPID), 0);
    EXPECT_NE(link_of("/proc/self/ns/pid"), "");
    EXPECT_ERRNO(unshare(CLONE_NEWPID), EINVAL);  // there is one for the children already
    pid_t p = child([] { EXPECT_EQ(getpid(), 1); });
    EXPECT_EQ(status_of(p), 0);
    EXPECT_ERRNO(static_cast<int>(fork()), ENOMEM);  // its init is gone
  }), 0);
}

// ---- Networks ----

sockaddr_in loopback(uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = port;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}
int bind_to(int fd, sockaddr_in a) { return bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a); }
int connect_to(int fd, sockaddr_in a) { return connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a); }
short flags_of_loopback() {
  ifreq r{};
  strcpy(r.ifr_name, "lo");
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  EXPECT_EQ(ioctl(s, SIOCGIFFLAGS, &r), 0);
  close(s);
  return r.ifr_flags;
}
void switch_loopback_on() {
  ifreq r{};
  strcpy(r.ifr_name, "lo");
  r.ifr_flags = static_cast<short>(flags_of_loopback() | IFF_UP);
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  EXPECT_EQ(ioctl(s, SIOCSIFFLAGS, &r), 0) << strerror(errno);
  close(s);
}
// A request of NETLINK_ROUTE that is acknowledged: 0 or the errno.
template <typename T>
int ask(uint16_t type, uint16_t flags, const T& body, int attribute = 0, const void* value = nullptr, size_t size = 0) {
  struct {
    nlmsghdr h;
    T body;
    char rest[64];
  } m{};
  m.h.nlmsg_type = type;
  m.h.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  m.body = body;
  size_t length = NLMSG_LENGTH(sizeof body);
  if (size) {
    auto* a = reinterpret_cast<rtattr*>(reinterpret_cast<char*>(&m) + NLMSG_ALIGN(length));
    a->rta_type = static_cast<unsigned short>(attribute);
    a->rta_len = static_cast<unsigned short>(RTA_LENGTH(size));
    memcpy(RTA_DATA(a), value, size);
    length = NLMSG_ALIGN(length) + RTA_ALIGN(a->rta_len);
  }
  m.h.nlmsg_len = static_cast<uint32_t>(length);
  int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  EXPECT_EQ(send(s, &m, length, 0), static_cast<ssize_t>(length));
  struct {
    nlmsghdr h;
    nlmsgerr e;
    char rest[256];
  } got{};
  EXPECT_GT(recv(s, &got, sizeof got, 0), 0);
  close(s);
  EXPECT_EQ(got.h.nlmsg_type, NLMSG_ERROR);
  return -got.e.error;
}

TEST_F(Namespaces, ANewNetworkIsEmpty) {
  EXPECT_EQ(in_child([] {
    int outer = socket(AF_INET, SOCK_STREAM, 0), named = socket(AF_UNIX, SOCK_STREAM, 0);
    ASSERT_EQ(bind_to(outer, loopback(0)), 0);
    ASSERT_EQ(listen(outer, 1), 0);
    sockaddr_in there;
    socklen_t n = sizeof there;
    ASSERT_EQ(getsockname(outer, reinterpret_cast<sockaddr*>(&there), &n), 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(snprintf(name.sun_path + 1, 60, "ns_%d", getpid())));
    ASSERT_EQ(bind(named, reinterpret_cast<sockaddr*>(&name), length), 0);
    ASSERT_EQ(listen(named, 1), 0);
    int home = open("/proc/self/ns/net", O_RDONLY);
    become(1000);
    own_namespace(1000, CLONE_NEWNET);
    EXPECT_EQ(flags_of_loopback() & IFF_UP, 0);
    int s = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0);
    EXPECT_ERRNO(connect_to(s, there), ENETUNREACH);
    EXPECT_ERRNO(connect_to(u, there), ENETUNREACH);
    // Names without a file belong to the network as well.
    int x = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_ERRNO(connect(x, reinterpret_cast<sockaddr*>(&name), length), ECONNREFUSED);
    EXPECT_EQ(bind(x, reinterpret_cast<sockaddr*>(&name), length), 0);
    switch_loopback_on();
    EXPECT_EQ(flags_of_loopback() & IFF_UP, IFF_UP);
    EXPECT_ERRNO(connect_to(s, loopback(htons(9))), ECONNREFUSED);
    close(s);  // it may have this very port now
    // The same port, and one that elsewhere needs privileges.
    int mine = socket(AF_INET, SOCK_STREAM, 0), low = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(bind_to(mine, there), 0) << strerror(errno);
    EXPECT_EQ(bind_to(low, loopback(htons(7))), 0) << strerror(errno);
    EXPECT_EQ(listen(mine, 1), 0);
    int c = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(connect_to(c, there), 0) << strerror(errno);
    // No way back without privileges there, and the descriptors from there are what they were.
    EXPECT_ERRNO(setns(home, CLONE_NEWNET), EPERM);
    int on = 1;
    EXPECT_ERRNO(setsockopt(outer, SOL_SOCKET, SO_MARK, &on, sizeof on), EPERM);
    EXPECT_EQ(setsockopt(mine, SOL_SOCKET, SO_MARK, &on, sizeof on), 0);
  }), 0);
}

TEST_F(Namespaces, TheLoopbackByNetlink) {
  EXPECT_EQ(in_child([] {
    ifinfomsg link{};
    link.ifi_family = AF_UNSPEC;
    link.ifi_index = 1;
    link.ifi_flags = IFF_UP;
    link.ifi_change = IFF_UP;
    become(1000);
    EXPECT_EQ(ask(RTM_NEWLINK, 0, link), EPERM);
    own_namespace(1000, CLONE_NEWNET);
    ifaddrmsg address{};
    address.ifa_family = AF_INET;
    address.ifa_prefixlen = 8;
    address.ifa_flags = IFA_F_PERMANENT;
    address.ifa_scope = RT_SCOPE_HOST;
    address.ifa_index = 1;
    in_addr one{htonl(INADDR_LOOPBACK)};
    EXPECT_EQ(ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address, IFA_LOCAL, &one, sizeof one), 0);
    EXPECT_EQ(ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address, IFA_LOCAL, &one, sizeof one), EEXIST);
    EXPECT_EQ(ask(RTM_NEWLINK, 0, link), 0);
    EXPECT_EQ(flags_of_loopback() & IFF_UP, IFF_UP);
    link.ifi_index = 77;
    EXPECT_EQ(ask(RTM_NEWLINK, 0, link), ENODEV);
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    EXPECT_EQ(connect_to(u, loopback(htons(9))), 0);
  }), 0);
}

// ---- Clocks ----

int64_t clock_now(clockid_t clock) {
  timespec t{};
  EXPECT_EQ(syscall(SYS_clock_gettime, clock, &t), 0);
  return t.tv_sec;
}

TEST_F(Namespaces, ClocksThatAreAhead) {
  EXPECT_EQ(in_child([] {
    EXPECT_EQ(write_file("/proc/self/timens_offsets", "monotonic 1000 0"), EACCES) << "of the first";
    ASSERT_EQ(unshare(CLONE_NEWTIME), 0);
    for (const char* bad : {"x 1 1", "monotonic 1", "monotonic 1 1000000000"})
      EXPECT_EQ(write_file("/proc/self/timens_offsets", bad), EINVAL) << bad;
    EXPECT_EQ(write_file("/proc/self/timens_offsets", "monotonic -100000000000 0"), ERANGE);
    EXPECT_EQ(write_file("/proc/self/timens_offsets", "monotonic 100000 5\nboottime 200000 0\n"), 0);
    EXPECT_EQ(read_file("/proc/self/timens_offsets"), "monotonic      100000         5\nboottime       200000         0\n");
    EXPECT_NE(link_of("/proc/self/ns/time"), link_of("/proc/self/ns/time_for_children"));
    int64_t here = clock_now(CLOCK_MONOTONIC), boot = clock_now(CLOCK_BOOTTIME);
    pid_t p = child([&] {
      EXPECT_EQ(link_of("/proc/self/ns/time"), link_of("/proc/self/ns/time_for_children"));
      EXPECT_GE(clock_now(CLOCK_MONOTONIC), here + 100000);
      EXPECT_LT(clock_now(CLOCK_MONOTONIC), here + 101000);
      EXPECT_GE(clock_now(CLOCK_BOOTTIME), boot + 200000);
      // What has been by this clock is over at once.
      timespec past{static_cast<time_t>(here + 50000), 0};
      EXPECT_EQ(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &past, nullptr), 0);
      int t = timerfd_create(CLOCK_MONOTONIC, 0);
      itimerspec i{};
      i.it_value = past;
      EXPECT_EQ(timerfd_settime(t, TFD_TIMER_ABSTIME, &i, nullptr), 0);
      uint64_t ticks = 0;
      EXPECT_EQ(read(t, &ticks, sizeof ticks), 8);
      EXPECT_GE(atol(read_file("/proc/uptime").c_str()), 200000);
    });
    EXPECT_EQ(status_of(p), 0);
    EXPECT_EQ(write_file("/proc/self/timens_offsets", "monotonic 1 0"), EACCES) << "somebody was in it";
    EXPECT_LT(clock_now(CLOCK_MONOTONIC), here + 50000);
    int fd = open("/proc/self/ns/time_for_children", O_RDONLY), home = open("/proc/self/ns/time", O_RDONLY);
    EXPECT_EQ(setns(fd, CLONE_NEWTIME), 0) << strerror(errno);
    EXPECT_GE(clock_now(CLOCK_MONOTONIC), here + 100000);
    EXPECT_EQ(setns(home, 0), 0);
    EXPECT_LT(clock_now(CLOCK_MONOTONIC), here + 50000);
  }), 0);
}

// ---- Programs with privileges ----

TEST_F(Namespaces, NoPrivilegesForIdsWithoutAName) {
  EXPECT_EQ(in_child([] {
    // A set-user-ID program of root's changes nothing in a namespace that does not know root.
    become(1000);
    own_namespace(1000, 0, 5);
    EXPECT_EQ(getuid(), 5u);
    EXPECT_ERRNO(setuid(0), EINVAL);
    EXPECT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  }), 0);
}

// ---- What one tells the other ----

TEST_F(Namespaces, SendersAreNamedByTheReceiver) {
  EXPECT_EQ(in_child([] {
    int sv[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv), 0);
    int on = 1;
    ASSERT_EQ(setsockopt(sv[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    become(1000);
    pid_t p = child([&] {
      own_namespace(1000);
      EXPECT_EQ(send(sv[1], "x", 1, 0), 1);
    });
    EXPECT_EQ(status_of(p), 0);
    char b[8], control[CMSG_SPACE(sizeof(ucred))];
    iovec v{b, sizeof b};
    msghdr m{};
    m.msg_iov = &v;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    ASSERT_EQ(recvmsg(sv[0], &m, 0), 1);
    ucred c;
    ASSERT_NE(CMSG_FIRSTHDR(&m), nullptr);
    memcpy(&c, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof c);
    EXPECT_EQ(c.uid, 1000u);
    EXPECT_EQ(c.pid, p);
  }), 0);
}

TEST_F(Namespaces, LimitsOfTheirNumber) {
  EXPECT_EQ(in_child([] {
    become(1000);
    own_namespace(1000);
    EXPECT_EQ(write_file("/proc/sys/user/max_uts_namespaces", "2"), 0);
    EXPECT_EQ(read_file("/proc/sys/user/max_uts_namespaces"), "2\n");
    Gate go;
    pid_t p[2];
    Gate ready;
    for (pid_t& q : p)
      q = child([&] {
        EXPECT_EQ(unshare(CLONE_NEWUTS), 0);
        ready.open();
        go.pass();
      });
    ready.pass();
    ready.pass();
    EXPECT_ERRNO(unshare(CLONE_NEWUTS), ENOSPC);
    go.open();
    go.open();
    for (pid_t q : p) EXPECT_EQ(status_of(q), 0);
  }), 0);
}

}  // namespace
