// SPDX-License-Identifier: Apache-2.0
// Reading a profile. Everything that is not understood is an error: a misspelt field must not widen a filter.
#include "seccomp-profiles/compiler/profile.h"

#include <linux/audit.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/bpf/program.h"
#include "seccomp-profiles/compiler/names.h"

namespace seccomp_profiles::compiler {
namespace {

using nlohmann::json;
using Kind = Condition::Kind;

class Reader {
 public:
  explicit Reader(const ParseOptions& o) : o_(o) {}
  Profile read(const std::string& text);

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw ProfileError(o_.path + ": " + (where_.empty() ? "" : where_ + ": ") + what);
  }
  void only_fields(const json& j, std::initializer_list<const char*> known) const;
  std::string text_of(const json& j, const char* field) const;
  std::string why_of(const json& j) const;
  std::uint64_t term(const std::string& s) const;
  std::uint64_t number(const json& j) const;
  std::uint64_t expression(const std::string& s) const;
  std::string spelling(const json& j) const { return j.is_string() ? j.get<std::string>() : j.dump(); }
  std::uint32_t action(const std::string& s) const;
  unsigned arg_index(const json& j) const;
  Condition condition(const json& j) const;
  void read_constants(const json& j);
  void read_ip(const json& j);
  std::vector<Site> read_symbols(const CallSites& range) const;
  std::vector<std::uint64_t> read_at(const json& j) const;
  bool in_variant(const json& j);
  std::uint32_t resolve(const json& call, std::string* name) const;
  void read_rule(const json& j, std::size_t index);
  void check_reachable() const;
  void read_hot(const json& j);

  const ParseOptions& o_;
  std::string where_;
  std::vector<std::string> variants_;
  Profile p_;
};

// nlohmann keeps the last of two equal keys; here two are an error.
json parse_strict(const std::string& text, const std::string& path) {
  std::vector<std::set<std::string>> keys;
  std::string twice;
  auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      twice = value.get<std::string>();
    }
    return true;
  };
  json out;
  try {
    out = json::parse(text, watch);
  } catch (const json::exception& e) {
    throw ProfileError(path + ": not JSON: " + e.what());
  }
  if (!twice.empty()) throw ProfileError(path + ": field \"" + twice + "\" is there twice");
  return out;
}

void Reader::only_fields(const json& j, std::initializer_list<const char*> known) const {
  if (!j.is_object()) fail("an object is needed, not " + j.dump());
  for (const auto& [key, value] : j.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string list;
    for (const char* k : known) list += std::string(list.empty() ? "" : ", ") + k;
    fail("unknown field \"" + key + "\"; known here: " + list);
  }
}

std::string Reader::text_of(const json& j, const char* field) const {
  if (!j.contains(field) || !j[field].is_string() || j[field].get<std::string>().empty()) {
    fail(std::string("\"") + field + "\" is missing or not a text");
  }
  return j[field].get<std::string>();
}

std::string Reader::why_of(const json& j) const {
  if (!j.contains("why")) fail("\"why\" is missing: every rule gives its reason");
  std::string why = text_of(j, "why");
  if (why.size() < 8) fail("\"why\" is too short to be a reason: \"" + why + "\"");
  return why;
}

std::uint64_t Reader::term(const std::string& s) const {
  if (s.empty()) fail("an empty term in a number");
  if (s[0] >= '0' && s[0] <= '9') {
    std::size_t used = 0;
    std::uint64_t v = 0;
    try {
      v = std::stoull(s, &used, 0);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != s.size()) fail("\"" + s + "\" is not a number");
    return v;
  }
  for (const Constant& c : p_.constants) {
    if (c.name == s) return c.value;
  }
  if (auto v = find_constant(s)) return *v;
  fail("unknown constant \"" + s + "\": name it in \"constants\" or in seccomp-profiles/compiler/names.cc");
}

