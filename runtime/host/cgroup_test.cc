// SPDX-License-Identifier: Apache-2.0
// Layouts of cgroup hierarchies, and where a container's groups go in each.
#include "runtime/host/cgroup.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "runtime/host/cgroup_stats.h"

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

// A directory tree in place of a host's hierarchies: the groups are there with their files, as the kernel would have made them.
class FakeTree : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/cgroup_test.XXXXXX";
    top_ = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(top_); }

  Hierarchy hierarchy(const std::string& name, bool v2, std::vector<std::string> controllers, const std::string& own = "/own") {
    Hierarchy h;
    h.v2 = v2;
    h.controllers = std::move(controllers);
    h.mount_point = top_ + "/" + name;
    h.own = own;
    return h;
  }
  void file(const std::string& path, const std::string& text = "") {
    std::filesystem::create_directories(std::filesystem::path(top_ + "/" + path).parent_path());
    std::ofstream(top_ + "/" + path) << text;
  }
  std::string text(const std::string& path) {
    std::ifstream in(top_ + "/" + path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void v1_group(const std::string& group, std::initializer_list<const char*> files) {
    for (const char* f : {"tasks", "cgroup.procs"}) file(group + "/" + f);
    for (const char* f : files) file(group + "/" + f);
  }

  CgroupLimits limits() {
    CgroupLimits l;
    l.memory = 1 << 26;
    l.memory_swap = 1 << 27;
    l.memory_reservation = 1 << 25;
    l.cpu_shares = 512;
    l.cpu_quota = 50000;
    l.cpu_period = 200000;
    l.cpus = "0-1";
    l.pids = 40;
    return l;
  }
  std::string top_;
};

TEST_F(FakeTree, AGroupWithGroupsBelowItIsRefused) {
  Hierarchy h = hierarchy("unified", true, {"memory"});
  file("unified/system.slice/sshd.service/cgroup.procs");
  file("unified/free/cgroup.procs");
  auto refused = check_cgroups_free({h}, plan_cgroups({h}, "/system.slice", "id"));
  ASSERT_FALSE(refused.ok()) << "its end would be that of all below it";
  EXPECT_NE(refused.error().text().find("sshd.service"), std::string::npos) << refused.error().text();
  EXPECT_TRUE(check_cgroups_free({h}, plan_cgroups({h}, "/free", "id")).ok());
  EXPECT_TRUE(check_cgroups_free({h}, plan_cgroups({h}, "/system.slice/new", "id")).ok());
}

TEST_F(FakeTree, Version1GetsOneFilePerController) {
  v1_group("memory/own/id", {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.swappiness"});
  v1_group("cpu,cpuacct/own/id", {"cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"});
  v1_group("pids/own/id", {"pids.max"});
  v1_group("cpuset/own/id", {"cpuset.cpus", "cpuset.mems"});
  file("cpuset/own/cpuset.cpus", "0-7");
  file("cpuset/own/cpuset.mems", "0");
  file("cpuset/cpuset.cpus", "0-7");
  file("cpuset/cpuset.mems", "0");
  std::vector<Hierarchy> hosts{hierarchy("memory", false, {"memory"}), hierarchy("cpu,cpuacct", false, {"cpu", "cpuacct"}),
                               hierarchy("pids", false, {"pids"}), hierarchy("cpuset", false, {"cpuset"})};
  auto l = limits();
  l.v1.push_back({"memory", "memory.swappiness", "7", "swappiness"});
  auto c = Cgroups::create(hosts, "", "id", l, true);
  ASSERT_TRUE(c.ok()) << c.error().text();
  EXPECT_EQ(text("memory/own/id/memory.limit_in_bytes"), std::to_string(1 << 26));
  EXPECT_EQ(text("memory/own/id/memory.memsw.limit_in_bytes"), std::to_string(1 << 27));
  EXPECT_EQ(text("memory/own/id/memory.soft_limit_in_bytes"), std::to_string(1 << 25));
  EXPECT_EQ(text("memory/own/id/memory.swappiness"), "7");
  EXPECT_EQ(text("cpu,cpuacct/own/id/cpu.shares"), "512");
  EXPECT_EQ(text("cpu,cpuacct/own/id/cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(text("cpu,cpuacct/own/id/cpu.cfs_period_us"), "200000");
  EXPECT_EQ(text("pids/own/id/pids.max"), "40");
  EXPECT_EQ(text("cpuset/own/id/cpuset.cpus"), "0-1");
  EXPECT_EQ(text("cpuset/own/id/cpuset.mems"), "0") << "from the parent, or no process could join";
  EXPECT_EQ(c->leaves().size(), 4u);
  EXPECT_EQ(c->v2_leaf(), -1);
}

TEST_F(FakeTree, Version2GetsOneDirectoryAndItsOwnNames) {
  for (const char* f : {"memory.max", "memory.low", "memory.swap.max", "cpu.weight", "cpu.max", "cpuset.cpus", "pids.max",
                        "memory.high", "io.max", "cgroup.procs", "cgroup.threads"}) {
    file(std::string("unified/slice/id/") + f);
  }
  const std::string all = "cpuset cpu io memory pids";
  for (const char* d : {"", "slice/", "slice/id/"}) {
    file(std::string("unified/") + d + "cgroup.controllers", all);
    file(std::string("unified/") + d + "cgroup.subtree_control");
  }
  std::vector<Hierarchy> hosts{hierarchy("unified", true, {"cpuset", "cpu", "io", "memory", "pids"}, "/slice/session")};
  auto l = limits();
  l.unified = {{"memory.high", "60000000"}};
  l.v1.push_back({"blkio", "blkio.throttle.read_bps_device", "8:0 1000", "throttle"});
  l.v2.push_back({"io", "io.max", "8:0 rbps=1000", "throttle"});
  auto c = Cgroups::create(hosts, "", "id", l, true);
  ASSERT_TRUE(c.ok()) << c.error().text();
  const std::string g = "unified/slice/id/";
  EXPECT_EQ(text(g + "memory.max"), std::to_string(1 << 26));
  EXPECT_EQ(text(g + "memory.swap.max"), std::to_string((1 << 27) - (1 << 26))) << "swap alone, not memory and swap";
  EXPECT_EQ(text(g + "memory.low"), std::to_string(1 << 25));
  EXPECT_EQ(text(g + "cpu.weight"), "20");
  EXPECT_EQ(text(g + "cpu.max"), "50000 200000");
  EXPECT_EQ(text(g + "cpuset.cpus"), "0-1");
  EXPECT_EQ(text(g + "pids.max"), "40");
  EXPECT_EQ(text(g + "memory.high"), "60000000");
  EXPECT_EQ(text(g + "io.max"), "8:0 rbps=1000");
  EXPECT_EQ(text("unified/slice/cgroup.subtree_control").substr(0, 1), "+") << "controllers are handed down";
  EXPECT_GE(c->v2_leaf(), 0);

  CgroupLimits none;
  none.memory = -1;
  none.pids = -1;
  none.cpu_quota = -1;
  ASSERT_TRUE(Cgroups::apply(c->leaves(), hosts, none).ok());
  EXPECT_EQ(text(g + "memory.max").substr(0, 3), "max");
  EXPECT_EQ(text(g + "pids.max").substr(0, 3), "max");
  EXPECT_EQ(text(g + "cpu.max").substr(0, 10), "max 100000");
}

TEST_F(FakeTree, HybridPutsEachLimitWhereItsControllerIs) {
  v1_group("memory/own/id", {"memory.limit_in_bytes"});
  v1_group("pids/own/id", {"pids.max"});
  for (const char* f : {"hugetlb.2MB.max", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"}) file(std::string("unified/id/") + f);
  for (const char* d : {"unified/id/cgroup.controllers", "unified/cgroup.controllers"}) file(d, "hugetlb");
  file("unified/cgroup.subtree_control");
  std::vector<Hierarchy> hosts{hierarchy("memory", false, {"memory"}), hierarchy("pids", false, {"pids"}),
                               hierarchy("unified", true, {"hugetlb"}, "")};
  CgroupLimits l;
  l.memory = 4096 << 10;
  l.pids = 9;
  l.v1.push_back({"hugetlb", "hugetlb.2MB.limit_in_bytes", "8", "hugepages"});
  l.v2.push_back({"hugetlb", "hugetlb.2MB.max", "8", "hugepages"});
  auto c = Cgroups::create(hosts, "", "id", l, true);
  ASSERT_TRUE(c.ok()) << c.error().text();
  EXPECT_EQ(text("memory/own/id/memory.limit_in_bytes"), std::to_string(4096 << 10));
  EXPECT_EQ(text("pids/own/id/pids.max"), "9");
  EXPECT_EQ(text("unified/id/hugetlb.2MB.max"), "8");
  EXPECT_EQ(c->leaves().size(), 3u);
}

TEST_F(FakeTree, ALimitWithoutItsControllerIsAnErrorThatNamesBoth) {
  v1_group("memory/own/id", {"memory.limit_in_bytes"});
  CgroupLimits l;
  l.pids = 5;
  auto c = Cgroups::create({hierarchy("memory", false, {"memory"})}, "", "id", l, true);
  ASSERT_FALSE(c.ok());
  EXPECT_NE(c.error().text().find("pids.limit"), std::string::npos) << c.error().text();
  CgroupLimits burst;
  burst.v1.push_back({"cpu", "cpu.cfs_burst_us", "1", "linux.resources.cpu.burst"});
  burst.v2.push_back({"cpu", "cpu.max.burst", "1", "linux.resources.cpu.burst"});
  auto d = Cgroups::create({hierarchy("memory", false, {"memory"})}, "", "id", burst, true);
  ASSERT_FALSE(d.ok());
  EXPECT_NE(d.error().text().find("linux.resources.cpu.burst"), std::string::npos) << d.error().text();
}

TEST_F(FakeTree, StatisticsOfBothKindsMeanTheSame) {
  file("memory/id/memory.limit_in_bytes", "4096\n");
  file("memory/id/memory.usage_in_bytes", "1000\n");
  file("memory/id/memory.stat", "cache 77\nrss 5\n");
  file("memory/id/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
  file("cpuacct/id/cpuacct.usage", "5000000\n");
  file("cpuacct/id/cpuacct.stat", "user 2\nsystem 1\n");
  file("pids/id/pids.current", "4\n");
  file("pids/id/pids.max", "9\n");
  auto v1 = read_cgroup_stats({top_ + "/memory/id", top_ + "/cpuacct/id", top_ + "/pids/id"});
  EXPECT_EQ(v1.memory.limit, 4096u);
  EXPECT_EQ(v1.memory.usage, 1000u);
  EXPECT_EQ(v1.cache, 77u);
  EXPECT_EQ(v1.oom_kills, 3u);
  EXPECT_EQ(v1.cpu_ns, 5000000u);
  EXPECT_EQ(v1.cpu_user_ns, 20000000u);
  EXPECT_EQ(v1.pids, 4u);
  file("u/id/cgroup.controllers", "memory cpu pids io\n");
  file("u/id/memory.current", "1000\n");
  file("u/id/memory.max", "max\n");
  file("u/id/memory.events", "low 0\nmax 6\noom 2\noom_kill 3\n");
  file("u/id/memory.stat", "anon 5\nfile 77\n");
  file("u/id/cpu.max", "max 100000\n");
  file("u/id/cpu.stat", "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 7\nnr_throttled 2\nthrottled_usec 9\n");
  file("u/id/io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n");
  auto v2 = read_cgroup_stats({top_ + "/u/id"});
  EXPECT_EQ(v2.memory.limit, UINT64_MAX);
  EXPECT_EQ(v2.memory.usage, 1000u);
  EXPECT_EQ(v2.memory.failures, 6u);
  EXPECT_EQ(v2.cache, 77u);
  EXPECT_EQ(v2.oom_kills, 3u);
  EXPECT_EQ(v2.cpu_ns, 5000000u);
  EXPECT_EQ(v2.throttled_periods, 2u);
  ASSERT_EQ(v2.io_bytes.size(), 2u);
  EXPECT_EQ(v2.io_bytes[1].value, 20u);
}

}  // namespace
}  // namespace runtime::host
