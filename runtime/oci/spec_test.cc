// SPDX-License-Identifier: Apache-2.0
// config.json: what is read, and every refusal names its member.
#include "runtime/oci/spec.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <nlohmann/json.hpp>

namespace runtime::oci {
namespace {

using nlohmann::json;

json good() {
  return json::parse(R"({"ociVersion": "1.0.2", "root": {"path": "rootfs"},
                         "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}}})");
}

base::ResultX<Spec> parse(const json& j) { return parse_spec(j.dump()); }

std::string error_of(const json& j) {
  auto r = parse(j);
  return r.ok() ? "no error" : r.error().text();
}

// The config with the member at `pointer` set to v.
json with(const char* pointer, json v) {
  json j = good();
  j[json::json_pointer(pointer)] = std::move(v);
  return j;
}

TEST(ParseSpec, ReadsWhatItActsOn) {
  json j = good();
  j["ociVersion"] = "1.2.0-rc.1";
  j["hostname"] = "box";
  j["domainname"] = "example.org";
  j["annotations"] = {{"a.b", "c"}};
  j["root"]["readonly"] = true;
  j["process"] = json::parse(R"({
    "terminal": true, "consoleSize": {"height": 24, "width": 80},
    "user": {"uid": 1000, "gid": 100, "umask": 63, "additionalGids": [5, 6]},
    "args": ["/bin/x", "", "y"], "env": ["A=1", "B"], "cwd": "/tmp",
    "capabilities": {"bounding": ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"], "effective": ["CAP_KILL"]},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 18446744073709551615}],
    "noNewPrivileges": true, "oomScoreAdj": -100})");
  j["linux"] = json::parse(R"({
    "namespaces": [{"type": "network", "path": "/run/netns/x"}, {"type": "pid"}],
    "cgroupsPath": "/a/b",
    "resources": {"memory": {"limit": 1048576, "swap": -1, "reservation": 0}, "cpu": {"quota": 50000, "period": 100000,
                  "shares": 512, "cpus": "0-1", "mems": "0"}, "pids": {"limit": 10}, "unified": {"memory.high": "1000"},
                  "devices": [{"allow": false, "access": "rwm"}]},
    "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]})");
  j["hooks"] = json::parse(R"({"poststop": [{"path": "/bin/true", "args": ["true"], "timeout": 3}]})");
  auto r = parse(j);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->process.args, (std::vector<std::string>{"/bin/x", "", "y"}));
  EXPECT_EQ(r->process.uid, 1000u);
  EXPECT_EQ(r->process.groups, (std::vector<uint32_t>{5, 6}));
  EXPECT_EQ(r->process.umask, 077u);
  EXPECT_EQ(r->process.rows, 24);
  EXPECT_EQ(r->process.cols, 80);
  EXPECT_EQ(r->process.cap_bounding, 1u | uint64_t{1} << 40);
  EXPECT_EQ(r->process.cap_effective, uint64_t{1} << 5);
  ASSERT_EQ(r->process.rlimits.size(), 1u);
  EXPECT_EQ(r->process.rlimits[0].resource, static_cast<uint32_t>(RLIMIT_NOFILE));
  EXPECT_EQ(r->process.rlimits[0].hard, UINT64_MAX);
  EXPECT_EQ(r->process.oom_score_adj, -100);
  EXPECT_TRUE(r->process.no_new_privs && r->process.terminal && r->root_readonly);
  EXPECT_EQ(r->find_namespace("network")->path, "/run/netns/x");
  EXPECT_EQ(r->find_namespace("ipc"), nullptr);
  EXPECT_EQ(r->resources.memory_limit, 1048576);
  EXPECT_EQ(r->resources.memory_swap, -1);
  EXPECT_FALSE(r->resources.memory_reservation.has_value()) << "0 is not set";
  EXPECT_EQ(r->resources.pids_limit, 10);
  EXPECT_EQ(r->resources.cpus, "0-1");
  EXPECT_EQ(r->resources.unified.at(0).second, "1000");
  EXPECT_EQ(r->hooks.poststop.at(0).timeout_s, 3);
  EXPECT_EQ(r->annotations.at("a.b"), "c");
  EXPECT_TRUE(r->warnings.empty()) << r->warnings[0];
}

TEST(ParseSpec, NullAndEmptyCountAsAbsent) {
  json j = good();
  for (const char* name : {"hostname", "mounts", "hooks", "annotations", "linux"}) j[name] = nullptr;
  for (const char* name : {"env", "capabilities", "rlimits", "consoleSize", "oomScoreAdj", "apparmorProfile", "terminal"}) {
    j["process"][name] = nullptr;
  }
  auto r = parse(j);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(r->warnings.empty());
  EXPECT_EQ(r->process.umask, 022u);
  j["linux"] = json::parse(R"({"seccomp": null, "devices": [], "sysctl": {}, "mountLabel": "", "resources": {"memory": {}}})");
  r = parse(j);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(r->warnings.empty());
}

TEST(ParseSpec, WrongTypesNameTheMember) {
  struct Case {
    const char* pointer;
    json value;
    const char* words;
  };
  const Case cases[] = {
      {"/process/args", "sh", "process.args is \"sh\", must be a list"},
      {"/process/args/0", 1, "process.args[0] is 1, must be a string"},
      {"/process/args", json::array(), "process.args is empty"},
      {"/process/args/0", "", "process.args starts with an empty string"},
      {"/process/args/0", std::string("a\0b", 3), "process.args[0] holds a NUL character"},
      {"/process/env", json::object(), "process.env is object, must be a list"},
      {"/process/cwd", "tmp", "process.cwd is 'tmp': it must be an absolute path"},
      {"/process/cwd", "", "process.cwd is ''"},
      {"/process/terminal", "yes", "process.terminal is \"yes\", must be true or false"},
      {"/process/user", 0, "process.user is 0, must be an object"},
      {"/process/user/uid", -1, "process.user.uid is -1, must be a whole number from 0 to 4294967294"},
      {"/process/user/uid", 4294967295u, "process.user.uid is 4294967295"},
      {"/process/user/uid", 1.5, "process.user.uid is 1.5"},
      {"/process/user/additionalGids", json{1, "x"}, "process.user.additionalGids[1] is \"x\""},
      {"/process/rlimits", json::parse(R"([{"type": "RLIMIT_X", "soft": 1, "hard": 1}])"), "process.rlimits[0].type is 'RLIMIT_X'"},
      {"/process/rlimits", json::parse(R"([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}])"), "soft limit 2 above its hard limit 1"},
      {"/process/rlimits", json::parse(R"([{"type": "RLIMIT_CORE"}, {"type": "RLIMIT_CORE"}])"), "a second time"},
      {"/process/oomScoreAdj", 1001, "process.oomScoreAdj is 1001"},
      {"/process/capabilities", json::array(), "process.capabilities"},
      {"/process", nullptr, "process is missing"},
      {"/root", nullptr, "root.path is missing"},
      {"/root/path", 5, "root.path is 5, must be a string"},
      {"/ociVersion", nullptr, "ociVersion is missing"},
      {"/ociVersion", "2.0.0", "ociVersion is '2.0.0': only 1.x"},
      {"/hostname", std::string(65, 'a'), "hostname is longer than 64"},
      {"/mounts", json::object(), "mounts is object, must be a list"},
      {"/mounts", json::parse(R"([{"type": "tmpfs"}])"), "mounts[0].destination is missing"},
      {"/mounts", json::parse(R"([{"destination": "/x", "type": "bind", "options": ["idmap"]}])"), "'idmap'"},
      {"/mounts", json::parse(R"([{"destination": "/x", "type": "bind", "options": ["size=3"]}])"), "are not known"},
      {"/linux/namespaces", json::parse(R"([{"type": "pid"}, {"type": "pid"}])"), "linux.namespaces[1].type names pid a second time"},
      {"/linux/namespaces", json::parse(R"([{"type": "net"}])"), "linux.namespaces[0].type is 'net'"},
      {"/linux/namespaces", json::parse(R"([{"type": "network", "path": "x"}])"), "absolute path"},
      {"/linux/namespaces", json::parse(R"([{"type": "user", "path": "/x"}])"), "joins a user namespace"},
      {"/linux/resources/memory/limit", "1g", "linux.resources.memory.limit is \"1g\""},
      {"/linux/resources/memory/limit", 9223372036854775808u, "linux.resources.memory.limit"},
      {"/linux/resources/pids/limit", 1e3, "linux.resources.pids.limit is 1000.0"},
      {"/linux/maskedPaths", json{"proc"}, "linux.maskedPaths[0] is 'proc'"},
      {"/linux/rootfsPropagation", "sometimes", "linux.rootfsPropagation is 'sometimes'"},
      {"/linux/personality/domain", "SOLARIS", "must be LINUX or LINUX32"},
      {"/process/execCPUAffinity", json{{"final", "1,"}}, "must be a list of CPUs"},
      {"/process/execCPUAffinity", json{{"initial", "0-99999999999"}}, "must be a list of CPUs"},
      {"/hooks/prestart", json::parse(R"([{"path": "x"}])"), "hooks.prestart[0].path is 'x'"},
      {"/hooks/startContainer", json::parse(R"([{"path": "x"}])"), "hooks.startContainer[0].path is 'x'"},
      {"/linux/seccomp", json{{"defaultAction", "SCMP_ACT_MAYBE"}}, "linux.seccomp.defaultAction is 'SCMP_ACT_MAYBE'"},
      {"/linux/seccomp", json{{"defaultAction", "SCMP_ACT_NOTIFY"}}, "SCMP_ACT_NOTIFY"},
      {"/linux/sysctl", json{{"../etc", "1"}}, "linux.sysctl names '../etc'"},
      {"/linux/resources/blockIO", json{{"weight", 1}}, "must be 10 to 1000"},
      {"/linux/resources/memory/swappiness", json(101), "must be 0 to 100"},
      {"/linux/resources/hugepageLimits", json::parse(R"([{"pageSize": "../x", "limit": 1}])"), "must be a size such as 2MB"},
      {"/annotations", json::parse(R"({"a": 1})"), "annotations.a is 1, must be a string"},
  };
  for (auto& t : cases) {
    std::string text = error_of(with(t.pointer, t.value));
    EXPECT_NE(text.find(t.words), std::string::npos) << t.pointer << ": " << text;
  }
}

TEST(ParseSpec, SeccompProfile) {
  auto r = parse(with("/linux/seccomp", json::parse(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
    "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
    {"names": ["clone"], "action": "SCMP_ACT_ERRNO",
     "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]})")));
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(r->warnings.empty());
  EXPECT_TRUE(r->seccomp.given);
  EXPECT_EQ(r->seccomp.default_action, 0x00050000u | 38);
  ASSERT_EQ(r->seccomp.rules.size(), 2u);
  EXPECT_EQ(r->seccomp.rules[0].action, 0x7fff0000u);
  EXPECT_EQ(r->seccomp.rules[1].action, 0x00050000u | EPERM);
  EXPECT_EQ(r->seccomp.rules[1].args[0].op, 7u);
  EXPECT_EQ(r->seccomp.rules[1].args[0].value, 2114060288u);
  for (const char* bad : {R"({"defaultAction": "SCMP_ACT_NOTIFY"})", R"({"defaultAction": "NO"})", R"({"syscalls": []})",
                          R"({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1})",
                          R"({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"})",
                          R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]})",
                          R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_ERRNO",
                              "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]})"})
    EXPECT_FALSE(parse(with("/linux/seccomp", json::parse(bad))).ok()) << bad;
}

