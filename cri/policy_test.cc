// SPDX-License-Identifier: Apache-2.0
#include "cri/policy.h"

#include <gtest/gtest.h>

#include "cri/names.h"

namespace cri {
namespace {

Policy parse(const std::string& text) {
  auto p = Policy::parse(text, "p.toml");
  EXPECT_TRUE(p.ok()) << p.error().text();
  return p.ok() ? std::move(p).value() : Policy();
}

std::string fault(const std::string& text) {
  auto p = Policy::parse(text, "p.toml");
  return p.ok() ? "no fault" : p.error().text();
}

constexpr const char* kPolicy = R"(
default_handler = "runc"
[sandbox]
handlers = ["caisson", "caisson-debug"]
host_paths = ["/srv/shared", "/usr/share/zoneinfo/"]
[[rule]]
name = "system"
namespaces = ["kube-system", "infra-*"]
handler = "runc"
named = "keep"
[[rule]]
name = "no host in tenants"
namespaces = ["tenant-*"]
host_network = true
refuse = "tenants have no host network"
[[rule]]
name = "tenants"
namespaces = ["tenant-*"]
handler = "caisson"
[[rule]]
name = "annotated"
annotations = { "io.kubernetes.cri.untrusted-workload" = "true" }
handler = "caisson"
named = "replace"
[[rule]]
name = "labelled"
labels = { trust = ["none", "low*"], team = "*" }
handler = "caisson"
allow = ["host-network"]
[[rule]]
name = "builders"
service_accounts = ["build-*"]
handler = "caisson-debug"
[[rule]]
name = "privileged goes inside"
privileged = true
handler = "caisson"
allow = ["privileged"]
[[rule]]
name = "foreign images"
images = ["*.example.org/*", "evil*"]
handler = "caisson"
)";

struct Row {
  const char* what;
  PodFacts pod;
  std::string handler, rule, refused;
};

PodFacts pod(std::string space, Pairs labels = {}, Pairs annotations = {}, std::string handler = "") {
  PodFacts p;
  p.name = "p";
  p.uid = "u-1";
  p.space = std::move(space);
  p.labels = std::move(labels);
  p.annotations = std::move(annotations);
  p.handler = std::move(handler);
  return p;
}

PodFacts with(PodFacts p, bool PodFacts::*flag) {
  p.*flag = true;
  return p;
}

TEST(Policy, DecidesAboutPods) {
  Policy policy = parse(kPolicy);
  const Pairs untrusted = {{"io.kubernetes.cri.untrusted-workload", "true"}};
  const Row rows[] = {
      {"nothing matches", pod("web"), "runc", "default", ""},
      {"a named handler stays when no rule matches", pod("web", {}, {}, "kata"), "kata", "named", ""},
      {"a namespace by pattern", pod("tenant-a"), "caisson", "tenants", ""},
      {"a pattern means the whole name", pod("my-tenant-a"), "runc", "default", ""},
      {"the same handler by name", pod("tenant-a", {}, {}, "caisson"), "caisson", "tenants", ""},
      {"another handler by name", pod("tenant-a", {}, {}, "runc"), "runc", "tenants", "named-handler"},
      {"another sandbox by name", pod("tenant-a", {}, {}, "caisson-debug"), "caisson-debug", "tenants", "named-handler"},
      {"keep", pod("infra-1", {}, {}, "caisson"), "caisson", "system", ""},
      {"the first rule wins", pod("kube-system", {}, untrusted), "runc", "system", ""},
      {"annotation of old", pod("web", {}, untrusted), "caisson", "annotated", ""},
      {"its other values mean nothing", pod("web", {}, {{"io.kubernetes.cri.untrusted-workload", "false"}}), "runc", "default", ""},
      {"replace", pod("web", {}, untrusted, "runc"), "caisson", "annotated", ""},
      {"of one key the last counts", pod("web", {}, {{untrusted[0].first, "true"}, {untrusted[0].first, "no"}}), "runc", "default", ""},
      {"all labels are needed", pod("web", {{"trust", "none"}}), "runc", "default", ""},
      {"labels", pod("web", {{"trust", "lowish"}, {"team", ""}}), "caisson", "labelled", ""},
      {"service account by annotation", pod("web", {}, {{"dev.caisson.service-account", "build-7"}}), "caisson-debug", "builders", ""},
      {"service account by label", pod("web", {{"dev.caisson.service-account", "build-7"}}), "caisson-debug", "builders", ""},
      {"the annotation counts before the label",
       pod("web", {{"dev.caisson.service-account", "build-7"}}, {{"dev.caisson.service-account", "web"}}), "runc", "default", ""},
      {"privileged outside", with(pod("kube-system"), &PodFacts::privileged), "runc", "system", ""},
      {"privileged in a sandbox", with(pod("tenant-a"), &PodFacts::privileged), "caisson", "tenants", "privileged"},
      {"host pid in a sandbox", with(pod("tenant-a"), &PodFacts::host_pid), "caisson", "tenants", "host-pid"},
      {"host ipc in a sandbox", with(pod("tenant-a"), &PodFacts::host_ipc), "caisson", "tenants", "host-ipc"},
      {"a rule that refuses", with(pod("tenant-a"), &PodFacts::host_network), "runc", "no host in tenants", "rule"},
      {"host network in a sandbox by name", with(pod("web", {}, {}, "caisson"), &PodFacts::host_network), "caisson", "named", "host-network"},
      {"host network that a rule allows", with(pod("web", {{"trust", "none"}, {"team", "a"}}), &PodFacts::host_network), "caisson", "labelled", ""},
      {"other things it does not allow", with(pod("web", {{"trust", "none"}, {"team", "a"}}), &PodFacts::host_pid), "caisson", "labelled", "host-pid"},
      {"privilege that demands a sandbox", with(pod("web"), &PodFacts::privileged), "caisson", "privileged goes inside", ""},
      {"image rules say nothing of pods", pod("web2"), "runc", "default", ""},
  };
  for (auto& r : rows) {
    SCOPED_TRACE(r.what);
    auto d = policy.decide_pod(r.pod);
    EXPECT_EQ(d.rule, r.rule);
    EXPECT_EQ(d.refused, r.refused) << d.text;
    EXPECT_EQ(d.refused.empty(), d.text.empty());
    if (r.refused != "rule") {
      EXPECT_EQ(d.handler, r.handler);
      EXPECT_EQ(d.sandboxed, r.handler.starts_with("caisson") && r.refused != "named-handler");
    }
  }
}

TEST(Policy, DecidesAboutContainers) {
  Policy policy = parse(kPolicy);
  auto decide = [&](PodFacts p, std::string handler, ContainerFacts c) {
    p.handler = std::move(handler);
    return std::string(policy.decide_container(p, c).refused);
  };
  auto paths = [](std::vector<std::string> p) {
    ContainerFacts c;
    c.host_paths = std::move(p);
    return c;
  };
  auto image = [](std::vector<std::string> names) {
    ContainerFacts c;
    c.images = std::move(names);
    return c;
  };
  EXPECT_EQ(decide(pod("web"), "runc", paths({"/etc"})), "");
  for (auto good : {"/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~empty-dir/x", "/var/lib/kubelet/pods/u-1", "/srv/shared", "/srv/shared/a/b",
                    "/usr/share/zoneinfo", "/usr/share/zoneinfo/UTC"})
    EXPECT_EQ(decide(pod("web"), "caisson", paths({good})), "") << good;
  for (auto bad : {"/etc", "/", "", "relative", "/srv/shared/../../etc", "/srv/sharedness", "/srv", "/srv/shared/./x", "/srv/shared//x", "/var/lib/kubelet",
                   "/var/lib/kubelet/pods", "/var/lib/kubelet/pods/u-2/volumes/x", "/var/lib/kubelet/pods/u-1/../u-2", "/var/lib/kubelet/pods/u-10"})
    EXPECT_EQ(decide(pod("web"), "caisson", paths({"/srv/shared", bad})), "host-path") << bad;
  for (auto uid : {"", ".", "..", "a/b"}) {
    PodFacts p = pod("web");
    p.uid = uid;
    EXPECT_EQ(decide(p, "caisson", paths({std::string("/var/lib/kubelet/pods/") + uid + "/x"})), "host-path") << uid;
  }
  ContainerFacts c;
  c.devices = {"/dev/kvm"};
  EXPECT_EQ(decide(pod("web"), "caisson", c), "device");
  EXPECT_EQ(decide(pod("web"), "runc", c), "");
  c = {};
  c.privileged = true;
  EXPECT_EQ(decide(pod("tenant-a"), "caisson", c), "privileged");
  EXPECT_EQ(decide(pod("web"), "caisson", c), "") << "a rule allows it";
  c = {};
  c.host_pid = true;
  EXPECT_EQ(decide(pod("tenant-a"), "caisson", c), "host-pid");
  // Images: refused outside the sandbox, by any of their names; earlier rules go before.
  EXPECT_EQ(decide(pod("web"), "runc", image({"sha256:aa", "hub.example.org/x:1"})), "image");
  EXPECT_EQ(decide(pod("web"), "", image({"evil"})), "image");
  EXPECT_EQ(decide(pod("web"), "caisson", image({"evil"})), "");
  EXPECT_EQ(decide(pod("web"), "runc", image({"docker.io/library/busybox:latest"})), "");
  EXPECT_EQ(decide(pod("kube-system"), "runc", image({"evil"})), "");
  // A handler that an older policy chose is no reason to refuse what runs.
  EXPECT_EQ(decide(pod("tenant-a"), "runc", image({"good"})), "");
}

TEST(Policy, WithoutASectionTheCautiousValuesHold) {
  Policy p = parse("");
  EXPECT_TRUE(p.is_sandbox("caisson"));
  PodFacts f = pod("x", {}, {}, "caisson");
  f.privileged = true;
  EXPECT_EQ(p.decide_pod(f).refused, "privileged");
  EXPECT_EQ(p.decide_pod(pod("x")).handler, "");
  EXPECT_FALSE(p.wants_images());
}

TEST(Policy, FaultsAreToldWithLineAndNearestName) {
  const std::pair<const char*, const char*> rows[] = {
      {"\nsandbx = 1", "p.toml:2: sandbx: there is no such key; did you mean sandbox?"},
      {"[sandbox]\nhost_path = []", "p.toml:2: sandbox.host_path: there is no such key; did you mean host_paths?"},
      {"[[rule]]\nname = \"a\"\nnamespace = [\"x\"]\nhandler = \"c\"", "rule.namespace: there is no such key; did you mean namespaces?"},
      {"[[rule]]\nname = \"a\"\nzzzzzzzz = 1", "known are name, namespaces"},
      {"[[rule]]\nhandler = \"c\"", "needs a name"},
      {"[[rule]]\nname = \"a\"", "does nothing"},
      {"[[rule]]\nname = \"default\"\nhandler = \"c\"", "choose another name"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c\"\n[[rule]]\nname = \"a\"\nhandler = \"c\"", "two rules are called 'a'"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c\"\nrefuse = \"no\"", "both refuses and chooses"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c d\"", "'c d' is no name of a handler"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c\"\nnamed = \"keeep\"", "must be one of refuse, keep, replace"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c\"\nnamed = \"keep\"\nimages = [\"x\"]", "named can only be \"refuse\" beside images"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c\"\nnamespaces = []", "must not be empty"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c\"\nnamespaces = [1]", "must be a text in quotes"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c\"\nlabels = \"x\"", "must be a table"},
      {"[[rule]]\nname = \"a\"\nhandler = \"c\"\nprivileged = \"yes\"", "must be true or false"},
      {"[[rule]]\nname = \"a\"\nallow = [\"host-netwerk\"]", "did you mean host-network?"},
      {"[rule]\nname = \"a\"", "must be written as [[rule]]"},
      {"[sandbox]\nhandlers = []", "must be a list of 1 to 16"},
      {"[sandbox]\nhost_paths = [\"/\"]", "must be an absolute path other than /"},
      {"[sandbox]\nhost_paths = [\"/a/../b\"]", "must be an absolute path"},
      {"sandbox = 3", "must be a table"},
      {"a = ", "p.toml:1: "},
      {"a = [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "maximum nested value depth of 16"},
      {"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1", "more than 16 parts"},
  };
  for (auto& [text, words] : rows) EXPECT_NE(fault(text).find(words), std::string::npos) << text << "\n" << fault(text);
  EXPECT_NE(fault(std::string("[\0sandbox]", 10)).find("control character"), std::string::npos);
  EXPECT_NE(fault("[\x7f").find("control character"), std::string::npos);
  EXPECT_NE(fault(std::string((1 << 20) + 1, '#')).find("may have 1048576"), std::string::npos);
}

TEST(Names, Patterns) {
  const std::tuple<const char*, const char*, bool> rows[] = {
      {"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a/b", true}, {"a*", "abc", true}, {"a*", "ba", false}, {"*c", "abc", true},
      {"a*c", "abcc", true}, {"a?c", "abc", true}, {"a?c", "ac", false}, {"*a*b*", "xxaxxbxx", true}, {"*a*b*", "xxbxxaxx", false}, {"[a]", "a", false},
      {"***", "x", true}, {"a", "A", false}};
  for (auto& [p, t, want] : rows) EXPECT_EQ(matches(p, t), want) << p << " " << t;
  // No pattern takes more time than the product of the lengths.
  std::string p, t(20000, 'a');
  for (int i = 0; i < 200; i++) p += "*a";
  EXPECT_FALSE(matches(p + "b", t));
}

TEST(Names, HostileTextIsMadePlain) {
  EXPECT_EQ(printable("a\nb\x1b[31m'\"\xff"), "a?b?[31m???");
  EXPECT_EQ(printable(std::string(200, 'x')).size(), 131u);
}

}  // namespace
}  // namespace cri