// term { ('|' | '+' | '-') term }, from left to right; '-' may stand before the first.
std::uint64_t Reader::expression(const std::string& s) const {
  std::uint64_t v = 0;
  char op = '+';
  std::string word;
  auto apply = [&] {
    const std::uint64_t t = term(word);
    bool wrapped = false;
    if (op == '|') v |= t;
    else if (op == '+') wrapped = __builtin_add_overflow(v, t, &v);
    else wrapped = v != 0 && v < t, v -= t;
    if (wrapped) fail("\"" + s + "\" leaves 64 bits");
    word.clear();
  };
  for (std::size_t i = 0; i < s.size(); ++i) {
    const char c = s[i];
    if (c == ' ') continue;
    if (c == '|' || c == '+' || c == '-') {
      if (!(i == 0 && c == '-')) apply();
      op = c;
    } else {
      word += c;
    }
  }
  apply();
  return v;
}

std::uint64_t Reader::number(const json& j) const {
  if (j.is_number_unsigned()) return j.get<std::uint64_t>();
  if (j.is_string()) return expression(j.get<std::string>());
  fail("a number, or a text with a number or constants, is needed, not " + j.dump());
}

std::uint32_t Reader::action(const std::string& s) const {
  static const std::map<std::string, std::uint32_t> names = {
      {"allow", SECCOMP_RET_ALLOW},  {"trap", SECCOMP_RET_TRAP}, {"notify", SECCOMP_RET_USER_NOTIF},
      {"log", SECCOMP_RET_LOG},      {"kill_process", SECCOMP_RET_KILL_PROCESS},
  };
  if (auto it = names.find(s); it != names.end()) return it->second;
  if (s.rfind("errno ", 0) == 0) {
    const std::uint64_t e = term(s.substr(6));
    if (e == 0 || e > 4095) fail("\"" + s + "\" is not an error number");
    return SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(e);
  }
  fail("unknown action \"" + s + "\"; known: allow, trap, notify, log, kill_process, errno NAME");
}

unsigned Reader::arg_index(const json& j) const {
  if (!j.is_number_unsigned() || j.get<std::uint64_t>() >= base::bpf::kArgCount) {
    fail("an argument is 0 to 5, not " + j.dump());
  }
  return j.get<unsigned>();
}

Condition Reader::condition(const json& j) const {
  only_fields(j, {"arg", "name", "eq", "ne", "le", "ge", "range", "in", "subset", "mask", "is", "sum"});
  if (j.contains("is") != j.contains("mask")) fail("\"mask\" and \"is\" go together");
  Condition c{};
  if (j.contains("sum")) {
    if (j.contains("arg") || j.size() != 2 || !j.contains("le")) fail("a sum is {\"sum\": [a, b], \"le\": bound}");
    if (!j["sum"].is_array() || j["sum"].size() != 2) fail("\"sum\" needs two arguments");
    c.kind = Kind::sum;
    c.arg = arg_index(j["sum"][0]);
    c.other = arg_index(j["sum"][1]);
    c.last = number(j["le"]);
    if (c.arg == c.other) fail("\"sum\" of an argument with itself");
    if (c.last >= std::uint64_t{1} << 62) fail("the bound of a sum must be below 2^62");
    c.text = "arg" + std::to_string(c.arg) + " + arg" + std::to_string(c.other) + " <= " + spelling(j["le"]);
    return c;
  }
  if (!j.contains("arg")) fail("a condition names its \"arg\" or a \"sum\"");
  c.arg = arg_index(j["arg"]);
  std::string subject = "arg" + std::to_string(c.arg);
  if (j.contains("name")) subject = text_of(j, "name");
  const std::size_t tests = j.size() - 1 - j.count("name") - j.count("is");
  if (tests != 1) fail("a condition has exactly one test, this has " + std::to_string(tests));
  c.kind = Kind::range;
  c.last = ~std::uint64_t{0};
  if (j.contains("eq")) {
    c.kind = Kind::set;
    c.values = {number(j["eq"])};
    c.text = subject + " == " + spelling(j["eq"]);
  } else if (j.contains("ne")) {
    c.kind = Kind::differs;
    c.first = number(j["ne"]);
    c.text = subject + " != " + spelling(j["ne"]);
  } else if (j.contains("le")) {
    c.last = number(j["le"]);
    c.text = subject + " <= " + spelling(j["le"]);
  } else if (j.contains("ge")) {
    c.first = number(j["ge"]);
    c.text = subject + " >= " + spelling(j["ge"]);
  } else if (j.contains("range")) {
    const json& r = j["range"];
    if (!r.is_array() || r.size() != 2) fail("\"range\" needs a first and a last value");
    c.first = number(r[0]);
    c.last = number(r[1]);
    if (c.first > c.last) fail("\"range\" is empty");
    c.text = subject + " in [" + spelling(r[0]) + " .. " + spelling(r[1]) + "]";
  } else if (j.contains("in")) {
    const json& set = j["in"];
    if (!set.is_array() || set.empty()) fail("\"in\" needs a list of values");
    c.kind = Kind::set;
    std::string list;
    for (const json& v : set) {
      c.values.push_back(number(v));
      list += (list.empty() ? "" : ", ") + spelling(v);
    }
    std::sort(c.values.begin(), c.values.end());
    if (std::adjacent_find(c.values.begin(), c.values.end()) != c.values.end()) fail("\"in\" has a value twice");
    c.text = subject + " in {" + list + "}";
  } else if (j.contains("subset")) {
    c.kind = Kind::masked;
    c.mask = ~number(j["subset"]);
    if (c.mask == 0) fail("\"subset\" of all bits always holds");
    c.text = subject + " has no bit but " + spelling(j["subset"]);
  } else {
    c.kind = Kind::masked;
    c.mask = number(j["mask"]);
    c.first = number(j["is"]);
    if (c.mask == 0 || (c.first & ~c.mask) != 0) fail("\"is\" has bits outside \"mask\", or \"mask\" is 0");
    c.text = subject + " & (" + spelling(j["mask"]) + ") == " + spelling(j["is"]);
  }
  if (c.kind == Kind::range && c.first == 0 && c.last == ~std::uint64_t{0}) fail(c.text + " always holds");
  return c;
}

