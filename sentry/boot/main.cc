// SPDX-License-Identifier: Apache-2.0
// caisson-sentry CONTROL_FD: the user-space kernel of one sandbox. The runtime has already put this process into its namespaces,
// an empty root and a user without rights (runtime/container). Here it reads its boot message, locks itself down with
// its own filter, and serves until it is killed.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/sys.h"
#include "base/wire/control.h"
#include "seccomp-profiles/sentry.h"
#include "seccomp-profiles/sentry_sockets.h"
#include "seccomp-profiles/install.h"
#include "sentry/boot/control.h"
#include "sentry/net/host/host.h"
#include "sentry/patch/store.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::boot {
namespace {

// The fd table grows to its limit while there is one thread: later growth waits for an RCU grace period (10 ms and more).
void grow_fd_table() {
  struct rlimit lim;
  if (getrlimit(RLIMIT_NOFILE, &lim) != 0) return;
  lim.rlim_cur = lim.rlim_max;
  IGNORE_ERROR(sys::from_libc(setrlimit(RLIMIT_NOFILE, &lim)), "a lower limit only means fewer cached files");
  int top = static_cast<int>(lim.rlim_cur < 16384 ? lim.rlim_cur : 16384) - 1;
  if (dup2(2, top) == top) close(top);
  (void)sys::max_open_files();  // learnt before the filter
}

[[noreturn]] void fatal(const char* what, Errno e) {
  LOG(error, "caisson-sentry: {}: {} ({})", what, e.name(), e.text());
  _exit(70);
}

void report_context(char* buf, unsigned long size) {
  kernel::Task* t = kernel::Task::find_current();
  if (!t) return;
  const auto& c = t->context().call();
  const syscalls::Row* row = syscalls::find_row(c.number);
  snprintf(buf, size, "task %d (%s), call %s(%#lx, %#lx, %#lx)", t->tid(), t->name().c_str(), row ? row->name : "?",
           c.args[0], c.args[1], c.args[2]);
}

int serve(int control_fd) {
  Fd control(control_fd);
  std::vector<std::byte> buf(wire::kMaxRecord);
  std::vector<Fd> fds(wire::kMaxRecordFds);
  auto got = sys::recv_fds(control.get(), buf, fds);
  if (!got.ok()) fatal("receiving the boot message", got.error());
  auto boot = wire::decode<wire::Boot>(std::span(buf).first(got->size));
  if (!boot.ok()) fatal("decoding the boot message", boot.error());
  if (boot->version != wire::kControlVersion) fatal("boot message of another version", kEPROTO);
  size_t next = 0;
  auto take = [&]() -> Fd { return next < got->fd_count ? std::move(fds[next++]) : Fd(); };
  Fd listener = take();
  Fd log = boot->has_log ? take() : Fd();
  Fd threads = boot->has_threads_file ? take() : Fd();
  if (!listener.valid()) fatal("boot message without a control socket", kEBADF);
  int level = boot->log_level > 4 ? 4 : boot->log_level;
  log_init("sentry", log.valid() ? log.release() : 2, static_cast<LogLevel>(level));
  set_check_context_hook(report_context);

  struct sysinfo host;
  const bool have_memory = sysinfo(&host) == 0;
  grow_fd_table();
  signal(SIGPIPE, SIG_IGN);
  auto scheduler = sched::Scheduler::create({.workers = 1, .io_threads = 4, .may_spin = boot->may_spin});
  if (!scheduler.ok()) fatal("starting the scheduler", scheduler.error());
  platform::PlatformOptions po;
  if (boot->patch_calls) patch::Store::instance().enable(platform::kEntryPointer);
  po.mode = boot->memory_mode == wire::MemoryMode::strict ? platform::Mode::strict : platform::Mode::direct;
  po.may_spin = boot->may_spin;
  po.cpus = boot->cpus ? boot->cpus : 1;
  po.descriptors = syscalls::descriptors();
  auto platform = platform::Platform::create(po);
  if (!platform.ok()) fatal("starting the platform", platform.error());
  // Still one thread, and nothing has come from any application: what only the start needs is in no rule.
  seccomp_profiles::prepare_libc();
  seccomp_profiles::prepare_threads();
  auto filter = seccomp_profiles::install(boot->host_sockets ? seccomp_profiles::sentry_sockets::kProgram : seccomp_profiles::sentry::kProgram, 0);
  if (!filter.ok()) fatal("installing the sentry's seccomp filter", filter.error());

  if (boot->host_sockets) net::host::enable();
  if (threads.valid()) platform.value()->set_threads_file(std::move(threads));

  auto calls = syscalls::make_dispatcher({.strace = boot->strace});
  kernel::Kernel kernel(*calls);
  kernel::Machine machine{.cpus = po.cpus};
  if (have_memory) machine.memory_bytes = host.totalram * host.mem_unit;
  kernel.set_machine(machine);
  const auto waiting = po.may_spin && po.cpus > 1 ? fs::gofer::Waiting::awake : fs::gofer::Waiting::asleep;
  ControlServer server(kernel, *platform.value(), std::move(listener), boot->exit_with_init, waiting);
  server.start(std::move(control));
  scheduler.value()->run();
  return 0;
}

}  // namespace
}  // namespace sentry::boot

int main(int argc, char** argv) {
  if (argc != 2 || atoi(argv[1]) <= 2) {
    fprintf(stderr, "caisson-sentry is started by caisson; see docs/ARCHITECTURE.md\n");
    return 64;
  }
  return sentry::boot::serve(atoi(argv[1]));
}
