// SPDX-License-Identifier: Apache-2.0
// The life of a container, from outside: verbs, exit codes, jails, and nothing left in the end. Needs root.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "runtime/testing/harness.h"

namespace runtime::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Lifecycle : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    before = caisson.leftovers();
  }
  void TearDown() override {
    if (::geteuid() != 0) return;
    if (HasFailure()) {  // a test that stopped halfway must not spoil the next
      std::istringstream ids(caisson({"list", "-q"}).out);
      for (std::string id; std::getline(ids, id);) caisson({"delete", "-f", id});
    }
    // Processes of a killed namespace may take a moment to vanish from /proc.
    EXPECT_TRUE(eventually([&] { return caisson.leftovers() == before; }))
        << "before: " << before.text() << "; after: " << caisson.leftovers().text();
  }
  std::vector<std::string> with_bundle(std::vector<std::string> args) {
    args.insert(args.begin() + 1, {"--bundle", bundle.path});
    return args;
  }
  Scratch scratch;
  Bundle bundle{scratch};
  Caisson caisson{scratch};
  Leftovers before;
};

TEST_F(Lifecycle, RunGivesTheExitCodeAndLeavesNothing) {
  bundle.args({"exit", "42"});
  auto o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.code, 42) << o.err;
  EXPECT_EQ(o.err, "");
}

TEST_F(Lifecycle, RunPassesStandardInputAndOutput) {
  bundle.args({"cat"});
  auto o = caisson(with_bundle({"run", "a"}), "some\nwords\n");
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.out, "some\nwords\n");
}

TEST_F(Lifecycle, CreateStartKillDelete) {
  bundle.args({"sleep"});
  std::string pid_file = scratch.path + "/pid";
  auto o = caisson(with_bundle({"create", "--pid-file", pid_file, "a"}));
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(caisson.status("a"), "created");
  EXPECT_EQ(std::to_string(caisson.pid("a")), read_text(pid_file));
  EXPECT_EQ(caisson({"start", "a"}).code, 0);
  EXPECT_EQ(caisson.status("a"), "running");

  auto twice = caisson({"start", "a"});
  EXPECT_EQ(twice.code, 1);
  EXPECT_NE(twice.err.find("cannot be started: it is running"), std::string::npos) << twice.err;
  auto taken = caisson(with_bundle({"create", "a"}));
  EXPECT_EQ(taken.code, 1);
  EXPECT_NE(taken.err.find("is taken"), std::string::npos) << taken.err;
  auto running = caisson({"delete", "a"});
  EXPECT_EQ(running.code, 1);
  EXPECT_NE(running.err.find("is running"), std::string::npos) << running.err;

  EXPECT_EQ(caisson({"kill", "a", "KILL"}).code, 0);
  EXPECT_TRUE(eventually([&] { return caisson.status("a") == "stopped"; }));
  EXPECT_EQ(caisson({"kill", "a", "KILL"}).code, 1);
  EXPECT_EQ(caisson({"kill", "--all", "a", "KILL"}).code, 0);
  EXPECT_EQ(caisson({"delete", "a"}).code, 0);
  EXPECT_EQ(caisson({"state", "a"}).code, 1);
}

