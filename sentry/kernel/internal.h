// SPDX-License-Identifier: Apache-2.0
// What the kernel's own files share: the hidden parts of Task, ThreadGroup, PidNamespace. Nobody outside sentry/kernel
// and sentry/syscalls includes this.
//
// Locks, outermost first: task_set_lock (who exists, who is whose parent, ids, groups, sessions), then SignalHandlers, then
// ThreadGroup::Impl::mu (signals, stop state, the list of threads) and Task::Impl::mu (parts); the last two are never held together.
// "own": only the task's own fiber reads or writes it.
#pragma once

#include <sys/resource.h>

#include "sentry/kernel/kernel.h"

namespace sentry::kernel {

inline constexpr uint32_t kAutoDisarm = 1u << 31;  // SS_AUTODISARM

inline constinit Mutex task_set_lock{LockRank::kTaskSet};

struct PidLink {
  Ref<PidNamespace> ns;
  int number;
};

// A program file that runs: nobody may write it (ETXTBSY). Held by: address spaces.
struct RunningProgram : RefCounted<RunningProgram> {
  explicit RunningProgram(Ref<vfs::File> f) : file(std::move(f)) {}
  ~RunningProgram() { file->inode().allow_write_access(); }
  Ref<vfs::File> file;
};

// An address space and how many tasks run in it: the last one kills the stub.
struct SharedMm : RefCounted<SharedMm> {
  explicit SharedMm(Ref<mm::AddressSpace> s) : space(std::move(s)) {}
  Ref<mm::AddressSpace> space;
  RefOrNull<RunningProgram> program;  // set before it is shared
  RefOrNull<auth::UserNamespace> user_ns;  // of its exec: who may look when it is not dumpable. Set before it is shared
  std::atomic<bool> dumpable{true};
  std::atomic<int> users{1};
};

// Between a vfork parent and its child, until the child execs or exits.
struct VforkLink : RefCounted<VforkLink> {
  Mutex mu{LockRank::kTask};
  bool released GUARDED_BY(mu) = false;
  bool parent_gone GUARDED_BY(mu) = false;  // the parent was killed: a lent Context is the child's for good
  bool lent = false;                        // the child runs on the parent's Context
  sched::WaitQueue queue;
};

struct CpuTimes {
  uint64_t user_ns = 0;    // in stubs, the host's part of it (faults, traps) included
  uint64_t system_ns = 0;  // on fibers
  uint64_t total_ns() const { return user_ns + system_ns; }
  CpuTimes& operator+=(const CpuTimes& o) {
    user_ns += o.user_ns;
    system_ns += o.system_ns;
    return *this;
  }
};

class IpcNamespace;   // ipc.h
class NetNamespace;   // namespaces.h
class CgroupNamespace;
class TimeNamespace;
class SemUndo;        // ipc.h
class Key;            // keys.h
class KeyTable;       // keys.h
class SeccompFilter;  // seccomp.h
struct PiState;       // futex_pi.cc
class PiTable;        // futex_pi.h

// Work that a stopped tracee does for its tracer.
struct TraceJob {
  void (*fn)(Task& tracee, void* arg) = nullptr;
  void* arg = nullptr;
  enum class State : uint8_t { waits, runs, done, cancelled } state = State::waits;
};

// A task as a tracee (trace.h). Guarded by the task-set lock, but for what is said otherwise.
struct TraceState {
  enum class Op : uint8_t { none, entry, exit, seccomp };
  enum Mode : uint32_t { kTraced = 1, kSyscalls = 2, kEmulate = 4, kStep = 8, kSeized = 16 };
  std::atomic<uint32_t> mode{0};  // set under the lock; its own fiber reads it without
  bool seized() const { return mode.load(std::memory_order_relaxed) & kSeized; }
  Task* tracer = nullptr;         // lets go of its tracees before it ends
  uint32_t options = 0;           // PTRACE_O_*
  // The stop it is in.
  bool stopped = false, listening = false, reported = true, resumed = false;
  int code = 0, why = 0, resume_signal = 0;
  uint64_t message = 0;
  Op op = Op::none;
  std::optional<SignalInfo> info, left_info;  // of this stop; of the last one, as the tracer left it
  bool was_traced = false;        // until its end, by its parent: not reaped by itself
  arch::Registers registers;
  bool registers_changed = false;
  platform::Call call{};          // Op::entry, Op::seccomp
  uint32_t seccomp_data = 0;
  TraceJob* job = nullptr;
  sched::WaitQueue queue, job_queue;  // the tracee sleeps; a tracer waits for its job
};

// A thread that has ended and its tracer has not heard of yet.
struct DeadTracee {
  std::vector<PidLink> ids;
  RefOrNull<ThreadGroup> group;
  const Task* tracer;
  int wait_status;
  uint32_t uid;
};

struct Task::Impl {
  Impl();
  ~Impl();
  // Identity. ids: innermost namespace first; changed only by exec of a thread that is not the leader.
  std::vector<PidLink> ids GUARDED_BY(task_set_lock);
  std::atomic<int> tid{0};

