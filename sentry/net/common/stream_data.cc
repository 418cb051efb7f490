// SPDX-License-Identifier: Apache-2.0
// Bytes and records on a connection. Linux: unix_stream_sendmsg, unix_stream_read_generic, unix_dgram_sendmsg (which seqpackets
// share), tcp_sendmsg and tcp_recvmsg as far as an application can tell.
#include <algorithm>

#include "sentry/net/common/in_flight.h"
#include "sentry/net/common/stream.h"

namespace sentry::net {
namespace {
constexpr uint32_t kWakeIn = EPOLLIN | EPOLLRDNORM | EPOLLRDBAND;
constexpr size_t kMaxPiece = 64 * 1024;
}  // namespace

size_t StreamSock::max_message() const {
  if (type == SOCK_STREAM) return SIZE_MAX;
  return static_cast<size_t>(budget_->limit.load(std::memory_order_relaxed)) - 32;
}

Sender StreamSock::sender_for(const SendRequest& r, const StreamSock& other) const {
  if (r.control.sender) return r.control.sender;
  if (is_tcp() || (!passes_credentials() && !other.passes_credentials())) return {};
  Identity i = Identity::current();
  if (auto* t = kernel::Task::find_current()) {  // messages tell the real ids, SO_PEERCRED the effective ones
    i.uid = t->own_credentials().uid;
    i.gid = t->own_credentials().gid;
  }
  i.cred = nullptr;
  return i;
}

Result<size_t> StreamSock::send(SendRequest& r) {
  RefOrNull<StreamSock> other;
  State st;
  int down;
  {
    MutexLock l(mu_);
    st = state_;
    other = peer_;
    down = shutdown_;
  }
  if (type == SOCK_SEQPACKET) {
    if (r.flags & MSG_OOB) return kEOPNOTSUPP;
    if (st != State::connected || !other) return kENOTCONN;
    return send_record(r, *other);
  }
  if (is_tcp()) {
    TRY(take_error());
    if (st != State::connected || !other) return broken_pipe(r.flags);  // Linux: sk_stream_wait_connect
  } else {
    if (r.flags & MSG_OOB) return kEOPNOTSUPP;
    if (r.to) return st == State::connected ? kEISCONN : kEOPNOTSUPP;
    if (st != State::connected || !other) return kENOTCONN;
  }
  if (down & kShutWrite) return broken_pipe(r.flags);
  return send_bytes(r, *other);
}

// The receiver has gone or does not read any more.
Result<size_t> StreamSock::write_refused(SendRequest& r, size_t done) {
  if (is_tcp()) {
    // The first write after the peer closed goes out and is answered by a reset, later ones fail.
    if (!peer_told_us_.exchange(true)) {
      add_shutdown(kShutWrite, false);
      return r.data.size();
    }
  }
  if (done > 0) return done;
  return broken_pipe(r.flags);
}

Result<size_t> StreamSock::send_bytes(SendRequest& r, StreamSock& other) {
  Sender sender = sender_for(r, other);
  sched::Nanos deadline = send_deadline();
  size_t done = 0;
  bool first = true;
  while (done < r.data.size()) {
    if (!budget_->has_room()) {
      auto waited = wait([&] { return budget_->has_room() || has_error() || (shutdown_bits() & kShutWrite); }, r.nonblock(),
                         deadline, EPOLLOUT | EPOLLHUP | EPOLLERR);
      if (!waited.ok()) {
        if (done > 0) return done;
        return waited.error();
      }
    }
    if (shutdown_bits() & kShutWrite) {
      if (done > 0) return done;
      return broken_pipe(r.flags);
    }
    auto limit = static_cast<size_t>(budget_->limit.load(std::memory_order_relaxed)) / 2 - 64;
    auto rest = r.data.subspan(done);
    auto piece = rest.first(std::min({rest.size(), limit, kMaxPiece}));
    size_t n = r.control.files.empty() ? other.deliver_to_tail(piece, sender, *budget_) : 0;
    if (n == 0) {
      auto p = Packet::create(piece, budget_);
      p->sender = sender;
      if (first) p->files = std::move(r.control.files);
      n = piece.size();
      if (!other.deliver(p)) return write_refused(r, done);
    }
    first = false;
    done += n;
    other.queue().wake_all(kWakeIn);
  }
  return done;
}

Result<size_t> StreamSock::send_record(SendRequest& r, StreamSock& other) {
  if (r.data.size() > max_message()) return kEMSGSIZE;
  if (shutdown_bits() & kShutWrite) return kEPIPE;
  if (!budget_->has_room())
    TRY(wait([&] { return budget_->has_room() || (shutdown_bits() & kShutWrite); }, r.nonblock(), send_deadline(),
             EPOLLOUT | EPOLLHUP));
  if (shutdown_bits() & kShutWrite) return kEPIPE;
  auto p = Packet::create(r.data, budget_);
  p->sender = sender_for(r, other);
  p->files = std::move(r.control.files);
  // MSG_EOR changes nothing: every record has an end, and Linux does not report it for AF_UNIX.
  if (!other.deliver(p)) return kEPIPE;
  other.queue().wake_all(kWakeIn);
  return r.data.size();
}

bool StreamSock::deliver(std::unique_ptr<Packet>& p) {
  MutexLock l(mu_);
  if (closed_ || (!is_tcp() && (shutdown_ & kShutRead))) return false;
  bytes_ += p->size;
  packets_.push_back(std::move(p));
  return true;
}

// Small writes share the room of the packet before them when nothing tells them apart.
size_t StreamSock::deliver_to_tail(std::span<const std::byte> data, const Sender& sender,
                                   SendBudget& budget) {
  MutexLock l(mu_);
  if (closed_ || (!is_tcp() && (shutdown_ & kShutRead)) || packets_.empty()) return 0;
  Packet& tail = *packets_.back();
  if (!tail.files.empty() || tail.budget.get() != &budget || tail.sender != sender) return 0;
  size_t n = tail.append(data);
  bytes_ += n;
  return n;
}

bool StreamSock::readable_or_ended() const {
  MutexLock l(mu_);
  return !packets_.empty() || (shutdown_ & kShutRead) || closed_;
}

Result<Received> StreamSock::receive(const ReceiveRequest& r) {
  if (r.flags & MSG_OOB) return is_tcp() ? kEINVAL : kEOPNOTSUPP;
  State st = state();
  if (st != State::connected) {
    if (is_tcp()) {
      TRY(take_error());
      if (shutdown_bits() & kShutRead) return Received{};
    }
    if (type == SOCK_SEQPACKET || is_tcp()) return kENOTCONN;
    return kEINVAL;
  }
  return type == SOCK_SEQPACKET ? receive_record(r) : receive_bytes(r);
}

// Takes what is there. stop: an end was met that no single receive may cross (descriptors, another sender).
size_t StreamSock::take_bytes(const ReceiveRequest& r, Received& out, bool& stop, PacketQueue& done,
                              std::vector<InFlight>& arrived) {
  bool peek = r.flags & MSG_PEEK;
  bool with_sender = passes_credentials();
  MutexLock l(mu_);
  size_t before = out.size;
  for (size_t i = 0; i < packets_.size() && out.size < r.data.size() && !stop;) {
    Packet& p = *packets_[i];
    if (with_sender) {
      Identity sender = p.sender.or_nobody();
      if (out.sender && !(*out.sender == sender)) {
        stop = true;
        break;
      }
      out.sender = sender;
    }
    size_t n = std::min(r.data.size() - out.size, p.left());
    if (n) memcpy(r.data.data() + out.size, p.bytes.get() + p.offset, n);
    out.size += n;
    if (!p.files.empty()) {
      if (peek) out.files = p.files.files();
      else arrived.push_back(std::move(p.files));
      stop = true;
    }
    if (peek) {
      i++;
      continue;
    }
    p.offset += n;
    bytes_ -= n;
    if (p.left() == 0) {
      done.push_back(std::move(packets_.front()));
      packets_.pop_front();
    }
  }
  return out.size - before;
}

Result<Received> StreamSock::receive_bytes(const ReceiveRequest& r) {
  Received out;
  size_t target = r.flags & MSG_WAITALL ? r.data.size()
                                        : std::min<size_t>(r.data.size(), static_cast<size_t>(low_water_.load()));
  if (target == 0) target = 1;
  sched::Nanos deadline = receive_deadline();
  std::vector<InFlight> arrived;
  bool peek = r.flags & MSG_PEEK, stop = false;
  for (;;) {
    {
      PacketQueue done;
      if (peek) {
        release_files(std::exchange(out.files, {}));
        out = Received{};
      }
      take_bytes(r, out, stop, done, arrived);
    }
    if (stop || out.size >= target || out.size == r.data.size()) break;
    if (has_error()) {
      if (out.size > 0) break;
      TRY(take_error());
    }
    // What came between the look above and this one is seen by the next round.
    bool ended;
    {
      MutexLock l(mu_);
      ended = (shutdown_ & kShutRead) && (peek || packets_.empty());
    }
    if (ended) break;
    size_t seen = peek ? out.size : 0;
    auto waited = wait(
        [&] {
          MutexLock l(mu_);
          return bytes_ > seen || (shutdown_ & kShutRead) || closed_ || has_error();
        },
        r.nonblock(), deadline, EPOLLIN | EPOLLHUP | EPOLLERR);
    if (!waited.ok()) {
      if (out.size > 0) break;
      return waited.error();
    }
  }
  if (peek && !out.files.empty()) settle_with_collector();
  for (auto& a : arrived)
    for (auto& f : a.take()) out.files.push_back(std::move(f));
  if (auto other = is_tcp() ? RefOrNull<StreamSock>() : peer()) out.from = other->address_for_receiver();
  out.full_size = out.size;
  return out;
}

bool StreamSock::take_record(const ReceiveRequest& r, Received& out, PacketQueue& done) {
  MutexLock l(mu_);
  if (packets_.empty()) return false;
  Packet& p = *packets_.front();
  out.size = std::min(r.data.size(), p.size);
  if (out.size) memcpy(r.data.data(), p.bytes.get(), out.size);
  out.full_size = p.size;
  if (p.size > out.size) out.flags |= MSG_TRUNC;
  if (passes_credentials()) out.sender = p.sender.or_nobody();
  if (r.flags & MSG_PEEK) {
    out.files = p.files.files();
    return true;
  }
  bytes_ -= p.size;
  done.push_back(std::move(packets_.front()));
  packets_.pop_front();
  return true;
}

Result<Received> StreamSock::receive_record(const ReceiveRequest& r) {
  Received out;
  sched::Nanos deadline = receive_deadline();
  for (;;) {
    PacketQueue done;
    if (take_record(r, out, done)) {
      for (auto& p : done)
        for (auto& f : p->files.take()) out.files.push_back(std::move(f));
      if (done.empty() && !out.files.empty()) settle_with_collector();
      if (auto other = peer()) out.from = other->address_for_receiver();
      return out;
    }
    TRY(take_error());
    if (shutdown_bits() & kShutRead) return out;
    TRY(wait([&] { return readable_or_ended() || has_error(); }, r.nonblock(), deadline, EPOLLIN | EPOLLHUP | EPOLLERR));
  }
}

}  // namespace sentry::net