TEST_F(Lifecycle, ForcedDeleteEndsARunningContainer) {
  bundle.args({"sleep"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  EXPECT_EQ(caisson.status("a"), "running");
  EXPECT_EQ(caisson({"delete", "--force", "a"}).code, 0);
  EXPECT_EQ(caisson({"delete", "--force", "a"}).code, 0) << "what does not exist is no failure when forced";
  EXPECT_EQ(caisson({"delete", "a"}).code, 1);
}

TEST_F(Lifecycle, ACreatedContainerCanBeDeleted) {
  ASSERT_EQ(caisson(with_bundle({"create", "a"})).code, 0);
  EXPECT_EQ(caisson({"delete", "a"}).code, 0);
}

TEST_F(Lifecycle, KeepLeavesAStoppedContainer) {
  EXPECT_EQ(caisson(with_bundle({"run", "--keep", "a"})).code, 0);
  EXPECT_EQ(caisson.status("a"), "stopped");
  EXPECT_EQ(caisson({"delete", "a"}).code, 0);
}

TEST_F(Lifecycle, ExecRunsAnotherProgram) {
  bundle.args({"sleep"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  auto o = caisson({"exec", "--env", "X=1", "--env", "Y=2", "--cwd", "/tmp", "--user", "7:8", "a", "report", "-x", "--flag"});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.value("process.cwd"), "/tmp");
  EXPECT_EQ(o.value("process.uid"), "7");
  EXPECT_EQ(o.value("env.A"), "b");
  EXPECT_EQ(o.value("env.X") + o.value("env.Y"), "12");
  EXPECT_EQ(caisson({"exec", "a", "exit", "7"}).code, 7);
  auto refused = caisson({"exec", "a", "refuse"});
  EXPECT_EQ(refused.code, 255);
  EXPECT_NE(refused.err.find("not found"), std::string::npos) << refused.err;
  EXPECT_EQ(caisson({"exec", "missing", "true"}).code, 255);

  write_text(scratch.path + "/process.json", R"({"args": ["exit", "9"], "cwd": "/", "user": {"uid": 1}})");
  EXPECT_EQ(caisson({"exec", "--process", scratch.path + "/process.json", "a"}).code, 9);
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
}

TEST_F(Lifecycle, DetachedExecLeavesAWaiterWithTheExitCode) {
  bundle.args({"sleep"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  // The waiter is adopted by the nearest reaper, as engines arrange it for themselves.
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
  auto o = caisson({"exec", "-d", "--pid-file", scratch.path + "/pid", "a", "sleep"});
  ASSERT_EQ(o.code, 0) << o.err;
  int waiter = atoi(read_text(scratch.path + "/pid").c_str());
  ASSERT_GT(waiter, 1);
  EXPECT_EQ(::kill(waiter, SIGTERM), 0);  // passed on
  int status = 0;
  EXPECT_EQ(::waitpid(waiter, &status, 0), waiter);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 128 + SIGTERM);
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}

TEST_F(Lifecycle, SignalsToRunArePassedOn) {
  bundle.args({"trap"});
  auto r = caisson.start(with_bundle({"run", "a"}));
  ASSERT_TRUE(eventually([&] { return caisson.status("a") == "running"; }));
  ::kill(r.pid, SIGUSR1);
  ::usleep(50000);
  ::kill(r.pid, SIGTERM);
  auto o = Caisson::finish(r);
  EXPECT_EQ(o.code, 128 + SIGTERM);
  EXPECT_EQ(o.out, "usr1\n");
}

TEST_F(Lifecycle, KillSendsTheNamedSignal) {
  bundle.args({"trap"});
  auto r = caisson.start(with_bundle({"run", "a"}));
  ASSERT_TRUE(eventually([&] { return caisson.status("a") == "running"; }));
  EXPECT_EQ(caisson({"kill", "a", "usr1"}).code, 0);
  EXPECT_EQ(caisson({"kill", "a", "0"}).code, 0);
  EXPECT_EQ(caisson({"kill", "a", "65"}).code, 1);
  EXPECT_EQ(caisson({"kill", "a", "NONSENSE"}).code, 1);
  EXPECT_EQ(caisson({"kill", "a", "SIGINT"}).code, 0);
  auto o = Caisson::finish(r);
  EXPECT_EQ(o.code, 128 + SIGINT);
  EXPECT_EQ(o.out, "usr1\n");
}

TEST_F(Lifecycle, ARunInTheForegroundLeavesTheContainerToOtherCommands) {
  bundle.args({"sleep"});
  auto r = caisson.start(with_bundle({"run", "a"}));
  ASSERT_TRUE(eventually([&] { return caisson.status("a") == "running"; }));
  auto paused = caisson({"pause", "a"});
  EXPECT_EQ(paused.code, 0) << paused.err;
  EXPECT_EQ(caisson.status("a"), "paused");
  EXPECT_EQ(caisson({"resume", "a"}).code, 0);
  EXPECT_EQ(caisson({"update", "--pids-limit", "100", "a"}).code, 0);
  EXPECT_EQ(caisson({"delete", "--force", "a"}).code, 0);
  auto o = Caisson::finish(r);
  EXPECT_EQ(o.code, 128 + SIGKILL) << "told by itself, not killed: " << o.err;
  EXPECT_EQ(caisson({"list", "-q"}).out, "");
}

TEST_F(Lifecycle, ExecHandsOverNothingOfItsOwn) {
  // What this program has been given itself is not for others.
  constexpr unsigned kCloexec = 4;
  ASSERT_EQ(syscall(SYS_close_range, 3u, ~0u, kCloexec), 0);
  bundle.args({"sleep"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  // Nobody gave it a descriptor 3: what it opens itself must not be taken for that, its log least of all.
  auto o = caisson({"--log", scratch.path + "/log", "exec", "--preserve-fds", "1", "a", "true"});
  EXPECT_EQ(o.code, 255);
  EXPECT_NE(o.err.find("descriptor 3 is not open"), std::string::npos) << o.err;
  EXPECT_EQ(caisson({"delete", "--force", "a"}).code, 0);
}

TEST_F(Lifecycle, ListAndPsShowContainers) {
  bundle.args({"sleep"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  ASSERT_EQ(caisson(with_bundle({"create", "b"})).code, 0);
  EXPECT_EQ(caisson({"list", "-q"}).out, "a\nb\n");
  auto all = json::parse(caisson({"list", "--format", "json"}).out, nullptr, false);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["status"], "running");
  EXPECT_EQ(all[1]["status"], "created");
  EXPECT_EQ(all[0]["bundle"], bundle.path);
  EXPECT_NE(caisson({"list"}).out.find("running"), std::string::npos);
  EXPECT_EQ(caisson({"ps", "--format", "json", "a"}).out, "[1]\n");
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
  EXPECT_EQ(caisson({"delete", "-f", "b"}).code, 0);
}

TEST_F(Lifecycle, PsShowsNothingThatATerminalObeys) {
  bundle.args({"escape"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  auto o = caisson({"ps", "a", "-o", "state,stat,tty,comm"});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(o.out.begin(), o.out.end(), '\n'), 2) << o.out;
  EXPECT_NE(o.out.find("S?[31m?"), std::string::npos) << o.out;
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
}

TEST_F(Lifecycle, PauseAndResumeFreezeTheWholeSandbox) {
  bundle.args({"sleep"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  EXPECT_EQ(caisson({"pause", "a"}).code, 0);
  EXPECT_EQ(caisson.status("a"), "paused");
  EXPECT_EQ(caisson({"resume", "a"}).code, 0);
  EXPECT_EQ(caisson.status("a"), "running");
  EXPECT_EQ(caisson({"pause", "a"}).code, 0);
  EXPECT_EQ(caisson({"delete", "--force", "a"}).code, 0) << "a frozen one must not hold us up";
}

// A container that others may join is frozen in a group below its own. When it has been thawed and that group cannot be taken away, the
// sentry still learns that it runs.
TEST_F(Lifecycle, AResumeThatFailsHalfwayIsToldToTheSentry) {
  bundle.args({"sleep"});
  bundle.edit([](json& c) { c["annotations"] = {{"io.kubernetes.cri.container-type", "sandbox"}, {"io.kubernetes.cri.sandbox-id", "a"}}; });
  auto running = caisson.start(with_bundle({"run", "a"}));
  ASSERT_TRUE(eventually([&] { return caisson.status("a") == "running"; }));
  ASSERT_EQ(caisson({"pause", "a"}).code, 0);
  EXPECT_EQ(caisson.status("a"), "paused");
  std::string held;
  auto state = json::parse(read_text(caisson.root + "/a/state.json"));
  for (auto& leaf : state["cgroupLeaves"]) {
    if (fs::exists(leaf.get<std::string>() + "/held")) held = leaf.get<std::string>() + "/held";
  }
  ASSERT_NE(held, "");
  ASSERT_TRUE(fs::create_directory(held + "/below"));
  auto o = caisson({"resume", "a"});
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("does not become empty"), std::string::npos) << o.err;
  EXPECT_EQ(caisson.status("a"), "running");
  EXPECT_EQ(::rmdir((held + "/below").c_str()), 0);
  EXPECT_EQ(caisson({"kill", "a", "TERM"}).code, 0);
  EXPECT_EQ(Caisson::finish(running).out, "paused\nresumed\n");
}

// Jails: what the three programs see.
TEST_F(Lifecycle, JailsHoldWhatTheyShould) {
  fs::create_directories(scratch.path + "/volume");
  write_text(scratch.path + "/file", "x");
  bundle.edit([&](json& c) {
    c["process"]["args"] = {"report"};
    c["hostname"] = "box";
    c["mounts"].push_back({{"destination", "/v"}, {"type", "bind"}, {"source", scratch.path + "/volume"}, {"options", {"rbind"}}});
    c["mounts"].push_back({{"destination", "/f"}, {"source", scratch.path + "/file"}, {"options", {"bind", "ro", "nosuid"}}});
  });
  auto o = caisson(with_bundle({"run", "a"}));
  ASSERT_EQ(o.code, 0) << o.err;
  for (const char* who : {"sentry", "zygote"}) {
    auto at = [&](const char* key) { return o.value(std::string(who) + "." + key); };
    EXPECT_EQ(at("cap_permitted"), "0");
    EXPECT_EQ(at("cap_effective"), "0");
    EXPECT_EQ(at("cap_bounding"), "0");
    EXPECT_EQ(at("no_new_privs"), "1");
    EXPECT_EQ(at("dumpable"), "1") << "or the sentry may not read its stubs' memory";
    EXPECT_EQ(at("root"), "") << "an empty root";
    EXPECT_EQ(at("root_write_errno"), std::to_string(EROFS));
    EXPECT_EQ(at("env"), "0");
    EXPECT_EQ(at("groups"), "0");
    EXPECT_EQ(at("core"), "1/1");
    EXPECT_EQ(at("blocked"), "0");
    EXPECT_LE(atoi(at("monotonic").c_str()), 5) << "the host's uptime shows";
    EXPECT_LE(atoi(at("boottime").c_str()), 5) << "the host's uptime shows";
  }
  EXPECT_EQ(o.value("sentry.pid"), "1");
  EXPECT_EQ(o.value("sentry.argv"), "caisson-sentry 3");
  EXPECT_EQ(o.value("sentry.fds"), "0,1,2,3");
  EXPECT_EQ(o.value("zygote.argv"), "zygote");
  EXPECT_EQ(o.value("zygote.ppid"), "1") << "the sentry's child";
  EXPECT_EQ(o.value("zygote.fds"), "3");
  EXPECT_EQ(o.value("zygote.nofile"), "4096/4096");
  EXPECT_EQ(o.value("zygote.personality"), std::to_string(0x0040000)) << "ADDR_NO_RANDOMIZE";
  EXPECT_EQ(o.value("boot.fds"), "2/2");
  EXPECT_EQ(o.value("boot.threads"), "has me");
  // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETFCAP.
  EXPECT_EQ(o.value("gofer.cap_effective"), std::to_string(0x1f | 1LL << 31));
  EXPECT_EQ(o.value("gofer.cap_bounding"), std::to_string(0x1f | 1LL << 31));
  EXPECT_EQ(o.value("gofer.no_new_privs"), "1");
  EXPECT_EQ(o.value("gofer.root"), "0,1,2,shm,store");
  EXPECT_EQ(o.value("gofer.argv"), "caisson-gofer 3 -1 0:ro 1:rw:slave 2:ro:slave");
  EXPECT_EQ(o.value("gofer.attach/0"), "dir ro") << "writes go to the overlay";
  EXPECT_EQ(o.value("gofer.attach/1"), "dir rw");
  EXPECT_EQ(o.value("gofer.attach/2"), "file ro");
  EXPECT_EQ(o.value("gofer.attach/store"), "dir rw");
  EXPECT_EQ(o.value("gofer.mknod_errno"), std::to_string(EPERM));
  EXPECT_EQ(o.value("spec.hostname"), "box");
  EXPECT_EQ(o.value("mount./v"), "gofer 1 0 ");
  EXPECT_EQ(o.value("mount./f"), "gofer 2 3 ");
  EXPECT_EQ(o.value("mount./dev"), "devtmpfs 0 2 mode=755");
}

TEST_F(Lifecycle, HostSeesOwnNamespacesAndIds) {
  bundle.args({"sleep"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "b"})).code, 0);
  int a = caisson.pid("a"), b = caisson.pid("b");
  auto ns = [](int pid, const char* kind) {
    return fs::read_symlink("/proc/" + std::to_string(pid) + "/ns/" + kind).string();
  };
  for (const char* kind : {"user", "mnt", "pid", "ipc", "uts", "net", "time", "cgroup"}) {
    EXPECT_NE(ns(a, kind), ns(::getpid(), kind)) << kind;
    EXPECT_NE(ns(a, kind), ns(b, kind)) << kind;
  }
  auto uid = [](int pid) {
    std::string s = read_text("/proc/" + std::to_string(pid) + "/status");
    return s.substr(s.find("Uid:"), s.find('\n', s.find("Uid:")) - s.find("Uid:"));
  };
  EXPECT_EQ(uid(a).find("\t0\t"), std::string::npos) << uid(a);
  EXPECT_NE(uid(a), uid(b)) << "two sandboxes share a host user";
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
  EXPECT_EQ(caisson({"delete", "-f", "b"}).code, 0);
}

TEST_F(Lifecycle, NetworkNamespaceByPathIsJoined) {
  bundle.edit([&](json& c) {
    c["process"]["args"] = {"sleep"};
    for (auto& n : c["linux"]["namespaces"]) {
      if (n["type"] == "network") n["path"] = "/proc/" + std::to_string(::getpid()) + "/ns/net";
    }
  });
  auto net = [&] { return fs::read_symlink("/proc/" + std::to_string(caisson.pid("a")) + "/ns/net"); };
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  EXPECT_EQ(net(), fs::read_symlink("/proc/self/ns/net"));
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
  auto args = with_bundle({"run", "-d", "a"});
  args.insert(args.begin(), "--network=none");
  ASSERT_EQ(caisson(args).code, 0);
  EXPECT_NE(net(), fs::read_symlink("/proc/self/ns/net"));
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
}

TEST_F(Lifecycle, OverlayNoneOpensTheRootForWriting) {
  bundle.args({"report"});
  EXPECT_EQ(caisson(with_bundle({"run", "--overlay=none", "a"})).value("gofer.attach/0"), "dir rw");
  bundle.edit([](json& c) { c["root"]["readonly"] = true; });
  EXPECT_EQ(caisson(with_bundle({"run", "--overlay=none", "a"})).value("gofer.attach/0"), "dir ro");
  EXPECT_EQ(caisson(with_bundle({"run", "--memory-mode=strict", "--strace", "a"})).value("boot.strict"), "1");
  auto bad = caisson(with_bundle({"run", "--overlay=both", "a"}));
  EXPECT_EQ(bad.code, 1);
}

TEST_F(Lifecycle, DoShowsTheHostsRootWithoutLettingItBeChanged) {
  auto o = caisson({"do", "--no-tty", "report"});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.value("gofer.attach/0"), "dir ro");
  EXPECT_EQ(o.value("process.cwd"), fs::current_path().string());
  EXPECT_EQ(o.value("env.CAISSON_LIBEXEC"), "(none)");
  EXPECT_NE(o.value("env.PATH"), "(none)");
  EXPECT_EQ(caisson({"do", "-T", "exit", "3"}).code, 3);
}

TEST_F(Lifecycle, LimitsLandInTheCgroups) {
  bundle.edit([](json& c) {
    c["process"]["args"] = {"sleep"};
    c["linux"]["resources"] = {{"memory", {{"limit", 134217728}}},
                               {"pids", {{"limit", 50}}},
                               {"cpu", {{"quota", 50000}, {"period", 100000}}}};
  });
  auto o = caisson(with_bundle({"run", "-d", "a"}));
  ASSERT_EQ(o.code, 0) << o.err;
  std::string groups = read_text("/proc/" + std::to_string(caisson.pid("a")) + "/cgroup");
  auto limit = [&](const std::string& v1_controller, const std::string& v1, const std::string& v2) {
    std::istringstream in(groups);
    for (std::string line; std::getline(in, line);) {
      size_t x = line.find(':'), y = line.find(':', x + 1);
      if (line.substr(x + 1, y - x - 1) == v1_controller) {
        return read_text("/sys/fs/cgroup/" + v1_controller + line.substr(y + 1) + "/" + v1);
      }
      if (line.rfind("0::", 0) == 0 && fs::exists("/sys/fs/cgroup" + line.substr(3) + "/" + v2)) {
        return read_text("/sys/fs/cgroup" + line.substr(3) + "/" + v2);
      }
    }
    return std::string("not found in " + groups);
  };
  EXPECT_EQ(limit("memory", "memory.limit_in_bytes", "memory.max"), "134217728\n");
  EXPECT_EQ(limit("pids", "pids.max", "pids.max"), "178\n") << "the sandbox's own threads need room";
  EXPECT_NE(limit("cpu", "cpu.cfs_quota_us", "cpu.max").find("50000"), std::string::npos);
  EXPECT_EQ(caisson({"update", "--memory", "268435456", "a"}).code, 0);
  EXPECT_EQ(limit("memory", "memory.limit_in_bytes", "memory.max"), "268435456\n");
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
}

TEST_F(Lifecycle, ASmallQuotaForbidsSpinning) {
  bundle.args({"report"});
  int host_cpus = atoi(caisson(with_bundle({"run", "a"})).value("boot.cpus").c_str());
  EXPECT_GE(host_cpus, 1);
  bundle.edit([](json& c) { c["linux"]["resources"]["cpu"] = {{"quota", 100000}, {"period", 100000}}; });
  auto o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.value("boot.cpus"), "1");
  EXPECT_EQ(o.value("boot.may_spin"), "0");
  bundle.edit([](json& c) { c["linux"]["resources"]["cpu"] = {{"cpus", "0"}}; });
  o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.value("boot.cpus"), "1");
  EXPECT_EQ(o.value("boot.may_spin"), "0");
}

TEST_F(Lifecycle, CgroupsPathOfTheSpecIsUsedAndItsParentsGoToo) {
  bundle.edit([](json& c) {
    c["process"]["args"] = {"sleep"};
    c["linux"]["cgroupsPath"] = "/caisson-test-parent/leaf";
  });
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  EXPECT_NE(read_text("/proc/" + std::to_string(caisson.pid("a")) + "/cgroup").find("/caisson-test-parent/leaf"), std::string::npos);
  auto second = caisson(with_bundle({"run", "-d", "b"}));
  EXPECT_EQ(second.code, 1) << "a group with processes in it must not be shared: deleting would kill them";
  EXPECT_NE(second.err.find("already holds"), std::string::npos) << second.err;
  EXPECT_EQ(caisson({"delete", "-f", "a"}).code, 0);
  bundle.edit([](json& c) { c["linux"]["cgroupsPath"] = "/"; });
  auto top = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(top.code, 1);
  EXPECT_NE(top.err.find("top of the hierarchy"), std::string::npos) << top.err;
}

TEST_F(Lifecycle, PreservedDescriptorsReachTheProgram) {
  bundle.args({"report"});
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  ::dup2(fds[0], 3);  // inherited by caisson
  ::dup2(fds[1], 4);
  EXPECT_EQ(caisson(with_bundle({"run", "--preserve-fds", "2", "a"})).value("process.fds"), "5");
  // Not for this process, so none of its business; tests/runtime/spec_test.py has those that are.
  caisson.env = {{"LISTEN_FDS", "1"}, {"LISTEN_PID", "1"}};
  auto listening = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(listening.value("process.fds"), "3");
  EXPECT_EQ(listening.value("env.LISTEN_FDS"), "(none)");
  caisson.env.clear();
  auto missing = caisson(with_bundle({"run", "--preserve-fds", "25", "a"}));
  EXPECT_EQ(missing.code, 1);
  EXPECT_NE(missing.err.find("is not open"), std::string::npos) << missing.err;
  ::close(3);
  ::close(4);
}

TEST_F(Lifecycle, HooksGetTheStateAndCanStopTheCreation) {
  std::string log = scratch.path + "/hooks";
  auto hook = [&](const std::string& script) {
    return json::array({{{"path", "/bin/sh"}, {"args", {"sh", "-c", script}}, {"timeout", 2}}});
  };
  bundle.edit([&](json& c) {
    c["hooks"] = {{"prestart", hook("cat > " + log + ".prestart")},
                  {"createRuntime", hook("cat > " + log + ".create")},
                  {"poststart", hook("cat > " + log + ".start")},
                  {"poststop", hook("cat > " + log + ".stop")}};
  });
  auto o = caisson(with_bundle({"run", "a"}));
  ASSERT_EQ(o.code, 0) << o.err;
  for (auto [name, status] : {std::pair{"prestart", "creating"}, {"create", "creating"}, {"start", "running"}, {"stop", "stopped"}}) {
    auto j = json::parse(read_text(log + "." + name), nullptr, false);
    ASSERT_TRUE(j.is_object()) << name;
    EXPECT_EQ(j["status"], status) << name;
    EXPECT_EQ(j["id"], "a");
    EXPECT_EQ(j["bundle"], bundle.path);
  }
  bundle.edit([&](json& c) { c["hooks"] = {{"createRuntime", hook("exit 5")}}; });
  o = caisson(with_bundle({"create", "a"}));
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("createRuntime hook /bin/sh: ended with exit code 5"), std::string::npos) << o.err;
  bundle.edit([&](json& c) { c["hooks"] = {{"createRuntime", hook("sleep 30")}}; });
  o = caisson(with_bundle({"create", "a"}));
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("timeout"), std::string::npos) << o.err;
}

TEST_F(Lifecycle, ConsoleSocketReceivesTheTerminal) {
  bundle.edit([](json& c) {
    c["process"]["terminal"] = true;
    c["process"]["consoleSize"] = {{"height", 33}, {"width", 77}};
    c["process"]["args"] = {"report"};
  });
  auto nobody = caisson(with_bundle({"create", "a"}));
  EXPECT_EQ(nobody.code, 1);
  EXPECT_NE(nobody.err.find("--console-socket"), std::string::npos) << nobody.err;

  std::string path = scratch.path + "/console.sock";
  int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un addr{};
  addr.sun_family = AF_UNIX;
  path.copy(addr.sun_path, sizeof addr.sun_path - 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&addr), sizeof addr), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  auto o = caisson(with_bundle({"create", "--console-socket", path, "a"}));
  ASSERT_EQ(o.code, 0) << o.err;
  int c = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  char data[64] = {};
  iovec iov{data, sizeof data};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr m{};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  ASSERT_GT(::recvmsg(c, &m, MSG_CMSG_CLOEXEC), 0);
  EXPECT_EQ(std::string(data).rfind("/dev/pts/", 0), 0u) << data;
  ASSERT_NE(CMSG_FIRSTHDR(&m), nullptr);
  int master = -1;
  memcpy(&master, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof master);
  EXPECT_EQ(caisson({"start", "a"}).code, 0);
  std::string seen;
  EXPECT_TRUE(eventually([&] {
    pollfd p{master, POLLIN, 0};
    char buf[4096];
    while (::poll(&p, 1, 10) > 0 && (p.revents & POLLIN)) {
      ssize_t n = ::read(master, buf, sizeof buf);
      if (n <= 0) break;
      seen.append(buf, static_cast<size_t>(n));
    }
    return seen.find("terminal=33x77") != std::string::npos;
  })) << seen;
  ::close(master);
  ::close(c);
  ::close(listener);
  EXPECT_TRUE(eventually([&] { return caisson.status("a") == "stopped"; }));
  EXPECT_EQ(caisson({"delete", "a"}).code, 0);
}

TEST_F(Lifecycle, ForegroundTerminalIsRelayed) {
  bundle.edit([](json& c) {
    c["process"]["terminal"] = true;
    c["process"]["args"] = {"report"};
  });
  auto o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("sentry.pid=1\n"), std::string::npos) << "through a terminal, with its line ends: " << o.out;
}

