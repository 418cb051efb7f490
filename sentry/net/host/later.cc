// SPDX-License-Identifier: Apache-2.0
// A short send on a TCP connection to another host is answered at once and made a few microseconds later, when the sandbox's programs ask for
// nothing: it takes the host 5 to 10 us, and a server that answers several clients need not wait for each of them.
//
// What an application can tell is kept: bytes are in order, everything that asks or changes a connection's state (but reading) sends first what
// is held, and nothing is held that the host might refuse: not before some sends have been taken whole, not without room in the host's buffer, not
// after a sign of trouble, and not when the other side is on this host, where its answer could be waited for by other means. If the host refuses
// after all, the next call hears of it, as if the other side had gone away a moment later.
#include "sentry/net/host/later.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/syscall.h>

#include <vector>

#include "base/sys.h"
#include "sentry/sched/linger.h"

namespace sentry::net::host {
namespace {

constexpr size_t kMaxHeld = 4096;  // of one send
constexpr unsigned kSendsBefore = 4;
// What a socket's buffer surely takes after the host has said that there is room, and what a message costs there beside its bytes: room is a
// third of the buffer, which begins with 45 KiB (Linux: sk_stream_is_writeable, tcp_sndbuf_expand, SKB_TRUESIZE).
constexpr size_t kRoom = 12 << 10, kCost = 2048;
// Requests go first until there has been none for so long, but not longer than this.
constexpr sched::Nanos kQuiet = 2'000, kLongest = 40'000;
constexpr size_t kMaxWaiting = 256;

class Outbox {
 public:
  bool idle() {
    MutexLock l(mu_);
    return !running_;
  }
  bool put(HostSock& s) {
    MutexLock l(mu_);
    if (socks_.size() >= kMaxWaiting) return false;
    if (!running_ && !sched::spawn([this] { run(); }).ok()) return false;
    running_ = true;
    socks_.push_back(Ref<HostSock>(s));
    return true;
  }

 private:
  void run() {
    for (;;) {
      sched::linger(kQuiet, kLongest);
      std::vector<Ref<HostSock>> now;
      {
        MutexLock l(mu_);
        std::swap(now, socks_);
        if (now.empty()) running_ = false;
      }
      if (now.empty()) return;
      for (auto& s : now) {
        (void)s->flush();
        sched::yield();
      }
    }
  }

  Mutex mu_{LockRank::kSocket};
  std::vector<Ref<HostSock>> socks_ GUARDED_BY(mu_);
  bool running_ GUARDED_BY(mu_) = false;  // there is a fiber that empties it
};

bool on_this_host(const Address& own, const Address& peer) {
  if (own.family() != peer.family()) return true;  // there is something that we do not know
  if (peer.family() == AF_INET) {
    const uint32_t to = peer.as<sockaddr_in>().sin_addr.s_addr;
    return (ntohl(to) >> 24) == 127 || to == own.as<sockaddr_in>().sin_addr.s_addr;
  }
  if (peer.family() != AF_INET6) return true;
  const in6_addr to = peer.as<sockaddr_in6>().sin6_addr, from = own.as<sockaddr_in6>().sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&to) && to.s6_addr[12] == 127) return true;
  return IN6_IS_ADDR_LOOPBACK(&to) || memcmp(&to, &from, sizeof to) == 0;
}

Outbox& outbox() {
  static auto* o = new Outbox;
  return *o;
}

}  // namespace

bool flush_later(HostSock& s) { return outbox().put(s); }
bool nothing_waits() { return outbox().idle(); }

// A send has been taken whole. Most connections end before it pays to know more of them.
void HostSock::note_sent() {
  if (whole_sends_.fetch_add(1, std::memory_order_relaxed) + 1 != kSendsBefore) return;
  auto own = name(), peer = peer_name();
  const bool far = own.ok() && peer.ok() && !on_this_host(*own, *peer);
  if (far) start_watching();  // trouble must be heard of
  Way was = Way::unknown;
  way_.compare_exchange_strong(was, far ? Way::later : Way::at_once, std::memory_order_acq_rel);
}

bool HostSock::hold(const SendRequest& r) {
  if (way_.load(std::memory_order_acquire) != Way::later || r.data.size() > kMaxHeld || r.data.empty() || r.to ||
      !r.control.network.empty() || (r.flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) || stuck_.load(std::memory_order_relaxed))
    return false;
  bool first;
  {
    MutexLock l(mu_);
    if (!watching_ || !has_room_locked(r.data.size() + kCost)) return false;
    first = held_.empty();
    held_.insert(held_.end(), r.data.begin(), r.data.end());
    holds_.store(true, std::memory_order_release);
  }
  if (first && !flush_later(*this)) (void)flush();
  return true;
}

bool HostSock::has_room_locked(size_t cost) {
  if (room_ < cost) {
    if (!held_.empty()) return false;
    pollfd p{fd_.get(), POLLOUT, 0};
    auto r = sys::raw(SYS_poll, reinterpret_cast<long>(&p), 1, 0);
    if (!r.ok() || p.revents != POLLOUT) return false;
    room_ = kRoom;
  }
  room_ -= cost;
  return true;
}

bool HostSock::flush() {
  if (!holds_.load(std::memory_order_acquire)) return true;
  RefOrNull<Sock> closed;  // goes outside the lock
  MutexLock l(mu_);
  if (held_.empty()) return true;
  auto sent = send_now({}, held_, 0);
  const size_t done = sent.ok() ? *sent : 0;
  if (done < held_.size() && (sent.ok() || sent.error() == kEAGAIN)) {
    held_.erase(held_.begin(), held_.begin() + static_cast<long>(done));
    room_ = 0;
    stuck_.store(true, std::memory_order_release);  // on_event() goes on
    return false;
  }
  if (!sent.ok()) {
    way_ = Way::at_once;
    if (sent.error() != kEPIPE) set_error(sent.error());  // EPIPE is what the host will say again
  }
  std::vector<std::byte>().swap(held_);
  holds_.store(false, std::memory_order_release);
  stuck_.store(false, std::memory_order_release);
  if (shutting_.exchange(false)) IGNORE_ERROR(sys::raw(SYS_shutdown, fd_.get(), SHUT_WR), "the other side has gone");
  std::swap(closed, kept_);
  return true;
}

void HostSock::close() {
  if (flush()) return;
  MutexLock l(mu_);
  if (!held_.empty()) kept_ = Ref<Sock>(*this);
}

}  // namespace sentry::net::host
