// SPDX-License-Identifier: Apache-2.0
// The open file of a socket. Linux: struct socket, net/socket.c.
#pragma once

#include "sentry/net/common/sock.h"

namespace sentry::net {

class SocketFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::socket;

  Sock& sock() const { return *sock_; }
  // MSG_DONTWAIT when the description is O_NONBLOCK.
  int io_flags() const { return flags() & O_NONBLOCK ? MSG_DONTWAIT : 0; }

  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) override;
  Result<size_t> write(std::span<const std::byte> src, int64_t*, vfs::IoFlags f) override;
  bool message_oriented() const override { return sock_->keeps_boundaries(); }
  uint32_t poll_events() override { return sock_->poll_events(); }
  sched::WaitQueue* poll_queue() override {
    sock_->start_watching();
    return &sock_->queue();
  }
  Result<void> flush() override;
  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override;

 private:
  friend Ref<vfs::File> make_socket_file(Ref<Sock> sock, int flags, const Ref<auth::Credentials>& cred);
  template <typename T, typename... A>
  friend Ref<T> base::make_ref(A&&...);
  SocketFile(Ref<Sock> sock, const vfs::Path& path, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred);
  ~SocketFile() override;
  const Ref<Sock> sock_;
};

// flags: O_NONBLOCK.
Ref<vfs::File> make_socket_file(Ref<Sock> sock, int flags, const Ref<auth::Credentials>& cred);

}  // namespace sentry::net