TEST_F(Lifecycle, ErrorsAreTheLastLineOfTheLog) {
  std::string log = scratch.path + "/log";
  auto args = with_bundle({"create", "../x"});
  args.insert(args.begin(), {"--log", log, "--log-format", "json"});
  auto o = caisson(args);
  EXPECT_EQ(o.code, 1);
  std::string text = read_text(log);
  ASSERT_FALSE(text.empty());
  text.pop_back();
  auto j = json::parse(text.substr(text.rfind('\n') + 1), nullptr, false);
  ASSERT_TRUE(j.is_object()) << text;
  EXPECT_EQ(j["level"], "error");
  EXPECT_NE(j["msg"].get<std::string>().find("'../x' is invalid"), std::string::npos);
}

// Failures: every one leaves the host as it was (see TearDown).

TEST_F(Lifecycle, SentryRefusalFailsTheCreation) {
  bundle.args({"refuse"});
  auto o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("\"refuse\": not found"), std::string::npos) << o.err;
  bundle.args({"fail-start"});
  o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("permission denied"), std::string::npos) << o.err;
}

TEST_F(Lifecycle, SentryCrashIsToldInItsOwnWords) {
  bundle.args({"crash"});
  auto o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("the sentry crashed on purpose"), std::string::npos) << o.err;
}

