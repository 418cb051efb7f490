// SPDX-License-Identifier: Apache-2.0
// State files: round trip, ids, locks, removal.
#include "runtime/container/state.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace runtime::container {
namespace {

class StateFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/caisson-state-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path = name;
  }
  void TearDown() override { IGNORE_ERROR(remove_tree(AT_FDCWD, path.c_str()), "a scratch directory"); }
  std::string path;
};

TEST_F(StateFiles, RoundTrip) {
  State s;
  s.id = "x";
  s.version = "1.0.2";
  s.bundle = "/b\xff";
  s.annotations = {{"k", "v"}};
  s.phase = Phase::started;
  s.id_slot = 7;
  s.sentry = {12, 345};
  s.cgroup_leaves = {"/a", "/b"};
  auto r = decode_state(encode_state(s));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->id, "x");
  EXPECT_EQ(r->phase, Phase::started);
  EXPECT_EQ(r->sentry.start_time, 345u);
  EXPECT_EQ(r->id_slot, 7u);
  EXPECT_EQ(r->cgroup_leaves, s.cgroup_leaves);
  EXPECT_EQ(r->annotations, s.annotations);
}

TEST_F(StateFiles, DamagedStateIsAnErrorThatSaysWhatToDo) {
  for (const char* text : {"", "{}", "[]", "{\"id\": 1}", "\xff"}) {
    auto r = decode_state(text);
    ASSERT_FALSE(r.ok()) << text;
    EXPECT_NE(r.error().text().find("delete --force"), std::string::npos);
  }
}

TEST_F(StateFiles, PhasesFollowTheFiles) {
  auto root = Root::open(path + "/deep/state");
  ASSERT_TRUE(root.ok()) << root.error().text();
  auto d = Directory::create(*root, "a");
  ASSERT_TRUE(d.ok()) << d.error().text();
  EXPECT_EQ(d->load().error().code(), base::kENOENT);
  State s;
  s.id = "a";
  ASSERT_TRUE(d->save(s).ok());
  EXPECT_EQ(d->load()->phase, Phase::creating);
  s.phase = Phase::created;
  ASSERT_TRUE(d->save(s).ok());
  EXPECT_EQ(d->load()->phase, Phase::created);
  s.phase = Phase::started;
  ASSERT_TRUE(d->save(s).ok());
  EXPECT_EQ(d->load()->phase, Phase::started);
  EXPECT_EQ(Directory::create(*root, "a").error().code(), base::kEEXIST);
  EXPECT_EQ(root->ids(), std::vector<std::string>{"a"});
  ASSERT_TRUE(d->remove().ok());
  EXPECT_TRUE(root->ids().empty());
}

TEST_F(StateFiles, ALockHoldsOthersOffAndARemovedContainerIsNoticed) {
  auto root = Root::open(path);
  ASSERT_TRUE(root.ok());
  auto first = Directory::create(*root, "a");
  ASSERT_TRUE(first.ok());
  auto second = Directory::open(*root, "a");
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->lock(50).error().code(), base::kETIMEDOUT);
  ASSERT_TRUE(first->remove().ok());
  { auto gone = std::move(*first); }
  EXPECT_EQ(second->lock(50).error().code(), base::kENOENT);
}

TEST_F(StateFiles, AnUnlockedContainerIsFreeForOthers) {
  auto root = Root::open(path);
  ASSERT_TRUE(root.ok());
  auto first = Directory::create(*root, "a");
  ASSERT_TRUE(first.ok());
  first->unlock();
  auto second = Directory::open(*root, "a");
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(second->lock(0).ok());
  EXPECT_EQ(first->lock(0).error().code(), base::kETIMEDOUT);
}

TEST_F(StateFiles, AStateDirectoryOfSomebodyElseIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs other users";
  for (auto [owner, accepted] : {std::pair<uid_t, bool>{0, true}, {4711, true}, {4712, false}}) {
    ASSERT_EQ(::chown(path.c_str(), owner, owner), 0);
    ASSERT_EQ(::chmod(path.c_str(), 0777), 0);
    pid_t child = ::fork();
    if (child == 0) ::_exit(::setresuid(4711, 4711, 4711) != 0 ? 2 : Root::open(path).ok() ? 0 : 1);
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, accepted ? 0 : 1 << 8) << owner;
    auto own = Root::open(path);
    EXPECT_TRUE(own.ok()) << "root's own choice";
  }
  ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
}

TEST_F(StateFiles, IdsAreChecked) {
  for (const char* id : {"a", "A-b_c+d.e", "0"}) EXPECT_TRUE(check_id(id).ok()) << id;
  for (const char* id : {"", ".", "..", ".hidden", "a/b", "../x", "a b", "a\n", "\xc3\xa4"}) EXPECT_FALSE(check_id(id).ok()) << id;
  EXPECT_TRUE(check_id(std::string(255, 'a')).ok());
  EXPECT_FALSE(check_id(std::string(256, 'a')).ok());
}

TEST_F(StateFiles, RemoveTreeDoesNotFollowLinks) {
  ASSERT_EQ(::mkdir((path + "/keep").c_str(), 0700), 0);
  ::close(::open((path + "/keep/file").c_str(), O_CREAT | O_WRONLY, 0600));
  ASSERT_EQ(::mkdir((path + "/tree").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir((path + "/tree/sub").c_str(), 0700), 0);
  ASSERT_EQ(::symlink("../keep", (path + "/tree/link").c_str()), 0);
  EXPECT_TRUE(remove_tree(AT_FDCWD, (path + "/tree").c_str()).ok());
  EXPECT_NE(::access((path + "/tree").c_str(), F_OK), 0);
  EXPECT_EQ(::access((path + "/keep/file").c_str(), F_OK), 0);
  EXPECT_TRUE(remove_tree(AT_FDCWD, (path + "/tree").c_str()).ok()) << "what is gone is no failure";
}

// Deeper than a path can be, and than descriptors can be open.
TEST_F(StateFiles, RemoveTreeTakesAnyDepth) {
  ASSERT_EQ(::mkdir((path + "/deep").c_str(), 0700), 0);
  int at = ::open((path + "/deep").c_str(), O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < 2500; i++) {
    const char* name = i % 3 ? "a" : ".moved.0";
    ASSERT_EQ(::mkdirat(at, name, 0700), 0);
    ::close(::openat(at, "file", O_CREAT | O_WRONLY, 0600));
    int below = ::openat(at, name, O_RDONLY | O_DIRECTORY);
    ::close(at);
    at = below;
    ASSERT_GE(at, 0);
  }
  ::close(at);
  auto removed = remove_tree(AT_FDCWD, (path + "/deep").c_str());
  EXPECT_TRUE(removed.ok()) << removed.error().text();
  EXPECT_NE(::access((path + "/deep").c_str(), F_OK), 0);
}

}  // namespace
}  // namespace runtime::container
