// SPDX-License-Identifier: Apache-2.0
// System V IPC and POSIX message queues of one IPC namespace. Linux: ipc/. The tables are in ipc_shm.h, ipc_sem.h, ipc_msg.h.
#pragma once

#include "sentry/kernel/internal.h"

namespace sentry::kernel {

class ShmTable;
class SemTable;
class MsgTable;

// The limits of POSIX message queues (/proc/sys/fs/mqueue), and what is in use.
struct QueueLimits {
  std::atomic<int> queues_max{256}, msg_max{10}, msgsize_max{8192}, msg_default{10}, msgsize_default{8192};
  static constexpr int kMaxMessages = 65536, kMaxSize = 16 << 20;  // HARD_MSGMAX, HARD_MSGSIZEMAX
  static constexpr uint64_t kMaxBytes = 512 << 20;                 // of all queues together: a bound of ours
  struct Used {
    int queues = 0;
    uint64_t bytes = 0;
    std::map<uint32_t, uint64_t> bytes_of_user;  // RLIMIT_MSGQUEUE
  };
  Guarded<Used> used{LockRank::kFsContext};
};

// Held by: tasks, the container.
class IpcNamespace : public RefCounted<IpcNamespace> {
 public:
  static Ref<IpcNamespace> create(RefOrNull<auth::UserNamespace> user_ns = nullptr, auth::NamespaceCharge charge = {});
  const RefOrNull<auth::UserNamespace>& user_ns() const { return user_ns_; }
  ShmTable& shm() const;
  SemTable& sem() const;
  MsgTable& msg() const;
  std::shared_ptr<QueueLimits> queue_limits() const;  // the file system shares it
  // The mqueue file system of this namespace, made by fs/mqueue when it is first asked for.
  RefOrNull<vfs::FileSystem> queues() const;
  Ref<vfs::FileSystem> set_queues(Ref<vfs::FileSystem> fs);  // unless there is one; returns what there is now
  struct Impl;

 private:
  friend class RefCounted<IpcNamespace>;
  IpcNamespace();
  ~IpcNamespace();
  std::unique_ptr<Impl> impl_;
  RefOrNull<auth::UserNamespace> user_ns_;
  auth::NamespaceCharge charge_;
};

Ref<IpcNamespace> ipc_of(Task& t);
// Over what belongs to the calling task's IPC namespace.
bool ipc_capable(const auth::Credentials& c, int cap);
void set_ipc(Task& t, Ref<IpcNamespace> ipc);

// SEM_UNDO: what an exit takes back. Held by: tasks (CLONE_SYSVSEM shares it), each set it belongs to looks it up by its address.
class SemUndo : public RefCounted<SemUndo> {
 public:
  struct Adjust {
    int16_t value = 0;
    uint32_t resets = 0;  // how often the semaphore had been set to a value by then
  };
  std::map<int, std::vector<Adjust>> adjust;  // by set; guarded by the SemTable's lock

 private:
  friend class RefCounted<SemUndo>;
  ~SemUndo() = default;
};

// The task's list, made on first use.
Ref<SemUndo> undo_of(Task& t);
// exit, unshare(CLONE_SYSVSEM), setns: its semaphores get back what was promised, if nobody shares the list.
void leave_undo(Task& t);

}  // namespace sentry::kernel
