// SPDX-License-Identifier: Apache-2.0
// Every generated program against its profile, read again and applied without BPF: for each rule a call that it
// decides, and then that call with one or two arguments replaced by values around every number of the profile.
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "seccomp-profiles/compiler/generate.h"
#include "seccomp-profiles/filter_test_util.h"
#include "seccomp-profiles/gofer.h"
#include "seccomp-profiles/sentry.h"
#include "seccomp-profiles/sentry_sockets.h"
#include "seccomp-profiles/stub_direct.h"
#include "seccomp-profiles/stub_strict.h"

namespace seccomp_profiles {
namespace {

using compiler::Condition;
using Kind = Condition::Kind;

struct Role {
  const char* file;
  const char* variant;
  const Program& program;
};
const Role kRoles[] = {{"stub.json", "direct", stub_direct::kProgram},
                       {"stub.json", "strict", stub_strict::kProgram},
                       {"sentry.json", "alone", sentry::kProgram},
                       {"sentry.json", "sockets", sentry_sockets::kProgram},
                       {"gofer.json", "", gofer::kProgram}};

compiler::Profile load(const Role& r) {
  std::ifstream in(std::string(PROFILE_DIR "/") + r.file);
  std::ostringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(in.good());
  std::optional<std::string> sites;
  if (r.program.site_count != 0) {
    std::ifstream list(STUB_SITES);
    sites.emplace(std::istreambuf_iterator<char>(list), std::istreambuf_iterator<char>());
  }
  return compiler::parse_profile(text.str(), {r.file, r.program.name, r.variant, sites});
}

// Arguments that satisfy one rule; those that it does not name are `rest`.
Args witness(const compiler::Rule& rule, U64 rest = 0) {
  Args args;
  args.fill(rest);
  std::array<bool, 6> chosen{};
  // The narrowest first, so that a range does not choose for a set.
  for (Kind k : {Kind::set, Kind::masked, Kind::range, Kind::differs}) {
    for (const Condition& c : rule.when) {
      if (c.kind != k || chosen[c.arg]) continue;
      chosen[c.arg] = true;
      args[c.arg] = k == Kind::set ? c.values.back() : k == Kind::differs ? c.first + 1 : c.first;
    }
  }
  return args;
}

std::vector<U64> interesting(const compiler::Profile& p, std::uint32_t number) {
  std::set<U64> out = {0, 1, ~U64{0}};
  auto add = [&](U64 v) {
    for (U64 w : {v, v - 1, v + 1, v ^ U64{1} << 32, v ^ U64{1} << 63, v << 32, v & 0xffffffff, ~v}) out.insert(w);
  };
  for (const compiler::Rule& r : p.rules) {
    if (r.number != number) continue;
    for (const Condition& c : r.when) {
      for (U64 v : {c.first, c.last, c.mask}) add(v);
      for (U64 v : c.values) add(v);
    }
  }
  return {out.begin(), out.end()};
}

TEST(Model, EveryRuleDecidesSomeCall) {
  for (const Role& role : kRoles) {
    const auto p = load(role);
    ASSERT_EQ(p.rules.size(), role.program.rule_count);
    for (std::size_t i = 0; i < p.rules.size(); ++i) {
      // With a length of 1 if an earlier rule takes the call with 0.
      seccomp_data d{};
      for (U64 rest : {U64{0}, U64{1}}) {
        d = call_of(p.rules[i].number, witness(p.rules[i], rest), p.rules[i].at.empty() ? kAnySite : p.rules[i].at.front());
        if (std::none_of(p.rules.begin(), p.rules.begin() + static_cast<std::ptrdiff_t>(i),
                         [&](const compiler::Rule& r) { return r.matches(d); })) break;
      }
      ASSERT_TRUE(p.rules[i].matches(d)) << role.file << " " << p.rules[i].label;
      auto v = base::bpf::evaluate({role.program.filter, role.program.length}, d);
      ASSERT_TRUE(v.ok());
      EXPECT_EQ(v->at, role.program.rules[i].at) << role.file << " " << p.rules[i].label << "\n" << describe(role.program, d);
      EXPECT_EQ(v->action, p.rules[i].action);
    }
  }
}

TEST(Model, ProgramsAgreeWithTheirProfilesAroundEveryNumber) {
  for (const Role& role : kRoles) {
    const auto p = load(role);
    std::size_t compared = 0;
    auto same = [&](const seccomp_data& d) {
      ++compared;
      return answer_at(role.program, d) == p.action_for(d);
    };
    for (const compiler::Rule& rule : p.rules) {
      std::vector<U64> values = interesting(p, rule.number);
      const Args base = witness(rule);
      for (unsigned a = 0; a < 6; ++a) {
        for (U64 v : values) {
          seccomp_data d = call_of(rule.number, base, rule.at.empty() ? kAnySite : rule.at.back());
          d.args[a] = v;
          ASSERT_TRUE(same(d)) << describe(role.program, d);
          // A second argument, thinned out to keep the test short.
          for (unsigned b = a + 1; b < 6; ++b) {
            for (std::size_t k = (a + b) % 7; k < values.size(); k += 7) {
              d.args[b] = values[k];
              ASSERT_TRUE(same(d)) << describe(role.program, d);
            }
            d.args[b] = base[b];
          }
        }
      }
    }
    EXPECT_GT(compared, 10000u) << role.program.name;
  }
}

TEST(Model, ProgramsAgreeOnEveryNumberArchitectureAndCallSite) {
  std::mt19937_64 random(7);
  for (const Role& role : kRoles) {
    const auto p = load(role);
    std::vector<Args> tuples = {Args{}};
    for (std::size_t i = 0; i < p.rules.size(); i += 5) tuples.push_back(witness(p.rules[i]));
    for (const Args& args : tuples) {
      for (std::uint32_t nr = 0; nr < 1024; ++nr) {
        for (std::uint32_t n : {nr, nr | 0x40000000u, nr | 0x80000000u, ~nr}) {
          seccomp_data d = call_of(n, args);
          for (unsigned i = 0; i < role.program.site_count; ++i) {
            d.instruction_pointer = role.program.sites[i].ip + random() % 3 - 1;
            ASSERT_EQ(answer_at(role.program, d), p.action_for(d)) << describe(role.program, d);
          }
          d.instruction_pointer = random();
          ASSERT_EQ(answer_at(role.program, d), p.action_for(d)) << describe(role.program, d);
          d.arch ^= 1u << random() % 32;
          ASSERT_EQ(answer(role.program, d), p.wrong_arch);
        }
      }
    }
  }
}

TEST(Model, ProgramsAreValidAndShortOnTheHotPath) {
  for (const Role& role : kRoles) {
    EXPECT_TRUE(base::bpf::validate({role.program.filter, role.program.length}).ok()) << role.program.name;
  }
  auto steps = [](const Program& p, std::uint32_t nr, const Args& a) {
    auto v = base::bpf::evaluate({p.filter, p.length}, at_best_site(p, call_of(nr, a)));
    return v.ok() ? v->steps : ~0u;
  };
  EXPECT_LE(steps(stub_direct::kProgram, 202, {0x10000, 128, 0, 0, 0, 0}), 13u);
  EXPECT_LE(steps(stub_direct::kProgram, 15, {}), 10u);
  for (const Role& role : kRoles) {
    for (std::uint32_t nr = 0; nr < 512; ++nr) EXPECT_LE(steps(role.program, nr, {}), 80u) << role.program.name << nr;
  }
}

}  // namespace
}  // namespace seccomp_profiles