  mutable Mutex mu{LockRank::kTask};
  RefOrNull<auth::Credentials> cred GUARDED_BY(mu);
  RefOrNull<FdTable> files GUARDED_BY(mu);
  RefOrNull<FsContext> fs GUARDED_BY(mu);
  RefOrNull<SharedMm> mm GUARDED_BY(mu);
  RefOrNull<UtsNamespace> uts GUARDED_BY(mu);
  RefOrNull<PidNamespace> child_pids GUARDED_BY(mu);  // unshare(CLONE_NEWPID), setns: for children; null = own
  RefOrNull<IpcNamespace> ipc GUARDED_BY(mu);
  RefOrNull<NetNamespace> net GUARDED_BY(mu);         // null: the kernel's first
  RefOrNull<CgroupNamespace> cgroup GUARDED_BY(mu);
  RefOrNull<TimeNamespace> time GUARDED_BY(mu), child_time GUARDED_BY(mu);  // null: the first
  RefOrNull<SemUndo> sem_undo GUARDED_BY(mu);
  RefOrNull<SeccompFilter> seccomp GUARDED_BY(mu);
  RefOrNull<Key> session_keyring GUARDED_BY(mu), thread_keyring GUARDED_BY(mu);
  std::string name GUARDED_BY(mu);
  CpuSet affinity GUARDED_BY(mu){};

  // Signals; guarded by the group's mu, blocked also readable by its own fiber without.
  PendingSignals pending;
  SignalSet blocked = 0;
  SignalSet forced_default = 0;  // the next one of these acts by default whatever the handler (force_sig)
  bool want_exit = false;     // exit(2): this thread only
  bool exiting_now = false;   // runs its exit: takes no more signals
  bool in_stop = false;
  bool stop_passed = false;   // its tracer let it go on in spite of the group stop
  bool trap_pending = false;  // PTRACE_INTERRUPT: stop for the tracer
  bool lending = false;       // its Context belongs to a vfork child: do not kick it

  TraceState trace;

  // Guarded by the PiTable's lock.
  PiState* pi_wait = nullptr;  // the lock it waits for
  bool pi_gone = false;        // owns nothing any more: it exits

  // own
  SignalSet saved_mask = 0;
  bool restore_mask = false;
  bool keep_registers = false;  // the call replaced the registers: no result to set
  RestartBlock restart;
  uint64_t altstack_sp = 0, altstack_size = 0;
  uint32_t altstack_flags = SS_DISABLE;
  std::optional<platform::Call> host_futex;  // to be made by the application's own thread next
  std::optional<platform::Call> futex_in_progress;
  int64_t host_futex_since = 0;
  platform::Fault last_fault{};
  int fault_signal = 0;         // last_fault belongs to the next signal of this number
  uint64_t clear_child_tid = 0;
  uint64_t robust_list = 0;
  RefOrNull<VforkLink> vfork;        // this task is the child
  RefOrNull<vfs::MountNamespace> walk_mounts;  // keeps what walk_context() lends
  bool acquire_tty = false;          // before its first instruction descriptor 0 becomes the controlling terminal

