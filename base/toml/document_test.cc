// SPDX-License-Identifier: Apache-2.0
#include "base/toml/document.h"

#include <gtest/gtest.h>

namespace base {
namespace {

constexpr size_t kLimit = 1 << 20;

std::string fault(std::string_view text) {
  auto t = parse_toml(text, "f.toml", kLimit);
  return t.ok() ? "" : t.error().text();
}

TEST(Toml, FaultsNameFileAndLine) {
  EXPECT_EQ(fault("a = 1\n"), "");
  EXPECT_EQ(fault("a = 1\nb = = 2\n").substr(0, 10), "f.toml:2: ");
  EXPECT_EQ(fault("a = 1\na = 2\n").substr(0, 10), "f.toml:2: ");
}

TEST(Toml, EveryControlCharacterIsRefusedWhereverItStands) {
  for (int c = 0; c < 0x80; c++) {
    if ((c >= 0x20 && c != 0x7f) || c == '\t' || c == '\n') continue;
    for (const char* around : {"a = *1\n", "a = \"*\"\n", "a = '*'\n", "a = '''*'''\n", "# *\n", "*a = 1\n", "[*a]\n", "a*b = 1\n", "a = [*]\n", "a = {*}\n", "a = 1*", "*"}) {
      std::string text = around;
      if (c == '\r' && text.find("*\n") != text.npos) continue;  // the end of a line
      text[text.find('*')] = static_cast<char>(c);
      EXPECT_NE(fault("x = 1\n" + text).find("f.toml:2: byte "), std::string::npos) << c << " in " << around << ": " << fault("x = 1\n" + text);
    }
  }
  EXPECT_EQ(fault("a = 1\r\nb\t=\t2\r\n"), "");
}

TEST(Toml, KeysOfManyPartsAreRefused) {
  std::string key = "a";
  for (size_t i = 1; i < kMaxTomlKeyParts; i++) key += i % 2 ? ".\"b.c\"" : " . 'd'";
  EXPECT_EQ(fault(key + " = 1"), "");
  EXPECT_EQ(fault("[" + key + "]"), "");
  EXPECT_NE(fault("\n" + key + ".e = 1").find("f.toml:2: a key has more than 16 parts"), std::string::npos);
  EXPECT_NE(fault("[" + key + ".e]").find("more than 16"), std::string::npos);
  EXPECT_NE(fault("x = { " + key + ".e = 1 }").find("more than 16"), std::string::npos);
  std::string deep = "a";
  for (int i = 0; i < 500000; i++) deep += ".a";
  EXPECT_NE(fault(deep + " = 1").find("more than 16"), std::string::npos);
}

TEST(Toml, TextsAndCommentsAreNoKeys) {
  const std::string dots(200, '.'), brackets(200, '[');
  for (const std::string& inside : {dots, brackets, dots + "\\\"" + dots}) {
    EXPECT_EQ(fault("# " + inside + "\na = 1"), "");
    EXPECT_EQ(fault("a = \"" + inside + "\"\n"), "");
    EXPECT_EQ(fault("a = '" + inside + "'\n"), "");
    EXPECT_EQ(fault("a = \"\"\"\n\" " + inside + " \"\"\"\"\"\nb = 1"), "");
    EXPECT_EQ(fault("a = '''\n' \" # " + inside + " '''''\nb = 1"), "");
    EXPECT_EQ(fault("a = [1.5, 2.5, \"" + inside + "\"] # " + inside), "");
  }
  // What follows a text is looked at again.
  std::string key = "a";
  for (size_t i = 0; i < kMaxTomlKeyParts; i++) key += ".a";
  for (const char* before : {"x = \"\\\"\"\n", "x = '\\'\n", "x = \"\"\"\"\"\"\n", "x = \"\"\"a\\\"\"\"\"\n", "x = ''\n", "# \"\n", "x = \"\"\"\"\"\"\"\"\n"})
    EXPECT_NE(fault(before + key + " = 1").find("f.toml:2: a key has more than"), std::string::npos) << before;
}

TEST(Toml, ValuesInValuesAreBounded) {
  EXPECT_EQ(fault("a = " + std::string(15, '[') + std::string(15, ']')), "");
  EXPECT_NE(fault("a = " + std::string(17, '[') + std::string(17, ']')).find("maximum nested value depth"), std::string::npos);
}

TEST(Toml, LettersBeyondAsciiStandInTextsAndComments) {
  EXPECT_EQ(fault("# \u00e4\na = \"\u0425\"\n\"\u00e4\" = '\u0425'\n"), "");
  EXPECT_EQ(fault("\xEF\xBB\xBF""a = 1\n"), "");
  for (const char* text : {"\u0425 = 1", "a = \u0425", "a = 1979-05-27T07:32:0\u0425", "a = [1, \u00a0 2]", "a = 1 \xff"})
    EXPECT_NE(fault(std::string("\n") + text).find("f.toml:2: byte "), std::string::npos) << text;
}

TEST(Toml, TornDatesAndTimesAreErrors) {
  const std::string whole = "1979-05-27T07:32:00.123456789+01:30";
  EXPECT_EQ(fault("a = " + whole), "");
  for (size_t n = 1; n < whole.size(); n++) {
    for (const char* rest : {"", "x", "\n", "_", "-", ":", ".", "T", "Z", " ", "]", "0", "99"}) {
      std::string f = fault("a = " + whole.substr(0, n) + rest);
      EXPECT_TRUE(f.empty() || f.substr(0, 7) == "f.toml:") << n << rest << ": " << f;
    }
  }
  // The parser has nothing but assertions against this.
  EXPECT_NE(fault("a = 1979-05-27T"), "");
  EXPECT_NE(fault("a = 1979-05-27Tx"), "");
  EXPECT_NE(fault("a = [1979-05-27T]"), "");
}

TEST(Toml, LongFilesAreRefused) {
  EXPECT_EQ(fault(std::string(kLimit, '#')), "");
  EXPECT_EQ(fault(std::string(kLimit + 1, '#')), "f.toml has 1048577 bytes, and may have 1048576");
}

TEST(Toml, APlaceSaysWhere) {
  std::string path = "/etc/x.toml";
  EXPECT_EQ(TomlPlace({path, "a.b", 7}).error("must be {}", 3).text(), "/etc/x.toml:7: a.b: must be 3");
  EXPECT_EQ(TomlPlace({path, "", 7}).error("torn").text(), "/etc/x.toml:7: torn");
}

}  // namespace
}  // namespace base
