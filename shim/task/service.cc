// SPDX-License-Identifier: Apache-2.0
#include "shim/task/service.h"

#include <unistd.h>

#include <utility>

#include "base/log.h"
#include "runtime/container/state.h"

namespace shim::task {

using rpc::Code;

namespace {

constexpr int64_t kEndMs = 3000, kOrphanMs = 5000;

}  // namespace

const std::map<std::string, Service::Method>& Service::methods() {
  static const std::map<std::string, Method> all = {
      {"Create", &Service::create},       {"State", &Service::state},         {"Start", &Service::start},
      {"Delete", &Service::remove},       {"Pids", &Service::pids},           {"Pause", &Service::pause},
      {"Resume", &Service::resume},       {"Checkpoint", &Service::checkpoint}, {"Kill", &Service::kill},
      {"Exec", &Service::exec},           {"ResizePty", &Service::resize},    {"CloseIO", &Service::close_io},
      {"Update", &Service::update},       {"Wait", &Service::wait},           {"Stats", &Service::stats},
      {"Connect", &Service::connect},     {"Shutdown", &Service::shutdown},
  };
  return all;
}

void Service::handle(rpc::Call call) {
  if (call.service != "containerd.task.v2.Task" && call.service != "containerd.task.v3.Task") {
    return call.fail(Code::unimplemented, "service " + call.service);
  }
  auto m = methods().find(call.method);
  if (m == methods().end()) return call.fail(Code::unimplemented, "method " + call.method);
  LOG(debug, "{}", call.method);
  (this->*m->second)(std::make_shared<rpc::Call>(std::move(call)));
}

void Service::reaped(int pid, int status) {
  for (auto& [id, c] : containers_) c->reaped(pid, status);
}

template <typename Request>
Container* Service::find(const Pending& call, Request* q) {
  if (!q->ParseFromString(call->payload)) {
    call->fail(Code::invalid_argument, "the request cannot be decoded");
    return nullptr;
  }
  auto it = containers_.find(q->id());
  if (it == containers_.end() || !it->second->ready()) {
    asked_for_unknown();
    call->fail(Code::not_found, base::format("container {}: not found", q->id()));
    return nullptr;
  }
  return it->second.get();
}

template <typename Request>
std::pair<Container*, Process*> Service::find_process(const Pending& call, Request* q) {
  Container* c = find(call, q);
  if (!c) return {nullptr, nullptr};
  Process* p = c->find(q->exec_id());
  if (!p) call->fail(Code::not_found, base::format("process {} of container {}: not found", q->exec_id(), q->id()));
  return {c, p};
}

void Service::create(Pending call) {
  proto::CreateTaskRequest q;
  if (!q.ParseFromString(call->payload)) return call->fail(Code::invalid_argument, "the request cannot be decoded");
  auto checked = runtime::container::check_id(q.id());
  if (!checked.ok()) return call->fail(Code::invalid_argument, checked.error().text());
  if (containers_.count(q.id())) return call->fail(Code::already_exists, base::format("container {} exists already", q.id()));
  if (orphan_timer_) host_.loop.cancel(std::exchange(orphan_timer_, 0));
  auto& c = containers_[q.id()];
  c = std::make_unique<Container>(host_, q.id(), q.bundle());
  c->create(q, call, [this, id = q.id()](bool made) {
    if (!made) host_.loop.post([this, id] { gone(id); });
  });
}

void Service::state(Pending call) {
  proto::ProcessRequest q;
  auto [c, p] = find_process(call, &q);
  if (!p) return;
  proto::StateResponse r;
  c->describe(*p, &r);
  call->reply(r);
}

void Service::start(Pending call) {
  proto::ProcessRequest q;
  auto [c, p] = find_process(call, &q);
  if (p) c->start(*p, call);
}

void Service::remove(Pending call) {
  proto::DeleteRequest q;
  auto [c, p] = find_process(call, &q);
  if (!p) return;
  if (!q.exec_id().empty()) return c->remove_exec(*p, call);
  c->remove(call, [this, id = q.id()] { gone(id); });
}

void Service::pids(Pending call) {
  proto::ProcessRequest q;
  if (Container* c = find(call, &q)) c->pids(call);
}

void Service::pause(Pending call) {
  proto::ProcessRequest q;
  if (Container* c = find(call, &q)) c->freeze(true, call);
}

void Service::resume(Pending call) {
  proto::ProcessRequest q;
  if (Container* c = find(call, &q)) c->freeze(false, call);
}

void Service::checkpoint(Pending call) { call->fail(Code::unimplemented, "checkpoints are not supported"); }

void Service::kill(Pending call) {
  proto::KillRequest q;
  auto [c, p] = find_process(call, &q);
  if (p) c->kill(*p, static_cast<int>(q.signal()), q.all() && q.exec_id().empty(), call);
}

void Service::exec(Pending call) {
  proto::ExecProcessRequest q;
  if (Container* c = find(call, &q)) c->exec(q, call);
}

void Service::resize(Pending call) {
  proto::ResizePtyRequest q;
  auto [c, p] = find_process(call, &q);
  if (p) c->resize(*p, q.height(), q.width(), call);
}

void Service::close_io(Pending call) {
  proto::CloseIORequest q;
  auto [c, p] = find_process(call, &q);
  if (!p) return;
  if (q.stdin()) c->close_stdin(*p);
  call->reply();
}

void Service::update(Pending call) {
  proto::UpdateTaskRequest q;
  if (Container* c = find(call, &q)) c->update(q.resources().value(), call);
}

void Service::wait(Pending call) {
  proto::ProcessRequest q;
  auto [c, p] = find_process(call, &q);
  if (p) c->wait(*p, std::move(*call));
}

void Service::stats(Pending call) {
  proto::ProcessRequest q;
  if (Container* c = find(call, &q)) c->stats(call);
}

void Service::connect(Pending call) {
  proto::ProcessRequest q;
  if (!q.ParseFromString(call->payload)) return call->fail(Code::invalid_argument, "the request cannot be decoded");
  auto it = containers_.find(q.id());
  proto::ConnectResponse r;
  r.set_shim_pid(static_cast<uint32_t>(::getpid()));
  if (it != containers_.end() && it->second->ready()) r.set_task_pid(it->second->host_pid());
  else asked_for_unknown();
  r.set_version("v1");
  call->reply(r);
}

// Sent after every task's removal; this process serves a whole pod.
void Service::shutdown(Pending call) {
  proto::ShutdownRequest q;
  if (!q.ParseFromString(call->payload)) return call->fail(Code::invalid_argument, "the request cannot be decoded");
  call->reply();
  asked_to_end_ = true;
  if (q.now() || containers_.empty()) over_();
}

// Whoever starts a shim begins with Create, and ends with Shutdown. A containerd that was killed before the one or the other is followed by
// one that knows no more than the name; 1.6 takes this for a task, keeps the connection and forgets it: nobody would end the shim.
void Service::asked_for_unknown() {
  if (!containers_.empty() || orphan_timer_) return;
  orphan_timer_ = host_.loop.after(kOrphanMs, [this] {
    orphan_timer_ = 0;
    if (!containers_.empty()) return;
    LOG(info, "there is no container here, and who could make one is gone: this shim ends");
    over_();
  });
}

// Who asked too early, while there were containers, may not ask again.
void Service::gone(const std::string& id) {
  containers_.erase(id);
  if (!asked_to_end_ || !containers_.empty()) return;
  host_.loop.cancel(end_timer_);
  end_timer_ = host_.loop.after(kEndMs, [this] {
    end_timer_ = 0;
    if (containers_.empty()) over_();
  });
}

}  // namespace shim::task
