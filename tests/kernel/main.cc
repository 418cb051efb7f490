// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "base/log.h"
#include "tests/platform/harness.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests)) platform_test::enter_pid_namespace();
  base::log_init("kernel_platform_test", 2, getenv("CAISSON_TEST_DEBUG") ? base::LogLevel::debug : base::LogLevel::warn);
  return RUN_ALL_TESTS();
}
