// SPDX-License-Identifier: Apache-2.0
// Formats of /proc files as parsers expect them, and the parts of procfs that need no process.
#include "sentry/fs/proc/proc.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "sentry/fs/proc/proc_fs.h"
#include "sentry/fs/proc/status.h"

namespace sentry::fs::proc {
namespace {

size_t words(const std::string& s) {
  std::istringstream in(s);
  std::string w;
  size_t n = 0;
  while (in >> w) n++;
  return n;
}

StatLine sample() {
  StatLine l;
  l.facts.tid = 7;
  l.facts.state = 'S';
  l.facts.name = "a b";
  l.facts.ppid = 1;
  l.facts.threads = 3;
  l.facts.user_ns = 1'230'000'000;
  l.facts.exit_signal = 17;
  l.resident_limit = ~0ull;
  return l;
}

TEST(Stat, Has52FieldsAroundTheName) {
  std::string line = format_stat(sample());
  EXPECT_EQ(line.substr(0, 10), "7 (a b) S ");
  EXPECT_EQ(line.back(), '\n');
  // Two fields before, and the state, stand up to the name's end.
  EXPECT_EQ(2 + words(line.substr(line.rfind(')') + 1)), 52u);
}

TEST(Stat, TimesAreTicksAndThreadsStandInField20) {
  std::string line = format_stat(sample());
  std::istringstream in(line.substr(line.rfind(')') + 2));
  std::vector<std::string> f{"", "", ""};  // 1-based, from field 3 on
  for (std::string w; in >> w;) f.push_back(w);
  EXPECT_EQ(f[3], "S");
  EXPECT_EQ(f[4], "1");
  EXPECT_EQ(f[14], "123");
  EXPECT_EQ(f[18], "20");
  EXPECT_EQ(f[20], "3");
  EXPECT_EQ(f[25], "18446744073709551615");
  EXPECT_EQ(f[38], "17");
}

TEST(Stat, NameCannotForgeALine) {
  StatLine l = sample();
  l.facts.name = "x\ny\\";
  EXPECT_EQ(format_stat(l).find("7 (x\\ny\\\\) S"), 0u);
}

TEST(Maps, AnonymousLineEndsWithABlankNamedOnesStandInColumn73) {
  mm::Vma v;
  v.start = 0x1000;
  v.end = 0x3000;
  v.prot = PROT_READ | PROT_WRITE;
  EXPECT_EQ(maps_line(v, ""), "00001000-00003000 rw-p 00000000 00:00 0 \n");
  v.start = 0x7ffc12345000;
  v.end = 0x7ffc12366000;
  std::string line = maps_line(v, "[stack]");
  EXPECT_EQ(line.find("[stack]"), 73u);
  EXPECT_EQ(line.find("7ffc12345000-7ffc12366000 rw-p 00000000 00:00 0 "), 0u);
  EXPECT_EQ(maps_line(v, "a\nb").find("a\\012b"), 73u);
}

TEST(Mounts, FieldsAreEscapedInOctal) {
  EXPECT_EQ(escape_mount_field("/a b\tc\\d\ne"), "/a\\040b\\011c\\134d\\012e");
}

TEST(Text, CpuListsAndMasks) {
  EXPECT_EQ(bit_list(0b1011), "0-1,3");
  EXPECT_EQ(bit_list(~0ull), "0-63");
  EXPECT_EQ(mask_text(5, 4), "5");
  EXPECT_EQ(mask_text(1ull << 32 | 3, 40), "1,00000003");
  EXPECT_EQ(common::cpu_list(1), "0");
  EXPECT_EQ(common::cpu_list(4), "0-3");
  EXPECT_EQ(common::cpu_mask(4), "f");
  EXPECT_EQ(common::cpu_mask(32), "ffffffff");
  EXPECT_EQ(common::cpu_mask(33), "1,ffffffff");
}

TEST(Text, NumbersAreTakenWhole) {
  EXPECT_EQ(common::parse_number(" -17\n").value(), -17);
  EXPECT_EQ(common::parse_number("0x10").value(), 16);
  EXPECT_FALSE(common::parse_number("").ok());
  EXPECT_FALSE(common::parse_number("5x").ok());
  EXPECT_FALSE(common::parse_number("99999999999999999999").ok());
}

TEST(Text, AppendGrowsBeyondItsBuffer) {
  std::string out = "x";
  append(out, "%s|%d", std::string(1000, 'y').c_str(), 5);
  EXPECT_EQ(out, "x" + std::string(1000, 'y') + "|5");
}

// ---- A procfs without processes ----

struct NoCalls : kernel::CallHandler {
  Result<long> handle(kernel::Task&, const platform::Call&) override { return kENOSYS; }
};

struct Empty : testing::Test {
  NoCalls calls;
  kernel::Kernel kernel{calls};
  Ref<kernel::PidNamespace> pids = kernel::PidNamespace::create(nullptr);
  Ref<ProcFs> fs = make_ref<ProcFs>(kernel, pids);
  void SetUp() override {
    kernel.set_machine({.cpus = 3, .memory_bytes = 1 << 30});
    fs->set_root(make_root(*fs));
  }
  RefOrNull<vfs::Inode> find(const std::string& path) {
    RefOrNull<vfs::Inode> at = fs->root();
    std::istringstream in(path);
    for (std::string name; at && std::getline(in, name, '/');) {
      auto r = at->lookup(name);
      if (!r.ok()) return nullptr;
      at = *r;
    }
    return at;
  }
  common::TextInode* text_inode(const std::string& path) {
    RefOrNull<vfs::Inode> i = find(path);
    return i && i->is_regular() ? static_cast<common::TextInode*>(i.get()) : nullptr;
  }
  std::string read(const std::string& path) {
    common::TextInode* t = text_inode(path);
    if (!t) return "(none)";
    auto r = t->text();
    return r.ok() ? *r : "(error)";
  }
};

TEST_F(Empty, NamesThatAreNoProcessAreNotFound) {
  for (const char* name : {"1", "007", "1x", "-1", "99999999999999", "kcore", "keys", "sysrq-trigger", "zoneinfo"})
    EXPECT_FALSE(find(name)) << name;
}

TEST_F(Empty, SelfIsNobodyForTheKernel) {
  RefOrNull<vfs::Inode> self = find("self");
  ASSERT_TRUE(self);
  auto r = self->read_link();
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), kENOENT);
}

