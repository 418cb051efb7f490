// SPDX-License-Identifier: Apache-2.0
#include "cri/inventory.h"

#include "base/result.h"
#include "cri/proto/cri.pb.h"

namespace cri {

namespace msg = ::caisson::cri;

grpc::Status take_inventory(Backend& backend, std::chrono::seconds limit, Inventory* out) {
  auto deadline = std::chrono::system_clock::now() + limit;
  const std::string service = "/runtime.v1.RuntimeService/";
  msg::ListPodSandboxResponse pods;
  msg::ListContainersResponse containers;
  msg::ListPodSandboxStatsResponse stats;
  auto s = backend.ask(service + "ListPodSandbox", msg::ListRequest(), &pods, deadline);
  if (s.ok()) s = backend.ask(service + "ListContainers", msg::ListRequest(), &containers, deadline);
  if (!s.ok()) return s;
  // Not every containerd has it; the rest is worth telling without.
  IGNORE_ERROR(backend.ask(service + "ListPodSandboxStats", msg::ListRequest(), &stats, deadline), "told without");
  std::map<std::string, std::string> handler_of;
  for (auto& p : pods.items()) {
    out->pods[p.id()] = p.runtime_handler();
    auto& c = out->handlers[p.runtime_handler()];
    (p.state() == 0 ? c.ready : c.not_ready)++;
  }
  for (auto& c : containers.containers()) {
    auto pod = out->pods.find(c.pod_sandbox_id());
    if (pod == out->pods.end()) continue;  // removed between the two questions
    out->containers[c.id()] = pod->second;
    auto& n = out->handlers[pod->second];
    (c.state() == 0 ? n.created : c.state() == 1 ? n.running : c.state() == 2 ? n.exited : n.unknown)++;
  }
  for (auto& p : stats.stats()) {
    auto pod = out->pods.find(p.attributes().id());
    if (pod == out->pods.end() || !p.linux().memory().has_working_set_bytes()) continue;
    uint64_t own = p.linux().memory().working_set_bytes().value(), inside = 0;
    for (auto& c : p.linux().containers()) inside += c.memory().working_set_bytes().value();
    auto& n = out->handlers[pod->second];
    n.overhead += own > inside ? own - inside : 0;
    n.measured++;
  }
  return grpc::Status::OK;
}

}  // namespace cri