TEST_F(Lifecycle, GoferFailureIsToldInItsOwnWords) {
  write_text(bundle.path + "/rootfs/break-gofer", "");
  auto o = caisson(with_bundle({"run", "a"}));
  // The stand-in sentry does not need its gofer, so the container may have run; but nothing may be left.
  EXPECT_TRUE(o.code == 0 || o.err.find("broken on purpose") != std::string::npos) << o.err;
}

TEST_F(Lifecycle, MissingProgramsAreNamed) {
  caisson.libexec = scratch.path + "/nowhere";
  auto o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("the program caisson-sentry is missing"), std::string::npos) << o.err;
  fs::create_directories(caisson.libexec);
  write_text(caisson.libexec + "/caisson-sentry", "not a program");
  ::chmod((caisson.libexec + "/caisson-sentry").c_str(), 0700);
  o = caisson(with_bundle({"run", "a"}));
  EXPECT_NE(o.err.find("mode 0755"), std::string::npos) << o.err;
  for (const char* p : {"sentry", "gofer", "zygote"}) {
    write_text(caisson.libexec + "/caisson-" + p, "not a program");
    ::chmod((caisson.libexec + "/caisson-" + p).c_str(), 0755);
  }
  o = caisson(with_bundle({"run", "a"}));
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("Exec format error"), std::string::npos) << o.err;
}

