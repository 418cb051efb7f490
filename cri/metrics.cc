// SPDX-License-Identifier: Apache-2.0
#include "cri/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <chrono>

#include "cri/policy.h"

namespace cri {
namespace {

constexpr size_t kMaxHandlers = 32;

// A start takes tens of milliseconds to seconds, an exec less.
const prometheus::Histogram::BucketBoundaries kStart = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
const prometheus::Histogram::BucketBoundaries kShort = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};

constexpr std::string_view kMethods[] = {
    "Version", "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus", "ListPodSandbox", "StreamPodSandboxes", "CreateContainer",
    "StartContainer", "StopContainer", "RemoveContainer", "ListContainers", "StreamContainers", "ContainerStatus", "UpdateContainerResources",
    "ReopenContainerLog", "ExecSync", "Exec", "Attach", "PortForward", "ContainerStats", "ListContainerStats", "StreamContainerStats",
    "PodSandboxStats", "ListPodSandboxStats", "StreamPodSandboxStats", "UpdateRuntimeConfig", "Status", "CheckpointContainer",
    "GetContainerEvents", "ListMetricDescriptors", "ListPodSandboxMetrics", "StreamPodSandboxMetrics", "RuntimeConfig",
    "UpdatePodSandboxResources", "ListImages", "StreamImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo"};

const char* code_label(int code) {
  static constexpr const char* kCodes[] = {"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
                                           "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange",
                                           "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated"};
  return code >= 0 && code < 17 ? kCodes[code] : "other";
}

template <typename B>
auto& family(prometheus::Registry& r, B&& builder, const char* name, const char* help) {
  return builder.Name(name).Help(help).Register(r);
}

}  // namespace

std::string_view method_label(std::string_view path) {
  size_t slash = path.rfind('/');
  std::string_view word = slash == path.npos ? path : path.substr(slash + 1);
  auto i = std::find(std::begin(kMethods), std::end(kMethods), word);
  return i == std::end(kMethods) ? std::string_view("other") : *i;
}

Metrics::Metrics()
    : decisions_(family(registry_, prometheus::BuildCounter(), "caisson_cri_decisions_total",
                        "Decisions about pods and containers, by the rule that made them.")),
      refusals_(family(registry_, prometheus::BuildCounter(), "caisson_cri_refusals_total", "Pods and containers that were refused, by reason.")),
      requests_(family(registry_, prometheus::BuildCounter(), "caisson_cri_requests_total", "Calls of the CRI that have ended, by method and gRPC code.")),
      reloads_(family(registry_, prometheus::BuildCounter(), "caisson_cri_policy_loads_total", "Readings of the policy file, by result.")),
      loaded_at_(family(registry_, prometheus::BuildGauge(), "caisson_cri_policy_loaded_timestamp_seconds", "When the policy in force was read.")),
      up_(family(registry_, prometheus::BuildGauge(), "caisson_cri_backend_up", "1 when containerd answered the last question.")),
      pod_start_(family(registry_, prometheus::BuildHistogram(), "caisson_cri_pod_start_duration_seconds", "Time of RunPodSandbox calls that did well.")),
      container_create_(family(registry_, prometheus::BuildHistogram(), "caisson_cri_container_create_duration_seconds",
                               "Time of CreateContainer calls that did well.")),
      container_start_(family(registry_, prometheus::BuildHistogram(), "caisson_cri_container_start_duration_seconds",
                              "Time of StartContainer calls that did well.")),
      exec_(family(registry_, prometheus::BuildHistogram(), "caisson_cri_exec_duration_seconds",
                   "Time of ExecSync calls that did well, with that of the command itself.")) {
  up_.Add({}).Set(0);
  // Counters that alerts look at begin at 0: the first of a kind is then an increase.
  for (auto* kind : {"pod", "container"}) {
    for (auto* reason : {"named-handler", "rule", "image", "malformed", "handler-unusable"}) refusals_.Add({{"kind", kind}, {"reason", reason}});
    for (auto danger : kDangers) refusals_.Add({{"kind", kind}, {"reason", std::string(danger)}});
  }
  for (auto* result : {"success", "failure"}) reloads_.Add({{"result", result}});
}

