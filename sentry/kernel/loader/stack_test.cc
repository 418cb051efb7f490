// SPDX-License-Identifier: Apache-2.0
// "#!" lines and the first stack.
#include "sentry/kernel/loader/stack.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "sentry/kernel/loader/loader.h"
#include "sentry/kernel/loader/script.h"

namespace sentry::kernel {
namespace {

std::string shown(std::string_view head) {
  auto r = parse_script(head);
  if (!r.ok()) return "!" + std::to_string(r.error().value());
  return r->interpreter + (r->has_argument ? "|" + r->argument : "");
}

TEST(Script, LinesAsLinuxReadsThem) {
  EXPECT_EQ(shown("#!/bin/sh\necho"), "/bin/sh");
  EXPECT_EQ(shown("#!/bin/sh"), "/bin/sh");
  EXPECT_EQ(shown("#! \t/bin/sh  \t\n"), "/bin/sh");
  EXPECT_EQ(shown("#!/usr/bin/env python3 -u \n"), "/usr/bin/env|python3 -u");
  EXPECT_EQ(shown("#!/bin/sh\t -x\ty\n"), "/bin/sh|-x\ty");
  EXPECT_EQ(shown("#!\n"), "!8");
  EXPECT_EQ(shown("#!   \n"), "!8");
  EXPECT_EQ(shown("#!"), "");
  EXPECT_EQ(shown("#! "), "");
  EXPECT_EQ(shown(std::string("#!\0\n", 4)), "");
  EXPECT_EQ(shown("#"), "!8");
  EXPECT_EQ(shown("/bin/sh"), "!8");
  EXPECT_EQ(shown(std::string("#!/bin/sh\0-x\n", 13)), "/bin/sh");
}

TEST(Script, ALongLineIsCutButNeverTheInterpreter) {
  EXPECT_EQ(shown("#!/" + std::string(300, 'a')), "!8");
  EXPECT_EQ(shown("#!/" + std::string(252, 'a') + "\n"), "/" + std::string(252, 'a'));  // newline is byte 255
  EXPECT_EQ(shown("#!/" + std::string(253, 'a') + "\n"), "!8");
  std::string cut = shown("#!/bin/x " + std::string(400, 'b') + "\n");
  EXPECT_EQ(cut, "/bin/x|" + std::string(256 - 1 - 9, 'b'));  // up to byte 254, as load_script does
  EXPECT_EQ(shown("#!" + std::string(254, ' ')), "!8");
  EXPECT_EQ(shown("#!" + std::string(253, ' ')), "!8");
}

TEST(Stack, HoldsWhatTheAbiSays) {
  std::vector<std::string> args{"prog", "", "x y"}, env{"A=1", "B=2"};
  std::string filename = "/bin/prog";
  StackInput in;
  in.top = 0x7effffff0000;
  in.args = &args;
  in.env = &env;
  in.filename = &filename;
  in.random = {0x1122334455667788, 0x99aabbccddeeff00};
  in.jitter = 4711;
  in.auxv = {{AT_PAGESZ, 4096}, {AT_ENTRY, 0x401000}};
  StackImage s = build_stack(in, 128 * 1024).value();
  EXPECT_EQ(s.stack_pointer % 16, 0u);
  EXPECT_EQ(s.stack_pointer + s.bytes.size(), in.top);
  auto at = [&](uint64_t address) { return reinterpret_cast<const char*>(s.bytes.data() + (address - s.stack_pointer)); };
  uint64_t sp = s.stack_pointer;
  auto word = [&] {
    uint64_t v;
    memcpy(&v, at(sp), 8);
    sp += 8;
    return v;
  };
  ASSERT_EQ(word(), 3u);
  uint64_t first = word();
  EXPECT_EQ(first, s.arg_start);
  EXPECT_STREQ(at(first), "prog");
  EXPECT_STREQ(at(word()), "");
  EXPECT_STREQ(at(word()), "x y");
  EXPECT_EQ(word(), 0u);
  uint64_t e = word();
  EXPECT_EQ(e, s.env_start);
  EXPECT_EQ(s.arg_end, s.env_start);
  EXPECT_STREQ(at(e), "A=1");
  EXPECT_STREQ(at(word()), "B=2");
  EXPECT_EQ(word(), 0u);
  std::map<uint64_t, uint64_t> aux;
  for (;;) {
    uint64_t k = word(), v = word();
    if (k == AT_NULL) break;
    aux[k] = v;
  }
  EXPECT_EQ(aux[AT_PAGESZ], 4096u);
  EXPECT_STREQ(at(aux[AT_EXECFN]), "/bin/prog");
  EXPECT_EQ(aux[AT_EXECFN], s.env_end);
  EXPECT_STREQ(at(aux[AT_PLATFORM]), "x86_64");
  EXPECT_EQ(memcmp(at(aux[AT_RANDOM]), in.random.data(), 16), 0);
  EXPECT_LE(sp, aux[AT_RANDOM]);
}

TEST(Stack, LimitsOfArguments) {
  EXPECT_EQ(max_argument_bytes(8 << 20), 2u << 20);
  EXPECT_EQ(max_argument_bytes(64 << 10), 128u << 10);
  EXPECT_EQ(max_argument_bytes(UINT64_MAX), 6u << 20);
  std::vector<std::string> args{std::string(kMaxArgString - 1, 'a')}, env;
  std::string filename = "f";
  StackInput in;
  in.top = 0x7effffff0000;
  in.args = &args;
  in.env = &env;
  in.filename = &filename;
  EXPECT_TRUE(build_stack(in, 1 << 20).ok());
  EXPECT_FALSE(build_stack(in, 128 << 10).ok());
  args[0].push_back('a');
  auto r = build_stack(in, 1 << 20);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), kE2BIG);
  args.assign(20000, "");  // 160 KB of pointers
  EXPECT_FALSE(build_stack(in, 128 << 10).ok());
  EXPECT_TRUE(build_stack(in, 1 << 20).ok());
}

}  // namespace
}  // namespace sentry::kernel
