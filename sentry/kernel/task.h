// SPDX-License-Identifier: Apache-2.0
// Tasks, thread groups, process groups, sessions, namespaces of ids. Linux: struct task_struct, signal_struct, pid.
// A Task is one application thread: a fiber that resumes its Context and answers its events (task_run.cc).
#pragma once

#include <sys/resource.h>

#include <array>
#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sentry/auth/credentials.h"
#include "sentry/kernel/fd_table.h"
#include "sentry/kernel/signal.h"
#include "sentry/mm/address_space.h"
#include "sentry/vfs/walk.h"

namespace sentry::kernel {

class Kernel;
class Container;
class Task;
class ThreadGroup;
class PidNamespace;
class Session;
class ProcessGroup;
struct PidLink;  // a namespace and a number in it

using CpuSet = std::array<uint64_t, 16>;  // 1024 CPUs

// cwd, root, umask (CLONE_FS shares it). Linux: struct fs_struct.
class FsContext : public RefCounted<FsContext> {
 public:
  FsContext(Ref<vfs::MountNamespace> mounts, vfs::Path root, vfs::Path cwd, uint32_t umask);
  Ref<FsContext> copy() const;
  vfs::Path root() const;
  vfs::Path cwd() const;
  uint32_t umask() const;
  Ref<vfs::MountNamespace> mounts() const;
  void set_root(vfs::Path p);
  void set_cwd(vfs::Path p);
  uint32_t set_umask(uint32_t m);  // the old one
  void set_mounts(Ref<vfs::MountNamespace> m, vfs::Path root, vfs::Path cwd);

 private:
  friend class RefCounted<FsContext>;
  ~FsContext() = default;
  mutable Mutex mu_{LockRank::kFsContext};
  Ref<vfs::MountNamespace> mounts_ GUARDED_BY(mu_);
  vfs::Path root_ GUARDED_BY(mu_), cwd_ GUARDED_BY(mu_);
  uint32_t umask_ GUARDED_BY(mu_);
};

// sethostname and friends (CLONE_NEWUTS).
class UtsNamespace : public RefCounted<UtsNamespace> {
 public:
  UtsNamespace(std::string host, std::string domain, RefOrNull<auth::UserNamespace> user_ns = nullptr,
               auth::NamespaceCharge charge = {});
  const RefOrNull<auth::UserNamespace>& user_ns() const { return user_ns_; }
  std::string hostname() const;
  std::string domainname() const;
  void set_hostname(std::string s);
  void set_domainname(std::string s);

 private:
  friend class RefCounted<UtsNamespace>;
  ~UtsNamespace() = default;
  mutable Mutex mu_{LockRank::kFsContext};
  std::string hostname_ GUARDED_BY(mu_), domainname_ GUARDED_BY(mu_);
  const RefOrNull<auth::UserNamespace> user_ns_;
  const auth::NamespaceCharge charge_;
};

// Actions shared by CLONE_SIGHAND. Linux: struct sighand_struct.
class SignalHandlers : public RefCounted<SignalHandlers> {
 public:
  SignalHandlers() : mu_(LockRank::kSignalHandlers) {}
  Ref<SignalHandlers> copy() const;       // fork
  void reset_for_exec();                  // handlers -> SIG_DFL, ignored stay
  SignalAction get(int signo) const;
  void set(int signo, const SignalAction& a);

 private:
  friend class RefCounted<SignalHandlers>;
  ~SignalHandlers() = default;
  mutable Mutex mu_;
  std::array<SignalAction, kSignals> actions_ GUARDED_BY(mu_){};
};

// What a controlling terminal offers the kernel; implemented by fs/tty. Held by: sessions.
class TtyLink : public RefCounted<TtyLink> {
 public:
  virtual uint64_t device() const = 0;             // tty_nr of /proc/PID/stat
  virtual void session_leader_exited(Session&) = 0;  // hangs up

