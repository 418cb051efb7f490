// SPDX-License-Identifier: Apache-2.0
// Layouts of cgroup hierarchies, and where a container's groups go in each.
#include "runtime/host/cgroup.h"

#include <gtest/gtest.h>

namespace runtime::host {
namespace {

TEST(Hierarchies, HybridLayoutHasV1ControllersAndV2BesideThem) {
  auto h = parse_hierarchies(
      "25 20 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
      "26 25 0:22 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
      "27 25 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "28 25 0:24 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n"
      "29 25 0:25 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
      "30 25 0:23 / /mnt/other rw - cgroup cgroup rw,memory\n",
      "3:name=systemd:/system.slice/x\n2:memory:/m/own\n1:cpu,cpuacct:/\n0::/system.slice/x\n");
  ASSERT_EQ(h.size(), 4u) << "the second mount of memory adds nothing";
  EXPECT_TRUE(h[0].has("cpu") && h[0].has("cpuacct"));
  EXPECT_EQ(h[0].own, "");
  EXPECT_EQ(h[1].own, "/m/own");
  EXPECT_TRUE(h[2].has("name=systemd"));
  EXPECT_EQ(h[2].own, "/system.slice/x");
  EXPECT_TRUE(h[3].v2);
  EXPECT_EQ(h[3].own, "/system.slice/x");

  auto absolute = plan_cgroups(h, "/pods/a", "id");
  EXPECT_EQ(absolute[0], "/sys/fs/cgroup/cpu,cpuacct/pods/a");
  EXPECT_EQ(absolute[3], "/sys/fs/cgroup/unified/pods/a");
  auto relative = plan_cgroups(h, "", "id");
  EXPECT_EQ(relative[1], "/sys/fs/cgroup/memory/m/own/id") << "below our own limits, not beside them";
  EXPECT_EQ(relative[3], "/sys/fs/cgroup/unified/system.slice/x/id");
}

TEST(Hierarchies, PureV2PutsAGroupBesideOurOwn) {
  auto h = parse_hierarchies("26 25 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/user.slice/session\n");
  ASSERT_EQ(h.size(), 1u);
  h[0].controllers = {"memory", "pids"};
  EXPECT_EQ(plan_cgroups(h, "x", "id")[0], "/sys/fs/cgroup/user.slice/x")
      << "our own group holds processes, so its children get no controllers";
}

TEST(Hierarchies, AMountOfAPartOfTheTreeStartsThere) {
  auto h = parse_hierarchies("26 25 0:22 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
                             "2:memory:/docker/abc/child\n");
  ASSERT_EQ(h.size(), 1u);
  EXPECT_EQ(h[0].own, "/child");
}

TEST(Hierarchies, EscapedAndOddLinesAreRead) {
  auto h = parse_hierarchies("26 25 0:22 / /mnt/my\\040groups rw - cgroup2 cgroup2 rw\nnonsense\n\n1 2\n", "garbage\n0::/\n");
  ASSERT_EQ(h.size(), 1u);
  EXPECT_EQ(h[0].mount_point, "/mnt/my groups");
}

TEST(Plan, DotsDoNotClimbOutOfTheHierarchy) {
  Hierarchy h;
  h.mount_point = "/cg";
  h.own = "/own";
  EXPECT_EQ(plan_cgroups({h}, "/../../etc", "id")[0], "/cg/etc");
  EXPECT_EQ(plan_cgroups({h}, "../x", "id")[0], "/cg/own/x");
}

TEST(CountCpus, ReadsLists) {
  EXPECT_EQ(count_cpus("0-3,8\n"), 5);
  EXPECT_EQ(count_cpus("7"), 1);
  for (const char* bad : {"", "x", "3-1", "0-", "-1", "0-99999999"}) EXPECT_EQ(count_cpus(bad), 0) << bad;
}

TEST(CheckFree, TheTopOfAHierarchyIsRefused) {
  Hierarchy h;
  h.mount_point = "/cg";
  EXPECT_FALSE(check_cgroups_free({h}, plan_cgroups({h}, "/", "id")).ok());
  EXPECT_FALSE(check_cgroups_free({h}, plan_cgroups({h}, "/..", "id")).ok());
  EXPECT_TRUE(check_cgroups_free({h}, plan_cgroups({h}, "/a", "id")).ok());
}

}  // namespace
}  // namespace runtime::host
