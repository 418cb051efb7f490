// SPDX-License-Identifier: Apache-2.0
#include "sentry/auth/credentials.h"

#include <gtest/gtest.h>
#include <linux/securebits.h>

#include <cstring>
#include <string>

namespace sentry::auth {
namespace {

Ref<Credentials> user(uint32_t uid) {
  Ref<Credentials> c = make_ref<Credentials>();
  c->uid = c->euid = c->suid = c->fsuid = uid;
  c->gid = c->egid = c->sgid = c->fsgid = uid;
  c->cap_bounding = kAllCaps;
  if (uid == 0) c->cap_permitted = c->cap_effective = kAllCaps;
  return c;
}
constexpr uint64_t kNet = 1ull << CAP_NET_BIND_SERVICE;
constexpr uint64_t kSetuid = 1ull << CAP_SETUID;

TEST(Credentials, RootGetsItsBoundingSetAtExec) {
  auto c = user(0);
  c->cap_bounding = kNet | kSetuid;
  ASSERT_TRUE(c->apply_exec(nullptr).ok());
  EXPECT_EQ(c->cap_permitted, kNet | kSetuid);
  EXPECT_EQ(c->cap_effective, kNet | kSetuid);
}

TEST(Credentials, OrdinaryUserLosesCapabilitiesAtExecUnlessAmbient) {
  auto c = user(1000);
  c->cap_permitted = c->cap_effective = c->cap_inheritable = kNet | kSetuid;
  c->cap_ambient = kNet;
  ASSERT_TRUE(c->apply_exec(nullptr).ok());
  EXPECT_EQ(c->cap_permitted, kNet);
  EXPECT_EQ(c->cap_effective, kNet);
  EXPECT_EQ(c->cap_ambient, kNet);
}

TEST(Credentials, SetuidRootProgramGivesAllAndClearsAmbient) {
  auto c = user(1000);
  c->cap_ambient = c->cap_permitted = c->cap_inheritable = kNet;
  c->euid = 0;
  ASSERT_TRUE(c->apply_exec(nullptr).ok());
  EXPECT_EQ(c->cap_effective, kAllCaps);
  EXPECT_EQ(c->cap_ambient, 0u);
  EXPECT_EQ(c->suid, 0u);
  EXPECT_EQ(c->fsuid, 0u);
  EXPECT_EQ(c->uid, 1000u);
}

TEST(Credentials, NoNewPrivsUndoesSetuidAtExec) {
  auto c = user(1000);
  c->no_new_privs = true;
  c->euid = 0;
  ASSERT_TRUE(c->apply_exec(nullptr).ok());
  EXPECT_EQ(c->euid, 1000u);
  EXPECT_EQ(c->cap_permitted, 0u);
}

TEST(Credentials, SecureNorootMakesRootOrdinary) {
  auto c = user(0);
  c->securebits = SECBIT_NOROOT;
  ASSERT_TRUE(c->apply_exec(nullptr).ok());
  EXPECT_EQ(c->cap_permitted, 0u);
}

TEST(Credentials, FileCapabilitiesAreBoundedAndMayBeRefused) {
  auto c = user(1000);
  Credentials::FileCaps f{kNet, 0, true};
  ASSERT_TRUE(c->apply_exec(&f).ok());
  EXPECT_EQ(c->cap_effective, kNet);
  auto d = user(1000);
  d->cap_bounding = kSetuid;
  EXPECT_EQ(d->apply_exec(&f).error(), kEPERM);
}

TEST(Credentials, FileCapabilityAttributeIsParsedAndChecked) {
  uint32_t w[5] = {VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, 1u << CAP_NET_RAW, 0, 0, 0};
  auto f = Credentials::parse_file_caps(std::string_view(reinterpret_cast<char*>(w), sizeof w));
  ASSERT_TRUE(f.ok());
  EXPECT_EQ(f->permitted, 1ull << CAP_NET_RAW);
  EXPECT_TRUE(f->effective);
  EXPECT_EQ(Credentials::parse_file_caps(std::string_view(reinterpret_cast<char*>(w), 8)).error(), kEINVAL);
  EXPECT_EQ(Credentials::parse_file_caps("x").error(), kEINVAL);
}

TEST(Credentials, LeavingRootDropsAllUnlessKeepCaps) {
  auto c = user(0);
  c->uid = c->euid = c->suid = 1000;
  c->fix_caps_after_setuid(0, 0, 0);
  EXPECT_EQ(c->cap_permitted, 0u);
  auto k = user(0);
  k->securebits = SECBIT_KEEP_CAPS;
  k->uid = k->euid = k->suid = 1000;
  k->fix_caps_after_setuid(0, 0, 0);
  EXPECT_EQ(k->cap_permitted, kAllCaps);
  EXPECT_EQ(k->cap_effective, 0u);  // euid left root
}

TEST(Credentials, EffectiveSetFollowsEffectiveUid) {
  auto c = user(0);
  c->euid = 1000;
  c->fix_caps_after_setuid(0, 0, 0);
  EXPECT_EQ(c->cap_effective, 0u);
  EXPECT_EQ(c->cap_permitted, kAllCaps);
  c->euid = 0;
  c->fix_caps_after_setuid(0, 1000, 0);
  EXPECT_EQ(c->cap_effective, kAllCaps);
}

TEST(Credentials, FsuidMovesFileCapabilitiesOnly) {
  auto c = user(0);
  c->fsuid = 1000;
  c->fix_caps_after_setfsuid(0);
  EXPECT_FALSE(c->has_cap(CAP_DAC_OVERRIDE));
  EXPECT_TRUE(c->has_cap(CAP_KILL));
}

TEST(Credentials, GroupMembership) {
  auto c = user(5);
  c->groups = {7, 9};
  EXPECT_TRUE(c->in_group(5));
  EXPECT_TRUE(c->in_group(9));
  EXPECT_FALSE(c->in_group(8));
}

}  // namespace
}  // namespace sentry::auth
