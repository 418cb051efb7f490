// SPDX-License-Identifier: Apache-2.0
// Creating, attributes, linking, removing and renaming, backing files.
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <atomic>
#include <thread>

#include "gofer/testing.h"

namespace gofer {
namespace {

using namespace base;  // the errno constants
class Modify : public GoferTest {
 protected:
  void TearDown() override {
    tree::pretend_no_fchmodat2(false);
    GoferTest::TearDown();
  }
  struct stat on_host(const std::string& path) {
    struct stat st{};
    EXPECT_EQ(lstat((top_ + path).c_str(), &st), 0) << path;
    return st;
  }
};

TEST_F(Modify, CreateSetsOwnerModeAndDonates) {
  auto r = call(wire::CreateRequest{root_, "f", wire::kRead | wire::kWrite, 06751, 1234, 567});
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(fds_.size(), 2u);
  EXPECT_EQ(r->attr.mode, uint32_t{S_IFREG | 06751});
  EXPECT_EQ(write(fds_[1].get(), "abc", 3), 3);
  EXPECT_EQ(write(fds_[0].get(), "abc", 3), -1);
  EXPECT_EQ(text_of(fds_[0]), "abc");
  struct stat st = on_host("/0/f");
  EXPECT_EQ(st.st_uid, 1234u);
  EXPECT_EQ(st.st_gid, 567u);
  EXPECT_EQ(st.st_mode & 07777, 06751u);
  EXPECT_TRUE(fails_with(call(wire::CreateRequest{root_, "f", 0, 0644, 0, 0}), kEEXIST));
  ASSERT_TRUE(call(wire::CreateRequest{root_, "quiet", 0, 0, 0, 0}).ok());
  EXPECT_TRUE(fds_.empty());
  EXPECT_TRUE(fails_with(call(wire::CreateRequest{root_, "g", 0, 0644, UINT32_MAX, 0}), kEINVAL));
  EXPECT_FALSE(exists("/0/g"));
}

TEST_F(Modify, MkdirSymlinkMknodSetOwnerAndMode) {
  auto d = call(wire::MkdirRequest{root_, "d", 02775, 7, 8});
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->attr.mode, uint32_t{S_IFDIR | 02775});
  EXPECT_EQ(d->attr.uid, 7u);
  auto l = call(wire::SymlinkRequest{d->node, "l", "/no/where", 9, 10});
  ASSERT_TRUE(l.ok());
  EXPECT_EQ(l->attr.uid, 9u);
  auto target = call(wire::ReadLinkRequest{{l->node, ""}});
  ASSERT_TRUE(target.ok());
  EXPECT_EQ(target->target, "/no/where");
  EXPECT_TRUE(fails_with(call(wire::ReadLinkRequest{{d->node, ""}}), kEINVAL));
  auto f = call(wire::MknodRequest{d->node, "fifo", S_IFIFO | 04640, 11, 12, 0});
  ASSERT_TRUE(f.ok());
  EXPECT_EQ(f->attr.mode, uint32_t{S_IFIFO | 04640});
  EXPECT_EQ(f->attr.gid, 12u);
  EXPECT_TRUE(call(wire::MknodRequest{d->node, "sock", S_IFSOCK | 0600, 0, 0, 0}).ok());
  EXPECT_TRUE(call(wire::MknodRequest{d->node, "reg", S_IFREG | 0600, 0, 0, 0}).ok());
  auto w = call(wire::MknodRequest{d->node, "whiteout", S_IFCHR, 0, 0, 0});
  ASSERT_TRUE(w.ok());
  EXPECT_EQ(w->attr.rdev, 0u);
  EXPECT_TRUE(S_ISCHR(w->attr.mode));
  EXPECT_TRUE(fails_with(call(wire::SymlinkRequest{root_, "e", "", 0, 0}), kENOENT));
  EXPECT_TRUE(fails_with(call(wire::SymlinkRequest{root_, "e", std::string(4096, 'x'), 0, 0}), kENAMETOOLONG));
  EXPECT_TRUE(fails_with(call(wire::SymlinkRequest{root_, "e", std::string("a\0b", 3), 0, 0}), kEINVAL));
  EXPECT_TRUE(call(wire::SymlinkRequest{root_, "e", std::string(4095, 'x'), 0, 0}).ok());
}

TEST_F(Modify, SetAttrDoesEachPart) {
  for (bool old_host : {false, true}) {
    tree::pretend_no_fchmodat2(old_host);
    write_file("/0/f", "0123456789");
    auto f = node("f");
    auto r = call(wire::SetAttrRequest{{f, ""}, wire::kSetMode | wire::kSetUid | wire::kSetGid | wire::kSetSize, 04711, 3, 4, 5, 0, 0});
    ASSERT_TRUE(r.ok());
    EXPECT_EQ(r->attr.mode, uint32_t{S_IFREG | 04711});
    EXPECT_EQ(r->attr.uid, 3u);
    EXPECT_EQ(r->attr.gid, 4u);
    EXPECT_EQ(text_of("/0/f"), "01234");
    r = call(wire::SetAttrRequest{{f, ""}, wire::kSetGid, 0, 0, 99, 0, 0, 0});
    ASSERT_TRUE(r.ok());
    EXPECT_EQ(r->attr.uid, 3u);
    EXPECT_EQ(r->attr.gid, 99u);
    r = call(wire::SetAttrRequest{{f, ""}, wire::kSetAtime | wire::kSetMtime, 0, 0, 0, 0, -1, 1'500'000'000'123'456'789});
    ASSERT_TRUE(r.ok());
    EXPECT_EQ(r->attr.atime, -1);
    EXPECT_EQ(r->attr.mtime, 1'500'000'000'123'456'789);
    r = call(wire::SetAttrRequest{{f, ""}, wire::kSetMtime | wire::kSetMtimeNow, 0, 0, 0, 0, 0, 7});
    ASSERT_TRUE(r.ok());
    EXPECT_EQ(r->attr.atime, -1);
    EXPECT_GT(r->attr.mtime, 1'600'000'000'000'000'000);
    if (!exists("/0/d")) make_dir("/0/d");
    EXPECT_TRUE(call(wire::SetAttrRequest{{node("d"), ""}, wire::kSetMode, 01700, 0, 0, 0, 0, 0}).ok());
    EXPECT_EQ(on_host("/0/d").st_mode & 07777, 01700u);
    EXPECT_TRUE(call(wire::SetAttrRequest{{root_, ""}, wire::kSetMode, 0751, 0, 0, 0, 0, 0}).ok());
    EXPECT_EQ(on_host("/0").st_mode & 07777, 0751u);
    if (!exists("/0/p")) {
      ASSERT_EQ(mkfifo((top_ + "/0/p").c_str(), 0644), 0);
    }
    auto fifo = call(wire::SetAttrRequest{{root_, "p"}, wire::kSetMode, 0600, 0, 0, 0, 0, 0});
    EXPECT_TRUE(old_host ? bool(fails_with(fifo, kEOPNOTSUPP)) : fifo.ok());
  }
  auto f = node("f");
  EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{f, ""}, 256, 0, 0, 0, 0, 0, 0}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{f, ""}, wire::kSetUid, 0, UINT32_MAX, 0, 0, 0, 0}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{f, ""}, wire::kSetSize, 0, 0, 0, UINT64_MAX, 0, 0}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{root_, ""}, wire::kSetSize, 0, 0, 0, 0, 0, 0}), kEISDIR));
}

