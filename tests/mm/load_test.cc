// SPDX-License-Identifier: Apache-2.0
// The loader with real programs of the machine, under the least kernel that lets them print and end.
#include <gtest/gtest.h>

#include <asm/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/sys.h"
#include "sentry/kernel/loader/loader.h"
#include "tests/platform/harness.h"

namespace platform_test {
namespace {

class HostMappable : public mm::Mappable {
 public:
  explicit HostMappable(int fd) : fd_(fd) {}
  Result<mm::MapFd> map_fd(bool writable) override {
    if (writable) return kEACCES;
    return mm::MapFd{fd_, key_, 0};
  }
  uint64_t device() const override { return 1; }
  uint64_t inode_number() const override { return key_; }
  std::string path() const override { return "/host"; }

 private:
  int fd_;
  uint64_t key_ = mm::new_map_key();
};

class HostFile : public vfs::File {
 public:
  HostFile(base::Fd fd, const vfs::Path& p, Ref<auth::Credentials> c)
      : File(vfs::FileKind::plain, p, p.inode().get_ref(), O_RDONLY, std::move(c)), fd_(std::move(fd)) {}
  Result<size_t> read(std::span<std::byte> dst, int64_t* pos, vfs::IoFlags) override {
    size_t n = TRY(sys::pread(fd_.get(), dst.data(), dst.size(), *pos));
    *pos += static_cast<int64_t>(n);
    return n;
  }
  Result<Ref<mm::Mappable>> mappable() override { return Ref<mm::Mappable>(map_); }
  int fd() const { return fd_.get(); }

