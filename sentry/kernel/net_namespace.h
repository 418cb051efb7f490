// SPDX-License-Identifier: Apache-2.0
// Network namespaces: whose the sockets and addresses are. What is in one belongs to sentry/net, which hangs it on. Linux:
// net/core/net_namespace.c.
#pragma once

#include <array>

#include "sentry/kernel/task.h"

namespace sentry::kernel {

// Something of sentry/net in one namespace; goes with it.
class NetPart {
 public:
  virtual ~NetPart() = default;
};

// Held by: tasks, sockets, files of it.
class NetNamespace : public RefCounted<NetNamespace> {
 public:
  enum Slot : size_t { kNetwork, kPorts, kSlots };
  // That of the sandbox, with the host's sockets; outside of tasks as well.
  static NetNamespace& first();
  NetNamespace(RefOrNull<auth::UserNamespace> user_ns, auth::NamespaceCharge charge)
      : user_ns_(std::move(user_ns)), charge_(std::move(charge)) {}
  const RefOrNull<auth::UserNamespace>& user_ns() const { return user_ns_; }
  bool is_first() const { return this == &first(); }
  // Made when it is first asked for; of two who make it at once one is dropped.
  template <typename T>
  T& part(Slot slot) {
    auto& p = parts_[slot];
    if (NetPart* there = p.load(std::memory_order_acquire)) return static_cast<T&>(*there);
    auto fresh = std::make_unique<T>(is_first());
    NetPart* old = nullptr;
    if (p.compare_exchange_strong(old, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
    return static_cast<T&>(*old);
  }

 private:
  friend class RefCounted<NetNamespace>;
  ~NetNamespace() {
    for (auto& p : parts_) delete p.load(std::memory_order_relaxed);
  }
  RefOrNull<auth::UserNamespace> user_ns_;
  auth::NamespaceCharge charge_;
  std::array<std::atomic<NetPart*>, kSlots> parts_{};
};

Ref<NetNamespace> net_of(Task& t);
Ref<NetNamespace> current_net();  // of the calling task

}  // namespace sentry::kernel
