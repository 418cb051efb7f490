// SPDX-License-Identifier: Apache-2.0
// One socket of the host, for the room's own files.
#pragma once

#include <vector>

#include "sentry/net/common/sock.h"
#include "sentry/net/host/host.h"

namespace sentry::net::host {

// Every call is tried on the host first, never waiting there; what must wait parks until the host tells of a change. The host's
// descriptor is always non-blocking.
class HostSock final : public Sock {
 public:
  HostSock(int family_, int type_, int protocol_, Fd fd);

  Result<void> bind(const Address& a) override;
  Result<void> listen(int backlog) override;
  Result<void> connect(const Address& a, bool nonblock) override;
  Result<Ref<Sock>> accept(bool nonblock) override;
  Result<void> shutdown(int how) override;
  Result<Address> name() override;
  Result<Address> peer_name() override;
  Result<size_t> send(SendRequest& r) override;
  Result<Received> receive(const ReceiveRequest& r) override;
  uint32_t poll_events() override;
  Result<int> unread() override;
  Result<int> unsent() override;
  Result<bool> at_mark() override;
  void start_watching() override;
  void close() override;
  Result<void> set_option(int level, int option, OptionBytes value) override;
  Result<OptionValue> get_option(int level, int option, size_t room) override;
  size_t max_message() const override { return type == SOCK_STREAM ? SIZE_MAX : 65535; }

  // For /proc: TCP's state (1 = established …), UDP's 7 or 1; bytes on the way; whose it is.
  int state() const;
  uint32_t owner() const { return owner_; }

  // Whether the host has all that was taken from the application (later.cc).
  bool flush();

 private:
  template <typename T, typename... A>
  friend Ref<T> base::make_ref(A&&...);
  friend struct HostSockPeek;  // a test's
  ~HostSock() override;

  // How often the host has told that a direction may have become ready. Who was refused with EAGAIN waits for the number to
  // change from what it was before the attempt: nothing can be missed in between.
  using Edges = std::atomic<uint32_t>;
  void on_event(uint32_t events);
  Result<void> wait_for_change(const Edges& edges, uint32_t seen, bool nonblock, sched::Nanos deadline, uint32_t mask);
  Result<size_t> send_now(const SendRequest& r, std::span<const std::byte> data, int flags);
  Result<size_t> send_after_held(const SendRequest& r, std::span<const std::byte> data, int flags);
  Result<size_t> receive_now(std::span<std::byte> into, int flags, Received& out);
  // What comes of a short send. unknown: few have been taken whole so far; later: it may be held.
  enum class Way : uint8_t { unknown, later, at_once };
  void note_sent();
  bool hold(const SendRequest& r);
  bool has_room_locked(size_t cost) REQUIRES(mu_);
  Result<long> set_on_host(int level, int option, OptionBytes value);

  const Fd fd_;
  const uint32_t owner_;
  Edges in_edges_{0}, out_edges_{0};
  std::atomic<bool> tells_more_{false};  // an option was set by which messages bring ancillary data
  Mutex mu_{LockRank::kSocket};
  bool watching_ GUARDED_BY(mu_) = false;
  // Taken from the application, not yet by the host.
  std::vector<std::byte> held_ GUARDED_BY(mu_);
  size_t room_ GUARDED_BY(mu_) = 0;
  RefOrNull<Sock> kept_ GUARDED_BY(mu_);  // itself: closed while something is held
  std::atomic<bool> holds_{false}, stuck_{false};  // stuck: the host had no room
  std::atomic<Way> way_{Way::unknown};
  std::atomic<unsigned> whole_sends_{0};  // while the way is unknown
  std::atomic<bool> shutting_{false};  // the sending side, when nothing is held any more
  sched::FdWatch watch_;  // last: stops first
};

}  // namespace sentry::net::host
