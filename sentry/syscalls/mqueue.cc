// SPDX-License-Identifier: Apache-2.0
// POSIX message queues; the work is in fs/mqueue. Linux: ipc/mqueue.c.
#include "sentry/fs/mqueue/mqueue.h"

#include "sentry/net/netlink/netlink.h"
#include "sentry/syscalls/paths.h"
#include "sentry/syscalls/socket.h"

namespace sentry::syscalls {
namespace {

using fs::mqueue::Attributes;
using fs::mqueue::QueueFile;

constexpr size_t kCookie = 32;  // NOTIFY_COOKIE_LEN

struct KernelSigevent {
  sigval value;
  int signo, notify;
  int padding[12];
};
static_assert(sizeof(KernelSigevent) == 64);

Result<Ref<vfs::File>> queue_file(Task& task, int fd) {
  Ref<vfs::File> f = TRY(task.file(fd));
  if (!f->as<QueueFile>()) return kEBADF;
  return f;
}

// An absolute time of CLOCK_REALTIME. Linux: prepare_timeout().
Result<sched::Nanos> deadline_of(Task& task, UserIn<struct timespec> at) {
  if (at.is_null()) return sched::kNever;
  const timespec t = TRY(at.copy_in(task.context()));
  if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= 1000000000) return kEINVAL;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const sched::Nanos mono = sched::now();
  if (t.tv_sec - now.tv_sec > (sched::kNever - mono) / 1000000000 - 1) return sched::kNever;
  return mono + (t.tv_sec - now.tv_sec) * 1000000000 + t.tv_nsec - now.tv_nsec;
}

// SIGEV_THREAD: the C library waits at a netlink socket for its cookie.
class SocketListener final : public fs::mqueue::Listener {
 public:
  SocketListener(Ref<net::SocketFile> file, std::vector<std::byte> cookie) : file_(std::move(file)), cookie_(std::move(cookie)) {}
  void tell(Event e) override {
    cookie_.back() = static_cast<std::byte>(e);
    net::netlink::deliver(file_->sock(), cookie_);
  }

 private:
  const Ref<net::SocketFile> file_;
  std::vector<std::byte> cookie_;
};

}  // namespace

Result<long> sys_mq_open(Task& task, UserString name, int flags, uint32_t mode, UserIn<void> attr) {
  std::optional<Attributes> wanted;
  if (!attr.is_null()) wanted = TRY(attr.copy_in<Attributes>(task.context()));
  std::string text = TRY(name.copy_in(task.context()));
  auto slot = TRY(kernel::FdReservation::reserve(task.files(), task.rlimit(RLIMIT_NOFILE)));
  Ref<vfs::File> f = TRY(fs::mqueue::open(task, text, flags, mode & 07777 & ~task.fs()->umask(), wanted));
  return long{slot.commit(std::move(f), true)};
}

Result<long> sys_mq_unlink(Task& task, UserString name) {
  return done(fs::mqueue::unlink(task, TRY(name.copy_in(task.context()))));
}

Result<long> sys_mq_timedsend(Task& task, int fd, UserIn<void> data, size_t size, unsigned priority, UserIn<struct timespec> at) {
  const sched::Nanos deadline = TRY(deadline_of(task, at));
  if (priority >= fs::mqueue::kPriorities) return kEINVAL;
  Ref<vfs::File> file = TRY(queue_file(task, fd));
  if (!file->writable()) return kEBADF;
  QueueFile& q = *file->as<QueueFile>();
  if (size > q.message_size()) return kEMSGSIZE;
  fs::mqueue::Message m{priority, std::vector<std::byte>(size)};
  if (size) TRY(data.copy_bytes_in(task.context(), m.bytes.data(), size));
  return done(q.send(std::move(m), deadline));
}

Result<long> sys_mq_timedreceive(Task& task, int fd, UserOut<void> data, size_t size, UserOut<unsigned> priority,
                                 UserIn<struct timespec> at) {
  const sched::Nanos deadline = TRY(deadline_of(task, at));
  Ref<vfs::File> file = TRY(queue_file(task, fd));
  if (!file->readable()) return kEBADF;
  QueueFile& q = *file->as<QueueFile>();
  if (size < q.message_size()) return kEMSGSIZE;
  fs::mqueue::Message m = TRY(q.receive(deadline));
  if (!priority.is_null()) TRY(priority.copy_out(task.context(), m.priority));
  if (!m.bytes.empty()) TRY(task.context().copy_out_now(data.unchecked_address(), m.bytes.data(), m.bytes.size()));
  return static_cast<long>(m.bytes.size());
}

Result<long> sys_mq_notify(Task& task, int fd, UserIn<void> event) {
  if (event.is_null()) {
    Ref<vfs::File> file = TRY(queue_file(task, fd));
    file->as<QueueFile>()->stop_notifying();
    return 0L;
  }
  const KernelSigevent e = TRY(event.copy_in<KernelSigevent>(task.context()));
  fs::mqueue::Notification n;
  n.value = e.value;
  switch (e.notify) {
    case SIGEV_NONE: break;
    case SIGEV_SIGNAL:
      if (e.signo < 0 || e.signo > kernel::kSignals) return kEINVAL;
      n.signo = e.signo;
      break;
    case SIGEV_THREAD: {
      std::vector<std::byte> cookie =
          TRY(UserIn<std::byte>(reinterpret_cast<uint64_t>(e.value.sival_ptr)).copy_in_array(task.context(), kCookie));
      Ref<net::SocketFile> socket = TRY(socket_file(task, e.signo));
      if (socket->sock().family != AF_NETLINK) return kEINVAL;
      n.listener = std::make_unique<SocketListener>(std::move(socket), std::move(cookie));
      break;
    }
    default: return kEINVAL;
  }
  Ref<vfs::File> file = TRY(queue_file(task, fd));
  return done(file->as<QueueFile>()->notify(std::move(n)));
}

Result<long> sys_mq_getsetattr(Task& task, int fd, UserIn<void> next, UserOut<void> old) {
  std::optional<Attributes> wanted;
  if (!next.is_null()) {
    wanted = TRY(next.copy_in<Attributes>(task.context()));
    if (wanted->flags & ~int64_t{O_NONBLOCK}) return kEINVAL;
  }
  Ref<vfs::File> file = TRY(queue_file(task, fd));
  const Attributes now = file->as<QueueFile>()->attributes();
  if (wanted) file->set_flags((file->flags() & ~O_NONBLOCK) | static_cast<int>(wanted->flags));
  if (!old.is_null()) TRY(old.copy_out(task.context(), now));
  return 0L;
}

}  // namespace sentry::syscalls
