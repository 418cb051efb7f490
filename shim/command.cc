// SPDX-License-Identifier: Apache-2.0
#include "shim/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "runtime/container/lifecycle.h"
#include "shim/proto/runtime.pb.h"
#include "shim/proto/task.pb.h"
#include "shim/rpc/client.h"
#include "shim/sha256.h"
#include "shim/task/mounts.h"

namespace shim {

using base::ResultX;

namespace {

constexpr const char* kSockets = "/run/containerd/s";

struct Flag {
  const char* name;
  std::string Arguments::*text;
  bool Arguments::*flag;
};
constexpr Flag kFlags[] = {
    {"namespace", &Arguments::space, nullptr}, {"address", &Arguments::address, nullptr},
    {"publish-binary", &Arguments::publish_binary, nullptr}, {"id", &Arguments::id, nullptr},
    {"bundle", &Arguments::bundle, nullptr}, {"socket", &Arguments::socket, nullptr},
    {"debug", nullptr, &Arguments::debug}, {"v", nullptr, &Arguments::version}, {"info", nullptr, &Arguments::info},
};

void print(const std::string& text) {
  IGNORE_ERROR(base::sys::write_all(1, text.data(), text.size()), "nobody reads");
}

// A name that containerd gave and that becomes part of a path.
bool plain(const std::string& name) { return runtime::container::check_id(name).ok(); }

}  // namespace

ResultX<Arguments> parse_arguments(const std::vector<std::string>& words) {
  Arguments a;
  for (size_t i = 0; i < words.size(); i++) {
    const std::string& w = words[i];
    if (w.size() < 2 || w[0] != '-') {
      if (!a.action.empty()) return base::error(base::kEINVAL, "'{}' is one word too many", w);
      a.action = w;
      continue;
    }
    size_t from = w[1] == '-' ? 2 : 1, eq = w.find('=');
    std::string name = w.substr(from, eq == std::string::npos ? eq : eq - from);
    const Flag* flag = nullptr;
    for (auto& f : kFlags) {
      if (name == f.name) flag = &f;
    }
    if (!flag) return base::error(base::kEINVAL, "flag -{} is not known", name);
    if (flag->flag) {
      a.*flag->flag = eq == std::string::npos || w.substr(eq + 1) == "true";
    } else if (eq != std::string::npos) {
      a.*flag->text = w.substr(eq + 1);
    } else if (i + 1 < words.size()) {
      a.*flag->text = words[++i];
    } else {
      return base::error(base::kEINVAL, "flag -{} needs a value", name);
    }
  }
  if (a.version || a.info) return a;
  if (!plain(a.space)) return base::error(base::kEINVAL, "-namespace '{}' is no name of a namespace", a.space);
  if (!plain(a.id)) return base::error(base::kEINVAL, "-id '{}' is no id of a container", a.id);
  return a;
}

std::string state_root(const std::string& space) {
  const char* top = ::getenv("CAISSON_SHIM_ROOT");
  return std::string(top && top[0] == '/' ? top : "/run/containerd/caisson") + "/" + space;
}

std::string group_of(const std::string& config_json, const std::string& id) {
  auto j = nlohmann::json::parse(config_json, nullptr, false);
  if (!j.is_object() || !j.contains("annotations") || !j["annotations"].is_object()) return id;
  for (const char* key : {"io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"}) {
    auto it = j["annotations"].find(key);
    if (it != j["annotations"].end() && it->is_string() && plain(it->get<std::string>())) return it->get<std::string>();
  }
  return id;
}

std::string address_of(const Arguments& a, const std::string& group) {
  return base::format("unix://{}/{}", kSockets, sha256_hex(base::format("{}/{}/{}", a.address, a.space, group)));
}

std::string socket_path(const std::string& address) {
  constexpr std::string_view kScheme = "unix://";
  return address.rfind(kScheme, 0) == 0 ? address.substr(kScheme.size()) : "";
}

ResultX<void> clean_up(const Arguments& a) {
  namespace rc = runtime::container;
  auto root = TRY(rc::Root::open(state_root(a.space)));
  TRY(rc::delete_container(root, a.id, true));
  if (!a.bundle.empty()) {
    task::unmount_root(a.bundle);
    // The socket of a shim that was killed: nobody else removes it.
    auto address = runtime::host::read_file(a.bundle + "/address", 4096);
    std::string path = address.ok() ? socket_path(*address) : "";
    if (path.rfind(std::string(kSockets) + "/", 0) == 0) {
      auto there = rpc::connect_unix(path);
      if (!there.ok() && there.error().code() == base::kECONNREFUSED) ::unlink(path.c_str());
    }
  }
  proto::DeleteResponse r;
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  r.set_exit_status(137);
  r.mutable_exited_at()->set_seconds(now.tv_sec);
  r.mutable_exited_at()->set_nanos(static_cast<int32_t>(now.tv_nsec));
  print(r.SerializeAsString());
  return {};
}

ResultX<void> print_info() {
  proto::RuntimeInfo i;
  i.set_name(kName);
  i.mutable_version()->set_version(kVersion);
  print(i.SerializeAsString());
  return {};
}

}  // namespace shim
