// SPDX-License-Identifier: Apache-2.0
// Differs from Linux: SO_LINGER with a time does not make close(2) wait.
#include "sentry/net/host/host_sock.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/sys.h"
#include "sentry/net/common/ports.h"
#include "sentry/net/host/list.h"
#include "sentry/net/host/options.h"

namespace sentry::net::host {
namespace {

constexpr uint32_t kIn = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr uint32_t kOut = EPOLLOUT | EPOLLHUP | EPOLLERR;
constexpr uint32_t kAll = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND | EPOLLRDHUP;
constexpr int kHostFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;
// What the host hears of an application's MSG_*.
constexpr int kSendFlags = MSG_OOB | MSG_DONTROUTE | MSG_EOR | MSG_MORE | MSG_CONFIRM | MSG_FASTOPEN;
constexpr int kReceiveFlags = MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_ERRQUEUE;
constexpr int kToldFlags = MSG_OOB | MSG_TRUNC | MSG_CTRUNC | MSG_EOR | MSG_ERRQUEUE;
constexpr size_t kControlRoom = 1024;
constexpr size_t kMaxOption = 4096;

long pointer(const void* p) { return static_cast<long>(reinterpret_cast<uintptr_t>(p)); }

// A sentry without descriptors left is, to one application, a system without.
Errno of_system(Errno e) { return e == kEMFILE ? kENFILE : e; }

Result<Address> address_by(int call, int fd) {
  Address a;
  auto n = static_cast<socklen_t>(a.bytes.size());
  TRY(sys::raw(call, fd, pointer(a.bytes.data()), pointer(&n)));
  a.size = std::min<uint32_t>(n, static_cast<uint32_t>(a.bytes.size()));
  return a;
}

uint32_t caller() {
  auto* t = kernel::Task::find_current();
  return t ? t->own_credentials().euid : 0;
}

// Whether messages come with ancillary data once this is set.
bool brings_control(int level, int option) {
  switch (level) {
    case SOL_SOCKET: return option == SO_TIMESTAMP || option == SO_TIMESTAMPNS || option == SO_TIMESTAMP_NEW ||
                            option == SO_TIMESTAMPNS_NEW || option == SO_RXQ_OVFL;
    case IPPROTO_TCP: return option == TCP_INQ;
    default: return level == IPPROTO_IP || level == IPPROTO_IPV6 || level == IPPROTO_UDP;
  }
}

}  // namespace

HostSock::HostSock(int family_, int type_, int protocol_, Fd fd)
    : Sock(family_, type_, protocol_),
      fd_(std::move(fd)),
      owner_(caller()),
      watch_([](void* p, uint32_t events) { static_cast<HostSock*>(p)->on_event(events); }, this) {
  enlist(*this);
}

HostSock::~HostSock() { delist(*this); }

void HostSock::on_event(uint32_t events) {
  if (events & kIn) in_edges_.fetch_add(1, std::memory_order_acq_rel);
  if ((events & (EPOLLERR | EPOLLHUP)) && way_ == Way::later) way_ = Way::at_once;
  RefOrNull<HostSock> self;  // one that is closed ends when nothing is stuck any more
  if ((events & kOut) && stuck_.load(std::memory_order_acquire)) {
    self = RefOrNull<HostSock>::upgrade(this);
    if (self) (void)flush();
  }
  if (events & kOut) out_edges_.fetch_add(1, std::memory_order_acq_rel);
  // Waiters ask for one of the two names.
  if (events & EPOLLIN) events |= EPOLLRDNORM | EPOLLRDBAND;
  if (events & EPOLLOUT) events |= EPOLLWRNORM | EPOLLWRBAND;
  queue().wake_all(events);
}

void HostSock::start_watching() {
  MutexLock l(mu_);
  if (watching_) return;
  // Beginning to watch tells what is ready already, so nothing is lost between an attempt and this.
  watching_ = watch_.start(fd_.get(), EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP).ok();
}

Result<void> HostSock::wait_for_change(const Edges& edges, uint32_t seen, bool nonblock, sched::Nanos deadline, uint32_t mask) {
  if (nonblock) return kEAGAIN;
  (void)flush();
  start_watching();
  {
    MutexLock l(mu_);
    if (!watching_) return kENOBUFS;
  }
  return wait([&] { return edges.load(std::memory_order_acquire) != seen; }, false, deadline, mask);
}

Result<void> HostSock::bind(const Address& a) {
  if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
    uint16_t port = 0;  // at the same place in both
    if (a.size >= 4) memcpy(&port, a.bytes.data() + 2, sizeof port);
    if (a.family() == family) TRY(may_bind_port(ntohs(port), *net));
  }
  TRY(sys::raw(SYS_bind, fd_.get(), pointer(a.bytes.data()), a.size));
  return {};
}

