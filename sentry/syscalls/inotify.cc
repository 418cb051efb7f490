// SPDX-License-Identifier: Apache-2.0
// inotify_init(2) and its relatives. Linux: fs/notify/inotify/inotify_user.c, whose order of checks this is.
#include "sentry/fs/inotify/inotify.h"

#include <unistd.h>

#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {

Result<long> sys_inotify_init1(Task& task, int flags) {
  if (flags & ~(IN_CLOEXEC | IN_NONBLOCK)) return kEINVAL;
  return task.install(TRY(fs::inotify::create(flags, task.credentials())), flags & IN_CLOEXEC);
}
Result<long> sys_inotify_init(Task& task) { return sys_inotify_init1(task, 0); }

Result<long> sys_inotify_add_watch(Task& task, int fd, UserString path, uint32_t mask) {
  constexpr uint32_t kKnown = IN_ALL_EVENTS | IN_ISDIR | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ONLYDIR | IN_DONT_FOLLOW |
                              IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD | IN_ONESHOT;
  if ((mask & ~kKnown) || !(mask & kKnown)) return kEINVAL;
  Ref<vfs::File> f = TRY(task.file(fd));
  if ((mask & IN_MASK_ADD) && (mask & IN_MASK_CREATE)) return kEINVAL;
  if (!fs::inotify::is_instance(*f)) return kEINVAL;
  vfs::Path p = TRY(find_path(task, AT_FDCWD, path, mask & IN_DONT_FOLLOW ? AT_SYMLINK_NOFOLLOW : 0));
  if ((mask & IN_ONLYDIR) && !p.inode()->is_directory()) return kENOTDIR;
  TRY(vfs::may_access(p, R_OK, task.own_credentials()));
  return long{TRY(fs::inotify::add(*f, p, mask))};
}

Result<long> sys_inotify_rm_watch(Task& task, int fd, int wd) {
  Ref<vfs::File> f = TRY(task.file(fd));
  return done(fs::inotify::remove(*f, wd));
}

}  // namespace sentry::syscalls
