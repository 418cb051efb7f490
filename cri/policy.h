// SPDX-License-Identifier: Apache-2.0
// Policy: which runtime handler a pod gets, and which pods and containers are refused. Read from a TOML file (docs/cri.md);
// deciding needs nothing but the facts.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cri {

// What can defeat a sandbox, or make a mockery of it.
enum class Danger { privileged, host_network, host_pid, host_ipc, host_path, device };
inline constexpr std::array<std::string_view, 6> kDangers = {"privileged", "host-network", "host-pid", "host-ipc", "host-path", "device"};
inline std::string_view name_of(Danger d) { return kDangers[static_cast<size_t>(d)]; }

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct PodFacts {
  std::string name, space, uid, handler;  // handler: what the pod names, or runs under
  Pairs labels, annotations;              // of one key the last counts
  bool privileged = false, host_network = false, host_pid = false, host_ipc = false;
};

struct ContainerFacts {
  std::vector<std::string> images;  // all names of its image
  bool privileged = false, host_network = false, host_pid = false, host_ipc = false;
  std::vector<std::string> host_paths, devices;
};

struct Decision {
  std::string handler;       // what the pod is to run under
  std::string rule;          // that decided; "default" or "named" when none did
  bool sandboxed = false;    // the handler is one of sandbox.handlers
  std::string_view refused;  // a reason of few words, for counting; empty: allowed
  std::string text;          // of a refusal: for the person who made the pod
};

struct Rule {
  std::string name;
  // Conditions: all that are given must hold. A list holds when one of it does.
  std::vector<std::string> namespaces, service_accounts, images;
  std::vector<std::pair<std::string, std::vector<std::string>>> labels, annotations;
  std::optional<bool> privileged, host_network, host_pid, host_ipc;
  // What follows: a handler, or a refusal.
  std::string handler, refuse;
  enum class Named { refuse, keep, replace } named = Named::refuse;  // when the pod names another handler
  std::vector<Danger> allow;
};

class Policy {
 public:
  // Errors name the file, the line and, for a key that does not exist, the nearest that does.
  static base::ResultX<Policy> parse(std::string_view toml, const std::string& path);
  static base::ResultX<Policy> load(const std::string& path);

  Decision decide_pod(const PodFacts& pod) const;
  // pod.handler is what the pod runs under.
  Decision decide_container(const PodFacts& pod, const ContainerFacts& c) const;
  bool is_sandbox(std::string_view handler) const;
  // Images are worth asking for: a rule looks at them.
  bool wants_images() const;
  const std::string& kubelet_dir() const { return kubelet_dir_; }
  const std::string& runtime_type() const { return runtime_type_; }
  const std::vector<std::string>& sandbox_handlers() const { return handlers_; }
  const std::vector<Rule>& rules() const { return rules_; }

 private:
  friend struct PolicyReader;
  const Rule* find_rule(const PodFacts& pod, const ContainerFacts* c) const;
  bool holds(const Rule& r, const PodFacts& pod, const ContainerFacts* c) const;
  bool refuses(Danger d, const Rule* r) const;
  bool path_allowed(const std::string& path, const std::string& uid) const;
  void check_dangers(const PodFacts& pod, const ContainerFacts* c, const Rule* r, Decision& d) const;

  std::string default_handler_, runtime_type_, kubelet_dir_ = "/var/lib/kubelet", account_key_ = "dev.caisson.service-account";
  std::vector<std::string> handlers_ = {"caisson"}, host_paths_;
  std::vector<Danger> refuse_ = {Danger::privileged, Danger::host_network, Danger::host_pid, Danger::host_ipc, Danger::host_path, Danger::device};
  std::vector<Rule> rules_;
};

}  // namespace cri
