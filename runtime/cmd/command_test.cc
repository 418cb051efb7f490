// SPDX-License-Identifier: Apache-2.0
// Signals and flags as people write them.
#include "runtime/cmd/command.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace runtime::cmd {
namespace {

TEST(ParseSignal, TakesNamesAndNumbers) {
  EXPECT_EQ(parse_signal("9").value_or(-1), 9);
  EXPECT_EQ(parse_signal("KILL").value_or(-1), SIGKILL);
  EXPECT_EQ(parse_signal("sigterm").value_or(-1), SIGTERM);
  EXPECT_EQ(parse_signal("SIGCHLD").value_or(-1), SIGCHLD);
  EXPECT_EQ(parse_signal("RTMIN").value_or(-1), 34);
  EXPECT_EQ(parse_signal("SIGRTMIN+3").value_or(-1), 37);
  EXPECT_EQ(parse_signal("RTMAX-1").value_or(-1), 63);
  for (const char* bad : {"", "65", "-1", "SIG", "FOO", "RTMIN-1", "RTMIN+40", "9x", "RTMAX+1"}) {
    EXPECT_FALSE(parse_signal(bad).ok()) << bad;
  }
}

TEST(ExitCode, IsWhatAShellShows) {
  EXPECT_EQ(exit_code(7 << 8), 7);
  EXPECT_EQ(exit_code(SIGKILL), 137);
  EXPECT_EQ(exit_code(SIGSEGV | 0x80), 139);
}

TEST(Flags, WordsAfterAProgramAreItsOwn) {
  bool tty = false;
  std::vector<std::string> env;
  int64_t n = 0;
  Flags f("x", "", "");
  f.flag("-t,--tty", tty, "");
  f.list("-e,--env", env, "");
  f.value("-n,--number", n, "");
  Args rest;
  auto r = f.parse({"-t", "--env", "A=1", "-e", "B=2", "--number", "-1", "id", "sh", "-c", "--tty", "-e"}, &rest, true);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(tty);
  EXPECT_EQ(n, -1);
  EXPECT_EQ(env, (std::vector<std::string>{"A=1", "B=2"}));
  EXPECT_EQ(rest, (Args{"id", "sh", "-c", "--tty", "-e"}));
}

TEST(Flags, MayFollowTheIdWhereNoProgramDoes) {
  bool force = false;
  Flags f("x", "", "");
  f.flag("-f,--force", force, "");
  Args rest;
  ASSERT_TRUE(f.parse({"id", "--force"}, &rest, false).ok());
  EXPECT_TRUE(force);
  EXPECT_EQ(rest, Args{"id"});
  EXPECT_FALSE(f.parse({"id", "--nonsense"}, &rest, false).ok());
}

TEST(Commands, AreSortedOutByNameAlone) {
  for (auto& a : commands()) {
    int same = 0;
    for (auto& b : commands()) same += std::string(a.name) == b.name;
    EXPECT_EQ(same, 1) << a.name;
  }
}

}  // namespace
}  // namespace runtime::cmd