void Reader::read_constants(const json& j) {
  if (!j.is_array()) fail("\"constants\" is a list");
  for (const json& c : j) {
    where_ = "constant " + (c.contains("name") ? spelling(c["name"]) : std::string("?"));
    only_fields(c, {"name", "value", "why"});
    Constant k{text_of(c, "name"), 0, why_of(c)};
    if (k.name.size() < 2 || k.name[0] != 'k' || k.name[1] < 'A' || k.name[1] > 'Z' ||
        k.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != std::string::npos) {
      fail("a constant is named like kBound");
    }
    for (const Constant& o : p_.constants) {
      if (o.name == k.name) fail("defined twice");
    }
    if (!c.contains("value")) fail("\"value\" is missing");
    k.value = number(c["value"]);
    p_.constants.push_back(k);
  }
  where_.clear();
}

std::vector<Site> Reader::read_symbols(const CallSites& range) const {
  std::istringstream in(*o_.ip_symbols);
  std::vector<Site> out;
  constexpr std::uint64_t kSyscallInsnLength = 2;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name, address, rest;
    if (!(words >> name) || name[0] == '#') continue;
    if (!(words >> address) || (words >> rest) || address.rfind("0x", 0) != 0) {
      fail("symbol line \"" + line + "\" is not \"name 0xaddress\"");
    }
    const std::uint64_t site = term(address) + kSyscallInsnLength;
    if (!range.contains(site)) fail("symbol " + name + " at " + address + " is outside the range of \"ip\"");
    for (const Site& o : out) {
      if (o.name == name) fail("symbol " + name + " is there twice");
    }
    out.push_back({name, site});
  }
  if (out.empty()) fail("no symbol in the list of syscall instructions");
  std::sort(out.begin(), out.end(), [](const Site& a, const Site& b) { return a.ip < b.ip; });
  auto same = std::adjacent_find(out.begin(), out.end(), [](const Site& a, const Site& b) { return a.ip == b.ip; });
  if (same != out.end()) fail("two symbols have the same address");
  return out;
}

