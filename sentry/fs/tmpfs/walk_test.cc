// SPDX-License-Identifier: Apache-2.0
// Path resolution and open, over a tmpfs.
#include <sys/mount.h>

#include "sentry/fs/tmpfs/test_tree.h"
#include "sentry/vfs/special.h"

namespace sentry::fs::tmpfs {
namespace {

TEST(Walk, DotsAndSlashes) {
  on_fiber([] {
    Tree t;
    t.mkdir("/a");
    t.mkdir("/a/b");
    t.put("/a/b/f", "x");
    EXPECT_EQ(t.at("//a/.//b/../b/f"), t.at("/a/b/f"));
    EXPECT_EQ(t.at("/../../a"), t.at("/a"));
    EXPECT_EQ(t.at("a/b"), t.at("/a/b/"));
    EXPECT_EQ(error_of(t.walk("/a/b/f/")), ENOTDIR);
    EXPECT_EQ(error_of(t.walk("/a/b/f/..")), ENOTDIR);
    EXPECT_EQ(error_of(t.walk("/a/x/y")), ENOENT);
    EXPECT_EQ(error_of(t.walk("")), ENOENT);
    EXPECT_EQ(error_of(t.walk("", vfs::kAllowEmpty)), 0);
    EXPECT_EQ(error_of(t.walk(std::string(256, 'n'))), ENAMETOOLONG);
    EXPECT_EQ(error_of(t.walk(std::string(255, 'n'))), ENOENT);
    EXPECT_EQ(error_of(t.walk(std::string(4096, '/'))), ENAMETOOLONG);
  });
}

TEST(Walk, Symlinks) {
  on_fiber([] {
    Tree t;
    t.mkdir("/d");
    t.put("/d/f", "deep");
    t.symlink("d", "/l");
    t.symlink("/l/f", "/lf");
    t.symlink("loop2", "/loop1");
    t.symlink("loop1", "/loop2");
    t.symlink("../d/./f", "/d/up");
    EXPECT_EQ(t.at("/lf"), t.at("/d/f"));
    EXPECT_EQ(t.at("/l/up"), t.at("/d/f"));
    EXPECT_FALSE(t.at("/l", 0) == t.at("/d"));
    EXPECT_EQ(t.at("/l/", 0), t.at("/d")) << "a trailing slash follows";
    EXPECT_EQ(error_of(t.walk("/loop1")), ELOOP);
    EXPECT_EQ(error_of(t.walk("/lf/")), ENOTDIR);
    EXPECT_EQ(error_of(t.walk("/l/f", vfs::kFollow | vfs::kNoSymlinks)), ELOOP);
    // 40 links are fine, 41 are not.
    t.symlink("/d/f", "/c0");
    for (int i = 1; i <= 40; i++) t.symlink("/c" + std::to_string(i - 1), "/c" + std::to_string(i));
    EXPECT_EQ(error_of(t.walk("/c39")), 0);
    EXPECT_EQ(error_of(t.walk("/c40")), ELOOP);
  });
}

TEST(Walk, Openat2Scopes) {
  on_fiber([] {
    Tree t;
    t.mkdir("/jail");
    t.mkdir("/jail/in");
    t.put("/jail/in/f", "1");
    t.put("/out", "2");
    t.symlink("/in/f", "/jail/abs");
    t.symlink("../../out", "/jail/in/esc");
    auto from = [&](std::string_view p, unsigned f) {
      vfs::WalkContext c = t.ctx();
      c.start = t.at("/jail");
      return vfs::walk(c, p, f | vfs::kFollow);
    };
    EXPECT_EQ(error_of(from("in/f", vfs::kBeneath)), 0);
    EXPECT_EQ(error_of(from("in/../in/f", vfs::kBeneath)), 0);
    EXPECT_EQ(error_of(from("..", vfs::kBeneath)), EXDEV);
    EXPECT_EQ(error_of(from("/jail", vfs::kBeneath)), EXDEV);
    EXPECT_EQ(error_of(from("in/esc", vfs::kBeneath)), EXDEV);
    EXPECT_EQ(error_of(from("abs", vfs::kBeneath)), EXDEV);
    EXPECT_EQ(error_of(from("abs", vfs::kInRoot)), 0);
    EXPECT_EQ(error_of(from("/in/f", vfs::kInRoot)), 0);
    EXPECT_EQ(error_of(from("../../out", vfs::kInRoot)), ENOENT);
    EXPECT_EQ(error_of(from("in/esc", vfs::kInRoot)), ENOENT);
  });
}

TEST(Walk, ChrootIsATop) {
  on_fiber([] {
    Tree t;
    t.mkdir("/r");
    t.put("/r/f", "in");
    t.put("/g", "out");
    vfs::WalkContext c = t.ctx();
    c.root = c.start = t.at("/r");
    EXPECT_EQ(error_of(vfs::walk(c, "/../g", 0)), ENOENT);
    EXPECT_EQ(vfs::walk(c, "/../../f", 0).value(), t.at("/r/f"));
    EXPECT_EQ(vfs::path_text(*t.ns, t.at("/r/f"), c.root), "/f");
    EXPECT_EQ(vfs::path_text(*t.ns, t.at("/g"), c.root), "(unreachable)/g");
  });
}

TEST(Walk, SearchPermission) {
  on_fiber([] {
    Tree t;
    t.mkdir("/private", 0700);
    t.put("/private/f", "x", 0666);
    t.mkdir("/listable", 0744);
    t.put("/listable/f", "x", 0666);
    EXPECT_EQ(error_of(vfs::walk(t.as(t.user), "/private/f", 0)), EACCES);
    EXPECT_EQ(error_of(vfs::walk(t.as(t.user), "/listable/none", 0)), EACCES);
    EXPECT_EQ(error_of(vfs::open(t.as(t.user), "/listable", O_RDONLY | O_DIRECTORY, 0, 0)), 0);
    auto searcher = make_user(1000, 1ull << CAP_DAC_READ_SEARCH);
    EXPECT_EQ(error_of(vfs::walk(t.as(searcher), "/private/f", 0)), 0);
    EXPECT_EQ(error_of(vfs::open(t.as(searcher), "/private/new", O_CREAT | O_WRONLY, 0644, 0)), EACCES);
  });
}

TEST(Open, CreateRules) {
  on_fiber([] {
    Tree t;
    t.mkdir("/d");
    EXPECT_EQ(error_of(t.open("/f", O_RDONLY)), ENOENT);
    EXPECT_EQ(error_of(t.open("/f", O_CREAT | O_EXCL | O_WRONLY)), 0);
    EXPECT_EQ(error_of(t.open("/f", O_CREAT | O_EXCL | O_WRONLY)), EEXIST);
    EXPECT_EQ(error_of(t.open("/f", O_CREAT | O_WRONLY)), 0);
    EXPECT_EQ(error_of(t.open("/d", O_CREAT | O_RDONLY)), EISDIR);
    EXPECT_EQ(error_of(t.open("/d", O_WRONLY)), EISDIR);
    EXPECT_EQ(error_of(t.open("/new/", O_CREAT | O_WRONLY)), EISDIR);
    EXPECT_EQ(error_of(t.open("/.", O_CREAT | O_WRONLY)), EISDIR);
    EXPECT_EQ(error_of(t.open("/f", O_DIRECTORY | O_RDONLY)), ENOTDIR);
    t.symlink("target", "/dangling");
    EXPECT_EQ(error_of(t.open("/dangling", O_CREAT | O_EXCL | O_WRONLY)), EEXIST);
    EXPECT_EQ(error_of(t.open("/dangling", O_CREAT | O_NOFOLLOW | O_WRONLY)), ELOOP);
    EXPECT_EQ(error_of(t.open("/dangling", O_CREAT | O_WRONLY)), 0);
    EXPECT_EQ(error_of(t.walk("/target")), 0) << "O_CREAT through a dangling link makes its target";
    EXPECT_EQ(error_of(t.open("/dangling", O_RDONLY | O_NOFOLLOW)), ELOOP);
    auto p = t.open("/dangling", O_PATH | O_NOFOLLOW);
    ASSERT_TRUE(p.ok());
    EXPECT_TRUE((*p)->inode().is_symlink());
    EXPECT_FALSE((*p)->readable());
  });
}

TEST(Open, TruncateAndModes) {
  on_fiber([] {
    Tree t;
    t.put("/f", "hello", 0600);
    EXPECT_EQ(error_of(vfs::open(t.as(t.user), "/f", O_RDONLY, 0, 0)), EACCES);
    EXPECT_EQ(t.get("/f"), "hello");
    EXPECT_EQ(error_of(t.open("/f", O_WRONLY | O_TRUNC)), 0);
    EXPECT_EQ(t.get("/f"), "");
    // A file made read-only by its own open stays writable through it.
    auto f = t.open("/ro", O_CREAT | O_RDWR, 0444);
    ASSERT_TRUE(f.ok());
    EXPECT_TRUE(Tree::write(**f, "x").ok());
    EXPECT_EQ((*f)->flags() & O_ACCMODE, O_RDWR);
    EXPECT_EQ((*f)->flags() & (O_CREAT | O_TRUNC | O_CLOEXEC), 0);
  });
}

TEST(Open, TextBusy) {
  on_fiber([] {
    Tree t;
    t.put("/prog", "#!");
    auto inode = t.at("/prog").inode();
    {
      auto w = t.open("/prog", O_WRONLY);
      ASSERT_TRUE(w.ok());
      EXPECT_EQ(error_of(inode->deny_write_access()), ETXTBSY);
    }
    ASSERT_TRUE(inode->deny_write_access().ok());
    EXPECT_EQ(error_of(t.open("/prog", O_WRONLY)), ETXTBSY);
    EXPECT_EQ(error_of(t.open("/prog", O_RDONLY)), 0);
    vfs::SetAttributes s;
    s.mask = vfs::SetAttributes::kSize;
    EXPECT_EQ(error_of(vfs::change_attributes(t.at("/prog"), s, *t.root)), ETXTBSY);
    inode->allow_write_access();
    EXPECT_EQ(error_of(t.open("/prog", O_WRONLY)), 0);
  });
}

TEST(Open, UnnamedFileCanBeLinkedOnce) {
  on_fiber([] {
    Tree t;
    t.mkdir("/d");
    auto f = t.open("/d", O_TMPFILE | O_RDWR, 0600);
    ASSERT_TRUE(f.ok());
    EXPECT_TRUE(Tree::write(**f, "body").ok());
    EXPECT_EQ((*f)->inode().attributes()->nlink, 0u);
    EXPECT_NE(vfs::path_text(*t.ns, (*f)->path(), t.ns->root()).find(" (deleted)"), std::string::npos);
    EXPECT_EQ(error_of(vfs::make_link((*f)->path(), t.ctx(), "/d/named")), 0);
    EXPECT_EQ(t.get("/d/named"), "body");
    ASSERT_TRUE(vfs::remove_file(t.ctx(), "/d/named").ok());
    EXPECT_EQ(error_of(vfs::make_link((*f)->path(), t.ctx(), "/d/again")), ENOENT);
  });
}

TEST(Open, SpecialNodesGoToTheirOpener) {
  on_fiber([] {
    Tree t;
    ASSERT_TRUE(vfs::make_node(t.ctx(), "/null", S_IFCHR | 0666, 0x103).ok());
    ASSERT_TRUE(vfs::make_node(t.ctx(), "/sock", S_IFSOCK | 0666, 0).ok());
    EXPECT_EQ(error_of(vfs::make_node(t.as(t.user), "/null2", S_IFCHR | 0666, 0x103)), EPERM);
    EXPECT_EQ(error_of(t.open("/sock", O_RDWR)), ENXIO);
    EXPECT_EQ(error_of(t.open("/null", O_RDWR)), ENXIO);
    vfs::set_special_opener(S_IFCHR, [](uint64_t rdev, const vfs::Path&, const Ref<vfs::Inode>&, int,
                                        const Ref<auth::Credentials>&) -> Result<Ref<vfs::File>> {
      return rdev == 0x103 ? kEDOM : kENXIO;
    });
    EXPECT_EQ(error_of(t.open("/null", O_RDWR)), EDOM);
    t.at("/").mount->set_flags(MS_NODEV);
    EXPECT_EQ(error_of(t.open("/null", O_RDWR)), EACCES);
  });
}

TEST(Open, ReadOnlyMount) {
  on_fiber([] {
    Tree t;
    t.put("/f", "x");
    t.mkdir("/d");
    t.at("/").mount->set_flags(MS_RDONLY);
    EXPECT_EQ(error_of(t.open("/f", O_WRONLY)), EROFS);
    EXPECT_EQ(error_of(t.open("/f", O_RDONLY)), 0);
    EXPECT_EQ(error_of(t.open("/new", O_CREAT | O_WRONLY)), EROFS);
    EXPECT_EQ(error_of(t.open("/f", O_CREAT | O_RDONLY)), 0) << "nothing to create";
    EXPECT_EQ(error_of(vfs::make_directory(t.ctx(), "/d", 0755)), EEXIST);
    EXPECT_EQ(error_of(vfs::make_directory(t.ctx(), "/e", 0755)), EROFS);
    EXPECT_EQ(error_of(vfs::remove_file(t.ctx(), "/f")), EROFS);
    EXPECT_EQ(error_of(vfs::access(t.at("/f"), W_OK, *t.root)), EROFS);
    vfs::SetAttributes s;
    s.mask = vfs::SetAttributes::kMode;
    EXPECT_EQ(error_of(vfs::change_attributes(t.at("/f"), s, *t.root)), EROFS);
  });
}

}  // namespace
}  // namespace sentry::fs::tmpfs
