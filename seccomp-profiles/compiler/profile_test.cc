// SPDX-License-Identifier: Apache-2.0
// What the profile compiler refuses, and that several rules of one call are an OR of ANDs over 64-bit arguments.
#include "seccomp-profiles/compiler/profile.h"

#include <gtest/gtest.h>
#include <linux/audit.h>

#include <random>

#include "base/bpf/evaluate.h"
#include "seccomp-profiles/compiler/generate.h"

namespace seccomp_profiles::compiler {
namespace {

constexpr const char* kWhy = R"("why": "a reason that is long enough")";

std::string profile_of(const std::string& rules, const std::string& more = "") {
  return std::string("{") + kWhy + R"(, "wrong_arch": "kill_process", "default": "trap", )" + more + R"("rules": [)" +
         rules + "]}";
}
std::string rule_of(const std::string& body) { return std::string("{") + kWhy + ", " + body + "}"; }

Profile parse(const std::string& json) { return parse_profile(json, {"test.json", "test", "", std::nullopt}); }

std::string error_of(const std::string& json) {
  try {
    (void)parse(json);
  } catch (const ProfileError& e) {
    return e.what();
  }
  return "accepted";
}

std::uint32_t answer(const Profile& p, const seccomp_data& d) {
  const Compiled c = compile(p);
  auto v = base::bpf::evaluate(c.filter, d);
  EXPECT_TRUE(v.ok());
  return v.ok() ? v->action : 0xdead;
}

seccomp_data call_of(int nr, std::initializer_list<std::uint64_t> args = {}) {
  seccomp_data d{};
  d.nr = nr;
  d.arch = AUDIT_ARCH_X86_64;
  std::copy(args.begin(), args.end(), d.args);
  return d;
}

TEST(ProfileErrors, NameFileAndRule) {
  const std::string good = rule_of(R"("call": "close", "action": "allow")");
  EXPECT_EQ(error_of(profile_of(good)), "accepted");
  struct Case { std::string json, part; };
  const Case cases[] = {
      {"{", "not JSON"},
      {profile_of(R"({"call": "close", "action": "allow"})"), "rule 1 (close): \"why\" is missing"},
      {profile_of(R"({"call": "close", "action": "allow", "why": "x"})"), "too short"},
      {profile_of(good + "," + rule_of(R"("call": "opem", "action": "allow")")), "rule 2 (opem): unknown system call"},
      {profile_of(rule_of(R"("call": "close", "action": "allwo")")), "unknown action \"allwo\""},
      {profile_of(rule_of(R"("call": "close", "action": "errno EBOGUS")")), "unknown constant"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "arg": []")")), "not JSON"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "arg": [])")), "unknown field \"arg\""},
      {profile_of(rule_of(R"("action": "allow")")), "\"call\" is missing"},
      {profile_of(rule_of(R"("call": "close", "call": "open", "action": "allow")")), "there twice"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 6, "eq": 1}])")), "0 to 5"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 0}])")), "exactly one test, this has 0"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 0, "eq": 1, "le": 2}])")),
       "exactly one test, this has 2"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 0, "eq": "MAP_FXIED"}])")), "unknown constant"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 0, "eq": "12x"}])")), "not a number"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 0, "eq": -1}])")), "is needed, not -1"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 0, "ge": 0}])")), "always holds"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 0, "mask": "7", "is": "8"}])")), "outside"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"arg": 0, "range": [2, 1]}])")), "empty"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "args": [{"sum": [0, 1], "le": "0x4000000000000000"}])")),
       "below 2^62"},
      {profile_of(rule_of(R"("call": {"name": "close", "number": 4}, "action": "allow")")), "close is number 3"},
      {profile_of(rule_of(R"("call": "close", "action": "allow", "variants": ["x"])")), "variant \"x\""},
      {profile_of(good, R"("hot": ["futex"], )"), "no rule names futex"},
      {profile_of(good, R"("defualt": "allow", )"), "unknown field \"defualt\""},
      {profile_of(good, R"("constants": [{"name": "kTwo", "value": 2}], )"), "constant kTwo: \"why\" is missing"},
      {profile_of(""), "no rule at all"},
      {"{" + std::string(kWhy) + R"(, "default": "trap", "rules": []})", "\"wrong_arch\" is missing"},
  };
  for (const Case& c : cases) {
    const std::string e = error_of(c.json);
    EXPECT_EQ(e.rfind("test.json: ", 0), 0u) << e;
    EXPECT_NE(e.find(c.part), std::string::npos) << "wanted " << c.part << "\ngot    " << e;
  }
}

