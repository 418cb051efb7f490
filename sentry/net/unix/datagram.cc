// SPDX-License-Identifier: Apache-2.0
// Linux: the unix_dgram_* functions of net/unix/af_unix.c.
#include "sentry/net/unix/datagram.h"

#include <algorithm>
#include <set>

#include "sentry/net/common/in_flight.h"
#include "sentry/net/unix/name.h"

namespace sentry::net::local {
namespace {

constexpr size_t kMaxQueued = 10;  // net.unix.max_dgram_qlen
constexpr uint32_t kWakeIn = EPOLLIN | EPOLLRDNORM | EPOLLRDBAND;
constexpr uint32_t kWakeOut = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;

class Datagram final : public Sock {
 public:
  Datagram() : Sock(AF_UNIX, SOCK_DGRAM, 0), name_(*this) {}

  Result<void> bind(const Address& a) override { return name_.bind(a); }
  Result<void> connect(const Address& a, bool nonblock) override;
  Result<void> shutdown(int how) override;
  Result<Address> name() override { return name_.address(); }
  Result<Address> peer_name() override {
    auto p = peer();
    if (!p) return kENOTCONN;
    return p->name_.address();
  }
  Result<size_t> send(SendRequest& r) override;
  Result<Received> receive(const ReceiveRequest& r) override;
  uint32_t poll_events() override;
  Result<int> unread() override {
    MutexLock l(mu_);
    return packets_.empty() ? 0 : static_cast<int>(packets_.front()->size);
  }
  size_t max_message() const override { return static_cast<size_t>(budget_->limit.load()) - 32; }
  void close() override;
  void list_queued_files(std::vector<vfs::File*>& out) override {
    MutexLock l(mu_);
    for (auto& p : packets_)
      for (auto& f : p->files.files()) out.push_back(f.get());
  }
  void take_queued_packets(PacketQueue& out) override {
    MutexLock l(mu_);
    for (auto& p : packets_) out.push_back(std::move(p));
    packets_.clear();
  }
  Result<OptionValue> peer_credentials() override {
    Identity i;
    {
      MutexLock l(mu_);
      i = peer_identity_;
    }
    return option_bytes(i.for_caller());
  }
  static std::pair<Ref<Sock>, Ref<Sock>> make_pair();

 private:
  template <typename T, typename... A>
  friend Ref<T> base::make_ref(A&&...);
  ~Datagram() override = default;

  RefOrNull<Datagram> peer() const {
    MutexLock l(mu_);
    return peer_;
  }
  // Replaces the peer; the old one is told.
  void set_peer(RefOrNull<Datagram> other);
  bool is_full_for(const Datagram& sender) const REQUIRES(mu_) {
    return &sender != this && peer_.get() != &sender && packets_.size() > kMaxQueued;
  }
  enum class Delivery : uint8_t { done, full, not_permitted, closed, not_reading };
  Delivery deliver(std::unique_ptr<Packet>& p, const Datagram& sender);
  void wake_senders();
  int shutdown_bits() const {
    MutexLock l(mu_);
    return shutdown_;
  }

