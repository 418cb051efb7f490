// SPDX-License-Identifier: Apache-2.0
// Walking, attributes, listings and opening; and everything in a tree that tries to lead out of it.
#include <dirent.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <atomic>
#include <set>
#include <thread>

#include "gofer/testing.h"

namespace gofer {
namespace {

using namespace base;  // the errno constants
class Lookup : public GoferTest {};

TEST_F(Lookup, WalkResolvesAPathInOneRequest) {
  make_dir("/0/a");
  make_dir("/0/a/b");
  write_file("/0/a/b/f", "hello");
  auto r = call(wire::WalkRequest{root_, {"a", "b", "f"}});
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(r->found.size(), 3u);
  EXPECT_EQ(r->error, 0);
  EXPECT_TRUE(S_ISDIR(r->found[0].attr.mode) && S_ISDIR(r->found[1].attr.mode) && S_ISREG(r->found[2].attr.mode));
  EXPECT_EQ(r->found[2].attr.size, 5u);
  struct stat st;
  ASSERT_EQ(stat((top_ + "/0/a/b/f").c_str(), &st), 0);
  EXPECT_EQ(r->found[2].attr.ino, st.st_ino);
  EXPECT_EQ(r->found[2].attr.dev, st.st_dev);
  EXPECT_EQ(r->found[2].attr.mtime, st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec);
}

TEST_F(Lookup, WalkStopsAtMissingNonDirectoryAndSymlink) {
  make_dir("/0/a");
  write_file("/0/f", "");
  ASSERT_EQ(symlink("a", (top_ + "/0/l").c_str()), 0);
  auto missing = call(wire::WalkRequest{root_, {"a", "no", "x"}});
  ASSERT_TRUE(missing.ok());
  EXPECT_EQ(missing->found.size(), 1u);
  EXPECT_EQ(missing->error, ENOENT);
  auto file = call(wire::WalkRequest{root_, {"f", "x"}});
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->found.size(), 1u);
  EXPECT_EQ(file->error, 0);
  auto link = call(wire::WalkRequest{root_, {"l", "x"}});
  ASSERT_TRUE(link.ok());
  ASSERT_EQ(link->found.size(), 1u);
  EXPECT_TRUE(S_ISLNK(link->found[0].attr.mode));
  EXPECT_EQ(link->found[0].link, "a");
}

TEST_F(Lookup, NamesThatAreNoComponentAreRefusedEverywhere) {
  const std::string bad[] = {"", ".", "..", "/", "a/b", "../outside", "/etc", std::string("a\0b", 3), std::string("\0", 1)};
  for (const std::string& s : bad) {
    EXPECT_TRUE(fails_with(call(wire::WalkRequest{root_, {s}}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::WalkRequest{root_, {"x", s}}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::CreateRequest{root_, s, 0, 0644, 0, 0}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::MkdirRequest{root_, s, 0755, 0, 0}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::SymlinkRequest{root_, s, "t", 0, 0}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::MknodRequest{root_, s, S_IFIFO | 0644, 0, 0, 0}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::RenameRequest{{root_, "x"}, root_, s, 0, 0, false}), kEINVAL));
    if (s.empty()) continue;  // there it means the node itself
    EXPECT_TRUE(fails_with(call(wire::GetAttrRequest{{root_, s}}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::OpenRequest{{root_, s}, wire::kRead}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{root_, s}, false, false}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{root_, s}, wire::kSetMode, 0, 0, 0, 0, 0, 0}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::GetXattrRequest{{root_, s}, "user.a"}), kEINVAL));
  }
  std::string longest(255, 'n'), longer(256, 'n');
  EXPECT_TRUE(fails_with(call(wire::WalkRequest{root_, {longer}}), kENAMETOOLONG));
  EXPECT_TRUE(call(wire::CreateRequest{root_, longest, 0, 0644, 0, 0}).ok());
  EXPECT_TRUE(fails_with(call(wire::WalkRequest{root_, {}}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::WalkRequest{root_, std::vector<std::string>(65, "a")}), kEINVAL));
}