TEST_F(Modify, AReadOnlyAttachPointRefusesEveryChange) {
  auto ro = attach(1);
  auto file = node("locked", ro), dir = node("dir", ro);
  struct stat before = on_host("/1/locked");
  write_file("/0/mine", "");
  EXPECT_TRUE(fails_with(call(wire::OpenRequest{{file, ""}, wire::kWrite}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::OpenRequest{{ro, "locked"}, wire::kRead | wire::kWrite}), kEROFS));
  EXPECT_TRUE(fds_.empty());
  EXPECT_TRUE(fails_with(call(wire::CreateRequest{ro, "x", 0, 0644, 0, 0}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::CreateRequest{dir, "x", 0, 0644, 0, 0}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::MkdirRequest{ro, "x", 0755, 0, 0}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::SymlinkRequest{ro, "x", "y", 0, 0}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::MknodRequest{ro, "x", S_IFIFO, 0, 0, 0}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::LinkRequest{{file, ""}, ro, "x"}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::LinkRequest{{file, ""}, root_, "x"}), kEXDEV));
  EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{file, ""}, false, false}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{ro, "dir"}, true, false}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{file, ""}, ro, "x", 0, 0, false}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{file, ""}, root_, "x", 0, 0, false}), kEXDEV));
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{root_, "mine"}, ro, "x", 0, 0, false}), kEROFS));
  for (uint32_t mask : {wire::kSetMode, wire::kSetUid, wire::kSetSize, wire::kSetMtimeNow})
    EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{file, ""}, mask, 0, 0, 0, 0, 0, 0}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{ro, ""}, wire::kSetMode, 0, 0, 0, 0, 0, 0}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::SetXattrRequest{{file, ""}, "user.a", "b", 0}), kEROFS));
  EXPECT_TRUE(fails_with(call(wire::RemoveXattrRequest{{file, ""}, "user.a"}), kEROFS));
  struct stat after = on_host("/1/locked");
  EXPECT_EQ(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
  EXPECT_FALSE(exists("/1/x"));
  EXPECT_FALSE(exists("/0/x"));
  EXPECT_TRUE(call(wire::OpenRequest{{file, ""}, wire::kRead}).ok());
}