Result<void> HostSock::listen(int backlog) {
  TRY(sys::raw(SYS_listen, fd_.get(), backlog));
  return {};
}

Result<void> HostSock::connect(const Address& a, bool nonblock) {
  const sched::Nanos deadline = send_deadline();
  (void)flush();
  if (way_ == Way::later) way_ = Way::unknown;  // it was connected elsewhere
  whole_sends_ = 0;
  for (;;) {
    const uint32_t seen = out_edges_.load(std::memory_order_acquire);
    // On the way, the host is asked again with the same words: it then tells how it ended. Linux: __inet_stream_connect.
    auto r = sys::raw(SYS_connect, fd_.get(), pointer(a.bytes.data()), a.size);
    if (r.ok()) return {};
    if (r.error() != kEINPROGRESS && r.error() != kEALREADY) return r.error();
    if (nonblock) return r.error();
    auto waited = wait_for_change(out_edges_, seen, false, deadline, kOut);
    if (!waited.ok()) return waited.error() == kEAGAIN ? r.error() : waited.error();
  }
}

Result<Ref<Sock>> HostSock::accept(bool nonblock) {
  const sched::Nanos deadline = receive_deadline();
  for (;;) {
    const uint32_t seen = in_edges_.load(std::memory_order_acquire);
    auto r = sys::raw(SYS_accept4, fd_.get(), 0, 0, kHostFlags);
    if (r.ok()) {
      auto s = make_ref<HostSock>(family, type, protocol, Fd(static_cast<int>(*r)));
      s->inherit_options(*this);
      s->tells_more_ = tells_more_.load();
      if (way_ == Way::at_once) s->way_ = Way::at_once;
      return Ref<Sock>(std::move(s));
    }
    if (r.error() != kEAGAIN) return of_system(r.error());
    TRY(wait_for_change(in_edges_, seen, nonblock, deadline, kIn));
  }
}

Result<void> HostSock::shutdown(int how) {
  if (how != SHUT_RD) {
    way_ = Way::at_once;
    if (!flush()) {
      shutting_ = true;
      if (how == SHUT_WR) return {};
      how = SHUT_RD;
    }
  }
  TRY(sys::raw(SYS_shutdown, fd_.get(), how));
  return {};
}

Result<Address> HostSock::name() { return address_by(SYS_getsockname, fd_.get()); }
Result<Address> HostSock::peer_name() { return address_by(SYS_getpeername, fd_.get()); }

Result<size_t> HostSock::send_now(const SendRequest& r, std::span<const std::byte> data, int flags) {
  iovec v{const_cast<std::byte*>(data.data()), data.size()};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  if (r.to) {
    m.msg_name = const_cast<std::byte*>(r.to->bytes.data());
    m.msg_namelen = r.to->size;
  }
  if (!r.control.network.empty()) {
    m.msg_control = const_cast<std::byte*>(r.control.network.data());
    m.msg_controllen = r.control.network.size();
  }
  return sys::sendmsg(fd_.get(), &m, (flags & kSendFlags) | MSG_DONTWAIT | MSG_NOSIGNAL);
}

Result<size_t> HostSock::send_after_held(const SendRequest& r, std::span<const std::byte> data, int flags) {
  if (holds_.load(std::memory_order_acquire)) {
    if (!flush()) return shutting_ ? kEPIPE : kEAGAIN;
    TRY(take_error());
  }
  return send_now(r, data, flags);
}

Result<size_t> HostSock::send(SendRequest& r) {
  for (std::span<const std::byte> c = r.control.network; c.size() >= sizeof(cmsghdr);) {
    cmsghdr h;
    memcpy(&h, c.data(), sizeof h);
    if (!may_send_control(h.cmsg_level, h.cmsg_type, h.cmsg_len - sizeof h)) return kEINVAL;
    c = c.subspan(std::min(c.size(), CMSG_ALIGN(h.cmsg_len)));
  }
  TRY(take_error());
  if (hold(r)) return r.data.size();
  const sched::Nanos deadline = send_deadline();
  int flags = r.flags;
  size_t done = 0;
  for (;;) {
    const uint32_t seen = out_edges_.load(std::memory_order_acquire);
    auto sent = send_after_held(r, r.data.subspan(done), flags);
    if (sent.ok()) {
      done += *sent;
      if (done == r.data.size() && type == SOCK_STREAM && way_ == Way::unknown) note_sent();
      if (type != SOCK_STREAM || done >= r.data.size() || r.nonblock()) return done;
      flags &= ~MSG_FASTOPEN;
      continue;
    }
    Errno e = sent.error();
    bool opening = e == kEINPROGRESS && (flags & MSG_FASTOPEN);  // no cookie: an ordinary connect has begun
    if (e == kEAGAIN || (opening && !r.nonblock())) {
      if (opening) flags &= ~MSG_FASTOPEN;
      auto waited = wait_for_change(out_edges_, seen, r.nonblock(), deadline, kOut);
      if (waited.ok()) continue;
      if (done > 0) return done;
      return waited.error();
    }
    if (done > 0) {
      if (e != kEPIPE) set_error(e);  // the next call hears of it
      return done;
    }
    if (e == kEPIPE && type == SOCK_STREAM) return broken_pipe(r.flags);
    return e;
  }
}