TEST_F(Empty, EveryListedNameIsFoundWithItsNumber) {
  std::vector<std::string> todo{""};
  std::set<uint64_t> numbers;
  size_t seen = 0;
  while (!todo.empty()) {
    std::string at = todo.back();
    todo.pop_back();
    RefOrNull<vfs::Inode> dir = at.empty() ? RefOrNull<vfs::Inode>(fs->root()) : find(at);
    ASSERT_TRUE(dir) << at;
    // The directories here are all of one base, but for the small fixed ones.
    if (at == "tty" || at == "sysvipc" || at == "bus" || at == "driver" || at == "fs" || at == "irq") continue;
    auto entries = static_cast<common::SyntheticDirectory*>(dir.get())->entries();
    ASSERT_TRUE(entries.ok());
    for (const auto& e : *entries) {
      std::string path = at.empty() ? e.name : at + "/" + e.name;
      RefOrNull<vfs::Inode> i = find(path);
      ASSERT_TRUE(i) << path;
      EXPECT_EQ(i->type(), e.type) << path;
      auto a = i->attributes();
      ASSERT_TRUE(a.ok());
      EXPECT_EQ(a->ino, e.ino) << path;
      EXPECT_TRUE(numbers.insert(e.ino).second) << path << " shares its number";
      EXPECT_EQ(find(path).get(), i.get()) << path << " changes its identity";
      if (S_ISDIR(e.type)) todo.push_back(path);
      seen++;
    }
  }
  EXPECT_GT(seen, 150u);
}

TEST_F(Empty, CpuinfoHasOneBlockForEachCpu) {
  std::string text = read("cpuinfo");
  size_t n = 0;
  for (size_t at = 0; (at = text.find("processor\t: ", at)) != text.npos; at++) n++;
  EXPECT_EQ(n, 3u);
  EXPECT_NE(text.find("flags\t\t: fpu "), text.npos);
}

TEST_F(Empty, StatHasCpusAndBootTime) {
  std::string text = read("stat");
  EXPECT_EQ(text.find("cpu  "), 0u);
  EXPECT_NE(text.find("\ncpu2 "), text.npos);
  EXPECT_EQ(text.find("\ncpu3 "), text.npos);
  EXPECT_NE(text.find("\nbtime "), text.npos);
}

TEST_F(Empty, LoadavgAndUptimeParse) {
  double a, b, c;
  int running, all, last;
  EXPECT_EQ(sscanf(read("loadavg").c_str(), "%lf %lf %lf %d/%d %d", &a, &b, &c, &running, &all, &last), 6);
  double up, idle;
  EXPECT_EQ(sscanf(read("uptime").c_str(), "%lf %lf", &up, &idle), 2);
  EXPECT_LT(up, 1000);
}

TEST_F(Empty, SettingsRememberNumbersOnly) {
  common::TextInode* t = text_inode("sys/net/core/somaxconn");
  ASSERT_NE(t, nullptr);
  auto path = vfs::make_anonymous_path("test", S_IFREG, *make_ref<auth::Credentials>());
  Ref<vfs::File> writer = vfs::make_path_file(path, O_PATH, make_ref<auth::Credentials>());
  auto store = [&](std::string_view v) { return t->store(*writer, v); };
  EXPECT_EQ(read("sys/net/core/somaxconn"), "4096\n");
  EXPECT_TRUE(store("128\n").ok());
  EXPECT_EQ(read("sys/net/core/somaxconn"), "128\n");
  EXPECT_EQ(store("many").error(), kEINVAL);
  EXPECT_EQ(store("1 2").error(), kEINVAL);
  EXPECT_EQ(read("sys/net/core/somaxconn"), "128\n");
  t = text_inode("sys/net/ipv4/ip_local_port_range");
  EXPECT_TRUE(store("1024 65000").ok());
  EXPECT_EQ(read("sys/net/ipv4/ip_local_port_range"), "1024\t65000\n");
  t = text_inode("sys/kernel/pid_max");
  EXPECT_EQ(store("100").error(), kEPERM);
}

TEST_F(Empty, UuidsAreOfVersion4AndBootIdStays) {
  std::string a = read("sys/kernel/random/uuid"), b = read("sys/kernel/random/uuid");
  ASSERT_EQ(a.size(), 37u);
  EXPECT_EQ(a[14], '4');
  EXPECT_NE(std::string("89ab").find(a[19]), std::string::npos);
  EXPECT_NE(a, b);
  EXPECT_EQ(read("sys/kernel/random/boot_id"), read("sys/kernel/random/boot_id"));
}

}  // namespace
}  // namespace sentry::fs::proc