std::vector<std::uint64_t> Reader::read_at(const json& j) const {
  if (!p_.sites || p_.sites->exact.empty()) fail("\"at\" needs a profile with \"ip\" and a list of syscall instructions");
  if (!j.is_array() || j.empty()) fail("\"at\" is a list of names of syscall instructions");
  std::vector<std::uint64_t> out;
  for (const json& name : j) {
    if (!name.is_string()) fail("\"at\" is a list of names of syscall instructions");
    auto site = std::find_if(p_.sites->exact.begin(), p_.sites->exact.end(),
                             [&](const Site& s) { return s.name == name.get<std::string>(); });
    if (site == p_.sites->exact.end()) fail("no syscall instruction is named " + name.dump());
    out.push_back(site->ip);
  }
  std::sort(out.begin(), out.end());
  if (std::adjacent_find(out.begin(), out.end()) != out.end()) fail("\"at\" has a name twice");
  return out;
}

void Reader::read_ip(const json& j) {
  where_ = "ip";
  only_fields(j, {"first", "last", "why"});
  (void)why_of(j);
  if (!j.contains("first") || !j.contains("last")) fail("\"first\" and \"last\" are needed");
  CallSites s;
  s.first = number(j["first"]);
  s.last = number(j["last"]);
  if (s.first > s.last) fail("the range is empty");
  if (o_.ip_symbols) s.exact = read_symbols(s);
  p_.sites = s;
  where_.clear();
}

bool Reader::in_variant(const json& j) {
  if (!j.contains("variants")) return true;
  const json& list = j["variants"];
  if (!list.is_array() || list.empty()) fail("\"variants\" is a list of names");
  bool mine = false;
  for (const json& v : list) {
    if (!v.is_string() || std::find(variants_.begin(), variants_.end(), v.get<std::string>()) == variants_.end()) {
      fail("variant " + v.dump() + " is not one of the profile's");
    }
    mine |= v.get<std::string>() == o_.variant;
  }
  return mine;
}

std::uint32_t Reader::resolve(const json& call, std::string* name) const {
  if (call.is_object()) {
    only_fields(call, {"name", "number"});
    *name = text_of(call, "name");
    if (!call.contains("number")) fail("a call given as an object has a \"number\"");
    const std::uint64_t n = number(call["number"]);
    if (n >= 0x40000000) fail("call number " + spelling(call["number"]) + " is not one of x86-64");
    auto known = find_call(*name);
    if (known && *known != n) fail(*name + " is number " + std::to_string(*known) + " to libseccomp");
    return static_cast<std::uint32_t>(n);
  }
  if (!call.is_string()) fail("\"call\" is a name, a {name, number}, or a list of them, not " + call.dump());
  *name = call.get<std::string>();
  auto n = find_call(*name);
  if (!n) fail("unknown system call \"" + *name + "\" (for one that libseccomp lacks, give {name, number})");
  return *n;
}

void Reader::read_rule(const json& j, std::size_t index) {
  where_ = "rule " + std::to_string(index);
  if (j.is_object() && j.contains("call")) where_ += " (" + spelling(j["call"]) + ")";
  only_fields(j, {"call", "action", "at", "args", "variants", "why"});
  if (!j.contains("call")) fail("\"call\" is missing");
  Rule rule;
  rule.why = why_of(j);
  rule.action = action(text_of(j, "action"));
  if (j.contains("args")) {
    if (!j["args"].is_array() || j["args"].empty()) fail("\"args\" is a list of conditions");
    for (const json& c : j["args"]) rule.when.push_back(condition(c));
  }
  if (j.contains("at")) rule.at = read_at(j["at"]);
  else if (p_.sites && !p_.sites->exact.empty()) fail("\"at\" is missing: which syscall instruction makes this call");
  if (contradict(rule.when)) fail("its conditions contradict each other, no call can match");
  // A rule is read to its end before it is left out, so that every variant's build finds its mistakes.
  const bool mine = in_variant(j);
  const json list = j["call"].is_array() ? j["call"] : json::array({j["call"]});
  if (list.empty()) fail("\"call\" is empty");
  for (const json& call : list) {
    rule.number = resolve(call, &rule.call);
    rule.label = "rule " + std::to_string(index) + " (" + rule.call + ")";
    if (mine) p_.rules.push_back(rule);
  }
  where_.clear();
}