  // Attributes, atomics: read by others.
  std::atomic<int> nice{0}, policy{0};
  std::atomic<int> seccomp_mode{0};  // SECCOMP_MODE_*
  std::atomic<int> io_priority{0};
  std::atomic<uint32_t> personality{0};
  std::atomic<int> pdeath_signal{0};
  std::atomic<uint64_t> timer_slack_ns{50000};
  std::atomic<int> exit_code{0};     // of this thread, wait(2) encoding
  std::atomic<uint64_t> call_number{~0ull};  // the call in progress, for /proc/PID/syscall
  std::atomic<bool> in_call{false};  // a call is being handled, or waits in the host's futex
  bool never_born = false;           // the host refused to make it
  std::atomic<int> state{0};         // 0 new, 1 go, 2 never mind
  int64_t start_time = 0;            // CLOCK_MONOTONIC ns
};

// Whether a debugger looks at it (ptrace): its calls are to be made where it makes them. Any thread; a hint for others.
inline bool traced(const Task& t) { return t.impl().trace.mode.load(std::memory_order_relaxed) != 0; }

struct PosixTimers;
class FutexTable;
struct StopReport {
  int stopped_by = 0;       // signal, for WSTOPPED; 0 = nothing to report
  bool continued = false;   // for WCONTINUED
};

struct ThreadGroup::Impl {
  explicit Impl(Kernel& k);
  ~Impl();
  Kernel& kernel;
  RefOrNull<Container> container;
  std::atomic<int> pid{0}, ppid{0};  // in its own namespace

  std::vector<PidLink> ids GUARDED_BY(task_set_lock);
  ThreadGroup* parent GUARDED_BY(task_set_lock) = nullptr;
  Task* parent_task GUARDED_BY(task_set_lock) = nullptr;  // the thread that made it (PR_SET_PDEATHSIG, __WNOTHREAD)
  std::list<Ref<ThreadGroup>> children GUARDED_BY(task_set_lock);
  RefOrNull<ProcessGroup> process_group GUARDED_BY(task_set_lock);
  RefOrNull<ProcessGroup> last_process_group GUARDED_BY(task_set_lock);  // after it was reaped, for late readers
  int exit_signal GUARDED_BY(task_set_lock) = SIGCHLD;
  bool never_born GUARDED_BY(task_set_lock) = false;  // nobody shall hear of its end
  bool zombie GUARDED_BY(task_set_lock) = false;
  bool reaped GUARDED_BY(task_set_lock) = false;
  bool subreaper GUARDED_BY(task_set_lock) = false;
  bool did_exec GUARDED_BY(task_set_lock) = false;
  bool reap_children GUARDED_BY(task_set_lock) = false;  // an init that is ending
  bool is_init = false;              // of its PID namespace: unkillable from within
  StopReport report GUARDED_BY(task_set_lock);
  std::list<Ref<Task>> tracees GUARDED_BY(task_set_lock);       // of all its threads
  std::list<DeadTracee> dead_tracees GUARDED_BY(task_set_lock);
  RefOrNull<Key> process_keyring GUARDED_BY(task_set_lock);
  sched::WaitQueue child_events;     // wait(2) sleeps here
  sched::WaitQueue exit_events;      // pidfds
  CpuTimes children_cpu GUARDED_BY(task_set_lock);
  uint64_t children_peak GUARDED_BY(task_set_lock) = 0;  // largest resident set of a child that was waited for
  std::atomic<uint64_t> peak_resident{0};                // of this process, as far as it was seen
  std::atomic<int64_t> look_at_resident{0};              // from this time on (sched::now()) it is worth looking again

