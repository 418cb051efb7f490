// SPDX-License-Identifier: Apache-2.0
// The task service, under both its names: from a call to the container it is about.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "shim/task/container.h"

namespace shim::task {

class Service {
 public:
  // over: called once when the shim has nothing more to do.
  Service(Host& host, std::function<void()> over) : host_(host), over_(std::move(over)) {}

  void handle(rpc::Call call);
  // A child of this process ended.
  void reaped(int pid, int status);
  bool empty() const { return containers_.empty(); }

 private:
  using Method = void (Service::*)(Pending call);
  static const std::map<std::string, Method>& methods();

  void create(Pending call);
  void state(Pending call);
  void start(Pending call);
  void remove(Pending call);
  void pids(Pending call);
  void pause(Pending call);
  void resume(Pending call);
  void checkpoint(Pending call);
  void kill(Pending call);
  void exec(Pending call);
  void resize(Pending call);
  void close_io(Pending call);
  void update(Pending call);
  void wait(Pending call);
  void stats(Pending call);
  void connect(Pending call);
  void shutdown(Pending call);

  // The container of a request (whose message has an id), or nothing, and the call is answered.
  template <typename Request>
  Container* find(const Pending& call, Request* q);
  // The process too (the message has an exec_id).
  template <typename Request>
  std::pair<Container*, Process*> find_process(const Pending& call, Request* q);

  Host& host_;
  std::function<void()> over_;
  void gone(const std::string& id);
  void asked_for_unknown();

  std::map<std::string, std::unique_ptr<Container>> containers_;
  bool asked_to_end_ = false;
  uint64_t end_timer_ = 0, orphan_timer_ = 0;
};

}  // namespace shim::task
