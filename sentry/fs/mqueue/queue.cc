// SPDX-License-Identifier: Apache-2.0
// Sending, receiving, notification.
#include "sentry/fs/mqueue/queue.h"

#include <algorithm>

#include "sentry/fs/common/text.h"

namespace sentry::fs::mqueue {
namespace {

constexpr uint32_t kIn = EPOLLIN | EPOLLRDNORM, kOut = EPOLLOUT | EPOLLWRNORM;
constexpr uint64_t kFileSize = 80;  // what stat(2) says of every queue

class OpenQueue final : public QueueFile {
 public:
  OpenQueue(const vfs::Path& where, Ref<QueueInode> inode, int flags, Ref<auth::Credentials> cred)
      : QueueFile(vfs::FileKind::mqueue, where, Ref<vfs::Inode>(inode), flags, std::move(cred)), queue_(*inode) {}

  size_t message_size() const override { return static_cast<size_t>(queue_.message_size); }
  Result<void> send(Message m, sched::Nanos deadline) override { return queue_.send(std::move(m), flags() & O_NONBLOCK, deadline); }
  Result<Message> receive(sched::Nanos deadline) override { return queue_.receive(flags() & O_NONBLOCK, deadline); }
  Attributes attributes() override {
    Attributes a = queue_.queue_attributes();
    a.flags = flags() & O_NONBLOCK;
    return a;
  }
  Result<void> notify(Notification n) override { return queue_.notify(kernel::Task::current(), std::move(n)); }
  void stop_notifying() override { queue_.stop_notifying(kernel::Task::current().group()); }

  Result<size_t> read(std::span<std::byte> dst, int64_t* pos, vfs::IoFlags) override {
    const std::string text = queue_.text();
    if (*pos < 0) return kEINVAL;
    const size_t at = std::min(static_cast<size_t>(*pos), text.size()), n = std::min(dst.size(), text.size() - at);
    if (n) memcpy(dst.data(), text.data() + at, n);
    *pos += static_cast<int64_t>(n);
    return n;
  }
  bool seekable() const override { return true; }
  uint32_t poll_events() override { return queue_.poll_events(); }
  sched::WaitQueue* poll_queue() override { return &queue_.queue(); }
  // Closing any descriptor of the queue ends the process's registration.
  Result<void> flush() override {
    if (kernel::Task* t = kernel::Task::find_current()) queue_.stop_notifying(t->group());
    return {};
  }

 private:
  QueueInode& queue_;
};

}  // namespace

// Linux: mqueue_get_inode(). What a message and a node of its tree take.
uint64_t QueueInode::cost(int64_t max_messages, int64_t message_size) {
  constexpr uint64_t kMessage = 48, kNode = 48;
  const auto n = static_cast<uint64_t>(max_messages);
  return n * kMessage + std::min<uint64_t>(n, kPriorities) * kNode + n * static_cast<uint64_t>(message_size);
}

QueueInode::QueueInode(vfs::FileSystem& fs, uint64_t ino, const vfs::CreateRequest& r, int64_t max, int64_t size,
                       std::shared_ptr<kernel::QueueLimits> limits)
    : Inode(fs, r.mode), max_messages(max), message_size(size), ino_(ino), user_(r.uid), limits_(std::move(limits)),
      attributes_([&] {
        vfs::Attributes a;
        a.dev = fs.device();
        a.ino = ino;
        a.mode = r.mode;
        a.uid = r.uid;
        a.gid = r.gid;
        a.size = kFileSize;
        a.atime = a.mtime = a.ctime = a.btime = vfs::current_time();
        return a;
      }()) {}

QueueInode::~QueueInode() {
  const uint64_t cost_of_this = cost(max_messages, message_size);
  limits_->used.with([&](kernel::QueueLimits::Used& u) {
    u.queues--;
    u.bytes -= cost_of_this;
    auto it = u.bytes_of_user.find(user_);
    if (it != u.bytes_of_user.end() && (it->second -= cost_of_this) == 0) u.bytes_of_user.erase(it);
  });
}

Result<void> QueueInode::set_attributes(const vfs::SetAttributes& s) {
  vfs::SetAttributes kept = s;
  kept.mask &= ~static_cast<uint32_t>(vfs::SetAttributes::kSize);  // O_TRUNC is no change
  attributes_.set(kept);
  return {};
}

Result<Ref<vfs::File>> QueueInode::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  return Ref<vfs::File>(make_ref<OpenQueue>(where, Ref<QueueInode>(*this), flags, cred));
}

void QueueInode::insert_locked(Message m) {
  count_++;
  bytes_ += m.bytes.size();
  const unsigned priority = m.priority;
  messages_[priority].push_back(std::move(m));
}

