// SPDX-License-Identifier: Apache-2.0
// Mounts that share: peers, slaves, unbindable ones, and what mountinfo says of them. Passes on Linux first, then in the sandbox. Every case is a
// child with mounts of its own.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/syscalls/checks.h"

namespace {

constexpr const char* kTop = "/tmp/propagation_test";
constexpr unsigned kRecursive = 0x8000;  // AT_RECURSIVE

int tmpfs(const char* at) { return mount("tmpfs", at, "tmpfs", 0, nullptr); }
int other(const char* at) { return mount("other", at, "tmpfs", 0, nullptr); }
int bind(const char* from, const char* to, unsigned long more = 0) { return mount(from, to, nullptr, MS_BIND | more, nullptr); }
int type(const char* at, unsigned long flags) { return mount("none", at, nullptr, flags, nullptr); }
int moved(const char* from, const char* to) { return mount(from, to, nullptr, MS_MOVE, nullptr); }
int tree_of(const char* path, unsigned flags) { return static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, path, flags)); }
int move_to(int tree, const char* path) { return static_cast<int>(syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH)); }
bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }
void make(const char* path) { ASSERT_EQ(mkdir(path, 0755), 0) << path << ": " << strerror(errno); }
void put(const std::string& path) { ASSERT_EQ(mknod(path.c_str(), S_IFREG | 0600, 0), 0) << path << ": " << strerror(errno); }

// What mountinfo says of the mounts below `top`: "PLACE SOURCE[ FIELD…]" each, by place; groups are numbered as they come.
std::string mounts(const std::string& top = kTop) {
  struct Line {
    std::string place, source;
    std::vector<std::string> fields;
  };
  std::vector<Line> lines;
  std::ifstream f("/proc/self/mountinfo");
  for (std::string text; std::getline(f, text);) {
    std::istringstream in(text);
    std::string word;
    Line l;
    for (int i = 0; i < 5; i++) in >> word;
    if (word.compare(0, top.size() + 1, top + "/") != 0) continue;
    l.place = word.substr(top.size() + 1);
    for (in >> word; in >> word && word != "-";) l.fields.push_back(word);
    in >> word >> l.source;
    lines.push_back(l);
  }
  std::sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return std::tie(a.place, a.source) < std::tie(b.place, b.source); });
  std::map<std::string, size_t> groups;
  std::string out;
  for (auto& l : lines) {
    out += (out.empty() ? "" : ", ") + l.place + " " + l.source;
    for (auto& field : l.fields) {
      const size_t colon = field.find(':');
      out += " " + field.substr(0, colon);
      if (colon != std::string::npos) out += ":" + std::to_string(groups.emplace(field.substr(colon + 1), groups.size() + 1).first->second);
    }
  }
  return out;
}

class Propagation : public testing::Test {
 protected:
  void SetUp() override { mkdir(kTop, 0755); }
  void TearDown() override { rmdir(kTop); }
  // In a mount namespace of its own: directories b, c, d and a tmpfs at a with a directory s, of the type given.
  static void boxed(unsigned long a_is, const std::function<void()>& f) {
    EXPECT_EQ(in_child([&] {
      ASSERT_EQ(unshare(CLONE_NEWNS), 0) << strerror(errno);
      ASSERT_EQ(type("/", MS_REC | MS_PRIVATE), 0);
      ASSERT_EQ(tmpfs(kTop), 0);
      ASSERT_EQ(chdir(kTop), 0);
      for (const char* d : {"a", "b", "c", "d"}) make(d);
      ASSERT_EQ(tmpfs("a"), 0);
      make("a/s");
      ASSERT_EQ(a_is ? type("a", a_is) : 0, 0) << strerror(errno);
      f();
    }), 0);
  }
};

