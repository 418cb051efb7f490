// SPDX-License-Identifier: Apache-2.0
// Sockets: making, naming, connecting, options. Data is in socket_io.cc. Linux: net/socket.c.
#include "sentry/syscalls/socket.h"

#include <algorithm>

#include "sentry/kernel/namespaces.h"
#include "sentry/net/host/host.h"
#include "sentry/net/inet/inet.h"
#include "sentry/net/netlink/netlink.h"
#include "sentry/net/unix/unix.h"

namespace sentry::syscalls {
namespace {

constexpr int kTypeMask = 0xf;

// The families there are. Linux: net_families[].
Result<Ref<net::Sock>> make_sock(Task& task, int family, int type, int protocol) {
  switch (family) {
    case AF_UNIX: return net::local::create(type, protocol);
    case AF_NETLINK: return net::netlink::create(type, protocol);
    case AF_INET:
    case AF_INET6:
      // The host's network is that of the first namespace; others have a loopback.
      if (net::host::enabled() && kernel::net_of(task)->is_first()) return net::host::create(family, type, protocol);
      return net::inet::create(family, type, protocol, task.own_credentials());
    case AF_PACKET:  // nobody's; who may not have it is told that first
      if (!task.own_credentials().has_cap_in(kernel::net_of(task)->user_ns().get(), CAP_NET_RAW)) return kEPERM;
      return kEAFNOSUPPORT;
    default: return kEAFNOSUPPORT;
  }
}

struct TypeAndFlags {
  int type, flags;
  bool cloexec;
};
Result<TypeAndFlags> split_type(int type) {
  int flags = type & ~kTypeMask;
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) return kEINVAL;
  return TypeAndFlags{type & kTypeMask, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0, (flags & SOCK_CLOEXEC) != 0};
}

Result<void> check_family(int family, int type) {
  if (family < 0 || family >= AF_MAX) return kEAFNOSUPPORT;
  if (type < 0 || type > SOCK_PACKET) return kEINVAL;
  return {};
}

}  // namespace

Result<Ref<net::SocketFile>> socket_file(Task& task, int fd) {
  Ref<vfs::File> f = TRY(task.file(fd));
  auto* s = f->as<net::SocketFile>();
  if (!s) return kENOTSOCK;
  return Ref<net::SocketFile>(*s);
}

Result<net::Address> address_in(Task& task, UserIn<void> addr, unsigned len) {
  net::Address a;
  if (len > a.bytes.size()) return kEINVAL;
  if (len) TRY(addr.copy_bytes_in(task.context(), a.bytes.data(), len));
  a.size = len;
  return a;
}

Result<void> address_out(Task& task, const net::Address& a, UserOut<void> addr, UserInOut<unsigned> len) {
  auto room = static_cast<int>(TRY(len.copy_in(task.context())));
  if (room < 0) return kEINVAL;
  size_t n = std::min<size_t>(static_cast<size_t>(room), a.size);
  if (n) TRY(addr.copy_bytes_out(task.context(), a.bytes.data(), n));
  return len.copy_out(task.context(), static_cast<unsigned>(a.size));
}

Result<long> sys_socket(Task& task, int family, int type, int protocol) {
  auto t = TRY(split_type(type));
  TRY(check_family(family, t.type));
  auto sock = TRY(make_sock(task, family, t.type, protocol));
  return task.install(net::make_socket_file(std::move(sock), t.flags, task.credentials()), t.cloexec);
}

Result<long> sys_socketpair(Task& task, int family, int type, int protocol, UserOut<void> fds) {
  auto t = TRY(split_type(type));
  TRY(check_family(family, t.type));
  auto table = task.files();
  uint64_t limit = task.rlimit(RLIMIT_NOFILE);
  auto first = TRY(kernel::FdReservation::reserve(table, limit));
  auto second = TRY(kernel::FdReservation::reserve(table, limit));
  if (family != AF_UNIX) {
    auto probe = TRY(make_sock(task, family, t.type, protocol));
    return kEOPNOTSUPP;
  }
  auto pair = TRY(net::local::create_pair(t.type, protocol));
  auto a = net::make_socket_file(std::move(pair.a), t.flags, task.credentials());
  auto b = net::make_socket_file(std::move(pair.b), t.flags, task.credentials());
  int numbers[2] = {first.number(), second.number()};
  TRY(task.context().copy_out_now(fds.unchecked_address(), numbers, sizeof numbers));
  first.commit(std::move(a), t.cloexec);
  second.commit(std::move(b), t.cloexec);
  return 0L;
}

