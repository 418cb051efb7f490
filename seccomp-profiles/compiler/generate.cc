// SPDX-License-Identifier: Apache-2.0
// Order of a program: architecture, instruction pointer (if it is a range), hot calls one by one, then a binary search over the
// other numbers, then one block for each call. A block tests its rules in order, and every rule has a return
// instruction of its own: where a program ends tells which rule decided.
#include "seccomp-profiles/compiler/generate.h"

#include <linux/audit.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "base/bpf/conditions.h"
#include "base/bpf/disassemble.h"
#include "base/bpf/evaluate.h"

namespace seccomp_profiles::compiler {
namespace {

using base::bpf::Assembler;
using base::bpf::kNext;
using base::bpf::Label;

struct Block {
  std::uint32_t number;
  Label at;
};

// A holds the number. Leaves of up to three comparisons cost less than another halving.
void emit_search(Assembler& a, const std::vector<Block>& blocks, std::size_t begin, std::size_t end, Label miss) {
  constexpr std::size_t kLeaf = 3;
  if (end - begin <= kLeaf) {
    for (std::size_t i = begin; i < end; ++i) {
      a.jump_eq(blocks[i].number, blocks[i].at, i + 1 < end ? kNext : miss);
    }
    if (begin == end) a.jump(miss);
    return;
  }
  const std::size_t middle = begin + (end - begin) / 2;
  Label right = a.label();
  a.jump_ge(blocks[middle].number, right, kNext);
  emit_search(a, blocks, begin, middle, miss);
  a.place(right);
  emit_search(a, blocks, middle, end, miss);
}

std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
    out += c;
  }
  return out + "\"";
}

std::string hex(std::uint64_t v) {
  char buf[24];
  std::snprintf(buf, sizeof buf, "0x%llx", static_cast<unsigned long long>(v));
  return buf;
}

std::string when_text(const Rule& r) {
  std::string out;
  for (const Condition& c : r.when) out += (out.empty() ? "" : ", ") + c.text;
  return out;
}

}  // namespace

Compiled compile(const Profile& p) {
  Assembler a;
  Label wrong_arch = a.label(), refuse = a.label();
  a.load(base::bpf::kArchOffset);
  a.jump_eq(AUDIT_ARCH_X86_64, kNext, wrong_arch);
  // With exact sites every rule tests its own.
  if (p.sites && p.sites->exact.empty()) {
    test_range(a, base::bpf::kInstructionPointer, p.sites->first, p.sites->last, kNext, refuse);
  }
  std::vector<Block> hot, rest;
  for (std::uint32_t n : p.hot) hot.push_back({n, a.label()});
  for (const Rule& r : p.rules) {
    auto same = [&](const Block& b) { return b.number == r.number; };
    if (std::none_of(hot.begin(), hot.end(), same) && std::none_of(rest.begin(), rest.end(), same)) {
      rest.push_back({r.number, a.label()});
    }
  }
  std::sort(rest.begin(), rest.end(), [](const Block& x, const Block& y) { return x.number < y.number; });
  a.load(base::bpf::kNumberOffset);
  for (const Block& b : hot) a.jump_eq(b.number, b.at, kNext);
  emit_search(a, rest, 0, rest.size(), refuse);
  a.place(refuse);
  a.ret(p.default_action);
  a.place(wrong_arch);
  a.ret(p.wrong_arch);

  std::vector<std::size_t> emitted(p.rules.size());
  hot.insert(hot.end(), rest.begin(), rest.end());
  for (const Block& b : hot) {
    a.place(b.at);
    bool open = true;  // whether control reaches behind the last rule so far
    for (std::size_t i = 0; i < p.rules.size(); ++i) {
      if (p.rules[i].number != b.number) continue;
      Label no = a.label();
      if (!p.rules[i].at.empty()) test_in(a, base::bpf::kInstructionPointer, p.rules[i].at, kNext, no);
      for (const Condition& c : p.rules[i].when) c.emit(a, no);
      emitted[i] = a.size();
      a.ret(p.rules[i].action);
      a.place(no);
      open = !p.rules[i].when.empty() || !p.rules[i].at.empty();
    }
    if (open) a.ret(p.default_action);
  }
  auto done = a.finish();
  if (!done.ok()) throw ProfileError(p.name + ": the program cannot be assembled: " + std::string(done.error().name()));
  Compiled out;
  out.filter = std::move(done->insns);
  if (!base::bpf::validate(out.filter).ok()) throw ProfileError(p.name + ": the kernel would refuse the program");
  for (std::size_t e : emitted) out.return_of.push_back(done->index_of[e]);
  return out;
}

