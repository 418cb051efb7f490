// SPDX-License-Identifier: Apache-2.0
// From a ContainerSpec to a running container: its file systems, its /dev, its first process.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/wire/control.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/kernel/ipc.h"
#include "sentry/kernel/kernel.h"

namespace sentry::boot {

// An errno and what was being done, for a person.
struct Failure {
  Errno error;
  std::string message;
  bool whole = false;  // the message says the error itself
};

// The memory volumes of a sandbox, which live as long as it does. Held by: the control server.
class Volumes {
 public:
  // The one with this key, made by `make` if it is new. ENOSPC: there are too many.
  Result<Ref<vfs::FileSystem>> get(const std::string& key, const std::function<Result<Ref<vfs::FileSystem>>()>& make);

 private:
  Guarded<std::map<std::string, Ref<vfs::FileSystem>>> map_{LockRank::kEpollInterest};
};

// What a member of a pod has in common with others.
struct Shared {
  RefOrNull<kernel::PidNamespace> pids;
  RefOrNull<kernel::IpcNamespace> ipc;
  RefOrNull<kernel::UtsNamespace> uts;
  RefOrNull<fs::gofer::Client> gofer;  // of the first container, which lives longest: backs volumes; null for that one itself
  fs::gofer::Waiting waiting = fs::gofer::Waiting::asleep;
  Volumes* volumes = nullptr;
  std::vector<wire::Sysctl> sysctls;  // of the first container
};

// A container and the processes that control requests started in it. Held by: the control server, requests in flight, the fiber
// that waits for its end.
class Running : public RefCounted<Running> {
 public:
  Running(Ref<kernel::Container> c, Ref<fs::gofer::Client> gofer, Ref<kernel::ThreadGroup> init,
          RefOrNull<kernel::IpcNamespace> ipc, bool is_member)
      : container(std::move(c)), shared_ipc(std::move(ipc)), member(is_member), gofer_(std::move(gofer)), init_(std::move(init)), others_(LockRank::kEpollInterest) {}
  const Ref<kernel::Container> container;
  const RefOrNull<kernel::IpcNamespace> shared_ipc;  // of the pod; null: the container's own
  const bool member;
  const Ref<kernel::ThreadGroup>& init() const { return init_; }
  const Ref<fs::gofer::Client>& gofer() const { return gofer_; }
  std::atomic<bool> started{false};
  RefOrNull<vfs::FileSystem> open_root;  // where writes go through to the host's root, which others may change while the container is paused
  // tty: the terminal that a process was started with, or null.
  void set_terminal(RefOrNull<kernel::TtyLink> tty) { init_tty_ = std::move(tty); }  // init's, before others see this
  void add(Ref<kernel::ThreadGroup> g, RefOrNull<kernel::TtyLink> tty);
  RefOrNull<kernel::TtyLink> terminal(int pid) const;
  // Its end was told: it need not be known much longer.
  void told(int pid);
  // SIGKILL to every process of it.
  void kill();
  // Waits until init has ended, kills what is left of a member, and gives back what it had. Parks.
  void see_to_its_end();
  // see_to_its_end() has returned. False: not before the deadline. Parks.
  bool wait_for_end(sched::Nanos deadline);
  // pid 0: init. Also processes that ended: a thousand whose end nobody asked for, and the last few of the others.
  RefOrNull<kernel::ThreadGroup> find(int pid) const;

 private:
  friend class RefCounted<Running>;
  ~Running() = default;
  Ref<fs::gofer::Client> gofer_;
  Ref<kernel::ThreadGroup> init_;
  std::atomic<bool> ended_{false};
  sched::WaitQueue ended_queue_;
  RefOrNull<kernel::TtyLink> init_tty_;
  struct Other {
    Ref<kernel::ThreadGroup> group;
    RefOrNull<kernel::TtyLink> tty;
    uint64_t number;
    bool told = false;
  };
  struct Others {
    std::map<int, Other> by_pid;
    uint64_t next = 0;
  };
  mutable Guarded<Others> others_;
};

// Builds the container and its init, not yet running. fds: as ContainerSpec says. If its gofer or zygote dies later, its processes
// are killed. Parks.
Result<Ref<Running>, Failure> create_container(kernel::Kernel& kernel, platform::Platform& platform,
                                               const wire::ContainerSpec& spec, const Shared& shared, std::vector<Fd> fds);
// Another process (exec), running at once. fds: stdin, stdout, stderr, preserved. Parks.
Result<Ref<kernel::ThreadGroup>, Failure> exec_in_container(kernel::Kernel& kernel, Running& running,
                                                            const wire::ExecRequest& request, std::vector<Fd> fds);

}  // namespace sentry::boot
