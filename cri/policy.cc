// SPDX-License-Identifier: Apache-2.0
// Deciding. The file is read in policy_file.cc.
#include "cri/policy.h"

#include <algorithm>

#include "cri/names.h"

namespace cri {
namespace {

bool any_matches(const std::vector<std::string>& patterns, std::string_view text) {
  return std::any_of(patterns.begin(), patterns.end(), [&](auto& p) { return matches(p, text); });
}

const std::string* find_value(const Pairs& pairs, std::string_view key) {
  auto i = std::find_if(pairs.rbegin(), pairs.rend(), [&](auto& p) { return p.first == key; });
  return i == pairs.rend() ? nullptr : &i->second;
}

bool all_hold(const std::vector<std::pair<std::string, std::vector<std::string>>>& wanted, const Pairs& pairs) {
  return std::all_of(wanted.begin(), wanted.end(), [&](auto& w) {
    auto* v = find_value(pairs, w.first);
    return v && any_matches(w.second, *v);
  });
}

// Absolute, and no "." or ".." or empty word in it: what it says is where it leads, symbolic links aside.
bool plain(std::string_view path) {
  if (path.empty() || path[0] != '/' || path.find('\0') != path.npos) return false;
  std::string p = std::string(path) + "/";
  return p.find("//") == p.npos && p.find("/./") == p.npos && p.find("/../") == p.npos;
}

bool below(std::string_view path, std::string_view top) {
  return path == top || (path.starts_with(top) && path.size() > top.size() && (top.ends_with('/') || path[top.size()] == '/'));
}

}  // namespace

bool Policy::is_sandbox(std::string_view handler) const {
  return std::find(handlers_.begin(), handlers_.end(), handler) != handlers_.end();
}

bool Policy::wants_images() const {
  return std::any_of(rules_.begin(), rules_.end(), [](auto& r) { return !r.images.empty(); });
}

bool Policy::holds(const Rule& r, const PodFacts& pod, const ContainerFacts* c) const {
  if (!r.namespaces.empty() && !any_matches(r.namespaces, pod.space)) return false;
  if (!all_hold(r.labels, pod.labels) || !all_hold(r.annotations, pod.annotations)) return false;
  if (!r.service_accounts.empty()) {
    auto* account = find_value(pod.annotations, account_key_);
    if (!account) account = find_value(pod.labels, account_key_);
    if (!account || !any_matches(r.service_accounts, *account)) return false;
  }
  auto agrees = [](std::optional<bool> want, bool is) { return !want || *want == is; };
  if (!agrees(r.privileged, pod.privileged || (c && c->privileged)) || !agrees(r.host_network, pod.host_network) ||
      !agrees(r.host_pid, pod.host_pid || (c && c->host_pid)) || !agrees(r.host_ipc, pod.host_ipc))
    return false;
  if (r.images.empty()) return true;
  return c && std::any_of(c->images.begin(), c->images.end(), [&](auto& i) { return any_matches(r.images, i); });
}

const Rule* Policy::find_rule(const PodFacts& pod, const ContainerFacts* c) const {
  auto i = std::find_if(rules_.begin(), rules_.end(), [&](auto& r) { return holds(r, pod, c); });
  return i == rules_.end() ? nullptr : &*i;
}

bool Policy::refuses(Danger d, const Rule* r) const {
  if (r && std::find(r->allow.begin(), r->allow.end(), d) != r->allow.end()) return false;
  return std::find(refuse_.begin(), refuse_.end(), d) != refuse_.end();
}

bool Policy::path_allowed(const std::string& path, const std::string& uid) const {
  if (!plain(path)) return false;
  // The volumes that kubelet makes for this very pod: emptyDir, secrets, tokens, claims.
  bool uid_ok = !uid.empty() && uid.find('/') == uid.npos && uid != "." && uid != "..";
  if (uid_ok && below(path, kubelet_dir_ + "/pods/" + uid)) return true;
  return std::any_of(host_paths_.begin(), host_paths_.end(), [&](auto& h) { return below(path, h); });
}

void Policy::check_dangers(const PodFacts& pod, const ContainerFacts* c, const Rule* r, Decision& d) const {
  auto refuse = [&](Danger what, std::string_view words) {
    if (!d.refused.empty() || !refuses(what, r)) return;
    d.refused = name_of(what);
    d.text = base::format("{}: handler {} is a sandbox, and {} would defeat it; take it out of the pod, or let a rule of the policy allow {}",
                          d.refused, printable(d.handler), words, d.refused);
  };
  if (pod.privileged || (c && c->privileged)) refuse(Danger::privileged, "a privileged container");
  if (pod.host_network || (c && c->host_network)) refuse(Danger::host_network, "the host's network");
  if (pod.host_pid || (c && c->host_pid)) refuse(Danger::host_pid, "the host's process ids");
  if (pod.host_ipc || (c && c->host_ipc)) refuse(Danger::host_ipc, "the host's IPC");
  if (!c) return;
  for (auto& p : c->host_paths) {
    if (!path_allowed(p, pod.uid)) refuse(Danger::host_path, "the host's path '" + printable(p) + "' (sandbox.host_paths lists what is allowed)");
  }
  for (auto& p : c->devices) refuse(Danger::device, "the host's device '" + printable(p) + "'");
}

Decision Policy::decide_pod(const PodFacts& pod) const {
  Decision d;
  const Rule* r = find_rule(pod, nullptr);
  d.rule = r ? r->name : pod.handler.empty() ? "default" : "named";
  d.handler = pod.handler.empty() ? default_handler_ : pod.handler;
  if (r && !r->refuse.empty()) {
    d.refused = "rule";
    d.text = base::format("rule '{}': {}", r->name, r->refuse);
    return d;
  }
  if (r && !r->handler.empty()) {
    if (pod.handler.empty() || r->named == Rule::Named::replace) {
      d.handler = r->handler;
    } else if (pod.handler != r->handler && r->named == Rule::Named::refuse) {
      d.refused = "named-handler";
      d.text = base::format("rule '{}' gives this pod handler {}, and its runtimeClassName asks for handler {}: leave the class out, or choose one with handler {}",
                            r->name, r->handler, printable(pod.handler), r->handler);
      return d;
    }
  }
  d.sandboxed = is_sandbox(d.handler);
  if (d.sandboxed) check_dangers(pod, nullptr, r, d);
  return d;
}

Decision Policy::decide_container(const PodFacts& pod, const ContainerFacts& c) const {
  Decision d;
  d.handler = pod.handler;
  d.sandboxed = is_sandbox(d.handler);
  const Rule* r = find_rule(pod, &c);
  d.rule = r ? r->name : "default";
  if (r && !r->refuse.empty()) {
    d.refused = "rule";
    d.text = base::format("rule '{}': {}", r->name, r->refuse);
    return d;
  }
  // Rules that do not look at images chose the pod's handler when it started.
  if (r && !r->images.empty() && !r->handler.empty() && r->handler != pod.handler) {
    d.refused = "image";
    d.text = base::format("rule '{}' wants this container under handler {}, and its pod runs under {}: give the pod a runtimeClassName with handler {}, "
                          "or a label that a rule chooses by (an image is only known when the pod runs)",
                          r->name, r->handler, pod.handler.empty() ? "the default one" : printable(pod.handler), r->handler);
    return d;
  }
  if (d.sandboxed) check_dangers(pod, &c, r, d);
  return d;
}

}  // namespace cri