TEST_F(Lifecycle, BadBundlesAreRefusedInOneLine) {
  struct Case {
    const char* what;
    std::function<void(json&)> edit;
    const char* words;
  };
  const Case cases[] = {
      {"missing root", [](json& c) { c["root"]["path"] = "nowhere"; }, "root.path"},
      {"root is a file", [](json& c) { c["root"]["path"] = "config.json"; }, "is not a directory"},
      {"missing source", [](json& c) { c["mounts"].push_back({{"destination", "/x"}, {"type", "bind"}, {"source", "/no/such"}}); }, "source /no/such"},
      {"mount over root", [](json& c) { c["mounts"].push_back({{"destination", "/"}, {"type", "tmpfs"}}); }, "hide the whole root"},
      {"unknown type", [](json& c) { c["mounts"].push_back({{"destination", "/x"}, {"type", "nfs"}}); }, "has the type 'nfs'"},
      {"network path", [](json& c) { c["linux"]["namespaces"][1]["path"] = "/no/such/ns"; }, "/no/such/ns"},
      {"user namespace", [](json& c) {
         c["linux"]["namespaces"].push_back({{"type", "user"}});
         c["linux"]["uidMappings"] = json::array({{{"containerID", 0}, {"hostID", 1000}, {"size", 1000}}});
       }, "linux.gidMappings has no containerID 0"},
      {"no args", [](json& c) { c["process"]["args"] = json::array(); }, "process.args is empty"},
      {"cpus", [](json& c) { c["linux"]["resources"]["cpu"]["cpus"] = "900-901"; }, "cpuset.cpus"},
  };
  json good = bundle.config;
  for (auto& t : cases) {
    bundle.config = good;
    bundle.edit(t.edit);
    auto o = caisson(with_bundle({"run", "a"}));
    EXPECT_EQ(o.code, 1) << t.what;
    EXPECT_NE(o.err.find(t.words), std::string::npos) << t.what << ": " << o.err;
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << t.what << ": " << o.err;
  }
  for (const char* text : {"", "{", "[]", "\xff", "{\"a\": 1,}", "null"}) {
    write_text(bundle.path + "/config.json", text);
    auto o = caisson(with_bundle({"run", "a"}));
    EXPECT_EQ(o.code, 1) << text;
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << o.err;
  }
  write_text(bundle.path + "/config.json", std::string(8 << 20, ' '));
  EXPECT_NE(caisson(with_bundle({"run", "a"})).err.find("larger than"), std::string::npos);
  fs::remove(bundle.path + "/config.json");
  EXPECT_NE(caisson(with_bundle({"run", "a"})).err.find("does not exist"), std::string::npos);
  fs::create_directory(bundle.path + "/config.json");
  EXPECT_EQ(caisson(with_bundle({"run", "a"})).code, 1);
  fs::remove(bundle.path + "/config.json");
  ASSERT_EQ(::mkfifo((bundle.path + "/config.json").c_str(), 0600), 0);
  EXPECT_EQ(caisson(with_bundle({"run", "a"})).code, 1) << "and must not wait for a writer";
}

