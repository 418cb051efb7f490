// SPDX-License-Identifier: Apache-2.0
#include "cri/policy_gate.h"

#include <limits.h>
#include <stdlib.h>

#include <algorithm>

#include "base/log.h"
#include "cri/handlers.h"
#include "cri/names.h"

namespace cri {
namespace {

constexpr auto kAsk = std::chrono::seconds(10);  // the longest that containerd may take over a question of ours
constexpr size_t kMaxPairs = 1024;               // labels or annotations of a pod
constexpr size_t kMaxMounts = 1024;              // of a container; devices too
constexpr size_t kMaxName = 253;                 // of a Kubernetes object
constexpr int kNode = 2;                         // NamespaceMode NODE: the host's

constexpr std::string_view kHealth = "/grpc.health.v1.Health/";

// "/runtime.v1.RuntimeService/Status" -> package version "v1", service, method. Nothing for what is no CRI.
struct Method {
  std::string_view version, service, name;
};
std::optional<Method> split(std::string_view path) {
  auto plain = [](std::string_view s) { return !s.empty() && std::all_of(s.begin(), s.end(), [](unsigned char c) { return isalnum(c); }); };
  constexpr std::string_view kPackage = "/runtime.";
  if (!path.starts_with(kPackage)) return {};
  path.remove_prefix(kPackage.size());
  size_t dot = path.find('.'), slash = path.find('/');
  if (dot == path.npos || slash == path.npos || dot > slash) return {};
  Method m{path.substr(0, dot), path.substr(dot + 1, slash - dot - 1), path.substr(slash + 1)};
  if (!plain(m.version) || !plain(m.name) || (m.service != "RuntimeService" && m.service != "ImageService")) return {};
  return m;
}

bool starts_things(std::string_view name) { return name == "RunPodSandbox" || name == "CreateContainer"; }
bool known_version(std::string_view v) { return v == "v1" || v == "v1alpha2"; }

// containerd has a handler of its own in mind for pods with this annotation, and refuses any other that is named beside it. So
// where the policy has chosen, containerd gets it under another name, and here it is read as what it was.
constexpr std::string_view kUntrusted = "io.kubernetes.cri.untrusted-workload";
constexpr std::string_view kUntrustedKept = "dev.caisson.cri.untrusted-workload";

template <typename List>
Pairs pairs_of(const List& list) {
  Pairs out;
  for (auto& e : list) out.emplace_back(e.key() == kUntrustedKept ? std::string(kUntrusted) : e.key(), e.value());
  return out;
}

void rename_untrusted(msg::PodSandboxConfig& c) {
  for (auto& a : *c.mutable_annotations()) {
    if (a.key() == kUntrusted) a.set_key(std::string(kUntrustedKept));
  }
}

std::string service_of(const std::string& method) { return method.substr(0, method.rfind('/') + 1); }

std::chrono::system_clock::time_point sooner(std::chrono::system_clock::time_point deadline) {
  return std::min(deadline, std::chrono::system_clock::now() + kAsk);
}

std::string who(const PodFacts& pod) { return printable(pod.space) + "/" + printable(pod.name); }

}  // namespace

void HandlerTable::put(const std::string& id, const std::string& handler) {
  if (id.empty() || id.size() > kMaxName || handler.size() > kMaxName) return;
  state_.with([&](auto& s) {
    if (!s.handlers.insert_or_assign(id, handler).second) return;
    s.order.push_back(id);
    if (s.order.size() <= kMax) return;
    s.handlers.erase(s.order.front());
    s.order.pop_front();
  });
}

std::optional<std::string> HandlerTable::find(const std::string& id) const {
  return state_.with([&](auto& s) -> std::optional<std::string> {
    auto i = s.handlers.find(id);
    if (i == s.handlers.end()) return {};
    return i->second;
  });
}

void PolicyGate::set_policy(std::shared_ptr<const Policy> policy) {
  policy_.with([&](auto& p) { p.swap(policy); });
}

Interest PolicyGate::interest(std::string_view method) {
  bool strict = policy() != nullptr;
  auto m = split(method);
  if (!m) return !strict || method.starts_with(kHealth) ? Interest::pass : Interest::refuse;
  if (m->service != "RuntimeService") return Interest::pass;
  if (starts_things(m->name)) return !strict ? Interest::watch : known_version(m->version) ? Interest::judge : Interest::refuse;
  return m->name == "StartContainer" || m->name == "ExecSync" ? Interest::watch : Interest::pass;
}

grpc::Status PolicyGate::refusal(std::string_view method) {
  LOG(warn, "refused a call of {}", printable(method));
  if (split(method))
    return {grpc::StatusCode::UNIMPLEMENTED, "caisson-cri: the policy knows CRI v1 and v1alpha2, and cannot look at " + printable(method)};
  return {grpc::StatusCode::UNIMPLEMENTED, "caisson-cri: only the CRI is served here, not " + printable(method)};
}

Verdict PolicyGate::judge(CallNotes& call, const grpc::ByteBuffer& request) {
  auto p = policy();
  if (!p) return {};  // since the call came in, none: not reachable by any signal
  return call.method.ends_with("/RunPodSandbox") ? judge_pod(call, *p, request) : judge_container(call, *p, request);
}

Verdict PolicyGate::refuse(const char* kind, const Decision& d, const PodFacts& pod, grpc::StatusCode code) {
  LOG(warn, "refused {} of pod {} ({}), rule '{}': {}", kind, who(pod), printable(pod.uid), d.rule, d.text);
  metrics_.decided(kind, d.rule, d.handler, d.refused);
  return {{code, "caisson-cri: " + d.text}, {}};
}

grpc::Status PolicyGate::check_sandbox(const std::string& service, const Policy& policy, const std::string& handler,
                                       std::chrono::system_clock::time_point deadline) {
  msg::StatusRequest q;
  q.set_verbose(true);
  msg::StatusResponse a;
  auto s = backend_.ask(service + "Status", q, &a, sooner(deadline));
  if (!s.ok()) return {s.error_code(), "containerd was asked whether it has handler " + handler + ", and answered: " + s.error_message()};
  auto r = check_handler(a, handler, policy.runtime_type());
  if (r.ok()) return grpc::Status::OK;
  return {grpc::StatusCode::FAILED_PRECONDITION, r.error().text()};
}

Verdict PolicyGate::judge_pod(CallNotes& call, const Policy& policy, const grpc::ByteBuffer& request) {
  msg::RunPodSandboxRequest r;
  PodFacts pod;
  Decision d;
  auto bad = [&](const char* what) {
    d.rule = "default";
    d.refused = "malformed";
    d.text = what;
    return refuse("pod", d, pod, grpc::StatusCode::INVALID_ARGUMENT);
  };
  if (!decode(request, &r)) return bad("the request to run a pod cannot be read");
  auto& c = r.config();
  pod.name = c.metadata().name();
  pod.space = c.metadata().namespace_();
  pod.uid = c.metadata().uid();
  pod.handler = r.runtime_handler();
  if (pod.name.size() > kMaxName || pod.space.size() > kMaxName || pod.uid.size() > kMaxName || pod.handler.size() > kMaxName)
    return bad("a name in the request to run a pod is longer than 253 characters");
  if (size_t(c.labels_size()) > kMaxPairs || size_t(c.annotations_size()) > kMaxPairs) return bad("the pod has more than 1024 labels or annotations");
  pod.labels = pairs_of(c.labels());
  pod.annotations = pairs_of(c.annotations());
  auto& sc = c.linux().security_context();
  pod.privileged = sc.privileged();
  pod.host_network = sc.namespace_options().network() == kNode;
  pod.host_pid = sc.namespace_options().pid() == kNode;
  pod.host_ipc = sc.namespace_options().ipc() == kNode;
  d = policy.decide_pod(pod);
  if (!d.refused.empty()) return refuse("pod", d, pod, grpc::StatusCode::PERMISSION_DENIED);
  if (d.sandboxed) {
    auto s = check_sandbox(service_of(call.method), policy, d.handler, call.deadline);
    if (!s.ok()) {
      d.refused = "handler-unusable";
      d.text = base::format("the pod must run under handler {}, which cannot be had, and it is not started without: {}", d.handler, s.error_message());
      return refuse("pod", d, pod, s.error_code());
    }
  }
  LOG(info, "pod {} ({}) runs under {}, rule '{}'{}", who(pod), printable(pod.uid), d.handler.empty() ? "containerd's default handler" : "handler " + printable(d.handler),
      d.rule, pod.handler.empty() ? "" : ", and asked for " + printable(pod.handler));
  metrics_.decided("pod", d.rule, d.handler, "");
  call.handler = d.handler;
  call.handler_known = true;
  // What was judged is what is sent: fields that came twice are one now, and those that are not known here are kept.
  r.set_runtime_handler(d.handler);
  if (!d.handler.empty()) rename_untrusted(*r.mutable_config());
  return {grpc::Status::OK, encode(r)};
}

Verdict PolicyGate::judge_container(CallNotes& call, const Policy& policy, const grpc::ByteBuffer& request) {
  msg::CreateContainerRequest r;
  PodFacts pod;
  Decision d;
  auto bad = [&](const char* what, std::string_view reason, grpc::StatusCode code) {
    d.rule = "default";
    d.refused = reason;
    d.text = what;
    return refuse("container", d, pod, code);
  };
  if (!decode(request, &r)) return bad("the request to create a container cannot be read", "malformed", grpc::StatusCode::INVALID_ARGUMENT);
  auto& c = r.config();
  if (r.pod_sandbox_id().size() > kMaxName) return bad("the id of the pod is longer than 253 characters", "malformed", grpc::StatusCode::INVALID_ARGUMENT);
  if (size_t(c.mounts_size()) > kMaxMounts || size_t(c.devices_size()) > kMaxMounts)
    return bad("the container has more than 1024 mounts or devices", "malformed", grpc::StatusCode::INVALID_ARGUMENT);
  // The pod is as containerd started it, whatever this request says of it.
  std::string service = service_of(call.method);
  msg::PodSandboxStatusRequest q;
  q.set_pod_sandbox_id(r.pod_sandbox_id());
  q.set_verbose(true);
  msg::PodSandboxStatusResponse a;
  auto s = backend_.ask(service + "PodSandboxStatus", q, &a, sooner(call.deadline));
  if (!s.ok()) return {s, {}};
  auto& status = a.status();
  pod.name = status.metadata().name();
  pod.space = status.metadata().namespace_();
  pod.uid = status.metadata().uid();
  pod.handler = status.runtime_handler();
  pod.labels = pairs_of(status.labels());
  pod.annotations = pairs_of(status.annotations());
  auto& ns = status.linux().namespaces().options();
  pod.host_network = ns.network() == kNode;
  pod.host_pid = ns.pid() == kNode;
  pod.host_ipc = ns.ipc() == kNode;
  pod.privileged = sandbox_privileged(a, r.sandbox_config().linux().security_context().privileged());

  ContainerFacts f;
  auto& sc = c.linux().security_context();
  f.privileged = sc.privileged();
  f.host_network = sc.namespace_options().network() == kNode;
  f.host_pid = sc.namespace_options().pid() == kNode;
  f.host_ipc = sc.namespace_options().ipc() == kNode;
  for (auto& m : c.mounts()) {
    if (m.host_path().empty()) continue;  // an image as a volume, which newer versions have
    f.host_paths.push_back(m.host_path());
    // Kubelet's own folders need no look; a path on the list must not lead elsewhere by a symbolic link.
    if (m.host_path().starts_with(policy.kubelet_dir() + "/") || m.host_path().size() >= PATH_MAX) continue;
    std::unique_ptr<char, decltype(&::free)> real(::realpath(m.host_path().c_str(), nullptr), &::free);
    if (real && m.host_path() != real.get()) f.host_paths.push_back(real.get());
  }
  for (auto& dev : c.devices()) f.devices.push_back(dev.host_path());
  if (!c.image().image().empty()) f.images.push_back(c.image().image());
  if (!c.image().user_specified_image().empty()) f.images.push_back(c.image().user_specified_image());
  if (policy.wants_images() && !f.images.empty()) {
    // Kubelet names an image by its digest; its names are containerd's to tell.
    msg::ImageStatusRequest iq;
    iq.mutable_image()->set_image(c.image().image());
    msg::ImageStatusResponse ia;
    auto is = backend_.ask(service.substr(0, service.find("RuntimeService")) + "ImageService/ImageStatus", iq, &ia, sooner(call.deadline));
    if (!is.ok()) return {{is.error_code(), "caisson-cri: the policy looks at images, and containerd does not tell the names of " +
                           printable(c.image().image()) + ": " + is.error_message()}, {}};
    f.images.insert(f.images.end(), ia.image().repo_tags().begin(), ia.image().repo_tags().end());
    f.images.insert(f.images.end(), ia.image().repo_digests().begin(), ia.image().repo_digests().end());
  }
  d = policy.decide_container(pod, f);
  if (!d.refused.empty()) return refuse("container", d, pod, grpc::StatusCode::PERMISSION_DENIED);
  LOG(debug, "a container of pod {} runs under handler '{}', rule '{}'", who(pod), printable(pod.handler), d.rule);
  metrics_.decided("container", d.rule, d.handler, "");
  call.handler = pod.handler;
  call.handler_known = true;
  if (!pod.handler.empty() && r.has_sandbox_config()) rename_untrusted(*r.mutable_sandbox_config());
  return {grpc::Status::OK, encode(r)};
}

void PolicyGate::asked(CallNotes& call, const grpc::ByteBuffer& request) {
  if (call.method.ends_with("/RunPodSandbox")) {
    msg::RunPodSandboxRequest r;
    if (!decode(request, &r)) return;
    call.handler = r.runtime_handler();
    call.handler_known = true;
    return;
  }
  // CreateContainer, StartContainer and ExecSync begin with the id of a pod or a container.
  msg::ContainerRequest r;
  if (!decode(request, &r)) return;
  if (auto h = handlers_.find(r.container_id())) {
    call.handler = *h;
    call.handler_known = true;
  }
}

void PolicyGate::answered(CallNotes& call, const grpc::ByteBuffer& answer) {
  if (!call.handler_known || !(call.method.ends_with("/RunPodSandbox") || call.method.ends_with("/CreateContainer"))) return;
  msg::CreateContainerResponse r;  // the id is field 1 of both
  if (decode(answer, &r)) handlers_.put(r.container_id(), call.handler);
}

void PolicyGate::ended(CallNotes& call, const grpc::Status& status) {
  std::chrono::duration<double> t = std::chrono::steady_clock::now() - call.start;
  metrics_.ended(split(call.method) ? method_label(call.method) : "other", status.error_code(), call.handler_known ? call.handler : "unknown", t.count());
}

grpc::Status PolicyGate::health() {
  auto p = policy();
  msg::StatusRequest q;
  q.set_verbose(true);
  msg::StatusResponse a;
  auto s = backend_.ask("/runtime.v1.RuntimeService/Status", q, &a, std::chrono::system_clock::now() + std::chrono::seconds(2));
  if (!s.ok()) return {s.error_code(), "containerd does not answer: " + s.error_message()};
  if (!p) return grpc::Status::OK;
  for (auto& h : p->sandbox_handlers()) {
    auto r = check_handler(a, h, p->runtime_type());
    if (!r.ok()) return {grpc::StatusCode::FAILED_PRECONDITION, r.error().text()};
  }
  return grpc::Status::OK;
}

grpc::Status PolicyGate::inventory(Inventory* out) {
  auto s = take_inventory(backend_, std::chrono::seconds(5), out);
  for (auto* list : {&out->pods, &out->containers}) {
    for (auto& [id, handler] : *list) handlers_.put(id, handler);
  }
  return s;
}

}  // namespace cri
