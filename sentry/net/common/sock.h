// SPDX-License-Identifier: Apache-2.0
// A socket without its descriptors. Linux: struct sock. Families derive from Sock; SocketFile (socket_file.h) is the open
// file that the application holds. They are two objects because a peer keeps the one and descriptors keep the other.
#pragma once

#include "sentry/kernel/net_namespace.h"
#include "sentry/net/common/packet.h"

namespace sentry::net {

// Values of SHUT_* plus one, as bits.
inline constexpr int kShutRead = 1, kShutWrite = 2, kShutBoth = 3;

inline constexpr int kDefaultBuffer = 212992;  // net.core.wmem_default, rmem_default and their maxima
inline constexpr int kMaxForcedBuffer = 8 << 20;

// What a caller of getsockopt(2) gets: at most its own length of it.
using OptionValue = std::vector<std::byte>;
template <typename T>
OptionValue option_bytes(const T& v) {
  OptionValue b(sizeof v);
  memcpy(b.data(), &v, sizeof v);
  return b;
}
using OptionBytes = std::span<const std::byte>;
// EINVAL when shorter than T.
template <typename T>
Result<T> option_as(OptionBytes b) {
  if (b.size() < sizeof(T)) return kEINVAL;
  T v;
  memcpy(&v, b.data(), sizeof v);
  return v;
}

// Held by: its SocketFile, its peer, the listener that has it in its backlog.
class Sock : public RefCounted<Sock> {
 public:
  const int family, type, protocol;
  const Ref<kernel::NetNamespace> net;  // of who made it

  // The calls of sockets; defaults answer EOPNOTSUPP as sock_no_*(). All may park.
  virtual Result<void> bind(const Address&) { return kEOPNOTSUPP; }
  virtual Result<void> listen(int /*backlog*/) { return kEOPNOTSUPP; }
  virtual Result<void> connect(const Address&, bool /*nonblock*/) { return kEOPNOTSUPP; }
  virtual Result<Ref<Sock>> accept(bool /*nonblock*/) { return kEOPNOTSUPP; }
  virtual Result<void> shutdown(int /*how: SHUT_* */) { return kEOPNOTSUPP; }
  virtual Result<Address> name() { return kEOPNOTSUPP; }
  virtual Result<Address> peer_name() { return kENOTCONN; }
  virtual Result<size_t> send(SendRequest&) { return kEOPNOTSUPP; }
  virtual Result<Received> receive(const ReceiveRequest&) { return kEOPNOTSUPP; }
  virtual uint32_t poll_events() = 0;
  // Somebody is about to wait on queue(): it must be woken from now on.
  virtual void start_watching() {}
  // SIOCINQ, SIOCOUTQ. EINVAL: listening.
  virtual Result<int> unread() { return kENOTTY; }
  // SIOCATMARK.
  virtual Result<bool> at_mark() { return false; }
  virtual Result<int> unsent() { return static_cast<int>(std::max<int64_t>(0, budget_->used())); }
  // The last descriptor has gone. Called once, no lock held.
  virtual void close() {}

  // setsockopt(2), getsockopt(2). The base knows SOL_SOCKET; families add theirs and call it.
  virtual Result<void> set_option(int level, int option, OptionBytes value);
  virtual Result<OptionValue> get_option(int level, int option, size_t room);

  // Whole messages: all but SOCK_STREAM.
  bool keeps_boundaries() const { return type != SOCK_STREAM; }
  // The longest message send() takes at once; longer ones are EMSGSIZE. Streams are cut by the caller.
  virtual size_t max_message() const { return SIZE_MAX; }

  // The files in its queues, and emptying them: for collect_garbage().
  virtual void list_queued_files(std::vector<vfs::File*>&) {}
  virtual void take_queued_packets(PacketQueue&) {}

  sched::WaitQueue& queue() { return budget_->queue; }
  bool passes_credentials() const { return pass_cred_.load(std::memory_order_relaxed); }
  // Inode number of its SocketFile; 0 while it has none (it waits in a backlog).
  std::atomic<uint64_t> inode_number{0};

 protected:
  Sock(int family_, int type_, int protocol_);
  friend class RefCounted<Sock>;
  virtual ~Sock() = default;

  // Deadline of a wait under SO_RCVTIMEO or SO_SNDTIMEO.
  sched::Nanos receive_deadline() const { return deadline(receive_timeout_); }
  sched::Nanos send_deadline() const { return deadline(send_timeout_); }
  // Waits on queue() until cond(). EAGAIN when nonblock or at the deadline; a signal: ERESTARTSYS, or EINTR when there is
  // a time-out (Linux: sock_intr_errno).
  template <typename Cond>
  Result<void> wait(Cond&& cond, bool nonblock, sched::Nanos deadline, uint32_t mask) {
    return wait_on(queue(), cond, nonblock, deadline, mask);
  }
  template <typename Cond>
  static Result<void> wait_on(sched::WaitQueue& q, Cond&& cond, bool nonblock, sched::Nanos deadline, uint32_t mask) {
    if (nonblock) {
      if (cond()) return {};
      return kEAGAIN;
    }
    auto r = sched::wait_for(q, cond, deadline, sched::Interruptible::yes, mask);
    if (r.ok()) return {};
    if (r.error() == kETIMEDOUT) return kEAGAIN;
    if (r.error() == kERESTARTSYS && deadline != sched::kNever) return kEINTR;
    return r.error();
  }
  // Errors that wait to be told once (SO_ERROR, the next call).
  void set_error(Errno e) { error_.store(e.value(), std::memory_order_release); }
  Result<void> take_error();
  bool has_error() const { return error_.load(std::memory_order_acquire) != 0; }
  // EPIPE, with SIGPIPE unless the flags say no.
  static Errno broken_pipe(int flags);

  const Ref<SendBudget> budget_;
  std::atomic<bool> pass_cred_{false};
  std::atomic<int> receive_buffer_{kDefaultBuffer}, low_water_{1};
  std::atomic<bool> reuse_address_{false}, reuse_port_{false};
  std::atomic<int> linger_seconds_{-1};  // -1: off
  std::atomic<bool> accepting_{false};   // SO_ACCEPTCONN
  virtual Result<OptionValue> peer_credentials() { return option_bytes(Identity{}.for_caller()); }
  virtual Result<OptionValue> peer_groups() { return kENODATA; }
  // What an accepted socket takes from its listener.
  void inherit_options(const Sock& listener);

 private:
  static sched::Nanos deadline(const std::atomic<int64_t>& t) {
    int64_t v = t.load(std::memory_order_relaxed);
    return v <= 0 ? sched::kNever : sched::now() + v;
  }
  std::atomic<int> error_{0};
  std::atomic<int64_t> receive_timeout_{0}, send_timeout_{0};  // ns; 0: none
  std::atomic<uint32_t> flags_{0};                             // options that are only kept, by bit of their number
  std::atomic<int> priority_{0}, mark_{0};
  std::atomic<int> peek_offset_{-1};
  uint64_t cookie_;
};

}  // namespace sentry::net