 protected:
  friend class RefCounted<TtyLink>;
  virtual ~TtyLink() = default;
};

// Exit code as wait(2) encodes it.
struct ExitStatus {
  int32_t wait_status = 0;
  static ExitStatus exited(int code) { return {(code & 0xff) << 8}; }
  static ExitStatus signaled(int sig, bool core) { return {sig | (core ? 0x80 : 0)}; }
};

// How restart_syscall(2) goes on with a call that a stop interrupted (Linux: struct restart_block). fn makes the call again
// with its absolute deadline.
struct RestartBlock {
  Result<long> (*fn)(Task&, const RestartBlock&) = nullptr;
  sched::Nanos deadline = sched::kNever;
  uint64_t args[5] = {};
};

// One application thread. Held by: its ThreadGroup, the pid tables, its own fiber while it runs.
class Task : public RefCounted<Task> {
 public:
  // The task whose fiber runs now. Preconditions: on a task's fiber.
  static Task& current();
  static Task* find_current();  // null on other fibers

  Kernel& kernel() const { return kernel_; }
  platform::Context& context() const { return *context_; }
  ThreadGroup& group() const { return *group_; }
  Ref<ThreadGroup> group_ref() const { return group_.get_ref(); }
  Container& container() const;

  // Ids as seen in a namespace (0 when invisible), or in its own.
  int tid() const;
  int tid_in(const PidNamespace& ns) const;

  // Parts. Swapped under the task's lock; the getters copy the reference.
  Ref<auth::Credentials> credentials() const;
  // Without a lock or a new reference. Preconditions: on this task's fiber; valid until it changes them.
  const auth::Credentials& own_credentials() const;
  void set_credentials(Ref<auth::Credentials> c);
  Ref<FdTable> files() const;
  Result<Ref<FdTable>> find_files() const;      // of another task: ESRCH once it exits
  Ref<FsContext> fs() const;
  Ref<mm::AddressSpace> mm() const;
  RefOrNull<mm::AddressSpace> find_mm() const;  // null once it exits
  Ref<UtsNamespace> uts() const;
  std::string name() const;  // comm, at most 15 bytes
  void set_name(std::string_view n);
  CpuSet affinity() const;                      // empty: all
  void set_affinity(const CpuSet& set);
  void set_fs(Ref<FsContext> fs);        // unshare(CLONE_FS), setns
  void set_files(Ref<FdTable> files);    // unshare(CLONE_FILES)

  uint64_t rlimit(int resource) const;  // soft limit of its process
  // Path walks of this task: from cwd, or from dirfd (EBADF, ENOTDIR).
  vfs::WalkContext walk_context() const;
  Result<vfs::WalkContext> walk_context_at(int dirfd, std::string_view path) const;
  // EBADF. The quick way to a descriptor for the task's own calls.
  Result<Ref<vfs::File>> file(int fd) const;
  // Reserves the lowest number below RLIMIT_NOFILE and installs at once: for calls that copy nothing out.
  Result<long> install(Ref<vfs::File> file, bool cloexec);

  // ---- Signals (signal_send.cc, signal_delivery.cc) ----
  void send_signal(const SignalInfo& info);           // to this thread
  SignalSet blocked() const;
  void set_blocked(SignalSet s);                      // recomputes what is pending
  bool signal_pending() const;                        // an unblocked signal or a kill waits
  // For sigsuspend, ppoll, pselect, epoll_pwait: blocks `mask` until the call has ended and its signal was delivered.
  void set_temporary_mask(SignalSet mask);
  SignalSet pending_set() const;                      // thread's and group's
  bool take_signal(SignalSet wanted, SignalInfo* out);  // sigtimedwait, signalfd
  sched::WaitQueue& signal_queue();                   // woken when a signal arrives (signalfd, sigtimedwait)
  // For calls with a relative time-out that were interrupted: remembers how to go on, answers kERESTART_RESTARTBLOCK.
  Errno restart_later(const RestartBlock& block);

  // ---- Life (clone.cc, exec.cc, exit.cc, task_run.cc) ----
  [[nodiscard]] bool exiting() const;
  // Ends the whole group with this status; the task's fiber ends when its call returns.
  void exit_group(ExitStatus status);
  void exit_thread(int code);

