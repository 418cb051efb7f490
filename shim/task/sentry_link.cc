// SPDX-License-Identifier: Apache-2.0
#include "shim/task/sentry_link.h"

#include "base/sys.h"

namespace shim::task {

using base::ResultX;

SentryLink::SentryLink(rpc::Loop& loop, runtime::container::Client client, std::function<void()> ended)
    : loop_(loop), client_(std::move(client)), ended_(std::move(ended)) {
  auto w = loop_.watch(client_.fd(), EPOLLIN, [this](uint32_t) { hear(); });
  CHECK(w.ok());
  watch_ = *w;
}

SentryLink::~SentryLink() {
  loop_.unwatch(watch_);
  loop_.cancel(end_timer_);
  for (auto& [tag, w] : waiting_) loop_.cancel(w.timer);
}

void SentryLink::expect(uint64_t tag, int timeout_ms, Answer answer) {
  uint64_t timer = 0;
  if (timeout_ms >= 0) {
    timer = loop_.after(timeout_ms, [this, tag, timeout_ms] {
      finish(tag, base::error(base::kETIMEDOUT, "the sandbox did not answer within {} ms", timeout_ms));
    });
  }
  waiting_.emplace(tag, Waiting{std::move(answer), timer});
}

void SentryLink::fail_later(Answer answer, base::Error e) {
  uint64_t tag = next_failed_++;
  uint64_t timer = loop_.after(0, [this, tag, e = std::move(e)] { finish(tag, e); });
  waiting_.emplace(tag, Waiting{std::move(answer), timer});
}

void SentryLink::hear() {
  for (int i = 0; i < 64 && alive(); i++) {
    uint64_t failed = 0;
    auto r = client_.receive(0, &failed);
    if (r.ok()) {
      uint64_t tag = r->tag;
      finish(tag, std::move(r));
      continue;
    }
    if (failed) {
      finish(failed, r.error());
      continue;
    }
    if (r.error().code() == base::kETIMEDOUT) return;  // nothing more for now
    loop_.unwatch(std::exchange(watch_, 0));
    auto all = std::move(waiting_);
    waiting_.clear();
    for (auto& [tag, w] : all) {
      loop_.cancel(w.timer);
      w.answer(base::error(base::kEPIPE, "the sandbox has ended"));  // which does not end this object
    }
    // Not from here: this object may go with what it tells of.
    end_timer_ = loop_.after(0, [this] {
      end_timer_ = 0;
      auto ended = ended_;
      ended();
    });
    return;
  }
}

void SentryLink::finish(uint64_t tag, ResultX<Reply> r) {
  auto it = waiting_.find(tag);
  if (it == waiting_.end()) return;  // too late, or never asked
  loop_.cancel(it->second.timer);
  Answer answer = std::move(it->second.answer);
  waiting_.erase(it);
  answer(std::move(r));
}

}  // namespace shim::task