  mutable Mutex mu{LockRank::kTask};
  RefOrNull<SignalHandlers> handlers GUARDED_BY(mu);
  std::vector<Ref<Task>> tasks GUARDED_BY(mu);   // live threads; the leader first
  RefOrNull<Task> leader GUARDED_BY(mu);         // stays until the process is reaped
  PendingSignals shared GUARDED_BY(mu);
  bool exiting GUARDED_BY(mu) = false;
  bool killed GUARDED_BY(mu) = false;            // by SIGKILL
  ExitStatus status GUARDED_BY(mu);
  bool status_is_group GUARDED_BY(mu) = false;
  Task* exec_task GUARDED_BY(mu) = nullptr;      // every other thread must go
  bool stop_pending GUARDED_BY(mu) = false, stopped GUARDED_BY(mu) = false, tell_continued GUARDED_BY(mu) = false;
  int stop_signal GUARDED_BY(mu) = 0;
  uint64_t cpu_base GUARDED_BY(mu) = 0;          // the stub's clock when this process entered it
  uint64_t cpu_before GUARDED_BY(mu) = 0;        // CPU time in stubs it has left
  bool cpu_paused GUARDED_BY(mu) = false;        // in no stub of its own
  uint64_t system_before GUARDED_BY(mu) = 0;     // on fibers of threads that have ended
  uint32_t last_uid GUARDED_BY(mu) = 0;  // of the thread that ended last
  std::array<rlimit64, RLIM_NLIMITS> limits GUARDED_BY(mu){};
  vfs::Path exe GUARDED_BY(mu);
  sched::WaitQueue stop_queue;       // stopped threads, and exec waiting for its siblings
  sched::WaitQueue signal_queue;     // signalfd, sigtimedwait
  std::unique_ptr<PosixTimers> timers;
  std::atomic<int> oom_score_adj{0};
  std::atomic<uint32_t> login_uid{~0u}, session_id{~0u};  // audit's; 0xffffffff = unset
  std::atomic<uint32_t> coredump_filter{0x33};
};

struct PidNamespace::Impl {
  struct Entry {
    RefOrNull<Task> task;
    RefOrNull<ThreadGroup> group;
    ProcessGroup* process_group = nullptr;
    Session* session = nullptr;
    bool reserved = false;
    bool used() const { return reserved || task || group || process_group || session; }
  };
  RefOrNull<PidNamespace> parent;
  RefOrNull<auth::UserNamespace> user_ns;
  auth::NamespaceCharge charge;
  int level = 0;
  std::map<int, Entry> entries GUARDED_BY(task_set_lock);
  int last GUARDED_BY(task_set_lock) = 0;
  bool dying GUARDED_BY(task_set_lock) = false;  // its init has gone: nobody may be born
  std::atomic<int> groups_alive{0};
  sched::WaitQueue empty_queue;      // init waits for the others
};

struct Kernel::Impl {
  Impl();
  ~Impl();
  int64_t boot_realtime = 0, boot_monotonic = 0;
  std::unique_ptr<FutexTable> futexes;
  std::unique_ptr<PiTable> pi;
  std::unique_ptr<KeyTable> keys;
  Mutex random_mu{LockRank::kIo};
  unsigned char random[256] GUARDED_BY(random_mu);
  size_t random_left GUARDED_BY(random_mu) = 0;
  Machine machine;
  uint64_t boot_id[2] = {};       // /proc/sys/kernel/random/boot_id
  uint64_t namespace_secret = 0;  // numbers of namespaces are made with it (inspect.cc)
};

// The way to private members for the kernel's own files.
struct TaskAccess {
  static Ref<Task> make_task(Kernel& k) { return adopt_ref(new Task(k)); }
  static Ref<ThreadGroup> make_group(Kernel& k);
  static Ref<ProcessGroup> make_process_group(Ref<Session> s) { return adopt_ref(new ProcessGroup(std::move(s))); }
  static Ref<Session> make_session() { return adopt_ref(new Session()); }
  static RefOrNull<platform::Context>& context(Task& t) { return t.context_; }
  static RefOrNull<ThreadGroup>& group(Task& t) { return t.group_; }
  static RefOrNull<sched::Fiber>& fiber(Task& t) { return t.fiber_; }
  static std::vector<PidLink>& ids(ProcessGroup& g) { return g.ids_; }
  static std::vector<ThreadGroup*>& members(ProcessGroup& g) { return g.members_; }
  static Ref<Session>& session(ProcessGroup& g) { return g.session_; }
  static std::vector<PidLink>& ids(Session& s) { return s.ids_; }
  static ThreadGroup*& leader(Session& s) { return s.leader_; }
  static std::vector<ProcessGroup*>& groups(Session& s) { return s.groups_; }
  static std::map<uint32_t, int>& user_tasks(Container& c) { return c.user_tasks_; }
  static int64_t& task_count(Container& c) { return c.task_count_; }
};

// ---- Ids and groups (pids.cc, groups.cc) ----
// A number in ns and in each of its ancestors, innermost first. EAGAIN: none is free; ENOMEM: the namespace is dying.
// wanted: the first of them, as cred may ask for them. EINVAL, EPERM, EEXIST.
Result<std::vector<PidLink>> allocate_pid_locked(const Ref<PidNamespace>& ns, std::span<const int> wanted = {},
                                                 const auth::Credentials* cred = nullptr) REQUIRES(task_set_lock);
void free_pid_locked(const std::vector<PidLink>& ids) REQUIRES(task_set_lock);  // cancels a reservation
int number_in(const std::vector<PidLink>& ids, const PidNamespace& ns);
void enter_process_group_locked(ThreadGroup& g, Ref<ProcessGroup> pg) REQUIRES(task_set_lock);
void leave_process_group_locked(ThreadGroup& g) REQUIRES(task_set_lock);
// A process group (or session and process group) named after g's ids.
Ref<ProcessGroup> new_process_group_locked(ThreadGroup& g, Ref<Session> s) REQUIRES(task_set_lock);
Ref<Session> new_session_locked(ThreadGroup& g) REQUIRES(task_set_lock);
bool orphaned_locked(const ProcessGroup& pg, const ThreadGroup* ignored) REQUIRES(task_set_lock);
std::vector<Ref<ThreadGroup>> members_of(ProcessGroup& pg);
Result<void> set_process_group(Task& t, int pid, int pgid);
Result<long> set_session(Task& t);

// ---- Signals (signal_send.cc, signal_delivery.cc, job_control.cc) ----
// From a task or from the kernel; force: not ignored for a namespace's init when it is SIGKILL or SIGSTOP.
// False: ignored, or nobody is left to see it.
bool send_to_group(ThreadGroup& g, const SignalInfo& info, bool force);
bool send_to_task(Task& t, const SignalInfo& info, bool force);
// A fault or a failed frame: cannot be blocked or ignored.
void force_signal(Task& t, const SignalInfo& info, bool to_default = false);
void wake_task_locked(ThreadGroup::Impl& g, Task& t) REQUIRES(g.mu);
void recalculate_pending_locked(ThreadGroup::Impl& g, Task& t) REQUIRES(g.mu);
void begin_group_exit_locked(ThreadGroup::Impl& g, ExitStatus s) REQUIRES(g.mu);
bool must_exit_locked(ThreadGroup::Impl& g, const Task& t) REQUIRES(g.mu);
bool must_exit(Task& t);
// What the call just handled has come to.
struct CallOutcome {
  bool number_valid = false;  // a call is in progress: its registers wait for a result
  bool has_result = false;
  int restart = 0;            // an internal restart code: the call's fate is open
  int64_t result = 0;
  uint64_t number = 0;
  platform::Call call{};      // with restart
};
// Own fiber, before it returns to the application: takes what is pending. A handler decides the outcome (it is then empty).
enum class Delivered : uint8_t { nothing, handler, exit };
Delivered deliver_signals(Task& t, CallOutcome& outcome);
void stop_here(Task& t, int signo);
void thread_left_stop_locked(ThreadGroup::Impl& g, bool* notify) REQUIRES(g.mu);
enum class ChildEvent : uint8_t { stopped, continued };
void notify_parent_of_stop(ThreadGroup& g, ChildEvent e);
// SIGCHLD for a dead child; false: the parent does not want to know and it may be reaped at once.
bool notify_parent_of_exit_locked(ThreadGroup& g) REQUIRES(task_set_lock);
SignalInfo child_signal_locked(ThreadGroup& child, int code, int status) REQUIRES(task_set_lock);

// ---- Life ----
void run_task(Task& t);                      // task_run.cc: the fiber's body
Result<void> spawn_task_fiber(Task& t);      // waits for start_task() or abort_task()
void start_task(Task& t);
void abort_task(Task& t);
void exit_current(Task& t);                  // exit.cc: the rest of a task's life
void release_vfork(Task& t, bool* context_is_mine);
void drop_mm(Task& t, uint64_t clear_tid, bool context_is_mine);
void leave_family(Task& t);                  // family.cc
void empty_namespace(ThreadGroup& init);
void reap_locked(ThreadGroup& g) REQUIRES(task_set_lock);
void link_task_locked(Task& t) REQUIRES(task_set_lock);
void unlink_task_locked(Task& t) REQUIRES(task_set_lock);
void unlink_group_locked(ThreadGroup& g) REQUIRES(task_set_lock);
void charge_task_locked(Container& c, uint32_t uid, int n) REQUIRES(task_set_lock);
CpuTimes cpu_times(ThreadGroup& g);          // of all its threads, dead ones too
CpuTimes cpu_times(Task& t);                 // own fiber: exact; else as of its last question. Parks
// Accounting: the process leaves a stub (exec, exit, vfork lends it), or enters one whose clock stands at `base`.
void cpu_leave(ThreadGroup& g, platform::Space& s);
void cpu_enter(ThreadGroup& g, uint64_t base);
// The largest resident set of the process in bytes; looks at the one it has now. Parks.
uint64_t peak_resident(ThreadGroup& g);

}  // namespace sentry::kernel
