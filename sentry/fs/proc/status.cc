// SPDX-License-Identifier: Apache-2.0
// /proc/PID/{stat,statm,status}. Linux: fs/proc/array.c, fs/proc/task_mmu.c task_mem().
#include "sentry/fs/proc/status.h"

#include <sched.h>

#include <bit>

#include "sentry/fs/proc/proc_fs.h"
#include "sentry/kernel/tracer.h"

namespace sentry::fs::proc {

using kernel::FactsOf;
using kernel::Task;
using kernel::TaskFacts;

namespace {

constexpr uint64_t kTick = 10'000'000;  // ns in a clock tick (USER_HZ 100)
constexpr unsigned kNoExecRandomize = 0x400000;  // PF_RANDOMIZE

FactsOf of(const Subject& s) { return s.thread ? FactsOf::thread : FactsOf::process; }

const char* state_name(char state) {
  switch (state) {
    case 'R': return "R (running)";
    case 'S': return "S (sleeping)";
    case 'D': return "D (disk sleep)";
    case 'T': return "T (stopped)";
    case 't': return "t (tracing stop)";
    case 'Z': return "Z (zombie)";
    default: return "X (dead)";
  }
}

void append_numbers(std::string& out, const char* label, const std::vector<int>& v) {
  out += label;
  for (int n : v) append(out, "\t%d", n);
  out += '\n';
}

void append_memory(std::string& out, mm::AddressSpace& space) {
  const MemorySizes m = memory_sizes(space);
  const kernel::Residence r = kernel::residence(space);
  auto line = [&](const char* name, uint64_t bytes) {
    append(out, "%s:\t%8llu kB\n", name, static_cast<unsigned long long>(bytes / 1024));
  };
  line("VmPeak", m.total);
  line("VmSize", m.total);
  line("VmLck", m.locked);
  line("VmPin", 0);
  line("VmHWM", r.total());
  line("VmRSS", r.total());
  line("RssAnon", r.anonymous);
  line("RssFile", r.file);
  line("RssShmem", r.shmem);
  line("VmData", m.data);
  line("VmStk", m.stack);
  line("VmExe", m.exe);
  line("VmLib", m.library);
  line("VmPTE", m.page_tables);
  line("VmSwap", 0);
  append(out, "HugetlbPages:\t%8d kB\n", 0);
  out += "CoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n";
}

void append_cpus(std::string& out, const TaskFacts& f, unsigned cpus) {
  std::string mask = common::cpu_mask(cpus), list = common::cpu_list(cpus);
  uint64_t any = 0;
  for (uint64_t w : f.affinity) any |= w;
  if (any && cpus <= 64) {
    uint64_t bits = f.affinity[0] & (cpus == 64 ? ~0ull : (1ull << cpus) - 1);
    if (bits) {
      mask = mask_text(bits, cpus);
      list = bit_list(bits);
    }
  }
  append(out, "Cpus_allowed:\t%s\nCpus_allowed_list:\t%s\n", mask.c_str(), list.c_str());
  out += "Mems_allowed:\t00000000,00000001\nMems_allowed_list:\t0\n";
}

}  // namespace

std::string escape_name(std::string_view name) {
  std::string out;
  for (char c : name) {
    if (c == '\n') out += "\\n";
    else if (c == '\\') out += "\\\\";
    else out += c;
  }
  return out;
}

std::string mask_text(uint64_t bits, unsigned cpus) {
  std::string out;
  if (cpus > 32) append(out, "%x,%08x", static_cast<unsigned>(bits >> 32), static_cast<unsigned>(bits));
  else append(out, "%x", static_cast<unsigned>(bits));
  return out;
}

std::string bit_list(uint64_t bits) {
  std::string out;
  for (unsigned i = 0; i < 64; i++) {
    if (!(bits >> i & 1)) continue;
    unsigned end = i;
    while (end < 63 && (bits >> (end + 1) & 1)) end++;
    if (!out.empty()) out += ',';
    append(out, i == end ? "%u" : "%u-%u", i, end);
    i = end;
  }
  return out;
}

MemorySizes memory_sizes(mm::AddressSpace& space) {
  MemorySizes m;
  m.exe = (space.code_end - space.code_start + 4095) & ~4095ull;
  for (const mm::Vma& v : space.list()) {
    const uint64_t n = v.length();
    m.total += n;
    if (v.locked) m.locked += n;
    if (v.grows_down) m.stack += n;
    else if (!v.shared && (v.prot & PROT_WRITE)) m.data += n;
    if ((v.prot & PROT_EXEC) && !(v.prot & PROT_WRITE)) m.library += n;
    // A table of 4 KiB maps 2 MiB.
    if (v.prot != PROT_NONE) m.page_tables += (kernel::resident_estimate(v) / (2 << 20) + 1) * 4096;
  }
  m.library -= std::min(m.library, m.exe);
  return m;
}

std::string format_stat(const StatLine& l) {
  const TaskFacts& f = l.facts;
  std::string out;
  append(out, "%d (%s) %c %d %d %d %llu %d %u 0 0 0 0 ", f.tid, escape_name(f.name).c_str(), f.state, f.ppid, f.pgrp,
         f.session, static_cast<unsigned long long>(f.tty), f.foreground_pgrp, kNoExecRandomize);
  auto ticks = [](uint64_t ns) { return static_cast<unsigned long long>(ns / kTick); };
  append(out, "%llu %llu %llu %llu %d %d %d 0 %llu ", ticks(f.user_ns), ticks(f.system_ns), ticks(f.children_user_ns),
         ticks(f.children_system_ns), 20 + f.nice, f.nice, f.threads, ticks(static_cast<uint64_t>(f.start_ns)));
  auto u = [](uint64_t v) { return static_cast<unsigned long long>(v); };
  append(out, "%llu %llu %llu ", u(l.virtual_bytes), u(l.resident_bytes / 4096), u(l.resident_limit));
  append(out, "%llu %llu %llu 0 0 ", u(l.code_start), u(l.code_end), u(l.stack_start));
  append(out, "%llu %llu %llu %llu %d 0 0 ", u(f.pending & 0x7fffffff), u(f.blocked & 0x7fffffff),
         u(f.ignored & 0x7fffffff), u(f.caught & 0x7fffffff), l.permitted && f.state == 'S' ? 1 : 0);
  append(out, "%d 0 %d %d 0 0 0 ", f.exit_signal, 0, f.policy);
  append(out, "%llu %llu %llu %llu %llu %llu %llu %d\n", u(l.data_start), u(l.data_end), u(l.brk_start), u(l.arg_start),
         u(l.arg_end), u(l.env_start), u(l.env_end), l.permitted ? f.wait_status : 0);
  return out;
}

Result<std::string> stat_text(const Subject& s, Task& t) {
  StatLine l;
  l.facts = kernel::task_facts(t, *s.fs.pids, of(s));
  if (s.thread && s.thread.get() != s.group->leader().get()) l.facts.exit_signal = -1;
  l.permitted = kernel::may_inspect(reader(), t);
  l.resident_limit = s.group->get_rlimit(RLIMIT_RSS).rlim_cur;
  if (RefOrNull<mm::AddressSpace> m = s.space()) {
    l.virtual_bytes = m->total_bytes();
    l.resident_bytes = kernel::residence(*m).total();
    // Addresses are nobody's business but those who may look anyway.
    l.code_start = l.code_end = 1;
    if (l.permitted) {
      l.code_start = m->code_start;
      l.code_end = m->code_end;
      l.stack_start = m->stack_start;
      l.data_start = m->code_end;
      l.data_end = l.brk_start = m->brk_start();
      l.arg_start = m->arg_start;
      l.arg_end = m->arg_end;
      l.env_start = m->env_start;
      l.env_end = m->env_end;
    }
  }
  return format_stat(l);
}

Result<std::string> statm_text(const Subject& s, Task&) {
  RefOrNull<mm::AddressSpace> m = s.space();
  if (!m) return std::string("0 0 0 0 0 0 0\n");
  const MemorySizes sizes = memory_sizes(*m);
  const kernel::Residence r = kernel::residence(*m);
  std::string out;
  append(out, "%llu %llu %llu %llu 0 %llu 0\n", static_cast<unsigned long long>(sizes.total / 4096),
         static_cast<unsigned long long>(r.total() / 4096), static_cast<unsigned long long>((r.file + r.shmem) / 4096),
         static_cast<unsigned long long>(sizes.exe / 4096), static_cast<unsigned long long>((sizes.data + sizes.stack) / 4096));
  return out;
}

Result<std::string> status_text(const Subject& s, Task& t) {
  const TaskFacts f = kernel::task_facts(t, *s.fs.pids, of(s));
  const auth::Credentials& c = *f.cred;
  const auth::UserNamespace* ns = reader() ? reader()->own_credentials().user_ns.get() : nullptr;
  auto u_id = [&](uint32_t id) { return auth::shown_uid(ns, id); };
  auto g_id = [&](uint32_t id) { return auth::shown_gid(ns, id); };
  std::string out;
  append(out, "Name:\t%s\n", escape_name(f.name).c_str());
  if (f.umask >= 0) append(out, "Umask:\t%#04o\n", static_cast<unsigned>(f.umask));
  append(out, "State:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n", state_name(f.state), f.tgid, f.tid,
         f.ppid, kernel::tracer_pid(t, *s.fs.pids));
  append(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", u_id(c.uid), u_id(c.euid),
         u_id(c.suid), u_id(c.fsuid), g_id(c.gid), g_id(c.egid), g_id(c.sgid), g_id(c.fsgid));
  append(out, "FDSize:\t%d\nGroups:\t", f.fd_size);
  for (uint32_t g : c.groups) append(out, "%u ", g_id(g));
  if (c.groups.empty()) out += ' ';
  out += '\n';
  append_numbers(out, "NStgid:", f.ns_tgids);
  append_numbers(out, "NSpid:", f.ns_tids);
  append_numbers(out, "NSpgid:", f.ns_pgrps);
  append_numbers(out, "NSsid:", f.ns_sessions);
  out += "Kthread:\t0\n";
  if (RefOrNull<mm::AddressSpace> m = s.space()) append_memory(out, *m);
  auto u = [](uint64_t v) { return static_cast<unsigned long long>(v); };
  append(out, "Threads:\t%d\nSigQ:\t%llu/%llu\n", std::max(1, f.threads), u(f.queued_signals), u(f.queue_limit));
  append(out, "SigPnd:\t%016llx\nShdPnd:\t%016llx\nSigBlk:\t%016llx\nSigIgn:\t%016llx\nSigCgt:\t%016llx\n", u(f.pending),
         u(f.shared_pending), u(f.blocked), u(f.ignored), u(f.caught));
  append(out, "CapInh:\t%016llx\nCapPrm:\t%016llx\nCapEff:\t%016llx\nCapBnd:\t%016llx\nCapAmb:\t%016llx\n",
         u(c.cap_inheritable), u(c.cap_permitted), u(c.cap_effective), u(c.cap_bounding), u(c.cap_ambient));
  append(out, "NoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%d\n", c.no_new_privs ? 1 : 0, kernel::seccomp_mode(t),
         kernel::seccomp_filters(t));
  out += "Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\tconditional enabled\n";
  append_cpus(out, f, cpus_of_reader(s.fs));
  out += "voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n";
  return out;
}

}  // namespace sentry::fs::proc
