// SPDX-License-Identifier: Apache-2.0
// Events to containerd: one after the other in the order in which they happened, each tried again while containerd is away.
#pragma once

#include <google/protobuf/message_lite.h>

#include <deque>
#include <string>

#include "shim/rpc/client.h"

namespace shim::task {

class Publisher {
 public:
  // address: the path of containerd's ttrpc socket; "": events go nowhere.
  Publisher(rpc::Loop& loop, const std::string& address, std::string space)
      : loop_(loop), client_(loop, address), space_(std::move(space)), silent_(address.empty()) {}

  // topic: "/tasks/start"; name: "TaskStart".
  void publish(const char* topic, const char* name, const google::protobuf::MessageLite& event);
  bool idle() const { return queue_.empty(); }

 private:
  struct Event {
    std::string topic, request;
    int tries = 0;
  };
  void send_first();

  rpc::Loop& loop_;
  rpc::Client client_;
  const std::string space_;
  const bool silent_;
  bool sending_ = false;
  std::deque<Event> queue_;
};

}  // namespace shim::task
