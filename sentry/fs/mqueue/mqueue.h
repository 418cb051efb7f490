// SPDX-License-Identifier: Apache-2.0
// POSIX message queues and the file system of their names, one for each IPC namespace. Linux: ipc/mqueue.c; man 7 mq_overview.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "sentry/kernel/ipc.h"
#include "sentry/vfs/file.h"

namespace sentry::fs::mqueue {

// struct mq_attr of the ABI.
struct Attributes {
  int64_t flags = 0, max_messages = 0, message_size = 0, messages = 0;
  int64_t reserved[4] = {};
};
static_assert(sizeof(Attributes) == 64);

inline constexpr unsigned kPriorities = 32768;  // MQ_PRIO_MAX

struct Message {
  unsigned priority = 0;
  std::vector<std::byte> bytes;
};

// Who hears of a message that comes into an empty queue by way of a socket (SIGEV_THREAD). Called without locks held.
class Listener {
 public:
  enum class Event : uint8_t { message = 1, removed = 2 };  // NOTIFY_WOKENUP, NOTIFY_REMOVED
  virtual ~Listener() = default;
  virtual void tell(Event e) = 0;
};

// mq_notify(2): what a process asked for.
struct Notification {
  int signo = 0;  // 0: no signal
  sigval value{};
  std::unique_ptr<Listener> listener;
};

// An open queue.
class QueueFile : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::mqueue;
  virtual size_t message_size() const = 0;
  // EAGAIN, ETIMEDOUT, ERESTARTSYS. The length was checked. Parks.
  virtual Result<void> send(Message m, sched::Nanos deadline) = 0;
  virtual Result<Message> receive(sched::Nanos deadline) = 0;
  virtual Attributes attributes() = 0;
  // EBUSY: a process has registered already.
  virtual Result<void> notify(Notification n) = 0;
  virtual void stop_notifying() = 0;  // if the calling process had asked for it

 protected:
  using File::File;
};

// The file system of a namespace's queues.
Ref<vfs::FileSystem> file_system(kernel::IpcNamespace& ns);

// mq_open(2), mq_unlink(2) in the namespace of `task`. attributes: for a new queue.
Result<Ref<vfs::File>> open(kernel::Task& task, const std::string& name, int flags, uint32_t mode,
                            const std::optional<Attributes>& attributes);
Result<void> unlink(kernel::Task& task, const std::string& name);

}  // namespace sentry::fs::mqueue
