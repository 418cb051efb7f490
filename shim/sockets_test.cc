// SPDX-License-Identifier: Apache-2.0
// Sockets of shims that were killed are removed by the next that comes, those of the living stay.
#include "shim/sockets.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/container/state.h"
#include "runtime/host/proc.h"

namespace shim {
namespace {

class Sockets : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/caisson-sockets-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top = name;
  }
  void TearDown() override { IGNORE_ERROR(runtime::container::remove_tree(AT_FDCWD, top.c_str()), "a scratch directory"); }
  base::Fd listen(const std::string& path) {
    auto s = listen_at(path);
    EXPECT_TRUE(s.ok() && s->valid()) << path;
    return s.ok() ? std::move(*s) : base::Fd();
  }
  bool there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }
  std::string note(const char* name) { return top + "/root/.shims/" + name; }
  std::string top;
};

TEST_F(Sockets, APathIsServedByOne) {
  std::string s = top + "/s";
  auto lock = lock_sockets(s);
  ASSERT_TRUE(lock.ok()) << lock.error().text();
  base::Fd first = listen(s + "/a");
  auto second = listen_at(s + "/a");
  ASSERT_TRUE(second.ok()) << second.error().text();
  EXPECT_FALSE(second->valid());
  first.reset();
  listen(s + "/a").reset();  // its shim was killed
  auto nowhere = listen_at(top + "/no/such");
  ASSERT_FALSE(nowhere.ok());
  EXPECT_EQ(nowhere.error().code(), base::kENOENT);
}

TEST_F(Sockets, OfTheDeadAreRemovedByTheNext) {
  std::string root = top + "/root", s = top + "/s";
  auto lock = lock_sockets(s);
  ASSERT_TRUE(lock.ok()) << lock.error().text();
  base::Fd mine = listen(s + "/mine"), other = listen(s + "/other");
  note_socket(root, s + "/mine", ::getpid());
  pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  listen(s + "/dead").reset();  // it leads nowhere
  note_socket(root, s + "/dead", child);
  note_socket(root, s + "/gone", child);
  note_socket(root, s + "/other", child);  // somebody else listens there by now
  ASSERT_TRUE(runtime::host::replace_file(note("strange"), "what?", 0600).ok());
  ::waitpid(child, nullptr, 0);
  sweep_sockets(root, s);
  EXPECT_TRUE(there(s + "/mine") && there(note("mine")));
  EXPECT_TRUE(there(s + "/other"));
  for (const char* name : {"dead", "gone", "strange"}) EXPECT_FALSE(there(s + "/" + name) || there(note(name))) << name;
  remove_socket(root, s + "/mine");
  EXPECT_FALSE(there(s + "/mine") || there(note("mine")));
  sweep_sockets(top + "/nowhere", s);
}

}  // namespace
}  // namespace shim