TEST_F(Modify, LinkMakesASecondName) {
  write_file("/0/f", "x");
  auto f = node("f");
  auto r = call(wire::LinkRequest{{f, ""}, root_, "g"});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->attr.nlink, 2u);
  EXPECT_EQ(on_host("/0/g").st_ino, on_host("/0/f").st_ino);
  // A link to a link, not to what it points at.
  ASSERT_EQ(symlink("../outside/secret", (top_ + "/0/l").c_str()), 0);
  ASSERT_TRUE(call(wire::LinkRequest{{root_, "l"}, root_, "l2"}).ok());
  EXPECT_TRUE(S_ISLNK(on_host("/0/l2").st_mode));
  EXPECT_EQ(on_host("/outside/secret").st_nlink, 1u);
  make_dir("/0/d");
  EXPECT_TRUE(fails_with(call(wire::LinkRequest{{root_, "d"}, root_, "d2"}), kEPERM));
  EXPECT_TRUE(fails_with(call(wire::LinkRequest{{root_, ""}, root_, "d2"}), kEBUSY));
  ASSERT_EQ(unlink((top_ + "/0/f").c_str()), 0);
  write_file("/0/f2", "");
  ASSERT_EQ(rename((top_ + "/0/f2").c_str(), (top_ + "/0/f").c_str()), 0);
  EXPECT_TRUE(fails_with(call(wire::LinkRequest{{f, ""}, root_, "h"}), kESTALE));
}

TEST_F(Modify, UnlinkKeepsWhatIsOpen) {
  for (bool old_host : {false, true}) {
    tree::pretend_no_fchmodat2(old_host);
    write_file("/0/f", "data");
    auto f = node("f");
    EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{f, ""}, true, true}), kENOTDIR));
    EXPECT_EQ(files_->nodes().pinned_fds(), 3u);  // the attach points
    ASSERT_TRUE(call(wire::UnlinkRequest{{f, ""}, false, true}).ok());
    EXPECT_FALSE(exists("/0/f"));
    auto a = call(wire::GetAttrRequest{{f, ""}});
    ASSERT_TRUE(a.ok());
    EXPECT_EQ(a->attr.nlink, 0u);
    a = call(wire::SetAttrRequest{{f, ""}, wire::kSetMode | wire::kSetUid | wire::kSetMtime, 0600, 42, 0, 0, 0, 9});
    ASSERT_TRUE(a.ok());
    EXPECT_EQ(a->attr.uid, 42u);
    EXPECT_EQ(a->attr.mode & 07777, 0600u);
    EXPECT_EQ(a->attr.mtime, 9);
    EXPECT_TRUE(call(wire::FsyncRequest{{f, ""}, false}).ok());
    EXPECT_TRUE(call(wire::ListXattrRequest{{f, ""}}).ok());
    EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{f, ""}, false, false}), kENOENT));
    EXPECT_TRUE(fails_with(call(wire::OpenRequest{{f, ""}, wire::kRead}), kESTALE));
    EXPECT_TRUE(fails_with(call(wire::LinkRequest{{f, ""}, root_, "back"}), kENOENT));
    // A new file of the same name is another one.
    write_file("/0/f", "other");
    a = call(wire::GetAttrRequest{{f, ""}});
    ASSERT_TRUE(a.ok());
    EXPECT_EQ(a->attr.nlink, 0u);
    call(wire::ForgetRequest{{f}}).value();
    EXPECT_EQ(files_->nodes().pinned_fds(), 3u);
  }
  auto f = node("f");
  ASSERT_TRUE(call(wire::UnlinkRequest{{f, ""}, false, false}).ok());
  EXPECT_TRUE(fails_with(call(wire::GetAttrRequest{{f, ""}}), kESTALE));
  EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{root_, "x"}, false, true}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{root_, ""}, true, false}), kEBUSY));
}