  sched::Fiber& fiber() const { return *fiber_; }
  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  friend class RefCounted<Task>;
  friend struct TaskAccess;  // the kernel's own files
  Task(Kernel& kernel);
  ~Task();
  Kernel& kernel_;
  RefOrNull<platform::Context> context_;
  RefOrNull<ThreadGroup> group_;
  RefOrNull<sched::Fiber> fiber_;
  std::unique_ptr<Impl> impl_;
};

// One process. Held by: its tasks, its parent's children list, pid tables, wait entries.
class ThreadGroup : public RefCounted<ThreadGroup> {
 public:
  int pid() const;                              // in its own namespace
  int pid_in(const PidNamespace& ns) const;
  int ppid_in(const PidNamespace& ns) const;    // 0: parent invisible
  PidNamespace& pid_namespace() const;
  Container& container() const;
  RefOrNull<Task> leader() const;
  std::vector<Ref<Task>> tasks() const;
  Ref<ProcessGroup> process_group() const;
  Ref<Session> session() const;
  Ref<SignalHandlers> handlers() const;
  void send_signal(const SignalInfo& info);     // to the process
  std::vector<Ref<ThreadGroup>> children() const;
  struct rlimit64 get_rlimit(int resource) const;
  void set_rlimit(int resource, struct rlimit64 value);
  bool is_zombie() const;
  sched::WaitQueue& exit_queue();               // pidfd poll, control Wait
  std::optional<ExitStatus> exit_status() const;  // once every thread is gone
  Kernel& kernel() const;
  vfs::Path exe() const;                        // /proc/PID/exe; empty for a zombie
  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  friend class RefCounted<ThreadGroup>;
  friend struct TaskAccess;
  explicit ThreadGroup(Kernel& kernel);
  ~ThreadGroup();
  std::unique_ptr<Impl> impl_;
};

class ProcessGroup : public RefCounted<ProcessGroup> {
 public:
  int id_in(const PidNamespace& ns) const;
  Session& session() const { return *session_; }
  void send_signal(const SignalInfo& info);  // to every member
  bool is_orphaned() const;

 private:
  friend class RefCounted<ProcessGroup>;
  friend struct TaskAccess;
  explicit ProcessGroup(Ref<Session> session);
  ~ProcessGroup();
  Ref<Session> session_;
  std::vector<PidLink> ids_;          // guarded by the kernel's task-set lock
  std::vector<ThreadGroup*> members_;       // likewise
};

class Session : public RefCounted<Session> {
 public:
  int id_in(const PidNamespace& ns) const;
  RefOrNull<TtyLink> tty() const;
  void set_tty(RefOrNull<TtyLink> t);
  RefOrNull<ProcessGroup> foreground() const;
  void set_foreground(RefOrNull<ProcessGroup> g);

 private:
  friend class RefCounted<Session>;
  friend struct TaskAccess;
  Session();
  ~Session();
  mutable Mutex mu_{LockRank::kTask};
  std::vector<PidLink> ids_;              // guarded by the task-set lock
  ThreadGroup* leader_ = nullptr;         // guarded by the task-set lock, as groups_
  std::vector<ProcessGroup*> groups_;
  RefOrNull<TtyLink> tty_ GUARDED_BY(mu_);
  RefOrNull<ProcessGroup> foreground_ GUARDED_BY(mu_);
};

// Ids of one PID namespace. Held by: groups in it, child namespaces.
class PidNamespace : public RefCounted<PidNamespace> {
 public:
  static Ref<PidNamespace> create(RefOrNull<PidNamespace> parent, RefOrNull<auth::UserNamespace> user_ns = nullptr,
                                  auth::NamespaceCharge charge = {});
  RefOrNull<Task> find_task(int tid) const;
  RefOrNull<ThreadGroup> find_group(int pid) const;
  RefOrNull<ProcessGroup> find_process_group(int id) const;
  RefOrNull<Session> find_session(int id) const;
  std::vector<Ref<ThreadGroup>> groups() const;  // sorted by pid
  RefOrNull<ThreadGroup> init() const;
  int last_pid() const;
  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  friend class RefCounted<PidNamespace>;
  PidNamespace();
  ~PidNamespace();
  std::unique_ptr<Impl> impl_;
};

// exec's loader, in kernel/loader (elf.cc, script.cc): maps a program into a fresh space and says how it starts.
struct LoadedProgram {
  uint64_t entry = 0, stack_pointer = 0;
};

}  // namespace sentry::kernel
