// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/common/ports.h"

#include <linux/capability.h>

#include "sentry/kernel/task.h"

namespace sentry::net {

std::atomic<int> first_unprivileged_port{1024};

Result<void> may_bind_port(uint16_t port, const kernel::NetNamespace& net) {
  if (port == 0 || port >= first_unprivileged_port.load(std::memory_order_relaxed)) return {};
  auto* t = kernel::Task::find_current();
  if (t && !t->own_credentials().has_cap_in(net.user_ns().get(), CAP_NET_BIND_SERVICE)) return kEACCES;
  return {};
}

}  // namespace sentry::net
