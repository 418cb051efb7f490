// SPDX-License-Identifier: Apache-2.0
// The conversation between a call that waits and its supervisor. Linux: kernel/seccomp.c seccomp_do_user_notification(), notify ioctls.
#include "sentry/kernel/seccomp_listener.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>

#include <cstring>

#include "sentry/mm/user.h"
#include "sentry/vfs/locks.h"

namespace sentry::kernel {

// On the stack of the task that asks; in the listener's list while it waits.
struct Notification {
  enum class State : uint8_t { asked, received, answered };
  uint64_t id;
  Task& task;
  seccomp_data data;
  State state = State::asked;
  int error = 0;
  int64_t value = 0;
  uint32_t flags = 0;
};

class ListenerFile final : public vfs::File {
 public:
  ListenerFile(Ref<SeccompListener> l, const vfs::Path& path, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::plain, path, path.inode().get_ref(), O_RDWR, std::move(cred)), l_(std::move(l)) {}
  ~ListenerFile() override {
    {
      MutexLock l(l_->mu_);
      l_->closed_ = true;
      for (Notification* n : l_->asked_) {
        n->state = Notification::State::answered;
        n->error = -ENOSYS;
      }
    }
    l_->answers_.wake_all();
  }

  uint32_t poll_events() override {
    MutexLock l(l_->mu_);
    uint32_t events = l_->orphan_ ? EPOLLHUP : 0u;
    for (Notification* n : l_->asked_) {
      if (n->state == Notification::State::asked) events |= EPOLLIN | EPOLLRDNORM;
      if (n->state == Notification::State::received) events |= EPOLLOUT | EPOLLWRNORM;
    }
    return events;
  }
  sched::WaitQueue* poll_queue() override { return &l_->queue_; }

  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override {
    switch (command) {
      case SECCOMP_IOCTL_NOTIF_RECV: return receive(c, arg);
      case SECCOMP_IOCTL_NOTIF_SEND: return send(c, arg);
      case SECCOMP_IOCTL_NOTIF_ID_VALID:
      case _IOR('!', 2, uint64_t): {
        const uint64_t id = TRY(mm::UserIn<uint64_t>(arg).copy_in(c));
        MutexLock l(l_->mu_);
        Notification* n = l_->find_locked(id);
        return n && n->state == Notification::State::received ? Result<long>(0L) : Result<long>(kENOENT);
      }
      case SECCOMP_IOCTL_NOTIF_ADDFD: return add_fd(c, arg);
      case _IOW('!', 4, uint64_t): return arg & ~1ull ? Result<long>(kEINVAL) : Result<long>(0L);  // SET_FLAGS
      default: return kEINVAL;
    }
  }

 private:
  Result<long> receive(platform::Context& c, uint64_t arg) {
    seccomp_notif n = TRY(mm::UserIn<seccomp_notif>(arg).copy_in(c));
    const seccomp_notif zero{};
    if (memcmp(&n, &zero, sizeof n) != 0) return kEINVAL;
    Task& me = Task::current();
    Notification* got = nullptr;
    bool orphan = false;
    RefOrNull<Task> who;
    TRY(sched::wait_for(l_->queue_, [&] {
      MutexLock l(l_->mu_);
      for (Notification* x : l_->asked_) {
        if (x->state != Notification::State::asked) continue;
        got = x;
        x->state = Notification::State::received;
        n.id = x->id;
        n.data = x->data;
        who = Ref<Task>(x->task);
        return true;
      }
      orphan = l_->orphan_;
      return orphan;
    }));
    if (!got) return kENOENT;
    n.pid = static_cast<uint32_t>(who->tid_in(me.group().pid_namespace()));
    if (!mm::UserOut<seccomp_notif>(arg).copy_out_now(c, n).ok()) {
      MutexLock l(l_->mu_);
      if (Notification* x = l_->find_locked(n.id)) x->state = Notification::State::asked;
      return kEFAULT;
    }
    l_->queue_.wake_all(EPOLLOUT | EPOLLWRNORM);
    return 0L;
  }

  Result<long> send(platform::Context& c, uint64_t arg) {
    seccomp_notif_resp r = TRY(mm::UserIn<seccomp_notif_resp>(arg).copy_in(c));
    if (r.flags & ~static_cast<uint32_t>(SECCOMP_USER_NOTIF_FLAG_CONTINUE)) return kEINVAL;
    if ((r.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE) && (r.error || r.val)) return kEINVAL;
    {
      MutexLock l(l_->mu_);
      Notification* n = l_->find_locked(r.id);
      if (!n) return kENOENT;
      if (n->state != Notification::State::received) return kEINPROGRESS;
      n->state = Notification::State::answered;
      n->error = r.error;
      n->value = r.val;
      n->flags = r.flags;
    }
    l_->answers_.wake_all();
    return 0L;
  }