TEST(ParseSpec, UnsupportedAndUnknownAreWarnedOf) {
  for (auto [pointer, value] : {std::pair{"/linux/devices", json::parse(R"([{"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}])")},
                                {"/process/apparmorProfile", json("docker-default")},
                                {"/process/nonsense", json(1)},
                                {"/linux/resources/memory/kernel", json(4096)},
                                {"/process/capabilities/bounding", json{"CAP_FUTURE"}},
                                {"/windows", json{{"layerFolders", {"x"}}}}}) {
    auto r = parse(with(pointer, value));
    ASSERT_TRUE(r.ok()) << pointer << ": " << r.error().text();
    EXPECT_EQ(r->warnings.size(), 1u) << pointer;
  }
}

TEST(ParseSpec, HostileDocumentsAreBounded) {
  EXPECT_FALSE(parse_spec("").ok());
  EXPECT_FALSE(parse_spec("null").ok());
  EXPECT_FALSE(parse_spec("{\"a\": \"\xff\xfe\"}").ok());
  EXPECT_FALSE(parse_spec("{\"a\": 1} {}").ok());
  EXPECT_FALSE(parse_spec("{\"a\": NaN}").ok());
  std::string deep(1000000, '[');
  EXPECT_NE(parse_spec(deep).error().text().find("nests deeper"), std::string::npos);
  std::string nested;
  for (int i = 0; i < 100; i++) nested += "{\"a\":";
  EXPECT_NE(parse_spec(nested).error().text().find("nests deeper"), std::string::npos);
  EXPECT_NE(parse_spec(std::string(kMaxConfig + 1, ' ')).error().text().find("bytes long"), std::string::npos);
  // Brackets in strings do not count, also behind escaped quotes.
  EXPECT_TRUE(parse(with("/hostname", std::string(60, '['))).ok());
  EXPECT_TRUE(parse(with("/annotations/x", "\"" + std::string(500, '{') + "\\")).ok());
  // Many unknown members do not make an endless list of warnings.
  json j = good();
  for (int i = 0; i < 5000; i++) j["unknown" + std::to_string(i)] = i;
  auto r = parse(j);
  ASSERT_TRUE(r.ok());
  EXPECT_LE(r->warnings.size(), 64u);
}

