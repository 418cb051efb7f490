// SPDX-License-Identifier: Apache-2.0
// Tasks: their parts and how others reach them.
#include "sentry/kernel/answers.h"
#include "sentry/kernel/keys.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/ipc.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/seccomp.h"

namespace sentry::kernel {

Task::Impl::Impl() = default;
Task::Impl::~Impl() = default;

Task::Task(Kernel& kernel) : kernel_(kernel), impl_(std::make_unique<Impl>()) {
  impl_->start_time = sched::now();
}
Task::~Task() = default;

Task& Task::current() {
  Task* t = find_current();
  CHECK(t != nullptr);
  return *t;
}
Task* Task::find_current() {
  sched::Fiber* f = sched::current();
  return f ? static_cast<Task*>(f->owner) : nullptr;
}

Container& Task::container() const { return group_->container(); }
int Task::tid() const { return impl_->tid.load(std::memory_order_relaxed); }
int Task::tid_in(const PidNamespace& ns) const {
  MutexLock l(task_set_lock);
  return number_in(impl_->ids, ns);
}

Ref<auth::Credentials> Task::credentials() const {
  MutexLock l(impl_->mu);
  return impl_->cred.get_ref();
}
// Only the task's own fiber writes cred, so that fiber may read it without the lock.
const auth::Credentials& Task::own_credentials() const NO_THREAD_SAFETY_ANALYSIS {
  DCHECK(find_current() == this || find_current() == nullptr);
  return *impl_->cred;
}
void Task::set_credentials(Ref<auth::Credentials> c) {
  uint32_t old_uid = 0, new_uid = c->uid;
  RefOrNull<auth::Credentials> next(std::move(c));
  {
    MutexLock l(impl_->mu);
    old_uid = impl_->cred ? impl_->cred->uid : new_uid;
    std::swap(impl_->cred, next);
  }
  {
    MutexLock l(group_->impl().mu);
    group_->impl().last_uid = new_uid;
  }
  if (find_current() == this) publish_answers(*this);
  if (old_uid != new_uid) {
    MutexLock l(task_set_lock);
    auto& per_user = TaskAccess::user_tasks(container());
    if (--per_user[old_uid] <= 0) per_user.erase(old_uid);
    per_user[new_uid]++;
  }
}
Ref<FdTable> Task::files() const {
  {
    MutexLock l(impl_->mu);
    if (impl_->files) return impl_->files.get_ref();
  }
  return FdTable::create();  // it exits: somebody else looks at it
}
Result<Ref<FdTable>> Task::find_files() const {
  MutexLock l(impl_->mu);
  if (!impl_->files) return kESRCH;
  return impl_->files.get_ref();
}
void Task::set_files(Ref<FdTable> f) {
  RefOrNull<FdTable> next(std::move(f));
  MutexLock l(impl_->mu);
  std::swap(impl_->files, next);
}
Ref<FsContext> Task::fs() const {
  {
    MutexLock l(impl_->mu);
    if (impl_->fs) return impl_->fs.get_ref();
  }
  Ref<vfs::MountNamespace> mounts = container().mounts();  // it exits: somebody else looks at it
  return make_ref<FsContext>(mounts, mounts->root(), mounts->root(), 022);
}
void Task::set_fs(Ref<FsContext> f) {
  RefOrNull<FsContext> next(std::move(f));
  MutexLock l(impl_->mu);
  std::swap(impl_->fs, next);
}
Ref<mm::AddressSpace> Task::mm() const {
  MutexLock l(impl_->mu);
  return impl_->mm->space;
}
RefOrNull<mm::AddressSpace> Task::find_mm() const {
  MutexLock l(impl_->mu);
  if (!impl_->mm) return nullptr;
  return impl_->mm->space;
}
Ref<UtsNamespace> Task::uts() const {
  MutexLock l(impl_->mu);
  return impl_->uts.get_ref();
}
std::string Task::name() const {
  MutexLock l(impl_->mu);
  return impl_->name;
}
void Task::set_name(std::string_view n) {
  std::string next(n.substr(0, 15));
  MutexLock l(impl_->mu);
  std::swap(impl_->name, next);
}

CpuSet Task::affinity() const {
  MutexLock l(impl_->mu);
  return impl_->affinity;
}
void Task::set_affinity(const CpuSet& set) {
  MutexLock l(impl_->mu);
  impl_->affinity = set;
}

uint64_t Task::rlimit(int resource) const { return group_->get_rlimit(resource).rlim_cur; }

// Only the task's own fiber replaces files, so that fiber may use the table without the lock.
Result<Ref<vfs::File>> Task::file(int fd) const NO_THREAD_SAFETY_ANALYSIS {
  sched::Fiber* f = sched::current();
  if (f && f->owner == this) return impl_->files->get(fd);
  return files()->get(fd);
}

Result<long> Task::install(Ref<vfs::File> file, bool cloexec) {
  Ref<FdTable> table = files();
  FdReservation r = TRY(FdReservation::reserve(table, rlimit(RLIMIT_NOFILE)));
  return long{r.commit(std::move(file), cloexec)};
}

vfs::WalkContext Task::walk_context() const {
  Ref<FsContext> f = fs();
  impl_->walk_mounts = f->mounts();
  return vfs::WalkContext{*impl_->walk_mounts, f->root(), f->cwd(), credentials()};
}

Result<vfs::WalkContext> Task::walk_context_at(int dirfd, std::string_view path) const {
  if (dirfd == AT_FDCWD || (!path.empty() && path[0] == '/')) return walk_context();
  Ref<vfs::File> dir = TRY(files()->get_path(dirfd));
  if (!path.empty() && !dir->inode().is_directory()) return kENOTDIR;
  Ref<FsContext> f = fs();
  impl_->walk_mounts = f->mounts();
  return vfs::WalkContext{*impl_->walk_mounts, f->root(), dir->path(), credentials()};
}

Errno Task::restart_later(const RestartBlock& block) {
  impl_->restart = block;
  return kERESTART_RESTARTBLOCK;
}

UtsNamespace::UtsNamespace(std::string host, std::string domain, RefOrNull<auth::UserNamespace> user_ns, auth::NamespaceCharge charge)
    : hostname_(std::move(host)), domainname_(std::move(domain)), user_ns_(std::move(user_ns)), charge_(std::move(charge)) {}
std::string UtsNamespace::hostname() const {
  MutexLock l(mu_);
  return hostname_;
}
std::string UtsNamespace::domainname() const {
  MutexLock l(mu_);
  return domainname_;
}
void UtsNamespace::set_hostname(std::string s) {
  MutexLock l(mu_);
  hostname_ = std::move(s);
}
void UtsNamespace::set_domainname(std::string s) {
  MutexLock l(mu_);
  domainname_ = std::move(s);
}

}  // namespace sentry::kernel
