// SPDX-License-Identifier: Apache-2.0
// Connections are known by number: an answer that comes when its connection is gone finds nobody and is dropped.
#include "shim/rpc/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "shim/proto/ttrpc.pb.h"

namespace shim::rpc {

using base::Fd;
namespace sys = base::sys;

namespace {

constexpr uint8_t kRemoteOpen = 2;
constexpr size_t kMaxMetadata = 256;

}  // namespace

Call::Call(Call&& o) noexcept
    : service(std::move(o.service)),
      method(std::move(o.method)),
      payload(std::move(o.payload)),
      metadata(std::move(o.metadata)),
      server_(std::exchange(o.server_, nullptr)),
      connection_(o.connection_),
      stream_(o.stream_) {}

Call& Call::operator=(Call&& o) noexcept {
  service.swap(o.service);
  method.swap(o.method);
  payload.swap(o.payload);
  metadata.swap(o.metadata);
  std::swap(server_, o.server_);
  std::swap(connection_, o.connection_);
  std::swap(stream_, o.stream_);
  return *this;
}

Call::~Call() { fail(Code::internal, "the call was given up"); }

void Call::reply(const google::protobuf::MessageLite& message) {
  if (!server_) return;
  std::exchange(server_, nullptr)->answer(connection_, stream_, Code::ok, "", message.SerializeAsString());
}

bool Call::awaited() const { return server_ && server_->in_flight(connection_, stream_); }

void Call::reply() {
  if (!server_) return;
  std::exchange(server_, nullptr)->answer(connection_, stream_, Code::ok, "", "");
}

void Call::fail(Code code, const std::string& text) {
  if (!server_) return;
  std::exchange(server_, nullptr)->answer(connection_, stream_, code, text, "");
}

Server::Server(Loop& loop, Fd listener, Handler handler, ServerLimits limits)
    : loop_(loop), listener_(std::move(listener)), handler_(std::move(handler)), limits_(limits) {
  if (!listener_.valid()) return;
  auto w = loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept_all(); });
  CHECK(w.ok());
  accept_watch_ = *w;
}

Server::~Server() {
  loop_.unwatch(accept_watch_);
  while (!connections_.empty()) drop(connections_.begin()->first);
}

void Server::accept_all() {
  for (int i = 0; i < 16; i++) {
    auto s = sys::from_libc(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!s.ok()) {
      if (s.error() == base::kEMFILE || s.error() == base::kENFILE) {
        // Nothing can be taken now: look again later instead of without pause.
        loop_.change(accept_watch_, 0);
        loop_.after(1000, [this] { loop_.change(accept_watch_, EPOLLIN); });
      }
      return;
    }
    adopt(Fd(static_cast<int>(*s)));
  }
}

void Server::adopt(Fd socket) {
  ucred peer{};
  socklen_t n = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0 || (peer.uid != 0 && peer.uid != ::geteuid())) {
    LOG(warn, "a connection of user {} is refused", peer.uid);
    return;
  }
  if (connections_.size() >= limits_.connections) {
    LOG(warn, "a connection is refused: {} are open", connections_.size());
    return;
  }
  IGNORE_ERROR(sys::set_nonblocking(socket.get(), true), "it was accepted so, or comes from a test");
  uint64_t id = next_++;
  auto w = loop_.watch(socket.get(), EPOLLIN, [this, id](uint32_t events) { on_event(id, events); });
  if (!w.ok()) return;
  Connection& c = connections_[id];
  c.socket = std::move(socket);
  c.watch = *w;
}

bool Server::flushed() const {
  for (auto& [id, c] : connections_) {
    if (c.out_bytes > c.out_used) return false;
  }
  return true;
}

void Server::drop(uint64_t id) {
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  loop_.unwatch(it->second.watch);
  for (auto& [stream, timer] : it->second.calls) loop_.cancel(timer);
  connections_.erase(it);
}

void Server::on_event(uint64_t id, uint32_t events) {
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  if ((events & EPOLLOUT) && !flush(it->second)) return drop(id);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !read_some(id)) drop(id);
}

// False: the connection is to be dropped.
bool Server::read_some(uint64_t id) {
  char buf[65536];
  for (int i = 0; i < 4; i++) {
    auto it = connections_.find(id);
    if (it == connections_.end()) return true;
    auto n = sys::read(it->second.socket.get(), buf, sizeof buf);
    if (!n.ok()) return n.error() == base::kEAGAIN;
    if (*n == 0) return false;
    it->second.reader.feed({buf, *n});
    for (;;) {
      it = connections_.find(id);  // a handler may have had it dropped
      if (it == connections_.end()) return true;
      auto frame = it->second.reader.next();
      if (!frame) break;
      if (!take(id, std::move(*frame))) return false;
    }
    if (*n < sizeof buf) return true;
  }
  return true;
}