TEST(ParseSpec, TheDefaultSpecIsUnderstoodWithoutAWarning) {
  for (bool rootless : {false, true}) {
    auto r = parse_spec(default_spec(rootless, 1000, 1000));
    ASSERT_TRUE(r.ok()) << r.error().text();
    EXPECT_TRUE(r->warnings.empty()) << r->warnings[0];
    EXPECT_EQ(r->mounts.size(), 7u);
    EXPECT_EQ(r->find_namespace("user") != nullptr, rootless);
  }
}

TEST(ParseProcess, IsTheProcessObjectAlone) {
  auto r = parse_process(R"({"args": ["a"], "cwd": "/", "user": {"uid": 3}})", nullptr);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->uid, 3u);
  EXPECT_EQ(parse_process(R"({"args": [], "cwd": "/"})", nullptr).error().text(), "args is empty: it must name the program to run");
}

TEST(MountOptions, BecomeFlagsAndData) {
  auto parse_options = [](std::string type, std::vector<std::string> options) {
    return parse_mount_options({"/x", std::move(type), "src", std::move(options)});
  };
  auto r = parse_options("tmpfs", {"nosuid", "noexec", "mode=1777", "size=64m", "ro", "rw"});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->flags, static_cast<uint64_t>(MS_NOSUID | MS_NOEXEC)) << "the later of ro and rw holds";
  EXPECT_EQ(r->data, "mode=1777,size=64m");
  EXPECT_FALSE(r->bind);
  r = parse_options("bind", {"rbind", "rprivate", "rro"});
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(r->bind && r->recursive);
  EXPECT_EQ(r->flags, static_cast<uint64_t>(MS_RDONLY));
  r = parse_options("none", {"bind"});
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(r->bind && !r->recursive);
  r = parse_options("bind", {"rshared"});
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(r->shared);
  // In their order, and what was private has nobody to be a slave of.
  EXPECT_FALSE(parse_options("bind", {"rslave"})->apart);
  EXPECT_FALSE(parse_options("bind", {})->apart);
  EXPECT_TRUE(parse_options("bind", {"private", "rslave"})->apart);
  for (const char* last : {"private", "rprivate", "unbindable", "runbindable"}) {
    EXPECT_EQ(parse_options("bind", {"rshared", last})->unbindable, std::string_view(last).ends_with("unbindable")) << last;
    EXPECT_FALSE(parse_options("bind", {"rshared", last})->shared) << last;
    EXPECT_TRUE(parse_options("bind", {"rshared", last})->apart) << last;
  }
  EXPECT_FALSE(parse_options("bind", {"shared", "slave"})->shared);
  EXPECT_TRUE(parse_options("tmpfs", {"unbindable", "rslave"})->unbindable);
  EXPECT_FALSE(parse_options("tmpfs", {"unbindable", "rshared"})->unbindable);
  r = parse_options("tmpfs", {"relatime", "strictatime", "noatime"});
  EXPECT_EQ(r->flags, static_cast<uint64_t>(MS_NOATIME));
  EXPECT_TRUE(parse_options("tmpfs", {"tmpcopyup"})->copy_up);
  EXPECT_FALSE(parse_options("bind", {"tmpcopyup"}).ok());
}

TEST(Capabilities, ByNameWithAndWithoutPrefix) {
  EXPECT_EQ(capability_number("CAP_CHOWN"), 0);
  EXPECT_EQ(capability_number("sys_admin"), 21);
  EXPECT_EQ(capability_number("CAP_CHECKPOINT_RESTORE"), 40);
  EXPECT_FALSE(capability_number("CAP_").has_value());
  EXPECT_FALSE(capability_number("").has_value());
}

}  // namespace
}  // namespace runtime::oci
