// SPDX-License-Identifier: Apache-2.0
// Metrics: what is counted, with names as Prometheus wants them. Every label takes few values: rules come from the policy, handlers
// and methods that are not known count as "other".
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <set>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "cri/inventory.h"

namespace cri {

class Metrics {
 public:
  Metrics();
  // A decision about a pod or a container (`kind`); refused: why, or "".
  void decided(std::string_view kind, const std::string& rule, const std::string& handler, std::string_view refused);
  // A call has ended. method: "RunPodSandbox"; seconds count for calls that did well.
  void ended(std::string_view method, int code, const std::string& handler, double seconds);
  void policy_loaded(bool good);
  // The text for Prometheus; inventory: null when containerd could not be asked.
  std::string text(const Inventory* inventory);

 private:
  std::string handler_label(const std::string& handler);

  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>&decisions_, &refusals_, &requests_, &reloads_;
  prometheus::Family<prometheus::Gauge>&loaded_at_, &up_;
  prometheus::Family<prometheus::Histogram>&pod_start_, &container_create_, &container_start_, &exec_;
  base::Guarded<std::set<std::string>> handlers_{base::LockRank::kIo};
};

// "RunPodSandbox" of "/runtime.v1.RuntimeService/RunPodSandbox", when it is a method of the CRI; else "other".
std::string_view method_label(std::string_view path);

}  // namespace cri
