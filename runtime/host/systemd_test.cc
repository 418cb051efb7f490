// SPDX-License-Identifier: Apache-2.0
// Names of scopes, and limits as properties of a unit.
#include "runtime/host/systemd.h"

#include <gtest/gtest.h>

namespace runtime::host {
namespace {

TEST(ScopeName, IsReadAsEnginesWriteIt) {
  auto n = parse_scope_name("machine.slice:libpod:abc", "id");
  ASSERT_TRUE(n.ok());
  EXPECT_EQ(n->slice, "machine.slice");
  EXPECT_EQ(n->unit, "libpod-abc.scope");
  EXPECT_EQ(n->path(), "/machine.slice/libpod-abc.scope");
  EXPECT_EQ(parse_scope_name("", "id")->path(), "/system.slice/caisson-id.scope");
  EXPECT_EQ(parse_scope_name(":p:n", "id")->path(), "/system.slice/p-n.scope");
  EXPECT_EQ(parse_scope_name("a.slice::n", "id")->unit, "n.scope");
}

TEST(ScopeName, ASliceWithDashesIsBelowItsParents) {
  EXPECT_EQ(parse_scope_name("kubepods-burstable-pod1.slice:cri:x", "id")->path(),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-x.scope");
  EXPECT_EQ(parse_scope_name("-.slice:p:x", "id")->path(), "/p-x.scope");
}

TEST(ScopeName, WhatSystemdCouldNotNameIsRefused) {
  for (const char* bad : {"a:b:c", "a.slice", "a.slice:b", "a.slice:b:c:d", "a.slice:b:", "/a.slice:b:c", "a.slice:../b:c", "a..slice:b:c",
                          "-a.slice:b:c", "a-.slice:b:c", "a--b.slice:c:d", ".slice:a:b", "a.slice:b:c d", "a.slice::.x"}) {
    EXPECT_FALSE(parse_scope_name(bad, "id").ok()) << bad;
  }
  EXPECT_FALSE(parse_scope_name("a.slice:b:" + std::string(300, 'x'), "id").ok());
}

TEST(ScopeProperties, SayWhatTheGroupsFilesSay) {
  using Words = std::vector<std::string>;
  CgroupLimits l;
  EXPECT_EQ(scope_properties(l, true), Words());
  l.memory = 1 << 20;
  l.cpu_shares = 1024;
  l.cpu_quota = 12345;
  l.cpu_period = 100000;
  l.pids = -1;
  EXPECT_EQ(scope_properties(l, true), (Words{"MemoryMax", "t", "1048576", "CPUWeight", "t", "39", "CPUQuotaPerSecUSec", "t", "130000", "TasksMax",
                                              "t", "18446744073709551615"}));
  l.cpu_quota = -1;
  l.cpu_shares = 1;
  l.memory = l.pids = std::nullopt;
  EXPECT_EQ(scope_properties(l, false), (Words{"CPUShares", "t", "2", "CPUQuotaPerSecUSec", "t", "18446744073709551615"}));
}

}  // namespace
}  // namespace runtime::host