TEST_F(Modify, RemovedDirectoriesAndLinksCanBeKeptToo) {
  auto d = call(wire::MkdirRequest{root_, "d", 0755, 0, 0});
  ASSERT_TRUE(d.ok());
  auto in = call(wire::CreateRequest{d->node, "f", 0, 0644, 0, 0});
  ASSERT_TRUE(in.ok());
  EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{d->node, ""}, true, true}), kENOTEMPTY));
  ASSERT_TRUE(call(wire::OpenRequest{{in->node, ""}, wire::kRead}).ok());  // the directory still works
  ASSERT_TRUE(call(wire::UnlinkRequest{{d->node, "f"}, false, false}).ok());
  ASSERT_TRUE(call(wire::UnlinkRequest{{d->node, ""}, true, true}).ok());
  EXPECT_TRUE(call(wire::GetAttrRequest{{d->node, ""}}).ok());
  // Linux: fs/readdir.c iterate_dir answers ENOENT for a dead directory.
  EXPECT_TRUE(fails_with(call(wire::ReadDirRequest{d->node, 0, 4096, wire::kWantAll}), kENOENT));
  EXPECT_TRUE(fails_with(call(wire::CreateRequest{d->node, "g", 0, 0644, 0, 0}), kENOENT));
  auto l = call(wire::SymlinkRequest{root_, "l", "target", 0, 0});
  ASSERT_TRUE(l.ok() && call(wire::UnlinkRequest{{l->node, ""}, false, true}).ok());
  auto t = call(wire::ReadLinkRequest{{l->node, ""}});
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t->target, "target");
}

TEST_F(Modify, RenameMovesANodeAndAllBelowIt) {
  make_dir("/0/a");
  make_dir("/0/a/b");
  make_dir("/0/z");
  write_file("/0/a/b/f", "deep");
  auto w = call(wire::WalkRequest{root_, {"a", "b", "f"}});
  ASSERT_TRUE(w.ok());
  auto a = w->found[0].node, f = w->found[2].node, z = node("z");
  ASSERT_TRUE(call(wire::RenameRequest{{a, ""}, z, "new", 0, 0, false}).ok());
  EXPECT_EQ(text_of("/0/z/new/b/f"), "deep");
  ASSERT_TRUE(call(wire::OpenRequest{{f, ""}, wire::kRead}).ok());
  EXPECT_EQ(text_of(fds_[0]), "deep");
  // Into itself: refused by the host, and nothing has changed here either.
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{a, ""}, w->found[1].node, "loop", 0, 0, false}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{z, ""}, a, "loop", 0, 0, false}), kEINVAL));
  EXPECT_TRUE(call(wire::GetAttrRequest{{f, ""}}).ok());
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{root_, ""}, z, "r", 0, 0, false}), kEBUSY));
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{root_, "z"}, root_, "y", 64, 0, false}), kEINVAL));
}

