// SPDX-License-Identifier: Apache-2.0
#include "runtime/doctor/doctor.h"

#include <gtest/gtest.h>

namespace runtime::doctor {
namespace {

TEST(VersionMark, IsFoundInAProgramsText) {
  EXPECT_EQ(version_mark(std::string("x\0caisson-version:1.2.3\0caisson-version:", 40)), "1.2.3");
  EXPECT_EQ(version_mark("caisson-version: caisson-version:0.1.0"), "0.1.0");
  EXPECT_EQ(version_mark("caisson-version:"), "");
  EXPECT_EQ(version_mark(""), "");
}

TEST(Findings, FailWhenOneFails) {
  Findings f{{"a", Status::ok, "fine", ""}, {"b", Status::warn, "so \xff so", "do it"}};
  EXPECT_EQ(exit_code(f), 0);
  EXPECT_NE(as_text(f).find("can run sandboxes; 1 of 2"), std::string::npos);
  EXPECT_NE(as_json(f).find("\"ok\": true"), std::string::npos);
  f.push_back({"c", Status::fail, "bad", "buy another"});
  EXPECT_EQ(exit_code(f), 1);
  EXPECT_NE(as_text(f).find("fail c"), std::string::npos);
  EXPECT_NE(as_text(f).find("-> buy another"), std::string::npos);
  EXPECT_NE(as_json(f).find("\"ok\": false"), std::string::npos);
}

}  // namespace
}  // namespace runtime::doctor
