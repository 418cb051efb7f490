// SPDX-License-Identifier: Apache-2.0
// From a ContainerSpec to a running container: its file systems, its /dev, its first process.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/wire/control.h"
#include "sentry/kernel/kernel.h"

namespace sentry::boot {

// An errno and what was being done, for a person.
struct Failure {
  Errno error;
  std::string message;
  bool whole = false;  // the message says the error itself
};

// A container and the processes that control requests started in it. Held by: the control server, requests in flight.
class Running : public RefCounted<Running> {
 public:
  Running(Ref<kernel::Container> c, Ref<kernel::ThreadGroup> init) : container(std::move(c)), init_(std::move(init)), others_(LockRank::kEpollInterest) {}
  const Ref<kernel::Container> container;
  const Ref<kernel::ThreadGroup>& init() const { return init_; }
  std::atomic<bool> started{false};
  RefOrNull<vfs::FileSystem> open_root;  // where writes go through to the host's root, which others may change while the container is paused
  void add(Ref<kernel::ThreadGroup> g);
  // The terminal a process was started with.
  void set_terminal(int pid, Ref<kernel::TtyLink> tty);
  RefOrNull<kernel::TtyLink> terminal(int pid) const;
  // pid 0 or 1: init. Also processes that ended already, until a later one takes their place.
  RefOrNull<kernel::ThreadGroup> find(int pid) const;

 private:
  friend class RefCounted<Running>;
  ~Running() = default;
  Ref<kernel::ThreadGroup> init_;
  Guarded<std::map<int, Ref<kernel::ThreadGroup>>> others_;
  mutable Guarded<std::map<int, Ref<kernel::TtyLink>>> terminals_{LockRank::kEpollInterest};
};

// Builds the container and its init, not yet running. fds: as ContainerSpec says. Parks.
Result<Ref<Running>, Failure> create_container(kernel::Kernel& kernel, platform::Platform& platform,
                                               const wire::ContainerSpec& spec, std::vector<Fd> fds);
// Another process (exec), running at once. fds: stdin, stdout, stderr, preserved. Parks.
Result<Ref<kernel::ThreadGroup>, Failure> exec_in_container(kernel::Kernel& kernel, Running& running,
                                                            const wire::ExecRequest& request, std::vector<Fd> fds);

}  // namespace sentry::boot
