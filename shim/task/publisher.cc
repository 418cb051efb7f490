// SPDX-License-Identifier: Apache-2.0
#include "shim/task/publisher.h"

#include <time.h>

#include "base/log.h"
#include "shim/proto/ttrpc.pb.h"

namespace shim::task {

namespace {

constexpr size_t kMaxQueue = 2048;
constexpr int kMaxTries = 60, kTimeoutMs = 5000, kRetryMs = 1000;

}  // namespace

void Publisher::publish(const char* topic, const char* name, const google::protobuf::MessageLite& event) {
  if (silent_) return;
  if (queue_.size() >= kMaxQueue) {
    LOG(warn, "an event is dropped: {} wait for containerd", queue_.size());
    // The first may be on its way.
    queue_.erase(queue_.begin() + 1);
  }
  proto::ForwardRequest q;
  auto* e = q.mutable_envelope();
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  e->mutable_timestamp()->set_seconds(now.tv_sec);
  e->mutable_timestamp()->set_nanos(static_cast<int32_t>(now.tv_nsec));
  e->set_namespace_(space_);
  e->set_topic(topic);
  e->mutable_event()->set_type_url(std::string("containerd.events.") + name);
  e->mutable_event()->set_value(event.SerializeAsString());
  queue_.push_back({topic, q.SerializeAsString()});
  if (!sending_) send_first();
}

void Publisher::send_first() {
  if (queue_.empty()) return;
  sending_ = true;
  client_.call("containerd.services.events.ttrpc.v1.Events", "Forward", queue_.front().request, space_, kTimeoutMs,
               [this](base::ResultX<std::string> r) {
                 Event& e = queue_.front();
                 if (r.ok()) {
                   queue_.pop_front();
                   loop_.post([this] { sending_ = false; send_first(); });
                   return;
                 }
                 if (++e.tries >= kMaxTries) {
                   LOG(warn, "event {} is dropped after {} tries: {}", e.topic, e.tries, r.error().text());
                   queue_.pop_front();
                 }
                 loop_.after(kRetryMs, [this] { sending_ = false; send_first(); });
               });
}

}  // namespace shim::task
