// SPDX-License-Identifier: Apache-2.0
// Annotations, and namespaces by the identity of their files.
#include "runtime/container/pod.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <optional>

#include "base/sys.h"
#include "runtime/container/create.h"

namespace runtime::container {

using base::ResultX;
namespace sys = base::sys;

namespace {

struct Keys {
  const char *type, *sandbox;
};
constexpr Keys kEngines[] = {{"io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"},
                             {"io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"}};

struct Identity {
  dev_t dev;
  ino_t ino;
  friend bool operator==(const Identity& a, const Identity& b) { return a.dev == b.dev && a.ino == b.ino; }
};

std::optional<Identity> identity(const std::string& path) {
  struct stat st;
  if (path.empty() || ::stat(path.c_str(), &st) != 0) return std::nullopt;
  return Identity{st.st_dev, st.st_ino};
}

// Of a process that is known by its start time: looked at before and after.
std::optional<Identity> namespace_of(const host::ProcessName& p, const std::string& file) {
  auto found = identity(base::format("/proc/{}/ns/{}", p.pid, file));
  return host::alive(p) ? found : std::nullopt;
}

// The file of /proc/PID/ns for a type of the spec.
std::string file_of(const std::string& type) { return type == "network" ? "net" : type; }

struct Finder {
  const Root& root;
  const Place& place;
  const Pod& pod;
  const oci::Spec& sandbox_spec;
  const oci::Spec& spec;

  // The container of the pod whose namespace this path names. No path and no such namespace in the spec is the host's, which for a pod is
  // the sandbox's if that has none of its own either. Empty: a new one.
  ResultX<std::string> owner(const std::string& type) const {
    const oci::Namespace* own = spec.find_namespace(type);
    const oci::Namespace* sandboxes = sandbox_spec.find_namespace(type);
    if (!own) return sandboxes ? std::string() : place.sandbox;
    if (own->path.empty()) return std::string();
    auto wanted = identity(own->path);
    if (!wanted) return base::wrap(sys::from_libc(-1).error(), base::format("{} namespace {}", type, own->path));
    if (sandboxes && identity(sandboxes->path) == wanted) return place.sandbox;
    if (namespace_of(pod.sandbox.told(), file_of(type)) == wanted) return place.sandbox;
    for (auto& id : root.ids()) {
      auto d = Directory::open(root, id);
      if (!d.ok()) continue;
      auto s = d->load();
      if (s.ok() && s->sandbox == place.sandbox && namespace_of(s->told(), file_of(type)) == wanted) return id;
    }
    return base::error(base::kEINVAL, "linux.namespaces joins {} as its {} namespace, which belongs to no container of the pod "
                       "of '{}'", own->path, type, place.sandbox);
  }
};

}  // namespace

ResultX<Place> find_place(const std::string& id, const std::map<std::string, std::string>& annotations) {
  auto value = [&](const char* key) {
    auto it = annotations.find(key);
    return it == annotations.end() ? std::string() : it->second;
  };
  for (auto& keys : kEngines) {
    std::string type = value(keys.type);
    if (type.empty()) continue;
    if (type == "sandbox") return Place{Role::sandbox, ""};
    if (type != "container") {
      return base::error(base::kEINVAL, "annotation {} is '{}': must be sandbox or container", keys.type, type.substr(0, 80));
    }
    std::string sandbox = value(keys.sandbox);
    if (sandbox.empty()) {
      return base::error(base::kEINVAL, "annotation {} is container, but {} does not say of which pod", keys.type, keys.sandbox);
    }
    TRY_MSG(check_id(sandbox), "annotation {}", keys.sandbox);
    if (sandbox == id) {
      return base::error(base::kEINVAL, "annotation {} of container '{}' names itself, but {} is not sandbox", keys.sandbox, id, keys.type);
    }
    return Place{Role::member, sandbox};
  }
  return Place{};
}

ResultX<bool> may_have_members(const std::string& id, const std::map<std::string, std::string>& annotations) {
  Place place = TRY(find_place(id, annotations));
  // podman says of a pod's members alone that they are some.
  auto manager = annotations.find("io.container.manager");
  bool podmans = manager != annotations.end() && manager->second == "libpod";
  return place.role == Role::sandbox || (podmans && place.role == Role::alone);
}

ResultX<Pod> find_pod(const Root& root, const Place& place, const oci::Spec& spec) {
  Directory d = TRY_MSG(Directory::open(root, place.sandbox), "the sandbox container of the pod");
  Pod pod;
  pod.sandbox = TRY_MSG(d.load(), "the sandbox container of the pod");
  if (!may_have_members(pod.sandbox.id, pod.sandbox.annotations).value_or(false)) {
    return base::error(base::kEINVAL, "container '{}' is no sandbox of a pod: its annotations do not say so", place.sandbox);
  }
  auto& sentry = pod.sandbox.sentry;
  auto pidfd = sys::pidfd_open(sentry.pid);
  if (pod.sandbox.phase == Phase::creating || !pidfd.ok() || !host::alive(sentry)) {
    return base::error(base::kESRCH, "the sandbox container '{}' of the pod does not run", place.sandbox);
  }
  pod.sentry = std::move(pidfd).value();
  oci::Spec sandbox_spec = TRY(load_saved_spec(d));
  Finder f{root, place, pod, sandbox_spec, spec};
  pod.joins.pid = TRY(f.owner("pid"));
  pod.joins.ipc = TRY(f.owner("ipc"));
  pod.joins.uts = TRY(f.owner("uts"));
  const oci::Namespace* network = spec.find_namespace("network");
  if (network && TRY(f.owner("network")).empty()) {
    return base::error(base::kEOPNOTSUPP, "linux.namespaces asks for a network namespace of the container's own: containers of a pod "
                       "share the sandbox's, name it by its path");
  }
  return pod;
}

ResultX<void> enter_user_namespace_of(const Pod& pod) {
  std::string path = base::format("/proc/{}/ns/user", pod.sandbox.gofer.pid);
  base::Fd ns = TRY_MSG(sys::open(path.c_str(), O_RDONLY), "open {}", path);
  if (!host::alive(pod.sandbox.gofer)) return base::error(base::kESRCH, "the gofer of '{}' has ended", pod.sandbox.id);
  TRY_MSG(sys::raw(SYS_setns, ns.get(), CLONE_NEWUSER), "join the user namespace of '{}'", pod.sandbox.id);
  return {};
}

}  // namespace runtime::container
