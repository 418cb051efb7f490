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

TEST(Containerd, TheOldOneIsKnownByEitherOfItsWords) {
  EXPECT_TRUE(is_containerd_1_6("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1"));
  EXPECT_TRUE(is_containerd_1_6("containerd github.com/containerd/containerd v1.6.33 d2d58213f83a351ca8f528a95fbd145f5654e957"));
  EXPECT_FALSE(is_containerd_1_6("containerd containerd.io 1.7.20 8fc6bcff51318944179630522a095cc9dbf9f353"));
  EXPECT_FALSE(is_containerd_1_6("containerd github.com/containerd/containerd v1.7.1 1677a17964311325ed1c31e2c0a3589ce6d5c30d"));
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
