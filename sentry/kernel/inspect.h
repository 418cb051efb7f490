// SPDX-License-Identifier: Apache-2.0
// What one task may learn of another and of the kernel: for procfs, sysfs and cgroupfs. Every getter copes with a task that
// is exiting or a zombie.
#pragma once

#include <string>

#include "sentry/kernel/kernel.h"

namespace sentry::kernel {

// May `viewer` (null: the kernel itself) look into target's memory and descriptors? Linux: ptrace_may_access() with
// PTRACE_MODE_READ. by_fsids: procfs' way (FSCREDS), else that of calls on a pid (REALCREDS).
bool may_inspect(Task* viewer, Task& target, bool by_fsids = true);
// Whether it may be looked into by its like. Of the memory: all tasks in it share it.
bool is_dumpable(Task& t);
void set_dumpable(Task& t, bool dumpable);
bool may_see_memory(const auth::Credentials& me, Task& target);

// One moment of a task, numbers as seen in a namespace.
struct TaskFacts {
  char state = 'R';  // R S T Z X
  int tid = 0, tgid = 0, ppid = 0, pgrp = 0, session = 0;
  uint64_t tty = 0;
  int foreground_pgrp = -1;
  int threads = 0;
  std::vector<int> ns_tids, ns_tgids, ns_pgrps, ns_sessions;  // outermost of what is visible first
  std::string name;
  RefOrNull<auth::Credentials> cred;  // never null
  int umask = 0;  // -1: gone
  int fd_size = 0;
  SignalSet pending = 0, shared_pending = 0, blocked = 0, ignored = 0, caught = 0;
  uint64_t queued_signals = 0, queue_limit = 0;
  int nice = 0, policy = 0;
  std::array<uint64_t, 16> affinity{};
  int exit_signal = 0;
  int wait_status = 0;
  int64_t start_ns = 0;  // since the boot of the sandbox
  uint64_t user_ns = 0, system_ns = 0;                    // of the thread, or of the whole process
  uint64_t children_user_ns = 0, children_system_ns = 0;
};
enum class FactsOf : uint8_t { process, thread };
TaskFacts task_facts(Task& t, const PidNamespace& ns, FactsOf of);

RefOrNull<FdTable> find_files(Task& t);     // null once it exits
RefOrNull<FsContext> find_fs(Task& t);
RefOrNull<PidNamespace> pids_for_children(Task& t);
uint64_t timer_slack_ns(Task& t);
void set_timer_slack_ns(Task& t, uint64_t ns);
uint32_t personality(Task& t);
int seccomp_mode(Task& t);
int seccomp_filters(Task& t);
uint64_t last_call_number(Task& t);  // ~0: runs application code

int oom_score_adj(ThreadGroup& g);
void set_oom_score_adj(ThreadGroup& g, int value);
uint32_t login_uid(ThreadGroup& g);
// A new audit session begins.
void set_login_uid(ThreadGroup& g, uint32_t uid);
uint32_t audit_session(ThreadGroup& g);
uint32_t coredump_filter(ThreadGroup& g);
void set_coredump_filter(ThreadGroup& g, uint32_t bits);

// /proc/sysvipc/{shm,sem,msg} of the reader's namespace; nothing when no task reads.
std::string sysvipc_text(std::string_view kind, const PidNamespace& viewer);

// The number in "uts:[4026531838]". ns: what stands for the namespace; null: the first one of Linux (user and time).
using auth::NamespaceKind;
uint64_t namespace_number(Kernel& k, NamespaceKind kind, const void* ns);

// CPUs that programs of the container see.
unsigned cpu_count(Kernel& k, const Container& c);
// Memory of the container. Used is an estimate: the host's count is out of reach.
struct MemoryFacts {
  uint64_t total = 0, used = 0, free = 0;
  bool limited = false;
};
MemoryFacts memory_facts(Kernel& k, const Container& c);
// What is resident of an address space: as the host says, else as its mappings suggest.
struct Residence {
  uint64_t anonymous = 0, file = 0, shmem = 0;
  uint64_t total() const { return anonymous + file + shmem; }
};
Residence residence(mm::AddressSpace& space);
uint64_t resident_estimate(const mm::Vma& v);
// Of each mapping, in bytes. Small spaces are counted page by page, large ones sampled; an estimate when the host does not say. Parks.
std::vector<uint64_t> resident_of(mm::AddressSpace& space, const std::vector<mm::Vma>& list);

// CPU time of all programs, living and dead, and of the kernel, in ns.
struct CpuTotals {
  uint64_t user_ns = 0, system_ns = 0;
};
CpuTotals cpu_totals(Kernel& k, const PidNamespace& ns);
int64_t tasks_in(const Container& c);  // threads, for pids.current
// Random, made at boot: "xxxxxxxx-xxxx-4xxx-…".
std::string boot_id(Kernel& k);
std::string random_uuid(Kernel& k);

}  // namespace sentry::kernel
