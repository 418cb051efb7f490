// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/common/packet.h"

#include <sys/epoll.h>

#include <algorithm>

namespace sentry::net {

void SendBudget::give_back(size_t n) {
  used_.fetch_sub(static_cast<int64_t>(n), std::memory_order_acq_rel);
  if (writable()) queue.wake_all(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
}

std::unique_ptr<Packet> Packet::create(std::span<const std::byte> data, const Ref<SendBudget>& budget) {
  auto p = std::make_unique<Packet>();
  p->room = std::max<size_t>(64, (data.size() + 63) & ~size_t{63});
  p->bytes = std::make_unique_for_overwrite<std::byte[]>(p->room);
  if (!data.empty()) memcpy(p->bytes.get(), data.data(), data.size());
  p->size = data.size();
  p->budget = budget;
  p->charged = p->room + kOverhead;
  budget->charge(p->charged);
  return p;
}

size_t Packet::append(std::span<const std::byte> data) {
  size_t n = std::min(data.size(), room - size);
  if (n) memcpy(bytes.get() + size, data.data(), n);
  size += n;
  return n;
}

}  // namespace sentry::net