Message QueueInode::take_first_locked() {
  auto it = messages_.begin();
  Message m = std::move(it->second.front());
  it->second.pop_front();
  if (it->second.empty()) messages_.erase(it);
  count_--;
  bytes_ -= m.bytes.size();
  return m;
}

Result<void> QueueInode::wait(Waiter& w, Line line, sched::Nanos deadline, uint32_t events) {
  auto served = [&] {
    MutexLock l(mu_);
    return w.served;
  };
  Result<void> r = sched::wait_for(queue_, served, deadline, sched::Interruptible::yes, events);
  MutexLock l(mu_);
  if (w.served) return {};  // at the last moment
  (line == Line::senders ? senders_ : receivers_).remove(&w);
  return r;
}

Result<void> QueueInode::send(Message m, bool nonblock, sched::Nanos deadline) {
  std::optional<Registration> told;
  Waiter w;
  bool waits = false;
  {
    MutexLock l(mu_);
    if (count_ >= max_messages) {
      if (nonblock) return kEAGAIN;
      w.message = std::move(m);
      senders_.push_back(&w);
      waits = true;
    } else if (!receivers_.empty()) {
      Waiter& r = *receivers_.front();
      receivers_.pop_front();
      r.message = std::move(m);
      r.served = true;
    } else {
      insert_locked(std::move(m));
      if (count_ == 1 && registered_locked()) std::swap(told, registration_);
    }
  }
  if (waits) TRY(wait(w, Line::senders, deadline, kOut));
  attributes_.touch(common::AttributeHolder::kChange | common::AttributeHolder::kModify);
  queue_.wake_all(kIn);
  if (told) tell(std::move(*told));
  return {};
}

Result<Message> QueueInode::receive(bool nonblock, sched::Nanos deadline) {
  Message got;
  Waiter w;
  bool waits = false;
  {
    MutexLock l(mu_);
    if (count_ == 0) {
      if (nonblock) return kEAGAIN;
      receivers_.push_back(&w);
      waits = true;
    } else {
      got = take_first_locked();
      if (!senders_.empty()) {
        Waiter& s = *senders_.front();
        senders_.pop_front();
        insert_locked(std::move(s.message));
        s.served = true;
      }
    }
  }
  if (waits) {
    TRY(wait(w, Line::receivers, deadline, kIn));
    got = std::move(w.message);
  }
  attributes_.touch(common::AttributeHolder::kChange | common::AttributeHolder::kAccess);
  queue_.wake_all(kOut);
  return got;
}

Attributes QueueInode::queue_attributes() {
  Attributes a;
  a.max_messages = max_messages;
  a.message_size = message_size;
  MutexLock l(mu_);
  a.messages = count_;
  return a;
}

bool QueueInode::registered_locked() { return registration_.has_value(); }

Result<void> QueueInode::notify(kernel::Task& task, Notification n) {
  Registration r{task.group_ref(), task.credentials(), std::move(n)};
  {
    MutexLock l(mu_);
    if (registered_locked()) return kEBUSY;
    registration_.emplace(std::move(r));
  }
  attributes_.touch(common::AttributeHolder::kChange | common::AttributeHolder::kAccess);
  return {};
}

void QueueInode::stop_notifying(kernel::ThreadGroup& group) {
  std::optional<Registration> gone;
  {
    MutexLock l(mu_);
    if (!registered_locked() || registration_->owner.get() != &group) return;
    std::swap(gone, registration_);
  }
  if (gone->what.listener) gone->what.listener->tell(Listener::Event::removed);
}

// Linux: __do_notify().
void QueueInode::tell(Registration r) {
  if (r.what.listener) r.what.listener->tell(Listener::Event::message);
  if (r.what.signo == 0) return;
  kernel::Task& sender = kernel::Task::current();
  kernel::SignalInfo info = kernel::SignalInfo::user(r.what.signo, SI_MESGQ, sender.group().pid_in(r.owner->pid_namespace()),
                                                     sender.own_credentials().uid);
  info.si.si_value = r.what.value;
  r.owner->send_signal(info);
}

std::string QueueInode::text() {
  MutexLock l(mu_);
  std::string out;
  int notify = 0, signo = 0, pid = 0;
  if (registered_locked()) {
    const Notification& n = registration_->what;
    notify = n.listener ? SIGEV_THREAD : n.signo ? SIGEV_SIGNAL : SIGEV_NONE;
    signo = n.signo;
    kernel::Task* reader = kernel::Task::find_current();
    pid = reader ? registration_->owner->pid_in(reader->group().pid_namespace()) : registration_->owner->pid();
  }
  common::append(out, "QSIZE:%-10lu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", bytes_, notify, signo, pid);
  return out;
}

uint32_t QueueInode::poll_events() {
  MutexLock l(mu_);
  return (count_ > 0 ? kIn : 0u) | (count_ < max_messages ? kOut : 0u);
}

}  // namespace sentry::fs::mqueue