void Reader::check_reachable() const {
  for (std::size_t i = 0; i < p_.rules.size(); ++i) {
    const Rule& later = p_.rules[i];
    for (std::size_t k = 0; k < i; ++k) {
      const Rule& earlier = p_.rules[k];
      if (earlier.number != later.number) continue;
      const bool everywhere = earlier.at.empty() ||
          std::includes(earlier.at.begin(), earlier.at.end(), later.at.begin(), later.at.end());
      const bool covered = everywhere && std::all_of(earlier.when.begin(), earlier.when.end(), [&](const Condition& e) {
        return std::any_of(later.when.begin(), later.when.end(), [&](const Condition& l) { return implies(l, e); });
      });
      if (covered) fail(later.label + " can never be reached: " + earlier.label + " matches all of it first");
    }
  }
}

void Reader::read_hot(const json& j) {
  where_ = "hot";
  if (!j.is_array()) fail("a list of calls is needed");
  for (const json& call : j) {
    std::string name;
    const std::uint32_t n = resolve(call, &name);
    if (std::none_of(p_.rules.begin(), p_.rules.end(), [&](const Rule& r) { return r.number == n; })) {
      fail("no rule names " + name);
    }
    if (std::find(p_.hot.begin(), p_.hot.end(), n) != p_.hot.end()) fail(name + " is there twice");
    p_.hot.push_back(n);
  }
  where_.clear();
}

Profile Reader::read(const std::string& text) {
  const json j = parse_strict(text, o_.path);
  only_fields(j, {"why", "variants", "wrong_arch", "default", "ip", "hot", "constants", "rules"});
  p_.name = o_.name;
  p_.why = why_of(j);
  if (j.contains("variants")) {
    if (!j["variants"].is_array()) fail("\"variants\" is a list of names");
    for (const json& v : j["variants"]) variants_.push_back(spelling(v));
  }
  const bool known = std::find(variants_.begin(), variants_.end(), o_.variant) != variants_.end();
  if (variants_.empty() ? !o_.variant.empty() : !known) fail("no variant \"" + o_.variant + "\"");
  p_.wrong_arch = action(text_of(j, "wrong_arch"));
  p_.default_action = action(text_of(j, "default"));
  if (j.contains("constants")) read_constants(j["constants"]);
  if (j.contains("ip")) read_ip(j["ip"]);
  else if (o_.ip_symbols) fail("instruction addresses were given, but the profile has no \"ip\"");
  if (!j.contains("rules") || !j["rules"].is_array()) fail("\"rules\" is a list");
  std::size_t index = 0;
  for (const json& r : j["rules"]) read_rule(r, ++index);
  if (p_.rules.empty()) fail("no rule at all");
  check_reachable();
  if (j.contains("hot")) read_hot(j["hot"]);
  return std::move(p_);
}

}  // namespace

bool Rule::matches(const seccomp_data& d) const {
  return static_cast<std::uint32_t>(d.nr) == number &&
         (at.empty() || std::binary_search(at.begin(), at.end(), d.instruction_pointer)) &&
         std::all_of(when.begin(), when.end(), [&](const Condition& c) { return c.holds(d); });
}

bool CallSites::contains(std::uint64_t ip) const {
  if (!exact.empty()) return std::any_of(exact.begin(), exact.end(), [&](const Site& s) { return s.ip == ip; });
  return ip >= first && ip <= last;
}

std::uint32_t Profile::action_for(const seccomp_data& d) const {
  if (d.arch != AUDIT_ARCH_X86_64) return wrong_arch;
  if (sites && !sites->contains(d.instruction_pointer)) return default_action;
  for (const Rule& r : rules) {
    if (r.matches(d)) return r.action;
  }
  return default_action;
}

Profile parse_profile(const std::string& json_text, const ParseOptions& options) {
  return Reader(options).read(json_text);
}

}  // namespace seccomp_profiles::compiler