TEST(ProfileErrors, RulesThatCannotBeReachedAreErrors) {
  auto two = [](const std::string& a, const std::string& b) {
    return error_of(profile_of(rule_of(R"("call": "mmap", "action": "allow")" + a) + "," +
                               rule_of(R"("call": "mmap", "action": "notify")" + b)));
  };
  auto args = [](const std::string& s) { return R"(, "args": [)" + s + "]"; };
  const std::string bad = "rule 2 (mmap) can never be reached: rule 1 (mmap)";
  EXPECT_NE(two("", "").find(bad), std::string::npos);
  EXPECT_NE(two("", args(R"({"arg": 0, "eq": 1})")).find(bad), std::string::npos);
  EXPECT_NE(two(args(R"({"arg": 0, "le": 7})"), args(R"({"arg": 0, "in": [1, 7]})")).find(bad), std::string::npos);
  EXPECT_NE(two(args(R"({"arg": 0, "le": 7})"), args(R"({"arg": 0, "range": [2, 7]}, {"arg": 1, "eq": 2})")).find(bad),
            std::string::npos);
  EXPECT_NE(two(args(R"({"sum": [0, 1], "le": 100})"), args(R"({"sum": [1, 0], "le": 99})")).find(bad), std::string::npos);
  EXPECT_EQ(two(args(R"({"arg": 0, "le": 7})"), args(R"({"arg": 0, "in": [1, 8]})")), "accepted");
  EXPECT_EQ(two(args(R"({"arg": 0, "eq": 1})"), ""), "accepted");
  EXPECT_EQ(two(args(R"({"sum": [0, 1], "le": 100})"), args(R"({"sum": [0, 1], "le": 101})")), "accepted");
  EXPECT_NE(two(args(R"({"arg": 0, "eq": 1}, {"arg": 0, "eq": 2})"), "").find("contradict"), std::string::npos);
  EXPECT_NE(two(args(R"({"arg": 0, "ge": 5}, {"arg": 0, "le": 4})"), "").find("contradict"), std::string::npos);
}

