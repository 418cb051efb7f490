// SPDX-License-Identifier: Apache-2.0
// Each case of the guest program in a container of its own: the whole kernel over real stubs, files in a tmpfs.
#include <gtest/gtest.h>
#include <stdio.h>

#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>

#include "base/sys.h"
#include "sentry/fs/host/host_file.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/net/host/host.h"
#include "sentry/syscalls/syscalls.h"
#include "tests/platform/harness.h"

namespace platform_test {
namespace {

constexpr const char* kBusybox = "/usr/bin/busybox";

std::string image_of(const char* path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  FILE* f = popen(KERNEL_GUEST " --list", "r");
  char line[200];
  while (f && fgets(line, sizeof line, f)) names.emplace_back(line, strcspn(line, "\n"));
  if (f) pclose(f);
  return names;
}

Ref<auth::Credentials> root() {
  auto c = make_ref<auth::Credentials>();
  c->cap_effective = c->cap_permitted = c->cap_bounding = auth::kAllCaps;
  return c;
}

// A kernel with a root file system that holds the guest program; lives as long as the test program.
class Sandbox {
 public:
  static Sandbox& get() {
    static Sandbox* s = new Sandbox();
    return *s;
  }

  // The exit status of the container's init, or nothing after a minute.
  std::optional<int> run(std::vector<std::string> args) {
    on_fiber([&] { start(args); });
    if (!group_) return std::nullopt;
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    std::optional<kernel::ExitStatus> status;
    while (!(status = group_->exit_status()) && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!status) {
      group_->send_signal(kernel::SignalInfo::user(SIGKILL, SI_USER, 0, 0));
      auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
      while (!group_->exit_status() && std::chrono::steady_clock::now() < patience)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      EXPECT_TRUE(group_->exit_status().has_value()) << "SIGKILL does not end it";
    }
    group_ = nullptr;
    if (!status) return std::nullopt;
    return status->wait_status;
  }
  std::string error;

 private:
  Sandbox() : calls_(syscalls::make_dispatcher({.strace = getenv("CAISSON_TEST_STRACE") != nullptr})) {
    auto d = syscalls::descriptors();
    World::Options o;
    o.descriptors.assign(d.begin(), d.end());
    if (const char* w = getenv("CAISSON_TEST_WORKERS")) o.workers = static_cast<unsigned>(atoi(w));
    world_ = std::make_unique<World>(o);
    kernel_ = std::make_unique<kernel::Kernel>(*calls_);
    kernel_->set_machine({.cpus = 2, .memory_bytes = 1ull << 30});
    if (getenv("CAISSON_TEST_HOST_SOCKETS")) net::host::enable();
    on_fiber([&] { make_root(); });
  }

  void make_root() {
    fs::tmpfs::Options o;
    o.mode = 0755;
    o.backing = fs::common::memfd_backing();
    mounts_ = vfs::MountNamespace::create(fs::tmpfs::create(o), 0, "root");
    put("/kernel_guest", image_of(KERNEL_GUEST));
    put("/busybox", image_of(kBusybox));
    // Background jobs of a shell read it; empty is enough.
    CHECK(vfs::make_directory({*mounts_, mounts_->root(), mounts_->root(), root()}, "/dev", 0755).ok());
    put("/dev/null", "");
  }

  void put(const char* path, const std::string& image) {
    vfs::WalkContext c{*mounts_, mounts_->root(), mounts_->root(), root()};
    auto f = vfs::open(c, path, O_CREAT | O_WRONLY, 0755, vfs::kFollow);
    CHECK(f.ok());
    int64_t pos = 0;
    auto n = (*f)->write({reinterpret_cast<const std::byte*>(image.data()), image.size()}, &pos, {});
    CHECK(n.ok() && *n == image.size());
  }

  struct Storage final : kernel::FileSystems {
    Result<Ref<vfs::FileSystem>> make(const std::string& type, const std::string& data) override {
      kernel::Task& t = kernel::Task::current();
      if (type == "proc") return fs::proc::create(t.kernel(), Ref<kernel::Container>(t.container()));
      if (type != "tmpfs") return kENODEV;
      fs::tmpfs::Options o;
      o.backing = fs::common::memfd_backing();
      o.uid = t.own_credentials().fsuid;
      o.gid = t.own_credentials().fsgid;
      return fs::tmpfs::create(TRY(fs::tmpfs::parse_options(data, o, 1ull << 30)));
    }
    Result<Ref<vfs::File>> make_memfd(std::string_view name, bool allow_sealing, uint32_t mode,
                                      const Ref<auth::Credentials>& cred) override {
      return fs::tmpfs::create_memfd(name, allow_sealing, mode, fs::common::memfd_backing(), cred);
    }
  };

