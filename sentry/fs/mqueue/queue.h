// SPDX-License-Identifier: Apache-2.0
// A queue: its messages, who waits for them, who wants to hear of the first one.
#pragma once

#include <deque>
#include <list>
#include <map>

#include "sentry/fs/common/attributes.h"
#include "sentry/fs/mqueue/mqueue.h"

namespace sentry::fs::mqueue {

class QueueInode final : public vfs::Inode {
 public:
  // The bytes were charged to `user`.
  QueueInode(vfs::FileSystem& fs, uint64_t ino, const vfs::CreateRequest& r, int64_t max_messages, int64_t message_size,
             std::shared_ptr<kernel::QueueLimits> limits);
  ~QueueInode() override;
  Result<vfs::Attributes> attributes() override { return attributes_.get(); }
  Result<void> set_attributes(const vfs::SetAttributes& s) override;
  Result<void> check_access(const auth::Credentials& cred, int mask) override { return attributes_.check(cred, mask); }
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;
  common::AttributeHolder& holder() { return attributes_; }
  uint64_t ino() const { return ino_; }

  Result<void> send(Message m, bool nonblock, sched::Nanos deadline);
  Result<Message> receive(bool nonblock, sched::Nanos deadline);
  Attributes queue_attributes();
  Result<void> notify(kernel::Task& task, Notification n);
  void stop_notifying(kernel::ThreadGroup& group);
  std::string text();
  uint32_t poll_events();
  sched::WaitQueue& queue() { return queue_; }

  const int64_t max_messages, message_size;
  // What a queue of these limits counts against RLIMIT_MSGQUEUE.
  static uint64_t cost(int64_t max_messages, int64_t message_size);

 private:
  // A sender whose message finds no room, or a receiver: the other side serves it. Lives on its fiber's stack.
  struct Waiter {
    Message message;
    bool served = false;
  };
  struct Registration {
    RefOrNull<kernel::ThreadGroup> owner;
    Ref<auth::Credentials> cred;
    Notification what;
  };
  enum class Line : uint8_t { senders, receivers };
  // Waits until somebody has served `w`, which stands in `line`.
  Result<void> wait(Waiter& w, Line line, sched::Nanos deadline, uint32_t events) EXCLUDES(mu_);
  void insert_locked(Message m) REQUIRES(mu_);
  Message take_first_locked() REQUIRES(mu_);
  bool registered_locked() REQUIRES(mu_);
  void tell(Registration r);

  const uint64_t ino_;
  const uint32_t user_;
  const std::shared_ptr<kernel::QueueLimits> limits_;
  common::AttributeHolder attributes_;
  sched::WaitQueue queue_;
  Mutex mu_{LockRank::kFilePrivate};
  std::map<unsigned, std::deque<Message>, std::greater<>> messages_ GUARDED_BY(mu_);
  int64_t count_ GUARDED_BY(mu_) = 0;
  uint64_t bytes_ GUARDED_BY(mu_) = 0;
  std::list<Waiter*> senders_ GUARDED_BY(mu_), receivers_ GUARDED_BY(mu_);
  std::optional<Registration> registration_ GUARDED_BY(mu_);
};

}  // namespace sentry::fs::mqueue