TEST_F(Modify, RenameReplacesExchangesAndKeeps) {
  write_file("/0/x", "x");
  write_file("/0/y", "y");
  auto x = node("x"), y = node("y");
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{x, ""}, root_, "y", RENAME_NOREPLACE, 0, false}), kEEXIST));
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{x, ""}, root_, "y", 0, x, false}), kEINVAL));  // not that target
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{x, ""}, root_, "y", RENAME_EXCHANGE, y, true}), kEINVAL));
  ASSERT_TRUE(call(wire::RenameRequest{{x, ""}, root_, "y", RENAME_EXCHANGE, y, false}).ok());
  ASSERT_TRUE(call(wire::OpenRequest{{x, ""}, wire::kRead}).ok());
  EXPECT_EQ(text_of(fds_[0]), "x");
  ASSERT_TRUE(call(wire::OpenRequest{{y, ""}, wire::kRead}).ok());
  EXPECT_EQ(text_of(fds_[0]), "y");
  EXPECT_EQ(text_of("/0/x"), "y");
  ASSERT_TRUE(call(wire::RenameRequest{{y, ""}, root_, "y", 0, x, true}).ok());
  EXPECT_EQ(text_of("/0/y"), "y");
  auto gone = call(wire::GetAttrRequest{{x, ""}});
  ASSERT_TRUE(gone.ok());
  EXPECT_EQ(gone->attr.nlink, 0u);
  ASSERT_TRUE(call(wire::OpenRequest{{y, ""}, wire::kRead}).ok());
  // A failed rename gives the kept descriptor back.
  make_dir("/0/d");
  auto d = node("d");
  size_t pinned = files_->nodes().pinned_fds();
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{y, ""}, root_, "d", 0, d, true}), kEISDIR));
  EXPECT_EQ(files_->nodes().pinned_fds(), pinned);
  EXPECT_TRUE(call(wire::ReadDirRequest{d, 0, 4096, 0}).ok());
}

TEST_F(Modify, RenameOntoAnotherNameOfTheSameFileDoesNothing) {
  write_file("/0/x", "x");
  ASSERT_EQ(link((top_ + "/0/x").c_str(), (top_ + "/0/y").c_str()), 0);
  auto x = node("x"), y = node("y");
  size_t pinned = files_->nodes().pinned_fds();
  ASSERT_TRUE(call(wire::RenameRequest{{x, ""}, root_, "y", 0, y, true}).ok());
  EXPECT_EQ(files_->nodes().pinned_fds(), pinned);
  ASSERT_TRUE(call(wire::RenameRequest{{x, ""}, root_, "x", 0, x, false}).ok());
  ASSERT_EQ(unlink((top_ + "/0/y").c_str()), 0);
  EXPECT_TRUE(call(wire::OpenRequest{{x, ""}, wire::kRead}).ok());
  EXPECT_FALSE(call(wire::OpenRequest{{y, ""}, wire::kRead}).ok());
}

TEST_F(Modify, ExchangeOfDirectoriesKeepsTheirChildren) {
  make_dir("/0/a");
  make_dir("/0/a/in");
  make_dir("/0/b");
  write_file("/0/a/in/f", "from a");
  write_file("/0/b/g", "from b");
  auto a = node("a"), in = node("in", a), f = node("f", in), b = node("b"), g = node("g", b);
  ASSERT_TRUE(call(wire::RenameRequest{{in, ""}, root_, "b", RENAME_EXCHANGE, b, false}).ok());
  EXPECT_EQ(text_of("/0/b/f"), "from a");
  ASSERT_TRUE(call(wire::OpenRequest{{f, ""}, wire::kRead}).ok());
  EXPECT_EQ(text_of(fds_[0]), "from a");
  ASSERT_TRUE(call(wire::OpenRequest{{g, ""}, wire::kRead}).ok());
  EXPECT_EQ(text_of(fds_[0]), "from b");
}

TEST_F(Modify, ALoopMadeBehindOurBackIsNoLoopHere) {
  // Known here: a/b. The host takes b out; then a goes into b, which is legal there.
  make_dir("/0/a");
  make_dir("/0/a/b");
  auto a = node("a"), b = node("b", a);
  ASSERT_TRUE(call(wire::ReadDirRequest{b, 0, 4096, 0}).ok());  // b's descriptor is held
  ASSERT_EQ(rename((top_ + "/0/a/b").c_str(), (top_ + "/0/b").c_str()), 0);
  ASSERT_TRUE(call(wire::RenameRequest{{a, ""}, b, "a", 0, 0, false}).ok());
  EXPECT_TRUE(exists("/0/b/a"));
  EXPECT_TRUE(fails_with(call(wire::GetAttrRequest{{a, ""}}), kESTALE));
  EXPECT_TRUE(fails_with(call(wire::RenameRequest{{b, ""}, a, "x", 0, 0, false}), kENOENT) ||
              fails_with(call(wire::RenameRequest{{b, ""}, a, "x", 0, 0, false}), kESTALE));
  call(wire::ForgetRequest{{a, b}}).value();
  EXPECT_NE(node("b/a"), 0u);
}

