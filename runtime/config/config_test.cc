// SPDX-License-Identifier: Apache-2.0
// What the file may say, and who has the last word.
#include "runtime/config/config.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace runtime::config {
namespace {

std::string error_of(std::string_view text) {
  auto r = parse_config(text, "f.toml");
  return r.ok() ? "" : r.error().text();
}

Config parsed(std::string_view text) { return std::move(parse_config(text, "f.toml")).value(); }

bool holds(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

TEST(Parse, AllKeys) {
  auto c = parse_config(R"(
root = "/run/other"
debug = true
[sandbox]
overlay = "none"
memory_mode = "strict"
patch_calls = false
network = "none"
strace = true
debug_log = "/var/log/%ID%"
[limits]
memory = "1g"
pids = 100
[annotations]
allow = ["dev.caisson.network", "dev.caisson.patch-calls"]
[shim]
root = "/run/shim"
version = 3
)", "f.toml");
  ASSERT_TRUE(c.ok()) << c.error().text();
  EXPECT_EQ(c->root, "/run/other");
  EXPECT_TRUE(c->debug);
  EXPECT_EQ(c->sandbox.overlay, "none");
  EXPECT_EQ(c->sandbox.memory_mode, "strict");
  EXPECT_EQ(c->sandbox.patch_calls, "off");
  EXPECT_EQ(c->sandbox.network, "none");
  EXPECT_EQ(c->sandbox.strace, "on");
  EXPECT_EQ(c->sandbox.debug_log, "/var/log/%ID%");
  EXPECT_EQ(c->memory, int64_t{1} << 30);
  EXPECT_EQ(c->pids, 100);
  EXPECT_EQ(c->allowed, (std::vector<std::string>{"dev.caisson.network", "dev.caisson.patch-calls"}));
  EXPECT_EQ(c->shim_root, "/run/shim");
  EXPECT_EQ(c->shim_version, 3);
}

TEST(Parse, EveryKeyIsReadable) {
  for (auto& k : keys()) {
    std::string value = k.kind == Kind::choice   ? "\"" + k.values.back() + "\""
                        : k.kind == Kind::on_off ? "true"
                        : k.kind == Kind::path   ? "\"/a\""
                        : k.kind == Kind::size   ? "\"2m\""
                        : k.kind == Kind::count  ? "3"
                                                 : "[]";
    std::string text = (*k.table ? base::format("[{}]\n", k.table) : "") + k.name + " = " + value + "\n";
    EXPECT_EQ(error_of(text), "") << text;
    bool flag_or_none = !k.annotation || k.option;
    EXPECT_TRUE(flag_or_none) << k.name;
  }
}

TEST(Parse, MistakesAreToldWithLineAndNearestName) {
  std::string e = error_of("debug = true\n[sandbox]\n\nmemroy_mode = \"strict\"\n");
  EXPECT_TRUE(holds(e, "f.toml:4")) << e;
  EXPECT_TRUE(holds(e, "sandbox.memroy_mode")) << e;
  EXPECT_TRUE(holds(e, "did you mean memory_mode?")) << e;
  EXPECT_TRUE(holds(error_of("[sandbx]\n"), "did you mean sandbox?"));
  EXPECT_TRUE(holds(error_of("[sandbox]\nzzzzzzzzzz = 1\n"), "known are overlay, "));
  EXPECT_TRUE(holds(error_of("overlay = \"none\"\n"), "belongs into [sandbox]"));
  EXPECT_TRUE(holds(error_of("[sandbox]\noverlay = \"some\"\n"), "'some' is not known: must be one of auto, self, none"));
  EXPECT_TRUE(holds(error_of("[sandbox]\nstrace = \"true\"\n"), "true or false"));
  EXPECT_TRUE(holds(error_of("[sandbox]\ndebug_log = \"x\"\n"), "must begin with /"));
  EXPECT_TRUE(holds(error_of("[limits]\nmemory = \"lots\"\n"), "512m"));
  EXPECT_TRUE(holds(error_of("[limits]\nmemory = 10\n"), "at least 1m"));
  EXPECT_TRUE(holds(error_of("[limits]\npids = 0\n"), "1 or more"));
  EXPECT_TRUE(holds(error_of("[annotations]\nallow = \"all\"\n"), "list"));
  EXPECT_TRUE(holds(error_of("[annotations]\nallow = [\"dev.caisson.netwrok\"]\n"), "did you mean dev.caisson.network?"));
  EXPECT_TRUE(holds(error_of("[annotations]\nallow = [\"dev.caisson.debug-log\"]\n"), "there is no annotation"));
  EXPECT_TRUE(holds(error_of("sandbox = 3\n"), "must be a table"));
  EXPECT_TRUE(holds(error_of("a = = 3\n"), "f.toml:1"));
}

TEST(Annotations, OnlyThoseThatAreNamed) {
  Config c;
  c.path = "f.toml";
  EXPECT_TRUE(read_annotations(c, {{"io.kubernetes.cri.sandbox-id", "x"}, {"dev.caissonX", "y"}}).ok());
  auto r = read_annotations(c, {{"dev.caisson.network", "none"}});
  ASSERT_FALSE(r.ok());
  EXPECT_TRUE(holds(r.error().text(), "[annotations] allow of f.toml")) << r.error().text();
  c.allowed = {"dev.caisson.network", "dev.caisson.strace"};
  r = read_annotations(c, {{"dev.caisson.network", "none"}, {"dev.caisson.strace", "true"}});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->network, "none");
  EXPECT_EQ(r->strace, "on");
  EXPECT_FALSE(read_annotations(c, {{"dev.caisson.overlay", "none"}}).ok());
  r = read_annotations(c, {{"dev.caisson.netwrk", "none"}});
  ASSERT_FALSE(r.ok());
  EXPECT_TRUE(holds(r.error().text(), "did you mean dev.caisson.network?")) << r.error().text();
  r = read_annotations(c, {{"dev.caisson.network", "some"}});
  ASSERT_FALSE(r.ok());
  EXPECT_TRUE(holds(r.error().text(), "'some'"));
  // A file of the host's is never a container's to name.
  EXPECT_FALSE(read_annotations(parsed("[annotations]\nallow = [\"dev.caisson.*\"]\n"), {{"dev.caisson.debug-log", "/etc/x"}}).ok());
}

TEST(Apply, FlagsThenAnnotationsThenFile) {
  Config c = parsed("[sandbox]\nnetwork = \"none\"\nmemory_mode = \"strict\"\ndebug_log = \"/l/%ID%/%ID%\"\n"
                                     "[annotations]\nallow = [\"dev.caisson.*\"]\n");
  SandboxOptions flags;
  flags.patch_calls = "on";
  container::CreateOptions o;
  o.id = "abc";
  apply(c, flags, o);
  EXPECT_EQ(o.network, container::Network::none);
  EXPECT_EQ(o.memory_mode, base::wire::MemoryMode::strict);
  EXPECT_EQ(o.debug_log, "/l/abc/abc");
  EXPECT_FALSE(o.overlay);
  oci::Spec s;
  s.annotations = {{"dev.caisson.network", "host"}, {"dev.caisson.patch-calls", "off"}, {"dev.caisson.overlay", "self"}};
  ASSERT_TRUE(o.adjust(s, container::Role::alone, o).ok());
  EXPECT_EQ(o.network, container::Network::host);
  EXPECT_TRUE(o.patch_calls);
  EXPECT_EQ(o.overlay, base::wire::OverlayMode::self);
  EXPECT_EQ(o.memory_mode, base::wire::MemoryMode::strict);
  s.annotations["dev.caisson.nothing"] = "1";
  EXPECT_FALSE(o.adjust(s, container::Role::alone, o).ok());
}

TEST(Apply, LimitsAreForWhoHasNone) {
  Config c = parsed("[limits]\nmemory = \"64m\"\npids = 50\n");
  container::CreateOptions o;
  apply(c, {}, o);
  oci::Spec none, some, pod;
  some.resources.memory_limit = 1000;
  some.resources.pids_limit = -1;
  ASSERT_TRUE(o.adjust(none, container::Role::member, o).ok());
  ASSERT_TRUE(o.adjust(some, container::Role::alone, o).ok());
  ASSERT_TRUE(o.adjust(pod, container::Role::sandbox, o).ok());
  EXPECT_EQ(none.resources.memory_limit, 64 << 20);
  EXPECT_EQ(none.resources.pids_limit, 50);
  EXPECT_EQ(some.resources.memory_limit, 1000);
  EXPECT_EQ(some.resources.pids_limit, -1);
  EXPECT_FALSE(pod.resources.memory_limit);
}

class File : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(::mkdtemp(dir_));
    path_ = std::string(dir_) + "/c.toml";
  }
  void TearDown() override {
    ::unlink(path_.c_str());
    ::rmdir(dir_);
    ::unsetenv(kPathVariable);
  }
  void write(const std::string& text, mode_t mode = 0644) {
    std::ofstream(path_) << text;
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
  }
  char dir_[40] = "/tmp/caisson-config.XXXXXX";
  std::string path_;
};

