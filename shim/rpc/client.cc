// SPDX-License-Identifier: Apache-2.0
#include "shim/rpc/client.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/sys.h"
#include "shim/proto/ttrpc.pb.h"

namespace shim::rpc {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;

ResultX<Fd> connect_unix(const std::string& path) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  if (path.size() >= sizeof a.sun_path) return base::error(base::kENAMETOOLONG, "the path {} is too long for a socket", path);
  memcpy(a.sun_path, path.c_str(), path.size());
  Fd s(static_cast<int>(
      TRY_MSG(sys::from_libc(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), "make a socket")));
  TRY_MSG(sys::from_libc(::connect(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof a)), "connect to {}", path);
  return s;
}

ResultX<void> Client::connect() {
  if (socket_.valid()) return {};
  socket_ = TRY(connect_unix(path_));
  auto w = loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t events) { on_event(events); });
  if (!w.ok()) {
    socket_.reset();
    return base::wrap(w.error(), "watch a socket");
  }
  watch_ = *w;
  next_stream_ = 1;
  reader_ = FrameReader();
  return {};
}

void Client::close() {
  loop_.unwatch(std::exchange(watch_, 0));
  socket_.reset();
  out_.clear();
  for (auto& [stream, w] : waiting_) loop_.cancel(w.timer);
}

void Client::fail_all(const base::Error& e) {
  close();
  auto all = std::move(waiting_);
  waiting_.clear();
  for (auto& [stream, w] : all) w.answer(e);
}

void Client::call(const std::string& service, const std::string& method, std::string payload, const std::string& space,
                  int timeout_ms, Answer answer) {
  auto connected = connect();
  if (!connected.ok()) return answer(connected.error());
  proto::Request q;
  q.set_service(service);
  q.set_method(method);
  q.set_payload(std::move(payload));
  q.set_timeout_nano(int64_t{timeout_ms} * 1'000'000);
  auto* space_entry = q.add_metadata();
  space_entry->set_key("containerd-namespace-ttrpc");
  space_entry->set_value(space);
  std::string body = q.SerializeAsString();
  if (body.size() > kMaxBody) return answer(base::error(base::kE2BIG, "the message has {} bytes, at most {} fit", body.size(), kMaxBody));
  uint32_t stream = next_stream_;
  next_stream_ += 2;
  uint64_t timer = loop_.after(timeout_ms, [this, stream, timeout_ms] {
    finish(stream, base::error(base::kETIMEDOUT, "{} did not answer within {} ms", path_, timeout_ms));
  });
  waiting_.emplace(stream, Waiting{std::move(answer), timer});
  out_ += encode_frame(stream, FrameType::request, body);
  flush();
}

void Client::flush() {
  while (!out_.empty()) {
    auto n = sys::from_libc(::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    if (!n.ok()) {
      if (n.error() == base::kEAGAIN) break;
      return fail_all(base::wrap(n.error(), "send to " + path_));
    }
    out_.erase(0, static_cast<size_t>(*n));
  }
  loop_.change(watch_, out_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void Client::on_event(uint32_t events) {
  if (events & EPOLLOUT) flush();
  if (!socket_.valid() || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
  char buf[65536];
  auto n = sys::read(socket_.get(), buf, sizeof buf);
  if (!n.ok()) {
    if (n.error() != base::kEAGAIN) fail_all(base::wrap(n.error(), "read from " + path_));
    return;
  }
  if (*n == 0) return fail_all(base::error(base::kEPIPE, "{} closed the connection", path_));
  reader_.feed({buf, *n});
  while (socket_.valid()) {
    auto frame = reader_.next();
    if (!frame) return;
    take(*frame);
  }
}

void Client::take(const Frame& frame) {
  proto::Response r;
  if (frame.type != static_cast<uint8_t>(FrameType::response) || frame.too_long || !r.ParseFromString(frame.body)) {
    return fail_all(base::error(base::kEPROTO, "{} answers what is no answer", path_));
  }
  if (r.status().code() != 0) {
    return finish(frame.stream, base::error(base::kEIO, "{}: {} (code {})", path_, r.status().message(), r.status().code()));
  }
  finish(frame.stream, std::move(*r.mutable_payload()));
}

void Client::finish(uint32_t stream, ResultX<std::string> result) {
  auto it = waiting_.find(stream);
  if (it == waiting_.end()) return;
  loop_.cancel(it->second.timer);
  Answer answer = std::move(it->second.answer);
  waiting_.erase(it);
  answer(std::move(result));
}

}  // namespace shim::rpc
