// SPDX-License-Identifier: Apache-2.0
// epoll. Linux: fs/eventpoll.c, man 7 epoll.
#pragma once

#include <sys/epoll.h>

#include <vector>

#include "sentry/vfs/file.h"

namespace sentry::fs::epoll {

Ref<vfs::File> create(const Ref<auth::Credentials>& cred);

// epoll_ctl(2). EINVAL: epfd is no epoll, or watches itself; EPERM: the file cannot be watched; ELOOP: nested too deep or
// in a circle; EEXIST, ENOENT.
Result<void> control(vfs::File& epoll, int op, int fd, const Ref<vfs::File>& target, const epoll_event& event);

// Up to max ready events; waits until the deadline for the first. kERESTARTSYS never: EINTR as Linux. Parks.
Result<std::vector<epoll_event>> wait(vfs::File& epoll, int max, sched::Nanos deadline);

}  // namespace sentry::fs::epoll
