// SPDX-License-Identifier: Apache-2.0
// IPC namespaces.
#include "sentry/kernel/ipc.h"

#include "sentry/kernel/inspect.h"
#include "sentry/kernel/ipc_msg.h"
#include "sentry/kernel/ipc_sem.h"
#include "sentry/kernel/ipc_shm.h"

namespace sentry::kernel {

struct IpcNamespace::Impl {
  ShmTable shm;
  SemTable sem;
  MsgTable msg;
  std::shared_ptr<QueueLimits> limits = std::make_shared<QueueLimits>();
  Mutex mu{LockRank::kFsContext};
  RefOrNull<vfs::FileSystem> queues GUARDED_BY(mu);
};

IpcNamespace::IpcNamespace() : impl_(std::make_unique<Impl>()) {}
IpcNamespace::~IpcNamespace() = default;
Ref<IpcNamespace> IpcNamespace::create(RefOrNull<auth::UserNamespace> user_ns, auth::NamespaceCharge charge) {
  Ref<IpcNamespace> ns = adopt_ref(new IpcNamespace());
  ns->user_ns_ = std::move(user_ns);
  ns->charge_ = std::move(charge);
  return ns;
}
ShmTable& IpcNamespace::shm() const { return impl_->shm; }
SemTable& IpcNamespace::sem() const { return impl_->sem; }
MsgTable& IpcNamespace::msg() const { return impl_->msg; }
std::shared_ptr<QueueLimits> IpcNamespace::queue_limits() const { return impl_->limits; }
RefOrNull<vfs::FileSystem> IpcNamespace::queues() const {
  MutexLock l(impl_->mu);
  return impl_->queues;
}
Ref<vfs::FileSystem> IpcNamespace::set_queues(Ref<vfs::FileSystem> fs) {
  MutexLock l(impl_->mu);
  if (!impl_->queues) impl_->queues = fs;
  return impl_->queues.get_ref();
}

std::string sysvipc_text(std::string_view kind, const PidNamespace& viewer) {
  Task* reader = Task::find_current();
  if (!reader) return {};
  Ref<IpcNamespace> ns = ipc_of(*reader);
  if (kind == "shm") return ns->shm().proc_text(viewer);
  if (kind == "sem") return ns->sem().proc_text();
  return ns->msg().proc_text(viewer);
}

Ref<IpcNamespace> ipc_of(Task& t) {
  MutexLock l(t.impl().mu);
  return t.impl().ipc.get_ref();
}
bool ipc_capable(const auth::Credentials& c, int cap) {
  Task* t = Task::find_current();
  return t ? c.has_cap_in(ipc_of(*t)->user_ns().get(), cap) : c.has_cap(cap);
}
void set_ipc(Task& t, Ref<IpcNamespace> ipc) {
  RefOrNull<IpcNamespace> next(std::move(ipc));
  MutexLock l(t.impl().mu);
  std::swap(t.impl().ipc, next);
}

}  // namespace sentry::kernel
