// SPDX-License-Identifier: Apache-2.0
// Queues of typed messages.
#include "sentry/kernel/ipc_msg.h"

#include <sys/msg.h>

#include <algorithm>
#include <climits>
#include <deque>

#include "sentry/mm/user.h"

namespace sentry::kernel {
namespace {

constexpr uint64_t kMaxMessage = 8192;   // MSGMAX
constexpr uint64_t kMaxBytes = 16384;    // MSGMNB
constexpr size_t kMaxQueues = 32000;     // MSGMNI
constexpr int kCopy = 040000;            // MSG_COPY

// struct msqid64_ds of amd64.
struct MsqidAbi {
  IpcPermAbi perm;
  int64_t stime, rtime, ctime;
  uint64_t cbytes, qnum, qbytes;
  int32_t lspid, lrpid;
  uint64_t unused[2];
};
static_assert(sizeof(MsqidAbi) == sizeof(msqid_ds));

struct Message {
  int64_t type;
  std::vector<std::byte> bytes;
};

struct Queue : RefCounted<Queue> {
  IpcOwner owner;
  bool removed = false;
  std::deque<Message> messages;
  uint64_t bytes = 0, limit = kMaxBytes;
  int64_t stime = 0, rtime = 0, ctime = ipc_now();
  RefOrNull<ThreadGroup> sender, receiver;
  sched::WaitQueue senders, receivers;
};

int pid_for(const RefOrNull<ThreadGroup>& g, const PidNamespace& viewer) { return g ? g->pid_in(viewer) : 0; }

// Why the task may not use the queue just now: it can change while it waits.
std::optional<Errno> barred(const Queue& q, Task& t, unsigned access) {
  if (q.removed) return kEIDRM;
  if (!q.owner.permits(t.own_credentials(), access)) return kEACCES;
  return std::nullopt;
}

// Which message a receiver of `type` gets; end() for none. Linux: find_msg().
std::deque<Message>::iterator pick(Queue& q, int64_t type, int flags) {
  if (flags & kCopy) return type >= 0 && static_cast<uint64_t>(type) < q.messages.size() ? q.messages.begin() + type : q.messages.end();
  if (type == 0) return q.messages.begin();
  if (type > 0)
    return std::find_if(q.messages.begin(), q.messages.end(),
                        [&](const Message& m) { return (m.type == type) != ((flags & MSG_EXCEPT) != 0); });
  const int64_t most = type == INT64_MIN ? INT64_MAX : -type;
  auto best = q.messages.end();
  for (auto it = q.messages.begin(); it != q.messages.end(); ++it)
    if (it->type <= most && (best == q.messages.end() || it->type < best->type)) best = it;
  return best;
}

}  // namespace

struct MsgTable::Impl {
  Mutex mu{LockRank::kFilePrivate};
  IpcIds<Queue> ids GUARDED_BY(mu);
};

MsgTable::MsgTable() : impl_(std::make_unique<Impl>()) {}
MsgTable::~MsgTable() = default;

Result<long> MsgTable::get(Task& t, int32_t key, int flags) {
  MutexLock l(impl_->mu);
  return long{TRY(impl_->ids.get(key, flags, t.own_credentials(), kMaxQueues, [](Queue&) { return Result<void>(); },
                                 [&]() -> Result<Ref<Queue>> { return make_ref<Queue>(); }))};
}

Result<long> MsgTable::send(Task& t, int id, uint64_t buf, uint64_t size, int flags) {
  Message m;
  m.type = TRY(mm::UserIn<int64_t>(buf).copy_in(t.context()));
  if (size > kMaxMessage || id < 0 || m.type < 1) return kEINVAL;
  m.bytes = TRY(mm::UserIn<std::byte>(buf + 8).copy_in_array(t.context(), size));
  RefOrNull<Queue> q;
  {
    MutexLock l(impl_->mu);
    q = TRY(impl_->ids.find(id));
  }
  Errno error = kEAGAIN;
  bool sent = false;
  auto attempt = [&] {
    RefOrNull<ThreadGroup> old;
    MutexLock l(impl_->mu);
    if (std::optional<Errno> why = barred(*q, t, 0222)) {
      error = *why;
      return true;
    }
    if (q->bytes + size > q->limit || q->messages.size() + 1 > q->limit) return (flags & IPC_NOWAIT) != 0;
    q->bytes += size;
    q->messages.push_back(std::move(m));
    q->stime = ipc_now();
    old = std::move(q->sender);
    q->sender = t.group_ref();
    sent = true;
    return true;
  };
  Result<void> r = sched::wait_for(q->senders, attempt);
  if (!r.ok()) return kERESTARTNOHAND;
  if (!sent) return error;
  q->receivers.wake_all();
  return 0L;
}

Result<long> MsgTable::receive(Task& t, int id, uint64_t buf, uint64_t size, int64_t type, int flags) {
  if (id < 0 || static_cast<int64_t>(size) < 0) return kEINVAL;
  if (flags & kCopy) {
    if ((flags & MSG_EXCEPT) || !(flags & IPC_NOWAIT)) return kEINVAL;
  }
  RefOrNull<Queue> q;
  {
    MutexLock l(impl_->mu);
    q = TRY(impl_->ids.find(id));
  }
  Errno error = kENOMSG;
  std::optional<Message> got;
  auto attempt = [&] {
    RefOrNull<ThreadGroup> old;
    MutexLock l(impl_->mu);
    if (std::optional<Errno> why = barred(*q, t, 0444)) {
      error = *why;
      return true;
    }
    auto it = pick(*q, type, flags);
    if (it == q->messages.end()) return (flags & IPC_NOWAIT) != 0;
    if (it->bytes.size() > size && !(flags & MSG_NOERROR)) {
      error = kE2BIG;
      return true;
    }
    if (flags & kCopy) {
      got = *it;
      return true;
    }
    got = std::move(*it);
    q->messages.erase(it);
    q->bytes -= got->bytes.size();
    q->rtime = ipc_now();
    old = std::move(q->receiver);
    q->receiver = t.group_ref();
    return true;
  };
  Result<void> r = sched::wait_for(q->receivers, attempt);
  if (!r.ok()) return kERESTARTNOHAND;
  if (!got) return error;
  if (!(flags & kCopy)) q->senders.wake_all();
  const size_t n = std::min<uint64_t>(size, got->bytes.size());
  TRY(mm::UserOut<int64_t>(buf).copy_out(t.context(), got->type));
  if (n) TRY(mm::UserOut<void>(buf + 8).copy_bytes_out(t.context(), got->bytes.data(), n));
  return static_cast<long>(n);
}

Result<long> MsgTable::control(Task& t, int id, int command, uint64_t buf) {
  const auth::Credentials& c = t.own_credentials();
  Impl& i = *impl_;
  constexpr int kStatAny = 13;
  switch (command) {
    case IPC_INFO:
    case MSG_INFO: {
      msginfo info{};
      info.msgmax = kMaxMessage;
      info.msgmnb = kMaxBytes;
      info.msgmni = kMaxQueues;
      info.msgssz = 16;
      info.msgseg = 0xffff;
      info.msgpool = static_cast<int>(kMaxQueues * kMaxBytes / 1024);
      info.msgmap = info.msgtql = static_cast<int>(kMaxBytes);
      long highest;
      {
        MutexLock l(i.mu);
        highest = i.ids.highest();
        if (command == MSG_INFO) {
          info.msgpool = static_cast<int>(i.ids.size());
          info.msgmap = info.msgtql = 0;
          for (const Ref<Queue>& q : i.ids.all()) {
            info.msgmap += static_cast<int>(q->messages.size());
            info.msgtql += static_cast<int>(q->bytes);
          }
        }
      }
      TRY(mm::UserOut<msginfo>(buf).copy_out(t.context(), info));
      return highest;
    }
    case IPC_STAT:
    case MSG_STAT:
    case kStatAny: {
      MsqidAbi a{};
      long result = 0;
      {
        MutexLock l(i.mu);
        Ref<Queue> q = command == IPC_STAT ? TRY(i.ids.find(id)) : TRY(i.ids.find_index(id));
        if (command != kStatAny && !q->owner.permits(c, 0444)) return kEACCES;
        const PidNamespace& viewer = t.group().pid_namespace();
        a = MsqidAbi{q->owner.abi(c), q->stime, q->rtime, q->ctime, q->bytes, q->messages.size(), q->limit,
                     pid_for(q->sender, viewer), pid_for(q->receiver, viewer), {}};
        if (command != IPC_STAT) result = q->owner.id;
      }
      TRY(mm::UserOut<MsqidAbi>(buf).copy_out(t.context(), a));
      return result;
    }
    case IPC_SET:
    case IPC_RMID: {
      MsqidAbi a{};
      if (command == IPC_SET) a = TRY(mm::UserIn<MsqidAbi>(buf).copy_in(t.context()));
      RefOrNull<Queue> q;
      {
        MutexLock l(i.mu);
        q = TRY(i.ids.find(id));
        if (!q->owner.owned_by(c)) return kEPERM;
        if (command == IPC_SET) {
          if (a.qbytes > kMaxBytes && !c.has_cap(CAP_SYS_RESOURCE)) return kEPERM;
          TRY(q->owner.set(a.perm, c));
          q->limit = std::min<uint64_t>(a.qbytes, 1 << 26);
          q->ctime = ipc_now();
        } else {
          q->removed = true;
          i.ids.remove(id);
        }
      }
      q->senders.wake_all();
      q->receivers.wake_all();
      return 0L;
    }
    default:
      return kEINVAL;
  }
}

std::string MsgTable::proc_text(const PidNamespace& viewer) {
  std::string out =
      "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n";
  MutexLock l(impl_->mu);
  for (const Ref<Queue>& q : impl_->ids.all()) {
    char line[200];
    snprintf(line, sizeof line, "%10d %10d  %4o  %10llu %10zu %5d %5d %5u %5u %5u %5u %10lld %10lld %10lld\n", q->owner.key,
             q->owner.id, q->owner.mode, static_cast<unsigned long long>(q->bytes), q->messages.size(),
             pid_for(q->sender, viewer), pid_for(q->receiver, viewer), q->owner.uid, q->owner.gid, q->owner.cuid, q->owner.cgid,
             static_cast<long long>(q->stime), static_cast<long long>(q->rtime), static_cast<long long>(q->ctime));
    out += line;
  }
  return out;
}

}  // namespace sentry::kernel
