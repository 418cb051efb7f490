// SPDX-License-Identifier: Apache-2.0
// The sentry's end of the gofer's socket: requests of many fibers in flight, replies matched by tag, nodes forgotten in
// batches. What comes back is hostile: a reply that nobody asked for, or one that cannot be read, ends the conversation, and from
// then on every request fails with EIO, as when the gofer has died.
#pragma once

#include <array>
#include <vector>

#include "base/wire/gofer.h"
#include "sentry/fs/gofer/budget.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/sched/wait.h"

namespace sentry::fs::gofer {

namespace wire = base::wire::gofer;

// Descriptors that came with a reply.
struct ReplyFds {
  std::array<Fd, wire::kMaxFds> fd;
  size_t count = 0;
};

// Held by: file systems, nodes, backing sources.
class Channel final : public Client {
 public:
  static constexpr size_t kMaxInFlight = 64;
  static constexpr size_t kForgetBatch = 64;
  static constexpr size_t kIdleFds = 4096;            // of files that nobody has open; a quarter of what we may have at most
  static constexpr size_t kCachedEntries = 64 * 1024;  // of directory listings

  static Result<Ref<Channel>> create(Fd socket, Waiting waiting);

  // Sends a request and parks until its reply is here; a signal does not end the wait, the gofer's death does. Descriptors that
  // come although fds is null end the conversation. EIO: it has ended.
  template <typename Q>
  Result<typename Q::Reply> call(const Q& q, ReplyFds* fds = nullptr) {
    Call c;
    c.tag = next_tag_.fetch_add(1, std::memory_order_relaxed);
    TRY(exchange(c, wire::encode_request(c.tag, q)));
    if (c.fds.count && !fds) return bad_reply();
    auto r = wire::decode_reply<Q>(c.bytes);
    if (!r.ok()) {
      // The first means that one side is broken, the second that the gofer has lost a node of ours.
      if (r.error() == kEBADMSG) return bad_reply();
      return r.error() == kEBADF ? kEIO : r.error();
    }
    if (fds) *fds = std::move(c.fds);
    return r;
  }

  // The last use of a node. Never parks.
  void forget(wire::NodeId id) EXCLUDES(mu_);
  // What was received breaks the protocol: no more requests. Answers EIO.
  Errno bad_reply() EXCLUDES(mu_);
  bool broken() const EXCLUDES(mu_);

  void set_end_handler(std::function<void()> handler) override EXCLUDES(mu_);
  void leave(uint8_t code) override EXCLUDES(mu_);

  Budget idle_fds;
  // A listing outlives the names that led to its directory: a walk of the whole tree needs it again, the names are soon made again.
  Budget listings{kCachedEntries, Budget::Hold::strongly};

 private:
  // Lives on the stack of the fiber that waits.
  struct Call {
    uint64_t tag = 0;
    sched::Fiber* fiber = sched::current();
    std::vector<std::byte> bytes;
    ReplyFds fds;
    int error = 0;  // it never got a reply
    std::atomic<bool> done{false};
  };
  Channel(Fd socket, Waiting waiting);
  ~Channel() override;
  Result<void> exchange(Call& c, const std::vector<std::byte>& record) EXCLUDES(mu_);
  void look_for(const Call& c) EXCLUDES(in_mu_, mu_);
  static void on_ready(void* self, uint32_t events);
  void receive() EXCLUDES(in_mu_, mu_);
  bool receive_one(const char** failure) EXCLUDES(mu_) REQUIRES(in_mu_);  // false: nothing more now, or why there will be nothing more
  bool finish(uint64_t tag, int error, std::span<const std::byte> bytes, ReplyFds fds) EXCLUDES(mu_);
  enum class End { expected, failure };
  void end_conversation(const char* why, End end = End::failure) EXCLUDES(mu_);
  void send_forgets(std::vector<wire::NodeId> nodes) EXCLUDES(mu_);

  const Fd socket_;
  const Waiting waiting_;
  std::atomic<unsigned> misses_{0};  // times in a row that a reply did not come while its fiber looked; a hint
  sched::FdWatch watch_;
  Mutex in_mu_{LockRank::kPlatform};  // one receives at a time
  std::vector<std::byte> in_ GUARDED_BY(in_mu_);
  std::atomic<uint64_t> next_tag_{1};
  sched::WaitQueue room_;  // a call has ended
  mutable Mutex mu_{LockRank::kIo};
  bool broken_ GUARDED_BY(mu_) = false;
  std::function<void()> end_handler_ GUARDED_BY(mu_);
  std::vector<Call*> calls_ GUARDED_BY(mu_);
  std::vector<wire::NodeId> forgotten_ GUARDED_BY(mu_);
};

// A node of the gofer's. Held by: inodes (their own, and their directories'), requests that name it.
class Node : public RefCounted<Node> {
 public:
  enum class Kind : uint8_t { ordinary, attach_point };
  Node(Ref<Channel> client, wire::NodeId id, Kind kind = Kind::ordinary)
      : client_(std::move(client)), id_(id), kind_(kind) {}
  wire::NodeId id() const { return id_; }

 private:
  friend class RefCounted<Node>;
  ~Node() {
    if (kind_ == Kind::ordinary) client_->forget(id_);
  }
  const Ref<Channel> client_;
  const wire::NodeId id_;
  const Kind kind_;
};

// A donated descriptor and its identity for stubs. Held by: the inode, calls under way, mappings.
class HostFd : public RefCounted<HostFd> {
 public:
  HostFd(Fd fd, bool slow_close) : key(mm::new_map_key()), fd_(std::move(fd)), slow_close_(slow_close) {}
  int get() const { return fd_.get(); }
  const uint64_t key;

 private:
  friend class RefCounted<HostFd>;
  ~HostFd();
  Fd fd_;
  const bool slow_close_;  // closing may wait for a server
};

enum class Access : uint8_t { read, write };
// Whether a donated descriptor is a regular file of this identity and open as asked. EIO. Does not park.
Result<void> check_donated(int fd, Access access, uint64_t dev, uint64_t ino);

}  // namespace sentry::fs::gofer
