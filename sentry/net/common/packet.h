// SPDX-License-Identifier: Apache-2.0
// Messages in a receive queue, and what their sender has to answer for. Linux: struct sk_buff, sk_wmem_alloc.
#pragma once

#include <deque>
#include <memory>

#include "sentry/net/common/message.h"
#include "sentry/sched/wait.h"

namespace sentry::net {

// The bytes a socket has on the way, and who waits for it. Held by: the socket and its packets, so that a receiver can
// give room back to a sender that may be closed.
class SendBudget : public RefCounted<SendBudget> {
 public:
  sched::WaitQueue queue;  // the socket's own: everything that poll(2) tells
  std::atomic<int64_t> limit{0};

  int64_t used() const { return used_.load(std::memory_order_acquire); }
  // Linux: sock_alloc_send_pskb waits while it is not so.
  bool has_room() const { return used() < limit.load(std::memory_order_relaxed); }
  // Linux: unix_writable. What poll asks for and what wakes a blocked sender.
  bool writable() const { return used() * 4 <= limit.load(std::memory_order_relaxed); }
  void charge(size_t n) { used_.fetch_add(static_cast<int64_t>(n), std::memory_order_relaxed); }
  void give_back(size_t n);

 private:
  friend class RefCounted<SendBudget>;
  ~SendBudget() = default;
  std::atomic<int64_t> used_{0};
};

struct Packet {
  // What a message costs beside its bytes (Linux: SKB_TRUESIZE(0)).
  static constexpr size_t kOverhead = 576;

  std::unique_ptr<std::byte[]> bytes;
  size_t room = 0, size = 0, offset = 0;  // offset: read already
  Sender sender;
  InFlight files;
  Address from;
  RefOrNull<SendBudget> budget;
  size_t charged = 0;

  Packet() = default;
  Packet(const Packet&) = delete;
  Packet& operator=(const Packet&) = delete;
  ~Packet() {
    if (budget) budget->give_back(charged);
  }
  static std::unique_ptr<Packet> create(std::span<const std::byte> data, const Ref<SendBudget>& budget);
  size_t left() const { return size - offset; }
  // Adds bytes behind those it has, as far as there is room; how many.
  size_t append(std::span<const std::byte> data);
};

// In order of arrival; not locked. Packets taken out are destroyed outside of locks.
using PacketQueue = std::deque<std::unique_ptr<Packet>>;

}  // namespace sentry::net