std::string Metrics::handler_label(const std::string& handler) {
  if (handler.empty()) return "default";
  bool plain = handler.size() <= 63 && std::all_of(handler.begin(), handler.end(), [](unsigned char c) { return isalnum(c) || c == '-' || c == '.' || c == '_'; });
  if (!plain) return "other";
  return handlers_.with([&](auto& known) -> std::string {
    if (!known.contains(handler) && known.size() >= kMaxHandlers) return "other";
    return *known.insert(handler).first;
  });
}

void Metrics::decided(std::string_view kind, const std::string& rule, const std::string& handler, std::string_view refused) {
  // A pod that is refused names what it likes.
  decisions_.Add({{"kind", std::string(kind)}, {"rule", rule}, {"handler", refused.empty() ? handler_label(handler) : "none"},
                  {"outcome", refused.empty() ? "allowed" : "refused"}}).Increment();
  if (!refused.empty()) refusals_.Add({{"kind", std::string(kind)}, {"reason", std::string(refused)}}).Increment();
}

void Metrics::ended(std::string_view method, int code, const std::string& handler, double seconds) {
  requests_.Add({{"method", std::string(method)}, {"code", code_label(code)}}).Increment();
  if (code != 0) return;
  auto observe = [&](auto& f, auto& buckets) { f.Add({{"handler", handler_label(handler)}}, buckets).Observe(seconds); };
  if (method == "RunPodSandbox") observe(pod_start_, kStart);
  if (method == "CreateContainer") observe(container_create_, kStart);
  if (method == "StartContainer") observe(container_start_, kStart);
  if (method == "ExecSync") observe(exec_, kShort);
}

void Metrics::policy_loaded(bool good) {
  reloads_.Add({{"result", good ? "success" : "failure"}}).Increment();
  if (good) loaded_at_.Add({}).SetToCurrentTime();
}

std::string Metrics::text(const Inventory* inventory) {
  up_.Add({}).Set(inventory ? 1 : 0);
  auto all = registry_.Collect();
  // What containerd has now; nothing is told of it while containerd is away.
  prometheus::Registry now;
  if (inventory) {
    auto& pods = family(now, prometheus::BuildGauge(), "caisson_cri_pods", "Pods that containerd has, by runtime handler and state.");
    auto& containers = family(now, prometheus::BuildGauge(), "caisson_cri_containers", "Containers that containerd has, by runtime handler of their pod and state.");
    auto& overhead = family(now, prometheus::BuildGauge(), "caisson_cri_sandbox_memory_overhead_bytes",
                            "Working set of pods that belongs to none of their containers, summed over the pods of a handler.");
    auto& measured = family(now, prometheus::BuildGauge(), "caisson_cri_sandbox_memory_measured_pods",
                            "Pods over which caisson_cri_sandbox_memory_overhead_bytes is summed.");
    // A handler that was seen once is told with 0 from then on.
    std::map<std::string, Inventory::Count> sums;
    for (auto& known : handlers_.with([](auto& k) { return k; })) sums[known];
    for (auto& [h, c] : inventory->handlers) {
      auto& s = sums[handler_label(h)];
      s.ready += c.ready, s.not_ready += c.not_ready, s.created += c.created, s.running += c.running, s.exited += c.exited;
      s.unknown += c.unknown, s.overhead += c.overhead, s.measured += c.measured;
    }
    for (auto& [label, c] : sums) {
      pods.Add({{"handler", label}, {"state", "ready"}}).Set(c.ready);
      pods.Add({{"handler", label}, {"state", "notready"}}).Set(c.not_ready);
      containers.Add({{"handler", label}, {"state", "created"}}).Set(c.created);
      containers.Add({{"handler", label}, {"state", "running"}}).Set(c.running);
      containers.Add({{"handler", label}, {"state", "exited"}}).Set(c.exited);
      containers.Add({{"handler", label}, {"state", "unknown"}}).Set(c.unknown);
      overhead.Add({{"handler", label}}).Set(static_cast<double>(c.overhead));
      measured.Add({{"handler", label}}).Set(c.measured);
    }
    auto more = now.Collect();
    all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  }
  return prometheus::TextSerializer().Serialize(all);
}

}  // namespace cri