TEST_F(File, ThatWasAskedForMustBeThere) {
  auto r = load_config(path_);
  ASSERT_FALSE(r.ok());
  EXPECT_TRUE(holds(r.error().text(), path_));
  ::setenv(kPathVariable, path_.c_str(), 1);
  EXPECT_FALSE(load_config("").ok());
  write("debug = true\n");
  auto named = load_config("");
  ASSERT_TRUE(named.ok()) << named.error().text();
  EXPECT_TRUE(named->debug);
  EXPECT_EQ(named->path, path_);
}

TEST_F(File, ThatOthersMayWriteIsNotBelieved) {
  write("debug = true\n", 0666);
  auto r = load_config(path_);
  ASSERT_FALSE(r.ok());
  EXPECT_TRUE(holds(r.error().text(), "0666")) << r.error().text();
  write("debug = true\n", 0640);
  EXPECT_TRUE(load_config(path_).ok());
  EXPECT_FALSE(load_config(dir_).ok());
}

TEST_F(File, ThatIsTooLongIsRefused) {
  write("#" + std::string(kMaxFile + 10, 'x') + "\n");
  EXPECT_FALSE(load_config(path_).ok());
}

// The file that is installed: what it has in comments is what holds without them, and it names every key.
TEST(Default, FileIsTrue) {
  std::ifstream f(CAISSON_SOURCE_DIR "/deploy/config.toml");
  std::string all((std::istreambuf_iterator<char>(f)), {}), open, line;
  ASSERT_FALSE(all.empty());
  auto as_it_is = parse_config(all, "deploy/config.toml");
  ASSERT_TRUE(as_it_is.ok()) << as_it_is.error().text();
  std::istringstream in(all);
  std::vector<std::string> seen;
  std::string table;
  while (std::getline(in, line)) {
    if (line.rfind("[", 0) == 0) table = line.substr(1, line.find(']') - 1);
    bool setting = line.rfind("#", 0) == 0 && line.size() > 1 && line[1] != ' ';
    if (setting) {
      line.erase(0, 1);
      seen.push_back(table + "." + line.substr(0, line.find(' ')));
    }
    open += line + "\n";
  }
  auto opened = parse_config(open, "deploy/config.toml");
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  for (auto& k : keys()) {
    EXPECT_EQ(std::count(seen.begin(), seen.end(), std::string(k.table) + "." + k.name), 1) << k.name;
    if (k.kind != Kind::choice && k.kind != Kind::on_off) continue;
    std::string said = std::string(k.name) + " = " + (k.kind == Kind::choice ? base::format("\"{}\"", k.fallback) : k.fallback) + "\n";
    EXPECT_TRUE(holds(open, said) || holds(open, std::string(k.name) + " = " + k.fallback + "\n")) << said;
  }
}

