// SPDX-License-Identifier: Apache-2.0
// The Kernel of a sandbox and its Containers: what boot/ builds and control requests act on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sentry/kernel/task.h"

namespace sentry::kernel {

// How a process of a container starts (process of the OCI spec).
struct ProcessSpec {
  std::vector<std::string> args, env;
  std::string cwd;
  Ref<auth::Credentials> credentials;
  uint32_t umask = 022;
  std::vector<std::pair<int, struct rlimit64>> rlimits;
  // Files for descriptors 0, 1, 2, …; a null one stays closed.
  std::vector<RefOrNull<vfs::File>> files;
  bool controlling_terminal = false;  // descriptor 0 becomes it
};

struct ContainerLimits {
  uint64_t memory_bytes = 0;   // 0 = none
  double cpus = 0;             // 0 = none
  int64_t pids = 0;            // 0 = none
};

// Files that calls make out of nothing, in the container's own storage: for sentry/syscalls, which cannot see where boot/ got it.
class FileSystems {
 public:
  virtual ~FileSystems() = default;
  // mount(2): type and data. ENODEV: no such type; EINVAL: bad options. Parks.
  virtual Result<Ref<vfs::FileSystem>> make(const std::string& type, const std::string& data) = 0;
  // memfd_create(2), its arguments checked. Parks.
  virtual Result<Ref<vfs::File>> make_memfd(std::string_view name, bool allow_sealing, uint32_t mode,
                                            const Ref<auth::Credentials>& cred) = 0;
};

class IpcNamespace;
class CgroupNamespace;
class SeccompFilter;

// One OCI container: a PID namespace, a mount namespace, a zygote. Held by: its processes, the kernel's table.
class Container : public RefCounted<Container> {
 public:
  const std::string& id() const { return id_; }
  uint64_t number() const { return number_; }  // of no other container of this sentry, ever
  Ref<PidNamespace> pids() const { return pids_; }
  Ref<platform::Zygote> zygote() const { return zygote_; }
  Ref<vfs::MountNamespace> mounts() const { return mounts_; }
  Ref<UtsNamespace> uts() const { return uts_; }
  Ref<IpcNamespace> ipc() const;
  Ref<CgroupNamespace> cgroup() const;
  // The filter of linux.seccomp for the container's first process; null: none.
  RefOrNull<SeccompFilter> seccomp() const;
  void set_seccomp(RefOrNull<SeccompFilter> f);
  const Ref<QueuedSignals>& queued_signals() const { return queued_signals_; }
  ContainerLimits limits() const { return limits_; }
  void set_limits(ContainerLimits l) { limits_ = l; }
  // Where ids that programs see are others on the host (linux.uidMappings): only these are anybody. Null: all are. Set before any process.
  const auth::IdMap* host_uids() const { return host_uids_.get(); }
  const auth::IdMap* host_gids() const { return host_gids_.get(); }
  void set_host_ids(std::unique_ptr<const auth::IdMap> uids, std::unique_ptr<const auth::IdMap> gids) {
    host_uids_ = std::move(uids);
    host_gids_ = std::move(gids);
  }
  FileSystems* file_systems() const { return file_systems_.get(); }  // null until boot/ has set it
  void set_file_systems(std::unique_ptr<FileSystems> f) { file_systems_ = std::move(f); }

  Container(std::string id, Ref<platform::Zygote> zygote, Ref<vfs::MountNamespace> mounts, Ref<UtsNamespace> uts,
            ContainerLimits limits, RefOrNull<PidNamespace> shared_pids = nullptr);

 private:
  friend class RefCounted<Container>;
  friend struct TaskAccess;
  ~Container();
  static inline std::atomic<uint64_t> next_number_{1};
  std::string id_;
  const uint64_t number_ = next_number_.fetch_add(1, std::memory_order_relaxed);
  Ref<platform::Zygote> zygote_;
  Ref<vfs::MountNamespace> mounts_;
  Ref<UtsNamespace> uts_;
  Ref<PidNamespace> pids_;
  RefOrNull<IpcNamespace> ipc_;
  RefOrNull<CgroupNamespace> cgroup_;
  RefOrNull<SeccompFilter> seccomp_;
  ContainerLimits limits_;
  std::unique_ptr<FileSystems> file_systems_;
  std::unique_ptr<const auth::IdMap> host_uids_, host_gids_;
  std::map<uint32_t, int> user_tasks_;  // RLIMIT_NPROC; guarded by the task-set lock
  int64_t task_count_ = 0;              // likewise
  const Ref<QueuedSignals> queued_signals_ = make_ref<QueuedSignals>();
};

// What a system call is, for the kernel: filled by sentry/syscalls, which the kernel does not see.
class CallHandler {
 public:
  virtual ~CallHandler() = default;
  // Handles the call in task.context().call(). The result goes into rax by the caller (task_run.cc), restart codes included.
  virtual Result<long> handle(Task& task, const platform::Call& call) = 0;
  // The call had this result, but not all that it gave could be stored in the application's memory. The result that it has then.
  virtual Result<long> not_delivered(Task& /*task*/, const platform::Call& /*call*/, int64_t /*result*/) { return kEFAULT; }
  // It wants to see calls, too, whose result the stub could tell by itself.
  virtual bool sees_all() const { return false; }
};

// What programs are told of the machine they run on.
struct Machine {
  unsigned cpus = 1;
  uint64_t memory_bytes = uint64_t{1} << 30;
};

class Kernel {
 public:
  Kernel(CallHandler& calls);
  ~Kernel();
  CallHandler& calls() { return calls_; }

  // A process in the container, loaded and ready but not running (create); start() lets it run. The errno of exec when the program
  // cannot be loaded: ENOENT, EACCES, ENOEXEC. Parks. init of the container first, others are exec's (their parent is 0).
  Result<Ref<ThreadGroup>> create_process(const Ref<Container>& container, const ProcessSpec& spec);
  void start_process(ThreadGroup& group);

  // The kernel's monotonic zero: boot time of the sandbox in CLOCK_REALTIME and CLOCK_MONOTONIC ns.
  int64_t boot_realtime_ns() const;
  int64_t boot_monotonic_ns() const;
  uint64_t random64();  // getrandom
  // Set by boot/ before the first container.
  void set_machine(const Machine& m);
  Machine machine() const;
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  CallHandler& calls_;
  std::unique_ptr<Impl> impl_;
};

// Bytes from the host's generator.
void fill_random(void* out, size_t n);

// Names the kernel reports (uname, /proc/version).
inline constexpr const char* kSysname = "Linux";
inline constexpr const char* kRelease = "6.12.0-caisson";
inline constexpr const char* kVersion = "#1 SMP PREEMPT_DYNAMIC Caisson";

}  // namespace sentry::kernel
