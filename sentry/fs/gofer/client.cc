// SPDX-License-Identifier: Apache-2.0
// Requests and replies.
#include "sentry/fs/gofer/client.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "base/sys.h"

namespace sentry::fs::gofer {

namespace {
constexpr size_t kForgetRecord = 4096;        // ids in one request
constexpr sched::Nanos kSendRetry = 2'000'000;  // a full socket: replies tell sooner
// Most replies come within 20 to 40 us, and waking a worker that sleeps on another processor takes as long again.
constexpr sched::Nanos kLook = 100'000;
constexpr unsigned kMostMisses = 6;
}  // namespace

Channel::Channel(Fd socket, Waiting waiting)
    : idle_fds(std::min(kIdleFds, sys::max_open_files() / 4), Budget::Hold::weakly), socket_(std::move(socket)), waiting_(waiting),
      watch_(&Channel::on_ready, this), in_(wire::kMaxRecord) {}

Channel::~Channel() {
  watch_.stop();
  CHECK(calls_.empty());
}

Result<Ref<Channel>> Channel::create(Fd socket, Waiting waiting) {
  TRY(sys::set_nonblocking(socket.get(), true));
  auto client = adopt_ref(new Channel(std::move(socket), waiting));
  TRY(client->watch_.start(client->socket_.get(), EPOLLIN));
  auto hello = client->call(wire::HelloRequest{});
  if (!hello.ok() || hello->version != wire::kVersion) return kEPROTO;
  return client;
}

Result<void> Channel::exchange(Call& c, const std::vector<std::byte>& record) {
  if (record.size() > wire::kMaxRecord) return kE2BIG;
  auto registered = [&] {
    MutexLock l(mu_);
    if (broken_) {
      c.error = EIO;
      return true;
    }
    if (calls_.size() >= kMaxInFlight) return false;
    calls_.push_back(&c);
    return true;
  };
  TRY(sched::wait_for(room_, registered, sched::kNever, sched::Interruptible::no));
  if (c.error) return kEIO;
  while (!c.done.load(std::memory_order_acquire)) {
    auto sent = sys::send_fds(socket_.get(), record, {}, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent.ok()) break;
    if (sent.error() == kEAGAIN || sent.error() == kENOBUFS || sent.error() == kENOMEM) {
      sched::park(sched::now() + kSendRetry);
    } else {
      end_conversation("the gofer is gone");  // finishes this call too
    }
  }
  look_for(c);
  while (!c.done.load(std::memory_order_acquire)) sched::park();
  room_.wake(~0u, 1);
  if (c.error) return Errno(c.error);
  return {};
}

// Stays awake for the reply, between whatever else there is to do. Each time that it does not come while we look we look half as often.
void Channel::look_for(const Call& c) {
  if (waiting_ != Waiting::awake) return;
  const unsigned misses = misses_.load(std::memory_order_relaxed);
  if (misses != 0 && (c.tag & ((1u << misses) - 1)) != 0) return;
  for (const sched::Nanos until = sched::now() + kLook; sched::now() < until; sched::yield()) {
    receive();
    if (!c.done.load(std::memory_order_acquire)) continue;
    misses_.store(0, std::memory_order_relaxed);
    return;
  }
  misses_.store(std::min(misses + 1, kMostMisses), std::memory_order_relaxed);
}

bool Channel::finish(uint64_t tag, int error, std::span<const std::byte> bytes, ReplyFds fds) {
  RefOrNull<sched::Fiber> waiter;  // the call is gone as soon as it is done
  {
    MutexLock l(mu_);
    auto it = std::find_if(calls_.begin(), calls_.end(), [&](Call* c) { return c->tag == tag; });
    if (it == calls_.end()) return false;
    Call& c = **it;
    calls_.erase(it);
    c.error = error;
    c.bytes.assign(bytes.begin(), bytes.end());
    c.fds = std::move(fds);
    waiter = Ref<sched::Fiber>(*c.fiber);
    c.done.store(true, std::memory_order_release);
  }
  waiter->wake();
  return true;
}

void Channel::end_conversation(const char* why, End end) {
  std::vector<Ref<sched::Fiber>> waiters;
  std::function<void()> handler;
  {
    MutexLock l(mu_);
    if (broken_) return;
    broken_ = true;
    handler.swap(end_handler_);
    forgotten_.clear();
    for (Call* c : calls_) {
      waiters.push_back(Ref<sched::Fiber>(*c->fiber));
      c->error = EIO;
      c->done.store(true, std::memory_order_release);
    }
    calls_.clear();
  }
  if (end == End::failure) LOG(warn, "gofer: {}; its files answer EIO from now on", why);
  for (auto& w : waiters) w->wake();
  room_.wake_all();
  if (end == End::failure && handler) handler();
}

void Channel::set_end_handler(std::function<void()> handler) {
  {
    MutexLock l(mu_);
    if (!broken_) {
      end_handler_.swap(handler);
      return;
    }
  }
  handler();
}

void Channel::leave(uint8_t code) {
  if (broken()) return;
  auto record = wire::encode_request(next_tag_.fetch_add(1, std::memory_order_relaxed), wire::LeaveRequest{code});
  // A full socket: it then takes the end of the conversation for ours, and ends all the same.
  IGNORE_ERROR(sys::send_fds(socket_.get(), record, {}, MSG_DONTWAIT | MSG_NOSIGNAL), "it may have died");
  end_conversation("its container has ended", End::expected);
}

Errno Channel::bad_reply() {
  end_conversation("a reply that breaks the protocol");
  return kEIO;
}

bool Channel::broken() const {
  MutexLock l(mu_);
  return broken_;
}

void Channel::on_ready(void* self, uint32_t) {
  static_cast<Channel*>(self)->receive();
}

void Channel::receive() {
  const char* failure = nullptr;
  {
    MutexLock l(in_mu_);
    while (receive_one(&failure)) {
    }
  }
  if (failure) end_conversation(failure);
}

bool Channel::receive_one(const char** failure) {
  if (broken()) return false;
  ReplyFds fds;
  // Of a record that cannot be taken in whole (no room for its descriptors) the start still says whose it was.
  memset(in_.data(), 0, sizeof(uint64_t));
  auto got = sys::recv_fds(socket_.get(), in_, fds.fd, MSG_DONTWAIT);
  if (!got.ok()) {
    if (got.error() == kEAGAIN) return false;
    uint64_t tag = 0;
    memcpy(&tag, in_.data(), sizeof tag);
    if (got.error() == kEMSGSIZE && finish(tag, ENFILE, {}, {})) return true;
    *failure = "its socket fails";
    return false;
  }
  if (got->size == 0) {
    *failure = "the gofer is gone";
    return false;
  }
  fds.count = got->fd_count;
  auto record = std::span<const std::byte>(in_).first(got->size);
  auto tag = wire::reply_tag(record);
  if (tag.ok() && finish(*tag, 0, record, std::move(fds))) return true;
  *failure = "a reply to nothing that was asked";
  return false;
}

void Channel::forget(wire::NodeId id) {
  std::vector<wire::NodeId> batch;
  {
    MutexLock l(mu_);
    if (broken_) return;
    forgotten_.push_back(id);
    if (forgotten_.size() < kForgetBatch) return;
    batch.swap(forgotten_);
  }
  send_forgets(std::move(batch));
}

void Channel::send_forgets(std::vector<wire::NodeId> nodes) {
  while (!nodes.empty()) {
    size_t n = std::min(nodes.size(), kForgetRecord);
    wire::ForgetRequest q;
    q.nodes.assign(nodes.end() - static_cast<ptrdiff_t>(n), nodes.end());
    auto record = wire::encode_request(0, q);
    if (!sys::send_fds(socket_.get(), record, {}, MSG_DONTWAIT | MSG_NOSIGNAL).ok()) break;  // another time
    nodes.resize(nodes.size() - n);
  }
  if (nodes.empty()) return;
  MutexLock l(mu_);
  if (!broken_) forgotten_.insert(forgotten_.end(), nodes.begin(), nodes.end());
}

HostFd::~HostFd() {
  if (!slow_close_) return;
  // The last close of a network file system's file may write it back.
  IGNORE_ERROR(sched::spawn([fd = std::move(fd_)]() mutable { sched::run_blocking([&] { fd.reset(); }); }),
               "without a fiber the closure has just closed it");
}

Result<void> check_donated(int fd, Access access, uint64_t dev, uint64_t ino) {
  struct stat st;
  TRY(sys::fstat(fd, &st));
  if (!S_ISREG(st.st_mode) || st.st_dev != dev || st.st_ino != ino) return kEIO;
  long flags = TRY(sys::raw(SYS_fcntl, fd, F_GETFL));
  if ((flags & O_PATH) || (flags & O_ACCMODE) != (access == Access::write ? O_RDWR : O_RDONLY)) return kEIO;
  return {};
}

Result<Ref<Client>> connect(Fd socket, Waiting waiting) { return Ref<Client>(TRY(Channel::create(std::move(socket), waiting))); }

}  // namespace sentry::fs::gofer
