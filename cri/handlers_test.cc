// SPDX-License-Identifier: Apache-2.0
#include "cri/handlers.h"

#include <gtest/gtest.h>

namespace cri {
namespace {

msg::StatusResponse status(const char* config, std::vector<std::string> names = {}) {
  msg::StatusResponse s;
  if (config) {
    auto* e = s.add_info();
    e->set_key("config");
    e->set_value(config);
  }
  for (auto& n : names) s.add_runtime_handlers()->set_name(n);
  return s;
}

TEST(Handlers, AreFoundInBothPlacesAndTheirTypeCounts) {
  const char* config = R"({"containerd":{"runtimes":{"runc":{"runtimeType":"io.containerd.runc.v2"},"caisson":{"runtimeType":"io.containerd.caisson.v1"}}}})";
  EXPECT_TRUE(check_handler(status(config), "caisson", "").ok());
  EXPECT_TRUE(check_handler(status(config), "caisson", "io.containerd.caisson.v1").ok());
  EXPECT_TRUE(check_handler(status(nullptr, {"", "runc", "caisson"}), "caisson", "").ok());
  auto code = [](auto r) { return r.ok() ? 0 : r.error().code().value(); };
  EXPECT_EQ(code(check_handler(status(config), "runc", "io.containerd.caisson.v1")), EINVAL);
  EXPECT_EQ(code(check_handler(status(nullptr, {"caisson"}), "caisson", "io.containerd.caisson.v1")), EINVAL);
  EXPECT_EQ(code(check_handler(status(config), "kata", "")), ENOENT);
  EXPECT_EQ(code(check_handler(status(nullptr, {"runc"}), "caisson", "")), ENOENT);
  auto r = check_handler(status(config), "kata", "");
  EXPECT_NE(r.error().text().find("it has caisson, runc"), std::string::npos) << r.error().text();
}

TEST(Handlers, WhatCannotBeReadIsNoHandler) {
  for (auto c : {"", "{", "[]", "{}", "null", R"({"containerd":3})", R"({"containerd":{"runtimes":[]}})", R"({"containerd":{"runtimes":{}}})"}) {
    auto r = check_handler(status(c), "caisson", "");
    ASSERT_FALSE(r.ok()) << c;
    EXPECT_EQ(r.error().code(), base::kENODATA) << c;
  }
  EXPECT_FALSE(check_handler(status(R"({"containerd":{"runtimes":{"caisson":7}}})"), "caisson", "x").ok());
}

TEST(Handlers, PrivilegeOfASandbox) {
  msg::PodSandboxStatusResponse s;
  EXPECT_TRUE(sandbox_privileged(s, true));
  EXPECT_FALSE(sandbox_privileged(s, false));
  auto* e = s.add_info();
  e->set_key("info");
  e->set_value(R"({"config":{"metadata":{},"linux":{"security_context":{"privileged":true}}}})");
  EXPECT_TRUE(sandbox_privileged(s, false));
  e->set_value(R"({"config":{"metadata":{},"linux":{"security_context":{}}}})");
  EXPECT_FALSE(sandbox_privileged(s, true)) << "what containerd tells counts";
}

TEST(Messages, KeepWhatIsNotKnown) {
  // runtime_handler "a", an unknown field 99, an unknown field in config's metadata, a label with bytes that are no UTF-8.
  std::string in("\x0a\x11\x0a\x04\xa0\x06\x96\x01\x32\x09\x0a\x03k\xff\xfe\x12\x02v1\x12\x01" "a\x9a\x06\x02hi", 27);
  msg::RunPodSandboxRequest r;
  ASSERT_TRUE(r.ParseFromString(in));
  EXPECT_EQ(r.config().labels(0).key(), "k\xff\xfe");
  EXPECT_EQ(r.runtime_handler(), "a");
  EXPECT_EQ(r.SerializeAsString(), in);
  r.set_runtime_handler("caisson");
  std::string out = r.SerializeAsString();
  EXPECT_NE(out.find("\x12\x07" "caisson"), out.npos);
  EXPECT_NE(out.find("\x9a\x06\x02hi"), out.npos);
  EXPECT_NE(out.find(std::string("\xa0\x06\x96\x01")), out.npos);
}

}  // namespace
}  // namespace cri
