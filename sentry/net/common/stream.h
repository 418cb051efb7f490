// SPDX-License-Identifier: Apache-2.0
// Connections inside the sentry: two sockets that write into each other's queues. AF_UNIX streams and seqpackets, and TCP over
// loopback, derive from it and add names. Linux: the unix_stream_* functions of net/unix/af_unix.c.
#pragma once

#include "sentry/net/common/sock.h"

namespace sentry::net {

class StreamSock : public Sock {
 public:
  Result<void> listen(int backlog) override;
  Result<Ref<Sock>> accept(bool nonblock) override;
  Result<void> shutdown(int how) override;
  Result<size_t> send(SendRequest& r) override;
  Result<Received> receive(const ReceiveRequest& r) override;
  uint32_t poll_events() override;
  Result<int> unread() override;
  void close() override;
  void list_queued_files(std::vector<vfs::File*>& out) override;
  void take_queued_packets(PacketQueue& out) override;
  size_t max_message() const override;

  enum class State : uint8_t { idle, listening, connected };
  State state() const EXCLUDES(mu_);
  bool is_tcp() const { return family != AF_UNIX; }

 protected:
  StreamSock(int family_, int type_, int protocol_) : Sock(family_, type_, protocol_) {}
  ~StreamSock() override = default;

  // What a family adds.
  virtual Result<void> may_listen() = 0;                    // EINVAL: no name; or gives it one
  virtual Ref<StreamSock> make_accepted(StreamSock& client) = 0;  // the listener's side of a new connection
  virtual Address address_for_receiver() { return {}; }     // of this socket, as msg_name of what it sent
  virtual void unname() {}                                  // closed: leaves its tables

  // Both ends connected, idle before. For socketpair.
  static void join(StreamSock& a, StreamSock& b);
  // Connects to a listener: waits for room in its backlog. ECONNREFUSED, EAGAIN, EISCONN, EINVAL; ESTALE: it closed while we
  // waited, look its name up again.
  Result<void> connect_to(StreamSock& listener, bool nonblock);
  RefOrNull<StreamSock> peer() const EXCLUDES(mu_);
  Result<OptionValue> peer_credentials() override;
  Result<OptionValue> peer_groups() override;
  void reset_on_close() { reset_on_close_ = true; }  // SO_LINGER of 0 (TCP)
  int shutdown_bits() const EXCLUDES(mu_);
  bool was_reset() const { return reset_ || peer_told_us_; }  // TCP: what has come may still be read

  mutable Mutex mu_{LockRank::kSocket};

 private:
  Result<size_t> send_bytes(SendRequest& r, StreamSock& other);
  Result<size_t> send_record(SendRequest& r, StreamSock& other);
  // Adds to this socket's queue. False: it does not receive any more.
  bool deliver(std::unique_ptr<Packet>& p) EXCLUDES(mu_);
  size_t deliver_to_tail(std::span<const std::byte> data, const Sender& sender, SendBudget& budget)
      EXCLUDES(mu_);
  Result<size_t> write_refused(SendRequest& r, size_t done);
  Sender sender_for(const SendRequest& r, const StreamSock& other) const;
  Result<Received> receive_bytes(const ReceiveRequest& r);
  Result<Received> receive_record(const ReceiveRequest& r);
  size_t take_bytes(const ReceiveRequest& r, Received& out, bool& stop, PacketQueue& done, std::vector<InFlight>& arrived)
      EXCLUDES(mu_);
  bool take_record(const ReceiveRequest& r, Received& out, PacketQueue& done) EXCLUDES(mu_);
  bool readable_or_ended() const EXCLUDES(mu_);
  void add_shutdown(int bits, bool reset) EXCLUDES(mu_);
  // A TCP connect that may not wait goes on in the background: it is let in beyond the limit.
  bool backlog_is_full(bool nonblock) const REQUIRES(mu_) {
    return backlog_.size() > max_backlog_ + (is_tcp() && nonblock ? 4096 : 0);
  }

  State state_ GUARDED_BY(mu_) = State::idle;
  int shutdown_ GUARDED_BY(mu_) = 0;
  bool closed_ GUARDED_BY(mu_) = false;
  // Stays when the peer closes (getpeername); given up when this one does.
  RefOrNull<StreamSock> peer_ GUARDED_BY(mu_);
  Identity peer_identity_ GUARDED_BY(mu_);
  PacketQueue packets_ GUARDED_BY(mu_);
  size_t bytes_ GUARDED_BY(mu_) = 0;
  std::deque<Ref<StreamSock>> backlog_ GUARDED_BY(mu_);
  size_t max_backlog_ GUARDED_BY(mu_) = 0;
  std::atomic<bool> reset_on_close_{false};
  std::atomic<bool> reset_{false};
  std::atomic<bool> peer_told_us_{false};  // TCP: the closed peer has answered a write with a reset
};

}  // namespace sentry::net
