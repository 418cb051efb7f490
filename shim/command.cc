// SPDX-License-Identifier: Apache-2.0
#include "shim/command.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "runtime/container/lifecycle.h"
#include "runtime/host/proc.h"
#include "shim/proto/bootstrap.pb.h"
#include "shim/proto/runtime.pb.h"
#include "shim/proto/task.pb.h"
#include "shim/rpc/client.h"
#include "shim/sha256.h"
#include "shim/sockets.h"
#include "shim/task/mounts.h"
#include "shim/task/options.h"

namespace shim {

using base::ResultX;

namespace {

constexpr const char* kSockets = "/run/containerd/s";
constexpr int kLastMomentsMs = 500;  // of a killed process

struct Flag {
  const char* name;
  std::string Arguments::*text;
  bool Arguments::*flag;
};
constexpr Flag kFlags[] = {
    {"namespace", &Arguments::space, nullptr}, {"address", &Arguments::address, nullptr},
    {"publish-binary", &Arguments::publish_binary, nullptr}, {"id", &Arguments::id, nullptr},
    {"bundle", &Arguments::bundle, nullptr}, {"socket", &Arguments::socket, nullptr},
    {"root", &Arguments::root, nullptr}, {"config", &Arguments::config, nullptr},
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
  return a;
}

ResultX<void> check_names(const Arguments& a) {
  if (!plain(a.space)) return base::error(base::kEINVAL, "-namespace '{}' is no name of a namespace", a.space);
  if (!plain(a.id)) return base::error(base::kEINVAL, "-id '{}' is no id of a container", a.id);
  return {};
}

void add_bootstrap(Arguments& a, const std::string& words) {
  proto::BootstrapParams b;
  // Options have a type and a value in the place of the first two, and nothing else.
  if (b.ParseFromString(words) && !b.containerd_version().empty()) {
    if (a.id.empty()) a.id = b.instance_id();
    if (a.space.empty()) a.space = b.namespace_();
    if (a.address.empty()) a.address = b.containerd_grpc_address();
    if (a.publish_binary.empty()) a.publish_binary = b.containerd_binary();
    a.protocol = 3;
  }
  // Versions 2.0 to 2.2 take the third version too, but have no word for it.
  const char* most = ::getenv("MAX_SHIM_VERSION");
  const char* asked = ::getenv("CAISSON_SHIM_VERSION");
  if ((most && atoi(most) >= 3) || (asked && atoi(asked) == 3)) a.protocol = 3;
}

std::string options_path(const std::string& words) {
  proto::Any options;
  return options.ParseFromString(words) ? task::config_path_of(options) : "";
}

std::string choose_root(const runtime::config::Config& c) {
  const char* top = ::getenv("CAISSON_SHIM_ROOT");
  if (top && top[0] == '/') return top;
  return c.shim_root.empty() ? "/run/containerd/caisson" : c.shim_root;
}

std::string state_root(const Arguments& a) { return a.root + "/" + a.space; }

std::string group_of_annotations(const std::map<std::string, std::string>& annotations, const std::string& id) {
  for (const char* key : {"io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"}) {
    auto it = annotations.find(key);
    if (it != annotations.end() && plain(it->second)) return it->second;
  }
  return id;
}

std::string group_of(const std::string& config_json, const std::string& id) {
  auto j = nlohmann::json::parse(config_json, nullptr, false);
  if (!j.is_object() || !j.contains("annotations") || !j["annotations"].is_object()) return id;
  std::map<std::string, std::string> annotations;
  for (auto& [key, value] : j["annotations"].items()) {
    if (value.is_string()) annotations[key] = value.get<std::string>();
  }
  return group_of_annotations(annotations, id);
}

std::string address_of(const Arguments& a, const std::string& group) {
  return base::format("unix://{}/{}", kSockets, sha256_hex(base::format("{}/{}/{}", a.address, a.space, group)));
}

std::string socket_path(const std::string& address) {
  constexpr std::string_view kScheme = "unix://";
  return address.rfind(kScheme, 0) == 0 ? address.substr(kScheme.size()) : "";
}

namespace {

// The containers of a pod whose shim was one process for them all, and is gone: containerd may ask for the pod alone.
void clean_group(const runtime::container::Root& root, const std::string& group) {
  namespace rc = runtime::container;
  for (auto& id : root.ids()) {
    auto d = rc::Directory::open(root, id);
    if (!d.ok()) continue;
    auto s = d->load();
    if (!s.ok() || id == group || group_of_annotations(s->annotations, id) != group) continue;
    auto gone = rc::delete_container(root, id, true);
    if (!gone.ok()) LOG(warn, "{}: {}", id, gone.error().text());
    task::unmount_root(s->bundle);
  }
}

}  // namespace

// Whether the other side closes the connection within that time.
bool hangs_up(int fd, int ms) {
  pollfd p{fd, POLLRDHUP, 0};
  return ::poll(&p, 1, ms) == 1;
}

ResultX<void> clean_up(const Arguments& given) {
  namespace rc = runtime::container;
  Arguments a = given;
  auto noted = runtime::host::read_file((a.bundle.empty() ? "." : a.bundle) + "/" + kRootFile, 4096);
  if (noted.ok() && !noted->empty() && noted->front() == '/') {
    a.root = *noted;
  } else {
    auto config = runtime::config::load_config("");
    a.root = choose_root(config.ok() ? *config : runtime::config::Config());
  }
  auto root = TRY(rc::Root::open(state_root(a)));
  std::string path = socket_path(address_of(a, a.id));
  auto there = rpc::connect_unix(path);
  // A shim that is being killed closes its connections before the socket where it listens; one that lives keeps this one open.
  const bool killed = there.ok() ? hangs_up(there->get(), kLastMomentsMs) : there.error().code() == base::kECONNREFUSED;
  if (!there.ok() || killed) clean_group(root, a.id);
  if (killed) remove_socket(a.root, path);  // nobody else does
  std::string directory = path.substr(0, path.rfind('/'));
  if (auto lock = lock_sockets(directory); lock.ok()) sweep_sockets(a.root, directory);
  TRY(rc::delete_container(root, a.id, true));
  if (!a.bundle.empty()) task::unmount_root(a.bundle);
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