TEST(Parse, WhatTheParserWouldDieOfIsRefused) {
  EXPECT_TRUE(holds(error_of(std::string("root = \"/a\"\n[\0sandbox]", 23)), "f.toml:2: byte 13 of the file is a control character (0x00)"));
  EXPECT_TRUE(holds(error_of("[\x7f"), "control character"));
  std::string deep = "a";
  for (int i = 0; i < 400000; i++) deep += ".a";
  EXPECT_TRUE(holds(error_of(deep + " = 1"), "f.toml:1: a key has more than 16 parts"));
  EXPECT_TRUE(holds(error_of(std::string((1 << 20) + 1, '#')), "may have 1048576"));
  EXPECT_TRUE(holds(error_of("\"\\u001b[2J\" = 1"), "?[2J: there is no such key"));
}

TEST(Size, IsWrittenAsEnginesDo) {
  EXPECT_EQ(parse_size("64m"), 64 << 20);
  EXPECT_EQ(parse_size("2GiB"), int64_t{2} << 30);
  EXPECT_EQ(parse_size("-1"), -1);
  EXPECT_EQ(parse_size("m"), std::nullopt);
  EXPECT_EQ(parse_size("1x"), std::nullopt);
  EXPECT_EQ(parse_size("90000p"), -2);
}

}  // namespace
}  // namespace runtime::config