  void start(const std::vector<std::string>& args) {
    auto uts = make_ref<kernel::UtsNamespace>("sandbox", "(none)");
    auto container = make_ref<kernel::Container>("test", Ref<platform::Zygote>(world_->zygote()), mounts_.get_ref(), uts,
                                                 kernel::ContainerLimits{.memory_bytes = 0, .cpus = 0, .pids = 200});
    container->set_file_systems(std::make_unique<Storage>());
    kernel::ProcessSpec spec{.args = args, .env = {"PATH=/", "HOME=/"}, .cwd = "/", .credentials = root(), .rlimits = {}, .files = {}};
    for (int fd : {0, 1, 2}) {
      auto host = sys::dup_cloexec(fd == 0 ? open("/dev/null", O_RDONLY) : 2);
      CHECK(host.ok());
      auto file = fs::host::from_host_fd(std::move(*host), spec.credentials);
      CHECK(file.ok());
      spec.files.push_back(*file);
    }
    auto g = kernel_->create_process(container, spec);
    if (!g.ok()) {
      error = std::string(g.error().name());
      return;
    }
    group_ = *g;
    kernel_->start_process(**g);
  }

  std::unique_ptr<kernel::CallHandler> calls_;
  std::unique_ptr<World> world_;
  std::unique_ptr<kernel::Kernel> kernel_;
  RefOrNull<vfs::MountNamespace> mounts_;
  RefOrNull<kernel::ThreadGroup> group_;
};

class Guest : public testing::TestWithParam<std::string> {};

TEST_P(Guest, CasePasses) {
  auto status = Sandbox::get().run({"/kernel_guest", "--one", GetParam()});
  ASSERT_TRUE(status.has_value()) << "does not end " << Sandbox::get().error;
  EXPECT_EQ(*status, 0);
}
INSTANTIATE_TEST_SUITE_P(Kernel, Guest, testing::ValuesIn(case_names()), [](const auto& i) { return i.param; });

// Signals that the kernel forces end an init as well.
TEST(Programs, AnInitThatCrashesEnds) {
  if (!std::string_view(KERNEL_GUEST).ends_with("kernel_guest")) GTEST_SKIP() << "another program's tests";
  auto status = Sandbox::get().run({"/kernel_guest", "--crash"});
  ASSERT_TRUE(status.has_value()) << "does not end";
  EXPECT_EQ(*status & 0x7f, SIGSEGV);
}

// A shell with pipelines, subshells, traps and background jobs; 42 if everything came out right.
TEST(Programs, Shell) {
  if (access(kBusybox, X_OK) != 0) GTEST_SKIP() << "no busybox";
  auto status = Sandbox::get().run({"/busybox", "sh", "-c", R"SH(
    B=/busybox
    i=0; while [ $i -lt 30 ]; do $B true || exit 1; i=$((i+1)); done
    [ "$(echo a b c | $B wc -w)" = 3 ] || exit 2
    [ "$($B seq 1 1000 | $B sort -r | $B head -n 1)" = 999 ] || exit 3
    (exit 5); [ $? = 5 ] || exit 4
    $B false && exit 6
    trap 'got=yes' USR1; kill -USR1 $$; [ "$got" = yes ] || exit 7
    $B sleep 0.05 & pid=$!; wait $pid || exit 8
    $B sleep 10 & pid=$!; kill $pid; wait $pid; [ $? = 143 ] || exit 9
    $B yes | $B head -n 1000 | $B md5sum > /sum; [ -s /sum ] || exit 10
    $B dd if=/busybox bs=4096 2>/dev/null | $B cmp - /busybox || exit 11
    exit 42)SH"});
  ASSERT_TRUE(status.has_value()) << Sandbox::get().error;
  EXPECT_EQ(*status, 42 << 8);
}

TEST(Start, FailuresAreErrnos) {
  EXPECT_FALSE(Sandbox::get().run({"/no/such/program"}).has_value());
  EXPECT_EQ(Sandbox::get().error, "ENOENT");
  EXPECT_FALSE(Sandbox::get().run({"/"}).has_value());
  EXPECT_EQ(Sandbox::get().error, "EACCES");
}

TEST(Start, ACommandIsLookedForInPath) {
  auto status = Sandbox::get().run({"kernel_guest", "--exit", "6"});
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(*status, 6 << 8);
}

}  // namespace
}  // namespace platform_test