TEST_F(Lookup, SymlinksOutOfTheTreeAreNeverFollowed) {
  ASSERT_EQ(symlink("/", (top_ + "/0/abs").c_str()), 0);
  ASSERT_EQ(symlink((top_ + "/outside").c_str(), (top_ + "/0/absdir").c_str()), 0);
  ASSERT_EQ(symlink("../outside/secret", (top_ + "/0/up").c_str()), 0);
  ASSERT_EQ(symlink("/proc/self/root", (top_ + "/0/magic").c_str()), 0);
  for (const char* s : {"abs", "absdir", "up", "magic"}) {
    auto w = call(wire::WalkRequest{root_, {s, "secret"}});
    ASSERT_TRUE(w.ok());
    ASSERT_EQ(w->found.size(), 1u) << s;
    EXPECT_TRUE(S_ISLNK(w->found[0].attr.mode));
    EXPECT_TRUE(fails_with(call(wire::OpenRequest{{root_, s}, wire::kRead}), kELOOP));
    EXPECT_TRUE(fails_with(call(wire::OpenRequest{{w->found[0].node, ""}, wire::kRead}), kELOOP));
    EXPECT_TRUE(fails_with(call(wire::OpenRequest{{w->found[0].node, "secret"}, wire::kRead}), kENOTDIR));
    EXPECT_TRUE(fails_with(call(wire::ReadDirRequest{w->found[0].node, 0, 4096, 0}), kENOTDIR));
    EXPECT_TRUE(fails_with(call(wire::CreateRequest{root_, s, wire::kWrite, 0644, 0, 0}), kEEXIST));
    EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{root_, s}, wire::kSetMode, 0777, 0, 0, 0, 0, 0}), kEOPNOTSUPP));
    EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{root_, s}, wire::kSetSize, 0, 0, 0, 0, 0, 0}), kEINVAL));
  }
  // The owner and times of the link, not of what it points to.
  ASSERT_TRUE(call(wire::SetAttrRequest{{root_, "up"}, wire::kSetUid | wire::kSetMtime, 0, 77, 0, 0, 0, 5}).ok());
  struct stat st;
  ASSERT_EQ(stat((top_ + "/outside/secret").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 0u);
  EXPECT_NE(st.st_mtim.tv_nsec, 5);
  ASSERT_EQ(lstat((top_ + "/0/up").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 77u);
  EXPECT_EQ(text_of("/outside/secret"), "secret");
}

TEST_F(Lookup, ProcMagicLinksStayClosed) {
  auto root = tree::open_root(("/proc/" + std::to_string(getpid())).c_str());
  ASSERT_TRUE(root.ok());
  std::string cwd = "cwd", exe = "exe";
  Name name = Name::check(exe).value();
  auto held = tree::open_path(root->get(), name);
  ASSERT_TRUE(held.ok());  // the link itself
  EXPECT_TRUE(fails_with(tree::open_regular(root->get(), name, held->get(), tree::Access::read), kELOOP));
  EXPECT_TRUE(fails_with(tree::open_directory(root->get(), Name::check(cwd).value()), kENOTDIR));
}

TEST_F(Lookup, SpecialFilesAreNeverOpened) {
  ASSERT_EQ(mkfifo((top_ + "/0/fifo").c_str(), 0666), 0);
  sockaddr_un sa{};
  sa.sun_family = AF_UNIX;
  snprintf(sa.sun_path, sizeof sa.sun_path, "%s/0/sock", top_.c_str());
  Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&sa), sizeof sa), 0);
  bool device = mknod((top_ + "/0/null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0;
  for (const char* s : {"fifo", "sock", "null"}) {
    if (!device && s == std::string("null")) continue;
    auto id = node(s);
    ASSERT_NE(id, 0u);
    for (uint32_t flags : {wire::kRead, wire::kWrite, wire::kRead | wire::kWrite}) {
      EXPECT_TRUE(fails_with(call(wire::OpenRequest{{id, ""}, flags}), kENXIO)) << s;
      EXPECT_TRUE(fails_with(call(wire::OpenRequest{{root_, s}, flags}), kENXIO)) << s;
      EXPECT_TRUE(fds_.empty());
    }
    auto w = call(wire::WalkRequest{root_, {s}, wire::kRead});
    ASSERT_TRUE(w.ok());
    EXPECT_FALSE(w->has_read);
    EXPECT_TRUE(fds_.empty());
    EXPECT_TRUE(fails_with(call(wire::FsyncRequest{{id, ""}, false}), kEINVAL));
    EXPECT_TRUE(fails_with(call(wire::SetAttrRequest{{id, ""}, wire::kSetSize, 0, 0, 0, 0, 0, 0}), kEINVAL));
    EXPECT_TRUE(call(wire::SetAttrRequest{{id, ""}, wire::kSetMode, 0600, 0, 0, 0, 0, 0}).ok());
    EXPECT_TRUE(fails_with(call(wire::GetXattrRequest{{id, ""}, "user.x"}), kENODATA));
    EXPECT_TRUE(fails_with(call(wire::SetXattrRequest{{id, ""}, "user.x", "1", 0}), kEPERM));
    EXPECT_TRUE(call(wire::ListXattrRequest{{id, ""}}).ok());
  }
  EXPECT_TRUE(fails_with(call(wire::MknodRequest{root_, "d", S_IFCHR | 0666, 0, 0, makedev(1, 3)}), kEPERM));
  EXPECT_TRUE(fails_with(call(wire::MknodRequest{root_, "d", S_IFBLK | 0666, 0, 0, 0}), kEPERM));
  EXPECT_TRUE(fails_with(call(wire::MknodRequest{root_, "d", S_IFDIR | 0666, 0, 0, 0}), kEINVAL));
}

TEST_F(Lookup, AFifoWhoseWriterWaitsIsNotWokenByOpens) {
  ASSERT_EQ(mkfifo((top_ + "/0/fifo").c_str(), 0666), 0);
  std::atomic<bool> opened{false};
  std::thread writer([&] {
    Fd fd(open((top_ + "/0/fifo").c_str(), O_WRONLY));
    opened = true;
  });
  for (int i = 0; i < 20; i++) {
    EXPECT_TRUE(fails_with(call(wire::OpenRequest{{root_, "fifo"}, wire::kRead}), kENXIO));
    usleep(1000);
  }
  EXPECT_FALSE(opened);
  Fd reader(open((top_ + "/0/fifo").c_str(), O_RDONLY | O_NONBLOCK));
  writer.join();
}

TEST_F(Lookup, OpenDonatesTheModesAskedFor) {
  write_file("/0/f", "text");
  auto both = call(wire::OpenRequest{{root_, "f"}, wire::kRead | wire::kWrite});
  ASSERT_TRUE(both.ok());
  ASSERT_TRUE(both->has_read && both->has_write);
  ASSERT_EQ(fds_.size(), 2u);
  EXPECT_EQ(fcntl(fds_[0].get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_EQ(fcntl(fds_[1].get(), F_GETFL) & O_ACCMODE, O_RDWR);
  EXPECT_EQ(text_of(fds_[0]), "text");
  auto node_open = call(wire::OpenRequest{{both->node, ""}, wire::kRead});
  ASSERT_TRUE(node_open.ok());
  EXPECT_EQ(node_open->node, both->node);
  auto cut = call(wire::OpenRequest{{both->node, ""}, wire::kWrite | wire::kTruncate | wire::kAppend});
  ASSERT_TRUE(cut.ok());
  EXPECT_EQ(cut->attr.size, 0u);
  EXPECT_TRUE(fcntl(fds_[0].get(), F_GETFL) & O_APPEND);
  make_dir("/0/d");
  EXPECT_TRUE(fails_with(call(wire::OpenRequest{{root_, "d"}, wire::kRead}), kEISDIR));
  for (uint32_t flags : {0u, wire::kTruncate | wire::kRead, wire::kAppend, 16u | wire::kRead})
    EXPECT_TRUE(fails_with(call(wire::OpenRequest{{root_, "f"}, flags}), kEINVAL));
}

TEST_F(Lookup, WalkOpensTheLastNameOnRequest) {
  make_dir("/0/d");
  write_file("/0/d/f", "text");
  auto w = call(wire::WalkRequest{root_, {"d", "f"}, wire::kRead});
  ASSERT_TRUE(w.ok() && w->has_read && !w->has_write && w->open_error == 0);
  ASSERT_EQ(fds_.size(), 1u);
  EXPECT_EQ(text_of(fds_[0]), "text");
  auto ro = attach(1);
  w = call(wire::WalkRequest{ro, {"locked"}, wire::kRead | wire::kWrite});
  ASSERT_TRUE(w.ok());
  EXPECT_EQ(w->open_error, EROFS);
  EXPECT_TRUE(fds_.empty());
}

TEST_F(Lookup, AFileCanBeAnAttachPoint) {
  auto a = call(wire::AttachRequest{2});
  ASSERT_TRUE(a.ok());
  EXPECT_TRUE(S_ISREG(a->attr.mode));
  ASSERT_TRUE(call(wire::OpenRequest{{a->node, ""}, wire::kRead | wire::kWrite}).ok());
  EXPECT_EQ(text_of(fds_[0]), "a file volume");
  EXPECT_TRUE(fails_with(call(wire::OpenRequest{{a->node, "x"}, wire::kRead}), kENOTDIR));
  EXPECT_TRUE(fails_with(call(wire::UnlinkRequest{{a->node, ""}, false, false}), kEBUSY));
  EXPECT_TRUE(call(wire::SetAttrRequest{{a->node, ""}, wire::kSetMode | wire::kSetSize, 0600, 0, 0, 3, 0, 0}).ok());
  EXPECT_EQ(text_of("/2"), "a f");
  EXPECT_TRUE(fails_with(call(wire::AttachRequest{3}), kENOENT));
  call(wire::ForgetRequest{{a->node}}).value();
  EXPECT_TRUE(call(wire::GetAttrRequest{{a->node, ""}}).ok());
}

TEST_F(Lookup, ReadDirListsEverythingOnceInAnyChunkSize) {
  make_dir("/0/big");
  std::set<std::string> want;
  for (int i = 0; i < 700; i++) {
    std::string n = "entry-" + std::to_string(i) + std::string(static_cast<size_t>(i % 40), 'x');
    write_file("/0/big/" + n, "");
    want.insert(n);
  }
  auto dir = node("big");
  for (uint32_t max : {1024u, 5000u, 65536u}) {
    for (bool attr : {false, true}) {
      std::set<std::string> seen;
      uint64_t cookie = 0;
      for (int calls = 0;; calls++) {
        ASSERT_LT(calls, 2000);
        auto r = call(wire::ReadDirRequest{dir, cookie, max, attr ? wire::kWantAll : 0});
        ASSERT_TRUE(r.ok());
        for (auto& e : r->entries) {
          EXPECT_TRUE(seen.insert(e.name).second) << e.name;
          EXPECT_EQ(e.has_attr, attr);
          EXPECT_EQ(e.type, DT_REG);
          EXPECT_EQ(e.attr.ino, attr ? e.ino : 0);
        }
        cookie = r->cookie;
        if (r->end) break;
        ASSERT_FALSE(r->entries.empty());
      }
      EXPECT_EQ(seen, want);
    }
  }
  EXPECT_TRUE(fails_with(call(wire::ReadDirRequest{dir, 0, 100, wire::kWantAll}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::ReadDirRequest{node("big/entry-0"), 0, 4096, wire::kWantAll}), kENOTDIR));
}

TEST_F(Lookup, ManyDirectoriesAreListedAtOnce) {
  std::vector<std::string> names;
  for (int i = 0; i < 60; i++) {
    names.push_back("many" + std::to_string(i));
    make_dir("/0/" + names.back());
    for (int f = 0; f < i; f++) write_file("/0/" + names.back() + "/f" + std::to_string(f), "");
  }
  write_file("/0/plain", "");
  ASSERT_EQ(symlink("many1", (top_ + "/0/alias").c_str()), 0);
  // Whatever did not fit is asked for again.
  for (size_t at = 0; at < names.size();) {
    auto r = call(wire::ReadDirsRequest{root_, {names.begin() + static_cast<ptrdiff_t>(at), names.end()}});
    ASSERT_TRUE(r.ok());
    ASSERT_GT(r->listed.size(), 0u);
    for (const auto& d : r->listed) {
      ASSERT_TRUE(d.end && d.node && S_ISDIR(d.attr.mode));
      EXPECT_EQ(d.entries.size(), at++);
      for (const auto& e : d.entries) EXPECT_TRUE(e.has_attr && S_ISREG(e.attr.mode));
      EXPECT_TRUE(call(wire::GetAttrRequest{{d.node, ""}}).ok());
    }
  }
  size_t before = files_->nodes().nodes();
  auto r = call(wire::ReadDirsRequest{root_, {"many3", "plain", "alias", "gone", "many2"}});
  ASSERT_TRUE(r.ok() && r->listed.size() == 5);
  for (size_t i : {1, 2, 3}) EXPECT_EQ(r->listed[i].node, 0u);
  EXPECT_EQ(r->listed[4].entries.size(), 2u);
  EXPECT_EQ(files_->nodes().nodes(), before + 2);
  EXPECT_TRUE(fails_with(call(wire::ReadDirsRequest{root_, {"plain"}}), kENOTDIR));
  EXPECT_TRUE(fails_with(call(wire::ReadDirsRequest{root_, {"alias"}}), kENOTDIR));
  EXPECT_TRUE(fails_with(call(wire::ReadDirsRequest{root_, {}}), kEINVAL));
  for (const char* bad : {"..", ".", "a/b", ""})
    EXPECT_TRUE(fails_with(call(wire::ReadDirsRequest{root_, {"many3", bad}}), kEINVAL)) << bad;
}

TEST_F(Lookup, TreesAreListedAtOnce) {
  std::set<std::string> dirs{"t"};
  make_dir("/0/t");
  for (const char* a : {"a", "b", "c"}) {
    const std::string d = std::string("t/") + a;
    for (const std::string& s : {d, d + "/d", d + "/d/d"}) {
      dirs.insert(s);
      make_dir("/0/" + s);
      write_file("/0/" + s + "/file", "");
      ASSERT_EQ(symlink("file", (top_ + "/0/" + s + "/link").c_str()), 0);
    }
  }
  for (uint32_t want : {wire::kDirAttr, wire::kWantAll}) {
    size_t least = SIZE_MAX;
    for (uint32_t max : {65536u, 2048u}) {
      auto r = call(wire::ReadDirsRequest{root_, {"t"}, max, want, true});
      ASSERT_TRUE(r.ok());
      if (max == 65536) {
        EXPECT_EQ(r->listed.size(), dirs.size());
      } else {
        EXPECT_LT(r->listed.size(), dirs.size());
        EXPECT_LE(wire::encode_reply(1, *r).size(), max);
      }
      EXPECT_LT(r->listed.size(), least);
      least = r->listed.size();
      std::vector<std::string> paths;
      for (const auto& d : r->listed) {
        ASSERT_TRUE(d.node && d.end && d.in <= paths.size());
        paths.push_back(d.in ? paths[d.in - 1] + "/" + d.name : d.name);
        EXPECT_TRUE(dirs.contains(paths.back())) << paths.back();
        struct stat st;
        ASSERT_EQ(lstat((top_ + "/0/" + paths.back()).c_str(), &st), 0);
        EXPECT_EQ(d.attr.ino, st.st_ino);
        EXPECT_EQ(d.entries.size(), paths.size() == 1 ? 3u : (std::count(paths.back().begin(), paths.back().end(), '/') < 3 ? 3u : 2u));
        for (const auto& e : d.entries) {
          EXPECT_EQ(e.has_attr, want == wire::kWantAll || e.type == DT_DIR) << e.name;
          EXPECT_EQ(e.link, e.has_attr && e.name == "link" ? "file" : "");
        }
      }
      EXPECT_EQ(std::set<std::string>(paths.begin(), paths.end()).size(), paths.size());
      for (const auto& d : r->listed) EXPECT_TRUE(call(wire::GetAttrRequest{{d.node, ""}}).ok());
      for (auto d = r->listed.rbegin(); d != r->listed.rend(); ++d) (void)call(wire::ForgetRequest{{d->node}});
    }
  }
  EXPECT_TRUE(fails_with(call(wire::ReadDirsRequest{root_, {"t"}, 100, wire::kWantAll, true}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::ReadDirsRequest{root_, {"t"}, 65536, wire::kWantAll + 1, true}), kEINVAL));
}

TEST_F(Lookup, NeighboursAreOpenedWithAFile) {
  make_dir("/0/n");
  for (const char* f : {"a", "b", "c"}) write_file(std::string("/0/n/") + f, f);
  make_dir("/0/n/dir");
  ASSERT_EQ(symlink("a", (top_ + "/0/n/link").c_str()), 0);
  ASSERT_EQ(mkfifo((top_ + "/0/n/fifo").c_str(), 0600), 0);
  const wire::NodeId dir = node("n");
  auto r = call(wire::OpenAheadRequest{dir, {"a", "gone", "dir", "link", "fifo", "c"}});
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(r->opened.size(), 6u);
  const Donated fds = std::move(fds_);
  ASSERT_EQ(fds.size(), 2u);
  for (size_t i : {1, 2, 3, 4}) EXPECT_EQ(r->opened[i].node, 0u);
  for (size_t i = 0; i < 2; i++) {
    struct stat st;
    ASSERT_EQ(fstat(fds[i].get(), &st), 0);
    EXPECT_EQ(st.st_ino, r->opened[i * 5].attr.ino);
    EXPECT_EQ(fcntl(fds[i].get(), F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_TRUE(call(wire::GetAttrRequest{{r->opened[i * 5].node, ""}}).ok());
  }
  EXPECT_TRUE(fails_with(call(wire::OpenAheadRequest{dir, {"gone", "a"}}), kENOENT));
  EXPECT_TRUE(fails_with(call(wire::OpenAheadRequest{dir, {"fifo", "a"}}), kENXIO));
  EXPECT_TRUE(fails_with(call(wire::OpenAheadRequest{dir, {}}), kEINVAL));
  EXPECT_TRUE(fails_with(call(wire::OpenAheadRequest{dir, std::vector<std::string>(wire::kMaxFds + 1, "a")}), kEINVAL));
  for (const char* bad : {"..", ".", "a/b", ""})
    EXPECT_TRUE(fails_with(call(wire::OpenAheadRequest{dir, {"a", bad}}), kEINVAL)) << bad;
}

TEST_F(Lookup, WalksAndListingsSayWhatHasNoXattrs) {
  make_dir("/0/x");
  for (const char* f : {"bare", "user", "foreign"}) write_file(std::string("/0/x/") + f, "");
  make_dir("/0/x/dir");
  ASSERT_EQ(symlink("user", (top_ + "/0/x/link").c_str()), 0);
  ASSERT_EQ(mkfifo((top_ + "/0/x/fifo").c_str(), 0600), 0);
  ASSERT_EQ(setxattr((top_ + "/0/x/user").c_str(), "user.a", "1", 1, 0), 0);
  // What the host alone understands counts as nothing.
  bool foreign = setxattr((top_ + "/0/x/foreign").c_str(), "trusted.overlay.x", "1", 1, 0) == 0;
  wire::NodeId dir = node("x");
  auto r = call(wire::ReadDirRequest{dir, 0, 65536, wire::kWantAll});
  ASSERT_TRUE(r.ok());
  size_t seen = 0;
  for (const auto& e : r->entries) {
    auto w = call(wire::WalkRequest{dir, {e.name}, 0});
    ASSERT_TRUE(w.ok() && w->found.size() == 1) << e.name;
    uint32_t want = e.name == "user" ? 0 : wire::Attr::kNoXattrs;
    EXPECT_EQ(e.attr.flags & wire::Attr::kNoXattrs, want) << e.name;
    EXPECT_EQ(w->found[0].attr.flags & wire::Attr::kNoXattrs, want) << e.name;
    seen++;
  }
  EXPECT_EQ(seen, 6u);
  if (!foreign) GTEST_LOG_(INFO) << "no privilege to set trusted.*";
}

TEST_F(Lookup, ReadDirFromTheStartSeesNewEntriesAndManyStreamsGoOn) {
  std::vector<wire::NodeId> dirs;
  std::vector<uint64_t> cookies(40, 0);
  std::vector<size_t> seen(40, 0);
  for (int i = 0; i < 40; i++) {
    make_dir("/0/d" + std::to_string(i));
    for (int j = 0; j < 30; j++) write_file("/0/d" + std::to_string(i) + "/" + std::string(60, 'a') + std::to_string(j), "");
    dirs.push_back(node("d" + std::to_string(i)));
  }
  // More directories than streams, each read a chunk at a time in turn.
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < 40; i++) {
      if (cookies[i] == UINT64_MAX) continue;
      auto r = call(wire::ReadDirRequest{dirs[i], cookies[i], 1024, 0});
      ASSERT_TRUE(r.ok());
      seen[i] += r->entries.size();
      cookies[i] = r->end ? UINT64_MAX : r->cookie;
      more = true;
    }
  }
  for (size_t n : seen) EXPECT_EQ(n, 30u);
  auto first = call(wire::ReadDirRequest{dirs[0], 0, 1024, 0});
  ASSERT_TRUE(first.ok());
  write_file("/0/d0/new", "");
  bool found = false;
  uint64_t cookie = 0;
  for (;;) {
    auto r = call(wire::ReadDirRequest{dirs[0], cookie, 65536, 0});
    ASSERT_TRUE(r.ok());
    for (auto& e : r->entries) found |= e.name == "new";
    if (r->end) break;
    cookie = r->cookie;
  }
  EXPECT_TRUE(found);
}

TEST_F(Lookup, ForgedAndForgottenIdsAreRefused) {
  write_file("/0/f", "");
  auto id = node("f");
  ASSERT_NE(id, 0u);
  for (wire::NodeId bad : {wire::NodeId{0}, id + 1, id ^ (wire::NodeId{1} << 32), id | 0xffffffff, ~wire::NodeId{0}, id + (wire::NodeId{1} << 40)}) {
    EXPECT_TRUE(fails_with(call(wire::GetAttrRequest{{bad, ""}}), kEBADF)) << bad;
    EXPECT_TRUE(fails_with(call(wire::WalkRequest{bad, {"f"}}), kEBADF));
    EXPECT_TRUE(fails_with(call(wire::RenameRequest{{root_, "f"}, bad, "g", 0, 0, false}), kEBADF));
  }
  call(wire::ForgetRequest{{id, id, 12345, ~0ull}}).value();
  EXPECT_TRUE(fails_with(call(wire::GetAttrRequest{{id, ""}}), kEBADF));
  auto again = node("f");
  EXPECT_NE(again, id);
  EXPECT_TRUE(fails_with(call(wire::GetAttrRequest{{id, ""}}), kEBADF));
}

TEST_F(Lookup, ParentsLiveAsLongAsTheirChildren) {
  make_dir("/0/a");
  make_dir("/0/a/b");
  write_file("/0/a/b/f", "x");
  size_t before = files_->nodes().nodes();
  auto w = call(wire::WalkRequest{root_, {"a", "b", "f"}});
  ASSERT_TRUE(w.ok());
  call(wire::ForgetRequest{{w->found[0].node, w->found[1].node}}).value();
  EXPECT_TRUE(fails_with(call(wire::GetAttrRequest{{w->found[1].node, ""}}), kEBADF));
  EXPECT_TRUE(call(wire::OpenRequest{{w->found[2].node, ""}, wire::kRead}).ok());
  EXPECT_EQ(files_->nodes().nodes(), before + 3);
  call(wire::ForgetRequest{{w->found[2].node}}).value();
  EXPECT_EQ(files_->nodes().nodes(), before);
  EXPECT_EQ(files_->nodes().cached_fds(), 0u);
}

TEST_F(Lookup, DescriptorsStayUnderTheirCapAndComeBack) {
  Limits l;
  l.dir_fds = 16;
  start(l);
  std::vector<wire::NodeId> ids;
  for (int i = 0; i < 60; i++) {
    std::string n = "d" + std::to_string(i);
    make_dir("/0/" + n);
    make_dir("/0/" + n + "/in");
    write_file("/0/" + n + "/in/f", n);
    ids.push_back(node(n + "/in/f"));
  }
  EXPECT_LE(files_->nodes().cached_fds(), 16u);
  for (int i = 0; i < 60; i++) {
    ASSERT_TRUE(call(wire::OpenRequest{{ids[static_cast<size_t>(i)], ""}, wire::kRead}).ok());
    EXPECT_EQ(text_of(fds_[0]), "d" + std::to_string(i));
  }
  EXPECT_LE(files_->nodes().cached_fds(), 16u);
  // A directory that was replaced while its descriptor was closed is not mistaken for the old one.
  auto dir = node("d0/in");
  for (int i = 1; i < 60; i++) node("d" + std::to_string(i) + "/in/f");
  ASSERT_EQ(rename((top_ + "/0/d0").c_str(), (top_ + "/0/gone").c_str()), 0);
  make_dir("/0/d0");
  make_dir("/0/d0/in");
  EXPECT_TRUE(fails_with(call(wire::OpenRequest{{dir, "f"}, wire::kRead}), kESTALE));
  EXPECT_TRUE(fails_with(call(wire::OpenRequest{{ids[0], ""}, wire::kRead}), kESTALE));
}

TEST_F(Lookup, DeepPathsCostNoStackAndFewDescriptors) {
  Limits l;
  l.dir_fds = 16;
  start(l);
  std::vector<wire::NodeId> chain{root_};
  for (int i = 0; i < 600; i++) {
    auto r = call(wire::MkdirRequest{chain.back(), "d", 0755, 0, 0});
    ASSERT_TRUE(r.ok());
    chain.push_back(r->node);
  }
  for (int i = 0; i < 20; i++) {
    make_dir("/0/side" + std::to_string(i));
    ASSERT_TRUE(call(wire::ReadDirRequest{node("side" + std::to_string(i)), 0, 1024, 0}).ok());
  }
  ASSERT_TRUE(call(wire::CreateRequest{chain.back(), "f", 0, 0644, 0, 0}).ok());
  EXPECT_LE(files_->nodes().cached_fds(), 16u);
  for (size_t i = chain.size(); i-- > 1;) call(wire::ForgetRequest{{chain[i]}}).value();
}

TEST_F(Lookup, TheNodeLimitIsEnfileAndLeavesNothing) {
  Limits l;
  l.nodes = 6;
  start(l);
  for (int i = 0; i < 6; i++) make_dir("/0/n" + std::to_string(i));
  std::vector<wire::NodeId> ids;
  for (int i = 0; i < 3; i++) ids.push_back(node("n" + std::to_string(i)));
  EXPECT_NE(ids.back(), 0u);
  auto full = call(wire::WalkRequest{root_, {"n4"}});
  ASSERT_TRUE(full.ok());
  EXPECT_EQ(full->error, ENFILE);
  EXPECT_TRUE(fails_with(call(wire::MkdirRequest{root_, "more", 0755, 0, 0}), kENFILE));
  EXPECT_FALSE(exists("/0/more"));
  write_file("/0/f", "");
  EXPECT_TRUE(fails_with(call(wire::OpenRequest{{root_, "f"}, wire::kRead}), kENFILE));
  call(wire::ForgetRequest{ids}).value();
  EXPECT_TRUE(call(wire::OpenRequest{{root_, "f"}, wire::kRead}).ok());
}

TEST_F(Lookup, RunningOutOfHostDescriptorsIsAnErrorNotTheEnd) {
  write_file("/0/f", "");
  make_dir("/0/d");
  for (int i = 0; i < 40; i++) {
    make_dir("/0/d/" + std::to_string(i));
    node("d/" + std::to_string(i));
    ASSERT_TRUE(call(wire::ReadDirRequest{node("d/" + std::to_string(i)), 0, 1024, 0}).ok());
  }
  std::vector<Fd> hold;
  for (;;) {
    Fd fd(open("/dev/null", O_RDONLY));
    if (!fd.valid()) break;
    hold.push_back(std::move(fd));
  }
  // Cached directories make room first.
  EXPECT_TRUE(call(wire::OpenRequest{{root_, "f"}, wire::kRead}).ok());
  for (;;) {
    Fd fd(open("/dev/null", O_RDONLY));
    if (!fd.valid()) break;
    hold.push_back(std::move(fd));
  }
  while (files_->nodes().cached_fds() > NodeTable::kNewest) {
    call(wire::OpenRequest{{root_, "f"}, wire::kRead}).value();
    Fd fd(open("/dev/null", O_RDONLY));
    if (fd.valid()) hold.push_back(std::move(fd));
  }
  for (;;) {
    Fd fd(open("/dev/null", O_RDONLY));
    if (!fd.valid()) break;
    hold.push_back(std::move(fd));
  }
  EXPECT_TRUE(fails_with(call(wire::OpenRequest{{root_, "f"}, wire::kRead}), kEMFILE));
  EXPECT_TRUE(fails_with(call(wire::CreateRequest{root_, "new", wire::kRead, 0644, 0, 0}), kEMFILE));
  EXPECT_FALSE(exists("/0/new"));
  hold.clear();
  EXPECT_TRUE(call(wire::OpenRequest{{root_, "f"}, wire::kRead}).ok());
}

TEST_F(Lookup, ASwapOfFileAndLinkNeverLeadsOut) {
  write_file("/0/file", "inside");
  write_file("/0/spare", "inside");
  ASSERT_EQ(symlink("../outside/secret", (top_ + "/0/link").c_str()), 0);
  make_dir("/0/dir");
  write_file("/0/dir/secret", "inside");
  ASSERT_EQ(symlink("../outside", (top_ + "/0/dirlink").c_str()), 0);
  std::atomic<bool> stop{false};
  std::thread host([&] {
    std::string zero = top_ + "/0/";
    while (!stop) {
      renameat2(AT_FDCWD, (zero + "file").c_str(), AT_FDCWD, (zero + "link").c_str(), RENAME_EXCHANGE);
      renameat2(AT_FDCWD, (zero + "dir").c_str(), AT_FDCWD, (zero + "dirlink").c_str(), RENAME_EXCHANGE);
      renameat2(AT_FDCWD, (zero + "file").c_str(), AT_FDCWD, (zero + "spare").c_str(), RENAME_EXCHANGE);
    }
  });
  struct stat secret;
  ASSERT_EQ(stat((top_ + "/outside/secret").c_str(), &secret), 0);
  int opened = 0;
  for (int i = 0; i < 4000; i++) {
    auto r = call(wire::OpenRequest{{root_, "file"}, i % 2 ? wire::kRead : wire::kRead | wire::kWrite});
    if (r.ok()) {
      opened++;
      for (auto& fd : fds_) EXPECT_EQ(text_of(fd), "inside");
      call(wire::ForgetRequest{{r->node}}).value();
    } else {
      EXPECT_TRUE(r.error() == kELOOP || r.error() == kESTALE || r.error() == kENOENT) << r.error().name();
    }
    auto w = call(wire::WalkRequest{root_, {"dir", "secret"}, wire::kRead});
    ASSERT_TRUE(w.ok());
    for (auto& f : w->found) EXPECT_NE(f.attr.ino, secret.st_ino);
    for (auto& fd : fds_) EXPECT_EQ(text_of(fd), "inside");
    for (auto& f : w->found) call(wire::ForgetRequest{{f.node}}).value();
    // Neither owner nor mode of what lies outside may change.
    (void)call(wire::SetAttrRequest{{root_, "file"}, wire::kSetUid | wire::kSetMode, 0640, 5, 0, 0, 0, 0}).ok();
    (void)call(wire::SetXattrRequest{{root_, "file"}, "user.x", "1", 0}).ok();
  }
  stop = true;
  host.join();
  EXPECT_GT(opened, 0);
  struct stat after;
  ASSERT_EQ(stat((top_ + "/outside/secret").c_str(), &after), 0);
  EXPECT_EQ(after.st_uid, 0u);
  EXPECT_EQ(after.st_mode, secret.st_mode);
  EXPECT_EQ(after.st_ctim.tv_nsec, secret.st_ctim.tv_nsec);
}

}  // namespace
}  // namespace gofer