TEST(Profile, ConstantsAreExpressionsOfNames) {
  const Profile p = parse(profile_of(
      rule_of(R"("call": "mmap", "action": "allow", "args": [{"arg": 3, "eq": "MAP_PRIVATE|MAP_FIXED"}, {"arg": 4, "eq": "-1"}])"),
      R"("constants": [{"name": "kA", "value": "0x7fff10000000", "why": "for the test"},
                       {"name": "kB", "value": "kA + 0x2000 - 1", "why": "for the test"}], )"));
  EXPECT_EQ(p.constants[1].value, 0x7fff10001fffu);
  EXPECT_EQ(answer(p, call_of(9, {0, 0, 0, 0x12, ~0ull})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(p, call_of(9, {0, 0, 0, 0x12, 0xffffffff})), SECCOMP_RET_TRAP) << "both halves";
  const std::string header = header_text(p, compile(p), "test.json");
  EXPECT_NE(header.find("inline constexpr std::uint64_t kB = 0x7fff10001fff;"), std::string::npos);
}

// Two rules of one call whose 64-bit comparisons share a high half: where a filter generator that merges
// comparisons of halves across rules goes wrong. Here a rule is a block of its own.
TEST(Profile, RulesOfOneCallAreAnOrOfAnds) {
  const Profile p = parse(profile_of(
      rule_of(R"("call": "ioctl", "action": "allow", "args": [{"arg": 0, "ge": "0x100000005"}, {"arg": 1, "eq": "0x200000001"}])") + "," +
      rule_of(R"("call": "ioctl", "action": "notify", "args": [{"arg": 0, "le": "0x100000007"}, {"arg": 1, "eq": "0x200000002"}])") + "," +
      rule_of(R"("call": "ioctl", "action": "errno EPERM", "args": [{"arg": 0, "eq": "0x100000006"}])")));
  const Compiled c = compile(p);
  for (std::uint64_t high0 : {0ull, 1ull, 2ull, 0xffffffffull}) {
    for (std::uint64_t low0 = 3; low0 < 10; ++low0) {
      for (std::uint64_t high1 : {0ull, 2ull, 3ull}) {
        for (std::uint64_t low1 = 0; low1 < 4; ++low1) {
          const std::uint64_t a = high0 << 32 | low0, b = high1 << 32 | low1;
          std::uint32_t want = SECCOMP_RET_TRAP;
          if (a >= 0x100000005 && b == 0x200000001) want = SECCOMP_RET_ALLOW;
          else if (a <= 0x100000007 && b == 0x200000002) want = SECCOMP_RET_USER_NOTIF;
          else if (a == 0x100000006) want = SECCOMP_RET_ERRNO | EPERM;
          auto v = base::bpf::evaluate(c.filter, call_of(16, {a, b}));
          ASSERT_TRUE(v.ok());
          EXPECT_EQ(v->action, want) << std::hex << a << " " << b;
        }
      }
    }
  }
}

// The same for random profiles: up to six rules of one call, random tests on three arguments with few distinct halves.
TEST(Profile, RandomRulesAreAnOrOfAnds) {
  std::mt19937_64 random(20240611);
  const std::uint64_t halves[] = {0, 1, 2, 0x7fff, 0xfffffffe, 0xffffffff};
  auto word = [&] { return halves[random() % 6] << 32 | halves[random() % 6]; };
  struct Compare { unsigned arg; int kind; std::uint64_t v; };
  for (int round = 0; round < 300; ++round) {
    std::vector<std::vector<Compare>> rules(1 + random() % 6);
    std::string json;
    for (auto& rule : rules) {
      std::string args;
      for (unsigned arg = 0; arg < 3; ++arg) {
        if (random() % 3 == 0 && !(arg == 2 && rule.empty())) continue;
        Compare t{arg, static_cast<int>(random() % 4), word()};
        if (t.v == 0 || t.v == ~0ull) t.v = 1;
        static const char* const kNames[] = {"eq", "ne", "le", "ge"};
        args += (args.empty() ? "" : ", ") + std::string(R"({"arg": )") + std::to_string(arg) + ", \"" + kNames[t.kind] +
                "\": " + std::to_string(t.v) + "}";
        rule.push_back(t);
      }
      json += (json.empty() ? "" : ",") +
              rule_of(R"("call": "ioctl", "action": "errno )" + std::to_string(&rule - rules.data() + 1) + R"(", "args": [)" + args + "]");
    }
    Profile p;
    try {
      p = parse(profile_of(json));
    } catch (const ProfileError& e) {
      ASSERT_NE(std::string(e.what()).find("can never be reached"), std::string::npos) << e.what();
      continue;
    }
    const Compiled c = compile(p);
    for (int i = 0; i < 2000; ++i) {
      seccomp_data d = call_of(16, {word(), word(), word()});
      std::uint32_t want = SECCOMP_RET_TRAP;
      for (std::size_t r = rules.size(); r-- > 0;) {
        bool all = true;
        for (const Compare& t : rules[r]) {
          const std::uint64_t v = d.args[t.arg];
          all &= t.kind == 0 ? v == t.v : t.kind == 1 ? v != t.v : t.kind == 2 ? v <= t.v : v >= t.v;
        }
        if (all) want = SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(r + 1);
      }
      auto v = base::bpf::evaluate(c.filter, d);
      ASSERT_TRUE(v.ok());
      ASSERT_EQ(v->action, want) << json;
    }
  }
}

TEST(Profile, CallSitesAreARangeOrExactAddresses) {
  const std::string json = profile_of(rule_of(R"("call": "close", "action": "allow")"),
      R"("ip": {"first": "0x7fff00000000", "last": "0x7fff0000ffff", "why": "for the test"}, )");
  const Profile range = parse(json);
  auto at = [](std::uint64_t ip) {
    seccomp_data d = call_of(3);
    d.instruction_pointer = ip;
    return d;
  };
  EXPECT_EQ(answer(range, at(0x7fff00000000)), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(range, at(0x7fff0000ffff)), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(range, at(0x7fff00010000)), SECCOMP_RET_TRAP);
  EXPECT_EQ(answer(range, at(0x7ffe00000100)), SECCOMP_RET_TRAP);
  EXPECT_EQ(answer(range, at(0x100007fff0000)), SECCOMP_RET_TRAP);

  auto with = [&](const std::string& symbols) {
    return parse_profile(json, {"test.json", "test", "", symbols});
  };
  EXPECT_THROW(with("stub_futex 0x7fff00000120"), ProfileError) << "no rule may be without its sites then";
  EXPECT_THROW(with(""), ProfileError);
  EXPECT_THROW(with("stub_futex 7fff00000120"), ProfileError);
  EXPECT_THROW(with("stub_futex 0x7ffe00000120"), ProfileError);
  EXPECT_THROW(with("a 0x7fff00000120\nb 0x7fff00000120"), ProfileError);
}

TEST(Profile, RulesHoldAtTheSitesThatTheyName) {
  const std::string ip = R"("ip": {"first": "0x7fff00000000", "last": "0x7fff0000ffff", "why": "for the test"}, )";
  auto with = [&](const std::string& rules, const char* symbols = "# sites\nstub_futex 0x7fff00000120\n\nstub_knock 0x7fff00000240\n") {
    return parse_profile(profile_of(rules, ip), {"test.json", "test", "", symbols});
  };
  const std::string at_futex = rule_of(R"("call": "close", "action": "allow", "at": ["stub_futex"])");
  const std::string at_knock = rule_of(R"("call": "close", "action": "notify", "at": ["stub_knock"])");
  const std::string at_both = rule_of(R"("call": "close", "action": "notify", "at": ["stub_knock", "stub_futex"])");
  const Profile exact = with(at_futex + ", " + at_knock);
  auto at = [](std::uint64_t site, int nr = 3) {
    seccomp_data d = call_of(nr);
    d.instruction_pointer = site;
    return d;
  };
  for (std::uint64_t site = 0x7fff00000000; site < 0x7fff00000400; ++site) {
    // The kernel reports the address behind the two bytes of the instruction.
    const std::uint32_t want = site == 0x7fff00000122 ? SECCOMP_RET_ALLOW : site == 0x7fff00000242 ? SECCOMP_RET_USER_NOTIF
                                                                                                    : SECCOMP_RET_TRAP;
    EXPECT_EQ(answer(exact, at(site)), want) << std::hex << site;
    EXPECT_EQ(answer(exact, at(site, 4)), SECCOMP_RET_TRAP);
  }
  EXPECT_EQ(answer(exact, at(0x100000122)), SECCOMP_RET_TRAP);
  EXPECT_EQ(answer(with(at_both), at(0x7fff00000122)), SECCOMP_RET_USER_NOTIF);
  EXPECT_NO_THROW(with(at_futex + ", " + at_both)) << "half of the second can be reached";
  EXPECT_THROW(with(at_both + ", " + at_futex), ProfileError) << "never reached";
  EXPECT_THROW(with(rule_of(R"("call": "close", "action": "allow", "at": ["stub_other"])")), ProfileError);
  EXPECT_THROW(with(rule_of(R"("call": "close", "action": "allow", "at": ["stub_futex", "stub_futex"])")), ProfileError);
  EXPECT_THROW(with(rule_of(R"("call": "close", "action": "allow", "at": [])")), ProfileError);
  EXPECT_THROW(with(at_futex, "stub_futex 0x7fff00000120\nstub_futex 0x7fff00000130"), ProfileError);
  EXPECT_THROW(parse(profile_of(at_futex, ip)), ProfileError) << "without its addresses it would hold anywhere";
  EXPECT_THROW(parse(profile_of(at_futex)), ProfileError);
}

}  // namespace
}  // namespace seccomp_profiles::compiler
