// SPDX-License-Identifier: Apache-2.0
// The life of a connection: listen, connect, accept, shutdown, close, poll. Data is in stream_data.cc.
#include "sentry/net/common/stream.h"

#include <algorithm>

namespace sentry::net {
namespace {
constexpr size_t kMaxBacklog = 4096;  // net.core.somaxconn
constexpr uint32_t kWakeIn = EPOLLIN | EPOLLRDNORM | EPOLLRDBAND;
}  // namespace

StreamSock::State StreamSock::state() const {
  MutexLock l(mu_);
  return state_;
}

RefOrNull<StreamSock> StreamSock::peer() const {
  MutexLock l(mu_);
  return peer_;
}

int StreamSock::shutdown_bits() const {
  MutexLock l(mu_);
  return shutdown_;
}

Result<void> StreamSock::listen(int backlog) {
  TRY(may_listen());
  {
    MutexLock l(mu_);
    if (state_ == State::connected) return kEINVAL;
    state_ = State::listening;
    max_backlog_ = std::min<size_t>(static_cast<unsigned>(backlog), kMaxBacklog);
    peer_identity_ = Identity::current();
  }
  accepting_ = true;
  queue().wake_all(EPOLLOUT);  // there may be room for who waits to connect
  return {};
}

void StreamSock::join(StreamSock& a, StreamSock& b) {
  Identity me = Identity::current();
  for (auto [x, y] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
    MutexLock l(x->mu_);
    x->state_ = State::connected;
    x->peer_ = Ref<StreamSock>(*y);
    x->peer_identity_ = me;
  }
}

Result<void> StreamSock::connect_to(StreamSock& listener, bool nonblock) {
  if (state() != State::idle) return state() == State::connected ? kEISCONN : kEINVAL;
  sched::Nanos deadline = send_deadline();
  // Nobody else knows the accepted end before it is in the backlog.
  Ref<StreamSock> accepted = listener.make_accepted(*this);
  {
    MutexLock l(accepted->mu_);
    accepted->state_ = State::connected;
    accepted->peer_ = Ref<StreamSock>(*this);
    accepted->peer_identity_ = Identity::current();
  }
  auto refuses = [&]() REQUIRES(listener.mu_) {
    return listener.closed_ || listener.state_ != State::listening || (listener.shutdown_ & kShutRead);
  };
  auto attempt = [&]() -> Result<bool> {
    MutexLock2 l(listener.mu_, mu_);
    if (state_ != State::idle) return state_ == State::connected ? kEISCONN : kEINVAL;
    if (listener.closed_) return kESTALE;
    if (refuses()) return kECONNREFUSED;
    if (listener.backlog_is_full(nonblock)) return false;
    listener.backlog_.push_back(accepted);
    state_ = State::connected;
    peer_ = accepted;
    peer_identity_ = listener.peer_identity_;
    return true;
  };
  auto joined = [&]() -> Result<void> {
    while (!TRY(attempt()))
      TRY(wait_on(listener.queue(), [&] {
        MutexLock l(listener.mu_);
        return refuses() || !listener.backlog_is_full(nonblock);
      }, nonblock, deadline, EPOLLOUT | EPOLLHUP));
    return {};
  }();
  if (!joined.ok()) {
    RefOrNull<StreamSock> me;
    MutexLock l(accepted->mu_);
    std::swap(me, accepted->peer_);
    return joined.error();
  }
  listener.queue().wake_all(kWakeIn);
  queue().wake_all();
  return {};
}

Result<Ref<Sock>> StreamSock::accept(bool nonblock) {
  RefOrNull<StreamSock> got;
  bool listening = true;
  auto ready = [&] {
    MutexLock l(mu_);
    listening = state_ == State::listening && !(shutdown_ & kShutRead);
    return !listening || !backlog_.empty();
  };
  sched::Nanos deadline = receive_deadline();
  for (;;) {
    {
      MutexLock l(mu_);
      if (state_ != State::listening) return kEINVAL;
      if (!backlog_.empty()) {
        got = backlog_.front();
        backlog_.pop_front();
        break;
      }
      if (shutdown_ & kShutRead) return kEINVAL;
    }
    TRY(wait(ready, nonblock, deadline, EPOLLIN | EPOLLHUP));
  }
  queue().wake_all(EPOLLOUT);  // room in the backlog
  return Ref<Sock>(got.get_ref());
}

void StreamSock::add_shutdown(int bits, bool reset) {
  if (reset) {
    set_error(kECONNRESET);
    reset_ = true;
  }
  {
    MutexLock l(mu_);
    shutdown_ |= bits;
  }
  queue().wake_all();
}

Result<void> StreamSock::shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return kEINVAL;
  int bits = how + 1;
  RefOrNull<StreamSock> other;
  {
    MutexLock l(mu_);
    shutdown_ |= bits;  // also of an unconnected one, as inet_shutdown does
    if (is_tcp() && state_ == State::idle) return kENOTCONN;
    if (state_ == State::connected) other = peer_;
    // Linux: inet_shutdown of a listener ends listening; that of AF_UNIX only refuses.
    if (is_tcp() && state_ == State::listening && (bits & kShutRead)) {
      state_ = State::idle;
      accepting_ = false;
    }
  }
  queue().wake_all();
  if (!other) return {};
  int theirs = bits & kShutWrite ? kShutRead : 0;
  if ((bits & kShutRead) && !is_tcp()) theirs |= kShutWrite;  // a TCP peer is not told
  if (theirs) other->add_shutdown(theirs, false);
  return {};
}