TEST_F(Lifecycle, BadCommandLinesAreRefused) {
  for (auto args : std::vector<std::vector<std::string>>{{}, {"frobnicate"}, {"run"}, {"run", "--nonsense", "a"}, {"start"},
                                                         {"start", "a", "b"}, {"state", "missing"}, {"exec"}, {"checkpoint", "a"},
                                                         {"run", "../x"}, {"run", std::string(1025, 'a')}, {"run", ".hidden"},
                                                         {"--systemd-cgroup", "run", "a"}, {"--log-format", "xml", "list"}}) {
    auto o = caisson(args);
    EXPECT_NE(o.code, 0);
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << (args.empty() ? "" : args[0]) << ": " << o.err;
  }
}

// Crashes: whatever dies, delete --force leaves nothing and nothing hangs.

TEST_F(Lifecycle, KilledSentryMeansStopped) {
  bundle.args({"sleep"});
  ASSERT_EQ(caisson(with_bundle({"run", "-d", "a"})).code, 0);
  ::kill(caisson.pid("a"), SIGKILL);
  EXPECT_TRUE(eventually([&] { return caisson.status("a") == "stopped"; }));
  EXPECT_EQ(caisson({"kill", "a"}).code, 1);
  EXPECT_EQ(caisson({"exec", "a", "true"}).code, 255);
  EXPECT_EQ(caisson({"delete", "a"}).code, 0);
}

