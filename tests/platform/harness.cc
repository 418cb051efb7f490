// SPDX-License-Identifier: Apache-2.0
#include "tests/platform/harness.h"

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>

#include "base/bpf/assembler.h"
#include "base/sys.h"
#include "sentry/platform/launch.h"
#include "sentry/platform/stub/stub_layout.h"

namespace platform_test {

void enter_pid_namespace() {
  if (getenv("CAISSON_TEST_NO_PIDNS") || unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
    fprintf(stderr, "no PID namespace: stubs may outlive a crash of this test\n");
    return;
  }
  pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // /proc of the new namespace, so that the tests see their own pids.
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("proc", "/proc", "proc", 0, nullptr) != 0)
      _exit(99);
    return;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {}
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

void on_fiber(const std::function<void()>& fn) {
  std::mutex mu;
  std::condition_variable cv;
  bool finished = false;
  auto f = sched::spawn([&] {
    fn();
    std::lock_guard l(mu);
    finished = true;
    cv.notify_one();
  });
  ASSERT_TRUE(f.ok());
  std::unique_lock l(mu);
  cv.wait(l, [&] { return finished; });
}

// ---- Files ----

base::Fd file_of(const std::string& content, bool writable) {
  auto fd = sys::memfd_create("test", 0);
  EXPECT_TRUE(fd.ok());
  EXPECT_TRUE(sys::write_all(fd->get(), content.data(), content.size()).ok());
  if (writable) return std::move(*fd);
  auto ro = sys::open(("/proc/self/fd/" + std::to_string(fd->get())).c_str(), O_RDONLY);
  EXPECT_TRUE(ro.ok());
  return std::move(*ro);
}

namespace {
std::string read_file(const char* path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}
const std::string& code_image() {
  static const std::string* image = new std::string(read_file(PLATFORM_TEST_APP));
  return *image;
}
}  // namespace

int code_file() {
  static int fd = file_of(code_image()).release();
  return fd;
}

uint64_t address_of(App f) {
  uint32_t offset;
  memcpy(&offset, code_image().data() + 4 * static_cast<unsigned>(f), 4);
  return kCode + offset;
}

namespace {
template <typename F>
void each_stub_symbol(F fn) {
  std::string image = read_file(PLATFORM_TEST_ZYGOTE);
  auto* e = reinterpret_cast<const Elf64_Ehdr*>(image.data());
  auto* sections = reinterpret_cast<const Elf64_Shdr*>(image.data() + e->e_shoff);
  for (int i = 0; i < e->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    auto* symbols = reinterpret_cast<const Elf64_Sym*>(image.data() + sections[i].sh_offset);
    const char* names = image.data() + sections[sections[i].sh_link].sh_offset;
    for (size_t k = 0; k < sections[i].sh_size / sizeof(Elf64_Sym); k++) fn(names + symbols[k].st_name, symbols[k].st_value);
  }
}
}  // namespace

uint64_t stub_symbol(const char* name) {
  uint64_t found = 0;
  each_stub_symbol([&](const char* n, uint64_t v) {
    if (strcmp(n, name) == 0) found = v;
  });
  return found;
}
std::vector<uint64_t> stub_symbols(const char* prefix) {
  std::vector<uint64_t> found;
  each_stub_symbol([&](const char* n, uint64_t v) {
    if (strncmp(n, prefix, strlen(prefix)) == 0) found.push_back(v);
  });
  return found;
}

std::string maps_of(int pid, uint64_t from) {
  std::istringstream in(read_file(("/proc/" + std::to_string(pid) + "/maps").c_str()));
  std::string out, line;
  while (std::getline(in, line)) {
    if (std::stoull(line, nullptr, 16) < from) continue;
    out += line.substr(0, line.find(' ') + 5) + '\n';
  }
  return out;
}

std::vector<uint64_t> open_filter() {
  using base::bpf::kNext;
  base::bpf::Assembler a;
  auto allow = a.label(), notify = a.label(), trap = a.label();
  a.load(base::bpf::kArchOffset);
  a.jump_eq(AUDIT_ARCH_X86_64, kNext, allow);
  a.load(base::bpf::kInstructionPointer.high());
  a.jump_eq(0x7fff, kNext, trap);
  a.load(base::bpf::kInstructionPointer.low());
  a.jump_ge(0x10000, trap, kNext);
  a.load(base::bpf::kNumberOffset);
  for (unsigned nr : {STUB_KNOCK, SYS_clone, SYS_mremap}) a.jump_eq(nr, notify, kNext);
  a.place(allow);
  a.ret(SECCOMP_RET_ALLOW);
  a.place(notify);
  a.ret(SECCOMP_RET_USER_NOTIF);
  a.place(trap);
  a.ret(SECCOMP_RET_TRAP);
  auto done = a.finish();
  CHECK(done.ok());
  std::vector<uint64_t> out(done->insns.size());
  memcpy(out.data(), done->insns.data(), out.size() * 8);
  return out;
}

// ---- World ----

World::World(const Options& o) {
  auto s = sched::Scheduler::create({.workers = o.workers, .io_threads = 2, .may_spin = o.may_spin});
  CHECK(s.ok());
  scheduler_ = std::move(*s);
  base::Fd exe(open(PLATFORM_TEST_ZYGOTE, O_RDONLY | O_CLOEXEC));
  CHECK(exe.valid());
  auto z = platform::launch_zygote(exe.get());
  CHECK(z.ok());
  zygote_pid_ = z->pid;
  if (getenv("CAISSON_TEST_PIN")) {  // workers on the first processor, stubs on the second
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(1, &set);
    sched_setaffinity(zygote_pid_, sizeof set, &set);
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
  }
  platform::PlatformOptions po{.mode = o.mode, .may_spin = o.may_spin, .cpus = o.cpus, .descriptors = o.descriptors};
  std::vector<uint64_t> filter;
  if (!o.filter) filter = open_filter();
  po.other_filter = filter;
  po.seal = o.seal;
  auto p = platform::Platform::create(po);
  CHECK(p.ok());
  platform_ = std::move(*p);
  if (!o.cgroup.empty()) {
    std::ofstream(o.cgroup + "/cgroup.procs") << zygote_pid_;
    if (o.audit) platform_->set_threads_file(base::Fd(open((o.cgroup + "/cgroup.threads").c_str(), O_RDONLY | O_CLOEXEC)));
  }
  thread_ = std::thread([this] { scheduler_->run(); });
  on_fiber([&] {
    auto zygote = platform_->adopt_zygote(std::move(z->socket));
    CHECK(zygote.ok());
    zygote_ = std::make_unique<Ref<platform::Zygote>>(std::move(*zygote));
  });
}

World::~World() {
  on_fiber([&] {
    zygote().kill_all();
    zygote_.reset();
  });
  scheduler_->stop();
  thread_.join();
  platform_.reset();
}

// ---- Guest ----

namespace {
Ref<Context> new_process(World& w) {
  auto c = w.zygote().new_process();
  CHECK(c.ok());
  return std::move(*c);
}
}  // namespace

Guest::Guest(World& w) : context_(new_process(w)) {
  context_->set_fiber(sched::current());
  MemoryCall code{.op = MemoryOp::map_file, .address = kCode, .length = 0x4000, .prot = PROT_READ | PROT_EXEC,
                  .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE, .host_fd = code_file(), .file_key = 1};
  auto r = context_->memory_call(code);
  EXPECT_TRUE(r.ok()) << (r.ok() ? "" : r.error().name());
  map(kStack, kStackSize);
  map(kData, kDataSize);
}

Guest Guest::thread() {
  auto c = context_->clone_thread();
  CHECK(c.ok());
  return Guest(std::move(*c));
}

uint64_t Guest::map(uint64_t at, uint64_t n, int prot) {
  auto r = context_->memory_call({.op = MemoryOp::map_anonymous, .address = at, .length = n, .prot = prot,
                                  .flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE});
  EXPECT_TRUE(r.ok()) << std::hex << at << ' ' << (r.ok() ? "" : r.error().name());
  return r.ok() ? *r : 0;
}

void Guest::call(App f, std::initializer_list<uint64_t> args, uint64_t stack_top) {
  arch::Registers r{};
  uint64_t* where[] = {&r.rdi, &r.rsi, &r.rdx, &r.rcx, &r.r8, &r.r9};
  unsigned i = 0;
  for (uint64_t a : args) *where[i++] = a;
  r.rip = address_of(f);
  r.rsp = stack_top - 8;
  context_->set_registers(r);
}

int64_t Guest::run(const Answer& answer) {
  for (;;) {
    last = context_->resume();
    if (last != EventKind::syscall) {
      if (last == EventKind::fault)
        ADD_FAILURE() << "fault " << context_->fault().signo << " at " << std::hex << context_->fault().address << " ip "
                      << context_->fault().ip;
      else ADD_FAILURE() << "event " << static_cast<int>(last);
      return INT64_MIN;
    }
    const platform::Call& c = context_->call();
    if (c.number == kDone) return static_cast<int64_t>(c.args[0]);
    if (answer) answer(*context_, c);
    else context_->set_result(static_cast<int64_t>(c.args[0]));
  }
}

void sleep_ns(sched::Nanos n) {
  sched::Nanos until = sched::now() + n;
  while (sched::now() < until) sched::park(until);
}

bool eventually(const std::function<bool()>& holds) {
  const sched::Nanos patience = sched::now() + 30'000'000'000;
  while (!holds()) {
    if (sched::now() > patience) return false;
    sleep_ns(1'000'000);
  }
  return true;
}

bool reaches(Guest& g, uint64_t addr, uint64_t n) {
  bool there = true;
  return eventually([&] {
           uint64_t v = 0;
           there = g->space().read_remote(addr, &v, 8).ok();
           return !there || v > n;
         }) &&
         there;
}

}  // namespace platform_test
