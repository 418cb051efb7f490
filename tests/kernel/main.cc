// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "sentry/patch/store.h"
#include "sentry/platform/platform.h"
#include "tests/platform/harness.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests)) platform_test::enter_pid_namespace();
  base::log_init("kernel_platform_test", 2, getenv("CAISSON_TEST_DEBUG") ? base::LogLevel::debug : base::LogLevel::warn);
  // CAISSON_TEST_PATCH=0: each call of the guests traps.
  const char* patch = getenv("CAISSON_TEST_PATCH");
  if (!patch || atoi(patch) != 0) sentry::patch::Store::instance().enable(sentry::platform::kEntryPointer);
  int result = RUN_ALL_TESTS();
  if (getenv("CAISSON_TEST_EXPECT_PATCHES")) {
    sentry::patch::Counts n = sentry::patch::Store::instance().counts();
    fprintf(stderr, "patched: %lu with a mov, %lu with a pun\n", n.mov, n.pun);
    if (n.mov == 0 || n.pun == 0) return 1;
  }
  return result;
}