TEST_F(Modify, RandomRenamesNeverTieAKnot) {
  std::vector<wire::NodeId> dirs{root_};
  std::vector<std::string> names{""};
  uint32_t seed = 12345;
  auto random = [&](size_t n) { return (seed = seed * 1664525 + 1013904223, (seed >> 8) % n); };
  for (int i = 0; i < 12; i++) {
    auto r = call(wire::MkdirRequest{dirs[random(dirs.size())], "d" + std::to_string(i), 0755, 0, 0});
    ASSERT_TRUE(r.ok());
    dirs.push_back(r->node);
    names.push_back("d" + std::to_string(i));
  }
  int moved = 0;
  for (int i = 0; i < 3000; i++) {
    size_t from = 1 + random(dirs.size() - 1), to = random(dirs.size());
    moved += call(wire::RenameRequest{{dirs[from], ""}, dirs[to], names[from], 0, 0, false}).ok();
    ASSERT_TRUE(call(wire::GetAttrRequest{{dirs[random(dirs.size())], ""}}).ok());
  }
  EXPECT_GT(moved, 100);
  for (size_t i = 1; i < dirs.size(); i++) {
    auto r = call(wire::CreateRequest{dirs[i], "mark", 0, 0644, 0, 0});
    EXPECT_TRUE(r.ok());
  }
}

TEST_F(Modify, ExtendedAttributes) {
  write_file("/0/f", "");
  make_dir("/0/d");
  for (const char* n : {"f", "d"}) {
    auto id = node(n);
    auto set = call(wire::SetXattrRequest{{id, ""}, "user.key", std::string("v\0w", 3), 0});
    if (!set.ok() && set.error() == kEOPNOTSUPP) GTEST_SKIP() << "no user attributes on this file system";
    ASSERT_TRUE(set.ok());
    EXPECT_TRUE(fails_with(call(wire::SetXattrRequest{{id, ""}, "user.key", "v", XATTR_CREATE}), kEEXIST));
    EXPECT_TRUE(fails_with(call(wire::SetXattrRequest{{id, ""}, "user.no", "v", XATTR_REPLACE}), kENODATA));
    auto got = call(wire::GetXattrRequest{{root_, n}, "user.key"});
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(got->value, std::string("v\0w", 3));
    std::string large(2000, 'L');
    ASSERT_TRUE(call(wire::SetXattrRequest{{id, ""}, "user.large", large, 0}).ok());
    got = call(wire::GetXattrRequest{{id, ""}, "user.large"});
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(got->value, large);
    auto list = call(wire::ListXattrRequest{{id, ""}});
    ASSERT_TRUE(list.ok());
    EXPECT_NE(list->value.find(std::string("user.key\0", 9)), std::string::npos);
    ASSERT_TRUE(call(wire::RemoveXattrRequest{{id, ""}, "user.key"}).ok());
    EXPECT_TRUE(fails_with(call(wire::GetXattrRequest{{id, ""}, "user.key"}), kENODATA));
    for (const char* key : {"trusted.overlay.opaque", "security.selinux", "user.", "system.other", "x"})
      EXPECT_TRUE(fails_with(call(wire::SetXattrRequest{{id, ""}, key, "y", 0}), kEPERM)) << key;
    EXPECT_TRUE(fails_with(call(wire::SetXattrRequest{{id, ""}, "", "y", 0}), kERANGE));
    EXPECT_TRUE(fails_with(call(wire::GetXattrRequest{{id, ""}, std::string(256, 'k')}), kERANGE));
    EXPECT_TRUE(fails_with(call(wire::GetXattrRequest{{id, ""}, std::string("user.a\0b", 8)}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::SetXattrRequest{{id, ""}, "user.a", "b", 8}), kEINVAL));
  }
}

TEST_F(Modify, StatFsAndFsync) {
  struct statfs host;
  ASSERT_EQ(statfs((top_ + "/0").c_str(), &host), 0);
  write_file("/0/f", "");
  auto r = call(wire::StatFsRequest{{node("f"), ""}});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->type, static_cast<uint64_t>(host.f_type));
  EXPECT_EQ(r->blocks, host.f_blocks);
  EXPECT_TRUE(call(wire::StatFsRequest{{root_, ""}}).ok());
  EXPECT_TRUE(call(wire::FsyncRequest{{root_, ""}, false}).ok());
  EXPECT_TRUE(call(wire::FsyncRequest{{root_, "f"}, true}).ok());
}

