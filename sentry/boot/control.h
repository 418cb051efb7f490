// SPDX-License-Identifier: Apache-2.0
// The control socket of a sandbox: requests of the runtime and the shim (base/wire/control.h), each on a fiber of its own.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/wire/control.h"
#include "sentry/boot/container.h"
#include "sentry/kernel/kernel.h"

namespace sentry::boot {

class ControlServer {
 public:
  // exit_with_init: the program ends, with init's code, when the first container's init has (base/wire/control.h, Boot).
  // The first container of a pod outlives its members; each of those ends by itself (container.h).
  // waiting: for the replies of gofers.
  ControlServer(kernel::Kernel& kernel, platform::Platform& platform, Fd listener, bool exit_with_init, fs::gofer::Waiting waiting);
  ~ControlServer();
  // Serves the first connection and whoever connects later.
  void start(Fd first);

 private:
  struct Connection;
  void accept_all();
  void serve(Fd socket, bool makers);
  void read_all(Connection& c);
  void handle(Ref<Connection> c, std::vector<std::byte> record, std::vector<Fd> fds);

  [[noreturn]] void end_with(Running& first);
  Result<std::vector<std::byte>, Failure> create(const wire::ContainerSpec& spec, std::vector<Fd> fds);
  RefOrNull<Running> find(const std::string& id);

  kernel::Kernel& kernel_;
  platform::Platform& platform_;
  Fd listener_;
  std::unique_ptr<sched::FdWatch> accept_watch_;
  Guarded<std::map<std::string, Ref<Running>>> containers_;
  Volumes volumes_;
  std::vector<wire::Sysctl> sysctls_;   // of the first container; not changed after had_container_
  std::set<std::string> making_;        // ids of containers that are being made; guarded as containers_
  std::atomic<bool> ending_{false};     // its first container has
  const bool exit_with_init_;
  const fs::gofer::Waiting waiting_;
  std::atomic<bool> had_container_{false};
  std::atomic<int> requests_{0};        // being handled: none may be lost when the program ends
  std::atomic<bool> maker_served_{false};  // the maker has its answer to kWait, or has gone
};

}  // namespace sentry::boot
