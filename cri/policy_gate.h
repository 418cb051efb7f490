// SPDX-License-Identifier: Apache-2.0
// PolicyGate: puts the policy to the calls that start pods and containers, and counts all. Whatever it cannot understand or find out
// is refused when there is a policy.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>

#include "base/mutex.h"
#include "cri/backend.h"
#include "cri/gate.h"
#include "cri/metrics.h"
#include "cri/policy.h"

namespace cri {

// Handlers by id of pod or container, for the labels of latencies; the oldest are forgotten.
class HandlerTable {
 public:
  void put(const std::string& id, const std::string& handler);
  std::optional<std::string> find(const std::string& id) const;

 private:
  static constexpr size_t kMax = 16384;
  struct State {
    std::unordered_map<std::string, std::string> handlers;
    std::deque<std::string> order;
  };
  base::Guarded<State> state_{base::LockRank::kIo};
};

class PolicyGate final : public Gate {
 public:
  // policy null: everything passes, and is counted.
  PolicyGate(Backend& backend, Metrics& metrics, std::shared_ptr<const Policy> policy)
      : backend_(backend), metrics_(metrics), policy_(base::LockRank::kIo, std::move(policy)) {}
  void set_policy(std::shared_ptr<const Policy> policy);
  // The sandbox handlers of the policy are there and healthy; else why not.
  grpc::Status health();
  // What containerd has; handlers of pods that were there before this program are learnt by it.
  grpc::Status inventory(Inventory* out);

  Interest interest(std::string_view method) override;
  grpc::Status refusal(std::string_view method) override;
  Verdict judge(CallNotes& call, const grpc::ByteBuffer& request) override;
  void asked(CallNotes& call, const grpc::ByteBuffer& request) override;
  void answered(CallNotes& call, const grpc::ByteBuffer& answer) override;
  void ended(CallNotes& call, const grpc::Status& status) override;

 private:
  Verdict judge_pod(CallNotes& call, const Policy& policy, const grpc::ByteBuffer& request);
  Verdict judge_container(CallNotes& call, const Policy& policy, const grpc::ByteBuffer& request);
  Verdict refuse(const char* kind, const Decision& d, const PodFacts& pod, grpc::StatusCode code);
  grpc::Status check_sandbox(const std::string& service, const Policy& policy, const std::string& handler,
                             std::chrono::system_clock::time_point deadline);
  std::shared_ptr<const Policy> policy() const {
    return policy_.with([](auto& p) { return p; });
  }

  Backend& backend_;
  Metrics& metrics_;
  base::Guarded<std::shared_ptr<const Policy>> policy_;
  HandlerTable handlers_;
};

}  // namespace cri
