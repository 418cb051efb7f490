// SPDX-License-Identifier: Apache-2.0
#include "cri/handlers.h"

#include <map>
#include <nlohmann/json.hpp>

#include "cri/names.h"

namespace cri {
namespace {

using nlohmann::json;

// info[key] as JSON; null when it is none.
template <typename Response>
json info_of(const Response& r, const char* key) {
  const std::string* text = nullptr;
  for (auto& e : r.info()) {
    if (e.key() == key) text = &e.value();
  }
  if (!text) return nullptr;
  json j = json::parse(*text, nullptr, false);
  return j.is_discarded() ? json(nullptr) : j;
}

const json* find(const json& j, std::initializer_list<const char*> path) {
  const json* at = &j;
  for (auto* p : path) {
    if (!at->is_object()) return nullptr;
    auto i = at->find(p);
    if (i == at->end()) return nullptr;
    at = &*i;
  }
  return at;
}

}  // namespace

base::ResultX<void> check_handler(const msg::StatusResponse& status, const std::string& handler, const std::string& runtime_type) {
  std::map<std::string, std::string> types;  // "" when containerd tells the name only
  for (auto& h : status.runtime_handlers()) types[h.name()] = "";
  json config = info_of(status, "config");
  if (auto* runtimes = find(config, {"containerd", "runtimes"}); runtimes && runtimes->is_object()) {
    for (auto& [name, r] : runtimes->items()) {
      auto* type = find(r, {"runtimeType"});
      types[name] = type && type->is_string() ? type->get<std::string>() : "";
    }
  }
  if (types.empty()) return base::error(base::kENODATA, "containerd does not tell which runtime handlers it has");
  auto i = types.find(handler);
  if (i == types.end()) {
    std::string have;
    for (auto& [name, type] : types) {
      if (!name.empty()) have += (have.empty() ? "" : ", ") + printable(name);
    }
    return base::error(base::kENOENT, "containerd has no runtime handler '{}' (it has {}): add it to containerd's configuration and restart containerd",
                       handler, have.empty() ? "none" : have);
  }
  if (!runtime_type.empty() && i->second != runtime_type)
    return base::error(base::kEINVAL, "containerd's runtime handler '{}' is of type '{}', and the policy wants '{}': correct containerd's configuration",
                       handler, printable(i->second), runtime_type);
  return {};
}

bool sandbox_privileged(const msg::PodSandboxStatusResponse& status, bool otherwise) {
  json info = info_of(status, "info");
  if (!find(info, {"config", "metadata"})) return otherwise;
  auto* p = find(info, {"config", "linux", "security_context", "privileged"});
  return p && p->is_boolean() && p->get<bool>();
}

}  // namespace cri
