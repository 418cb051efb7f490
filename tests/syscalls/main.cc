// SPDX-License-Identifier: Apache-2.0
// A program of system-call tests, natively and as the guest of a sandbox, which asks with --list for the names of its tests (a '_'
// where gtest has a '.') and runs each with --one NAME.
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <string>

int main(int argc, char** argv) {
  std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "--exit" && argc > 2) return atoi(argv[2]);
  mkdir("/tmp", 01777);  // a sandbox's root may be empty
  std::string one = argc > 2 && verb == "--one" ? argv[2] : "";
  if (!one.empty()) {
    size_t cut = one.find('_');
    if (cut != std::string::npos) one[cut] = '.';
    testing::GTEST_FLAG(filter) = one;
  }
  testing::InitGoogleTest(&argc, argv);
  if (verb == "--list") {
    const auto& all = *testing::UnitTest::GetInstance();
    for (int i = 0; i < all.total_test_suite_count(); i++) {
      const auto& suite = *all.GetTestSuite(i);
      for (int k = 0; k < suite.total_test_count(); k++) printf("%s_%s\n", suite.name(), suite.GetTestInfo(k)->name());
    }
    return 0;
  }
  int result = RUN_ALL_TESTS();
  if (!one.empty() && testing::UnitTest::GetInstance()->test_to_run_count() != 1) return 3;
  return result;
}