void StreamSock::close() {
  unname();
  RefOrNull<StreamSock> other;
  PacketQueue packets;
  std::deque<Ref<StreamSock>> backlog;
  bool reset;
  {
    MutexLock l(mu_);
    if (closed_) return;
    closed_ = true;
    std::swap(other, peer_);
    reset = !packets_.empty() || reset_on_close_;
    packets.swap(packets_);
    bytes_ = 0;
    backlog.swap(backlog_);
    shutdown_ = kShutBoth;
    state_ = State::idle;
  }
  // A TCP peer may still write until we answer with a reset (write_refused).
  if (other) other->add_shutdown(is_tcp() && !reset ? kShutRead : kShutBoth, reset);
  for (auto& waiting : backlog) {
    waiting->reset_on_close();
    waiting->close();
  }
  queue().wake_all();
}

uint32_t StreamSock::poll_events() {
  MutexLock l(mu_);
  uint32_t e = has_error() ? EPOLLERR : 0u;
  if (state_ == State::listening) {
    if (!backlog_.empty()) e |= EPOLLIN | EPOLLRDNORM;
    if (is_tcp()) return e & (EPOLLIN | EPOLLRDNORM);
  }
  if (shutdown_ == kShutBoth || state_ == State::idle) e |= EPOLLHUP;
  if (shutdown_ & kShutRead) e |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM;
  size_t enough = is_tcp() ? static_cast<size_t>(low_water_.load(std::memory_order_relaxed)) : 1;
  if (!packets_.empty() && (bytes_ >= enough || type != SOCK_STREAM)) e |= EPOLLIN | EPOLLRDNORM;
  if (is_tcp()) {
    if ((shutdown_ & kShutWrite) || budget_->writable()) e |= EPOLLOUT | EPOLLWRNORM;
  } else if (state_ != State::listening && budget_->writable()) {
    e |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
  }
  return e;
}

Result<int> StreamSock::unread() {
  MutexLock l(mu_);
  if (state_ == State::listening) return kEINVAL;
  return static_cast<int>(std::min<size_t>(bytes_, INT32_MAX));
}

Result<OptionValue> StreamSock::peer_credentials() {
  Identity i;
  {
    MutexLock l(mu_);
    i = peer_identity_;
  }
  return option_bytes(i.for_caller());
}

Result<OptionValue> StreamSock::peer_groups() {
  RefOrNull<auth::Credentials> cred;
  {
    MutexLock l(mu_);
    cred = peer_identity_.cred;
  }
  if (!cred) return kENODATA;
  OptionValue v(cred->groups.size() * sizeof(uint32_t));
  if (!v.empty()) memcpy(v.data(), cred->groups.data(), v.size());
  return v;
}

void StreamSock::list_queued_files(std::vector<vfs::File*>& out) {
  std::vector<Ref<StreamSock>> waiting;
  {
    MutexLock l(mu_);
    for (auto& p : packets_)
      for (auto& f : p->files.files()) out.push_back(f.get());
    waiting.assign(backlog_.begin(), backlog_.end());
  }
  for (auto& w : waiting) {
    MutexLock l(w->mu_);
    for (auto& p : w->packets_)
      for (auto& f : p->files.files()) out.push_back(f.get());
  }
}

void StreamSock::take_queued_packets(PacketQueue& out) {
  std::vector<Ref<StreamSock>> waiting;
  auto take = [&](StreamSock& s) {
    MutexLock l(s.mu_);
    for (auto& p : s.packets_) out.push_back(std::move(p));
    s.packets_.clear();
    s.bytes_ = 0;
  };
  take(*this);
  {
    MutexLock l(mu_);
    waiting.assign(backlog_.begin(), backlog_.end());
  }
  for (auto& w : waiting) take(*w);
}

}  // namespace sentry::net
