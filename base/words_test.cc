// SPDX-License-Identifier: Apache-2.0
#include "base/words.h"

#include <gtest/gtest.h>

namespace base {
namespace {

TEST(Words, NearestIsWithinReach) {
  EXPECT_EQ(nearest("overlya", {"overlay", "network"}), "overlay");
  EXPECT_EQ(nearest("netwrok", {"overlay", "network"}), "network");
  EXPECT_EQ(nearest("x", {"overlay", "network"}), "");
  EXPECT_EQ(nearest("", {"overlay"}), "");
  EXPECT_EQ(nearest("overlay", {}), "");
  EXPECT_EQ(nearest(std::string(201, 'a'), {std::string(200, 'a')}), "");
}

TEST(Words, TwoNeighboursThatChangedPlacesAreOneChange) {
  EXPECT_EQ(nearest("abdc", {"abce", "abcd"}), "abcd");
}

TEST(Words, HintsNameTheNearestOrAll) {
  EXPECT_EQ(hint("overlya", {"overlay", "network"}), "did you mean overlay?");
  EXPECT_EQ(hint("zzzzzzzz", {"overlay", "network"}), "known are overlay, network");
}

TEST(Words, HostileTextIsMadePlain) {
  EXPECT_EQ(printable("a\nb\x1b[31m'\"\xff"), "a?b?[31m???");
  EXPECT_EQ(printable(std::string(200, 'x')).size(), 131u);
  EXPECT_EQ(printable("abc", 3), "abc");
}

TEST(Words, ControlsAreNotShown) {
  EXPECT_EQ(without_controls("a\x1b[31mb\x7f\t\"\n"), "a?[31mb??\"?");
  EXPECT_EQ(without_controls("gr\xc3\xbc\xc3\x9f \xc2\xa0 \xc2\x9b" "31m \xc2"), "gr\xc3\xbc\xc3\x9f \xc2\xa0 ?31m \xc2");
}

TEST(Words, OfSeveralLinesTheLastOrAllInOne) {
  EXPECT_EQ(last_line("one\ntwo\x1b\n \n"), "two?");
  EXPECT_EQ(last_line("one"), "one");
  EXPECT_EQ(last_line("\n"), "");
  EXPECT_EQ(last_line(std::string(600, 'x')).size(), 500u);
  EXPECT_EQ(one_line("one\n\ntwo\x1b\n"), "one; two?");
  EXPECT_EQ(one_line(""), "");
}

}  // namespace
}  // namespace base