bool Server::take(uint64_t id, Frame frame) {
  Connection& c = connections_.at(id);
  if (c.broken) return false;
  auto refuse = [&](Code code, const char* text) { return respond(c, frame.stream, code, text, ""); };
  if (frame.type == static_cast<uint8_t>(FrameType::data)) {
    return refuse(Code::invalid_argument, "a stream without a call that takes one");
  }
  if (frame.type != static_cast<uint8_t>(FrameType::request)) return false;
  if (frame.stream % 2 == 0) return refuse(Code::invalid_argument, "a client's stream must have an odd number");
  if (frame.stream <= c.last_stream) return refuse(Code::invalid_argument, "the number of a stream must be higher than all before");
  c.last_stream = frame.stream;
  if (frame.too_long) return refuse(Code::resource_exhausted, "a message may have at most 4194304 bytes");
  if (frame.flags & kRemoteOpen) return refuse(Code::unimplemented, "calls that stream are not supported");
  if (c.calls.size() >= limits_.calls) return refuse(Code::resource_exhausted, "too many calls in flight on one connection");
  proto::Request q;
  if (!q.ParseFromString(frame.body) || static_cast<size_t>(q.metadata_size()) > kMaxMetadata) {
    return refuse(Code::invalid_argument, "the request cannot be decoded");
  }
  start_call(id, frame.stream, std::move(q));
  return true;
}

void Server::start_call(uint64_t id, uint32_t stream, proto::Request q) {
  uint64_t timer = 0;
  if (q.timeout_nano() > 0) {
    timer = loop_.after(q.timeout_nano() / 1'000'000 + 1, [this, id, stream] {
      answer(id, stream, Code::deadline_exceeded, "the call was not answered in the time its caller gave", "");
    });
  }
  connections_.at(id).calls.emplace(stream, timer);
  Call call(this, id, stream);
  call.service = std::move(*q.mutable_service());
  call.method = std::move(*q.mutable_method());
  call.payload = std::move(*q.mutable_payload());
  for (auto& kv : *q.mutable_metadata()) call.metadata[kv.key()] = std::move(*kv.mutable_value());
  handler_(std::move(call));
}

void Server::answer(uint64_t id, uint32_t stream, Code code, const std::string& text, const std::string& payload) {
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  auto call = it->second.calls.find(stream);
  if (call == it->second.calls.end()) return;  // its deadline has answered already
  loop_.cancel(call->second);
  it->second.calls.erase(call);
  if (!it->second.broken && !respond(it->second, stream, code, text, payload)) {
    it->second.broken = true;
    // Not from here: a caller may be at work on the connection.
    loop_.post([this, id] { drop(id); });
  }
}

bool Server::respond(Connection& c, uint32_t stream, Code code, const std::string& text, const std::string& payload) {
  proto::Response r;
  if (code != Code::ok) {
    r.mutable_status()->set_code(static_cast<int>(code));
    r.mutable_status()->set_message(text);
  } else if (payload.size() > kMaxBody - 64) {
    r.mutable_status()->set_code(static_cast<int>(Code::resource_exhausted));
    r.mutable_status()->set_message("the answer is too long");
  } else {
    r.set_payload(payload);
  }
  return send(c, encode_frame(stream, FrameType::response, r.SerializeAsString()));
}

bool Server::in_flight(uint64_t id, uint32_t stream) const {
  auto it = connections_.find(id);
  return it != connections_.end() && it->second.calls.count(stream) > 0;
}

bool Server::send(Connection& c, std::string bytes) {
  if (c.out_bytes - c.out_used + bytes.size() > limits_.unsent) {
    LOG(warn, "a peer does not read its answers: its connection is closed");
    return false;
  }
  c.out_bytes += bytes.size();
  c.out.push_back(std::move(bytes));
  return flush(c);
}

bool Server::flush(Connection& c) {
  while (!c.out.empty()) {
    auto& first = c.out.front();
    auto n = sys::from_libc(::send(c.socket.get(), first.data() + c.out_used, first.size() - c.out_used, MSG_NOSIGNAL | MSG_DONTWAIT));
    if (!n.ok()) {
      if (n.error() != base::kEAGAIN) return false;
      break;
    }
    c.out_used += static_cast<size_t>(*n);
    if (c.out_used < first.size()) continue;
    c.out_bytes -= first.size();
    c.out_used = 0;
    c.out.pop_front();
  }
  if (c.blocked == c.out.empty()) {
    c.blocked = !c.out.empty();
    loop_.change(c.watch, c.blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }
  return true;
}

}  // namespace shim::rpc
