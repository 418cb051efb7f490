// SPDX-License-Identifier: Apache-2.0
// Writing, making, renaming and removing; files that stay open without a name; attributes and extended attributes.
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include "sentry/fs/gofer/host_inode.h"
#include "sentry/fs/gofer/test_gofer.h"

namespace sentry::fs::gofer {
namespace {

void nothing(TestHost&) {}

// Both kinds of attach point must do these.
class GoferWrite : public testing::TestWithParam<bool> {
 protected:
  AttachOptions options() const { return {.index = 0, .exclusive = GetParam()}; }
};
INSTANTIATE_TEST_SUITE_P(, GoferWrite, testing::Bool(), [](const auto& i) { return i.param ? "Exclusive" : "Shared"; });

TEST_P(GoferWrite, CreatesWritesAndAppends) {
  with_gofer(nothing, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    auto f = t.must_open("/f", O_CREAT | O_EXCL | O_RDWR, 0640);
    EXPECT_EQ(must(Tree::write(*f, "hello")), 5u);
    EXPECT_EQ(h.get("0/f"), "hello");
    EXPECT_EQ(h.stat_of("0/f").st_mode & 07777u, 0640u);
    EXPECT_EQ(f->inode().attributes()->size, 5u);
    EXPECT_EQ(error_of(t.open("/f", O_CREAT | O_EXCL | O_RDWR)), EEXIST);
    auto a = t.must_open("/f", O_WRONLY | O_APPEND);
    f->position = 2;
    EXPECT_EQ(must(Tree::write(*a, " world")), 6u);
    EXPECT_EQ(a->position, 11);
    EXPECT_EQ(must(Tree::write(*f, "LL")), 2u);
    EXPECT_EQ(f->position, 4);
    EXPECT_EQ(must(Tree::write(*a, "!")), 1u);
    EXPECT_EQ(a->position, 12);
    EXPECT_EQ(h.get("0/f"), "heLLo world!");
    EXPECT_EQ(t.get("/f"), "heLLo world!");
    EXPECT_EQ(must(f->seek(0, SEEK_END)), 12);
    auto at = f->inode().attributes();
    EXPECT_EQ(at->mtime.tv_nsec, h.stat_of("0/f").st_mtim.tv_nsec);
    t.put("/f", "short");
    EXPECT_EQ(h.get("0/f"), "short");
    EXPECT_EQ(t.stat("/f").size, 5u);
    EXPECT_TRUE(f->sync(false).ok());
    EXPECT_TRUE(f->sync(true).ok());
    EXPECT_TRUE(t.must_open("/", O_RDONLY | O_DIRECTORY)->sync(false).ok());
  });
}

TEST_P(GoferWrite, SizesFollowTruncateAndAllocate) {
  with_gofer(nothing, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    auto f = t.must_open("/f", O_CREAT | O_RDWR);
    ASSERT_TRUE(Tree::write(*f, "0123456789").ok());
    ASSERT_TRUE(f->truncate(4).ok());
    EXPECT_EQ(h.get("0/f"), "0123");
    EXPECT_EQ(must(f->seek(0, SEEK_END)), 4);
    ASSERT_TRUE(f->truncate(8).ok());
    EXPECT_EQ(h.get("0/f"), std::string("0123\0\0\0\0", 8));
    ASSERT_TRUE(f->allocate(0, 0, 100'000).ok());
    EXPECT_EQ(h.stat_of("0/f").st_size, 100'000);
    EXPECT_EQ(f->inode().attributes()->size, 100'000u);
    ASSERT_TRUE(f->allocate(FALLOC_FL_KEEP_SIZE, 0, 200'000).ok());
    EXPECT_EQ(must(f->seek(0, SEEK_END)), 100'000);
    f = t.must_open("/f", O_RDONLY);
    // By name, with nobody writing.
    vfs::SetAttributes s{.mask = vfs::SetAttributes::kSize, .size = 3};
    ASSERT_TRUE(vfs::change_attributes(must(t.walk("/f")), s, *t.root).ok());
    EXPECT_EQ(t.stat("/f").size, 3u);
    EXPECT_EQ(t.get("/f"), "012");
    EXPECT_EQ(error_of(f->truncate(1)), EINVAL);
  });
}

TEST_P(GoferWrite, NamesComeAndGo) {
  with_gofer(nothing, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    auto ctx = t.ctx();
    EXPECT_EQ(error_of(t.walk("/d")), ENOENT);
    ASSERT_TRUE(vfs::make_directory(ctx, "/d", 0750).ok());
    EXPECT_EQ(h.stat_of("0/d").st_mode, mode_t{S_IFDIR | 0750});
    ASSERT_TRUE(vfs::make_symlink(ctx, "some where", "/d/l").ok());
    EXPECT_EQ(must(t.inode("/d/l")->read_link()), "some where");
    ASSERT_TRUE(vfs::make_node(ctx, "/d/p", S_IFIFO | 0600, 0).ok());
    EXPECT_TRUE(S_ISFIFO(h.stat_of("0/d/p").st_mode));
    ASSERT_TRUE(vfs::make_node(ctx, "/d/s", S_IFSOCK | 0600, 0).ok());
    EXPECT_EQ(error_of(vfs::make_node(ctx, "/d/c", S_IFCHR | 0600, 0x103)), EPERM);
    t.put("/d/f", "text");
    ASSERT_TRUE(vfs::make_link(must(t.walk("/d/f")), ctx, "/g").ok());
    EXPECT_EQ(t.stat("/g").nlink, 2u);
    EXPECT_EQ(t.stat("/d/f").ino, t.stat("/g").ino);
    EXPECT_EQ(t.list("/d"), (std::vector<std::string>{"f", "l", "p", "s"}));
    EXPECT_EQ(error_of(vfs::remove_directory(ctx, "/d")), ENOTEMPTY);
    for (const char* n : {"/d/f", "/d/l", "/d/p", "/d/s"}) ASSERT_TRUE(vfs::remove_file(ctx, n).ok()) << n;
    EXPECT_EQ(t.stat("/g").nlink, 1u);
    EXPECT_EQ(t.get("/g"), "text");
    EXPECT_EQ(t.list("/d").size(), 0u);
    auto dir = t.must_open("/d", O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(vfs::remove_directory(ctx, "/d").ok());
    EXPECT_FALSE(h.exists("0/d"));
    EXPECT_EQ(error_of(t.walk("/d")), ENOENT);
    EXPECT_EQ(dir->inode().attributes()->nlink, 0u);
    ASSERT_TRUE(vfs::make_directory(ctx, "/d", 0700).ok());
    EXPECT_EQ(t.stat("/d").mode, uint32_t{S_IFDIR | 0700});
  });
}

TEST_P(GoferWrite, RenameMovesAndReplaces) {
  with_gofer(nothing, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    auto ctx = t.ctx();
    auto rename = [&](const char* a, const char* b, unsigned flags = 0) { return vfs::rename(ctx, a, ctx, b, flags); };
    for (const char* d : {"/a", "/a/sub", "/b"}) ASSERT_TRUE(vfs::make_directory(ctx, d, 0755).ok());
    t.put("/a/f", "first");
    t.put("/b/g", "second");
    t.put("/a/sub/leaf", "leaf");
    ASSERT_TRUE(rename("/a/f", "/b/f").ok());
    EXPECT_EQ(h.get("0/b/f"), "first");
    EXPECT_EQ(t.get("/b/f"), "first");
    EXPECT_EQ(error_of(t.walk("/a/f")), ENOENT);
    EXPECT_EQ(error_of(rename("/b/f", "/b/g", RENAME_NOREPLACE)), EEXIST);
    ASSERT_TRUE(rename("/b/f", "/b/g", RENAME_EXCHANGE).ok());
    EXPECT_EQ(t.get("/b/f"), "second");
    EXPECT_EQ(t.get("/b/g"), "first");
    ASSERT_TRUE(rename("/b/f", "/b/h", RENAME_WHITEOUT).ok());
    EXPECT_TRUE(S_ISCHR(t.walk("/b/f")->inode()->attributes()->mode));
    EXPECT_EQ(t.walk("/b/f")->inode()->attributes()->rdev, 0u);
    EXPECT_EQ(t.get("/b/h"), "second");
    ASSERT_TRUE(rename("/b/h", "/b/f").ok());
    // What lies below a directory goes with it, open or not.
    auto leaf = t.must_open("/a/sub/leaf", O_RDWR);
    ASSERT_TRUE(rename("/a/sub", "/b/moved").ok());
    EXPECT_EQ(t.get("/b/moved/leaf"), "leaf");
    ASSERT_TRUE(Tree::write(*leaf, "LEAF").ok());
    EXPECT_EQ(leaf->inode().attributes()->size, 4u);
    vfs::SetAttributes mode{.mask = vfs::SetAttributes::kMode, .mode = 0600};
    EXPECT_TRUE(leaf->inode().set_attributes(mode).ok());
    EXPECT_EQ(h.stat_of("0/b/moved/leaf").st_mode & 0777, 0600u);
    // What is replaced while open stays usable.
    auto old = t.must_open("/b/g", O_RDWR);
    ASSERT_TRUE(rename("/b/f", "/b/g").ok());
    EXPECT_EQ(t.get("/b/g"), "second");
    EXPECT_EQ(Tree::read(*old, 100), "first");
    EXPECT_EQ(old->inode().attributes()->nlink, 0u);
    EXPECT_TRUE(old->inode().set_attributes(mode).ok());
    EXPECT_EQ(old->inode().attributes()->mode & 0777, 0600u);
    EXPECT_EQ(t.list("/b"), (std::vector<std::string>{"g", "moved"}));
    EXPECT_EQ(t.list("/a").size(), 0u);
  });
}

TEST_P(GoferWrite, RemovedFilesLiveWhileTheyAreOpen) {
  with_gofer(nothing, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    t.put("/f", "contents");
    auto f = t.must_open("/f", O_RDWR);
    ASSERT_TRUE(vfs::remove_file(t.ctx(), "/f").ok());
    EXPECT_FALSE(h.exists("0/f"));
    EXPECT_EQ(Tree::read(*f, 100), "contents");
    ASSERT_TRUE(Tree::write(*f, " and more").ok());
    EXPECT_EQ(must(f->seek(0, SEEK_END)), 17);
    auto a = f->inode().attributes();
    ASSERT_TRUE(a.ok());
    EXPECT_EQ(a->nlink, 0u);
    EXPECT_EQ(a->size, 17u);
    ASSERT_TRUE(f->truncate(3).ok());
    f->position = 0;
    EXPECT_EQ(Tree::read(*f, 100), "con");
    vfs::SetAttributes s{.mask = vfs::SetAttributes::kMode, .mode = 0751};
    ASSERT_TRUE(f->inode().set_attributes(s).ok());
    EXPECT_EQ(f->inode().attributes()->mode & 07777, 0751u);
    auto m = must(f->mappable());
    EXPECT_TRUE(m->map_fd(true).ok());
    EXPECT_TRUE(m->map_fd(false).ok());
    // The name is free for another file.
    t.put("/f", "new");
    EXPECT_EQ(t.get("/f"), "new");
    EXPECT_NE(&f->inode(), t.inode("/f").get());
  });
}

TEST_P(GoferWrite, OneOfTwoNamesGoes) {
  with_gofer(nothing, [&](TestHost&, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    auto ctx = t.ctx();
    t.put("/a", "text");
    ASSERT_TRUE(vfs::make_link(must(t.walk("/a")), ctx, "/b").ok());
    auto f = t.must_open("/a", O_RDONLY);
    ASSERT_TRUE(vfs::remove_file(ctx, "/a").ok());
    EXPECT_EQ(f->inode().attributes()->nlink, 1u);
    EXPECT_EQ(&f->inode(), t.inode("/b").get());
    auto w = t.must_open("/b", O_WRONLY | O_APPEND);
    ASSERT_TRUE(Tree::write(*w, "+").ok());
    EXPECT_EQ(Tree::read(*f, 10), "text+");
    ASSERT_TRUE(vfs::remove_file(ctx, "/b").ok());
    EXPECT_EQ(f->inode().attributes()->nlink, 0u);
  });
}

TEST_P(GoferWrite, AttributesReachTheHost) {
  with_gofer(nothing, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    t.put("/f", "x");
    using S = vfs::SetAttributes;
    S s{.mask = S::kMode | S::kAtime | S::kMtime, .mode = 04755, .atime = {100, 5}, .mtime = {-3, 999'999'999}};
    ASSERT_TRUE(vfs::change_attributes(must(t.walk("/f")), s, *t.root).ok());
    auto st = h.stat_of("0/f");
    EXPECT_EQ(st.st_mode & 07777u, 04755u);
    EXPECT_EQ(st.st_atim.tv_sec, 100);
    EXPECT_EQ(st.st_mtim.tv_sec, -3);
    EXPECT_EQ(st.st_mtim.tv_nsec, 999'999'999);
    auto a = t.stat("/f");
    EXPECT_EQ(a.mtime.tv_sec, -3);
    EXPECT_EQ(a.mtime.tv_nsec, 999'999'999);
    EXPECT_EQ(a.mode & 07777u, 04755u);
    if (geteuid() == 0) {
      S o{.mask = S::kUid | S::kGid, .uid = 12, .gid = 34};
      ASSERT_TRUE(vfs::change_attributes(must(t.walk("/f")), o, *t.root).ok());
      EXPECT_EQ(h.stat_of("0/f").st_uid, 12u);
      EXPECT_EQ(t.stat("/f").gid, 34u);
    }
  });
}

TEST_P(GoferWrite, ExtendedAttributes) {
  with_gofer(nothing, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    t.put("/f", "x");
    if (setxattr(h.path("0/f").c_str(), "user.probe", "1", 1, 0) != 0) GTEST_SKIP() << "no user.* on this file system";
    removexattr(h.path("0/f").c_str(), "user.probe");
    auto i = t.inode("/f");
    EXPECT_EQ(error_of(i->get_xattr("user.a")), ENODATA);
    ASSERT_TRUE(i->set_xattr("user.a", "value", XATTR_CREATE).ok());
    EXPECT_EQ(error_of(i->set_xattr("user.a", "value", XATTR_CREATE)), EEXIST);
    EXPECT_EQ(must(i->get_xattr("user.a")), "value");
    EXPECT_EQ(must(i->list_xattr()), (std::vector<std::string>{"user.a"}));
    EXPECT_EQ(error_of(i->set_xattr("trusted.a", "v", 0)), EPERM);
    ASSERT_TRUE(i->remove_xattr("user.a").ok());
    EXPECT_EQ(error_of(i->get_xattr("user.a")), ENODATA);
    EXPECT_EQ(error_of(i->remove_xattr("user.a")), ENODATA);
  });
}

TEST(GoferWriteExclusive, ListingsForgetWhatWeChange) {
  auto prepare = [](TestHost& h) {
    h.make_dir("0/d");
    for (const char* n : {"a", "b", "c"}) h.put(std::string("0/d/") + n, n);
  };
  with_gofer(prepare, [](TestHost& h, const Ref<Client>& c) {
    auto fs = attach(c, {.index = 0});
    ASSERT_TRUE(fs.ok());
    // Straight through the inodes, so that no dentry remembers anything.
    auto found = (*fs)->root()->lookup("d");
    ASSERT_TRUE(found.ok() && *found);
    auto& d = static_cast<Directory&>(**found);
    ASSERT_TRUE(d.listing().ok());
    h.requests();
    {
      auto a = d.lookup("a");
      ASSERT_TRUE(a.ok() && *a);
      vfs::SetAttributes s{.mask = vfs::SetAttributes::kMode, .mode = 0600};
      ASSERT_TRUE((*a)->set_attributes(s).ok());
    }
    EXPECT_EQ(must(d.lookup("a"))->attributes()->mode & 0777, 0600u);  // not what the listing said
    ASSERT_TRUE(d.unlink("b", *must(d.lookup("b"))).ok());
    EXPECT_FALSE(must(d.lookup("b")));
    EXPECT_FALSE(must(d.lookup("new")));
    ASSERT_TRUE(d.create("new", {.mode = S_IFREG | 0644}).ok());
    EXPECT_TRUE(must(d.lookup("new")));
    ASSERT_TRUE(d.rename("c", *must(d.lookup("c")), d, "moved", nullptr, 0).ok());
    EXPECT_FALSE(must(d.lookup("c")));
    EXPECT_TRUE(must(d.lookup("moved")));
    auto now = d.listing();
    ASSERT_TRUE(now.ok() && *now);
    std::set<std::string> names;
    for (size_t i = 0; i < (*now)->size(); i++) names.insert((*now)->at(i).name);
    EXPECT_EQ(names, (std::set<std::string>{"a", "moved", "new"}));
  });
}

TEST(GoferWriteExclusive, ReadOnlyAttachPointsRefuseEverything) {
  auto prepare = [](TestHost& h) { h.put("1/f", "x"); };
  with_gofer(prepare, [](TestHost&, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 1});  // read-only by the gofer's word
    auto ctx = t.ctx();
    EXPECT_EQ(t.get("/f"), "x");
    EXPECT_EQ(error_of(t.open("/f", O_RDWR)), EROFS);
    EXPECT_EQ(error_of(t.open("/g", O_CREAT | O_WRONLY)), EROFS);
    EXPECT_EQ(error_of(vfs::make_directory(ctx, "/d", 0755)), EROFS);
    EXPECT_EQ(error_of(vfs::remove_file(ctx, "/f")), EROFS);
    EXPECT_EQ(error_of(vfs::rename(ctx, "/f", ctx, "/g", 0)), EROFS);
    vfs::SetAttributes s{.mask = vfs::SetAttributes::kMode, .mode = 0600};
    EXPECT_EQ(error_of(vfs::change_attributes(must(t.walk("/f")), s, *t.root)), EROFS);
  });
}

TEST_P(GoferWrite, ManyFibersChangeOneDirectory) {
  auto prepare = [](TestHost& h) { h.make_dir("0/d"); };
  with_gofer(prepare, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, options());
    auto ctx = t.ctx();
    sched::Group g;
    for (int w = 0; w < 8; w++)
      g.add([&, w] {
        std::string a = "/d/a" + std::to_string(w), b = "/d/b" + std::to_string(w), text = std::to_string(w);
        for (int i = 0; i < 20; i++) {
          t.put(a, text);
          (void)t.list("/d");
          ASSERT_TRUE(vfs::rename(ctx, a, ctx, b, 0).ok());
          ASSERT_EQ(t.get(b), text);
          ASSERT_EQ(error_of(t.walk(a)), ENOENT);
          if (i % 2) ASSERT_TRUE(vfs::remove_file(ctx, b).ok());
          else ASSERT_TRUE(t.walk(b).ok());
        }
        t.put(b, text + text);
      });
    g.join();
    auto names = t.list("/d");
    ASSERT_EQ(names.size(), 8u);
    for (int w = 0; w < 8; w++) {
      std::string b = "b" + std::to_string(w), text = std::to_string(w) + std::to_string(w);
      EXPECT_EQ(names[static_cast<size_t>(w)], b);
      EXPECT_EQ(t.get("/d/" + b), text);
      EXPECT_EQ(h.get("0/d/" + b), text);
      EXPECT_EQ(t.stat("/d/" + b).ino, h.stat_of("0/d/" + b).st_ino);
    }
  });
}

TEST(GoferWriteExclusive, ConcurrentAppendsAllArrive) {
  with_gofer(nothing, [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    t.put("/log", "");
    sched::Group g;
    for (int w = 0; w < 8; w++)
      g.add([&] {
        auto f = t.must_open("/log", O_WRONLY | O_APPEND);
        for (int i = 0; i < 50; i++) ASSERT_EQ(must(Tree::write(*f, "0123456789\n")), 11u);
      });
    g.join();
    EXPECT_EQ(h.stat_of("0/log").st_size, 8 * 50 * 11);
    EXPECT_EQ(t.stat("/log").size, 8u * 50 * 11);
  });
}

}  // namespace
}  // namespace sentry::fs::gofer
