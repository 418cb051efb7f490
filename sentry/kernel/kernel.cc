// SPDX-License-Identifier: Apache-2.0
// The kernel of a sandbox and its containers: how the first task of each comes to be.
#include "sentry/kernel/keys.h"
#include "sentry/kernel/kernel.h"

#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/sys.h"
#include "sentry/kernel/exec.h"
#include "sentry/kernel/futex_pi.h"
#include "sentry/kernel/futex_table.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/ipc.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/seccomp.h"

namespace sentry::kernel {
namespace {

std::array<rlimit64, RLIM_NLIMITS> default_limits() {
  constexpr uint64_t inf = RLIM64_INFINITY;
  std::array<rlimit64, RLIM_NLIMITS> l;
  l.fill({inf, inf});
  l[RLIMIT_STACK] = {8 << 20, inf};
  l[RLIMIT_CORE] = {0, inf};
  l[RLIMIT_NOFILE] = {1024 * 1024, 1024 * 1024};
  l[RLIMIT_MEMLOCK] = {8 << 20, 8 << 20};
  l[RLIMIT_SIGPENDING] = {32768, 32768};
  l[RLIMIT_MSGQUEUE] = {819200, 819200};
  l[RLIMIT_NICE] = l[RLIMIT_RTPRIO] = {0, 0};
  return l;
}

std::string_view search_path(const std::vector<std::string>& env) {
  for (const std::string& e : env)
    if (e.starts_with("PATH=")) return std::string_view(e).substr(5);
  return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

// A command without a slash is looked for in PATH of its environment, as container engines expect.
Result<ExecRequest> find_program(WalkOpener& opener, const ProcessSpec& spec) {
  if (spec.args.empty() || spec.args[0].empty()) return kENOENT;
  const std::string& name = spec.args[0];
  auto request = [&](Ref<vfs::File> f, std::string path) {
    return ExecRequest{std::move(f), std::move(path), spec.args, spec.env, false};
  };
  if (name.find('/') != std::string::npos) return request(TRY(opener.open_program(name)), name);
  std::string_view path = search_path(spec.env);
  Errno worst = kENOENT;
  while (!path.empty()) {
    size_t colon = std::min(path.find(':'), path.size());
    std::string full = std::string(path.substr(0, colon));
    path.remove_prefix(std::min(colon + 1, path.size()));
    full = full.empty() ? name : full + "/" + name;
    Result<Ref<vfs::File>> f = opener.open_program(full);
    if (f.ok()) return request(f.value(), full);
    if (f.error() == kEACCES) worst = kEACCES;
  }
  return worst;
}

Result<Ref<FdTable>> make_files(const ProcessSpec& spec) {
  Ref<FdTable> t = FdTable::create();
  for (size_t i = 0; i < spec.files.size(); i++) {
    if (!spec.files[i]) continue;
    int fd = TRY(t->reserve(static_cast<int>(i), spec.files.size()));
    t->commit(fd, spec.files[i].get_ref(), false);
  }
  return t;
}

}  // namespace

Container::Container(std::string id, Ref<platform::Zygote> zygote, Ref<vfs::MountNamespace> mounts, Ref<UtsNamespace> uts,
                     ContainerLimits limits, RefOrNull<PidNamespace> shared_pids)
    : id_(std::move(id)),
      zygote_(std::move(zygote)),
      mounts_(std::move(mounts)),
      uts_(std::move(uts)),
      pids_(shared_pids ? shared_pids.get_ref() : PidNamespace::create(nullptr)),
      ipc_(IpcNamespace::create()),
      cgroup_(make_ref<CgroupNamespace>()),
      limits_(limits) {}
Container::~Container() = default;
Ref<IpcNamespace> Container::ipc() const { return ipc_.get_ref(); }
Ref<CgroupNamespace> Container::cgroup() const { return cgroup_.get_ref(); }
RefOrNull<SeccompFilter> Container::seccomp() const { return seccomp_; }
void Container::set_seccomp(RefOrNull<SeccompFilter> f) { seccomp_ = std::move(f); }

Kernel::Impl::Impl() : futexes(std::make_unique<FutexTable>()), pi(std::make_unique<PiTable>()), keys(std::make_unique<KeyTable>()) {
  fill_random(boot_id, sizeof boot_id);
  fill_random(&namespace_secret, sizeof namespace_secret);
}
Kernel::Impl::~Impl() = default;

Kernel::Kernel(CallHandler& calls) : calls_(calls), impl_(std::make_unique<Impl>()) {
  timespec r;
  clock_gettime(CLOCK_REALTIME, &r);
  impl_->boot_monotonic = sched::now();
  impl_->boot_realtime = r.tv_sec * 1'000'000'000 + r.tv_nsec;
}
Kernel::~Kernel() = default;

void Kernel::set_machine(const Machine& m) { impl_->machine = m; }
Machine Kernel::machine() const { return impl_->machine; }
int64_t Kernel::boot_realtime_ns() const { return impl_->boot_realtime; }
int64_t Kernel::boot_monotonic_ns() const { return impl_->boot_monotonic; }

void fill_random(void* out, size_t n) {
  auto* p = static_cast<std::byte*>(out);
  while (n > 0) {
    Result<long> r = sys::raw(SYS_getrandom, reinterpret_cast<long>(p), static_cast<long>(std::min<size_t>(n, 256)), 0);
    CHECK(r.ok() || r.error() == kEINTR);
    if (!r.ok()) continue;
    p += *r;
    n -= static_cast<size_t>(*r);
  }
}

uint64_t Kernel::random64() {
  MutexLock l(impl_->random_mu);
  if (impl_->random_left < sizeof(uint64_t)) {
    fill_random(impl_->random, sizeof impl_->random);
    impl_->random_left = sizeof impl_->random;
  }
  uint64_t v;
  impl_->random_left -= sizeof v;
  memcpy(&v, impl_->random + impl_->random_left, sizeof v);
  memset(impl_->random + impl_->random_left, 0, sizeof v);  // not kept once given out
  return v;
}

Result<Ref<ThreadGroup>> Kernel::create_process(const Ref<Container>& container, const ProcessSpec& spec) {
  Ref<vfs::MountNamespace> mounts = container->mounts();
  vfs::Path root = mounts->root();
  vfs::Path cwd = root;
  {
    vfs::WalkContext from_root{*mounts, root, root, spec.credentials};
    cwd = TRY(vfs::walk(from_root, spec.cwd.empty() ? "/" : spec.cwd, vfs::kFollow | vfs::kDirectory));
  }
  std::array<rlimit64, RLIM_NLIMITS> limits = default_limits();
  for (auto& [resource, value] : spec.rlimits)
    if (resource >= 0 && resource < static_cast<int>(RLIM_NLIMITS)) limits[static_cast<size_t>(resource)] = value;
  WalkOpener opener(vfs::WalkContext{*mounts, root, cwd, spec.credentials});
  ExecRequest request = TRY(find_program(opener, spec));
  std::string name = request.filename.substr(request.filename.rfind('/') + 1);
  Ref<FdTable> files = TRY(make_files(spec));
  NewImage image = TRY(build_image(*container, opener, std::move(request), spec.credentials, limits, true));
  auto discard = [&] {
    image.space->context_gone(*image.context);
    image.context->space().kill();
  };

  Ref<Task> t = TaskAccess::make_task(*this);
  Ref<ThreadGroup> g = TaskAccess::make_group(*this);
  TaskAccess::group(*t) = g;
  TaskAccess::context(*t) = image.context;
  Ref<SharedMm> mm = make_ref<SharedMm>(image.space);
  if (image.program->inode().deny_write_access().ok()) mm->program = make_ref<RunningProgram>(image.program);
  mm->dumpable = image.dumpable;
  {
    MutexLock l(t->impl().mu);
    t->impl().mm = mm;
    t->impl().cred = image.credentials;
    t->impl().files = files;
    t->impl().fs = make_ref<FsContext>(mounts, root, cwd, spec.umask);
    t->impl().uts = container->uts();
    t->impl().ipc = container->ipc();
    t->impl().cgroup = container->cgroup();
    t->impl().seccomp = container->seccomp();
    if (t->impl().seccomp) t->impl().seccomp_mode = SECCOMP_MODE_FILTER;
    t->impl().name = name.substr(0, 15);
  }
  t->impl().acquire_tty = spec.controlling_terminal;
  g->impl().container = container;
  {
    MutexLock l(g->impl().mu);
    g->impl().handlers = make_ref<SignalHandlers>();
    g->impl().limits = limits;
    g->impl().exe = image.program->path();
    g->impl().leader = t;
    g->impl().last_uid = image.credentials->uid;
  }
  g->impl().timers->cpu_limit_changed(limits[RLIMIT_CPU]);
  image.context->set_registers(first_registers(image.start), true);
  Result<void> fiber = spawn_task_fiber(*t);
  Result<std::vector<PidLink>> ids = kENOMEM;
  if (fiber.ok()) {
    MutexLock l(task_set_lock);
    ids = allocate_pid_locked(container->pids());
  }
  if (!ids.ok()) {
    if (fiber.ok()) abort_task(*t);
    discard();
    MutexLock l(g->impl().mu);
    g->impl().leader = nullptr;  // they hold each other
    return ids.error();
  }
  MutexLock l(task_set_lock);
  t->impl().ids = *ids;
  g->impl().ids = *ids;
  t->impl().tid = ids->front().number;
  g->impl().pid = ids->front().number;
  g->impl().is_init = ids->front().number == 1;
  {
    MutexLock m(g->impl().mu);
    g->impl().tasks.push_back(t);
  }
  charge_task_locked(*container, image.credentials->uid, 1);
  enter_process_group_locked(*g, new_process_group_locked(*g, new_session_locked(*g)));
  link_task_locked(*t);
  return g;
}

void Kernel::start_process(ThreadGroup& group) {
  if (RefOrNull<Task> t = group.leader()) start_task(*t);
}

}  // namespace sentry::kernel