  Name name_;
  sched::WaitQueue room_;  // senders that wait for room in packets_
  mutable Mutex mu_{LockRank::kSocket};
  RefOrNull<Datagram> peer_ GUARDED_BY(mu_);
  std::set<Datagram*> senders_ GUARDED_BY(mu_);  // whose peer_ this is; they take themselves out
  PacketQueue packets_ GUARDED_BY(mu_);
  int shutdown_ GUARDED_BY(mu_) = 0;
  bool closed_ GUARDED_BY(mu_) = false;
  Identity peer_identity_ GUARDED_BY(mu_);
};

void Datagram::set_peer(RefOrNull<Datagram> other) {
  RefOrNull<Datagram> old;
  PacketQueue dropped;
  {
    MutexLock l(mu_);
    old = std::exchange(peer_, other);
    // What the old peer sent is not for the new one. Linux: unix_dgram_disconnected.
    if (old && old.get() != other.get()) dropped.swap(packets_);
  }
  if (!old || old.get() == other.get()) return;
  bool mutual;
  {
    Datagram& o = *old;
    MutexLock l(o.mu_);
    o.senders_.erase(this);
    mutual = o.peer_.get() == this && !o.closed_;
  }
  if (!dropped.empty()) {
    wake_senders();
    if (mutual) {
      old->set_error(kECONNRESET);
      old->queue().wake_all();
    }
  }
}

Result<void> Datagram::connect(const Address& a, bool) {
  if (a.family() == AF_UNSPEC) {
    set_peer(nullptr);
    return {};
  }
  TRY(check_address(a));
  if (passes_credentials()) TRY(name_.bind_automatically());
  for (;;) {
    Ref<Sock> found = TRY(find(a, SOCK_DGRAM));
    auto& other = static_cast<Datagram&>(*found);
    {
      MutexLock l(other.mu_);
      if (other.closed_) continue;
      if (other.peer_ && other.peer_.get() != this) return kEPERM;
      other.senders_.insert(this);
    }
    set_peer(Ref<Datagram>(other));
    return {};
  }
}

Result<void> Datagram::shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return kEINVAL;
  {
    MutexLock l(mu_);
    shutdown_ |= how + 1;
  }
  queue().wake_all();
  wake_senders();
  return {};
}

void Datagram::wake_senders() {
  std::vector<Ref<Datagram>> senders;
  {
    MutexLock l(mu_);
    for (Datagram* s : senders_)
      if (auto r = RefOrNull<Datagram>::upgrade(s)) senders.push_back(r.get_ref());
  }
  room_.wake_all();
  for (auto& s : senders) s->queue().wake_all(kWakeOut);
}

Datagram::Delivery Datagram::deliver(std::unique_ptr<Packet>& p, const Datagram& sender) {
  MutexLock l(mu_);
  if (peer_ && peer_.get() != &sender) return Delivery::not_permitted;
  if (closed_) return Delivery::closed;
  if (shutdown_ & kShutRead) return Delivery::not_reading;
  if (is_full_for(sender)) return Delivery::full;
  packets_.push_back(std::move(p));
  return Delivery::done;
}

Result<size_t> Datagram::send(SendRequest& r) {
  if (r.flags & MSG_OOB) return kEOPNOTSUPP;
  if (r.to) TRY(check_address(*r.to));
  else if (!peer()) return kENOTCONN;
  if (passes_credentials()) TRY(name_.bind_automatically());
  if (r.data.size() > max_message()) return kEMSGSIZE;
  sched::Nanos deadline = send_deadline();
  TRY(take_error());
  if (shutdown_bits() & kShutWrite) return kEPIPE;
  if (!budget_->has_room())
    TRY(wait([&] { return budget_->has_room() || (shutdown_bits() & kShutWrite); }, r.nonblock(), deadline, kWakeOut));
  if (shutdown_bits() & kShutWrite) return kEPIPE;
  auto p = Packet::create(r.data, budget_);
  p->files = std::move(r.control.files);
  p->from = name_.for_receiver();
  for (;;) {
    RefOrNull<Datagram> other;
    if (r.to) {
      Ref<Sock> found = TRY(find(*r.to, SOCK_DGRAM));
      other = Ref<Datagram>(static_cast<Datagram&>(*found));
    } else {
      other = peer();
      if (!other) return kECONNRESET;
    }
    p->sender = {};
    if (r.control.sender) {
      p->sender = r.control.sender;
    } else if (passes_credentials() || other->passes_credentials()) {
      Identity i = Identity::current();
      if (auto* t = kernel::Task::find_current()) {
        i.uid = t->own_credentials().uid;
        i.gid = t->own_credentials().gid;
      }
      i.cred = nullptr;
      p->sender = std::move(i);
    }
    switch (other->deliver(p, *this)) {
      case Delivery::done:
        other->queue().wake_all(kWakeIn);
        return r.data.size();
      case Delivery::not_permitted: return kEPERM;
      case Delivery::not_reading: return kEPIPE;
      case Delivery::closed:
        if (r.to) continue;  // the name may have a new owner
        set_peer(nullptr);
        return kECONNREFUSED;
      case Delivery::full: break;
    }
    TRY(wait_on(other->room_, [&] {
      Datagram& o = *other;
      MutexLock l(o.mu_);
      return o.closed_ || (o.shutdown_ & kShutRead) || !o.is_full_for(*this);
    }, r.nonblock(), deadline, ~0u));
  }
}

Result<Received> Datagram::receive(const ReceiveRequest& r) {
  if (r.flags & MSG_OOB) return kEOPNOTSUPP;
  sched::Nanos deadline = receive_deadline();
  Received out;
  for (;;) {
    std::unique_ptr<Packet> done;
    bool got = false, was_full = false;
    {
      MutexLock l(mu_);
      if (!packets_.empty()) {
        got = true;
        Packet& p = *packets_.front();
        out.size = std::min(r.data.size(), p.size);
        if (out.size) memcpy(r.data.data(), p.bytes.get(), out.size);
        out.full_size = p.size;
        if (p.size > out.size) out.flags |= MSG_TRUNC;
        out.from = p.from;
        if (passes_credentials()) out.sender = p.sender.or_nobody();
        if (r.flags & MSG_PEEK) {
          out.files = p.files.files();
        } else {
          was_full = packets_.size() > kMaxQueued;
          done = std::move(packets_.front());
          packets_.pop_front();
        }
      }
    }
    if (got) {
      if (done) out.files = done->files.take();
      else if (!out.files.empty()) settle_with_collector();
      if (was_full) wake_senders();
      return out;
    }
    TRY(take_error());
    if ((shutdown_bits() & kShutRead) && !r.nonblock()) return out;
    TRY(wait([&] {
      MutexLock l(mu_);
      return !packets_.empty() || (shutdown_ & kShutRead) || has_error();
    }, r.nonblock(), deadline, EPOLLIN | EPOLLHUP | EPOLLERR));
    if (r.nonblock() && (shutdown_bits() & kShutRead)) {
      MutexLock l(mu_);
      if (packets_.empty()) return kEAGAIN;
    }
  }
}

uint32_t Datagram::poll_events() {
  uint32_t e = has_error() ? EPOLLERR : 0u;
  RefOrNull<Datagram> other;
  {
    MutexLock l(mu_);
    if (shutdown_ & kShutRead) e |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM;
    if (shutdown_ == kShutBoth) e |= EPOLLHUP;
    if (!packets_.empty()) e |= EPOLLIN | EPOLLRDNORM;
    other = peer_;
  }
  bool room = budget_->writable();
  if (room && other) {
    Datagram& o = *other;
    MutexLock l(o.mu_);
    room = o.closed_ || !o.is_full_for(*this);
  }
  if (room) e |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
  return e;
}

void Datagram::close() {
  name_.leave();
  PacketQueue packets;
  RefOrNull<Datagram> old;
  {
    MutexLock l(mu_);
    if (closed_) return;
    closed_ = true;
    shutdown_ = kShutBoth;
    packets.swap(packets_);
    std::swap(old, peer_);
  }
  if (old) {
    Datagram& o = *old;
    MutexLock l(o.mu_);
    o.senders_.erase(this);
  }
  wake_senders();
}

std::pair<Ref<Sock>, Ref<Sock>> Datagram::make_pair() {
  auto a = make_ref<Datagram>(), b = make_ref<Datagram>();
  Identity me = Identity::current();
  for (auto [x, y] : {std::pair{a.get(), b.get()}, std::pair{b.get(), a.get()}}) {
    MutexLock l(x->mu_);
    x->peer_ = Ref<Datagram>(*y);
    x->senders_.insert(y);
    x->peer_identity_ = me;
  }
  return {std::move(a), std::move(b)};
}

}  // namespace

Ref<Sock> make_datagram() { return make_ref<Datagram>(); }
std::pair<Ref<Sock>, Ref<Sock>> make_datagram_pair() { return Datagram::make_pair(); }

}  // namespace sentry::net::local
