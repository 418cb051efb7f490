// SPDX-License-Identifier: Apache-2.0
// The shim's connection to a sentry: requests go out, answers come back by tag, and nobody waits in between.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>

#include "runtime/container/client.h"
#include "shim/rpc/loop.h"

namespace shim::task {

class SentryLink {
 public:
  using Reply = runtime::container::Client::Reply;
  using Answer = std::function<void(base::ResultX<Reply>)>;

  // ended: called once when the sentry has gone; before it, every request that was open has failed with EPIPE.
  SentryLink(rpc::Loop& loop, runtime::container::Client client, std::function<void()> ended);
  ~SentryLink();
  SentryLink(const SentryLink&) = delete;
  SentryLink& operator=(const SentryLink&) = delete;

  bool alive() const { return watch_ != 0; }
  // answer is called once, never before this returns. timeout_ms -1: as long as the sentry lives.
  template <typename Request>
  void ask(base::wire::ControlOp op, const Request& request, int timeout_ms, Answer answer, std::span<const int> fds = {}) {
    if (!alive()) return fail_later(std::move(answer), base::error(base::kEPIPE, "the sandbox has ended"));
    if (waiting_.size() >= kMaxOpen) {
      return fail_later(std::move(answer), base::error(base::kEBUSY, "the sandbox has {} requests to answer", waiting_.size()));
    }
    auto tag = client_.send(op, request, fds);
    if (!tag.ok()) return fail_later(std::move(answer), tag.error());
    expect(*tag, timeout_ms, std::move(answer));
  }
  template <typename A>
  static base::ResultX<A> decode(base::ResultX<Reply> r) {
    if (!r.ok()) return r.error();
    return runtime::container::Client::decode_body<A>(*r);
  }

 private:
  // More than any honest use, and little enough that a sentry which has stopped reading cannot fill the socket.
  static constexpr size_t kMaxOpen = 4096;
  struct Waiting {
    Answer answer;
    uint64_t timer = 0;
  };
  void expect(uint64_t tag, int timeout_ms, Answer answer);
  void fail_later(Answer answer, base::Error e);
  void hear();
  void finish(uint64_t tag, base::ResultX<Reply> r);

  rpc::Loop& loop_;
  runtime::container::Client client_;
  std::function<void()> ended_;
  uint64_t watch_ = 0, end_timer_ = 0;
  uint64_t next_failed_ = uint64_t{1} << 63;  // stands for the tag of what could not be asked
  std::map<uint64_t, Waiting> waiting_;
};

}  // namespace shim::task
