// SPDX-License-Identifier: Apache-2.0
// cwd, root and umask of tasks. Linux: fs/fs_struct.c.
#include "sentry/kernel/task.h"

namespace sentry::kernel {

FsContext::FsContext(Ref<vfs::MountNamespace> mounts, vfs::Path root, vfs::Path cwd, uint32_t umask)
    : mounts_(std::move(mounts)), root_(std::move(root)), cwd_(std::move(cwd)), umask_(umask & 0777) {}

Ref<FsContext> FsContext::copy() const {
  MutexLock l(mu_);
  return make_ref<FsContext>(mounts_, root_, cwd_, umask_);
}
vfs::Path FsContext::root() const {
  MutexLock l(mu_);
  return root_;
}
vfs::Path FsContext::cwd() const {
  MutexLock l(mu_);
  return cwd_;
}
uint32_t FsContext::umask() const {
  MutexLock l(mu_);
  return umask_;
}
Ref<vfs::MountNamespace> FsContext::mounts() const {
  MutexLock l(mu_);
  return mounts_;
}

// What is replaced goes after the lock.
void FsContext::set_root(vfs::Path p) {
  MutexLock l(mu_);
  std::swap(root_, p);
}
void FsContext::set_cwd(vfs::Path p) {
  MutexLock l(mu_);
  std::swap(cwd_, p);
}
uint32_t FsContext::set_umask(uint32_t m) {
  MutexLock l(mu_);
  return std::exchange(umask_, m & 0777);
}
void FsContext::set_mounts(Ref<vfs::MountNamespace> m, vfs::Path root, vfs::Path cwd) {
  MutexLock l(mu_);
  std::swap(mounts_, m);
  std::swap(root_, root);
  std::swap(cwd_, cwd);
}

}  // namespace sentry::kernel
