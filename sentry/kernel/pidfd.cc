// SPDX-License-Identifier: Apache-2.0
// pidfd files: readable once the process has ended.
#include "sentry/kernel/pidfd.h"

#include <sys/stat.h>

#include "sentry/kernel/internal.h"

namespace sentry::kernel {
namespace {

class PidFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::pidfd;
  PidFile(const vfs::Path& path, Ref<ThreadGroup> g, int flags, Ref<auth::Credentials> cred)
      : File(kKind, path, path.inode().get_ref(), O_RDWR | flags, std::move(cred)), group_(std::move(g)) {}
  uint32_t poll_events() override { return group_->is_zombie() ? EPOLLIN | EPOLLRDNORM : 0; }
  sched::WaitQueue* poll_queue() override { return &group_->impl().exit_events; }
  std::string fdinfo() override {
    std::vector<PidLink> ids;
    bool reaped;
    {
      MutexLock l(task_set_lock);
      ids = group_->impl().ids;
      reaped = group_->impl().reaped;
    }
    std::string text = base::format("Pid:\t{}\nNSpid:", reaped ? -1 : ids.front().number);
    for (const PidLink& l : ids) text += base::format("\t{}", reaped ? -1 : l.number);
    return text + "\n";
  }
  Ref<ThreadGroup> group_;
};

}  // namespace

Ref<vfs::File> make_pidfd(Ref<ThreadGroup> group, int flags, Ref<auth::Credentials> cred) {
  vfs::Path path = vfs::make_anonymous_path("anon_inode:[pidfd]", 0600, *cred);
  return make_ref<PidFile>(path, std::move(group), flags, std::move(cred));
}

Result<Ref<ThreadGroup>> process_of_pidfd(vfs::File& file) {
  PidFile* p = file.as<PidFile>();
  if (!p) return kEBADF;
  return p->group_;
}

}  // namespace sentry::kernel