  // A descriptor of the supervisor's for the task that waits. Linux: seccomp_notify_addfd().
  Result<long> add_fd(platform::Context& c, uint64_t arg) {
    seccomp_notif_addfd a = TRY(mm::UserIn<seccomp_notif_addfd>(arg).copy_in(c));
    constexpr uint32_t kSend = 2;
    if (a.newfd_flags & ~static_cast<uint32_t>(O_CLOEXEC)) return kEINVAL;
    if (a.flags & ~(static_cast<uint32_t>(SECCOMP_ADDFD_FLAG_SETFD) | kSend)) return kEINVAL;
    if (a.newfd && !(a.flags & SECCOMP_ADDFD_FLAG_SETFD)) return kEINVAL;
    Ref<vfs::File> file = TRY(Task::current().file(static_cast<int>(a.srcfd)));
    RefOrNull<Task> who;
    {
      MutexLock l(l_->mu_);
      Notification* n = l_->find_locked(a.id);
      if (!n) return kENOENT;
      if (n->state != Notification::State::received) return kEINPROGRESS;
      who = Ref<Task>(n->task);
    }
    Ref<FdTable> files = TRY(who->find_files());
    int fd = static_cast<int>(a.newfd);
    const uint64_t limit = who->rlimit(RLIMIT_NOFILE);
    if (a.flags & SECCOMP_ADDFD_FLAG_SETFD) {
      RefOrNull<vfs::File> old = TRY(files->replace(fd, file, a.newfd_flags & O_CLOEXEC, limit));
      if (old) IGNORE_ERROR(vfs::close_descriptor(*old, files.get()), "as with dup2, errors of the silent close are lost");
    } else {
      fd = TRY(files->reserve(0, limit));
      files->commit(fd, file, a.newfd_flags & O_CLOEXEC);
    }
    if (!(a.flags & kSend)) return long{fd};
    {
      MutexLock l(l_->mu_);
      Notification* n = l_->find_locked(a.id);
      if (!n || n->state != Notification::State::received) return kENOENT;
      n->state = Notification::State::answered;
      n->value = fd;
    }
    l_->answers_.wake_all();
    return long{fd};
  }

  const Ref<SeccompListener> l_;
};

Notification* SeccompListener::find_locked(uint64_t id) {
  for (Notification* n : asked_)
    if (n->id == id) return n;
  return nullptr;
}

Ref<vfs::File> SeccompListener::make_file(Ref<SeccompListener> l, const Ref<auth::Credentials>& cred) {
  return make_ref<ListenerFile>(std::move(l), vfs::make_anonymous_path("anon_inode:seccomp notify", 0600, *cred), cred);
}

void SeccompListener::filter_gone() {
  {
    MutexLock l(mu_);
    orphan_ = true;
  }
  queue_.wake_all();
}

std::optional<Result<long>> SeccompListener::ask(Task& t, const platform::Call& call) {
  Ref<SeccompListener> self(*this);
  Notification n{0, t, {}};
  n.data.nr = static_cast<int>(call.number);
  n.data.arch = AUDIT_ARCH_X86_64;
  n.data.instruction_pointer = t.context().instruction_pointer();
  for (int i = 0; i < 6; i++) n.data.args[i] = call.args[i];
  {
    MutexLock l(mu_);
    if (closed_) return Result<long>(kENOSYS);
    n.id = next_id_++;
    asked_.push_back(&n);
  }
  queue_.wake_all();
  auto answered = [&] {
    MutexLock l(mu_);
    return n.state == Notification::State::answered;
  };
  auto received = [&] {
    MutexLock l(mu_);
    return n.state == Notification::State::received;
  };
  // Once the supervisor has it, only death ends a killable wait.
  Result<void> waited = sched::wait_for(answers_, [&] { return answered() || (killable_ && received()); });
  if (!answered() && (waited.ok() || (killable_ && received())))
    waited = sched::wait_for(answers_, [&] { return answered() || must_exit(t); }, sched::kNever, sched::Interruptible::no);
  {
    MutexLock l(mu_);
    asked_.remove(&n);
  }
  queue_.wake_all();
  if (n.state != Notification::State::answered) return Result<long>(kERESTARTSYS);
  if (n.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE) return std::nullopt;
  // Plain results, both: an errno beyond 511 would be taken for a restart.
  if (n.error < 0 && n.error >= -4095) return Result<long>(static_cast<long>(n.error));
  if (n.error != 0) return Result<long>(kENOSYS);
  return Result<long>(static_cast<long>(n.value));
}

}  // namespace sentry::kernel