std::string header_text(const Profile& p, const Compiled& c, const std::string& source) {
  std::string o = "// SPDX-License-Identifier: Apache-2.0\n// Generated from " + source + "; do not edit. " + p.why + "\n";
  o += "#pragma once\n\n#include \"seccomp-profiles/program.h\"\n\nnamespace seccomp_profiles::" + p.name + " {\n\n";
  for (const Constant& k : p.constants) {
    o += "// " + k.why + "\ninline constexpr std::uint64_t " + k.name + " = " + hex(k.value) + ";\n";
  }
  o += "\ninline constexpr sock_filter kFilter[] = {\n";
  for (std::size_t i = 0; i < c.filter.size(); ++i) {
    const auto& in = c.filter[i];
    char line[96];
    std::snprintf(line, sizeof line, "    {0x%02x, %3u, %3u, 0x%08x},  // %3zu  ", in.code, in.jt, in.jf, in.k, i);
    o += line + base::bpf::insn_text(in, i) + "\n";
  }
  o += "};\n\ninline constexpr Rule kRules[] = {\n";
  for (std::size_t i = 0; i < p.rules.size(); ++i) {
    const Rule& r = p.rules[i];
    o += "    {" + quoted(r.call) + ", " + std::to_string(r.number) + ", " + hex(r.action) + ", " + quoted(when_text(r)) +
         ",\n     " + quoted(r.why) + ", " + std::to_string(c.return_of[i]) + "},\n";
  }
  const bool exact = p.sites && !p.sites->exact.empty();
  o += "};\n\n";
  if (exact) {
    o += "// The syscall instructions that may make calls; addresses as a filter sees them, behind the instruction.\n";
    o += "inline constexpr CallSite kSites[] = {\n";
    for (const Site& s : p.sites->exact) o += "    {" + quoted(s.name) + ", " + hex(s.ip) + "},\n";
    o += "};\n\n";
  }
  o += "inline constexpr Program kProgram = {" + quoted(p.name) + ", kFilter, sizeof kFilter / sizeof kFilter[0],\n";
  o += "    sizeof kRules / sizeof kRules[0], kRules, " + hex(p.default_action);
  o += exact ? ",\n    kSites, sizeof kSites / sizeof kSites[0]};\n\n" : "};\n\n";
  return o + "}  // namespace seccomp_profiles::" + p.name + "\n";
}

std::string listing_text(const Profile& p, const Compiled& c) {
  std::map<std::uint32_t, const Rule*> ends;
  for (std::size_t i = 0; i < p.rules.size(); ++i) ends[c.return_of[i]] = &p.rules[i];
  std::string o = p.name + ": " + std::to_string(c.filter.size()) + " instructions\n";
  for (std::size_t i = 0; i < c.filter.size(); ++i) {
    o += std::to_string(i) + "  " + base::bpf::insn_text(c.filter[i], i);
    if (auto it = ends.find(static_cast<std::uint32_t>(i)); it != ends.end()) {
      o += "  ; " + it->second->label + " " + when_text(*it->second);
    }
    o += "\n";
  }
  return o;
}

}  // namespace seccomp_profiles::compiler
