// SPDX-License-Identifier: Apache-2.0
// Making, removing, renaming names; reading directories; attributes and their rules.
#include <linux/fs.h>

#include <set>

#include "sentry/fs/tmpfs/test_tree.h"

namespace sentry::fs::tmpfs {
namespace {

std::vector<std::string> names_in(vfs::File& dir, int64_t* pos, size_t at_most = SIZE_MAX) {
  struct Sink final : vfs::DirectorySink {
    bool add(std::string_view name, uint64_t, unsigned char, int64_t) override {
      if (names.size() == limit) return false;
      names.emplace_back(name);
      return true;
    }
    std::vector<std::string> names;
    size_t limit = 0;
  } sink;
  sink.limit = at_most;
  CHECK(dir.read_directory(sink, pos).ok());
  return sink.names;
}

TEST(Names, RemoveRules) {
  on_fiber([] {
    Tree t;
    t.mkdir("/d");
    t.mkdir("/d/e");
    t.put("/f", "x");
    EXPECT_EQ(error_of(vfs::remove_file(t.ctx(), "/d")), EISDIR);
    EXPECT_EQ(error_of(vfs::remove_directory(t.ctx(), "/d")), ENOTEMPTY);
    EXPECT_EQ(error_of(vfs::remove_directory(t.ctx(), "/f")), ENOTDIR);
    EXPECT_EQ(error_of(vfs::remove_directory(t.ctx(), "/d/.")), EINVAL);
    EXPECT_EQ(error_of(vfs::remove_directory(t.ctx(), "/d/..")), ENOTEMPTY);
    EXPECT_EQ(error_of(vfs::remove_directory(t.ctx(), "/")), EBUSY);
    EXPECT_EQ(error_of(vfs::remove_file(t.ctx(), "/f/")), ENOTDIR);
    EXPECT_EQ(error_of(vfs::remove_file(t.ctx(), "/none")), ENOENT);
    EXPECT_EQ(error_of(vfs::remove_file(t.ctx(), "/d/..")), EISDIR);
    EXPECT_EQ(t.stat("/d").nlink, 3u);
    EXPECT_EQ(error_of(vfs::remove_directory(t.ctx(), "/d/e/")), 0);
    EXPECT_EQ(t.stat("/d").nlink, 2u);
    EXPECT_EQ(error_of(vfs::remove_file(t.ctx(), "/f")), 0);
    EXPECT_EQ(error_of(t.walk("/f")), ENOENT);
    t.put("/f", "again");
    EXPECT_EQ(t.get("/f"), "again") << "the negative entry became positive";
  });
}

TEST(Names, RemovedFileLivesOnWhileOpen) {
  on_fiber([] {
    Tree t;
    t.put("/f", "still here");
    auto f = t.open("/f", O_RDONLY);
    ASSERT_TRUE(f.ok());
    ASSERT_TRUE(vfs::remove_file(t.ctx(), "/f").ok());
    EXPECT_EQ(Tree::read(**f, 100), "still here");
    EXPECT_EQ((*f)->inode().attributes()->nlink, 0u);
    EXPECT_EQ(vfs::path_text(*t.ns, (*f)->path(), t.ns->root()), "/f (deleted)");
  });
}

TEST(Names, NothingCanBeMadeInARemovedDirectory) {
  on_fiber([] {
    Tree t;
    t.mkdir("/d");
    t.cwd = t.at("/d");
    ASSERT_TRUE(vfs::remove_directory(t.ctx(), "/d").ok());
    EXPECT_EQ(error_of(t.open("f", O_CREAT | O_WRONLY)), ENOENT);
    EXPECT_EQ(error_of(vfs::make_directory(t.ctx(), "e", 0755)), ENOENT);
    EXPECT_EQ(error_of(t.walk(".")), 0);
    EXPECT_EQ(t.at(".."), t.at("/"));
  });
}

TEST(Names, HardLinks) {
  on_fiber([] {
    Tree t;
    t.put("/f", "x");
    t.mkdir("/d");
    ASSERT_TRUE(vfs::make_link(t.at("/f"), t.ctx(), "/g").ok());
    EXPECT_EQ(t.stat("/g").nlink, 2u);
    EXPECT_EQ(t.stat("/g").ino, t.stat("/f").ino);
    EXPECT_EQ(error_of(vfs::make_link(t.at("/f"), t.ctx(), "/g")), EEXIST);
    EXPECT_EQ(error_of(vfs::make_link(t.at("/d"), t.ctx(), "/d2")), EPERM);
    ASSERT_TRUE(vfs::remove_file(t.ctx(), "/f").ok());
    EXPECT_EQ(t.stat("/g").nlink, 1u);
  });
}

TEST(Names, RenameRules) {
  on_fiber([] {
    Tree t;
    auto rename = [&](std::string_view a, std::string_view b, unsigned f = 0) {
      return error_of(vfs::rename(t.ctx(), a, t.ctx(), b, f));
    };
    t.mkdir("/d");
    t.mkdir("/d/sub");
    t.mkdir("/e");
    t.put("/f", "f");
    t.put("/g", "g");
    EXPECT_EQ(rename("/d", "/d/sub/x"), EINVAL);
    EXPECT_EQ(rename("/d/sub", "/d"), ENOTEMPTY);
    EXPECT_EQ(rename("/e", "/d"), ENOTEMPTY);
    EXPECT_EQ(rename("/f", "/e"), EISDIR);
    EXPECT_EQ(rename("/e", "/f"), ENOTDIR);
    EXPECT_EQ(rename("/f", "/x/"), ENOTDIR);
    EXPECT_EQ(rename("/f/", "/x"), ENOTDIR);
    EXPECT_EQ(rename("/none", "/x"), ENOENT);
    EXPECT_EQ(rename("/f", "/.."), EBUSY);
    EXPECT_EQ(rename("/f", "/g", RENAME_NOREPLACE), EEXIST);
    EXPECT_EQ(rename("/f", "/none", RENAME_EXCHANGE), ENOENT);
    EXPECT_EQ(rename("/f", "/g", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);

    EXPECT_EQ(rename("/f", "/g", RENAME_EXCHANGE), 0);
    EXPECT_EQ(t.get("/f"), "g");
    EXPECT_EQ(t.get("/g"), "f");
    EXPECT_EQ(rename("/f", "/d/moved"), 0);
    EXPECT_EQ(error_of(t.walk("/f")), ENOENT);
    EXPECT_EQ(t.get("/d/moved"), "g");
    EXPECT_EQ(rename("/g", "/d/moved"), 0);
    EXPECT_EQ(t.get("/d/moved"), "f");
    // A directory takes its tree along, and ".." follows.
    vfs::Path sub = t.at("/d/sub");
    EXPECT_EQ(rename("/d/sub", "/e/sub2"), 0);
    EXPECT_EQ(vfs::path_text(*t.ns, sub, t.ns->root()), "/e/sub2");
    EXPECT_EQ(t.at("/e/sub2/.."), t.at("/e"));
    EXPECT_EQ(t.stat("/d").nlink, 2u);
    EXPECT_EQ(t.stat("/e").nlink, 3u);
    EXPECT_EQ(rename("/d/moved", "/d/wh", RENAME_WHITEOUT), 0);
    EXPECT_TRUE(S_ISCHR(t.stat("/d/moved").mode));
    // Over an empty directory.
    t.mkdir("/empty");
    EXPECT_EQ(rename("/e", "/empty"), 0);
    EXPECT_EQ(error_of(t.walk("/empty/sub2")), 0);
    EXPECT_EQ(rename("/empty", "/empty"), 0);
    // Hard links to one inode: nothing happens.
    t.put("/h", "h");
    ASSERT_TRUE(vfs::make_link(t.at("/h"), t.ctx(), "/h2").ok());
    EXPECT_EQ(rename("/h", "/h2"), 0);
    EXPECT_EQ(error_of(t.walk("/h")), 0);
  });
}

TEST(Names, StickyAndOwnership) {
  on_fiber([] {
    Tree t;
    t.mkdir("/tmp");
    vfs::SetAttributes s;
    s.mask = vfs::SetAttributes::kMode;
    s.mode = 01777;
    ASSERT_TRUE(vfs::change_attributes(t.at("/tmp"), s, *t.root).ok());
    t.put("/tmp/roots", "x", 0666);
    EXPECT_EQ(error_of(vfs::remove_file(t.as(t.user), "/tmp/roots")), EPERM);
    EXPECT_EQ(error_of(vfs::rename(t.as(t.user), "/tmp/roots", t.as(t.user), "/tmp/x", 0)), EPERM);
    EXPECT_EQ(error_of(vfs::open(t.as(t.user), "/tmp/mine", O_CREAT | O_WRONLY, 0644, 0)), 0);
    EXPECT_EQ(t.stat("/tmp/mine").uid, 1000u);
    EXPECT_EQ(error_of(vfs::remove_file(t.as(t.user), "/tmp/mine")), 0);
  });
}

TEST(Names, SetGroupIdDirectories) {
  on_fiber([] {
    Tree t;
    t.mkdir("/shared");
    vfs::SetAttributes s;
    s.mask = vfs::SetAttributes::kGid;
    s.gid = 77;
    ASSERT_TRUE(vfs::change_attributes(t.at("/shared"), s, *t.root).ok());
    s.mask = vfs::SetAttributes::kMode;
    s.mode = 02777;
    ASSERT_TRUE(vfs::change_attributes(t.at("/shared"), s, *t.root).ok());
    ASSERT_TRUE(vfs::make_directory(t.as(t.user), "/shared/sub", 0755).ok());
    EXPECT_EQ(t.stat("/shared/sub").gid, 77u);
    EXPECT_EQ(t.stat("/shared/sub").mode & 07777, 02755u);
    ASSERT_TRUE(vfs::open(t.as(t.user), "/shared/f", O_CREAT | O_WRONLY, 02775, 0).ok());
    EXPECT_EQ(t.stat("/shared/f").gid, 77u);
    EXPECT_EQ(t.stat("/shared/f").mode & 07777, 0775u) << "not a member of the group: no set-group-ID";
  });
}

TEST(Attributes, ChmodChownTimes) {
  on_fiber([] {
    using S = vfs::SetAttributes;
    Tree t;
    ASSERT_TRUE(vfs::open(t.as(t.user), "/f", O_CREAT | O_WRONLY, 0755, 0).ok());
    auto other = make_user(1001, 0);
    auto change = [&](const Ref<auth::Credentials>& who, uint32_t mask, uint32_t value) {
      S s;
      s.mask = mask;
      s.mode = s.uid = s.gid = value;
      s.atime.tv_sec = s.mtime.tv_sec = value;
      return error_of(vfs::change_attributes(t.at("/f"), s, *who));
    };
    EXPECT_EQ(change(t.user, S::kMode, 06755), 0);
    EXPECT_EQ(t.stat("/f").mode & 07777, 06755u);
    EXPECT_EQ(change(other, S::kMode, 0777), EPERM);
    EXPECT_EQ(change(t.user, S::kUid, 5), EPERM);
    EXPECT_EQ(change(t.user, S::kGid, 5), EPERM);
    EXPECT_EQ(change(t.user, S::kGid, 1000), 0);
    EXPECT_EQ(t.stat("/f").mode & 07777, 0755u) << "chown takes the set-ID bits, even from the owner";
    EXPECT_EQ(change(t.root, S::kUid | S::kGid, 5), 0);
    EXPECT_EQ(t.stat("/f").uid, 5u);
    EXPECT_EQ(change(t.user, S::kAtime | S::kMtime, 12345), EPERM);
    EXPECT_EQ(change(t.user, S::kAtimeNow | S::kMtimeNow, 0), EACCES);
    EXPECT_EQ(change(t.root, S::kMode, 0666), 0);
    EXPECT_EQ(change(t.user, S::kAtimeNow | S::kMtimeNow, 0), 0) << "who may write may touch";
    EXPECT_EQ(change(t.root, S::kAtime | S::kMtime, 12345), 0);
    EXPECT_EQ(t.stat("/f").mtime.tv_sec, 12345);
    t.symlink("f", "/l");
    S s;
    s.mask = S::kMode;
    EXPECT_EQ(error_of(vfs::change_attributes(t.at("/l", 0), s, *t.root)), EOPNOTSUPP);
  });
}

TEST(Attributes, AccessOfTheMighty) {
  on_fiber([] {
    Tree t;
    t.put("/f", "x", 0);
    EXPECT_EQ(error_of(vfs::access(t.at("/f"), R_OK | W_OK, *t.root)), 0);
    EXPECT_EQ(error_of(vfs::access(t.at("/f"), X_OK, *t.root)), EACCES) << "no x bit at all";
    EXPECT_EQ(error_of(vfs::access(t.at("/f"), R_OK, *t.user)), EACCES);
    EXPECT_EQ(error_of(vfs::access(t.at("/f"), F_OK, *t.user)), 0);
  });
}

TEST(Directory, ReadingSurvivesChanges) {
  on_fiber([] {
    Tree t;
    t.mkdir("/d");
    for (int i = 0; i < 10; i++) t.put("/d/" + std::to_string(i), "");
    auto d = t.open("/d", O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(d.ok());
    int64_t pos = 0;
    std::set<std::string> seen;
    for (auto& n : names_in(**d, &pos, 7)) EXPECT_TRUE(seen.insert(n).second);
    EXPECT_EQ(seen.size(), 7u) << ". .. and five names";
    ASSERT_TRUE(vfs::remove_file(t.ctx(), "/d/0").ok());
    ASSERT_TRUE(vfs::remove_file(t.ctx(), "/d/7").ok());
    for (auto& n : names_in(**d, &pos)) EXPECT_TRUE(seen.insert(n).second) << n << " came twice";
    EXPECT_EQ(seen.size(), 11u);
    EXPECT_EQ(seen.count("7"), 0u);
    EXPECT_EQ(seen.count("9"), 1u);
    EXPECT_EQ((*d)->seek(0, SEEK_SET).value(), 0);
  });
}

TEST(Directory, DeepTreesGoWithoutRecursion) {
  on_fiber([] {
    Tree t;
    t.mkdir("/deep");
    t.cwd = t.at("/deep");
    for (int i = 0; i < 20000; i++) {
      t.mkdir("x");
      t.cwd = t.at("x");
    }
    t.cwd = t.ns->root();
  });
}

TEST(Cache, ManyNamesStayBounded) {
  on_fiber([] {
    Tree t;
    for (int i = 0; i < 40000; i++) EXPECT_EQ(error_of(t.walk("/none" + std::to_string(i))), ENOENT);
    t.put("/none5", "now");
    EXPECT_EQ(t.get("/none5"), "now");
    t.put("/none39999", "too");
    EXPECT_EQ(t.get("/none39999"), "too");
  });
}

}  // namespace
}  // namespace sentry::fs::tmpfs