TEST_F(Lifecycle, AHangingSentryIsStillKilledAndDeleted) {
  bundle.args({"hang"});
  auto r = caisson.start(with_bundle({"run", "-d", "a"}));
  // start is answered before it hangs.
  EXPECT_EQ(Caisson::finish(r).code, 0);
  time_t begin = time(nullptr);
  EXPECT_EQ(caisson({"delete", "--force", "a"}).code, 0);
  EXPECT_LE(time(nullptr) - begin, 5);
}

TEST_F(Lifecycle, CallerKilledAtAnyMomentLeavesWhatForceRemoves) {
  bundle.args({"sleep"});
  for (int us = 200; us < 40000; us += us / 3 + 300) {
    auto r = caisson.start(with_bundle({"run", "a"}));
    ::usleep(static_cast<useconds_t>(us));
    ::kill(r.pid, SIGKILL);
    Caisson::finish(r);
    time_t begin = time(nullptr);
    auto o = caisson({"delete", "--force", "a"});
    EXPECT_EQ(o.code, 0) << us << " us: " << o.err;
    EXPECT_LE(time(nullptr) - begin, 5);
    ASSERT_TRUE(eventually([&] { return caisson.leftovers() == before; }))
        << "killed after " << us << " us: before " << before.text() << "; after " << caisson.leftovers().text();
  }
}