 private:
  base::Fd fd_;
  Ref<mm::Mappable> map_ = make_ref<HostMappable>(fd_.get());
};

Ref<auth::Credentials> nobody() {
  auto c = make_ref<auth::Credentials>();
  c->uid = c->euid = 65534;
  c->gid = c->egid = 65533;
  return c;
}

Result<Ref<vfs::File>> open_host(const std::string& path) {
  base::Fd fd = TRY(sys::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  auto cred = nobody();
  return Ref<vfs::File>(make_ref<HostFile>(std::move(fd), vfs::make_anonymous_path("host", S_IFREG | 0755, *cred), cred));
}

class HostOpener final : public kernel::ProgramOpener {
 public:
  Result<Ref<vfs::File>> open_program(std::string_view path) override {
    opened.emplace_back(path);
    return open_host(std::string(path));
  }
  std::vector<std::string> opened;
};

// Runs a program until exit_group; what it wrote to descriptor 1.
struct LittleKernel {
  Result<int> start(World& w, const std::string& path, std::vector<std::string> args, std::vector<std::string> env = {}) {
    kernel::ExecRequest r{TRY(open_host(path)), path, std::move(args), std::move(env), false};
    kernel::ResolvedProgram p = TRY(kernel::resolve_program(std::move(r), opener));
    Ref<Context> c = TRY(w.zygote().new_process());
    c->set_fiber(sched::current());
    context = c;
    space = mm::AddressSpace::create(c->space());
    auto cred = nobody();
    kernel::LoadParameters lp{.credentials = *cred, .secure = false, .limits = {}, .random = {1, 2, 3, 4, 5, 6, 7, 8},
                              .randomize = true, .vvar_address = w.zygote().vvar_address(),
                              .vdso_address = w.zygote().vdso_address(), .vdso_length = w.zygote().vdso_length()};
    kernel::LoadedProgram start = TRY(kernel::load_program(*c, *space, p, opener, lp));
    arch::Registers regs{};
    regs.rip = start.entry;
    regs.rsp = start.stack_pointer;
    c->set_registers(regs, true);
    return go();
  }

  int go() {
    Context& c = *context;
    for (int calls = 0; calls < 20000; calls++) {
      EventKind e = c.resume();
      if (c.memory_call_error() != 0) {
        c.set_result(space->on_memory_call_failed(c, c.memory_call_error()));
        continue;
      }
      if (e == EventKind::fault) {
        if (space->handle_fault(c, c.fault())) continue;
        ADD_FAILURE() << "fault " << c.fault().signo << " at " << std::hex << c.fault().address << " ip " << c.fault().ip;
        return -1;
      }
      if (e != EventKind::syscall) {
        ADD_FAILURE() << "event " << static_cast<int>(e);
        return -1;
      }
      const platform::Call call = c.call();
      if (call.number == SYS_exit_group) return static_cast<int>(call.args[0]);
      auto result = handle(c, call);
      c.set_result(result.ok() ? result.value() : -result.error().value());
    }
    ADD_FAILURE() << "does not end";
    return -1;
  }

  Result<long> handle(Context& c, const platform::Call& call) {
    const uint64_t* a = call.args;
    switch (call.number) {
      case SYS_arch_prctl:
        if (a[0] != ARCH_SET_FS) return kEINVAL;
        c.set_fs_base(a[1]);
        return 0L;
      case SYS_brk:
        return TRY(space->brk(c, a[0]));
      case SYS_mmap: {
        mm::MapRequest r;
        r.address = a[0];
        r.length = a[1];
        r.prot = static_cast<int>(a[2]);
        r.flags = static_cast<int>(a[3]);
        r.offset = static_cast<int64_t>(a[5]);
        if (!(r.flags & MAP_ANONYMOUS)) {
          auto f = files.find(static_cast<int>(a[4]));
          if (f == files.end()) return kEBADF;
          r.file = TRY(f->second->mappable());
        }
        return TRY(space->map(c, r));
      }
      case SYS_munmap:
        TRY(space->unmap(c, a[0], a[1]));
        return 0L;
      case SYS_mprotect:
        TRY(space->protect(c, a[0], a[1], static_cast<int>(a[2])));
        return 0L;
      case SYS_openat: {
        std::string path = TRY(c.copy_in_string(a[1], 4096));
        int n = 3 + static_cast<int>(files.size());
        files.emplace(n, TRY(open_host(path)));
        return static_cast<long>(n);
      }
      case SYS_close:
        return 0L;
      case SYS_read:
      case SYS_pread64: {
        auto f = files.find(static_cast<int>(a[0]));
        if (f == files.end()) return kEBADF;
        std::vector<std::byte> buffer(std::min<size_t>(a[2], 65536));
        int64_t at = call.number == SYS_read ? f->second->position : static_cast<int64_t>(a[3]);
        size_t n = TRY(f->second->read(buffer, &at, {}));
        if (call.number == SYS_read) f->second->position = at;
        TRY(c.copy_out(a[1], buffer.data(), n));
        return n;
      }
      case SYS_newfstatat: {
        struct stat st{};
        auto f = files.find(static_cast<int>(a[0]));
        if (f != files.end()) TRY(sys::fstat(static_cast<HostFile*>(f->second.get())->fd(), &st));
        else st.st_mode = S_IFCHR | 0600;
        TRY(c.copy_out(a[2], &st, sizeof st));
        return 0L;
      }
      case SYS_write: {
        std::string s(a[2], '\0');
        TRY(c.copy_in(s.data(), a[1], s.size()));
        output += s;
        return s.size();
      }
      case SYS_getrandom: {
        std::vector<std::byte> zero(std::min<size_t>(a[1], 256));
        TRY(c.copy_out(a[0], zero.data(), zero.size()));
        return zero.size();
      }
      case SYS_set_tid_address:
        return 1L;
      case SYS_set_robust_list:
        return 0L;
      case SYS_getuid:
      case SYS_geteuid:
        return 65534L;
      default:
        return kENOSYS;
    }
  }

  HostOpener opener;
  RefOrNull<Context> context;
  RefOrNull<mm::AddressSpace> space;
  std::map<int, Ref<vfs::File>> files;
  std::string output;
};

class Load : public testing::Test {
 protected:
  void SetUp() override { world = std::make_unique<World>(World::Options{}); }
  void TearDown() override {
    world.reset();
    for (const std::string& d : made) std::filesystem::remove_all(d);
  }
  std::unique_ptr<World> world;
  std::vector<std::string> made;

  std::string directory() {
    char dir[] = "/tmp/caisson-load-XXXXXX";
    CHECK(mkdtemp(dir));
    made.emplace_back(dir);
    return dir;
  }
  // A program made by the machine's compiler, or "" when there is none.
  std::string compile(const std::string& source, const std::string& options) {
    std::string base = directory();
    std::ofstream(base + "/p.c") << source;
    if (system(("cc -O1 -o " + base + "/p " + base + "/p.c " + options + " 2>/dev/null").c_str()) != 0) return "";
    return base + "/p";
  }
};

TEST_F(Load, ADynamicProgramOfTheMachinePrints) {
  on_fiber([&] {
    LittleKernel r;
    auto status = r.start(*world, "/bin/echo", {"echo", "hello", "world"}, {"PATH=/bin"});
    ASSERT_TRUE(status.ok()) << status.error().name();
    EXPECT_EQ(*status, 0);
    EXPECT_EQ(r.output, "hello world\n");
    ASSERT_EQ(r.opener.opened.size(), 1u);  // its PT_INTERP
  });
}

constexpr const char* kReport = R"(
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <elf.h>
#include <link.h>
char big[3 << 20];
int initialised = 42;
int main(int argc, char** argv, char** envp) {
  long sum = 0;
  for (unsigned long i = 0; i < sizeof big; i++) sum += big[i];
  const ElfW(Phdr)* ph = (const void*)getauxval(AT_PHDR);
  int loads = 0;
  for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++) loads += ph[i].p_type == PT_LOAD;
  char* heap = malloc(100000);
  memset(heap, 1, 100000);
  char* large = malloc(10 << 20);
  large[10 << 19] = 1;
  free(large);
  printf("%d %s %s %s bss%ld data%d loads%d %s uid%ld gid%ld secure%ld page%ld %s base%d vdso%d\n", argc, argv[1], argv[argc - 1], envp[0],
         sum, initialised, loads > 1, (char*)getauxval(AT_EXECFN), getauxval(AT_UID), getauxval(AT_EGID), getauxval(AT_SECURE),
         getauxval(AT_PAGESZ), (char*)getauxval(AT_PLATFORM), getauxval(AT_BASE) != 0, getauxval(AT_SYSINFO_EHDR) != 0);
  return 7;
}
)";

TEST_F(Load, EveryKindOfProgramFindsWhatTheAbiPromises) {
  const struct {
    const char* options;
    bool base;
  } kinds[] = {{"", true}, {"-no-pie", true}, {"-static -no-pie", false}, {"-static-pie", false}};
  for (const auto& k : kinds) {
    SCOPED_TRACE(k.options);
    std::string path = compile(kReport, k.options);
    ASSERT_NE(path, "");
    on_fiber([&] {
      LittleKernel r;
      auto status = r.start(*world, path, {"prog", "a b", ""}, {"HOME=/"});
      ASSERT_TRUE(status.ok()) << status.error().name();
      EXPECT_EQ(*status, 7);
      EXPECT_EQ(r.output, "3 a b  HOME=/ bss0 data42 loads1 " + path + " uid65534 gid65533 secure0 page4096 x86_64 base" +
                              (k.base ? "1" : "0") + " vdso1\n");
      bool heap = false, stack = false, vdso = false;
      for (const mm::Vma& v : r.space->list()) {
        heap = heap || v.name == "[heap]";
        stack = stack || (v.name == "[stack]" && v.length() < (1 << 20));
        vdso = vdso || v.name == "[vdso]";
      }
      EXPECT_TRUE(heap && stack && vdso);
    });
  }
}

TEST_F(Load, ScriptsRunTheirInterpreterWithTheRightArguments) {
  std::string dir = directory(), inner = dir + "/inner", outer = dir + "/outer";
  std::ofstream(inner) << "#! /bin/echo  one two \nignored\n";
  std::ofstream(outer) << "#!" << inner << "\targ\n";
  on_fiber([&] {
    LittleKernel r;
    auto status = r.start(*world, outer, {"argv0", "x", "y"});
    ASSERT_TRUE(status.ok()) << status.error().name();
    EXPECT_EQ(r.output, "one two " + inner + " arg " + outer + " x y\n");
  });
}

TEST_F(Load, AnEndlessChainOfScriptsIsEloop) {
  std::string self = directory() + "/self";
  std::ofstream(self) << "#!" << self << "\n";
  on_fiber([&] {
    LittleKernel r;
    auto status = r.start(*world, self, {"x"});
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error(), kELOOP);
    auto text = r.start(*world, "/etc/passwd", {"x"});
    ASSERT_FALSE(text.ok());
    EXPECT_EQ(text.error(), kENOEXEC);
  });
}

}  // namespace
}  // namespace platform_test
