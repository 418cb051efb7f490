// SPDX-License-Identifier: Apache-2.0
// Mounts, binds, namespaces, pivot_root; and file locks.
#include <sys/file.h>
#include <sys/mount.h>

#include "sentry/fs/tmpfs/test_tree.h"

namespace sentry::fs::tmpfs {
namespace {

TEST(Mount, CrossesBothWays) {
  on_fiber([] {
    Tree t;
    t.mkdir("/m");
    t.put("/m/below", "hidden");
    auto fs = create(test_options());
    ASSERT_TRUE(t.ns->mount(fs, t.at("/m"), 0, "x").ok());
    EXPECT_EQ(error_of(t.walk("/m/below")), ENOENT);
    t.put("/m/f", "mounted");
    t.mkdir("/m/d");
    EXPECT_EQ(t.at("/m/d/../.."), t.at("/"));
    EXPECT_EQ(vfs::path_text(*t.ns, t.at("/m/f"), t.ns->root()), "/m/f");
    EXPECT_NE(t.stat("/m").dev, t.stat("/").dev);
    EXPECT_EQ(error_of(t.walk("/m/f", vfs::kNoXdev)), EXDEV);
    EXPECT_EQ(error_of(vfs::rename(t.ctx(), "/m/f", t.ctx(), "/f", 0)), EXDEV);
    EXPECT_EQ(error_of(vfs::make_link(t.at("/m/f"), t.ctx(), "/f")), EXDEV);
    EXPECT_EQ(error_of(vfs::remove_directory(t.ctx(), "/m")), EBUSY);
    EXPECT_EQ(error_of(vfs::rename(t.ctx(), "/m", t.ctx(), "/n", 0)), EBUSY);
    EXPECT_EQ(error_of(t.ns->mount(fs, t.at("/m/f"), 0, "x")), ENOTDIR);
    EXPECT_EQ(error_of(t.ns->unmount(t.at("/m/d"), 0)), EINVAL);
    {
      auto f = t.open("/m/f", O_RDONLY);
      EXPECT_EQ(error_of(t.ns->unmount(t.at("/m"), 0)), EBUSY);
      EXPECT_EQ(error_of(t.ns->unmount(t.at("/m"), MNT_DETACH)), 0);
      EXPECT_EQ(Tree::read(**f, 10), "mounted");
    }
    EXPECT_EQ(t.get("/m/below"), "hidden");
    EXPECT_EQ(error_of(t.ns->unmount(t.at("/"), 0)), EINVAL);
    ASSERT_TRUE(t.ns->mount(fs, t.at("/m"), 0, "x").ok());
    EXPECT_EQ(t.get("/m/f"), "mounted") << "the file system kept its files";
    ASSERT_TRUE(t.ns->mount(create(test_options()), t.at("/m"), 0, "top").ok());
    EXPECT_EQ(error_of(t.walk("/m/f")), ENOENT) << "mounts stack";
    EXPECT_EQ(error_of(t.ns->unmount(t.at("/m"), 0)), 0);
    EXPECT_EQ(t.get("/m/f"), "mounted");
  });
}

TEST(Mount, BindOfDirectoryFileAndTree) {
  on_fiber([] {
    Tree t;
    t.mkdir("/a");
    t.mkdir("/a/sub");
    t.put("/a/f", "one");
    t.mkdir("/b");
    t.put("/file", "target");
    ASSERT_TRUE(t.ns->mount(create(test_options()), t.at("/a/sub"), 0, "s").ok());
    t.put("/a/sub/in", "two");
    ASSERT_TRUE(t.ns->bind(t.at("/a"), t.at("/b"), false).ok());
    EXPECT_EQ(t.get("/b/f"), "one");
    EXPECT_EQ(error_of(t.walk("/b/sub/in")), ENOENT);
    ASSERT_TRUE(t.ns->unmount(t.at("/b"), 0).ok());
    ASSERT_TRUE(t.ns->bind(t.at("/a"), t.at("/b"), true).ok());
    EXPECT_EQ(t.get("/b/sub/in"), "two");
    ASSERT_TRUE(t.ns->bind(t.at("/a/f"), t.at("/file"), false).ok());
    EXPECT_EQ(t.get("/file"), "one");
    t.at("/b").mount->set_flags(MS_RDONLY);
    EXPECT_EQ(error_of(t.open("/b/f", O_WRONLY)), EROFS);
    EXPECT_EQ(error_of(t.open("/a/f", O_WRONLY)), 0);
    std::vector<std::string> points;
    for (auto& i : t.ns->list(t.ns->root())) points.push_back(i.mountpoint);
    EXPECT_EQ(points.size(), 5u);
    EXPECT_EQ(points[0], "/");
    EXPECT_NE(std::find(points.begin(), points.end(), "/b/sub"), points.end());
    EXPECT_EQ(vfs::dentry_text(*t.at("/b").dentry), "/a");
    ASSERT_TRUE(t.ns->move(t.at("/b"), t.at("/a")).ok());
    EXPECT_EQ(error_of(t.ns->move(t.at("/a"), t.at("/a/sub"))), ELOOP);
  });
}

TEST(Mount, CopiedNamespacesPart) {
  on_fiber([] {
    Tree t;
    t.mkdir("/m");
    ASSERT_TRUE(t.ns->mount(create(test_options()), t.at("/m"), 0, "x").ok());
    t.put("/m/f", "shared");
    std::vector<std::pair<Ref<vfs::Mount>, Ref<vfs::Mount>>> map;
    auto copy = t.ns->copy(&map);
    EXPECT_EQ(map.size(), 2u);
    map.clear();  // it would make the mounts busy
    vfs::WalkContext c{*copy, copy->root(), copy->root(), t.root};
    EXPECT_EQ(error_of(vfs::walk(c, "/m/f", 0)), 0);
    EXPECT_EQ(error_of(copy->unmount(t.at("/m"), 0)), EINVAL) << "another namespace's mount";
    ASSERT_TRUE(copy->unmount(vfs::walk(c, "/m", 0).value(), 0).ok());
    EXPECT_EQ(error_of(vfs::walk(c, "/m/f", 0)), ENOENT);
    EXPECT_EQ(t.get("/m/f"), "shared");
  });
}

TEST(Mount, PivotRoot) {
  on_fiber([] {
    Tree t;
    t.mkdir("/new");
    t.put("/oldfile", "old");
    ASSERT_TRUE(t.ns->mount(create(test_options()), t.at("/new"), 0, "x").ok());
    t.mkdir("/new/old");
    t.mkdir("/plain");
    EXPECT_EQ(error_of(t.ns->pivot_root(t.at("/plain"), t.at("/plain"))), EBUSY);
    EXPECT_EQ(error_of(t.ns->pivot_root(t.at("/new/old"), t.at("/new/old"))), EINVAL);
    ASSERT_TRUE(t.ns->pivot_root(t.at("/new"), t.at("/new/old")).ok());
    t.cwd = t.ns->root();
    EXPECT_EQ(t.get("/old/oldfile"), "old");
    EXPECT_EQ(t.at("/old/.."), t.at("/"));
    ASSERT_TRUE(t.ns->unmount(t.at("/old"), MNT_DETACH).ok());
    EXPECT_EQ(error_of(t.walk("/old/oldfile")), ENOENT);
    EXPECT_EQ(t.ns->list(t.ns->root()).size(), 1u);
  });
}

// ---- Locks ----

struct LockTest {
  Tree t;
  Ref<vfs::Inode> inode;
  LockTest() : inode((t.put("/f", "x"), t.at("/f").inode().get_ref())) {}
  int set(const void* owner, short type, int64_t a, int64_t b, vfs::LockWait w = vfs::LockWait::no) {
    vfs::RangeLock r;
    r.owner = owner;
    r.type = type;
    r.start = a;
    r.end = b;
    return error_of(vfs::set_range_lock(*inode, r, w));
  }
  vfs::RangeLock test(const void* owner, short type, int64_t a, int64_t b) {
    vfs::RangeLock r;
    r.owner = owner;
    r.type = type;
    r.start = a;
    r.end = b;
    return vfs::test_range_lock(*inode, r);
  }
};

TEST(Locks, RangesSplitJoinAndConflict) {
  on_fiber([] {
    LockTest l;
    int a, b;
    EXPECT_EQ(l.set(&a, F_WRLCK, 0, 99), 0);
    EXPECT_EQ(l.set(&b, F_RDLCK, 50, 60), EAGAIN);
    EXPECT_EQ(l.set(&a, F_UNLCK, 50, 60), 0);
    EXPECT_EQ(l.set(&b, F_WRLCK, 50, 60), 0);
    EXPECT_EQ(l.test(&b, F_WRLCK, 0, INT64_MAX).end, 49);
    EXPECT_EQ(l.test(&b, F_WRLCK, 61, INT64_MAX).start, 61);
    EXPECT_EQ(l.test(&b, F_WRLCK, 100, INT64_MAX).type, F_UNLCK);
    EXPECT_EQ(l.set(&a, F_RDLCK, 61, 99), 0) << "a downgrade";
    EXPECT_EQ(l.set(&b, F_RDLCK, 61, 70), 0);
    vfs::release_range_locks(*l.inode, &b);
    EXPECT_EQ(l.set(&a, F_WRLCK, 0, INT64_MAX), 0);
    EXPECT_EQ(l.test(&b, F_RDLCK, 5, 5).start, 0) << "one joined range";
    EXPECT_EQ(l.test(&b, F_RDLCK, 5, 5).end, INT64_MAX);
  });
}

TEST(Locks, WaitsAndFindsDeadlocks) {
  on_fiber([] {
    LockTest l;
    int a, b;
    ASSERT_EQ(l.set(&a, F_WRLCK, 0, 0), 0);
    ASSERT_EQ(l.set(&b, F_WRLCK, 1, 1), 0);
    int result = -1;
    sched::Group g;
    g.add([&] { result = l.set(&a, F_WRLCK, 1, 1, vfs::LockWait::yes); });
    sched::park(sched::now() + 2 * sched::kMs);
    EXPECT_EQ(result, -1) << "it waits";
    EXPECT_EQ(l.set(&b, F_WRLCK, 0, 0, vfs::LockWait::yes), EDEADLK);
    EXPECT_EQ(l.set(&b, F_UNLCK, 1, 1), 0);
    g.join();
    EXPECT_EQ(result, 0);
  });
}

TEST(Locks, WaitIsInterrupted) {
  on_fiber([] {
    LockTest l;
    int a, b;
    ASSERT_EQ(l.set(&a, F_WRLCK, 0, 0), 0);
    int result = -1;
    sched::Group g;
    sched::Fiber& f = g.add([&] { result = l.set(&b, F_WRLCK, 0, 0, vfs::LockWait::yes); });
    sched::park(sched::now() + 2 * sched::kMs);
    f.interrupt();
    g.join();
    EXPECT_EQ(result, kERESTARTSYS.value());
  });
}

TEST(Locks, FlockBelongsToTheDescription) {
  on_fiber([] {
    LockTest l;
    auto one = l.t.open("/f", O_RDONLY), two = l.t.open("/f", O_RDONLY);
    ASSERT_EQ(error_of(vfs::set_flock(*l.inode, **one, LOCK_SH, vfs::LockWait::no)), 0);
    ASSERT_EQ(error_of(vfs::set_flock(*l.inode, **two, LOCK_SH, vfs::LockWait::no)), 0);
    EXPECT_EQ(error_of(vfs::set_flock(*l.inode, **one, LOCK_EX, vfs::LockWait::no)), EAGAIN);
    two = kEBADF;  // its description goes
    EXPECT_EQ(error_of(vfs::set_flock(*l.inode, **one, LOCK_EX, vfs::LockWait::no)), 0);
    auto three = l.t.open("/f", O_RDONLY);
    EXPECT_EQ(error_of(vfs::set_flock(*l.inode, **three, LOCK_SH, vfs::LockWait::no)), EAGAIN);
    EXPECT_EQ(error_of(vfs::set_flock(*l.inode, **one, LOCK_UN, vfs::LockWait::no)), 0);
    EXPECT_EQ(error_of(vfs::set_flock(*l.inode, **three, LOCK_SH, vfs::LockWait::no)), 0);
  });
}

}  // namespace
}  // namespace sentry::fs::tmpfs
