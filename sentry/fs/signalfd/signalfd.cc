// SPDX-License-Identifier: Apache-2.0
// Signals as records. Reads and poll(2) look at the calling task, as Linux does.
// Differs from Linux: an epoll is woken by signals of the process that made the descriptor.
#include "sentry/fs/signalfd/signalfd.h"

#include <sys/signalfd.h>

#include <cstring>

namespace sentry::fs::signalfd {
namespace {

signalfd_siginfo record(const kernel::SignalInfo& i) {
  signalfd_siginfo r{};
  const siginfo_t& s = i.si;
  r.ssi_signo = static_cast<uint32_t>(s.si_signo);
  r.ssi_errno = s.si_errno;
  r.ssi_code = s.si_code;
  switch (s.si_signo) {
    case SIGSEGV: case SIGBUS: case SIGFPE: case SIGILL: case SIGTRAP:
      if (s.si_code > 0) {
        r.ssi_addr = reinterpret_cast<uint64_t>(s.si_addr);
        return r;
      }
      break;
    case SIGCHLD:
      if (s.si_code > 0) {
        r.ssi_pid = static_cast<uint32_t>(s.si_pid);
        r.ssi_uid = s.si_uid;
        r.ssi_status = s.si_status;
        r.ssi_utime = static_cast<uint64_t>(s.si_utime);
        r.ssi_stime = static_cast<uint64_t>(s.si_stime);
        return r;
      }
      break;
    default: break;
  }
  if (s.si_code == SI_TIMER) {
    r.ssi_tid = static_cast<uint32_t>(s.si_timerid);
    r.ssi_overrun = static_cast<uint32_t>(s.si_overrun);
  } else {
    r.ssi_pid = static_cast<uint32_t>(s.si_pid);
    r.ssi_uid = s.si_uid;
  }
  r.ssi_ptr = reinterpret_cast<uint64_t>(s.si_value.sival_ptr);
  r.ssi_int = s.si_value.sival_int;
  return r;
}

class SignalFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::signalfd;
  SignalFile(kernel::Task& owner, kernel::SignalSet mask, const vfs::Path& path, int flags)
      : File(kKind, path, path.inode().get_ref(), O_RDWR | flags, owner.credentials()),
        owner_(owner.group_ref()), queue_(owner.signal_queue()), mask_(mask) {}

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override {
    if (dst.size() < sizeof(signalfd_siginfo)) return kEINVAL;
    auto& task = kernel::Task::current();
    size_t done = 0;
    for (;;) {
      kernel::SignalInfo info;
      while (done + sizeof(signalfd_siginfo) <= dst.size() && task.take_signal(mask_.load(), &info)) {
        signalfd_siginfo r = record(info);
        memcpy(dst.data() + done, &r, sizeof r);
        done += sizeof r;
      }
      if (done > 0) return done;
      if (f.nonblock) return kEAGAIN;
      TRY(sched::wait_for(task.signal_queue(), [&] { return (task.pending_set() & mask_.load()) != 0; }));
    }
  }
  uint32_t poll_events() override {
    auto* task = kernel::Task::find_current();
    return task && (task->pending_set() & mask_.load()) ? EPOLLIN | EPOLLRDNORM : 0;
  }
  sched::WaitQueue* poll_queue() override { return &queue_; }
  bool message_oriented() const override { return true; }
  std::string fdinfo() override { return base::format("sigmask:\t{:016x}\n", mask_.load()); }
  void set_mask(kernel::SignalSet m) {
    mask_.store(m);
    queue_.wake_all();
  }

 private:
  Ref<kernel::ThreadGroup> owner_;  // keeps queue_
  sched::WaitQueue& queue_;
  std::atomic<kernel::SignalSet> mask_;
};

}  // namespace

Ref<vfs::File> create(kernel::Task& owner, kernel::SignalSet mask, int flags) {
  auto cred = owner.credentials();
  return make_ref<SignalFile>(owner, mask & ~kernel::kUnblockable,
                              vfs::make_anonymous_path("anon_inode:[signalfd]", 0600, *cred), flags & O_NONBLOCK);
}

Result<void> set_mask(vfs::File& file, kernel::SignalSet mask) {
  auto* s = file.as<SignalFile>();
  if (!s) return kEINVAL;
  s->set_mask(mask & ~kernel::kUnblockable);
  return {};
}

}  // namespace sentry::fs::signalfd
