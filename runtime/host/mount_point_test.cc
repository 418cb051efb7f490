// SPDX-License-Identifier: Apache-2.0
// Places in file systems, from texts of mountinfo.
#include "runtime/host/mount_point.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

namespace runtime::host {
namespace {

const char* const kMounts =
    "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "30 20 0:50 / /pods/u/volumes/kubernetes.io~empty-dir/v rw shared:1 - tmpfs tmpfs rw,size=64k\n"
    "31 20 0:50 /sub/deep /pods/u/volume-subpaths/v/c/0 rw - tmpfs tmpfs rw\n"
    "32 20 0:51 / /pods/u/a\\040b rw - tmpfs tmpfs rw\n";

TEST(FindMount, RootOfAVolume) {
  auto m = find_mount_in(kMounts, "/pods/u/volumes/kubernetes.io~empty-dir/v", makedev(0, 50));
  ASSERT_TRUE(m);
  EXPECT_EQ(m->path, "");
  EXPECT_NE(m->all_points.find("/kubernetes.io~empty-dir/"), std::string::npos);
}

TEST(FindMount, DirectoryOfAVolumeThatIsMountedElsewhere) {
  auto m = find_mount_in(kMounts, "/pods/u/volume-subpaths/v/c/0", makedev(0, 50));
  ASSERT_TRUE(m);
  EXPECT_EQ(m->path, "sub/deep");
  EXPECT_NE(m->all_points.find("/kubernetes.io~empty-dir/v/\n"), std::string::npos);
  EXPECT_EQ(find_mount_in(kMounts, "/pods/u/volume-subpaths/v/c/0/x", makedev(0, 50))->path, "sub/deep/x");
}

TEST(FindMount, EscapedNamesAndOtherFileSystems) {
  auto m = find_mount_in(kMounts, "/pods/u/a b/c", makedev(0, 51));
  ASSERT_TRUE(m);
  EXPECT_EQ(m->path, "c");
  EXPECT_EQ(m->all_points.find("empty-dir"), std::string::npos);
  EXPECT_FALSE(find_mount_in(kMounts, "/pods/u/a bc", makedev(0, 51)));
  EXPECT_FALSE(find_mount_in(kMounts, "/pods/u/a b", makedev(0, 99)));
  EXPECT_FALSE(find_mount_in("garbage\n1 2 0:51\n", "/a", makedev(0, 51)));
}

TEST(SharesMounts, ByTheFieldsOfItsMount) {
  const std::string more = "33 20 0:52 / /x rw,relatime master:7 propagate_from:1 - tmpfs tmpfs rw\n34 20 0:53 / /shared:1 rw unbindable - tmpfs shared:1 rw\n35 20\n";
  EXPECT_TRUE(shares_mounts_in(kMounts, 30));
  EXPECT_FALSE(shares_mounts_in(kMounts, 31));
  EXPECT_FALSE(shares_mounts_in(kMounts, 99));
  EXPECT_TRUE(shares_mounts_in(more, 33));
  EXPECT_FALSE(shares_mounts_in(more, 34));
  EXPECT_FALSE(shares_mounts_in(more, 35));
}

}  // namespace
}  // namespace runtime::host