TEST_F(Propagation, TypesAreShown) {
  boxed(0, [] {
    EXPECT_EQ(mounts(), "a tmpfs");
    EXPECT_EQ(type("a", MS_SLAVE), 0);
    EXPECT_EQ(mounts(), "a tmpfs");  // of nobody
    EXPECT_EQ(type("a", MS_SHARED), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1");
    EXPECT_EQ(bind("a", "b"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs shared:1");
    EXPECT_EQ(type("b", MS_SLAVE), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs master:1");
    EXPECT_EQ(bind("b", "c"), 0);
    EXPECT_EQ(type("c", MS_SHARED), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs master:1, c tmpfs shared:2 master:1");
    EXPECT_EQ(bind("c", "d"), 0);
    EXPECT_EQ(type("d", MS_SLAVE), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs master:1, c tmpfs shared:2 master:1, d tmpfs master:2");
    // Where the last of a group leaves it, its slaves follow whom it followed.
    EXPECT_EQ(type("c", MS_PRIVATE), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs master:1, c tmpfs, d tmpfs master:1");
    EXPECT_EQ(type("a", MS_SLAVE), 0);
    EXPECT_EQ(mounts(), "a tmpfs, b tmpfs, c tmpfs, d tmpfs");
    EXPECT_EQ(type("a", MS_UNBINDABLE), 0);
    EXPECT_EQ(mounts(), "a tmpfs unbindable, b tmpfs, c tmpfs, d tmpfs");
    EXPECT_EQ(type("a", MS_SLAVE), 0);
    EXPECT_EQ(mounts(), "a tmpfs unbindable, b tmpfs, c tmpfs, d tmpfs");
    EXPECT_EQ(type("a", MS_SHARED), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs, c tmpfs, d tmpfs");
    EXPECT_EQ(type("a", MS_UNBINDABLE), 0);
    EXPECT_EQ(type("a", MS_PRIVATE), 0);
    EXPECT_EQ(mounts(), "a tmpfs, b tmpfs, c tmpfs, d tmpfs");
  });
}

TEST_F(Propagation, OneOfAGroupThatLeavesIsItsSlave) {
  boxed(MS_SHARED, [] {
    EXPECT_EQ(bind("a", "b"), 0);
    EXPECT_EQ(bind("a", "c"), 0);
    EXPECT_EQ(type("c", MS_SLAVE), 0);
    EXPECT_EQ(type("a", MS_SLAVE), 0);
    EXPECT_EQ(mounts(), "a tmpfs master:1, b tmpfs shared:1, c tmpfs master:1");
    EXPECT_EQ(tmpfs("b/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs master:1, a/s tmpfs master:2, b tmpfs shared:1, b/s tmpfs shared:2, c tmpfs master:1, c/s tmpfs master:2");
  });
}

TEST_F(Propagation, WrongMixesAreRefused) {
  boxed(0, [] {
    EXPECT_ERRNO(type("a", MS_SHARED | MS_PRIVATE), EINVAL);
    EXPECT_ERRNO(type("a", MS_SHARED | MS_RDONLY), EINVAL);
    EXPECT_ERRNO(type("a", MS_SLAVE | MS_UNBINDABLE), EINVAL);
    EXPECT_ERRNO(type("a", MS_SHARED | MS_MOVE), EINVAL);
    EXPECT_ERRNO(type("a", MS_SHARED | MS_NOATIME), EINVAL);
    EXPECT_ERRNO(type("a/s", MS_SHARED), EINVAL);  // no mount's root
    EXPECT_ERRNO(type("none", MS_SHARED), ENOENT);
    EXPECT_EQ(mounts(), "a tmpfs");
    EXPECT_EQ(type("a", MS_SHARED | MS_SILENT), 0) << strerror(errno);
    EXPECT_EQ(mounts(), "a tmpfs shared:1");
    EXPECT_EQ(bind("a", "b", MS_PRIVATE), 0);  // said in vain
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs shared:1");
    EXPECT_EQ(in_child([] {
      ASSERT_EQ(setresuid(12345, 12345, 12345), 0);
      EXPECT_ERRNO(type("a", MS_PRIVATE), EPERM);
    }), 0);
  });
}

TEST_F(Propagation, RecursiveOrNot) {
  boxed(0, [] {
    ASSERT_EQ(tmpfs("a/s"), 0);
    EXPECT_EQ(type("a", MS_SHARED), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs");
    EXPECT_EQ(type("a", MS_SHARED | MS_REC), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2");
    EXPECT_EQ(bind("a", "b", MS_REC), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, b tmpfs shared:1, b/s tmpfs shared:2");
    EXPECT_EQ(type("b", MS_SLAVE | MS_REC), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, b tmpfs master:1, b/s tmpfs master:2");
    EXPECT_EQ(type("b", MS_PRIVATE | MS_REC), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, b tmpfs, b/s tmpfs");
  });
}

TEST_F(Propagation, MountsComeAndGoWithPeersAndMasters) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(bind("a", "c"), 0);
    ASSERT_EQ(type("c", MS_SLAVE), 0);
    ASSERT_EQ(bind("a", "d"), 0);
    ASSERT_EQ(type("d", MS_PRIVATE), 0);
    ASSERT_EQ(tmpfs("b/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, b tmpfs shared:1, b/s tmpfs shared:2, c tmpfs master:1, c/s tmpfs master:2, d tmpfs");
    put("a/s/f");
    EXPECT_TRUE(exists("b/s/f"));
    EXPECT_TRUE(exists("c/s/f"));
    EXPECT_FALSE(exists("d/s/f"));
    // A slave's are its own.
    make("c/s/t");
    ASSERT_EQ(tmpfs("c/s/t"), 0);
    put("c/s/t/f");
    EXPECT_FALSE(exists("a/s/t/f"));
    EXPECT_EQ(umount("c/s/t"), 0);
    EXPECT_EQ(umount("c/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, b tmpfs shared:1, b/s tmpfs shared:2, c tmpfs master:1, d tmpfs");
    EXPECT_EQ(umount("a/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs shared:1, c tmpfs master:1, d tmpfs");
  });
}

TEST_F(Propagation, ASlaveThatSharesPassesOn) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(type("b", MS_SLAVE), 0);
    ASSERT_EQ(type("b", MS_SHARED), 0);
    ASSERT_EQ(bind("b", "c"), 0);
    ASSERT_EQ(bind("c", "d"), 0);
    ASSERT_EQ(type("d", MS_SLAVE), 0);
    ASSERT_EQ(tmpfs("a/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, b tmpfs shared:3 master:1, b/s tmpfs shared:4 master:2, c tmpfs shared:3 master:1, "
                        "c/s tmpfs shared:4 master:2, d tmpfs master:3, d/s tmpfs master:4");
    ASSERT_EQ(umount("a/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs shared:2 master:1, c tmpfs shared:2 master:1, d tmpfs master:2");
    ASSERT_EQ(tmpfs("c/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs shared:2 master:1, b/s tmpfs shared:3, c tmpfs shared:2 master:1, c/s tmpfs shared:3, d tmpfs master:2, d/s tmpfs master:3");
  });
}

TEST_F(Propagation, WhereTheyCannotBeSeenTheyAreLeftOut) {
  boxed(MS_SHARED, [] {
    make("a/t");
    ASSERT_EQ(bind("a/t", "b"), 0);  // a peer, of which only a part is seen
    ASSERT_EQ(type("b", MS_SLAVE), 0);
    ASSERT_EQ(type("b", MS_SHARED), 0);
    ASSERT_EQ(bind("b", "c"), 0);
    ASSERT_EQ(type("c", MS_SLAVE), 0);
    ASSERT_EQ(tmpfs("a/s"), 0);
    make("a/t/u");
    ASSERT_EQ(tmpfs("a/t/u"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, a/t/u tmpfs shared:3, b tmpfs shared:4 master:1, b/u tmpfs shared:5 master:3, c tmpfs master:4, c/u tmpfs master:5");
  });
}

TEST_F(Propagation, BindsOfATreeReachAllAtOnce) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(type("b", MS_SLAVE), 0);
    ASSERT_EQ(tmpfs("c"), 0);
    make("c/in");
    ASSERT_EQ(other("c/in"), 0);
    ASSERT_EQ(bind("c", "a/s", MS_REC), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, a/s/in other shared:3, b tmpfs master:1, b/s tmpfs master:2, b/s/in other master:3, c tmpfs, c/in other");
    EXPECT_ERRNO(umount("a/s"), EBUSY);
    EXPECT_EQ(umount2("a/s", MNT_DETACH), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs master:1, c tmpfs, c/in other");
    // A bind of itself into itself: the new one is a peer too, but hears nothing of its own coming.
    ASSERT_EQ(bind("a", "a/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:1, b tmpfs master:1, b/s tmpfs master:1, c tmpfs, c/in other");
  });
}

TEST_F(Propagation, UnbindableOnesAreNotBound) {
  boxed(0, [] {
    ASSERT_EQ(tmpfs("a/s"), 0);
    make("a/s/t");
    ASSERT_EQ(tmpfs("a/s/t"), 0);
    ASSERT_EQ(type("a/s", MS_UNBINDABLE), 0);
    EXPECT_EQ(mounts(), "a tmpfs, a/s tmpfs unbindable, a/s/t tmpfs");
    EXPECT_ERRNO(bind("a/s", "b"), EINVAL);
    EXPECT_ERRNO(tree_of("a/s", OPEN_TREE_CLONE), EINVAL);
    ASSERT_EQ(bind("a", "b", MS_REC), 0);
    EXPECT_EQ(mounts(), "a tmpfs, a/s tmpfs unbindable, a/s/t tmpfs, b tmpfs");  // nor what is below
    ASSERT_EQ(tmpfs("c"), 0);
    make("c/x");
    ASSERT_EQ(type("c", MS_SHARED), 0);
    EXPECT_ERRNO(moved("a", "c/x"), EINVAL);  // its peers would have to have it
    ASSERT_EQ(type("c", MS_PRIVATE), 0);
    EXPECT_EQ(moved("a", "c/x"), 0) << strerror(errno);
    EXPECT_EQ(mounts(), "b tmpfs, c tmpfs, c/x tmpfs, c/x/s tmpfs unbindable, c/x/s/t tmpfs");
  });
}

TEST_F(Propagation, MovesReachPeersToo) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(other("c"), 0);
    ASSERT_EQ(moved("c", "a/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s other shared:2, b tmpfs shared:1, b/s other shared:2");
    EXPECT_ERRNO(moved("a/s", "c"), EINVAL);  // the others would keep it
    ASSERT_EQ(umount("b/s"), 0);
    EXPECT_EQ(moved("a", "c"), 0);
    ASSERT_EQ(tmpfs("b/s"), 0);
    EXPECT_EQ(mounts(), "b tmpfs shared:1, b/s tmpfs shared:2, c tmpfs shared:1, c/s tmpfs shared:2");
    // One of them into the other: it is seen in itself once.
    ASSERT_EQ(umount("b/s"), 0);
    EXPECT_EQ(moved("c", "b/s"), 0) << strerror(errno);
    EXPECT_EQ(mounts(), "b tmpfs shared:1, b/s tmpfs shared:1, b/s/s tmpfs shared:1");
  });
}

TEST_F(Propagation, WhatComesLiesBelowWhatIsThere) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(type("b", MS_SLAVE), 0);
    ASSERT_EQ(other("b/s"), 0);
    put("b/s/own");
    ASSERT_EQ(tmpfs("a/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, b tmpfs master:1, b/s other, b/s tmpfs master:2");
    EXPECT_TRUE(exists("b/s/own"));
    EXPECT_EQ(umount("a/s"), 0) << strerror(errno);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs master:1, b/s other");
    EXPECT_TRUE(exists("b/s/own"));
    EXPECT_EQ(umount("b/s"), 0);
    EXPECT_FALSE(exists("b/s/own"));
  });
}

TEST_F(Propagation, StacksGrowAndShrinkTogether) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(tmpfs("b/s"), 0);
    ASSERT_EQ(other("a/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s other shared:2, a/s tmpfs shared:3, b tmpfs shared:1, b/s other shared:2, b/s tmpfs shared:3");
    EXPECT_EQ(umount("b/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2, b tmpfs shared:1, b/s tmpfs shared:2");
    EXPECT_EQ(umount("a/s"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs shared:1");
  });
}

TEST_F(Propagation, WhatHoldsSomethingElseStays) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(type("b", MS_SLAVE), 0);
    ASSERT_EQ(tmpfs("a/s"), 0);
    make("a/s/t");
    ASSERT_EQ(other("b/s/t"), 0);
    put("b/s/t/own");
    EXPECT_EQ(umount("a/s"), 0) << strerror(errno);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs master:1, b/s tmpfs, b/s/t other");
    EXPECT_TRUE(exists("b/s/t/own"));
  });
}

TEST_F(Propagation, BusyAnywhereIsBusy) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(type("b", MS_SLAVE), 0);
    ASSERT_EQ(tmpfs("a/s"), 0);
    put("a/s/f");
    int fd = open("b/s/f", O_RDONLY);
    ASSERT_GE(fd, 0);
    EXPECT_ERRNO(umount("a/s"), EBUSY);
    EXPECT_EQ(umount2("a/s", MNT_DETACH), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs master:1");
    EXPECT_EQ(faccessat(fd, "", F_OK, AT_EMPTY_PATH), 0);
    close(fd);
    ASSERT_EQ(tmpfs("a/s"), 0);
    fd = open("b/s", O_RDONLY);
    EXPECT_ERRNO(umount("a/s"), EBUSY);
    close(fd);
    EXPECT_EQ(umount("a/s"), 0) << strerror(errno);
  });
}

// Runs f in another mount namespace, a child of this, with others to be told: f gets a function that lets the parent go on and waits for it.
void elsewhere(int flags, const std::function<void(const std::function<void()>&)>& f, const std::vector<std::function<void()>>& here) {
  int to[2], from[2];
  ASSERT_EQ(pipe(to), 0);
  ASSERT_EQ(pipe(from), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    close(to[1]);
    close(from[0]);
    EXPECT_EQ(unshare(flags), 0) << strerror(errno);
    f([&] {
      char c = 0;
      EXPECT_EQ(write(from[1], &c, 1), 1);
      EXPECT_EQ(read(to[0], &c, 1), 1);
    });
    fflush(nullptr);
    _exit(testing::Test::HasFailure());
  }
  close(to[0]);
  close(from[1]);
  for (auto& step : here) {
    char c = 0;
    EXPECT_EQ(read(from[0], &c, 1), 1);
    step();
    EXPECT_EQ(write(to[1], &c, 1), 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  close(to[1]);
  close(from[0]);
}

TEST_F(Propagation, ACopiedNamespaceShares) {
  boxed(MS_SHARED, [] {
    elsewhere(CLONE_NEWNS, [](auto turn) {
      EXPECT_EQ(mounts(), "a tmpfs shared:1");
      EXPECT_EQ(tmpfs("a/s"), 0);
      turn();
      EXPECT_EQ(mounts(), "a tmpfs shared:1");
      EXPECT_EQ(type("a", MS_SLAVE), 0);
      EXPECT_EQ(mounts(), "a tmpfs master:1");
      turn();
      EXPECT_EQ(mounts(), "a tmpfs master:1, a/s other master:2");
      EXPECT_EQ(umount("a/s"), 0);
      EXPECT_EQ(tmpfs("a/s"), 0);
      EXPECT_EQ(type("a", MS_PRIVATE), 0);
    }, {[] {
      EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s tmpfs shared:2");
      EXPECT_EQ(umount("a/s"), 0);
    }, [] {
      EXPECT_EQ(mounts(), "a tmpfs shared:1");
      EXPECT_EQ(other("a/s"), 0);
    }});
    // The end of a namespace is told to nobody.
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s other shared:2");
  });
}

TEST_F(Propagation, WhatALessPrivilegedNamespaceHears) {
  boxed(MS_SHARED, [] {
    make("c/in");
    ASSERT_EQ(tmpfs("b"), 0);
    elsewhere(CLONE_NEWUSER | CLONE_NEWNS, [](auto turn) {
      EXPECT_EQ(mounts(), "a tmpfs master:1, b tmpfs");
      EXPECT_EQ(tmpfs("a/s"), 0) << strerror(errno);
      turn();
      EXPECT_EQ(mounts(), "a tmpfs master:1, a/s other master:2, a/s tmpfs, a/s/in tmpfs master:3, b tmpfs");
      EXPECT_EQ(umount("a/s"), 0);
      EXPECT_ERRNO(umount("a/s/in"), EINVAL);  // would show what is below
      EXPECT_ERRNO(umount("b"), EINVAL);
      turn();
      EXPECT_EQ(mounts(), "a tmpfs master:1, b tmpfs");
    }, {[] {
      EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs");
      ASSERT_EQ(umount("b"), 0);
      ASSERT_EQ(other("b"), 0);
      make("b/in");
      ASSERT_EQ(tmpfs("b/in"), 0);
      ASSERT_EQ(bind("b", "a/s", MS_REC), 0);
    }, [] { EXPECT_EQ(umount2("a/s", MNT_DETACH), 0); }});
  });
}

TEST_F(Propagation, PivotRootIsForThoseThatDoNotShare) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(tmpfs("b"), 0);
    make("b/old");
    ASSERT_EQ(type("b", MS_SHARED), 0);
    EXPECT_ERRNO(syscall(SYS_pivot_root, "b", "b/old"), EINVAL);  // the place of the old one shares
    ASSERT_EQ(type("b", MS_PRIVATE), 0);
    ASSERT_EQ(tmpfs("a/s"), 0);
    make("a/s/old");
    ASSERT_EQ(type("a/s", MS_PRIVATE), 0);
    EXPECT_ERRNO(syscall(SYS_pivot_root, "a/s", "a/s/old"), EINVAL);  // what it lies on shares
    EXPECT_EQ(syscall(SYS_pivot_root, "b", "b/old"), 0) << strerror(errno);
  });
}

TEST_F(Propagation, MountsByDescriptor) {
  boxed(MS_SHARED, [] {
    ASSERT_EQ(bind("a", "b"), 0);
    ASSERT_EQ(type("b", MS_SLAVE), 0);
    int t = tree_of("a", OPEN_TREE_CLONE);
    ASSERT_GE(t, 0);
    ASSERT_EQ(other("a/s"), 0);
    put("a/s/f");
    EXPECT_EQ(faccessat(t, "s/f", F_OK, 0), -1);  // hangs nowhere: it is told nothing
    ASSERT_EQ(move_to(t, "c"), 0);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s other shared:2, b tmpfs master:1, b/s other master:2, c tmpfs shared:1");
    ASSERT_EQ(umount("a/s"), 0);
    // Attached, it reaches others as a mount does.
    close(t);
    ASSERT_EQ(other("d"), 0);
    t = tree_of("d", OPEN_TREE_CLONE);
    ASSERT_EQ(move_to(t, "c/s"), 0) << strerror(errno);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, a/s other shared:2, b tmpfs master:1, b/s other master:2, c tmpfs shared:1, c/s other shared:2, d other");
    close(t);
    EXPECT_EQ(umount("c/s"), 0) << strerror(errno);
    struct {
      uint64_t set, clear, propagation, userns_fd;
    } attr = {0, 0, MS_PRIVATE, 0};
    EXPECT_EQ(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, &attr, sizeof attr), 0);
    EXPECT_EQ(mounts(), "a tmpfs, b tmpfs master:1, c tmpfs shared:1, d other");
    attr.propagation = MS_SHARED;
    t = tree_of("a", OPEN_TREE_CLONE);
    EXPECT_EQ(syscall(SYS_mount_setattr, t, "", AT_EMPTY_PATH | kRecursive, &attr, sizeof attr), 0);
    make("d/x");
    ASSERT_EQ(move_to(t, "d/x"), 0);
    EXPECT_EQ(mounts(), "a tmpfs, b tmpfs master:1, c tmpfs shared:1, d other, d/x tmpfs shared:2");
  });
}

TEST_F(Propagation, GroupsAreGiven) {
  boxed(MS_SHARED, [] {
    auto give = [](const char* from, const char* to) { return syscall(SYS_move_mount, AT_FDCWD, from, AT_FDCWD, to, 0x100 /* MOVE_MOUNT_SET_GROUP */); };
    for (const char* to : {"b", "c", "d"}) ASSERT_EQ(bind("a", to), 0);
    for (const char* to : {"b", "c", "d"}) ASSERT_EQ(type(to, MS_PRIVATE), 0);
    EXPECT_EQ(give("a", "b"), 0) << strerror(errno);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs shared:1, c tmpfs, d tmpfs");
    EXPECT_ERRNO(give("a", "b"), EINVAL);  // it has one
    EXPECT_ERRNO(give("c", "d"), EINVAL);  // it has none
    EXPECT_ERRNO(give("a/s", "d"), EINVAL);
    ASSERT_EQ(type("b", MS_SLAVE), 0);
    ASSERT_EQ(type("b", MS_SHARED), 0);
    EXPECT_EQ(give("b", "c"), 0) << strerror(errno);
    EXPECT_EQ(mounts(), "a tmpfs shared:1, b tmpfs shared:2 master:1, c tmpfs shared:2 master:1, d tmpfs");
    ASSERT_EQ(umount("d"), 0);
    ASSERT_EQ(tmpfs("d"), 0);
    EXPECT_ERRNO(give("a", "d"), EINVAL);  // another file system
  });
}

TEST_F(Propagation, ItIsToldFromWhomOneHearsInTheEnd) {
  boxed(0, [] {
    for (const char* d : {"b/one", "b/two", "b/proc"}) make(d);
    ASSERT_EQ(tmpfs("b/one"), 0);
    ASSERT_EQ(type("b/one", MS_SHARED), 0);
    ASSERT_EQ(bind("b/one", "c"), 0);
    ASSERT_EQ(type("c", MS_SLAVE), 0);
    ASSERT_EQ(type("c", MS_SHARED), 0);
    ASSERT_EQ(bind("c", "b/two"), 0);
    ASSERT_EQ(type("b/two", MS_SLAVE), 0);
    EXPECT_EQ(mounts(), "a tmpfs, b/one tmpfs shared:1, b/two tmpfs master:2, c tmpfs shared:2 master:1");
    ASSERT_EQ(bind("/proc", "b/proc", MS_REC), 0);
    ASSERT_EQ(chroot("b"), 0);
    ASSERT_EQ(chdir("/"), 0);
    const std::string all = mounts("");
    EXPECT_EQ(all.substr(0, all.find(", proc")), "one tmpfs shared:1");
    EXPECT_NE(all.find(", two tmpfs master:2 propagate_from:1"), std::string::npos) << all;
  });
}

TEST_F(Propagation, ManyHearAtOnce) {
  boxed(MS_SHARED, [] {
    constexpr int kMany = 200;
    for (int i = 0; i < kMany; i++) {
      const std::string at = "c/" + std::to_string(i);
      make(at.c_str());
      ASSERT_EQ(bind(i ? ("c/" + std::to_string(i - 1)).c_str() : "a", at.c_str()), 0);
      // A chain: each a slave of the one before, and shared.
      ASSERT_EQ(type(at.c_str(), MS_SLAVE), 0);
      ASSERT_EQ(type(at.c_str(), MS_SHARED), 0);
    }
    auto count = [] {
      const std::string all = mounts();
      return std::count(all.begin(), all.end(), ',') + 1;
    };
    EXPECT_EQ(count(), 1 + kMany);
    ASSERT_EQ(tmpfs("a/s"), 0);
    EXPECT_EQ(count(), 2 * (1 + kMany));
    ASSERT_EQ(umount("c/100/s"), 0);
    EXPECT_EQ(count(), 2 * (1 + kMany) - 100);
    // The middle goes: those above and below it still hear.
    ASSERT_EQ(umount("c/50"), -1);
    ASSERT_EQ(umount("a/s"), 0);
    EXPECT_EQ(count(), 1 + kMany);
    for (int i = 20; i < 180; i++) ASSERT_EQ(umount(("c/" + std::to_string(i)).c_str()), 0);
    ASSERT_EQ(tmpfs("a/s"), 0);
    EXPECT_EQ(count(), 2 * (1 + kMany - 160));
  });
}

}  // namespace