Result<long> sys_bind(Task& task, int fd, UserIn<void> addr, unsigned len) {
  auto f = TRY(socket_file(task, fd));
  TRY(f->sock().bind(TRY(address_in(task, addr, len))));
  return 0L;
}

Result<long> sys_listen(Task& task, int fd, int backlog) {
  auto f = TRY(socket_file(task, fd));
  TRY(f->sock().listen(backlog));
  return 0L;
}

Result<long> sys_connect(Task& task, int fd, UserIn<void> addr, unsigned len) {
  auto f = TRY(socket_file(task, fd));
  TRY(f->sock().connect(TRY(address_in(task, addr, len)), f->io_flags() != 0));
  return 0L;
}

Result<long> sys_accept4(Task& task, int fd, UserOut<void> addr, UserInOut<unsigned> len, int flags) {
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) return kEINVAL;
  auto f = TRY(socket_file(task, fd));
  auto reserved = TRY(kernel::FdReservation::reserve(task.files(), task.rlimit(RLIMIT_NOFILE)));
  auto sock = TRY(f->sock().accept(f->io_flags() != 0));
  net::Sock& s = *sock;
  auto file = net::make_socket_file(std::move(sock), flags & SOCK_NONBLOCK ? O_NONBLOCK : 0, task.credentials());
  if (!addr.is_null()) {
    auto peer = s.peer_name();
    if (!peer.ok()) return kECONNABORTED;
    auto room = static_cast<int>(TRY(len.copy_in(task.context())));
    if (room < 0) return kEINVAL;
    size_t n = std::min<size_t>(static_cast<size_t>(room), peer->size);
    if (n) TRY(task.context().copy_out_now(addr.unchecked_address(), peer->bytes.data(), n));
    TRY(len.copy_out_now(task.context(), static_cast<unsigned>(peer->size)));
  }
  return static_cast<long>(reserved.commit(std::move(file), flags & SOCK_CLOEXEC));
}

Result<long> sys_accept(Task& task, int fd, UserOut<void> addr, UserInOut<unsigned> len) {
  return sys_accept4(task, fd, addr, len, 0);
}

Result<long> sys_shutdown(Task& task, int fd, int how) {
  auto f = TRY(socket_file(task, fd));
  TRY(f->sock().shutdown(how));
  return 0L;
}

Result<long> sys_getsockname(Task& task, int fd, UserOut<void> addr, UserInOut<unsigned> len) {
  auto f = TRY(socket_file(task, fd));
  TRY(address_out(task, TRY(f->sock().name()), addr, len));
  return 0L;
}

Result<long> sys_getpeername(Task& task, int fd, UserOut<void> addr, UserInOut<unsigned> len) {
  auto f = TRY(socket_file(task, fd));
  TRY(address_out(task, TRY(f->sock().peer_name()), addr, len));
  return 0L;
}

Result<long> sys_setsockopt(Task& task, int fd, int level, int option, UserIn<void> value, unsigned len) {
  if (static_cast<int>(len) < 0) return kEINVAL;
  auto f = TRY(socket_file(task, fd));
  std::byte bytes[512];  // no option here is longer; what is, is read as far as this
  size_t n = std::min<size_t>(len, sizeof bytes);
  if (n) TRY(value.copy_bytes_in(task.context(), bytes, n));
  TRY(f->sock().set_option(level, option, {bytes, n}));
  return 0L;
}

Result<long> sys_getsockopt(Task& task, int fd, int level, int option, UserOut<void> value, UserInOut<unsigned> len) {
  auto f = TRY(socket_file(task, fd));
  auto room = static_cast<int>(TRY(len.copy_in(task.context())));
  if (room < 0) return kEINVAL;
  auto v = TRY(f->sock().get_option(level, option, static_cast<size_t>(room)));
  if (level == SOL_SOCKET && option == SO_PEERGROUPS && v.size() > static_cast<size_t>(room)) {
    TRY(len.copy_out_now(task.context(), static_cast<unsigned>(v.size())));
    return kERANGE;
  }
  size_t n = std::min<size_t>(v.size(), static_cast<size_t>(room));
  if (n) TRY(value.copy_bytes_out(task.context(), v.data(), n));
  TRY(len.copy_out(task.context(), static_cast<unsigned>(n)));
  return 0L;
}

}  // namespace sentry::syscalls