TEST_F(Modify, BackingFilesAreFreshAndNameless) {
  for (auto [store, dir] : {std::pair{wire::Store::disk, "/store"}, std::pair{wire::Store::memory, "/shm"}}) {
    write_file(std::string(dir) + "/1", "left behind by a crash");
    for (int i = 0; i < 3; i++) {
      ASSERT_TRUE(call(wire::CreateBackingRequest{store}).ok());
      ASSERT_EQ(fds_.size(), 2u);
      EXPECT_EQ(fcntl(fds_[0].get(), F_GETFL) & O_ACCMODE, O_RDONLY);
      EXPECT_EQ(fcntl(fds_[1].get(), F_GETFL) & O_ACCMODE, O_RDWR);
      EXPECT_EQ(write(fds_[1].get(), "z", 1), 1);
      EXPECT_EQ(text_of(fds_[0]), "z");
      struct stat st;
      ASSERT_EQ(fstat(fds_[0].get(), &st), 0);
      EXPECT_EQ(st.st_nlink, 0u);
    }
    EXPECT_EQ(text_of(std::string(dir) + "/1"), "left behind by a crash");
    EXPECT_FALSE(exists(std::string(dir) + "/0"));
    EXPECT_FALSE(exists(std::string(dir) + "/2"));
  }
  EXPECT_TRUE(fails_with(call(wire::CreateBackingRequest{static_cast<wire::Store>(9)}), kEINVAL));
}

TEST_F(Modify, AHostThatChangesEverythingMeanwhileCausesErrorsOnly) {
  std::atomic<bool> stop{false};
  std::thread host([&] {
    std::string zero = top_ + "/0/";
    for (int i = 0; !stop; i++) {
      std::string d = zero + "d" + std::to_string(i % 3);
      mkdir(d.c_str(), 0755);
      mkdir((d + "/e").c_str(), 0755);
      close(open((d + "/e/f").c_str(), O_CREAT | O_WRONLY, 0644));
      rename((d + "/e").c_str(), (zero + "moved").c_str());
      rename((zero + "moved").c_str(), (zero + "d" + std::to_string((i + 1) % 3) + "/e").c_str());
      unlink((d + "/e/f").c_str());
      rmdir((d + "/e").c_str());
      rmdir(d.c_str());
    }
  });
  std::vector<wire::NodeId> ids;
  int done = 0;
  // On a busy processor the host's thread may get its turn late.
  for (int i = 0; i < 4000 || (done == 0 && i < 1'000'000); i++) {
    if (i >= 4000) std::this_thread::yield();
    std::string d = "d" + std::to_string(i % 3);
    auto w = call(wire::WalkRequest{root_, {d, "e", "f"}, wire::kRead});
    ASSERT_TRUE(w.ok());
    for (auto& f : w->found) ids.push_back(f.node);
    for (size_t k = ids.size() > 6 ? ids.size() - 6 : 0; k < ids.size(); k++) {
      done += call(wire::GetAttrRequest{{ids[k], ""}}).ok();
      done += call(wire::ReadDirRequest{ids[k], 0, 4096, wire::kWantAll}).ok();
      done += call(wire::OpenRequest{{ids[k], ""}, wire::kRead | wire::kWrite}).ok();
      done += call(wire::SetAttrRequest{{ids[k], ""}, wire::kSetMode, 0755, 0, 0, 0, 0, 0}).ok();
    }
    if (!ids.empty() && i % 7 == 0) {
      (void)call(wire::RenameRequest{{ids.back(), ""}, ids[ids.size() / 2], "r", 0, 0, false}).ok();
      (void)call(wire::UnlinkRequest{{ids.back(), ""}, i % 2 == 0, true}).ok();
    }
    if (ids.size() > 200) {
      call(wire::ForgetRequest{ids}).value();
      ids.clear();
    }
  }
  stop = true;
  host.join();
  call(wire::ForgetRequest{ids}).value();
  EXPECT_EQ(files_->nodes().nodes(), 3u);
  EXPECT_EQ(files_->nodes().pinned_fds(), 3u);
  EXPECT_EQ(files_->nodes().cached_fds(), 0u);
  EXPECT_GT(done, 0);
}

}  // namespace
}  // namespace gofer
