// SPDX-License-Identifier: Apache-2.0
// The memory that a stub process and the sentry share: one sealed memfd per address space. Only sentry/platform includes this.
#pragma once

#include <utility>

#include "base/fd.h"
#include "sentry/platform/platform.h"
#include "sentry/platform/stub/stub_layout.h"

namespace sentry::platform {

// The control memory of one address space, as the sentry sees it.
class Control {
 public:
  static Result<Control> create();
  Control() = default;
  Control(Control&& o) noexcept : fd_(std::move(o.fd_)), base_(std::exchange(o.base_, nullptr)) {}
  Control& operator=(Control&& o) noexcept;
  ~Control();
  stub::ControlPage& page() const { return *reinterpret_cast<stub::ControlPage*>(base_); }
  stub::Doorbell& doorbell() const { return *reinterpret_cast<stub::Doorbell*>(base_ + kPageSize); }
  stub::Slot& slot(unsigned i) const { return *reinterpret_cast<stub::Slot*>(base_ + (i + 1ull) * STUB_SLOT_SIZE); }
  // Writes what a fresh thread finds: addresses, and a request that waits for its first answer.
  void prepare_slot(unsigned i) const;
  int fd() const { return fd_.get(); }
  void close_fd() { fd_.reset(); }
  // Empties what a dead process has left. False: it touched so much that a new one is cheaper.
  bool clear();

 private:
  Fd fd_;
  std::byte* base_ = nullptr;
};

}  // namespace sentry::platform
