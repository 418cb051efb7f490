// SPDX-License-Identifier: Apache-2.0
// libFuzzer: caisson-cri's policy file, and requests under a policy. The first byte chooses: even ('P'), the rest is a policy; odd,
// the rest is a request to run a pod ('A') or to create a container ('C'). A table read from a file is of bounded depth; a request
// that was read and written again reads the same; one that asks for privilege, or for a path that no policy names, never comes out
// allowed in a sandbox.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/toml/document.h"
#include "cri/names.h"
#include "cri/policy.h"
#include "cri/proto/cri.pb.h"

namespace {

namespace msg = ::caisson::cri;

const cri::Policy& policy() {
  static const cri::Policy p = [] {
    auto r = cri::Policy::parse(
        "[[rule]]\nname = \"a\"\nnamespaces = [\"t*\"]\nlabels = { a = \"*b*c\" }\nhandler = \"caisson\"\n"
        "[[rule]]\nname = \"b\"\nimages = [\"*x*y\"]\nhandler = \"caisson\"\n", "fuzz");
    CHECK(r.ok());
    return std::move(r).value();
  }();
  return p;
}

size_t depth_of(const toml::node& n) {
  size_t most = 0;
  if (auto* t = n.as_table()) {
    for (auto& [key, value] : *t) most = std::max(most, depth_of(value) + 1);
  } else if (auto* a = n.as_array()) {
    for (auto& value : *a) most = std::max(most, depth_of(value) + 1);
  }
  return most;
}

void file(const std::string& in) {
  auto t = base::parse_toml(in, "fuzz", in.size());
  CHECK(t.ok() || t.error().text().starts_with("fuzz:"));
  // A name of a table, a key, and a key in each of the values in values.
  if (t.ok()) CHECK(depth_of(*t) <= base::kMaxTomlKeyParts * (TOML_MAX_NESTED_VALUES + 2) + TOML_MAX_NESTED_VALUES);
  auto p = cri::Policy::parse(in, "fuzz");
  CHECK(t.ok() || !p.ok());
  CHECK(p.ok() || p.error().text().starts_with("fuzz:"));
  if (!p.ok()) return;
  cri::PodFacts f;
  f.space = f.name = "a";
  f.privileged = f.host_network = true;
  auto d = p->decide_pod(f);
  CHECK(d.refused.empty() == d.text.empty());
  cri::ContainerFacts c;
  c.images = {"a"};
  c.host_paths = {"/"};
  d = p->decide_container(f, c);
  CHECK(d.refused.empty() == d.text.empty());
}

void pod(const std::string& in) {
  msg::RunPodSandboxRequest r, again;
  if (!r.ParseFromString(in)) return;
  std::string out = r.SerializeAsString();
  CHECK(again.ParseFromString(out) && again.SerializeAsString() == out);
  cri::PodFacts f;
  f.space = r.config().metadata().namespace_();
  f.handler = r.runtime_handler();
  for (auto& l : r.config().labels()) f.labels.emplace_back(l.key(), l.value());
  f.privileged = r.config().linux().security_context().privileged();
  auto d = policy().decide_pod(f);
  CHECK(!(d.sandboxed && f.privileged && d.refused.empty()));
  CHECK(d.refused.empty() == d.text.empty());
}

void container(const std::string& in) {
  msg::CreateContainerRequest r;
  if (!r.ParseFromString(in)) return;
  cri::PodFacts f;
  f.handler = "caisson";
  f.uid = r.pod_sandbox_id();
  cri::ContainerFacts c;
  c.images.push_back(r.config().image().image());
  for (auto& m : r.config().mounts()) c.host_paths.push_back(m.host_path());
  auto d = policy().decide_container(f, c);
  for (auto& p : c.host_paths) {
    bool own = p.starts_with("/var/lib/kubelet/pods/" + f.uid) && (p + "/").find("/../") == p.npos;
    CHECK(own || !d.refused.empty());
  }
  CHECK(cri::printable(in).find('\n') == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string in(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    file(in);
  } else if (data[0] % 4 == 1) {
    pod(in);
  } else {
    container(in);
  }
  return 0;
}
