// SPDX-License-Identifier: Apache-2.0
// Command lines, groups and names.
#include "shim/command.h"

#include <gtest/gtest.h>

#include "shim/proto/bootstrap.pb.h"
#include "shim/proto/common.pb.h"
#include "shim/sha256.h"

namespace shim {
namespace {

TEST(Arguments, AreWrittenAsGoWritesThem) {
  auto a = parse_arguments({"-namespace", "k8s.io", "--address=/run/c.sock", "-publish-binary", "/usr/bin/containerd", "-id", "abc",
                            "-bundle=/b", "-debug", "delete"});
  ASSERT_TRUE(a.ok()) << a.error().text();
  EXPECT_EQ(a->space, "k8s.io");
  EXPECT_EQ(a->address, "/run/c.sock");
  EXPECT_EQ(a->id, "abc");
  EXPECT_EQ(a->bundle, "/b");
  EXPECT_TRUE(a->debug);
  EXPECT_EQ(a->action, "delete");
  EXPECT_TRUE(parse_arguments({"-v"})->version);
}

TEST(Arguments, BadOnesAreToldByName) {
  EXPECT_NE(parse_arguments({"-what", "x"}).error().text().find("-what"), std::string::npos);
  EXPECT_FALSE(parse_arguments({"-namespace"}).ok());
  EXPECT_FALSE(parse_arguments({"-namespace", "a", "-id", "b", "start", "delete"}).ok());
  for (const char* bad : {"", "../x", "a/b", ".."}) {
    Arguments a;
    a.space = bad;
    a.id = "b";
    EXPECT_FALSE(check_names(a).ok()) << bad;
    std::swap(a.space, a.id);
    EXPECT_FALSE(check_names(a).ok()) << bad;
  }
}

TEST(Bootstrap, WordsOfNewContainerdsAreTakenAndOptionsPassedOver) {
  proto::BootstrapParams b;
  b.set_instance_id("pod");
  b.set_namespace_("space");
  b.set_containerd_version("2.3.0");
  b.set_containerd_grpc_address("/run/c.sock");
  Arguments a;
  add_bootstrap(a, b.SerializeAsString());
  EXPECT_EQ(a.id, "pod");
  EXPECT_EQ(a.space, "space");
  EXPECT_EQ(a.address, "/run/c.sock");
  EXPECT_EQ(a.protocol, 3);
  proto::Any options;
  options.set_type_url("runtimeoptions.v1.Options");
  options.set_value("x");
  for (const std::string& words : {options.SerializeAsString(), std::string(), std::string("\xff\xff")}) {
    Arguments none;
    add_bootstrap(none, words);
    EXPECT_EQ(none.id, "");
    EXPECT_EQ(none.protocol, 2);
  }
}

TEST(Groups, AreThePodsOfTheAnnotations) {
  EXPECT_EQ(group_of(R"({"annotations":{"io.kubernetes.cri.sandbox-id":"pod","x":"y"}})", "c"), "pod");
  EXPECT_EQ(group_of(R"({"annotations":{"io.kubernetes.cri-o.SandboxID":"pod"}})", "c"), "pod");
  for (const char* none : {"", "{", "[]", "{}", R"({"annotations":[]})", R"({"annotations":{"io.kubernetes.cri.sandbox-id":7}})",
                           R"({"annotations":{"io.kubernetes.cri.sandbox-id":"../../x"}})"}) {
    EXPECT_EQ(group_of(none, "c"), "c") << none;
  }
}

TEST(Addresses, DifferByDaemonNamespaceAndGroup) {
  Arguments a, b;
  a.address = b.address = "/run/containerd.sock";
  a.space = "one";
  b.space = "two";
  EXPECT_NE(address_of(a, "x"), address_of(b, "x"));
  EXPECT_NE(address_of(a, "x"), address_of(a, "y"));
  EXPECT_EQ(address_of(a, "x"), address_of(a, "x"));
  EXPECT_LE(socket_path(address_of(a, "x")).size(), 106u);
  EXPECT_EQ(socket_path("tcp://x"), "");
}

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace shim
