// SPDX-License-Identifier: Apache-2.0
// The report uses snprintf alone: it may run in a process whose filter has just refused something.
#include "seccomp-profiles/install.h"

#include <linux/audit.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstdio>
#include <ctime>

#include "base/bpf/disassemble.h"
#include "base/bpf/evaluate.h"
#include "base/sys.h"

namespace seccomp_profiles {
namespace {

std::string hex(std::uint64_t v) {
  char buf[24];
  std::snprintf(buf, sizeof buf, "0x%llx", static_cast<unsigned long long>(v));
  return buf;
}

std::string rule_text(const Rule& r) {
  std::string out = base::bpf::action_text(r.action);
  out += r.when[0] != 0 ? std::string(" when ") + r.when : std::string(" always");
  return out + " (" + r.why + ")";
}

}  // namespace

void prepare_libc() {
  ::tzset();
  std::time_t zero = 0;
  std::tm fields{};
  (void)::gmtime_r(&zero, &fields);
  constexpr int kNever = -1;  // as an unsigned size: no top chunk is ever larger
  (void)::mallopt(M_TRIM_THRESHOLD, kNever);
  constexpr int kArenas = 8;  // the ninth would be counted against the processors in /sys
  (void)::mallopt(M_ARENA_MAX, kArenas);
}

void prepare_threads() {
  pthread_t t{};
  if (::pthread_create(&t, nullptr, [](void*) -> void* { return nullptr; }, nullptr) == 0) ::pthread_join(t, nullptr);
}

base::Result<base::Fd> install(const Program& program, unsigned long flags) {
  sock_fprog prog{program.length, const_cast<sock_filter*>(program.filter)};
  TRY(base::sys::raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1));
  long r = TRY(base::sys::raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, static_cast<long>(flags),
                              reinterpret_cast<long>(&prog)));
  if ((flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0) return base::Fd(static_cast<int>(r));
  // With TSYNC alone a positive answer is the id of a thread that could not be synchronised.
  if (r != 0) return base::kESRCH;
  return base::Fd();
}

std::string describe(const Program& program, const seccomp_data& call) {
  const auto number = static_cast<std::uint32_t>(call.nr);
  const char* name = "";
  for (unsigned i = 0; i < program.rule_count; ++i) {
    if (program.rules[i].number == number) name = program.rules[i].call;
  }
  std::string out = std::string(program.name) + ": call " + std::to_string(call.nr);
  if (name[0] != 0) out += std::string(" (") + name + ")";
  out += " from " + hex(call.instruction_pointer) + " with";
  for (std::uint64_t a : call.args) out += " " + hex(a);
  auto verdict = base::bpf::evaluate({program.filter, program.length}, call);
  if (!verdict.ok()) return out + ": the filter is not valid";
  out += ": " + base::bpf::action_text(verdict->action);
  for (unsigned i = 0; i < program.rule_count; ++i) {
    if (program.rules[i].at == verdict->at) return out + "; rule: " + rule_text(program.rules[i]);
  }
  if (call.arch != AUDIT_ARCH_X86_64) return out + "; architecture " + hex(call.arch) + " is not x86-64";
  if (name[0] == 0) return out + "; no rule names this call";
  out += "; none of its rules holds (or the instruction pointer is not one that may call):";
  for (unsigned i = 0; i < program.rule_count; ++i) {
    if (program.rules[i].number == number) out += "\n  " + rule_text(program.rules[i]);
  }
  return out;
}

}  // namespace seccomp_profiles