Result<size_t> HostSock::receive_now(std::span<std::byte> into, int flags, Received& out) {
  const bool stream = type == SOCK_STREAM;
  const bool control = tells_more_.load(std::memory_order_relaxed) || (flags & MSG_ERRQUEUE);
  alignas(cmsghdr) std::byte room[kControlRoom];
  iovec v{into.data(), into.size()};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  if (!stream || (flags & MSG_ERRQUEUE)) {
    m.msg_name = out.from.bytes.data();
    m.msg_namelen = static_cast<socklen_t>(out.from.bytes.size());
  }
  if (control) {
    m.msg_control = room;
    m.msg_controllen = sizeof room;
  }
  // A message's own length is always wanted; a stream's bytes are only thrown away when the caller says so.
  int how = (flags & kReceiveFlags) | MSG_DONTWAIT | (stream ? 0 : MSG_TRUNC);
  size_t n = TRY(sys::recvmsg(fd_.get(), &m, how));
  out.flags = m.msg_flags & kToldFlags;
  out.from.size = std::min<uint32_t>(m.msg_namelen, static_cast<uint32_t>(out.from.bytes.size()));
  if (control && m.msg_controllen > 0) out.network.assign(room, room + std::min(m.msg_controllen, sizeof room));
  return n;
}

Result<Received> HostSock::receive(const ReceiveRequest& r) {
  TRY(take_error());
  const bool stream = type == SOCK_STREAM;
  const bool discards = stream && (r.flags & MSG_TRUNC);
  // How many bytes of a stream are enough. Linux: sock_rcvlowat.
  size_t enough = 1;
  if (stream && !(r.flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)) && !r.nonblock())
    enough = r.flags & MSG_WAITALL ? r.data.size() : std::min<size_t>(static_cast<size_t>(low_water_.load()), r.data.size());
  const sched::Nanos deadline = receive_deadline();
  Received out;
  size_t done = 0;
  auto finish = [&] {
    out.full_size = done;
    out.size = discards ? 0 : std::min(done, r.data.size());
    return std::move(out);
  };
  for (;;) {
    const uint32_t seen = in_edges_.load(std::memory_order_acquire);
    auto got = receive_now(r.data.subspan(std::min(done, r.data.size())), r.flags, out);
    if (got.ok()) {
      done += *got;
      if (!stream || *got == 0 || done >= enough) return finish();
      continue;
    }
    // An error queue is never waited for.
    const bool again = got.error() == kEAGAIN && !(r.flags & MSG_ERRQUEUE);
    // Who waits for messages hears of the end of reading; who does not is told EAGAIN. Linux: __skb_wait_for_more_packets.
    if (again && !stream && !r.nonblock() && (poll_events() & EPOLLRDHUP)) return finish();
    auto waited = again ? wait_for_change(in_edges_, seen, r.nonblock(), deadline, kIn) : Result<void>(got.error());
    if (waited.ok()) continue;
    if (done == 0) return waited.error();
    if (!again) set_error(got.error());
    return finish();
  }
}

