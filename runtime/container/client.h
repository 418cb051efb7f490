// SPDX-License-Identifier: Apache-2.0
// A connection to a sentry's control socket: requests with descriptors, replies by tag. The sentry is less trusted
// than its caller: every reply is bounded and decoded with care, and no wait is without an end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/wire/control.h"
#include "runtime/host/proc.h"

namespace runtime::container {

class Client {
 public:
  // first_tag: of a connection over which requests were sent before.
  explicit Client(base::Fd sock, uint64_t first_tag = 1) : sock_(std::move(sock)), next_tag_(first_tag) {}
  // The socket of the container whose directory this is.
  static base::ResultX<Client> connect(int directory);

  int fd() const { return sock_.get(); }
  // The processes that an answer needs: those of these cgroups, and these two.
  void watch(std::vector<std::string> cgroup_leaves, int sentry, int gofer);

  // Sends without waiting for the reply; its tag.
  template <typename Request>
  base::ResultX<uint64_t> send(base::wire::ControlOp op, const Request& body, std::span<const int> fds = {}) {
    base::wire::Writer w;
    uint64_t tag = next_tag_++;
    w(base::wire::RequestHeader{op, tag});
    w(body);
    auto bytes = w.take();
    auto r = send_bytes(bytes, fds);
    if (!r.ok()) return r.error();
    return tag;
  }
  // The record that comes before all requests.
  base::ResultX<void> send_boot(const base::wire::Boot& boot, std::span<const int> fds);

  struct Reply {
    uint64_t tag = 0;
    std::vector<std::byte> body;
  };
  // The next reply, whatever its tag; ETIMEDOUT after timeout_ms (-1: wait for ever), EPIPE if the sentry is gone. An
  // error reply is an Error with the sentry's words; `tag` is told through `failed_tag` then. With a timeout, a process of
  // watch() that is stopped ends the wait as well.
  base::ResultX<Reply> receive(int timeout_ms, uint64_t* failed_tag = nullptr);

  // Request and reply; other replies that come between are dropped.
  template <typename Answer, typename Request>
  base::ResultX<Answer> call(base::wire::ControlOp op, const Request& body, int timeout_ms,
                             std::span<const int> fds = {}) {
    auto tag = send(op, body, fds);
    if (!tag.ok()) return tag.error();
    const int64_t end = host::now_ms() + timeout_ms;
    for (int left = timeout_ms;;) {
      uint64_t failed = 0;
      auto r = receive(left, &failed);
      if (r.ok() && r->tag == *tag) return decode_body<Answer>(*r);
      if (!r.ok() && (!failed || failed == *tag)) return r.error();
      // Answers to others, however many, do not prolong the wait.
      if (timeout_ms < 0) continue;
      left = static_cast<int>(end - host::now_ms());
      if (left <= 0) return base::error(base::kETIMEDOUT, "the sentry did not answer within {} ms", timeout_ms);
    }
  }
  template <typename Answer>
  static base::ResultX<Answer> decode_body(const Reply& r) {
    auto a = base::wire::decode<Answer>(r.body);
    if (!a.ok()) return base::error(base::kEPROTO, "the sentry's answer is malformed");
    return std::move(a).value();
  }

 private:
  base::ResultX<void> send_bytes(std::span<const std::byte> bytes, std::span<const int> fds);

  std::vector<int> watched() const;

  base::Fd sock_;
  std::vector<std::string> leaves_;
  int sentry_ = 0, gofer_ = 0;
  uint64_t next_tag_;
  std::vector<std::byte> buffer_;
};

// A reply without a body.
struct Nothing {
  template <typename A> void visit(A&) {}
};

}  // namespace runtime::container
