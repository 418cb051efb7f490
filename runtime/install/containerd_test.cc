// SPDX-License-Identifier: Apache-2.0
// Every shape of config.toml that people have: comments stay, a second time changes nothing, and out is as if never in.
#include "runtime/install/containerd.h"

#include <gtest/gtest.h>

namespace runtime::install {
namespace {

constexpr const char* kDebian = R"(version = 2

# Debian's own
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"   # where they are
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
)";
constexpr const char* kThree = R"(version = 3
root = '/var/lib/containerd'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
)";

TEST(AddHandler, KeepsWhatIsThereAndIsDoneOnce) {
  for (const char* text : {kDebian, kThree, "version = 2", "", "# nothing but words\n"}) {
    auto first = add_handler(text, "c.toml", {});
    ASSERT_TRUE(first.ok()) << text << first.error().text();
    EXPECT_TRUE(first->changed);
    EXPECT_EQ(first->text.rfind(text, 0), 0u);
    auto v = look(first->text, "c.toml");
    ASSERT_TRUE(v.ok());
    ASSERT_TRUE(v->runtimes.count("caisson")) << first->text;
    EXPECT_EQ(v->runtimes["caisson"].type, kRuntimeType);
    EXPECT_TRUE(v->runtimes["caisson"].marked);
    EXPECT_TRUE(v->runtimes["caisson"].passes_annotations);
    auto second = add_handler(first->text, "c.toml", {});
    ASSERT_TRUE(second.ok());
    EXPECT_FALSE(second->changed);
    EXPECT_EQ(second->text, first->text);
  }
}

TEST(RemoveHandler, LeavesTheTextAsItWas) {
  for (const char* text : {kDebian, kThree}) {
    auto in = add_handler(text, "c.toml", {});
    ASSERT_TRUE(in.ok());
    auto out = remove_handler(in->text, "c.toml", "caisson");
    ASSERT_TRUE(out.ok()) << out.error().text();
    EXPECT_TRUE(out->changed);
    EXPECT_EQ(out->text, text);
    auto again = remove_handler(out->text, "c.toml", "caisson");
    ASSERT_TRUE(again.ok());
    EXPECT_FALSE(again->changed);
  }
}

TEST(AddHandler, VersionThreeHasAnotherPlace) {
  auto in = add_handler(kThree, "c.toml", {"caisson", "/opt/caisson/bin/shim", "/etc/caisson/a.toml"});
  ASSERT_TRUE(in.ok()) << in.error().text();
  EXPECT_NE(in->text.find("[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.caisson]"), in->text.npos);
  auto v = look(in->text, "c.toml");
  ASSERT_TRUE(v.ok());
  EXPECT_EQ(v->runtimes["caisson"].path, "/opt/caisson/bin/shim");
  EXPECT_EQ(v->runtimes["caisson"].config_path, "/etc/caisson/a.toml");
  EXPECT_EQ(v->runtimes["runc"].type, "io.containerd.runc.v2");
}

TEST(AddHandler, OtherValuesReplaceItsOwnPartInPlace) {
  auto in = add_handler(kDebian, "c.toml", {});
  ASSERT_TRUE(in.ok());
  std::string with_more = in->text + "\n[debug]\n  level = \"info\" # kept\n";
  auto changed = add_handler(with_more, "c.toml", {"caisson", "/opt/s", ""});
  ASSERT_TRUE(changed.ok()) << changed.error().text();
  EXPECT_TRUE(changed->changed);
  EXPECT_EQ(look(changed->text, "c.toml")->runtimes["caisson"].path, "/opt/s");
  EXPECT_NE(changed->text.find("level = \"info\" # kept"), changed->text.npos);
  EXPECT_EQ(changed->lines.front()[0], '-');
  EXPECT_EQ(changed->lines.back()[0], '+');
  auto two = add_handler(changed->text, "c.toml", {"caisson-strict", "", "/etc/caisson/strict.toml"});
  ASSERT_TRUE(two.ok());
  auto one = remove_handler(two->text, "c.toml", "caisson");
  ASSERT_TRUE(one.ok());
  auto v = look(one->text, "c.toml");
  EXPECT_TRUE(v->runtimes.count("caisson-strict"));
  EXPECT_FALSE(v->runtimes.count("caisson"));
}

TEST(AddHandler, WhatWasWrittenByHandIsLeftAlone) {
  const std::string head = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.caisson]\n";
  auto same = add_handler(head + "  runtime_type = \"io.containerd.caisson.v1\"\n", "c.toml", {});
  ASSERT_TRUE(same.ok());
  EXPECT_FALSE(same->changed);
  auto other = add_handler(head + "  runtime_type = \"io.containerd.runc.v2\"\n", "c.toml", {});
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().text().find("io.containerd.runc.v2"), std::string::npos);
  EXPECT_FALSE(add_handler(head + "  runtime_type = \"io.containerd.caisson.v1\"\n", "c.toml", {"caisson", "/opt/s", ""}).ok());
  EXPECT_FALSE(remove_handler(head + "  runtime_type = \"io.containerd.caisson.v1\"\n", "c.toml", "caisson").ok());
}

TEST(AddHandler, TellsWhatItCannotDo) {
  auto one = add_handler("disabled_plugins = [\"cri\"]\n", "c.toml", {});
  ASSERT_FALSE(one.ok());
  EXPECT_NE(one.error().text().find("version"), std::string::npos);
  auto closed = add_handler("version = 2\nplugins = { \"io.containerd.grpc.v1.cri\" = { sandbox_image = \"x\" } }\n", "c.toml", {});
  ASSERT_FALSE(closed.ok());
  EXPECT_NE(closed.error().text().find("by hand"), std::string::npos) << closed.error().text();
  auto broken = add_handler("version = \n", "c.toml", {});
  ASSERT_FALSE(broken.ok());
  EXPECT_NE(broken.error().text().find("c.toml:1"), std::string::npos) << broken.error().text();
}

TEST(Look, SeesThatTheCriIsOff) {
  EXPECT_TRUE(look("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n", "c")->cri_disabled);
  EXPECT_TRUE(look("version = 2\ndisabled_plugins = [\"cri\"]\n", "c")->cri_disabled);
  EXPECT_FALSE(look(kDebian, "c")->cri_disabled);
}

}  // namespace
}  // namespace runtime::install