uint32_t HostSock::poll_events() {
  pollfd p{fd_.get(), static_cast<short>(kAll), 0};
  auto r = sys::raw(SYS_poll, pointer(&p), 1, 0);
  uint32_t e = r.ok() ? static_cast<uint16_t>(p.revents) : 0;
  if (stuck_.load(std::memory_order_acquire)) e &= ~static_cast<uint32_t>(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
  if (has_error()) e |= EPOLLERR;
  return e;
}

Result<int> HostSock::unread() {
  int n = 0;
  TRY(sys::raw(SYS_ioctl, fd_.get(), FIONREAD, pointer(&n)));
  return n;
}
Result<int> HostSock::unsent() {
  (void)flush();
  int n = 0;
  TRY(sys::raw(SYS_ioctl, fd_.get(), SIOCOUTQ, pointer(&n)));
  MutexLock l(mu_);
  return n + static_cast<int>(held_.size());
}
Result<bool> HostSock::at_mark() {
  int n = 0;
  TRY(sys::raw(SYS_ioctl, fd_.get(), SIOCATMARK, pointer(&n)));
  return n != 0;
}

Result<long> HostSock::set_on_host(int level, int option, OptionBytes value) {
  return sys::raw(SYS_setsockopt, fd_.get(), level, option, pointer(value.data()), static_cast<long>(value.size()));
}

Result<void> HostSock::set_option(int level, int option, OptionBytes value) {
  (void)flush();
  if (level == SOL_SOCKET) {
    switch (option) {
      case SO_SNDBUF: way_ = Way::at_once; break;  // room may be less than hold() thinks
      case SO_LINGER: {
        TRY(Sock::set_option(level, option, value));
        // A time would make the host wait in close(2): only "reset at once" goes there.
        const linger l{linger_seconds_.load() == 0, 0};
        TRY(set_on_host(level, option, std::as_bytes(std::span(&l, 1))));
        return {};
      }
      case SO_SNDBUFFORCE: way_ = Way::at_once; [[fallthrough]];
      case SO_RCVBUFFORCE:  // beyond the host's maximum needs a capability there
        TRY(Sock::set_option(level, option, value));
        TRY(set_on_host(level, option == SO_SNDBUFFORCE ? SO_SNDBUF : SO_RCVBUF, value));
        return {};
      case SO_RCVLOWAT: TRY(Sock::set_option(level, option, value)); break;
      case SO_PRIORITY: {
        TRY(Sock::set_option(level, option, value));
        int v = TRY(option_as<int>(value));
        if (v < 0 || v > 6) return {};  // allowed here, but not to us on the host
        break;
      }
    }
  }
  if (!may_set(level, option)) return level == SOL_SOCKET ? Sock::set_option(level, option, value) : kENOPROTOOPT;
  TRY(set_on_host(level, option, value));
  if (brings_control(level, option)) tells_more_ = true;
  return {};
}

Result<OptionValue> HostSock::get_option(int level, int option, size_t room) {
  (void)flush();
  if (level == SOL_SOCKET && (option == SO_PRIORITY || !may_get(level, option))) {
    return Sock::get_option(level, option, room);
  }
  if (level == SOL_SOCKET && option == SO_ERROR && has_error()) return Sock::get_option(level, option, room);
  if (!may_get(level, option)) return kENOPROTOOPT;
  OptionValue v(std::min(room, kMaxOption));
  auto n = static_cast<socklen_t>(v.size());
  TRY(sys::raw(SYS_getsockopt, fd_.get(), level, option, pointer(v.data()), pointer(&n)));
  v.resize(std::min<size_t>(n, v.size()));
  return v;
}

int HostSock::state() const {
  if (type != SOCK_STREAM) return address_by(SYS_getpeername, fd_.get()).ok() ? 1 : 7;
  tcp_info info{};
  socklen_t n = sizeof info;
  auto r = sys::raw(SYS_getsockopt, fd_.get(), IPPROTO_TCP, TCP_INFO, pointer(&info), pointer(&n));
  return r.ok() ? info.tcpi_state : 7;
}

namespace {

std::atomic<bool> g_enabled{false};

Result<int> protocol_of(int family, int type, int protocol) {
  if (protocol < 0 || protocol >= IPPROTO_MAX) return kEINVAL;
  switch (type) {
    case SOCK_STREAM:
      if (protocol != 0 && protocol != IPPROTO_TCP) return kEPROTONOSUPPORT;
      return int{IPPROTO_TCP};
    case SOCK_DGRAM:
      if (protocol == 0 || protocol == IPPROTO_UDP) return int{IPPROTO_UDP};
      if (protocol == (family == AF_INET ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6})) return int{protocol};
      return kEPROTONOSUPPORT;
    case SOCK_RAW:
      if (protocol == 0) return kEPROTONOSUPPORT;
      return kEPERM;  // whatever the caller may: packets of its own making do not leave
    default: return kESOCKTNOSUPPORT;
  }
}

}  // namespace

void enable() { g_enabled = true; }
bool enabled() { return g_enabled.load(std::memory_order_relaxed); }

Result<Ref<Sock>> create(int family, int type, int protocol) {
  int p = TRY(protocol_of(family, type, protocol));
  auto fd = sys::raw(SYS_socket, family, type | kHostFlags, p);
  if (!fd.ok()) return of_system(fd.error());
  return Ref<Sock>(make_ref<HostSock>(family, type, p, Fd(static_cast<int>(*fd))));
}

}  // namespace sentry::net::host
