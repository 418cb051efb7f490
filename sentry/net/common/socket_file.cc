// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/common/socket_file.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "sentry/net/common/in_flight.h"
#include "sentry/net/common/interfaces.h"

namespace sentry::net {

SocketFile::SocketFile(Ref<Sock> sock, const vfs::Path& path, Ref<vfs::Inode> inode, int flags,
                       Ref<auth::Credentials> cred)
    : File(kKind, path, std::move(inode), flags, std::move(cred)), sock_(std::move(sock)) {}

SocketFile::~SocketFile() {
  sock_->close();
  sock_->queue().wake_all();
  if (sock_->family == AF_UNIX) collect_garbage();
}

Result<void> SocketFile::flush() {
  if (sock_->family == AF_UNIX) closing(*this);
  return {};
}

Result<size_t> SocketFile::read(std::span<std::byte> dst, int64_t*, vfs::IoFlags f) {
  if (dst.empty()) return size_t{0};
  auto got = TRY(sock_->receive({dst, f.nonblock ? MSG_DONTWAIT : 0}));
  release_files(std::move(got.files));  // read(2) has no place for them
  return got.size;
}

Result<size_t> SocketFile::write(std::span<const std::byte> src, int64_t*, vfs::IoFlags f) {
  if (src.size() > sock_->max_message()) return kEMSGSIZE;
  SendRequest r;
  r.data = src;
  r.flags = (f.nonblock ? MSG_DONTWAIT : 0) | (sock_->type == SOCK_SEQPACKET ? MSG_EOR : 0);
  return sock_->send(r);
}

Result<long> SocketFile::ioctl(platform::Context& c, uint32_t command, uint64_t arg) {
  int value;
  switch (command) {
    case FIONREAD: value = TRY(sock_->unread()); break;
    case SIOCOUTQ: value = TRY(sock_->unsent()); break;
    case SIOCATMARK: value = TRY(sock_->at_mark()); break;
    default: return interface_ioctl(c, command, arg);
  }
  TRY(c.copy_out(arg, &value, sizeof value));
  return 0L;
}

Ref<vfs::File> make_socket_file(Ref<Sock> sock, int flags, const Ref<auth::Credentials>& cred) {
  vfs::Path path = vfs::make_anonymous_path("socket", S_IFSOCK | 0777, *cred);
  auto inode = path.inode().get_ref();
  if (auto a = inode->attributes(); a.ok()) sock->inode_number = a->ino;
  return make_ref<SocketFile>(std::move(sock), path, std::move(inode), O_RDWR | (flags & O_NONBLOCK), cred);
}

}  // namespace sentry::net