TEST_F(Lifecycle, ManyCommandsAtOnceLeaveNothing) {
  bundle.args({"sleep"});
  std::vector<int> pids;
  for (int i = 0; i < 8; i++) {
    int pid = ::fork();
    if (pid == 0) {
      unsigned seed = static_cast<unsigned>(i) * 7919 + 1;
      for (int n = 0; n < 6; n++) {
        seed = seed * 1103515245 + 12345;
        std::string id = "c" + std::to_string(seed >> 16 & 1);
        switch (seed >> 20 & 3) {
          case 0: caisson(with_bundle({"create", id})); break;
          case 1: caisson({"start", id}); break;
          case 2: caisson({"kill", id, "KILL"}); break;
          default: caisson({"delete", id}); break;
        }
      }
      ::_exit(0);
    }
    pids.push_back(pid);
  }
  for (int pid : pids) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  for (const char* id : {"c0", "c1"}) EXPECT_EQ(caisson({"delete", "--force", id}).code, 0);
}

TEST_F(Lifecycle, RootlessRunsAsAnOrdinaryUser) {
  bundle.edit([](json& c) { c["process"]["args"] = {"report"}; });
  fs::permissions(scratch.path, fs::perms::all);
  Caisson user = caisson;
  user.uid = 54321;
  user.root = scratch.path + "/user-state";
  user.env = {{"HOME", scratch.path}};
  ASSERT_EQ(::access((CAISSON_FAKES + std::string("/caisson-sentry")).c_str(), X_OK), 0);
  auto o = user(with_bundle({"run", "a"}));
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.value("sentry.cap_bounding"), "0");
  EXPECT_EQ(o.value("sentry.pid"), "1");
  EXPECT_EQ(o.value("zygote.ppid"), "1");
  EXPECT_EQ(o.value("gofer.attach/0"), "dir ro");
  EXPECT_EQ(o.value("gofer.attach/store"), "dir rw");
  EXPECT_EQ(user.leftovers().state_files, 0u);
}

}  // namespace
}  // namespace runtime::testing
