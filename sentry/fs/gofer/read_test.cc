// SPDX-License-Identifier: Apache-2.0
// Looking up, listing, reading and mapping; what needs no second round trip; shared attach points.
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "sentry/fs/gofer/host_inode.h"
#include "sentry/fs/gofer/test_gofer.h"

namespace sentry::fs::gofer {
namespace {

void some_files(TestHost& h) {
  h.make_dir("0/etc");
  h.make_dir("0/etc/deep");
  h.put("0/etc/passwd", "root:x:0:0\n");
  h.put("0/etc/deep/file", std::string(100'000, 'x') + "end");
  CHECK(symlink("etc/passwd", h.path("0/link").c_str()) == 0);
  CHECK(link(h.path("0/etc/passwd").c_str(), h.path("0/hard").c_str()) == 0);
  CHECK(mkfifo(h.path("0/fifo").c_str(), 0640) == 0);
}

TEST(GoferRead, WalksReadsAndStats) {
  with_gofer(some_files, [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    EXPECT_EQ(t.get("/etc/passwd"), "root:x:0:0\n");
    EXPECT_EQ(t.get("/link"), "root:x:0:0\n");
    auto f = t.must_open("/etc/deep/file", O_RDONLY);
    f->position = 99'999;
    EXPECT_EQ(Tree::read(*f, 4096), "xend");
    EXPECT_EQ(Tree::read(*f, 4096), "");
    EXPECT_EQ(must(f->seek(-3, SEEK_END)), 100'000);
    EXPECT_EQ(must(f->seek(0, SEEK_HOLE)), 100'003);
    EXPECT_EQ(error_of(t.walk("/etc/nothing")), ENOENT);
    EXPECT_EQ(error_of(t.walk("/etc/passwd/x")), ENOTDIR);
    struct stat st = h.stat_of("0/etc/passwd");
    auto a = t.stat("/etc/passwd");
    EXPECT_EQ(a.ino, st.st_ino);
    EXPECT_EQ(a.dev, t.fs->device());
    EXPECT_EQ(a.size, 11u);
    EXPECT_EQ(a.nlink, 2u);
    EXPECT_EQ(a.mode, st.st_mode);
    EXPECT_EQ(a.mtime.tv_sec, st.st_mtim.tv_sec);
    EXPECT_EQ(a.mtime.tv_nsec, st.st_mtim.tv_nsec);
    EXPECT_TRUE(S_ISFIFO(t.stat("/fifo").mode));
    EXPECT_EQ(must(t.inode("/link")->read_link()), "etc/passwd");
    EXPECT_NE(t.fs->statfs().blocks, 0u);
  });
}

TEST(GoferRead, SpecialFilesAreNotOpenedByTheGofer) {
  with_gofer(some_files, [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    EXPECT_EQ(error_of(t.open("/fifo", O_RDONLY | O_NONBLOCK)), ENXIO);  // nobody has said what a FIFO is
    EXPECT_EQ(h.requests(wire::Op::kOpen), 0u);
  });
}

TEST(GoferRead, TwoNamesOfOneFileAreOneInode) {
  with_gofer(some_files, [](TestHost&, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    auto a = t.inode("/etc/passwd"), b = t.inode("/hard");
    EXPECT_EQ(a.get(), b.get());
    EXPECT_EQ(t.inode("/etc/passwd").get(), a.get());
  });
}

TEST(GoferRead, AnExclusiveTreeIsAskedOnce) {
  with_gofer(some_files, [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    (void)t.get("/etc/passwd");
    (void)t.walk("/etc/nothing");
    (void)t.inode("/link")->read_link();
    EXPECT_GT(h.requests(), 0u);
    for (int i = 0; i < 3; i++) {
      (void)t.get("/etc/passwd");
      (void)t.walk("/etc/nothing");
      (void)t.inode("/link")->read_link();
      (void)t.stat("/etc/passwd");
    }
    EXPECT_EQ(h.requests(), 0u);
  });
}

TEST(GoferRead, AListingAnswersForItsNames) {
  auto many = [](TestHost& h) {
    h.make_dir("0/d");
    for (int i = 0; i < 400; i++) h.put("0/d/name" + std::to_string(i), "x");
    h.make_dir("0/d/sub");
    h.put("0/d/sub/leaf", "leaf");
  };
  with_gofer(many, [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    auto names = t.list("/d");
    ASSERT_EQ(names.size(), 401u);
    EXPECT_EQ(names[0], "name0");
    h.requests();
    for (const auto& n : names) {
      auto st = h.stat_of("0/d/" + n);
      auto a = t.stat("/d/" + n);
      ASSERT_EQ(a.ino, st.st_ino);
      ASSERT_EQ(a.mode, st.st_mode);
    }
    EXPECT_EQ(error_of(t.walk("/d/other")), ENOENT);
    EXPECT_EQ(t.list("/d"), names);
    EXPECT_EQ(h.requests(), 0u);
    EXPECT_EQ(t.get("/d/name7"), "x");
    EXPECT_EQ(h.requests(), 1u);  // the open
    EXPECT_EQ(t.get("/d/sub/leaf"), "leaf");
    EXPECT_EQ(h.requests(), 2u);  // both names in one walk, and the open
    // In small pieces, and again from the start.
    auto f = t.must_open("/d", O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(Tree::list(*f, 7).size(), 401u);
    EXPECT_EQ(Tree::list(*f, 7).size(), 0u);
    ASSERT_TRUE(f->seek(0, SEEK_SET).ok());
    EXPECT_EQ(Tree::list(*f).size(), 401u);
  });
}

TEST(GoferRead, NamesWithoutXattrsAreNotAskedForThem) {
  auto prepare = [](TestHost& h) {
    for (int i = 0; i < 20; i++) h.put("0/f" + std::to_string(i), "");
    CHECK(setxattr(h.path("0/f7").c_str(), "user.a", "1", 1, 0) == 0);
  };
  for (bool exclusive : {true, false}) {
    with_gofer(prepare, [&](TestHost& h, const Ref<Client>& c) {
      auto t = Tree::of(c, {.index = 0, .exclusive = exclusive});
      t.list("/");
      h.requests();
      for (int i = 0; i < 20; i++) {
        auto inode = t.inode("/f" + std::to_string(i));
        auto names = inode->list_xattr();
        ASSERT_TRUE(names.ok());
        EXPECT_EQ(names->size(), i == 7 ? 1u : 0u);
        EXPECT_EQ(error_of(inode->get_xattr("system.posix_acl_access")), ENODATA);
        EXPECT_EQ(error_of(inode->get_xattr("user.a")), i == 7 ? 0 : ENODATA);
      }
      if (exclusive) {
        EXPECT_LE(h.requests(), 5u);  // of two files alone, of all; the names of f7, and its value
      }
      auto f = t.inode("/f3");
      ASSERT_TRUE(f->set_xattr("user.b", "2", 0).ok());
      EXPECT_EQ(must(f->get_xattr("user.b")), "2");
      EXPECT_EQ(must(f->list_xattr()).size(), 1u);
      ASSERT_TRUE(f->remove_xattr("user.b").ok());
      EXPECT_EQ(error_of(f->get_xattr("user.b")), ENODATA);
    });
  }
}

TEST(GoferRead, AWalkOfATreeIsReadAhead) {
  constexpr int kDirs = 60;
  auto prepare = [](TestHost& h) {
    for (int i = 0; i < kDirs; i++) {
      std::string d = "0/d" + std::to_string(i);
      h.make_dir(d);
      for (int f = 0; f < i % 5; f++) h.put(d + "/f" + std::to_string(f), "");
    }
    h.make_dir("0/large");
    for (int f = 0; f < 3000; f++) h.put("0/large/f" + std::to_string(f), "");
  };
  for (bool read_only : {true, false}) {
    with_gofer(prepare, [&](TestHost& h, const Ref<Client>& c) {
      auto t = Tree::of(c, {.index = 0, .read_only = read_only});
      EXPECT_EQ(t.list("/").size(), kDirs + 1u);
      h.requests();
      auto expect = [&](int i) {
        auto names = t.list("/d" + std::to_string(i));
        ASSERT_EQ(names.size(), static_cast<size_t>(i % 5));
        for (int f = 0; f < i % 5; f++) EXPECT_EQ(names[static_cast<size_t>(f)], "f" + std::to_string(f));
      };
      for (int i = 0; i < kDirs / 2; i++) expect(i);
      EXPECT_EQ(t.list("/large").size(), 3000u);
      EXPECT_LE(h.requests(), 20u) << h.requests(wire::Op::kWalk) << " walks, " << h.requests(wire::Op::kReadDir) << " single, "
                                   << h.requests(wire::Op::kReadDirs) << " many";
      if (!read_only) {
        // What we do to a directory shows, whether it has been read ahead or not.
        for (int i = kDirs / 2; i < kDirs; i++) {
          std::string d = "/d" + std::to_string(i);
          t.put(d + "/g", "new");
          EXPECT_EQ(t.list(d).size(), i % 5 + 1u);
          if (i % 5 == 1) {
            ASSERT_TRUE(vfs::remove_file(t.ctx(), d + "/f0").ok());
            EXPECT_EQ(t.list(d), std::vector<std::string>{"g"});
            EXPECT_EQ(t.get(d + "/g"), "new");
          }
        }
        ASSERT_TRUE(vfs::remove_directory(t.ctx(), "/d0").ok());
        EXPECT_EQ(t.list("/").size(), kDirs + 0u);
        ASSERT_TRUE(vfs::make_directory(t.ctx(), "/d0", 0755).ok());
        EXPECT_TRUE(t.list("/d0").empty());
      } else {
        for (int i = kDirs / 2; i < kDirs; i++) expect(i);
        EXPECT_EQ(t.stat("/large/f2998").size, 0u);
        for (int i = 0; i < 3; i++) EXPECT_EQ(t.stat("/large/f" + std::to_string(i)).size, 0u);
        h.requests();
        for (int i = 0; i < kDirs; i++) expect(i);
        EXPECT_EQ(t.stat("/large/f2999").size, 0u);
        EXPECT_LE(h.requests(), 2u);  // somebody asks about names by now: listings come with all that
        for (int i = 0; i < kDirs; i++) expect(i);
        EXPECT_EQ(h.requests(), 0u);
      }
      EXPECT_LE(static_cast<Channel&>(*c).listings.used(), Channel::kCachedEntries);
    });
  }
}

TEST(GoferRead, AWalkOfATreeBringsWhatIsBelow) {
  constexpr int kTops = 12;
  auto prepare = [](TestHost& h) {
    for (int i = 0; i < kTops; i++) {
      std::string d = "0/d" + std::to_string(i);
      h.make_dir(d);
      for (const char* s : {"/a", "/a/b", "/a/b/c"}) {
        h.make_dir(d + s);
        h.put(d + s + "/file", "text");
        CHECK(symlink("file", h.path(d + s + "/link").c_str()) == 0);
      }
    }
  };
  for (bool read_only : {true, false}) {
    with_gofer(prepare, [&](TestHost& h, const Ref<Client>& c) {
      auto t = Tree::of(c, {.index = 0, .read_only = read_only});
      EXPECT_EQ(t.list("/").size(), size_t{kTops});
      auto top = [](int i) { return "/d" + std::to_string(i); };
      auto go = [&](int i) {
        EXPECT_EQ(t.list(top(i)), std::vector<std::string>{"a"});
        EXPECT_EQ(t.list(top(i) + "/a"), (std::vector<std::string>{"b", "file", "link"}));
        EXPECT_EQ(t.list(top(i) + "/a/b"), (std::vector<std::string>{"c", "file", "link"}));
        EXPECT_EQ(t.list(top(i) + "/a/b/c"), (std::vector<std::string>{"file", "link"}));
      };
      h.requests();
      for (int i = 0; i < kTops; i++) go(i);
      EXPECT_LE(h.requests(), 12u);  // for 48 directories
      // Names came without what nobody asked about; now somebody does.
      for (int i = 0; i < kTops; i++) {
        const std::string deep = top(i) + "/a/b/c";
        EXPECT_EQ(t.stat(deep + "/file").ino, h.stat_of("0" + deep + "/file").st_ino);
        EXPECT_EQ(t.stat(deep + "/file").size, 4u);
        EXPECT_EQ(must(t.inode(deep + "/link")->read_link()), "file");
      }
      EXPECT_LE(h.requests(), 20u);
      // Who walks it again and asks about every name has the directories read ahead with all that; none is looked for by its name.
      const unsigned walks = h.requests(wire::Op::kWalk);
      for (int i = 0; i < kTops; i++) {
        for (const char* below : {"", "/a", "/a/b", "/a/b/c"}) {
          for (const auto& name : t.list(top(i) + below)) t.at(top(i) + below + "/" + name, 0);
        }
      }
      EXPECT_EQ(h.requests(wire::Op::kWalk), walks);
      EXPECT_LE(h.requests(), 30u);
      if (read_only) return;
      // What we do shows, wherever it was read ahead from.
      t.put("/d3/a/b/new", "new");
      EXPECT_EQ(t.list("/d3/a/b"), (std::vector<std::string>{"c", "file", "link", "new"}));
      ASSERT_TRUE(vfs::remove_file(t.ctx(), "/d4/a/b/c/file").ok());
      EXPECT_EQ(t.list("/d4/a/b/c"), std::vector<std::string>{"link"});
      EXPECT_EQ(error_of(t.walk("/d4/a/b/c/file")), ENOENT);
      ASSERT_TRUE(vfs::remove_file(t.ctx(), "/d4/a/b/c/link").ok());
      ASSERT_TRUE(vfs::remove_directory(t.ctx(), "/d4/a/b/c").ok());
      EXPECT_EQ(t.list("/d4/a/b"), (std::vector<std::string>{"file", "link"}));
      t.put("/d5/a/b/c/file", "longer text");
      EXPECT_EQ(t.stat("/d5/a/b/c/file").size, 11u);
      for (int i = 6; i < kTops; i++) go(i);
    });
  }
}

TEST(GoferRead, FilesOpenedInOrderAreOpenedAhead) {
  constexpr int kFiles = 100;
  auto name = [](int i) { return "f" + std::to_string(100 + i); };
  auto prepare = [&](TestHost& h) {
    for (const char* d : {"0/d", "0/e", "0/g"}) {
      h.make_dir(d);
      for (int i = 0; i < kFiles; i++) h.put(std::string(d) + "/" + name(i), name(i) + d);
    }
  };
  for (bool read_only : {true, false}) {
    with_gofer(prepare, [&](TestHost& h, const Ref<Client>& c) {
      auto t = Tree::of(c, {.index = 0, .read_only = read_only});
      auto opens = [&] { return h.requests(wire::Op::kOpen) + h.requests(wire::Op::kOpenAhead); };
      t.list("/d");
      for (int i = 0; i < kFiles; i++) EXPECT_EQ(t.get("/d/" + name(i)), name(i) + "0/d");
      EXPECT_LE(opens(), 20u) << h.requests(wire::Op::kOpenAhead) << " for several";
      // The other order.
      unsigned before = opens();
      const auto listed = Tree::list(*t.must_open("/e", O_RDONLY | O_DIRECTORY));
      for (const std::string& f : listed) EXPECT_EQ(t.get("/e/" + f), f + "0/e");
      EXPECT_LE(opens() - before, 20u);
      // No order, no guesses.
      before = h.requests(wire::Op::kOpenAhead);
      t.list("/g");
      for (int i = 0; i < 40; i++) EXPECT_EQ(t.get("/g/" + name(i * 37 % kFiles)), name(i * 37 % kFiles) + "0/g");
      EXPECT_LE(h.requests(wire::Op::kOpenAhead) - before, 2u);
    });
  }
}

TEST(GoferRead, WhatWasOpenedAheadChangesWithItsName) {
  auto name = [](int i) { return "/d/f" + std::to_string(100 + i); };
  with_gofer([&](TestHost& h) {
    h.make_dir("0/d");
    for (int i = 0; i < 60; i++) h.put("0" + name(i), "old");
  }, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    t.list("/d");
    for (int i = 0; i < 60; i++) {
      EXPECT_EQ(t.get(name(i)), i >= 20 && i % 4 == 1 ? "new" : i >= 20 && i % 4 == 2 ? "longer than before" : "old") << i;
      if (i < 20 || i % 4 != 0) continue;
      ASSERT_TRUE(vfs::remove_file(t.ctx(), name(i + 1)).ok());  // most of them are open by now
      t.put(name(i + 1), "new");
      t.put(name(i + 2), "longer than before");
      EXPECT_EQ(t.stat(name(i + 2)).size, 18u);
      ASSERT_TRUE(vfs::remove_file(t.ctx(), name(i + 3)).ok());
      EXPECT_EQ(error_of(t.open(name(i + 3), O_RDONLY)), ENOENT);
      t.put(name(i + 3), "old");
    }
    EXPECT_GT(h.requests(wire::Op::kOpenAhead), 0u);
  });
}

TEST(GoferRead, ASearchedDirectoryIsListed) {
  with_gofer(some_files, [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    for (int i = 0; i < 40; i++) EXPECT_EQ(error_of(t.walk("/etc/no" + std::to_string(i))), ENOENT);
    EXPECT_EQ(h.requests(wire::Op::kReadDir), 1u);
    h.requests();
    for (int i = 100; i < 200; i++) EXPECT_EQ(error_of(t.walk("/etc/no" + std::to_string(i))), ENOENT);
    EXPECT_TRUE(S_ISDIR(t.stat("/etc/deep").mode));
    EXPECT_EQ(h.requests(), 0u);
  });
}

TEST(GoferRead, LargeDirectoriesAreReadInParts) {
  constexpr int kMany = Listing::kMax + 500;
  auto many = [](TestHost& h) {
    h.make_dir("0/d");
    for (int i = 0; i < kMany; i++) close(open(h.path("0/d/n" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0644));
  };
  with_gofer(many, [](TestHost&, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    auto names = t.list("/d");
    ASSERT_EQ(names.size(), static_cast<size_t>(kMany));
    EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
    auto f = t.must_open("/d", O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(Tree::list(*f, 100).size(), static_cast<size_t>(kMany));
    ASSERT_TRUE(f->seek(kMany - 10 + 2, SEEK_SET).ok());
    EXPECT_EQ(Tree::list(*f).size(), 10u);
  });
}

TEST(GoferRead, AFileAsAttachPointIsTheRoot) {
  with_gofer([](TestHost&) {}, [](TestHost& h, const Ref<Client>& c) {
    auto fs = attach(c, {.index = 2, .exclusive = false});
    ASSERT_TRUE(fs.ok());
    auto root = (*fs)->root();
    ASSERT_TRUE(root->is_regular());
    auto cred = make_user(0, auth::kAllCaps);
    auto f = root->open(vfs::Path{}, O_RDWR, cred);
    ASSERT_TRUE(f.ok());
    EXPECT_EQ(Tree::read(**f, 100), "one file");
    EXPECT_TRUE(Tree::write(**f, ", more").ok());
    EXPECT_EQ(h.get("2"), "one file, more");
    EXPECT_EQ(root->attributes()->size, 14u);
    EXPECT_EQ(error_of(attach(c, {.index = 9})), ENOENT);
  });
}

TEST(GoferRead, MappingsGetDescriptorsOfTheirOwnAccess) {
  with_gofer(some_files, [](TestHost&, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    auto mode_of = [](int fd) { return fcntl(fd, F_GETFL) & O_ACCMODE; };
    auto ro = t.must_open("/etc/passwd", O_RDONLY);
    auto m = must(ro->mappable());
    auto fd = m->map_fd(false);
    ASSERT_TRUE(fd.ok());
    EXPECT_EQ(mode_of(fd->fd), O_RDONLY);
    EXPECT_NE(fd->key, 0u);
    EXPECT_EQ(m->map_fd(false)->fd, fd->fd);
    EXPECT_EQ(m->map_fd(false)->key, fd->key);
    EXPECT_EQ(error_of(m->map_fd(true)), EACCES);
    EXPECT_EQ(m->inode_number(), t.stat("/etc/passwd").ino);
    EXPECT_EQ(m->device(), t.fs->device());
    // A writer of the same file does not make the reader's mapping writable.
    auto rw = t.must_open("/etc/passwd", O_RDWR);
    auto mw = must(rw->mappable());
    auto wfd = mw->map_fd(true);
    ASSERT_TRUE(wfd.ok());
    EXPECT_EQ(mode_of(wfd->fd), O_RDWR);
    EXPECT_NE(wfd->key, fd->key);
    auto private_fd = mw->map_fd(false);
    ASSERT_TRUE(private_fd.ok());
    EXPECT_EQ(mode_of(private_fd->fd), O_RDONLY);
    EXPECT_EQ(mode_of(m->map_fd(false)->fd), O_RDONLY);
    // Written through the mapping, read through the description.
    void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, wfd->fd, 0);
    ASSERT_NE(p, MAP_FAILED);
    memcpy(p, "ROOT", 4);
    EXPECT_EQ(Tree::read(*ro, 5), "ROOT:");
    munmap(p, 4096);
    EXPECT_TRUE(mw->sync_range(0, 4096).ok());
  });
}

TEST(GoferRead, SharedTreesShowWhatOthersDo) {
  auto prepare = [](TestHost& h) {
    h.make_dir("3/d");
    h.put("3/d/f", "old");
  };
  with_gofer(prepare, [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 3, .exclusive = false});
    auto settle = [] {
      for (auto until = sched::now() + 3 * sched::kMs; sched::now() < until;) sched::park(until);
    };
    EXPECT_EQ(t.get("/d/f"), "old");
    EXPECT_EQ(error_of(t.walk("/d/new")), ENOENT);
    h.put("3/d/new", "just made");
    EXPECT_EQ(t.get("/d/new"), "just made");
    h.put("3/d/f", "longer than before");
    settle();
    EXPECT_EQ(t.stat("/d/f").size, 18u);
    EXPECT_EQ(t.get("/d/f"), "longer than before");
    auto held = t.must_open("/d/f", O_RDONLY);
    h.put("3/d/other", "another file");
    ASSERT_EQ(rename(h.path("3/d/other").c_str(), h.path("3/d/f").c_str()), 0);
    EXPECT_EQ(t.get("/d/f"), "another file");
    EXPECT_EQ(Tree::read(*held, 100), "longer than before");
    settle();
    EXPECT_EQ(held->inode().attributes()->nlink, 0u);
    ASSERT_EQ(rename(h.path("3/d").c_str(), h.path("3/e").c_str()), 0);
    EXPECT_EQ(error_of(t.walk("/d/f")), ENOENT);
    EXPECT_EQ(t.get("/e/f"), "another file");
    EXPECT_EQ(t.list("/e"), (std::vector<std::string>{"f", "new"}));
    ASSERT_EQ(unlink(h.path("3/e/new").c_str()), 0);
    EXPECT_EQ(t.list("/e"), (std::vector<std::string>{"f"}));
    EXPECT_EQ(error_of(t.walk("/e/new")), ENOENT);
    ASSERT_EQ(chmod(h.path("3/e/f").c_str(), 0600), 0);
    settle();
    EXPECT_EQ(t.stat("/e/f").mode & 07777, 0600u);
  });
}

TEST(GoferRead, NodesAndDescriptorsAreGivenBack) {
  auto many = [](TestHost& h) {
    h.make_dir("0/d");
    for (int i = 0; i < 300; i++) h.put("0/d/f" + std::to_string(i), "x");
  };
  with_gofer(many, [](TestHost& h, const Ref<Client>& c) {
    auto& channel = static_cast<Channel&>(*c);
    {
      auto fs = attach(c, {.index = 0});
      ASSERT_TRUE(fs.ok());
      auto cred = make_user(0, auth::kAllCaps);
      auto d = (*fs)->root()->lookup("d");
      ASSERT_TRUE(d.ok() && *d);
      for (int i = 0; i < 300; i++) {
        auto f = (*d)->lookup("f" + std::to_string(i));
        ASSERT_TRUE(f.ok() && *f);
        ASSERT_TRUE((*f)->open(vfs::Path{}, O_RDONLY, cred).ok());
      }
      EXPECT_LT(channel.idle_fds.used(), wire::kMaxFds);  // the inodes are gone, but for those opened ahead
    }
    EXPECT_EQ(channel.idle_fds.used(), 0u);
    (void)attach(c, {.index = 0});  // all before it has been served
    EXPECT_LT(h.nodes(), 2 * Channel::kForgetBatch);
  });
}

TEST(GoferRead, IdleDescriptorsStayWithinTheirBudget) {
  constexpr int kMany = Channel::kIdleFds + 100;
  auto many = [](TestHost& h) {
    for (int i = 0; i < kMany; i++) h.put("0/f" + std::to_string(i), std::to_string(i));
  };
  with_gofer(many, [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    for (int i = 0; i < kMany; i++) ASSERT_EQ(t.get("/f" + std::to_string(i)), std::to_string(i));
    EXPECT_LE(static_cast<Channel&>(*c).idle_fds.used(), Channel::kIdleFds);
    h.requests();
    EXPECT_EQ(t.get("/f" + std::to_string(kMany - 1)), std::to_string(kMany - 1));
    EXPECT_EQ(h.requests(), 0u);
    EXPECT_EQ(t.get("/f0"), "0");
    EXPECT_EQ(h.requests(), 1u);
  });
}

TEST(GoferRead, ManyFibersAskAtOnce) {
  auto many = [](TestHost& h) {
    for (int i = 0; i < 400; i++) h.put("0/f" + std::to_string(i), "text " + std::to_string(i));
  };
  auto body = [](TestHost&, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    std::atomic<int> right{0};
    sched::Group g;
    for (int w = 0; w < 100; w++)
      g.add([&, w] {
        for (int i = w % 7; i < 400; i += 7)
          if (t.get("/f" + std::to_string(i)) == "text " + std::to_string(i)) right++;
      });
    g.join();
    int want = 0;
    for (int w = 0; w < 100; w++) want += (400 - w % 7 + 6) / 7;
    EXPECT_EQ(right.load(), want);
  };
  for (Waiting waiting : {Waiting::asleep, Waiting::awake}) with_gofer(many, body, waiting);
}

TEST(GoferRead, NumbersTellDevicesApart) {
  with_gofer([](TestHost&) {}, [](TestHost& h, const Ref<Client>& c) {
    auto fs = attach(c, {.index = 0});
    ASSERT_TRUE(fs.ok());
    auto& g = static_cast<GoferFs&>(**fs);
    uint64_t root = h.stat_of("0").st_dev;
    EXPECT_EQ(g.ino_of(root, 77), 77u);
    std::set<uint64_t> seen{77};
    for (uint64_t dev = root + 1; dev < root + 6000; dev++) EXPECT_TRUE(seen.insert(g.ino_of(dev, 77)).second);
    EXPECT_EQ(g.ino_of(root + 1, 77), g.ino_of(root + 1, 77));
    EXPECT_NE(g.ino_of(root + 1, 1ull << 60), g.ino_of(root + 2, 1ull << 60));
  });
}

TEST(GoferRead, BackingFilesComeFromTheStores) {
  with_gofer([](TestHost&) {}, [](TestHost&, const Ref<Client>& c) {
    for (auto store : {Store::disk, Store::shm}) {
      auto b = backing(c, store)->create();
      ASSERT_TRUE(b.ok());
      EXPECT_EQ(b->in_memory, store == Store::shm);
      EXPECT_EQ(pwrite(b->rw.get(), "abc", 3, 0), 3);
      char buf[4] = {};
      EXPECT_EQ(pread(b->ro.get(), buf, 3, 0), 3);
      EXPECT_STREQ(buf, "abc");
      EXPECT_EQ(pwrite(b->ro.get(), "x", 1, 0), -1);
    }
  });
}

}  // namespace
}  // namespace sentry::fs::gofer
